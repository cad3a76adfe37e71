"""`ncexp compare`: a few runs side by side."""

from __future__ import annotations

import sys

from ncexp.cli.words import add_outputs, command_parser
from ncexp.record import SavedRun, State, named_folders
from ncexp.record.console import literal_console
from ncexp.record.saved_run import read_runs
from ncexp.record.text import say

HELP = """\
Show runs side by side: the parameters in which they differ, the state, the
epoch of zero error, and every number of the summary at the last epoch that all
have in common (so that a run in progress compares with one that is done). A
RUN is a folder, a name, a key, the beginning of either, or a glob.

With --reference: does each RUN come to what the seeds of a reference came to?
Every number that both have, a quantity at one of five epochs, has a band in
which one more seed lies with a chance of 99.8 %. A run agrees where no
quantity is outside its band at more than half of its epochs, and at most 10 %
of all numbers are outside their 99 % intervals. How many honest runs that
refuses and how many faults it finds is measured: docs/reference.md.
Exit code 1 where a run does not agree.
"""


def main(arguments: list[str]) -> int:
    """Print the comparison; returns 0, 1 where a run cannot be read or does not agree with the reference, 2 where one
    is not found or none can be read or compared.
    """
    parser = command_parser("compare", HELP)
    parser.add_argument("runs", metavar="RUN", nargs="+")
    add_outputs(parser)
    parser.add_argument("--reference", metavar="NAME", help="hold each against this one: its name, or a file.json")
    given = parser.parse_args(arguments)
    try:
        runs, faults = read_runs(named_folders(given.runs, given.outputs))
    except ValueError as error:
        say(f"ncexp compare: {error}", sys.stderr)
        return 2
    for fault in faults:
        say(f"ncexp compare: {fault}", sys.stderr)
    if not runs:
        return 2
    whole = State.DAMAGED.exit_code if faults else 0
    if given.reference is not None:
        return max(whole, _against_reference(runs, given.reference))
    from ncexp.report.compare import comparison

    literal_console(width=None if sys.stdout.isatty() else 48 + 22 * len(runs)).print(comparison(runs))
    return whole


def _against_reference(runs: list[SavedRun], name: str) -> int:
    """Print how each run stands against the reference; 0 where all agree, 1 where not, 2 where nothing is compared."""
    from ncexp.report.compare import verdict_table, verdict_words
    from ncexp.report.reference import compare_with_reference, read_reference

    console = literal_console(width=None if sys.stdout.isatty() else 150)
    try:
        reference = read_reference(name)
        verdicts = [compare_with_reference(run, reference) for run in runs]
    except ValueError as error:
        say(f"ncexp compare: {error}", sys.stderr)
        return 2
    for run, verdict in zip(runs, verdicts, strict=True):
        console.print(verdict_table(run, verdict))
        for line in verdict_words(run, verdict, reference):
            console.print(line, soft_wrap=True)
    return 0 if all(verdict.agrees for verdict in verdicts) else 1
