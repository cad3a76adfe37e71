"""`ncexp prepare`: download, check and decode a dataset where there is a network; runs never download."""

from __future__ import annotations

import argparse

from ncexp.config import Component
from ncexp.config.composing import compose_mapping
from ncexp.record.text import say


def main(arguments: list[str]) -> int:
    """Prepare what is chosen and print what there is; returns 0. Raises ValueError where it cannot be had."""
    parser = argparse.ArgumentParser(
        prog="ncexp prepare",
        description="Download, check and decode a dataset, so that runs find it: once, where there is a network.",
        epilog="Example: ncexp prepare dataset=cifar10 dataset.root=/scratch/data",
    )
    parser.add_argument("overrides", nargs="+", metavar="dataset=NAME", help="the dataset, and its options by path")
    overrides = parser.parse_args(arguments).overrides
    chosen = compose_mapping("config", overrides)["dataset"]
    from ncexp.datasets import prepare  # torch takes two seconds: not for --help

    for name, value in prepare(Component.check("dataset", chosen)).items():
        say(f"{name:<24} {value}")
    return 0
