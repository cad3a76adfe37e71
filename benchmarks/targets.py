"""What issue after issue was to become faster, against an older checkout: start, figures, short runs, sweeps, memory.

    git worktree add /tmp/before 4b2c925
    python benchmarks/targets.py /tmp/before [--only start,job] [--repeats 3] [--json FILE] [--short]

Without a checkout only this one is measured. Each workload is a process, the checkouts in turn; medians of seconds,
of seconds of processor time (with all processes that it started and waited for; on a busy machine this is the one to
read), and of the peak resident size of its largest process.

start    import torch; the command to its first step; without tracking
job      the main job, and when its first picture was there
figures  those of one run with 20 evaluated epochs, drawn in a process that has imported everything
second   from the task to its first step, of the second run of a process
further  in a sweep of one process, each run of one epoch more: beyond it a step takes 10 ms
short    200 runs of one epoch: `ncexp -m epochs=1 architecture=mlp seed=range(200)`
sweep    the 18 runs of sweep=quick in one process, and two at once
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from timing import parser, report

HERE = Path(__file__).parents[1]
FIRST_STEP = ["optimizer._target_=start_up.sgd_that_ends_the_process", "tracking.enabled=false"]
SHORT_RUN = ["architecture=mlp", "epochs=1", "analysis=[collapse]"]
#: Draws the figures of the run that its argument trained, and prints the processor time of it.
DRAWS = """
import sys, time, pathlib, shutil
from ncexp.record import RunDirectory
from ncexp.report import draw_run
import matplotlib.pyplot
(config,) = pathlib.Path("outputs").glob("*/config.yaml")
for _ in range(2):  # the second time all is imported
    shutil.rmtree(config.parent / "figures", ignore_errors=True)
    began = time.process_time()
    draw_run(RunDirectory(config.parent))
print(time.process_time() - began)
"""
#: Trains two runs of an epoch, and prints the processor time from the second's beginning to its first step.
SECOND = """
import io, sys, time
from rich.console import Console
from ncexp.config import composing
from ncexp.launching.task import attempt
from ncexp.training.loop import Training
steps, step = [], Training._step
def noted(self, *batch):
    steps.append(time.process_time())
    return step(self, *batch)
Training._step = noted
for seed in range(2):
    steps.clear()
    words = [*sys.argv[1:], "tracking.enabled=false", f"seed={seed}"]
    compose = getattr(composing, "compose_mapping", None) or composing.compose_plain  # as 0.2 called it
    raw = compose("config", words)  # a worker gets it composed
    began = time.process_time()
    attempt(raw, Console(file=io.StringIO()))
