"""Several trainings at once on one device, each a process: how many steps they take together, over one alone.

    python benchmarks/runs_at_once.py [--at-once 1 2 4 8] [--seconds 5] [--repeats 3] [--json FILE] [--short]

On a GPU: a sweep's runs share it (`hydra/launcher=local hydra.launcher.runs_at_once=8`, `runs_per_task` on SLURM).
Whether their kernels run side by side, not only in turns, is up to CUDA's multi-process service
(`nvidia-cuda-mps-control -d`). On a CPU the cores are divided among them, as the launchers do. k processes begin
together, train for the given time and count their steps; the numbers of processes take turns.
"""

from __future__ import annotations

import multiprocessing
import os
import statistics
import time
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

import torch
from timing import device, parser, report
from workloads import assembled, generated

from ncexp.training import Interrupted, Training

WORKLOADS: dict[str, tuple[tuple[int, int, int], tuple[str, ...]]] = {
    "digits, ResNet-8": ((1, 8, 8), ()),
    "MNIST-sized, ResNet-8": ((1, 28, 28), ()),
    "32×32, ResNet-18": ((3, 32, 32), ("architecture=resnet18",)),
}
NUM_EXAMPLES = 1280
ON_GPU = device().type == "cuda"


def serve(name: str, wire: Connection) -> None:
    """A process: at each request for (threads, seconds) it trains and returns its steps a second."""
    shape, overrides = WORKLOADS[name]
    training = assembled(generated(NUM_EXAMPLES, shape), *overrides).training
    with suppress(EOFError):
        while True:
            threads, seconds = wire.recv()
            torch.set_num_threads(threads)
            wire.send(steps_a_second(training, seconds))


def steps_a_second(training: Training, seconds: float) -> float:
    steps, began = 0, time.perf_counter()

    def time_is_up() -> bool:
        nonlocal steps
        steps += 1
        return time.perf_counter() > began + seconds

    while time.perf_counter() < began + seconds:
        with suppress(Interrupted):
            training.run_epoch(time_is_up)
    return steps / (time.perf_counter() - began)


def measure(name: str, at_once: list[int], seconds: float, repeats: int, start: str = "spawn") -> dict[int, float]:
    """Median steps a second of k processes together, for each k in turn, after a round that does not count.

    start: how multiprocessing starts them.
    """
    context: Any = multiprocessing.get_context(start)
    wires: list[Connection] = []
    for _ in range(max(at_once)):
        wire, theirs = context.Pipe()
        context.Process(target=serve, args=(name, theirs), daemon=True).start()
        theirs.close()
        wires.append(wire)
    rates: dict[int, list[float]] = {count: [] for count in at_once}
    for round_number in range(1 + repeats):
        for count in at_once:
            threads = 1 if ON_GPU else max(1, len(os.sched_getaffinity(0)) // count)
            for wire in wires[:count]:
                wire.send((threads, seconds))
            rate = sum(wire.recv() for wire in wires[:count])
            if round_number > 0:
                rates[count].append(rate)
    for wire in wires:
        wire.close()
    return {count: statistics.median(values) for count, values in rates.items()}


def main() -> None:
    options = parser(__doc__, repeats=3)
    options.add_argument("--at-once", type=int, nargs="+", default=[1, 2, 4, 8] if ON_GPU else [1, 2])
    options.add_argument("--seconds", type=float, default=5.0)
    arguments = options.parse_args()
    names = list(WORKLOADS)[:1] if arguments.short else list(WORKLOADS)
    rows: list[dict[str, object]] = []
    for name in names:
        seconds, start = (0.2, "fork") if arguments.short and not ON_GPU else (arguments.seconds, "spawn")
        rates = measure(name, arguments.at_once, seconds, arguments.repeats, start)
        for count, rate in rates.items():
            over_one = rate / (rates[min(rates)] / min(rates))
            rows.append({"training": name, "at once": count, "steps a second, all": rate, "over one": over_one})
    report("Trainings at once on one device", rows, arguments.json)


if __name__ == "__main__":
    main()
