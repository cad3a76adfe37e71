"""What an interrupted run can go on from: its newest good checkpoint, and journals that end where that stands.

Nothing is deleted but what a resumption computes again: a file that cannot be used is set aside, under another name.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ncexp.record import Journal, RunDirectory, set_aside
from ncexp.record.contents import Inventory, decode_inventory
from ncexp.record.tensor_file import DamagedTensors, UnusableFile, read_header, read_tensors


@dataclass
class Resumption:
    """epoch: the one that is trained next; noted: what the checkpoint says that the record holds; sentences: for
    people, what was found and done.
    """

    epoch: int = 1
    noted: Inventory = field(default_factory=dict)
    sentences: list[str] = field(default_factory=list)


def prepare_resumption(directory: RunDirectory, epochs: int) -> Resumption:
    """Leave in the directory the checkpoint to go on from, and the journals up to it; epochs: the run's last one.

    Without a checkpoint the run begins anew; journals of an earlier training are then set aside. Where they are whole,
    it has ended, and nothing is left to train.

    Raises UnusableFile where there were checkpoints and none is good, or one is of another training.
    """
    found = Resumption()
    headers = _good_checkpoints(directory, found.sentences)
    found.sentences += _set_damaged_files_aside(directory)
    for journal in _all_journals(directory):
        if (aside := journal.repair()) is not None:
            found.sentences.append(f"{journal.path}: some lines are no records; the file as it was is {aside.name} now")
    if headers:
        _go_on(directory, headers, found)
    elif len(directory.evaluated_epochs()) > 1:  # each evaluation but the first follows a checkpoint
        _without_checkpoint(directory, epochs, found)
    for journal in _all_journals(directory):
        journal.rewind(found.epoch - 1)
    return found


def _good_checkpoints(directory: RunDirectory, sentences: list[str]) -> dict[Path, dict[str, Any]]:
    """Checkpoint → its header, the newest first. Raises UnusableFile where all there were are damaged."""
    good, damaged = {}, []
    for path in filter(Path.exists, (directory.resume, directory.resume_before)):
        try:
            good[path] = read_tensors(path, "resume", directory.key)[1]
        except DamagedTensors as error:
            damaged.append(f"{error} It is {set_aside(path).name} now.")
        except UnusableFile as error:
            raise UnusableFile(f"{error} Set it aside: the same command goes on from what else is there.") from None
    if damaged and not good:
        raise UnusableFile(
            f"{' '.join(damaged)} No checkpoint is left, and kept weights are without the optimizer's state. `ncexp "
            f"measure {directory.path}` measures what is there; the same command again trains from the first epoch."
        )
    sentences += damaged
    return good


def _set_damaged_files_aside(directory: RunDirectory) -> list[str]:
    """Snapshots and weights that are cut or garbage; a changed bit is found where a file is read."""
    sentences = []
    for folder, kind in ((directory.snapshots, "snapshot"), (directory.checkpoints, "weights")):
        for path in sorted(folder.glob("epoch_*.safetensors")):
            try:
                read_header(path, kind, directory.key)
            except DamagedTensors as error:
                sentences.append(f"{error} It is {set_aside(path).name} now.")
            except UnusableFile as error:
                sentences.append(str(error))
    return sentences


def _go_on(directory: RunDirectory, headers: dict[Path, dict[str, Any]], found: Resumption) -> None:
    """From the newest checkpoint whose epochs are all in the journal of the training; else from the newest."""
    trained = directory.training.epochs()
    for path, header in list(headers.items()):
        lacking = set(range(1, int(header["position"]["epoch"]))) - trained
        if lacking and len(headers) > 1 and _covers(headers[directory.resume_before], trained):
            del headers[path]
            where = f"{directory.training.path.name} has no more epoch {min(lacking)}"
            found.sentences.append(f"{path}: {where}; it is {set_aside(path).name} now")
    header = next(iter(headers.values()))
    found.epoch = int(header["position"]["epoch"])
    found.noted = decode_inventory(header.get("record", {}), found.epoch - 1)
    found.noted[directory.training.path.name] = set(range(1, found.epoch))


def _covers(header: dict[str, Any], trained: set[int]) -> bool:
    return set(range(1, int(header["position"]["epoch"]))) <= trained


def _without_checkpoint(directory: RunDirectory, epochs: int, found: Resumption) -> None:
    """The checkpoint was lost, or, with its status, the run had ended."""
    if directory.training.epochs() >= set(range(1, epochs + 1)) and epochs in directory.evaluated_epochs():
        found.epoch, found.noted = epochs + 1, directory.inventory()
        return
    asides = [set_aside(journal.path).name for journal in _all_journals(directory) if journal.path.exists()]
    found.sentences.append(f"no checkpoint to go on from: it begins anew; set aside: {', '.join(asides)}")


def _all_journals(directory: RunDirectory) -> list[Journal]:
    return [directory.training, *directory.journals()]
