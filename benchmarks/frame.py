"""Saved runs as data frames: 750 runs, 50 evaluated epochs of 80 numbers each, against parsing the same JSON alone.

    python benchmarks/frame.py [--repeats 3] [--json FILE] [--short]

The runs are written without training, as `tests/helpers/synthetic_sweep.py` writes them, with a line in training.jsonl
for each of 350 epochs. Parsing alone: every line of every journal by `json.loads`, nothing kept.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from timing import interleaved_medians, parser, report

import ncexp

sys.path.append(str(Path(__file__).parents[1] / "tests" / "helpers"))
from synthetic_sweep import RATES, curves, write_journals, write_run

#: Runs, evaluated epochs and numbers of an epoch: those of the paper's grid.
RUNS, EPOCHS, NUMBERS = 750, 50, 80


def write_runs(folder: Path, count: int) -> None:
    """Runs of two losses, five rates and as many seeds as it takes."""
    epochs = [1 + 349 * step // (EPOCHS - 1) for step in range(EPOCHS)]
    for place in range(count):
        loss, rate, seed = ("mse", "cross_entropy")[place % 2], RATES[place // 2 % 5], place // 10
        path = write_run(folder, loss=loss, rate=rate, seed=seed)
        records = list(curves(rate, seed, 0.5, epochs))
        for record in records:
            missing = NUMBERS - (len(record) - 1)
            record |= {f"train/path/snr_{mode}": record["train/loss"] / mode for mode in range(1, missing + 1)}
        write_journals(path, records)


def parse(folder: Path) -> int:
    """Read every line of every journal, and keep nothing."""
    lines = (line for path in folder.rglob("*.jsonl") for line in path.read_bytes().splitlines())
    return sum(len(json.loads(line)) for line in lines)


def note(spent: list[float], way: Callable[[], object]) -> None:
    """Call it, and note the seconds of the process: those of the clock depend on what else the machine does."""
    began = time.process_time()
    way()
    spent.append(time.process_time() - began)


def main() -> None:
    arguments = parser(__doc__, repeats=3).parse_args()
    count = 10 if arguments.short else RUNS
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_runs(folder, count)
        frame = ncexp.load(folder).frame()
        ways = {
            "JSON parsed alone": lambda: parse(folder),
            "load": lambda: ncexp.load(folder),
            "load, frame": lambda: ncexp.load(folder).frame(),
            "load, table": lambda: ncexp.load(folder).table(),
        }
        spent: dict[str, list[float]] = {what: [] for what in ways}
        seconds = interleaved_medians(
            {what: partial(note, spent[what], way) for what, way in ways.items()}, arguments.repeats, uncounted=0
        )
    processor = {what: statistics.median(values) for what, values in spent.items()}
    alone = processor["JSON parsed alone"]
    rows: list[dict[str, object]] = [
        {"what": what, "wall, s": seconds[what], "process, s": value, "against JSON alone": value / alone}
        for what, value in processor.items()
    ]
    title = f"{count} runs, {len(frame):,} numbers, frame of {frame.memory_usage(deep=True).sum() / 1e6:.0f} MB"
    report(title, rows, arguments.json)


if __name__ == "__main__":
    main()
