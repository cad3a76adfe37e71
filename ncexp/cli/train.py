"""`ncexp [train] [-m] [OVERRIDE...]`: train what the overrides describe, or with -m every combination of them."""

from __future__ import annotations

from ncexp.cli.hydra_task import compose_and_work
from ncexp.record import exit_code


def main(arguments: list[str]) -> int:
    """Train; returns 0 only where every run is completed, else the worst run's code."""
    return exit_code(compose_and_work("config", arguments))
