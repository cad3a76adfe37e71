"""Which logs of a sweep are worth reading, and their ends."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from ncexp.launching.sweep_directory import Entry, SweepDirectory
from ncexp.launching.waiting import ask_queue, current_states, in_trouble


def chosen_entries(sweep: SweepDirectory, words: Sequence[str]) -> list[Entry]:
    """The entries of these numbers, names, keys, beginnings of either, or globs; without words, those in trouble."""
    entries = sweep.entries()
    if words:
        return [entry for entry in entries if any(_is_meant(entry, word) for word in words)]
    states = current_states(entries, ask_queue(entries))
    return [entry for entry in entries if in_trouble(states[entry.num])]


def _is_meant(entry: Entry, word: str) -> bool:
    if word.isdigit():
        return word == entry.key or int(word) == entry.num
    return any(fnmatchcase(name, f"{word}*") for name in (f"{entry.name}_{entry.key}", entry.title, entry.key))
