"""A training epoch: ours, a minimal loop by hand, and the usual loop over a DataLoader with torchvision's transforms.

    python benchmarks/training_epoch.py [--repeats 7] [--json FILE] [--short]

By hand: the tensors on the device already, a permutation, forward, backward, optimizer, nothing else; network, layout,
optimizer and the keeping of memory are ours, so that the loops alone differ. The usual loop: images that become tensors
one by one, torch's defaults for layout and optimizer, the loss read at every step; with no worker process and with two.
bf16 is left out on a processor without instructions for it.
Every contender is a process of its own, so that none has what another has set for its process; they take turns.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import torch
from PIL import Image
from timing import bf16_pays, device, interleaved_medians, parser, report
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset
from torchvision import transforms
from workloads import NUM_CLASSES, assembled, configured, generated, train_epoch

from ncexp.datasets import Split

BATCH_SIZE = 128


@dataclass(frozen=True)
class Workload:
    """Images of one shape, and the network that is trained on them."""

    title: str
    shape: tuple[int, int, int]
    num_examples: int
    overrides: tuple[str, ...] = ()


WORKLOADS = [
    Workload("digits, ResNet-8", (1, 8, 8), 1400),
    Workload("MNIST-sized, ResNet-8", (1, 28, 28), 60_000 if device().type == "cuda" else 5120),
]
ON_A_GPU = [Workload("32×32, ResNet-18", (3, 32, 32), 50_000, ("architecture=resnet18",))]


class Pictures(TorchDataset[tuple[Tensor, int]]):
    """What torchvision's MNIST and CIFAR10 do: bytes in memory, a picture of the library for each, a transform."""

    def __init__(self, shape: tuple[int, int, int], num_examples: int) -> None:
        height, width = shape[1:]
        size = (num_examples, height, width, 3) if shape[0] == 3 else (num_examples, height, width)
        self.pixels = np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8)
        mean, deviation = (0.5,) * shape[0], (0.25,) * shape[0]
        self.transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize(mean, deviation)])

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.pixels[index])), index % NUM_CLASSES


def ours(workload: Workload, *overrides: str) -> Callable[[], None]:
    assembly = assembled(generated(workload.num_examples, workload.shape), *workload.overrides, *overrides)
    return partial(train_epoch, assembly)


def by_hand(workload: Workload) -> Callable[[], None]:
    training = assembled(generated(workload.num_examples, workload.shape), *workload.overrides).training
    network, loss, optimizer, data = training.network, training.loss, training.optimizer, training.data
    assert isinstance(data, Split)

    def epoch() -> None:
        network.train()
        for chosen in torch.randperm(len(data), device=data.labels.device).split(BATCH_SIZE):
            logits, features = network(data.inputs[chosen])
            optimizer.zero_grad()
            loss(logits, data.labels[chosen], features).backward()
            optimizer.step()

    return epoch


def usual(workload: Workload, num_workers: int) -> Callable[[], None]:
    config = configured(*workload.overrides)
    network = config.architecture.build(input_shape=workload.shape, num_classes=NUM_CLASSES).to(device())
    objective = config.loss.build(num_classes=NUM_CLASSES)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    pictures = Pictures(workload.shape, workload.num_examples)
    on_gpu = device().type == "cuda"
    # This process was spawned, and would spawn its workers; a program that a person starts forks them, in a moment.
    fork = "fork" if num_workers else None
    loader = DataLoader(
        pictures, BATCH_SIZE, shuffle=True, num_workers=num_workers, pin_memory=on_gpu, multiprocessing_context=fork
    )

    def epoch() -> None:
        network.train()
        total, right = 0.0, 0
        for inputs, labels in loader:
            inputs, labels = inputs.to(device()), labels.to(device())
            logits, _ = network(inputs)
            loss = objective(logits, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(labels)
            right += int((logits.argmax(1) == labels).sum())

    return epoch


CONTENDERS: dict[str, Callable[[Workload], Callable[[], None]]] = {
    "ours": ours,
    "by hand": by_hand,
    "DataLoader": partial(usual, num_workers=0),
    "DataLoader, 2 workers": partial(usual, num_workers=2),
    "ours, compile=true": lambda workload: ours(workload, "compile=true"),
}
if bf16_pays():
    CONTENDERS["ours, precision=bf16"] = lambda workload: ours(workload, "precision=bf16")
if device().type == "cuda":
    CONTENDERS["ours, precision=tf32"] = lambda workload: ours(workload, "precision=tf32")


def serve(name: str, workload: Workload, connection: Connection) -> None:
    """The process of a contender: an epoch for each message, until the connection is closed."""
    epoch = CONTENDERS[name](workload)
    while connection.recv():
        epoch()
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()
        connection.send(True)


def measure(workload: Workload, names: list[str], repeats: int, start: str = "spawn") -> list[dict[str, object]]:
    """One row for each contender; start: how multiprocessing starts its process."""
    context: Any = multiprocessing.get_context(start)
    ends, processes = {}, []
    for name in names:
        ends[name], theirs = context.Pipe()
        processes.append(context.Process(target=serve, args=(name, workload, theirs)))
        processes[-1].start()
        theirs.close()  # so that the death of the process is heard of

    def turn(name: str) -> None:
        ends[name].send(True)
        ends[name].recv()

    seconds = interleaved_medians({name: partial(turn, name) for name in names}, repeats)
    for name, process in zip(names, processes, strict=True):
        ends[name].send(False)
        process.join()
    steps = -(-workload.num_examples // BATCH_SIZE)
    return [
        {
            "training": workload.title,
            "loop": name,
            "ms a step": seconds[name] / steps * 1000,
            "of ours": seconds[name] / seconds["ours"],
        }
        for name in names
    ]


def main() -> None:
    arguments = parser(__doc__, repeats=7).parse_args()
    workloads = WORKLOADS + (ON_A_GPU if device().type == "cuda" else [])
    names = [name for name in CONTENDERS if not (arguments.short and "compile" in name)]
    if arguments.short:
        workloads = [Workload(w.title, w.shape, BATCH_SIZE + 2, w.overrides) for w in workloads[:1]]
    start = "fork" if arguments.short and device().type == "cpu" else "spawn"  # which imports everything again
    rows = [row for workload in workloads for row in measure(workload, names, arguments.repeats, start)]
    report("An epoch of training, batches of 128", rows, arguments.json)


if __name__ == "__main__":
    main()
