"""Which code runs: the commit, and what differs from it; of a clone, or of the copy that a sweep's jobs import."""

from __future__ import annotations

import subprocess
from pathlib import Path

PACKAGE = Path(__file__).parents[1]


def code_state() -> tuple[str, str]:
    """(commit with date and subject, diff against it); both empty for an installed package outside a clone."""
    frozen = sorted(PACKAGE.parent.glob("*.commit"))  # as launching.code_state lays them beside the copy
    if frozen:
        texts = [
            (path.read_text(encoding="utf-8").strip(), path.with_suffix(".diff").read_text(encoding="utf-8"))
            for path in frozen
        ]
        return "; ".join(commit for commit, _ in texts), "".join(diff for _, diff in texts)
    return _git("log", "-1", "--format=%H %cI %s").strip(), _git("diff", "--binary", "HEAD", "--", str(PACKAGE))


def _git(*arguments: str) -> str:
    """What git prints; empty where there is no git, or the package is no part of what it knows."""
    known = ["git", "-C", str(PACKAGE), "ls-files", "--error-unmatch", __file__]
    try:
        if subprocess.run(known, capture_output=True, check=False).returncode != 0:
            return ""
        done = subprocess.run(
            ["git", "-C", str(PACKAGE), *arguments],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
    except FileNotFoundError:
        return ""
    return done.stdout
