"""Ten times the paper's grid beside another checkout: frames of 7,500 runs, lists of them, robustness of 100 images.

    git worktree add ../before 4b2c925
    python benchmarks/ten_times.py --before ../before [--runs 7500] [--repeats 3] [--json FILE] [--short]

Runs of 50 evaluated epochs with 105 numbers each and 350 trained ones are written without training: FEW of them as
`tests/helpers/synthetic_sweep.py` writes them, the others as their copies with other seeds and keys. Each measurement
is a process of its own, of the one checkout and of the other in turn: its processor time, which a busy machine changes
least, and its largest memory. In this checkout the first reading finds no cache (`ncexp.record.run_cache`), the second
one does. Robustness: DeepFool of 100 images by a ResNet-8 trained on the digits. Without --before both are this one.
"""

from __future__ import annotations

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

import frame
from timing import parser, report

HERE = Path(__file__).parents[1]
FEW, NUMBERS = 20, 105
START = "import json, sys, time; began = time.process_time()\n"
END = """
spent = time.process_time() - began
(kilobytes,) = [line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")]  # of this program
print(json.dumps([spent, int(kilobytes) / 1e6, found]))
"""
#: What is measured → its program, which is given a folder; and whether it is of the runs.
PROGRAMS = {
    "load, frame": "import ncexp; found = len(ncexp.load(sys.argv[1]).frame())",
    "load, table": "import ncexp; found = len(ncexp.load(sys.argv[1]).table())",
    "ncexp runs": "from ncexp.cli.runs import main; found = main(['--outputs', sys.argv[1]])",
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


def fill(folder: Path, count: int) -> None:
    """Write the runs; their files are as old as those of a sweep that has ended."""
    frame.NUMBERS = NUMBERS
    frame.write_runs(folder, min(FEW, count))
    models, keys = sorted(folder.iterdir()), random.Random(0)
    for place in range(FEW, count):
        model = models[place % len(models)]
        name, _, _ = model.name.rpartition("_")
        copy = folder / f"{name.partition('_seed')[0]}_seed{place}_{keys.getrandbits(40):010x}"
        shutil.copytree(model, copy)
        config = (copy / "config.yaml").read_text()
        (copy / "config.yaml").write_text(re.sub(r"(?m)^seed: .*$", f"seed: {place}", config))
    ended = time.time() - 3600
    for path in folder.rglob("*.*"):
        os.utime(path, (ended, ended))


def measured(checkout: Path, what: str, folder: Path) -> list[Any]:
    """Processor seconds, GB at most, and what came out."""
    command = [sys.executable, "-c", START + PROGRAMS[what] + END, str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    found: list[Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Print the table."""
    options = parser(__doc__, repeats=3)
    options.add_argument("--before", type=Path, default=HERE, help="the other checkout")
    options.add_argument("--runs", type=int, default=7500, help="7500")
    options.add_argument("--only", choices=PROGRAMS, help="one of the measurements")
    given = options.parse_args()
    count = 4 if given.short else given.runs
    names = ["robustness", "load, frame"] if given.short else [*PROGRAMS]
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if given.only != "robustness":
            fill(folder, count)
        for what in [given.only] if given.only else names:
            ways = {"before": given.before, "now": HERE}
            if what != "robustness":
                ways = {"before": given.before, "now, first": HERE, "now, again": HERE}
            found: dict[str, list[list[Any]]] = {way: [] for way in ways}
            for _ in range(given.repeats):
                for way, checkout in ways.items():
                    if way != "now, again":
                        for cache in folder.glob("*/.read.safetensors"):
                            cache.unlink()
                    found[way].append(measured(checkout, what, folder))
            medians = {way: statistics.median(one[0] for one in ones) for way, ones in found.items()}
            for way, ones in found.items():
                ratio, memory = medians[way] / medians["before"], max(one[1] for one in ones)
                rows.append(
                    {"what": what, "checkout": way, "process, s": medians[way], "ratio": ratio, "GB": memory}
                    | {"result": ones[0][2]}
                )
    report(f"{count} runs, {NUMBERS} numbers at 50 epochs", rows, given.json)


if __name__ == "__main__":
    main()
