"""A sweep of thousands of configurations: how long until all are composed and checked, then `status` and `report`.

    python benchmarks/large_sweep.py [--runs 5000] [--json FILE] [--short]

Nothing is trained but one run of two epochs, whose files stand for all others: what is timed reads or writes a file a
run. Each command is a process of its own; its processor time is what a busy machine does not change.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from timing import parser, report

from ncexp.config import check
from ncexp.config.composing import compose_mapping
from ncexp.launching.plan import Asked, freeze, make_plan
from ncexp.launching.sweep_directory import SweepDirectory
from ncexp.record.console import literal_console

SMALL = ["dataset=gaussian_mixture", "architecture=mlp", "epochs=2", "analysis=[collapse]", "tracking.enabled=false"]


def words(runs: int) -> list[str]:
    """The overrides of a sweep of so many runs, ten seeds a rate."""
    rates = ",".join(f"{0.001 * 1.01**place:.8f}" for place in range(max(1, runs // 10)))
    return [*SMALL, f"optimizer.lr={rates}", f"seed=range({min(10, runs)})"]


def timed(folder: Path, *arguments: str) -> tuple[float, float]:
    """Seconds of wall and of processor time of `ncexp ARGUMENTS`."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, "-m", "ncexp", *arguments], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def fill(folder: Path, runs: int) -> None:
    """A sweep's directory of so many completed runs, each with the files of the only one that was trained."""
    subprocess.run(
        [sys.executable, "-m", "ncexp", *SMALL, "outputs=trained"], cwd=folder, check=True, stdout=subprocess.DEVNULL
    )
    (trained,) = [path.parent for path in (folder / "trained").glob("*/training.jsonl")]
    raw = compose_mapping("config", SMALL)
    os.chdir(folder)
    asked = []
    for place in range(runs):
        task = check(
            {**raw, "seed": place % 10, "optimizer": {**raw["optimizer"], "lr": 0.001 * 1.01 ** (place // 10)}}
        )
        asked.append(Asked(task, [f"optimizer.lr={task.raw['optimizer']['lr']}", f"seed={task.seed}"]))
    sweep = SweepDirectory(folder / "outputs" / "sweeps" / "large_1")
    sweep.path.mkdir(parents=True)
    plan = make_plan(sweep, asked, range(runs), None)
    freeze(sweep, asked, plan, literal_console())
    for one in asked:
        left_out = shutil.ignore_patterns("checkpoints", "figures", "snapshots")
        shutil.copytree(trained, one.task.directory, ignore=left_out, dirs_exist_ok=True)
        (one.task.directory / "config.yaml").write_text(json.dumps(one.task.raw))


def main() -> None:
    """Print the table."""
    options = parser(__doc__)
    options.add_argument("--runs", type=int, default=5000, help="5000")
    given = options.parse_args()
    runs = 20 if given.short else given.runs
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fill(folder, runs)
        commands = {
            "composed and checked": ["-m", *words(runs), "hydra/launcher=local", "hydra.launcher.dry_run=true"],
            "status": ["status", "large"],
            "runs": ["runs"],
            "report": ["report", "outputs/sweeps/large_1"],
        }
        seconds = {word: timed(folder, *arguments) for word, arguments in commands.items()}
    rows: list[dict[str, object]] = [
        {"command": word, "wall s": wall, "processor s": cpu} for word, (wall, cpu) in seconds.items()
    ]
    report(f"A sweep of {runs} runs", rows, given.json)


if __name__ == "__main__":
    main()
