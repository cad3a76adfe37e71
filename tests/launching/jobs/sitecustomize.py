"""A SLURM job of the tests imports the libraries at its start, and forks what it starts: see helpers/warm.py.

Python imports this file by its name, where PYTHONPATH has its folder.
"""

from __future__ import annotations

import sys
from pathlib import Path

if "submitit.core._submit" in sys.orig_argv:
    sys.path.append(str(Path(__file__).parents[2] / "helpers"))
    import warm

    warm.fork_from_here()
