"""Which logs of a sweep are worth reading, and their ends."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ncexp.launching.sweep_directory import Entry, SweepDirectory
from ncexp.launching.waiting import ask_queue, current_states, in_trouble
from ncexp.record.files import open_file

#: Bytes: more than anybody reads, less than a log that was filled up.
LONGEST_END = 2**22


def chosen_entries(sweep: SweepDirectory, words: Sequence[str]) -> list[Entry]:
    """The entries with these numbers or keys; without words, those in trouble."""
    entries = sweep.entries()
    if words:
        numbers = {int(word) for word in words if word.isdigit()}
        return [entry for entry in entries if entry.num in numbers or entry.key in words]
    states = current_states(entries, ask_queue(entries))
    return [entry for entry in entries if in_trouble(states[entry.num])]


def last_lines(path: Path, count: int) -> list[str]:
    """The last `count` lines of a log, of its last LONGEST_END bytes. Raises DamagedFile for what is no file."""
    with open_file(path) as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - LONGEST_END))
        return file.read(LONGEST_END).decode(errors="replace").splitlines()[-count:]
