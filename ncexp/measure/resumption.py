"""What an interrupted run goes on from: its newest good checkpoint, which holds the rows of its journals too."""

from __future__ import annotations

from pathlib import Path

from ncexp.record import RunDirectory, set_aside
from ncexp.record.rows import PREFIX, TrainingRows
from ncexp.record.tensor_file import DamagedTensors, UnusableFile, read_tensors


def prepare_resumption(
    directory: RunDirectory, rows: TrainingRows, places: list[str], epochs: int
) -> tuple[int, list[str]]:
    """Take up the rows up to the newest good checkpoint; returns the epoch that is trained next, and sentences.

    A file that cannot be used is set aside, under another name; the sentences name it. Without a checkpoint the run
    begins anew; journals of an earlier training are then set aside. Where they are whole, it has ended, and nothing is
    left to train. places: the journals that the training writes; epochs: the run's last one.

    Raises UnusableFile where there were checkpoints and none is good, or one is of another training.
    """
    damaged: list[str] = []
    for path in filter(Path.exists, (directory.resume, directory.resume_before)):
        try:
            tensors, header = read_tensors(path, "resume", directory.key)
        except DamagedTensors as error:
            damaged.append(f"{error} It is {set_aside(path).name} now.")
        except UnusableFile as error:
            raise UnusableFile(f"{error} Set it aside: the same command goes on from what else is there.") from None
        else:
            epoch = int(header["position"]["epoch"])
            tail = {name: one for name, one in tensors.items() if name.startswith(PREFIX)}
            return epoch, damaged + rows.restore(places, epoch - 1, tail, header.get("rows", {}))
    if damaged:
        raise UnusableFile(
            f"{' '.join(damaged)} No checkpoint is left, and kept weights are without the optimizer's state. `ncexp "
            f"measure {directory.path}` measures what is there; the same command again trains from the first epoch."
        )
    return _without_checkpoint(directory, rows, places, epochs)


def _without_checkpoint(
    directory: RunDirectory, rows: TrainingRows, places: list[str], epochs: int
) -> tuple[int, list[str]]:
    """It has not begun; or it had ended, and lost its status; or its checkpoint was lost."""
    journals = [one for one in (directory.training, *directory.journals()) if one.path.exists()]
    try:
        ended = {*range(1, epochs + 1)} <= directory.training.epochs()
    except ValueError:
        ended = False
    if ended:
        return epochs + 1, rows.restore(places, epochs, {}, {})
    if not journals:
        return 1, []
    asides = ", ".join(set_aside(journal.path).name for journal in journals)
    return 1, [f"no checkpoint to go on from: it begins anew; set aside: {asides}"]
