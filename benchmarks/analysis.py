"""The full analysis of a split over a bare forward pass of the same batches.

    python benchmarks/analysis.py [--repeats 7] [--json FILE] [--short]

The full analysis is what a run does at an analysis epoch: one pass with the streaming statistics, then every metric of
collapse, NC4, the MSE decomposition and the SNR spectrum. `per_epoch` is the part of it that no example pays for
(eigenvalue problems and the like), from ready statistics.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from timing import device, interleaved_medians, parser, report
from torch import nn
from workloads import NUM_CLASSES, generated

from ncexp.analyses import CentralPathAnalysis, MSEDecompositionAnalysis, NeuralCollapse, Probes, take_look
from ncexp.analyses.look import BATCH_SIZE, Look
from ncexp.architectures.deep_resnet import deep_resnet
from ncexp.architectures.resnet import resnet
from ncexp.datasets import Examples
from ncexp.losses import MSE
from ncexp.precision import allow_tf32
from ncexp.ridge import Ridge

RIDGE = Ridge(5e-4, 5e-4, "")
ANALYSES = [NeuralCollapse(), MSEDecompositionAnalysis(), CentralPathAnalysis()]


def forward(network: nn.Module, data: Examples) -> None:
    """The bare pass."""
    network.eval()
    with torch.no_grad():
        for inputs, _ in data.batches(BATCH_SIZE):
            network(inputs)


def look_at(network: nn.Module, data: Examples) -> Look:
    """The pass with everything an analysis may ask for."""
    probes = Probes(network, {}, NUM_CLASSES)
    return take_look("train", 1, network, data, MSE(NUM_CLASSES), RIDGE, NUM_CLASSES, probes)


def analyse(look: Look) -> None:
    """Every number of a split."""
    for analysis in ANALYSES:
        dict(analysis(look))


def measure(name: str, network: nn.Module, num_examples: int, repeats: int) -> dict[str, object]:
    """One row of the table."""
    shape = (1, 8, 8) if "digits" in name else (3, 32, 32)
    data = generated(num_examples, shape).to(device()).train
    network = network.to(device(), memory_format=torch.channels_last)  # type: ignore[call-overload]
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
    arguments = parser(__doc__, repeats=7).parse_args()
    torch.manual_seed(0)
    allow_tf32(False)
    many = 512 if arguments.short else 50_000 if device().type == "cuda" else 4096
    small, large = resnet((1, 8, 8), NUM_CLASSES), deep_resnet((3, 32, 32), NUM_CLASSES, depth=18)
    rows = [
        measure("digits ResNet-8, P = 64", small, 1400, arguments.repeats),
        measure("ResNet-18 on 32×32, P = 512", large, many, arguments.repeats),
    ]
    report("Full analysis of a split over a bare forward pass", rows, arguments.json)


if __name__ == "__main__":
    main()
