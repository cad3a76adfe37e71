"""`ncexp cancel`: end what a sweep still has in the queue or trains on this machine; every run saves itself."""

from __future__ import annotations

import sys

from ncexp.cli.status import parser
from ncexp.launching.slurm import SlurmUnavailable
from ncexp.launching.states import fault_of
from ncexp.launching.submission import cancel_sweep
from ncexp.launching.sweep_directory import find_sweep
from ncexp.record import State
from ncexp.record.text import say


def main(arguments: list[str]) -> int:
    """Cancel; returns 0, or 1 where a file of a run or submission cannot be read: whether it runs is not known.

    Also 1 where SLURM does not respond. Raises ValueError for no such sweep.
    """
    given = parser("cancel", "End the sweep's jobs; running ones save themselves first.").parse_args(arguments)
    sweep = find_sweep(given.outputs.absolute(), given.sweep)
    try:
        count = cancel_sweep(sweep)
    except SlurmUnavailable as error:
        say(f"ncexp cancel: {error} The sweep's jobs go on; cancel again once SLURM responds.", sys.stderr)
        return State.FAILED.exit_code
    say(f"{count} jobs are being ended; the same command as before goes on with what is not finished")
    faults = [fault for entry in sweep.entries() if (fault := fault_of(entry.task))]
    for fault in faults:
        say(f"ncexp cancel: {fault}", sys.stderr)
    return State.DAMAGED.exit_code if faults else 0
