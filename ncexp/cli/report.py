"""`ncexp report`: which learning rate won, how the losses differ, which runs diverged, and the paper's figures."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from ncexp.cli.words import command_parser, name_faults, pair
from ncexp.record import Runs, named_folders, read_all
from ncexp.record.console import literal_console
from ncexp.record.text import say

HELP = """\
Report on RUNs (folders, sweeps, names, keys, globs; default: all in outputs) or
on those that an MLflow store has, which gives the same. In every cell (dataset,
network, loss) the learning rate with the lowest test error at the LAST epoch
is kept, as the paper does; a rate counts once all its runs completed. Before
that the one that leads so far is shown. Runs that differ in more than learning
rate, seed and loss are groups of their own.

Writes report.html (one file, nothing else needed), every table as .md, .csv
and .tex, every figure as .pdf and .png.
"""


def main(arguments: list[str]) -> int:
    """Write the report; returns 0, or 1 where a run is left out that cannot be read.

    Raises ValueError where nothing is to be reported, or nowhere to.
    """
    given = _parser().parse_args(arguments)
    from ncexp.report.page import write_report
    from ncexp.report.sweep import describe_settings, gather
    from ncexp.report.tables import results, settings
    from ncexp.report.verdict import outcome, print_verdict

    where = dict(map(pair, given.where))
    if given.uri is None:
        runs = read_all(named_folders(given.runs, given.outputs) or given.outputs, where)
    elif given.runs:
        raise ValueError(f"--uri: expected no RUN beside it, got {given.runs[0]}. Leave one out.")
    else:
        runs = _from_mlflow(given.uri, given.experiment, where)
    code = name_faults(runs.faults)
    sweep = gather(runs)
    try:
        page = write_report(sweep, given.to, given.width)
    except OSError as error:
        raise ValueError(f"--to: expected a folder that takes files, got {error}. Name another.") from error
    if sweep.settings:
        say(describe_settings(sweep))
        say(settings(sweep).markdown())
    say(results(sweep).markdown())
    say(f"{page}, with the tables and figures beside it")
    print_verdict(literal_console(), outcome(sweep.runs))
    return code


def _from_mlflow(uri: str, experiments: list[str], where: dict[str, str]) -> Runs:
    from ncexp.tracking.download import download_records, without_folder

    with tempfile.TemporaryDirectory() as folder:
        try:
            faults = download_records(uri, experiments, Path(folder))
        except (ConnectionError, RuntimeError) as error:  # of a store that cannot be reached or used
            raise ValueError(str(error)) from error
        runs = read_all(folder, where) if any(Path(folder).iterdir()) else Runs([])
        return Runs(runs, [*faults, *(f"run {without_folder(fault, Path(folder))}" for fault in runs.faults)])


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("report", HELP, runs="*")
    parser.add_argument("--uri", help="read from this MLflow store instead of folders")
    parser.add_argument(
        "--experiment", action="append", default=[], help="only this MLflow experiment; may be repeated"
    )
    parser.add_argument(
        "--where", metavar="NAME=VALUE", action="append", default=[], help="only runs of this parameter"
    )
    parser.add_argument(
        "--width",
        type=float,
        metavar="INCHES",
        help="of each figure: 3.3 for a column of a paper (default: as it needs)",
    )
    parser.add_argument("--to", type=Path, default=Path("report"), help="folder for the report (default: report)")
    return parser
