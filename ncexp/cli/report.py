"""`ncexp report`: what any sweep came to, along the keys in which its runs differ."""

from __future__ import annotations

import argparse
import dataclasses
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ncexp.cli.pictures import draw_missing
from ncexp.cli.words import add_outputs, command_parser, name_faults, pair
from ncexp.config import nearest
from ncexp.record import Runs, named_folders, read_all
from ncexp.record.console import literal_console
from ncexp.record.text import say

if TYPE_CHECKING:
    from ncexp.report.study import Asked

HELP = """\
Report on RUNs (folders, sweeps, names, keys, globs; default: all in outputs) or
on those that an MLflow store has, which gives the same. The keys in which the
runs differ are found; runs that differ in their seed alone repeat one another.

  by=KEY,...       axes; of the others the best combination is kept
  best=QUANTITY    what ranks: test/error (default), QUANTITY:max; none: pool
  x= y= color= facet=    what figures show; color, facet: keys; x: also epoch
  scatter=X,Y      a point a run, with the rank correlation
  preset=han2022   the paper's grid, with its tables and figures
  width=3.3        of each figure, in inches: a column of a paper
  style=FILE       a style sheet of matplotlib

  ncexp report by=optimizer.weight_decay,loss y=test/error,train/loss

Writes report.html (one file, nothing else needed), every table as .md, .csv
and .tex, every figure as figures/*.pdf and .png.
"""
#: Options that are words, NAME=VALUE; those that take several values.
WORDS = ("by", "x", "y", "color", "facet", "scatter", "best", "preset", "style", "width")
SEVERAL = ("by", "y", "facet", "scatter")
#: What a word must look like to be an option, and not the path of a RUN.
OPTION = re.compile(r"([a-z_]+)=(.*)", re.DOTALL)


def main(arguments: list[str]) -> int:
    """Write the report; returns 0, or 1 where a run is left out that cannot be read.

    Raises ValueError for options that are none, where nothing is to be reported, or nowhere to.
    """
    given = _parser().parse_intermixed_args(arguments)
    given.words += [f"width={given.width}"] if given.width else []
    from ncexp.report.study import study_of
    from ncexp.report.verdict import outcome, print_outcome, print_verdict

    words, named = _split(given.words)
    asked, how = _asked(words)
    where = dict(map(pair, given.where))
    if given.uri is None:
        runs = read_all(named_folders(named, given.outputs) or given.outputs, where)
    elif named:
        raise ValueError(f"--uri: expected no RUN beside it, got {named[0]}. Leave one out.")
    else:
        runs = _from_mlflow(given.uri, given.experiment, where)
    code = name_faults(runs.faults)
    study = study_of(runs, asked)
    if not how["preset"]:  # before files are written, which of thousands of runs takes most of a minute
        print_outcome(literal_console(), study)
    if given.uri is None and len(study.runs) == 1:  # whose page opens, with links to its figures
        faults: list[str] = []
        _ = [*draw_missing(study.runs, faults)]
        code = name_faults(faults) or code
    from ncexp.report.whole import write_report  # matplotlib and Plotly take seconds

    try:
        page, tables = write_report(study, given.to, **how)
    except OSError as error:
        raise ValueError(f"--to: expected a folder that takes files, got {error}. Name another.") from error
    if how["preset"]:
        say(tables[0].markdown())
        print_verdict(literal_console(), outcome(study))
    say(f"{page}, with the tables and figures beside it")
    return code


def _split(words: list[str]) -> tuple[dict[str, str], list[str]]:
    """The options, and the RUNs. Raises ValueError for an option that there is not, or twice."""
    options: dict[str, str] = {}
    named = []
    for word in words:
        found = OPTION.fullmatch(word)
        if found is None or (found[1] not in WORDS and Path(word).exists()):
            named.append(word)
            continue
        name, value = found.groups()
        if name not in WORDS:
            raise ValueError(f"{name}: expected an option, got {word}. {nearest(name, WORDS)}")
        if name in options:
            raise ValueError(f"{name}: expected it once, got {word} beside {name}={options[name]}. Leave one out.")
        options[name] = value
    return options, named


def _asked(words: dict[str, str]) -> tuple[Asked, dict[str, Any]]:
    """What is asked for, and how it is written. Raises ValueError for a value that no such option has."""
    from ncexp.report.study import PRESETS, Asked

    several = {name: tuple(filter(None, words[name].split(","))) for name in SEVERAL if name in words}
    if len(pair_ := several.get("scatter", ("", ""))) != 2:
        raise ValueError(f"scatter: expected two names, got {','.join(pair_)!r}. As in scatter=train/error,test/error.")
    if (preset := words.get("preset")) not in (None, *PRESETS):
        raise ValueError(f"preset: expected one of {', '.join(PRESETS)}, got {preset!r}.")
    if preset and (other := [name for name in words if name not in ("preset", "style", "width")]):
        raise ValueError(f"preset: expected it without other axes, got {other[0]}= beside it. Leave one out.")
    how = {"preset": preset, "style": words.get("style"), "width": _inches(words.get("width"))}
    fields = {field.name for field in dataclasses.fields(Asked)}
    chosen: dict[str, Any] = {name: several.get(name, value) for name, value in words.items() if name in fields}
    return Asked(**chosen), how


def _inches(text: str | None) -> float | None:
    try:
        width = None if text is None else float(text)
    except ValueError:
        width = float("nan")
    if width is not None and not 0 < width < float("inf"):
        raise ValueError(f"width: expected inches, got {text!r}. As in width=3.3, a column of a paper.")
    return width


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
    parser = command_parser("report", HELP)
    parser.add_argument("words", metavar="RUN | NAME=VALUE", nargs="*")
    add_outputs(parser)
    parser.add_argument("--uri", help="read from this MLflow store instead of folders")
    parser.add_argument(
        "--experiment", action="append", default=[], help="only this MLflow experiment; may be repeated"
    )
    parser.add_argument(
        "--where", metavar="NAME=VALUE", action="append", default=[], help="only runs of this parameter"
    )
    parser.add_argument("--width", help=argparse.SUPPRESS)  # as version 0.2 called width=
    parser.add_argument("--to", type=Path, default=Path("report"), help="folder for the report (default: report)")
    return parser
