"""One simulation, as a walk: configuration → flow → journal → figure."""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Mapping
from typing import Any

import yaml
from rich.console import Console

from ncexp.config import ConfigError
from ncexp.files import write_atomically
from ncexp.journal import Record
from ncexp.run_directory import RunDirectory
from ncexp.simulations.configuration import SimulationConfig, check_simulation


def simulate(raw: Mapping[str, Any], console: Console) -> str:
    """Compute, or show, the simulation that a composed configuration describes; answers its final state.

    Raises ConfigError before anything is written, Busy where another process computes it. Any other exception goes with
    its traceback to the log in its directory, it is marked failed, and the exception is raised.
    """
    config = check_simulation(raw)
    directory = RunDirectory(config.directory)
    if directory.state() != "completed" or config.rerun == "all":
        try:
            records: Iterable[Record] = config.simulation.build(seed=config.seed)
        except ValueError as error:
            raise ConfigError(str(error)) from error
        with directory.locked():
            _compute(config, directory, records)
    console.print(f"run       {directory.path}", soft_wrap=True)
    _report(config, directory, console)
    return str(directory.state())


def _compute(config: SimulationConfig, directory: RunDirectory, records: Iterable[Record]) -> None:
    directory.clear()
    text = yaml.safe_dump(config.raw, sort_keys=False, allow_unicode=True)
    write_atomically(directory.config, lambda file: file.write(text.encode()))
    directory.set_status("running")
    try:
        for record in records:
            directory.journal.append(record)
    except BaseException as error:
        directory.log.write_text(traceback.format_exc())
        directory.set_status("failed", message=f"{type(error).__name__}: {error}")
        raise
    directory.set_status("completed")


def _report(config: SimulationConfig, directory: RunDirectory, console: Console) -> None:
    records = directory.journal.read()
    worst = max(record["theory/residual"] for record in records)
    console.print(
        f"{len(records)} times up to t = {records[-1]['path/time']:g}; simulation and closed form differ by at most "
        f"{worst:.1e} in log ω; NC1 falls from {records[0]['train/nc1_trace']:.3g} "
        f"to {records[-1]['train/nc1_trace']:.3g}",
        soft_wrap=True,
    )
    from ncexp.figures import draw_simulation  # matplotlib takes a second to import

    console.print(f"figure    {draw_simulation(records, directory.figures, config.name)}", soft_wrap=True)
