"""One evaluation of a vocabulary by the default analyses: C = 50,000 classes, P = 768, on one core.

    python benchmarks/many_classes.py [--classes 50000] [--features 768] [--examples 100000] [--json FILE] [--short]

Synthetic features, drawn again at each reading, go through a last linear layer of C outputs; all that `ncexp.Recorder`
does at an epoch follows. Each line has the wall seconds of a part, its seconds of processor time (what counts on a
machine that is shared) and the memory that the process has had at most so far. `logits alone` is the network's own
work: what a training would pay for the same examples.
"""

from __future__ import annotations

import json
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import torch
from timing import machine, parser
from torch import Tensor, nn

from ncexp.measure import LoadedData, LoadedExamples, Ridge, Subject, evaluate, run_analysis
from ncexp.measure.analyses import (
    CentralPathAnalysis,
    Decisions,
    LossAndError,
    MSEDecompositionAnalysis,
    NeuralCollapse,
)
from ncexp.training import SINGLE, objective_of
from ncexp.training.losses import CrossEntropy

Result = TypeVar("Result")
BATCH = 512


class Batches:
    """float32 features about the class means, each class at least once, in random order; the same at each reading."""

    def __init__(self, means: Tensor, num_examples: int) -> None:
        self._means, num_classes = means, len(means)
        more = torch.randint(num_classes, (num_examples - num_classes,))
        self._labels = torch.cat([torch.arange(num_classes), more])[torch.randperm(num_examples)]

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        generator = torch.Generator().manual_seed(1)
        for labels in self._labels.split(BATCH):
            yield self._means[labels] + torch.randn(len(labels), self._means.shape[1], generator=generator), labels


class LastLayer(nn.Module):
    """Features as inputs → (logits, features)."""

    def __init__(self, num_classes: int, num_features: int, means: Tensor) -> None:
        super().__init__()
        self.classifier = nn.Linear(num_features, num_classes, bias=False)
        with torch.no_grad():  # on its way to the class means
            self.classifier.weight.copy_(means).add_(torch.randn(means.shape)).mul_(num_features**-0.5)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        return self.classifier(features), features


def subject(num_classes: int, num_features: int, num_examples: int) -> Subject:
    """What is evaluated."""
    means = torch.randn(num_classes, num_features)
    examples = LoadedExamples("train", Batches(means, num_examples), torch.device("cpu"), SINGLE)
    network = LastLayer(num_classes, num_features, means)
    data = LoadedData({"train": examples}, num_classes)
    return Subject(
        network, objective_of(CrossEntropy(num_classes)), data, Ridge(5e-4, 5e-4, ""), SINGLE, shared_out=True
    )


@torch.no_grad()
def logits_alone(given: Subject) -> None:
    """The network over all examples, and nothing else."""
    for features, _ in given.splits["train"].batches():
        given.network(features)


def main() -> None:
    """Measure the parts, one after the other."""
    options = parser(__doc__)
    for name, value in {"classes": 50_000, "features": 768, "examples": 100_000}.items():
        options.add_argument(f"--{name}", type=int, default=value)
    chosen = options.parse_args()
    sizes = (100, 32, 1000) if chosen.short else (chosen.classes, chosen.features, chosen.examples)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rows: list[dict[str, object]] = []

    def timed(part: str, work: Callable[[], Result]) -> Result:
        wall, cpu = time.perf_counter(), time.process_time()
        result = work()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        rows.append({"part": part, "wall": wall, "cpu": cpu, "peak": peak})
        print(f"{part:24s} wall {wall:7.1f} s   cpu {cpu:7.1f} s   peak {peak:5.2f} GiB", flush=True)
        return result

    given = timed("made up", lambda: subject(*sizes))
    timed("logits alone", lambda: logits_alone(given))
    snapshot = timed("evaluation pass", lambda: evaluate(given, 1, {}))
    numbers = {}
    for analysis in (LossAndError(), NeuralCollapse(), MSEDecompositionAnalysis(), CentralPathAnalysis(), Decisions()):
        name = type(analysis).__name__
        numbers |= timed(name, lambda analysis=analysis: run_analysis(analysis, snapshot, given))
    with tempfile.TemporaryDirectory() as folder:
        timed("snapshot written", lambda: snapshot.save(Path(folder) / "snapshot", "0" * 10))
    print(f"C = {sizes[0]:,}, P = {sizes[1]}, {sizes[2]:,} examples; {machine()}")
    print(*(f"{name} {value!r}" for name, value in numbers.items()), sep="\n")
    if chosen.json:
        chosen.json.write_text(json.dumps({"parts": rows, "numbers": numbers}, indent=1))


if __name__ == "__main__":
    main()
