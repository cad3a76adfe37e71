"""`ncexp compare`: a few runs side by side; `ncexp reference`: what seeds came to, to compare with."""

from __future__ import annotations

import sys
from pathlib import Path

from ncexp.cli.words import command_parser, name_faults
from ncexp.record import SavedRun, State, named_folders, named_runs, read_run
from ncexp.record.console import literal_console
from ncexp.record.files import replace_text
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
REFERENCE = """\
Write NAME.json: of completed RUNs that differ in their seed alone (three at
least, better five or more) the mean of every number at five epochs, and the
band in which one more seed lies with a chance of 99.8 %. Then

  ncexp compare RUN --reference NAME

says which numbers of another run lie in their band. A RUN is a folder, a name,
a key, the beginning of either, or a glob.
"""


def main(arguments: list[str]) -> int:
    """Print the comparison; returns 0, or 1 where a run cannot be read or does not agree with the reference.

    Raises ValueError where a run is not found, and where none can be read or compared.
    """
    parser = command_parser("compare", HELP, runs="+")
    parser.add_argument("--reference", metavar="NAME", help="hold each against this one: its name, or a file.json")
    given = parser.parse_args(arguments)
    runs, faults = read_runs(named_folders(given.runs, given.outputs))
    code = name_faults(faults)
    if not runs:
        return State.REFUSED.exit_code
    if given.reference is not None:
        return max(code, _against_reference(runs, given.reference))
    from ncexp.report.compare import comparison

    literal_console(width=None if sys.stdout.isatty() else 48 + 22 * len(runs)).print(comparison(runs))
    return code


def _against_reference(runs: list[SavedRun], name: str) -> int:
    """Print how each run stands against the reference; 0 where all agree, else 1. Raises ValueError."""
    from ncexp.report.compare import verdict_table, verdict_words
    from ncexp.report.reference import compare_with_reference, read_reference

    console = literal_console(width=None if sys.stdout.isatty() else 150)
    reference = read_reference(name)
    verdicts = [compare_with_reference(run, reference) for run in runs]
    for run, verdict in zip(runs, verdicts, strict=True):
        console.print(verdict_table(run, verdict))
        for line in verdict_words(run, verdict, reference):
            console.print(line, soft_wrap=True)
    return 0 if all(verdict.agrees for verdict in verdicts) else 1


def reference(arguments: list[str]) -> int:
    """Write the reference; returns 0. Raises ValueError where the runs make none."""
    parser = command_parser("reference", REFERENCE, runs="+")
    parser.add_argument("--name", required=True, help="what the reference is called")
    parser.add_argument("--to", type=Path, help="folder for it (default: that of the shipped references)")
    given = parser.parse_args(arguments)
    from ncexp.report.reference import MOST_OUTSIDE, WHOLE_LEVEL, make_reference, reference_directory, reference_text

    content = make_reference([*map(read_run, named_runs(given.runs, given.outputs))], given.name)
    path = (given.to or reference_directory()) / f"{given.name}.json"
    replace_text(path, reference_text(content))
    shares, alarms = content["leave_one_out"], sum(content["refused"])
    numbers = sum(map(len, content["bands"].values()))
    say(f"{path}: {numbers} numbers of {len(content['bands'])} quantities, seeds {content['seeds']}")
    say(
        f"each seed against the others: {alarms} of {len(shares)} would be refused; at most {max(shares):.1%} of a "
        f"seed's numbers lie outside their {WHOLE_LEVEL:.0%} intervals, {MOST_OUTSIDE:.0%} are allowed"
    )
    return 0
