"""`ncexp reference`: what seeds of one configuration came to, as a small file that other runs are held against."""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

from ncexp.cli.words import add_outputs, command_parser
from ncexp.record import named_runs, read_run
from ncexp.record.files import replace_text
from ncexp.record.text import say

HELP = """\
Write NAME.json: of completed RUNs that differ in their seed alone (three at
least, better five or more) the mean of every number at five epochs, and the
band in which one more seed lies with a chance of 99.8 %. Then

  ncexp compare RUN --reference NAME

says which numbers of another run lie in their band. A RUN is a folder, a name,
a key, the beginning of either, or a glob.
"""


def main(arguments: list[str]) -> int:
    """Write the reference; returns 0, 2 where the runs make none."""
    given = _parser().parse_args(arguments)
    from ncexp.report.reference import MOST_OUTSIDE, WHOLE_LEVEL, make_reference, reference_directory

    folder = given.to or reference_directory()
    try:
        content = make_reference([*map(read_run, named_runs(given.runs, given.outputs))], given.name)
    except ValueError as error:
        say(f"ncexp reference: {error}", sys.stderr)
        return 2
    path = folder / f"{given.name}.json"
    replace_text(path, _text(content))
    shares = content["leave_one_out"]
    alarms = sum(content["refused"])
    numbers = sum(map(len, content["bands"].values()))
    say(f"{path}: {numbers} numbers of {len(content['bands'])} quantities, seeds {content['seeds']}")
    say(
        f"each seed against the others: {alarms} of {len(shares)} would be refused; at most {max(shares):.1%} of a "
        f"seed's numbers lie outside their {WHOLE_LEVEL:.0%} intervals, {MOST_OUTSIDE:.0%} are allowed"
    )
    return 0


def _text(content: dict[str, Any]) -> str:
    """JSON with a line for each list."""
    return re.sub(r"\[[^][{}]*\]", lambda found: " ".join(found[0].split()), json.dumps(content, indent=1)) + "\n"


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("reference", HELP)
    parser.add_argument("runs", metavar="RUN", nargs="+")
    parser.add_argument("--name", required=True, help="what the reference is called")
    add_outputs(parser)
    parser.add_argument("--to", type=Path, help="folder for it (default: that of the shipped references)")
    return parser
