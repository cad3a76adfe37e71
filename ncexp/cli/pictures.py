"""`ncexp pictures`: class means that become a simplex, cosines, spectra and depth, from the snapshots of runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ncexp.cli.words import command_parser, name_faults
from ncexp.record import RunDirectory, SavedRun, State, named_folders, read_all
from ncexp.record.text import say

HELP = """\
Draw pictures of RUNs (folders, sweeps, names, keys, globs) from the snapshots
that they kept, into figures/ of each. Nothing is trained or measured.

  --missing        instead, of each run (default: of all in outputs/) all
                   figures that it has not, or that are older than its numbers:
                   a sweep draws none of its runs. --sync sends them to MLflow
                   as well
  classes=0,1,2    three or more classes of the simplex, or all (default: 0,1,2)
  epochs=1,24,350  of simplex and cosines (default: four, first to last)

  simplex   class means, rows of the classifier and 2σ of the features, beside
            the exact simplex; simplex.gif: the same as an animation
  cosines   among class means, among rows of W, and between both
  spectra   of class means, W and Σ_W, against epoch
  depth     layers by epoch, where analysis=layers or depth was measured, of
            train features; depth_test: of test features

Single examples are drawn where analysis=portrait kept them. A command that
trains one run draws all but the animation; `ncexp report RUN` has them on its
page.
"""
WORDS = ("classes", "epochs")


def main(arguments: list[str]) -> int:
    """Draw all; returns 0, or 1 where a picture of a run cannot be drawn, or a run cannot be read.

    Raises ValueError for a RUN that there is not, and for epochs that are no numbers.
    """
    parser = command_parser("pictures", HELP, runs="*")
    parser.add_argument("--missing", action="store_true", help="what a run has not drawn, or of older numbers")
    parser.add_argument("--sync", action="store_true", help="send what MLflow lacks of each run that was drawn")
    parsed = parser.parse_args(arguments)
    options = dict(word.split("=", 1) for word in parsed.runs if word.partition("=")[0] in WORDS)
    named = [word for word in parsed.runs if word.partition("=")[0] not in WORDS]
    if not named and not parsed.missing:
        raise ValueError("RUN: expected the runs to draw, got none. `ncexp runs` lists them.")
    words = [word for word in options.get("epochs", "").split(",") if word]
    if parsed.missing and options:
        raise ValueError(
            f"{next(iter(options))}: expected none beside --missing, which draws as a run does. Leave it out."
        )
    if odd := [word for word in words if not word.isdecimal()]:
        raise ValueError(f"epochs: expected numbers, got {odd[0]!r}. As in epochs=1,24,350.")
    from ncexp.report.portraits import draw_pictures

    runs = read_all(named_folders(named, parsed.outputs) or parsed.outputs, {})
    faults = list(runs.faults)
    for run in draw_missing(runs, faults) if parsed.missing else runs:
        try:
            directory = RunDirectory(run.path)
            if not parsed.missing:
                directory.refuse_links()
                chosen = options.get("classes"), [*map(int, words)], True
                drawn, lacking = draw_pictures(run, directory.figures, *chosen)
                faults += [f"{run.path}: {why}" for why in lacking]
                for path in drawn:
                    say(f"figure    {path}")
            if parsed.sync:
                from ncexp.tracking import sync_runs  # torch was imported before: seconds

                sync_runs([run.path])
        except ValueError as error:  # of one run; the others are drawn
            faults.append(f"{run.path}: {error}")
    return name_faults(faults)


def draw_missing(runs: Iterable[SavedRun], faults: list[str]) -> Iterator[SavedRun]:
    """Draw the figures that a run lacks or that are older than its numbers; yields each run of which some were.

    A run that is trained is left to its process. faults: gets why one could not be drawn.
    """
    from ncexp.report.run import draw_run, drawn_before

    for run in runs:
        directory = RunDirectory(run.path)
        if run.is_simulation or run.state is State.RUNNING or drawn_before(directory) is not None:
            continue
        try:
            directory.refuse_links()
            lines = draw_run(directory)
        except ValueError as error:
            faults.append(f"{run.path}: {error}")
            continue
        for line in lines:
            say(line)
        if lines:
            yield run
