"""The command `ncexp`, as `python -m ncexp` and as the installed script."""

from __future__ import annotations

import sys

from ncexp.cli import main

if __name__ == "__main__":
    sys.exit(main())