print(steps[0] - began)
"""
Numbers = dict[str, float]


def process(checkout: Path, folder: Path, *arguments: str, code: str = "") -> tuple[Numbers, str]:
    """What a Python process took that imports ncexp from this checkout, and what it printed."""
    path = os.pathsep.join([str(checkout), str(Path(__file__).parent)])
    command = [sys.executable, *(["-c", code] if code else ["-m", "ncexp"]), *arguments]
    began, first = time.perf_counter(), 0.0
    with tempfile.TemporaryFile() as printed:
        started = subprocess.Popen(command, cwd=folder, env={**os.environ, "PYTHONPATH": path}, stdout=printed)
        while (ended := os.wait4(started.pid, os.WNOHANG))[0] == 0:
            time.sleep(0.02)
            if not first and any(folder.glob("outputs/*/figures/*.png")):
                first = time.perf_counter() - began
        wall, (_, status, usage) = time.perf_counter() - began, ended
        started.returncode = os.waitstatus_to_exitcode(status)
        printed.seek(0)
        text = printed.read().decode()
    if started.returncode:
        raise SystemExit(f"{' '.join(command)} in {checkout}: exit code {started.returncode}\n{text}")
    numbers = {"s": wall, "processor s": usage.ru_utime + usage.ru_stime, "peak MB": usage.ru_maxrss / 1000}
    return numbers | ({"first picture s": first} if first else {}), text


def start(checkout: Path, folder: Path, short: bool) -> Iterator[tuple[str, Numbers]]:
    del short
    yield "import torch", process(checkout, folder, code="import torch")[0]
    yield "command to first step", process(checkout, folder, *FIRST_STEP)[0]


def job(checkout: Path, folder: Path, short: bool) -> Iterator[tuple[str, Numbers]]:
    yield "main job", process(checkout, folder, *(["epochs=2", "tracking.enabled=false"] if short else []))[0]


def figures(checkout: Path, folder: Path, short: bool) -> Iterator[tuple[str, Numbers]]:
    epochs = 2 if short else 20
    evaluated = [f"evaluate_at=[{epochs}]"] if short else []
    process(checkout, folder, f"epochs={epochs}", "tracking.enabled=false", *evaluated)
    yield "figures of a run", {"processor s": float(process(checkout, folder, code=DRAWS)[1])}


def second(checkout: Path, folder: Path, short: bool) -> Iterator[tuple[str, Numbers]]:
    del short
    _, printed = process(checkout, folder, *SHORT_RUN, code=SECOND)
    yield "task to first step, second run", {"processor s": float(printed)}


def further(checkout: Path, folder: Path, short: bool) -> Iterator[tuple[str, Numbers]]:
    few, many = (1, 2) if short else (2, 10)
    took = [
        process(checkout, folder, "-m", *SHORT_RUN, "tracking.enabled=false", f"seed=range({first},{first + count})")[0]
        for first, count in ((0, few), (few, many))
    ]
    yield (
        "a further run of a sweep",
        {name: (took[1][name] - took[0][name]) / (many - few) for name in ("s", "processor s")},
    )


def short(checkout: Path, folder: Path, short: bool) -> Iterator[tuple[str, Numbers]]:
    count = 2 if short else 200
    yield f"{count} runs of an epoch", process(checkout, folder, "-m", *SHORT_RUN, f"seed=range({count})")[0]


def sweep(checkout: Path, folder: Path, short: bool) -> Iterator[tuple[str, Numbers]]:
    words = ["-m", *SHORT_RUN, "seed=0,1"] if short else ["-m", "sweep=quick"]
    yield "sweep, one process", process(checkout, folder, *words, "outputs=alone")[0]
    local = ["hydra/launcher=local", "hydra.launcher.runs_at_once=2", "outputs=local"]
    yield "sweep, two at once", process(checkout, folder, *words, *local)[0]


WORKLOADS: Mapping[str, Callable[[Path, Path, bool], Iterator[tuple[str, Numbers]]]] = {
    one.__name__: one for one in (start, job, figures, second, further, short, sweep)
}


def main() -> None:
    options = parser(__doc__, repeats=3)
    options.add_argument("before", type=Path, nargs="?", help="an older checkout")
    options.add_argument("--only", default=",".join(WORKLOADS), help="workloads, with commas between")
    given = options.parse_args()
    checkouts = {"now": HERE, **({"before": given.before.resolve()} if given.before else {})}
    rows: list[dict[str, object]] = []
    for workload in given.only.split(","):
        found: dict[tuple[str, str], dict[str, list[float]]] = {}
        for _ in range(given.repeats):
            for name, checkout in checkouts.items():
                with tempfile.TemporaryDirectory() as folder:
                    for what, numbers in WORKLOADS[workload](checkout, Path(folder), given.short):
                        for number, value in numbers.items():
                            found.setdefault((what, number), {}).setdefault(name, []).append(value)
        for (what, number), values in found.items():
            medians = {name: statistics.median(some) for name, some in values.items()}
            ratio = medians["now"] / medians["before"] if len(medians) == 2 and medians["before"] else "–"
            rows.append(
                {
                    "what": what,
                    "number": number,
                    "before": medians.get("before", "–"),
                    "now": medians["now"],
                    "ratio": ratio,
                }
            )
            print(f"{what}, {number}: {medians}", file=sys.stderr, flush=True)
    report("Against an older checkout" if given.before else "This checkout", rows, given.json)


if __name__ == "__main__":
    main()
