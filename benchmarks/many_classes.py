"""A vocabulary by the default analyses: C = 50,000 classes, P = 768, on one core.

    python benchmarks/many_classes.py [--classes 50000] [--features 768] [--examples 100000] [--decided 2000]
                                      [--layer-norm] [--json FILE] [--short]

Synthetic features of every class, in float32; --layer-norm: normalised, as those of most language models, so that they
lie in P − 1 dimensions. Each line has the wall seconds of a part, its seconds of processor time (what counts on a
machine that is shared) and the memory that the process has had at most so far. What grows with the examples is measured
of the first `--decided` ones: `logits` is the last layer itself, what a training pays for them; `evaluated` is that
with loss, error and the comparison with W h + b, `decisions` the analysis of this name.
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
from torch.nn.functional import layer_norm

from ncexp.architectures import departure
from ncexp.collapse import ClassStatisticsAccumulator
from ncexp.measure import LoadedData, LoadedExamples, Ridge, Snapshot, Subject, run_analysis
from ncexp.measure.analyses import CentralPathAnalysis, Decisions, MSEDecompositionAnalysis, NeuralCollapse
from ncexp.measure.snapshot import SplitSnapshot, as_stored
from ncexp.training import SINGLE, objective_of
from ncexp.training.losses import CrossEntropy

Result = TypeVar("Result")
BATCH = 512
Batch = tuple[Tensor, Tensor]


def batches(means: Tensor, num_examples: int, normalised: bool) -> Iterator[Batch]:
    """float32 features about the class means, each class at least once, in random order."""
    num_classes = len(means)
    more = torch.randint(num_classes, (num_examples - num_classes,))
    for labels in torch.cat([torch.arange(num_classes), more])[torch.randperm(num_examples)].split(BATCH):
        features = means[labels] + torch.randn(len(labels), means.shape[1])
        yield layer_norm(features, means.shape[1:]) if normalised else features, labels


class LastLayer(nn.Module):
    """Features as inputs → (logits, features)."""

    def __init__(self, means: Tensor) -> None:
        super().__init__()
        self.classifier = nn.Linear(means.shape[1], len(means), bias=False)
        with torch.no_grad():  # on its way to the class means
            self.classifier.weight.copy_(means).add_(torch.randn(means.shape)).mul_(means.shape[1] ** -0.5)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        return self.classifier(features), features


def statistics(given: Iterator[Batch], num_classes: int, num_features: int, decided: int) -> SplitSnapshot:
    """Of all batches; the first `decided` examples are kept."""
    accumulator, kept = ClassStatisticsAccumulator(num_classes, num_features), list[Batch]()
    for features, labels in given:
        accumulator.update(features, labels)
        if len(kept) * BATCH < decided:
            kept.append((features, labels))
    rows, classes = (torch.cat(parts) for parts in zip(*kept, strict=True))
    return SplitSnapshot(as_stored(accumulator.compute()), 0.0, 0.0, {}, features=rows, labels=classes)


@torch.no_grad()
def logits(network: LastLayer, split: SplitSnapshot) -> None:
    """Of the kept examples, and nothing else."""
    assert split.features is not None
    for features in split.features.split(BATCH):
        network(features)


@torch.no_grad()
def evaluated(network: LastLayer, split: SplitSnapshot) -> None:
    """What the evaluation pass does with the logits of the kept examples."""
    assert split.features is not None
    assert split.labels is not None
    loss, last = CrossEntropy(network.classifier.out_features), network.classifier
    for features, labels in zip(split.features.split(BATCH), split.labels.split(BATCH), strict=True):
        found, _ = network(features)
        loss(found, labels)
        found.argmax(1)
        for rows, inputs in zip(found.split(160), features.split(160), strict=True):
            departure(rows, inputs, last.weight, last.bias)


def main() -> None:
    """Measure the parts, one after the other."""
    options = parser(__doc__)
    for name, value in {"classes": 50_000, "features": 768, "examples": 100_000, "decided": 2_000}.items():
        options.add_argument(f"--{name}", type=int, default=value)
    options.add_argument("--layer-norm", action="store_true", help="features of P - 1 dimensions")
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

    means = torch.randn(*sizes[:2])
    network, given = LastLayer(means), batches(means, sizes[2], chosen.layer_norm)
    split = timed("statistics", lambda: statistics(given, *sizes[:2], chosen.decided))
    del means
    examples = LoadedExamples("train", [(split.features, split.labels)], torch.device("cpu"), SINGLE)
    data, ridge = LoadedData({"train": examples}, sizes[0]), Ridge(0.0 if chosen.layer_norm else 5e-4, 0.0, "")
    subject = Subject(network, objective_of(CrossEntropy(sizes[0])), data, ridge)
    snapshot, numbers = Snapshot(1, {"train": split}, subject.classifier, ridge), {}
    for analysis in (NeuralCollapse(), MSEDecompositionAnalysis(), CentralPathAnalysis(), Decisions()):
        name = f"{type(analysis).__name__}{f' of {len(split.features):,}' * isinstance(analysis, Decisions)}"
        numbers |= timed(name, lambda analysis=analysis: run_analysis(analysis, snapshot, subject))
    with tempfile.TemporaryDirectory() as folder:
        timed("snapshot written", lambda: snapshot.save(Path(folder) / "snapshot", "0" * 10))
    timed("weights of labels", lambda: subject.label_weights)
    timed(f"logits of {len(split.features):,}", lambda: logits(network, split))
    timed(f"evaluated, {len(split.features):,}", lambda: evaluated(network, split))
    print(f"C = {sizes[0]:,}, P = {sizes[1]}, {sizes[2]:,} examples; {machine()}")
    print(*(f"{name} {value!r}" for name, value in numbers.items()), sep="\n")
    if chosen.json:
        chosen.json.write_text(json.dumps({"parts": rows, "numbers": numbers}, indent=1))


if __name__ == "__main__":
    main()
