"""`ncexp pictures`: class means that become a simplex, cosines, spectra and depth, from the snapshots of runs."""

from __future__ import annotations

from ncexp.cli.words import command_parser, name_faults
from ncexp.record import RunDirectory, named_folders, read_all
from ncexp.record.text import say

HELP = """\
Draw pictures of RUNs (folders, sweeps, names, keys, globs) from the snapshots
that they kept, into figures/ of each. Nothing is trained or measured.

  classes=0,1,2    three or more classes of the simplex, or all (default: 0,1,2)
  epochs=1,24,350  of simplex and cosines (default: four, first to last)

  simplex   class means, rows of the classifier and 2σ of the features, beside
            the exact simplex; simplex.gif: the same as an animation
  cosines   among class means, among rows of W, and between both
  spectra   of class means, W and Σ_W, against epoch
  depth     layers by epoch, where analysis=layers or depth was measured, of
            train features; depth_test: of test features

Single examples are drawn where analysis=portrait kept them. A run draws all but
the animation at its end; `ncexp report RUN` has them on its page.
"""
WORDS = ("classes", "epochs")


def main(arguments: list[str]) -> int:
    """Draw all; returns 0, or 1 where a picture of a run cannot be drawn, or a run cannot be read.

    Raises ValueError for a RUN that there is not, and for epochs that are no numbers.
    """
    parser = command_parser("pictures", HELP, runs="+")
    parsed = parser.parse_args(arguments)
    options = dict(word.split("=", 1) for word in parsed.runs if word.partition("=")[0] in WORDS)
    named = [word for word in parsed.runs if word.partition("=")[0] not in WORDS]
    if not named:
        raise ValueError("RUN: expected the runs to draw, got none. `ncexp runs` lists them.")
    words = [word for word in options.get("epochs", "").split(",") if word]
    if odd := [word for word in words if not word.isdecimal()]:
        raise ValueError(f"epochs: expected numbers, got {odd[0]!r}. As in epochs=1,24,350.")
    from ncexp.report.portraits import draw_pictures

    runs = read_all(named_folders(named, parsed.outputs), {})
    faults = list(runs.faults)
    for run in runs:
        try:
            directory = RunDirectory(run.path)
            directory.refuse_links()
            drawn, lacking = draw_pictures(run, directory.figures, options.get("classes"), [*map(int, words)], True)
        except ValueError as error:  # of one run; the others are drawn
            drawn, lacking = [], [str(error)]
        faults += [f"{run.path}: {why}" for why in lacking]
        for path in drawn:
            say(f"figure    {path}")
    return name_faults(faults)
