"""`ncexp report`: which learning rate won, how the losses differ, which runs diverged, and the paper's figures."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from pathlib import Path

from ncexp.report.sweep import Sweep, gather
from ncexp.report.tables import Table, gains, learning_rates, results, troubles
from ncexp.run_record import find_runs, read_run

HELP = """\
Report on the runs in DIR (default: outputs; a sweep's folder will do), or on those that an MLflow store has, which
gives the same. In every cell (dataset, network, loss) the learning rate with the lowest test error at the LAST epoch is
kept, as the paper does; a rate counts once all its runs completed.

Writes report.html (one file, nothing else needed), every table as .md, .csv and .tex, every figure as .pdf and .png.
"""


def main(arguments: list[str]) -> int:
    """Write the report; answers 0, or 2 where there is nothing to report on."""
    chosen = _parser().parse_args(arguments)
    try:
        where = dict(_pair(text) for text in chosen.where)
        if chosen.uri is None:
            sweep = gather(map(read_run, find_runs(chosen.directories or [Path("outputs")])), where)
        else:
            if chosen.directories:
                raise ValueError(f"--uri: expected no DIR beside it, got {chosen.directories[0]}. Leave one out.")
            sweep = _from_mlflow(chosen.uri, chosen.experiment, where)
    except ValueError as error:
        print(f"ncexp report: {error}", file=sys.stderr)
        return 2
    page = write_report(sweep, chosen.to)
    print(results(sweep).markdown())
    print(f"{page}, with the tables and figures beside it")
    return 0


def write_report(sweep: Sweep, folder: Path) -> Path:
    """All of it into `folder`; answers the page."""
    from ncexp.report.grids import draw_all  # matplotlib takes a second to import
    from ncexp.report.page import write_page

    folder.mkdir(parents=True, exist_ok=True)
    tables = [results(sweep), gains(sweep), learning_rates(sweep), troubles(sweep)]
    for table in tables:
        _write(table, folder)
    figures = draw_all(sweep, folder)
    write_page(folder / "report.html", "Neural collapse: what the sweep came to", _lead(sweep), tables, figures)
    return folder / "report.html"


def _from_mlflow(uri: str, experiments: list[str], where: dict[str, str]) -> Sweep:
    from ncexp.tracking.download import download_records
    from ncexp.tracking.store import answers

    if uri.startswith("http") and not answers(uri):
        raise ValueError(f"--uri: expected a server that answers, got none at {uri}. Start it, or name folders.")
    with tempfile.TemporaryDirectory() as folder:
        download_records(uri, experiments, Path(folder))
        return gather(map(read_run, find_runs([Path(folder)])), where)


def _lead(sweep: Sweep) -> str:
    states = Counter(run.state for run in sweep.runs)
    told = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
    return (
        f"{len(sweep.runs)} runs in {len(sweep.cells)} cells: {told}. Of every cell the rate with the best last epoch."
    )


def _write(table: Table, folder: Path) -> None:
    for suffix, text in ((".md", table.markdown()), (".csv", table.csv()), (".tex", table.latex())):
        (folder / f"{table.name}{suffix}").write_text(text)


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"--where: expected NAME=VALUE, got {text!r}. As in --where epochs=350.")
    return name, value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ncexp report", description=HELP, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("directories", metavar="DIR", nargs="*", type=Path)
    parser.add_argument("--uri", help="read from this MLflow store instead of folders")
    parser.add_argument(
        "--experiment", action="append", default=[], help="only this MLflow experiment; may be repeated"
    )
    parser.add_argument(
        "--where", metavar="NAME=VALUE", action="append", default=[], help="only runs of this parameter"
    )
    parser.add_argument("--to", type=Path, default=Path("report"), help="folder for the report (default: report)")
    return parser
