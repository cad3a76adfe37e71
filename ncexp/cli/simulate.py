"""`ncexp simulate [simulation=...] [OVERRIDE...]`: a flow of the theory, computed and recorded; nothing is trained."""

from __future__ import annotations

import argparse


def main(arguments: list[str]) -> int:
    """Simulate, or show what is there; returns the exit code of the state that it ends in."""
    parser = argparse.ArgumentParser(
        prog="ncexp simulate",
        description="Compute a flow of the theory from random features, the central path unless another one is chosen "
        "(ncexp list simulation), beside its closed form, and record it in outputs/simulations. Nothing is trained.",
        epilog="Examples: ncexp simulate simulation.num_classes=4 seed=3; ncexp simulate simulation=on_path",
    )
    parser.add_argument("overrides", nargs="*", metavar="NAME=VALUE", help="of conf/simulate.yaml, by path")
    overrides = parser.parse_args(arguments).overrides
    from ncexp.cli.simulation import simulate  # torch takes seconds: not for --help
    from ncexp.config.composing import compose_mapping
    from ncexp.record.console import literal_console

    return simulate(compose_mapping("simulate", overrides), literal_console()).exit_code
