"""Which logs of a sweep are worth reading, and their ends."""

from __future__ import annotations

from collections.abc import Sequence

from ncexp.launching.sweep_directory import Entry, SweepDirectory
from ncexp.launching.waiting import ask_queue, current_states, in_trouble


def chosen_entries(sweep: SweepDirectory, words: Sequence[str]) -> list[Entry]:
    """The entries with these numbers or keys; without words, those in trouble."""
    entries = sweep.entries()
    if words:
        numbers = {int(word) for word in words if word.isdigit()}
        return [entry for entry in entries if entry.num in numbers or entry.key in words]
    states = current_states(entries, ask_queue(entries))
    return [entry for entry in entries if in_trouble(states[entry.num])]
