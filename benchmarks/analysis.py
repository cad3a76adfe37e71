"""The full analysis of a split over a bare forward pass of the same batches.

    python benchmarks/analysis.py [--repeats 7] [--json FILE] [--short]

The full analysis is what a run does at an analysis epoch: one pass with the streaming statistics, then every metric of
collapse, NC4, the MSE decomposition and the SNR spectrum. `per_epoch` is the part of it that no example pays for
(eigenvalue problems and the like), from ready statistics.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import torch
from timing import interleaved_medians, report
from torch import nn

from ncexp.analyses import CentralPathAnalysis, MSEDecompositionAnalysis, NeuralCollapse, Probes, take_look
from ncexp.analyses.look import BATCH_SIZE, Look
from ncexp.architectures.deep_resnet import deep_resnet
from ncexp.architectures.resnet import resnet
from ncexp.datasets import Split
from ncexp.losses import MSE
from ncexp.ridge import Ridge

NUM_CLASSES = 10
RIDGE = Ridge(5e-4, 5e-4, "")
ANALYSES = [NeuralCollapse(), MSEDecompositionAnalysis(), CentralPathAnalysis()]


def generated(num_examples: int, shape: tuple[int, int, int]) -> Split:
    """Balanced noise images: the cost of a pass does not depend on what the pixels show."""
    generator = torch.Generator().manual_seed(0)
    return Split(torch.randn(num_examples, *shape, generator=generator), torch.arange(num_examples) % NUM_CLASSES)


def forward(network: nn.Module, data: Split) -> None:
    """The bare pass."""
    network.eval()
    with torch.no_grad():
        for inputs, _ in data.batches(BATCH_SIZE):
            network(inputs)


def look_at(network: nn.Module, data: Split) -> Look:
    """The pass with everything an analysis may ask for."""
    probes = Probes(network, {}, NUM_CLASSES)
    return take_look("train", 1, network, data, MSE(NUM_CLASSES), RIDGE, NUM_CLASSES, probes)


def analyse(look: Look) -> None:
    """Every number of a split."""
    for analysis in ANALYSES:
        dict(analysis(look))


def measure(name: str, network: nn.Module, data: Split, repeats: int) -> dict[str, object]:
    """One row of the table."""
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    look = look_at(network, data)
    few = replace(look, kept_features=next(look.features())[:NUM_CLASSES])  # nothing left that is per example
    seconds = interleaved_medians(
        {
            "forward": lambda: forward(network, data),
            "full": lambda: analyse(look_at(network, data)),
            "per_epoch": lambda: analyse(replace(few)),  # a copy: the spectrum is computed anew
        },
        repeats,
    )
    return {
        "network": name,
        "examples": len(data),
        "forward, s": seconds["forward"],
        "full analysis, s": seconds["full"],
        "ratio": seconds["full"] / seconds["forward"],
        "per epoch, ms": seconds["per_epoch"] * 1000,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--short", action="store_true", help="few examples, to see that it runs")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    rows = [
        measure(
            "digits ResNet-8, P = 64",
            resnet((1, 8, 8), NUM_CLASSES, depth=8, width=16),
            generated(1400, (1, 8, 8)),
            arguments.repeats,
        ),
        measure(
            "ResNet-18 on 32×32, P = 512",
            deep_resnet((3, 32, 32), NUM_CLASSES, depth=18),
            generated(512 if arguments.short else 4096, (3, 32, 32)),
            arguments.repeats,
        ),
    ]
    report("Full analysis of a split over a bare forward pass", rows, arguments.json)


if __name__ == "__main__":
    main()
