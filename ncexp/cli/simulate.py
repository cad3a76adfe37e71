"""`ncexp simulate`: a flow of the theory → journal → figure, MLflow; `ncexp prepare`: data, where there is a network.

Nothing is trained, and runs never download.
"""

from __future__ import annotations

import argparse
import traceback
from collections.abc import Iterable, Mapping
from typing import Any

import yaml
from rich.console import Console

from ncexp.config import ConfigError, SimulationConfig, check_outputs, check_simulation
from ncexp.config.augment import apart
from ncexp.config.composing import compose_mapping
from ncexp.record import Record, RunDirectory, State, read_run, write_json, write_text
from ncexp.record.console import literal_console
from ncexp.record.measurements import begin
from ncexp.record.rows import count_rows
from ncexp.record.text import say
from ncexp.tracking import check_uri, follow


def main(arguments: list[str]) -> int:
    """Simulate, or show what is there; returns the exit code of the state that it ends in."""
    parser = argparse.ArgumentParser(
        prog="ncexp simulate",
        description="Compute a flow of the theory from random features, the central path unless another one is chosen "
        "(ncexp list simulation), beside its closed form, and record it in outputs/simulations. Nothing is trained.",
        epilog="Examples: ncexp simulate simulation.num_classes=4 seed=3; ncexp simulate simulation=on_path",
    )
    parser.add_argument("overrides", nargs="*", metavar="NAME=VALUE", help="of conf/simulate.yaml, by path")
    return simulate(compose_mapping("simulate", parser.parse_args(arguments).overrides), literal_console()).exit_code


def prepare(arguments: list[str]) -> int:
    """Prepare what is chosen and print what there is; returns 0. Raises ValueError where it cannot be had."""
    parser = argparse.ArgumentParser(
        prog="ncexp prepare",
        description="Download, check and decode a dataset, so that runs find it: once, where there is a network.",
        epilog="Example: ncexp prepare dataset=cifar10 dataset.root=/scratch/data",
    )
    parser.add_argument("overrides", nargs="+", metavar="dataset=NAME", help="the dataset, and its options by path")
    chosen = compose_mapping("config", parser.parse_args(arguments).overrides)["dataset"]
    from ncexp import datasets  # torch takes two seconds: not for --help

    for name, value in datasets.prepare(apart(chosen)).items():
        say(f"{name:<24} {value}")
    return 0


def simulate(raw: Mapping[str, Any], console: Console) -> State:
    """Compute, or show, the simulation that a composed configuration describes; returns its state.

    Raises ConfigError before anything is written, Busy where another process computes it. Any other exception goes with
    its traceback to the log in its directory, it is marked failed, and the exception is raised.
    """
    from ncexp.report import report_simulation  # torch takes seconds: not for --help

    config = check_simulation(raw)
    check_uri(config.tracking["uri"])
    check_outputs(config.outputs)
    directory = RunDirectory(config.directory)
    console.print(f"run       {directory.path}", soft_wrap=True, markup=False)
    with follow(config.raw, [directory.path], console):
        if (
            directory.state() is not State.COMPLETED
            or config.rerun == "all"
            or read_run(directory.path).state.exit_code
        ):
            try:
                records: Iterable[Record] = config.simulation.build(seed=config.seed)
            except ValueError as error:
                raise ConfigError(str(error)) from error
            with directory.locked():
                _compute(config, directory, records)
        report_simulation(directory, console)
    return State.COMPLETED


def _compute(config: SimulationConfig, directory: RunDirectory, records: Iterable[Record]) -> None:
    if directory.state() is not None:
        directory.clear()
    directory.identity()
    write_text(directory.config, yaml.safe_dump(config.raw, sort_keys=False, allow_unicode=True))
    write_json(directory.facts, _facts(config))
    directory.set_status(State.RUNNING)
    try:
        journal = begin(directory.measurements, "simulation", config.simulation)
        computed = [*records]
        journal.write(computed)
        for record in computed:
            directory.clock.note(int(record["epoch"]))
    except BaseException as error:
        directory.log.write_text(traceback.format_exc(), encoding="utf-8")
        directory.set_status(State.FAILED, message=f"{type(error).__name__}: {error}")
        raise
    directory.set_status(State.COMPLETED, record=count_rows(directory))


def _facts(config: SimulationConfig) -> dict[str, Any]:
    """The sizes that a training's facts have, as far as the simulation has them among its options."""
    options = config.simulation.options
    facts: dict[str, Any] = {name: options[name] for name in ("num_classes", "num_features") if name in options}
    if "num_classes" in options and "examples_per_class" in options:
        facts["num_train"] = options["num_classes"] * options["examples_per_class"]
    return facts
