"""What a record holds, noted with every checkpoint and when a training ends: what is missing later has been lost.

An inventory is a mapping: file or folder in the run's directory → the epochs that it holds. As JSON the epochs are a
word: ``{"training.jsonl": "1-350", "snapshots": "1-14 16 17"}``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal, get_args

from ncexp.record.contents import Inventory, decode_inventory
from ncexp.record.run_directory import RunDirectory, epochs_of_files

Kind = Literal["snapshots", "checkpoints"]
#: The folders of files by epoch; all other places are journals.
FOLDERS: tuple[Kind, ...] = get_args(Kind)


def take_inventory(directory: RunDirectory) -> Inventory:
    """What lies on the disk. Raises DamagedFile for a journal that cannot be read."""
    found = {
        directory.training.path.name: directory.training.epochs(),
        "snapshots": epochs_of_files(directory.snapshots),
        "checkpoints": epochs_of_files(directory.checkpoints),
    }
    for journal in directory.journals():
        found[str(journal.path.relative_to(directory.path))] = journal.epochs()
    return found


def noted_inventory(directory: RunDirectory) -> Inventory:
    """What was noted last: of a training that has ended in its status, else in its checkpoint, as far as this covers.

    Empty where nothing was noted. Raises DamagedFile.
    """
    status = directory.status() or {}
    if "record" in status:
        return decode_inventory(status["record"])
    return decode_inventory(directory.checkpoint_header().get("record", {}), directory.covered_epoch())


def missing_from(there: Mapping[str, Iterable[int]], noted: Inventory) -> Inventory:
    """What was noted and is not there."""
    lacking = {place: epochs - set(there.get(place, ())) for place, epochs in noted.items()}
    return {place: epochs for place, epochs in lacking.items() if epochs}


def describe_missing(missing: Inventory) -> str:
    """``training.jsonl lacks epochs 4-6; snapshots lacks epoch 2``: a sentence for people."""
    return "; ".join(
        f"{place} lacks {'epoch' if len(epochs) == 1 else 'epochs'} {_word(epochs).replace(' ', ', ')}"
        for place, epochs in missing.items()
    )


def encode_inventory(inventory: Mapping[str, Iterable[int]]) -> dict[str, str]:
    """As JSON holds it."""
    return {place: _word(epochs) for place, epochs in inventory.items()}


def _word(epochs: Iterable[int]) -> str:
    """
    >>> _word([7, 1, 2, 3])
    '1-3 7'
    """
    spans: list[list[int]] = []
    for epoch in sorted(epochs):
        if spans and epoch == spans[-1][1] + 1:
            spans[-1][1] = epoch
        else:
            spans.append([epoch, epoch])
    return " ".join(f"{first}" if first == last else f"{first}-{last}" for first, last in spans)
