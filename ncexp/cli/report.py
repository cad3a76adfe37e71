"""`ncexp report`: which learning rate won, how the losses differ, which runs diverged, and the paper's figures."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from ncexp.record import Runs, State, read_all
from ncexp.record.text import say

HELP = """\
Report on the runs in DIR (default: outputs; a sweep's folder will do), or on
those that an MLflow store has, which gives the same. In every cell (dataset,
network, loss) the learning rate with the lowest test error at the LAST epoch
is kept, as the paper does; a rate counts once all its runs completed.

Writes report.html (one file, nothing else needed), every table as .md, .csv
and .tex, every figure as .pdf and .png.
"""


def main(arguments: list[str]) -> int:
    """Write the report; returns 0, 1 where a run is left out that cannot be read, 2 where nothing is to be reported."""
    given = _parser().parse_args(arguments)
    from ncexp.report.page import write_report
    from ncexp.report.sweep import gather
    from ncexp.report.tables import results

    try:
        where = dict(map(_pair, given.where))
        if given.uri is None:
            runs = read_all(given.directories or "outputs", where)
        elif given.directories:
            raise ValueError(f"--uri: expected no DIR beside it, got {given.directories[0]}. Leave one out.")
        else:
            runs = _from_mlflow(given.uri, given.experiment, where)
        for fault in runs.faults:
            say(f"ncexp report: left out: {fault}", sys.stderr)
        sweep = gather(runs)
    except (ValueError, ConnectionError, RuntimeError) as error:  # of a store that cannot be reached or used, too
        say(f"ncexp report: {error}", sys.stderr)
        return 2
    try:
        page = write_report(sweep, given.to, given.width)
    except ValueError as error:
        if given.width is None:
            raise
        say(f"ncexp report: --{error}", sys.stderr)
        return 2
    except OSError as error:
        say(f"ncexp report: --to: expected a folder that takes files, got {error}. Name another.", sys.stderr)
        return 2
    say(results(sweep).markdown())
    say(f"{page}, with the tables and figures beside it")
    return State.DAMAGED.exit_code if runs.faults else 0


def _from_mlflow(uri: str, experiments: list[str], where: dict[str, str]) -> Runs:
    from ncexp.tracking.download import download_records, without_folder

    with tempfile.TemporaryDirectory() as folder:
        faults = download_records(uri, experiments, Path(folder))
        runs = read_all(folder, where) if any(Path(folder).iterdir()) else Runs([])
        return Runs(runs, [*faults, *(f"run {without_folder(fault, Path(folder))}" for fault in runs.faults)])


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"--where: expected NAME=VALUE, got {text!r}. As in --where epochs=350.")
    return name, value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ncexp report", description=HELP, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("directories", metavar="DIR", nargs="*")
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
