"""What a record holds, noted with every checkpoint and when a training ends: what is missing later has been lost.

An inventory is a mapping: file or folder in the run's directory → the epochs that it holds. As JSON the epochs are a
word: ``{"training.jsonl": "1-350", "snapshots": "1-14 16 17"}``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from ncexp.config.names import shown

if TYPE_CHECKING:
    from ncexp.record.run_directory import RunDirectory

Inventory = dict[str, set[int]]
Kind = Literal["snapshots", "checkpoints"]
#: The folders of files by epoch; all other places are journals.
FOLDERS: tuple[Kind, ...] = get_args(Kind)
#: Of all places together: what a computer lists in a second.
MOST_EPOCHS = 5_000_000


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


def decode_inventory(encoded: Mapping[str, Any], through: float = float("inf")) -> Inventory:
    """The epochs up to `through`, by place. Raises ValueError for what is no inventory.

    >>> decode_inventory({"snapshots": "1-3 7"}, through=2)
    {'snapshots': {1, 2}}
    """
    spans = {}
    for place, word in encoded.items():
        found = [re.fullmatch("([0-9]{1,9})(?:-([0-9]{1,9}))?", part) for part in str(word).split()]
        spans[place] = [(int(one[1]), int(one[2] or one[1])) for one in found if one]
        if len(spans[place]) < len(found):
            raise ValueError(f"expected epochs as in '1-14 16', got {shown(word)} of {place}.")
    if (count := sum(last - first + 1 for of_place in spans.values() for first, last in of_place)) > MOST_EPOCHS:
        raise ValueError(f"expected at most {MOST_EPOCHS} epochs, got {count}.")
    return {
        place: {epoch for first, last in of_place for epoch in range(first, last + 1) if epoch <= through}
        for place, of_place in spans.items()
    }


def epochs_of_files(folder: Path) -> set[int]:
    """The epochs whose file lies in a folder of snapshots or weights."""
    found = (
        re.fullmatch(r"epoch_([0-9]{4}|[1-9][0-9]{4,8})\.safetensors", path.name) for path in folder.glob("epoch_*")
    )
    return {int(match[1]) for match in found if match}


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
