"""Which code runs: the commit, and what differs from it; of a clone, or of the copy that a sweep's jobs import."""

from __future__ import annotations

import subprocess
from pathlib import Path

PACKAGE = Path(__file__).parents[1]


def code_state() -> tuple[str, str]:
    """(commit with date and subject, diff against it); both empty for an installed package outside a clone."""
    frozen = sorted(PACKAGE.parent.glob("*.commit"))  # as launching.sweep_directory lays them beside the copy
    if frozen:
        texts = [
            (path.read_text(encoding="utf-8").strip(), path.with_suffix(".diff").read_text(encoding="utf-8"))
            for path in frozen
        ]
        return "; ".join(commit for commit, _ in texts), "".join(diff for _, diff in texts)
    if not git(PACKAGE, "ls-files", "--error-unmatch", __file__):  # the package is no part of what git knows
        return "", ""
    commit = git(PACKAGE, "log", "-1", "--format=%H %cI %s").strip()
    return commit, git(PACKAGE, "diff", "--binary", "HEAD", "--", str(PACKAGE))


def git(folder: Path, *arguments: str) -> str:
    """What git prints in a folder; empty where there is no git, or it fails."""
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", check=False)
    except FileNotFoundError:
        return ""
    return done.stdout if done.returncode == 0 else ""
