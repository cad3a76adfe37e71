"""Commands of the documents, run as a reader would."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable
from pathlib import Path

import warm


def run_commands(commands: Iterable[str], folder: Path) -> None:
    """Each in bash in `folder`, whose modules it can import; the first that fails is shown with what it printed."""
    if not (programs := folder.parent / f"{folder.name}_commands").exists():
        warm.commands(programs)
    environment = {**os.environ, "PYTHONPATH": str(folder), "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
    for command in commands:
        done = subprocess.run(
            ["bash", "-c", command], cwd=folder, capture_output=True, text=True, check=False, env=environment
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
