"""The full analysis of both splits over a bare forward pass of the same batches.

    python benchmarks/analysis.py [--repeats 7] [--json FILE] [--short]

The full analysis is what a run does at an evaluated epoch: one pass with the streaming statistics, then every metric of
collapse, NC4, the MSE decomposition and the SNR spectrum. `per_epoch` is the part of it that no example pays for
(eigenvalue problems and the like), from ready statistics.

A second table is of features in memory, beside the same quantities in plain float32 (float32_analysis.py), with the
error of tr Σ_W of either at a spread of 5e-5 of the class means. A third has the parts of the statistics of the same
features, in seconds of processor time: why they cost more than float32. A fourth has the parts at C = 10,000, P = 1024.
The last sets the analyses that are not on by default beside the evaluation of the default ones.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product
from statistics import median

import torch
from float32_analysis import analyse_in_float32
from timing import device, interleaved_medians, parser, report
from torch import nn
from workloads import NUM_CLASSES, generated

from ncexp.architectures.deep_resnet import deep_resnet
from ncexp.architectures.resnet import resnet
from ncexp.collapse import (
    ClassStatistics,
    ClassStatisticsAccumulator,
    LinearClassifier,
    decompose_mse,
    measure_collapse,
    nearest_class_center_mismatch,
    snr_spectrum,
)
from ncexp.measure import Ridge, Snapshot, Subject, evaluate, run_analysis
from ncexp.measure.analyses import (
    Calibration,
    CentralPathAnalysis,
    Decisions,
    Depth,
    LayerwiseCollapse,
    MSEDecompositionAnalysis,
    NeuralCollapse,
    SpectraAndNorms,
)
from ncexp.measure.evaluator import BATCH_SIZE
from ncexp.training import objective_of
from ncexp.training.losses import MSE
from ncexp.training.machine import allow_tf32

RIDGE = Ridge(5e-4, 5e-4, "")
OF_STATISTICS = [NeuralCollapse(), MSEDecompositionAnalysis(), CentralPathAnalysis()]


def forward(subject: Subject) -> None:
    """The bare pass."""
    subject.network.eval()
    with torch.no_grad():
        for data in subject.splits.values():
            for inputs, _ in data.batches(BATCH_SIZE):
                subject.network(inputs)


def analyse(subject: Subject) -> Snapshot:
    """The pass and every number of it."""
    snapshot = evaluate(subject, 1, {})
    for analysis in (*OF_STATISTICS, Decisions()):
        run_analysis(analysis, snapshot, subject)
    return snapshot


def analyse_statistics(snapshot: Snapshot) -> None:
    """Every number that no example pays for; of copies, since what is computed once for a snapshot is kept."""
    splits = {name: replace(split, statistics=replace(split.statistics)) for name, split in snapshot.splits.items()}
    fresh = replace(snapshot, splits=splits)
    for analysis in OF_STATISTICS:
        run_analysis(analysis, fresh, None)


def measure(name: str, network: nn.Module, num_examples: int, repeats: int) -> dict[str, object]:
    """One row of the table."""
    shape = (1, 8, 8) if "digits" in name else (3, 32, 32)
    dataset = generated(num_examples, shape, num_test=min(256, num_examples)).to(device())
    network = network.to(device(), memory_format=torch.channels_last)  # type: ignore[call-overload]
    subject = Subject(network, objective_of(MSE(NUM_CLASSES)), dataset, RIDGE)
    snapshot = analyse(subject)
    seconds = interleaved_medians(
        {
            "forward": lambda: forward(subject),
            "full": lambda: analyse(subject),
            "per_epoch": lambda: analyse_statistics(snapshot),
        },
        repeats,
    )
    return {
        "network": name,
        "examples": sum(map(len, subject.splits.values())),
        "forward, s": seconds["forward"],
        "full analysis, s": seconds["full"],
        "ratio": seconds["full"] / seconds["forward"],
        "per epoch, ms": seconds["per_epoch"] * 1000,
    }


def beside(name: str, network: nn.Module, num_examples: int, repeats: int) -> dict[str, object]:
    """One row: what each further analysis adds to an evaluation with the default ones, as a share of it."""
    shape = (1, 8, 8) if "digits" in name else (3, 32, 32)
    dataset = generated(num_examples, shape, num_test=min(256, num_examples)).to(device())
    network = network.to(device(), memory_format=torch.channels_last)  # type: ignore[call-overload]
    subject = Subject(network, objective_of(MSE(NUM_CLASSES)), dataset, RIDGE)
    stages = [name for name, module in network.named_modules() if type(module).__name__.endswith("Block")][:3]
    probes, snapshot = LayerwiseCollapse(modules=stages).probes, analyse(subject)
    probed = evaluate(subject, 1, probes)
    jobs: dict[str, Callable[[], object]] = {
        "default": lambda: analyse(subject),
        "spectra": lambda: run_analysis(SpectraAndNorms(), snapshot, None),
        "calibration": lambda: run_analysis(Calibration(), snapshot, subject),
        "bare pass": lambda: evaluate(subject, 1, {}),
        "probed pass": lambda: evaluate(subject, 1, probes),
        "layers": lambda: run_analysis(LayerwiseCollapse(modules=stages), probed, None),
        "depth": lambda: run_analysis(Depth(modules=stages), probed, subject),
    }
    seconds = interleaved_medians(jobs, repeats)
    row: dict[str, object] = {"network": name, "default, s": seconds["default"]}
    row |= {
        f"{one}, %": 100 * seconds[one] / seconds["default"] for one in ("spectra", "calibration", "layers", "depth")
    }
    return row | {"probes of the pass, %": 100 * (seconds["probed pass"] - seconds["bare pass"]) / seconds["default"]}


def accumulate(features: torch.Tensor, labels: torch.Tensor, num_classes: int) -> ClassStatistics:
    """The statistics, in the batches of a run."""
    accumulator = ClassStatisticsAccumulator(num_classes, features.shape[1], features.device)
    for rows, row_labels in zip(features.split(BATCH_SIZE), labels.split(BATCH_SIZE), strict=True):
        accumulator.update(rows, row_labels)
    return accumulator.compute()


def from_statistics(statistics: ClassStatistics, classifier: LinearClassifier) -> None:
    """Every number that needs no example."""
    measure_collapse(statistics, classifier, snr_spectrum(statistics))
    decompose_mse(statistics, classifier, 5e-4)
    decompose_mse(statistics, classifier, 0.0)


def in_memory(num_examples: int, spread: float, repeats: int) -> dict[str, object]:
    """One row: features of P = 512 in memory, C = 10, ours beside plain float32."""
    labels = (torch.arange(num_examples) % NUM_CLASSES).to(device())
    means = torch.randn(NUM_CLASSES, 512, device=device())
    features = means[labels] + spread * torch.randn(num_examples, 512, device=device())
    classifier = LinearClassifier(means + 0.1 * torch.randn_like(means), torch.zeros(NUM_CLASSES, device=device()))
    statistics = accumulate(features, labels, NUM_CLASSES)
    truth = float((features.double() - statistics.class_means[labels]).square().sum() / num_examples)

    def ours() -> None:
        fresh = accumulate(features, labels, NUM_CLASSES)
        from_statistics(fresh, classifier)
        nearest_class_center_mismatch(features, classifier, fresh.class_means)

    def float32() -> float:
        return analyse_in_float32(features, labels, classifier.weight.float(), BATCH_SIZE)["within_trace"]

    seconds = interleaved_medians(
        {
            "ours": ours,
            "float32": float32,
            "statistics": lambda: accumulate(features, labels, NUM_CLASSES),
            "nc4": lambda: nearest_class_center_mismatch(features, classifier, statistics.class_means),
            # A copy, since what is computed once for a set of statistics is kept.
            "rest": lambda: from_statistics(replace(statistics), classifier),
        },
        repeats,
    )
    return {
        "spread": spread,
        "examples": num_examples,
        "ours, s": seconds["ours"],
        "of it statistics, s": seconds["statistics"],
        "NC4, s": seconds["nc4"],
        "from statistics, s": seconds["rest"],
        "plain float32, s": seconds["float32"],
        "ratio": seconds["ours"] / seconds["float32"],
        "our error of tr Σ_W": abs(float(statistics.within_class_covariance.trace()) / truth - 1),
        "float32's": abs(float32() / truth - 1),
    }


def profile(num_examples: int, repeats: int) -> list[dict[str, object]]:
    """Seconds of processor time of the parts of the statistics: P = 512, C = 10, 4096 rows at a time."""
    labels = torch.arange(num_examples) % NUM_CLASSES
    features = torch.randn(num_examples, 512)
    blocks, moments = features.double().split(4096), torch.zeros(512, 512, dtype=torch.float64)
    means, narrow = torch.randn(NUM_CLASSES, 512, dtype=torch.float64), torch.zeros(512, 512)

    def symmetric(batches: Sequence[torch.Tensor], sums: torch.Tensor) -> None:
        for rows, start in product(batches, range(0, 512, 128)):
            sums[: start + 128, start : start + 128].addmm_(rows[:, : start + 128].T, rows[:, start : start + 128])

    parts: dict[str, Callable[[], object]] = {
        "statistics": lambda: accumulate(features, labels, NUM_CLASSES),
        "symmetric product, float64": lambda: symmetric(blocks, moments),
        "the same, float32": lambda: symmetric(features.split(4096), narrow),
        "gathering of class means": lambda: [means.index_select(0, at) for at in labels.split(4096)],
    }
    seconds: dict[str, list[float]] = {name: [] for name in parts}
    for _ in range(repeats):
        for name, part in parts.items():
            began = time.process_time()
            part()
            seconds[name].append(time.process_time() - began)
    medians = {name: median(values) for name, values in seconds.items()}
    inside = medians["symmetric product, float64"] + medians["gathering of class means"]
    medians["rest of the statistics"] = medians["statistics"] - inside
    return [{"part": name, "processor, s": value} for name, value in medians.items()]


def many_classes(num_classes: int, num_features: int) -> list[dict[str, object]]:
    """Seconds of processor time of each part with many classes, in the order of a run."""
    means = torch.randn(num_classes, num_features)
    labels = torch.arange(3 * num_classes) % num_classes
    statistics = accumulate(means[labels] + torch.randn(len(labels), num_features), labels, num_classes)
    classifier = LinearClassifier(means + torch.randn_like(means), torch.randn(num_classes))
    parts: dict[str, Callable[[], object]] = {
        "SNR spectrum": lambda: snr_spectrum(statistics),
        "decomposition, λ = 5e-4": lambda: decompose_mse(statistics, classifier, 5e-4),
        "decomposition, λ = 0": lambda: decompose_mse(statistics, classifier, 0.0),
    }
    rows: list[dict[str, object]] = []
    for name, part in parts.items():
        began = time.process_time()
        part()
        rows.append({"part": name, "C": num_classes, "P": num_features, "processor, s": time.process_time() - began})
    spectrum, began = snr_spectrum(statistics), time.process_time()
    measure_collapse(statistics, classifier, spectrum)
    rows.append(
        {"part": "every metric", "C": num_classes, "P": num_features, "processor, s": time.process_time() - began}
    )
    return rows


def main() -> None:
    arguments = parser(__doc__, repeats=7).parse_args()
    torch.manual_seed(0)
    allow_tf32(False)
    few, many = (140, 16) if arguments.short else (1400, 50_000 if device().type == "cuda" else 4096)
    small, large = resnet((1, 8, 8), NUM_CLASSES), deep_resnet((3, 32, 32), NUM_CLASSES, depth=18)
    rows = [
        measure("digits ResNet-8, P = 64", small, few, arguments.repeats),
        measure("ResNet-18 on 32×32, P = 512", large, many, arguments.repeats),
    ]
    title = "Full analysis of both splits over a bare forward pass"
    report(title, rows, arguments.json)
    further = [
        beside("digits ResNet-8, P = 64", small, few, arguments.repeats),
        beside("ResNet-18 on 32×32, P = 512", large, many, arguments.repeats),
    ]
    report("\nFurther analyses, in percent of the evaluation with the default ones", further, None)
    more = print_more(arguments)
    more.append({"title": "Further analyses", "rows": further})
    if arguments.json:
        written = json.loads(arguments.json.read_text()) | {"more": more}
        arguments.json.write_text(json.dumps(written, indent=2) + "\n")


def print_more(arguments: argparse.Namespace) -> list[dict[str, object]]:
    """The tables that need no network, printed; [{title, rows}]."""
    num_examples = 2000 if arguments.short else 50_000
    tables = {
        "Full analysis of features in memory, C = 10, P = 512": [
            in_memory(num_examples, spread, arguments.repeats) for spread in (1.0, 5e-5)
        ],
        "Parts of the statistics of features in memory": profile(num_examples, arguments.repeats),
        "Many classes": many_classes(*((200, 64) if arguments.short else (10_000, 1024))),
    }
    for title, rows in tables.items():
        report(f"\n{title}", rows, None)
    return [{"title": title, "rows": rows} for title, rows in tables.items()]


if __name__ == "__main__":
    main()
