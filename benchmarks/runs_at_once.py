"""Several trainings at once on one device, each a process: how many steps they take together, over one alone.

    python benchmarks/runs_at_once.py [--at-once 1 2 4 8] [--seconds 10] [--json FILE] [--short]

On a GPU: a sweep's runs share it (`hydra/launcher=local hydra.launcher.runs_at_once=8`, `runs_per_task` on SLURM).
Whether their kernels run side by side, not only in turns, is up to CUDA's multi-process service
(`nvidia-cuda-mps-control -d`). On a CPU the cores are divided among them, as the launchers do. All of k processes begin
together, train for the given time and count the steps.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from contextlib import suppress
from multiprocessing.synchronize import Barrier

import torch
from timing import device, parser, report
from workloads import assembled, generated

from ncexp.interruption import Interrupted

WORKLOADS: dict[str, tuple[tuple[int, int, int], tuple[str, ...]]] = {
    "digits, ResNet-8": ((1, 8, 8), ()),
    "MNIST-sized, ResNet-8": ((1, 28, 28), ()),
    "32×32, ResNet-18": ((3, 32, 32), ("architecture=resnet18",)),
}
NUM_EXAMPLES = 1280
ON_GPU = device().type == "cuda"


def train(name: str, threads: int, seconds: float, together: Barrier, answers: multiprocessing.Queue[float]) -> None:
    """One process: its steps a second, after a first step that does not count."""
    torch.set_num_threads(threads)
    shape, overrides = WORKLOADS[name]
    training = assembled(generated(NUM_EXAMPLES, shape), *overrides).training
    steps, until = 0, 0.0

    def time_is_up() -> bool:
        nonlocal steps
        steps += 1
        return time.perf_counter() > until

    for _ in range(2):  # warm, then for the answer
        together.wait()
        steps, began = 0, time.perf_counter()
        until = began + seconds
        while time.perf_counter() < until:
            with suppress(Interrupted):
                training.run_epoch(time_is_up)
        if ON_GPU:
            torch.cuda.synchronize()
        rate = steps / (time.perf_counter() - began)
    answers.put(rate)


def measure(name: str, at_once: int, seconds: float) -> float:
    """Steps a second of all processes together."""
    context = multiprocessing.get_context("spawn")
    together, answers = context.Barrier(at_once), context.Queue()
    threads = 1 if ON_GPU else max(1, len(os.sched_getaffinity(0)) // at_once)
    processes = [
        context.Process(target=train, args=(name, threads, seconds, together, answers)) for _ in range(at_once)
    ]
    for process in processes:
        process.start()
    rates = [answers.get() for _ in processes]
    for process in processes:
        process.join()
    return sum(rates)


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--at-once", type=int, nargs="+", default=[1, 2, 4, 8] if ON_GPU else [1, 2])
    options.add_argument("--seconds", type=float, default=10.0)
    arguments = options.parse_args()
    names = list(WORKLOADS)[:1] if arguments.short else list(WORKLOADS)
    rows: list[dict[str, object]] = []
    for name in names:
        alone = None
        for at_once in arguments.at_once:
            rate = measure(name, at_once, 0.5 if arguments.short else arguments.seconds)
            alone = alone or rate / at_once
            rows.append({"training": name, "at once": at_once, "steps a second, all": rate, "over one": rate / alone})
    report("Trainings at once on one device", rows, arguments.json)


if __name__ == "__main__":
    main()
