"""Ten times the paper's grid beside another checkout: reading and listing 7,500 runs, sending some; robustness.

    git worktree add ../before 4b2c925
    python benchmarks/ten_times.py --before ../before [--runs 7500] [--synced 20] [--repeats 3] [--only WHAT] [--short]

Runs of 50 evaluated epochs with 105 numbers each and 350 trained ones are written without training: the paper's 750
cells, losses and rates as `tests/helpers/synthetic_sweep.py` writes them, the others as their copies with other seeds
and keys. Each measurement is a process of its own, of the one checkout and of the other in turn: its processor time,
which a busy machine changes least, seconds of the clock, and its largest memory. The other checkout reads a tenth of
the runs, whose records fill the memory of a small machine otherwise: ratios are of the processor time a run. In this
checkout the first reading finds no cache (`ncexp.record.run_cache`), the second one does; so do the lists, the
comparison of two runs and the report, up to the outcome that it says first. NumPy asks for no huge pages, which some
virtual machines take seconds to give. `ncexp sync` sends runs into an empty store. Robustness: DeepFool of 100 images
by a ResNet-8 trained on the digits. Without --before this checkout alone is measured.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from timing import parser, report

sys.path.append(str(Path(__file__).parents[1] / "tests" / "helpers"))
from synthetic_sweep import LOSSES, PAPER, curves, write_journals, write_run

HERE = Path(__file__).parents[1]
NUMBERS, GRID = 105, 750
EPOCHS = [1 + 349 * step // 49 for step in range(50)]
RATES = [float(f"{1e-4 * 2500 ** (step / 24):.9f}") for step in range(25)]
START = "import json, runpy, sys, time\nimport ncexp, pandas\nbegan = time.process_time()\nfound = 0\n"
END = """
spent = time.process_time() - began
(kilobytes,) = [line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")]  # of this program
print(json.dumps([spent, int(kilobytes) / 1e6, found]))
"""
COMMAND = """
folder = sys.argv[1]
sys.argv = ["ncexp"] + [word.replace("FOLDER", folder) for word in {}]
try:
    runpy.run_module("ncexp", run_name="__main__")
except SystemExit as end:
    found = end.code or 0
assert found == 0, found
began = 0  # the imports are the command's
"""
#: What is measured in both checkouts → its program, which is given a folder.
PROGRAMS = {
    "load, frame": "found = len(ncexp.load(sys.argv[1]).frame())",
    "load, table": "found = len(ncexp.load(sys.argv[1]).table())",
    "sync": COMMAND.format(["sync", "FOLDER"]),
    "robustness": """
import torch
from sklearn.datasets import load_digits
from ncexp.architectures.resnet import resnet
from ncexp.measure.deepfool import robustness
torch.set_num_threads(1)
torch.manual_seed(0)
images, labels = load_digits(return_X_y=True)
images, labels = torch.tensor(images).float().view(-1, 1, 8, 8) / 16, torch.tensor(labels)
network = resnet((1, 8, 8), 10).to(memory_format=torch.channels_last)
optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
for first in [*range(0, 1400, 100)] * 3:
    optimizer.zero_grad()
    logits, _ = network(images[first : first + 100])
    torch.nn.functional.cross_entropy(logits, labels[first : first + 100]).backward()
    optimizer.step()
began = time.process_time()
found = robustness(network, images[1400:1500])
found = found[0] if isinstance(found, tuple) else found.robustness
""",
}
#: What is measured in this checkout alone, with a warm cache.
COMMANDS = {
    "ncexp runs": COMMAND.format(["runs", "--outputs", "FOLDER"]),
    "ncexp status": COMMAND.format(["status", "--outputs", "FOLDER"]),
    "ncexp compare": COMMAND.format(
        ["compare", "--outputs", "FOLDER", "mnist-vgg11-mse_lr0.0001_seed0", "mnist-vgg11-mse_lr0.000138542_seed0"]
    ),
    "ncexp report, until it says its outcome": """
from ncexp.record import read_all
from ncexp.record.console import literal_console
from ncexp.report.study import study_of
from ncexp.report.verdict import print_outcome
print_outcome(literal_console(), study_of(read_all(sys.argv[1], {})))
began = 0
""",
    "ncexp report": COMMAND.format(["report", "FOLDER", "--to", "FOLDER/../report"]),
}


def fill(folder: Path, count: int) -> None:
    """Write the runs; their files are as old as those of a sweep that has ended."""
    cells = itertools.product(
        [(dataset, network) for dataset, networks in PAPER.items() for network in networks], LOSSES, RATES
    )
    keys, models = random.Random(0), []
    for (dataset, network), loss, rate in itertools.islice(cells, min(count, GRID)):
        path = write_run(folder, dataset, network, loss, rate)
        records = list(curves(rate, 0, 0.5, EPOCHS))
        for record in records:
            missing = NUMBERS - (len(record) - 1)
            record |= {f"train/path/snr_{mode}": record["train/loss"] / mode for mode in range(1, missing + 1)}
        write_journals(path, records)
        models.append(path)
    for place in range(GRID, count):
        model, seed = models[place % GRID], place // GRID
        copy = folder / f"{model.name.partition('_seed')[0]}_seed{seed}_{keys.getrandbits(40):010x}"
        shutil.copytree(model, copy)
        config = (copy / "config.yaml").read_text()
        (copy / "config.yaml").write_text(re.sub(r"(?m)^seed: .*$", f"seed: {seed}", config))
    ended = time.time() - 3600
    for path in folder.rglob("*.*"):
        os.utime(path, (ended, ended))


def measured(checkout: Path, program: str, folder: Path) -> list[Any]:
    """Processor seconds, GB at most, what came out, and seconds of the clock, the start of Python included."""
    command = [sys.executable, "-c", START + program + END, str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(checkout), "NUMPY_MADVISE_HUGEPAGE": "0"}
    began = time.perf_counter()
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return [*json.loads(done.stdout.splitlines()[-1]), time.perf_counter() - began]


def forget(what: str, folder: Path) -> None:
    """Take away what a former measurement left: the caches; of `sync` the store, and what is remembered of it."""
    if what == "sync":
        for left in folder.glob("mlflow*"):
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        for left in folder.glob("*/mlflow.json"):
            left.unlink()
    for cache in folder.glob("*/.read.safetensors"):
        cache.unlink()


def main() -> None:
    """Print the table."""
    options = parser(__doc__, repeats=3)
    options.add_argument("--before", type=Path, default=HERE, help="the other checkout; none by default")
    options.add_argument("--runs", type=int, default=7500, help="7500")
    options.add_argument("--synced", type=int, default=20, help="how many of them `sync` sends; 20")
    options.add_argument("--only", choices=[*PROGRAMS, *COMMANDS], help="one of the measurements")
    given = options.parse_args()
    count = 4 if given.short else given.runs
    names = [given.only] if given.only else ["robustness", "load, frame", "ncexp compare"] if given.short else None
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as name:
        folder, part, synced = (Path(name) / one for one in ("runs", "part", "synced"))
        if given.only != "robustness":
            fill(folder, count)
            for path in sorted(folder.glob("*_seed0_*"))[: max(2, count // 10)]:
                shutil.copytree(path, part / path.name)
            for path in sorted(part.iterdir())[: given.synced]:
                shutil.copytree(path, synced / path.name)
        for what in names or [*PROGRAMS, *COMMANDS]:
            program = {**PROGRAMS, **COMMANDS}[what]
            ways = {"before": (given.before, part), "now, first": (HERE, folder), "now, again": (HERE, folder)}
            if what in ("robustness", "sync"):
                ways = {"before": (given.before, synced), "now": (HERE, synced)}
            if what in COMMANDS:
                ways = {"now, again": (HERE, folder)}
            if given.before == HERE:
                ways.pop("before", None)
            found: dict[str, list[list[Any]]] = {way: [] for way in ways}
            for _ in range(given.repeats):
                for way, (checkout, place) in ways.items():
                    if way != "now, again":
                        forget(what, place)
                    found[way].append(measured(checkout, program, place))
            for way, ones in found.items():
                runs = len([*ways[way][1].glob("*/config.yaml")]) if what != "robustness" else 1
                spent, clock = (statistics.median(one[place] for one in ones) for place in (0, 3))
                rows.append(
                    {"what": what, "checkout": way, "runs": runs, "process, s": spent, "clock, s": clock}
                    | {"process a run, ms": 1000 * spent / runs, "GB": max(one[1] for one in ones)}
                    | {"result": ones[0][2]}
                )
    before = {row["what"]: row["process a run, ms"] for row in rows if row["checkout"] == "before"}
    for row in rows:
        own, other = row["process a run, ms"], before.get(row["what"])
        row["ratio"] = own / other if isinstance(own, float) and isinstance(other, float) else "–"
    report(f"{count} runs, {NUMBERS} numbers at 50 epochs", rows, given.json)


if __name__ == "__main__":
    main()
