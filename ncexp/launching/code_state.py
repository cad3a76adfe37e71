"""Code frozen at submission: jobs import a copy of the package; the commit, and what differed from it, is kept."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from ncexp.launching.sweep_directory import SweepDirectory
from ncexp.record.provenance import PACKAGE


def freeze_code(sweep: SweepDirectory) -> Path:
    """Copy the package's source into the sweep's folder, once per state of it; returns the folder to import from."""
    sources = sorted(PACKAGE.rglob("*.py"))
    digest = hashlib.sha256()
    for path in sources:
        digest.update(str(path.relative_to(PACKAGE)).encode() + path.read_bytes())
    copy = sweep.code / digest.hexdigest()[:10]
    if not copy.exists():
        for left in sweep.code.glob(".*"):  # of a command that was killed: this one holds the sweep's lock
            shutil.rmtree(left)
        unfinished = copy.with_name(f".{copy.name}.{os.getpid()}")
        for path in sources:
            target = unfinished / "ncexp" / path.relative_to(PACKAGE)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        for repository in _repositories():
            (unfinished / f"{repository.name}.commit").write_text(
                _git(repository, "log", "-1", "--format=%H %cI %s"), encoding="utf-8"
            )
            (unfinished / f"{repository.name}.diff").write_text(
                _git(repository, "diff", "--binary", "HEAD"), encoding="utf-8"
            )
        unfinished.rename(copy)
    return copy


def environment(code: Path) -> dict[str, str]:
    """The variables under which Python imports the frozen package first, and then what the submitter could import."""
    here = [os.getcwd()] if sys.path[0] in ("", os.getcwd()) else []
    inherited = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    places = [str(code), *here, *(place for place in inherited if place and Path(place).parent != code.parent)]
    return {
        "PYTHONPATH": os.pathsep.join(dict.fromkeys(places)),
        "PYTHONSAFEPATH": "1",  # or `python -m` would put the working folder, a clone perhaps, before the copy
    }


def _repositories() -> list[Path]:
    """The clones, if any, that the package and the working folder lie in."""
    found = {_git(folder, "rev-parse", "--show-toplevel").strip() for folder in (PACKAGE, Path.cwd())}
    return [Path(path) for path in sorted(found - {""})]


def _git(folder: Path, *arguments: str) -> str:
    """What git prints; empty where there is no git or no repository."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, encoding="utf-8", errors="replace", check=False
        )
    except FileNotFoundError:
        return ""
    return done.stdout if done.returncode == 0 else ""
