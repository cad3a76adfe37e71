"""What the rows in the file to resume from cost: a commit without rows, and with those of many evaluated epochs.

    python benchmarks/commit_cost.py [--repeats 20] [--json FILE] [--short]

A commit is what follows an evaluation of the main job's network: the file to resume from, then the journals. An epoch
has 100 numbers in five journals. Beyond 4 MB rows move to files that are written once, so a commit stays bounded.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable
from pathlib import Path

from timing import interleaved_medians, parser, report

from ncexp.config import check
from ncexp.config.composing import compose_mapping
from ncexp.record import RunDirectory
from ncexp.record.rows import TrainingRows
from ncexp.training import Training, assemble, save_resume

#: Evaluated epochs before the commits that are timed.
EPOCHS = (0, 50, 350, 10_000)
JOURNALS, NUMBERS = 5, 20


def commits(training: Training, folder: Path, epochs: int) -> Callable[[], None]:
    """A call of it is the commit of one more epoch."""
    rows, random_numbers = TrainingRows(RunDirectory(folder / f"run_{epochs:010d}")), random.Random(0)
    path = folder / f"run_{epochs:010d}" / "checkpoints" / "resume.safetensors"

    def evaluate(epoch: int) -> None:
        for place in range(JOURNALS):
            numbers = {f"train/family{place}/quantity_{name}": random_numbers.random() for name in range(NUMBERS)}
            rows.add(f"measurements/{place}.jsonl", {"epoch": epoch, **numbers})

    def commit() -> None:
        if epochs:
            evaluate(max(rows.counted.values(), default=0) + 1)
        save_resume(path, training.network, training.optimizer, training.position, f"{epochs:010d}", rows.tensors())
        rows.write_journals()

    for epoch in range(1, epochs):
        evaluate(epoch)
        if epoch % 500 == 0:
            rows.tensors()
    return commit


def main() -> None:
    """Print the table."""
    options = parser(__doc__, repeats=20).parse_args()
    training = assemble(check(compose_mapping("config", ["device=cpu"]))).training
    with tempfile.TemporaryDirectory() as name:
        chosen = EPOCHS[:2] if options.short else EPOCHS
        contenders = {f"{epochs} epochs": commits(training, Path(name), epochs) for epochs in chosen}
        medians = interleaved_medians(contenders, options.repeats)
    more = [
        {"rows before": one, "ms a commit": 1e3 * value, "more, in ms": 1e3 * (value - medians["0 epochs"])}
        for one, value in medians.items()
    ]
    report("A commit of the main job's network", more, options.json)


if __name__ == "__main__":
    main()
