"""Free features, one relaxation of the central-path theorem at a time: how far from the closed form each leads.

    python benchmarks/path_relaxations.py [--json FILE] [--short]

C = 4 classes of N = 20 free features in P = 6 dimensions, from one standard normal start with Σ_W = I. The theorem is
of continuous time, λ = 0, all examples, Σ_W = I kept. Each row gives up one of these, the last the least-squares layer
too. At the same time t, learning rate × steps: the largest |log ω_j − log ω_j of the closed form|. With the time
fitted, as for networks (`fit_time_change`): the rms of these, what the closed form explains of the differences between
modes, and by which factor F(ω₁) − F(ω₃), conserved by the theorem, has grown.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from timing import parser, report
from torch import Tensor

from ncexp.collapse import CentralPath, class_statistics, fit_time_change, snr_singular_values
from ncexp.collapse.gradient_flow import renormalize
from ncexp.config import check
from ncexp.config.composing import compose_mapping
from ncexp.measure.ridge import ridge_of
from ncexp.training import Training, assemble
from ncexp.training.regimes import PathRegime

C, N, P = 4, 20, 6
LABELS = torch.arange(C).repeat_interleave(N)
#: t at the end, in units of which N C² = 320 lets a small mode grow e-fold; evaluations on the way.
TIME, EVALUATIONS = 2000.0, 20


@dataclass(frozen=True)
class Relaxation:
    """name: what is given up; overrides: of the training's configuration; rate: the learning rate."""

    name: str
    rate: float
    overrides: tuple[str, ...] = ("regime=renormalized",)
    time: float = TIME


RELAXATIONS = [
    Relaxation("steps of 5", 5.0),
    Relaxation("steps of 20", 20.0),
    Relaxation("steps of 100", 100.0),
    Relaxation("λ = 0.001", 5.0, ("regime=renormalized", "optimizer.weight_decay=0.001")),
    Relaxation("λ = 0.01", 5.0, ("regime=renormalized", "optimizer.weight_decay=0.01")),
    Relaxation("batches of half the examples", 5.0, ("regime=renormalized", f"batch_size={C * N // 2}")),
    Relaxation("no renormalization", 2.0, ("regime=on_path",)),
    Relaxation("a trained layer, no renormalization", 0.5, ("regime=plain",)),
]


def main() -> None:
    arguments = parser(__doc__).parse_args()
    rows: list[dict[str, object]] = []
    for relaxation in RELAXATIONS[2:3] if arguments.short else RELAXATIONS:
        times, spectra = train(relaxation)
        exact = CentralPath(spectra[0], C, N).singular_values(times)
        fit = fit_time_change(torch.arange(len(times)), spectra, C, N, 0)
        kept = fit.conserved_differences[:, -1]
        rows.append(
            {
                "given up": relaxation.name,
                "ω₁/ω₃ at first": float(spectra[0, 0] / spectra[0, -1]),
                "at last": float(spectra[-1, 0] / spectra[-1, -1]),
                "by the closed form": float(exact[-1, 0] / exact[-1, -1]),
                "largest error of log ω": float((spectra / exact).log().abs().max()),
                "rms, time fitted": fit.rms,
                "spread explained %": 100 * fit.explained_spread,
                "growth of F(ω₁) − F(ω₃)": float(kept[-1] / kept[0]),
            }
        )
    report(f"One relaxation at a time, C = {C}, N = {N}, P = {P}, to t = {TIME:g}", rows, arguments.json)


def train(relaxation: Relaxation) -> tuple[Tensor, Tensor]:
    """Times (T,) and spectra (T, C − 1) along the training, t = 0 first."""
    training, table = _training(relaxation)
    each = len(LABELS) // training.batch_size * relaxation.rate  # an epoch's time
    epochs = round(relaxation.time / each)
    times, spectra = [0.0], [_spectrum(table)]
    for epoch in range(1, epochs + 1):
        training.run_epoch(lambda: False)
        if epoch % max(epochs // EVALUATIONS, 1) == 0:
            times.append(epoch * each)
            spectra.append(_spectrum(table))
    return torch.tensor(times, dtype=torch.float64), torch.stack(spectra)


def _training(relaxation: Relaxation) -> tuple[Training, Tensor]:
    data = ["dataset=unconstrained", f"dataset.num_classes={C}", f"dataset.examples_per_class={N}"]
    network = ["architecture=unconstrained_features", f"architecture.num_features={P}", "loss=mse"]
    steps = [f"batch_size={C * N}", "optimizer=sgd", f"optimizer.lr={relaxation.rate}", "optimizer.momentum=0.0"]
    decay = ["optimizer.weight_decay=0.0", "optimizer/schedule=constant", "device=cpu"]
    config = check(compose_mapping("config", [*data, *network, *steps, *decay, *relaxation.overrides]))
    assembly = assemble(config)
    training, network_built = assembly.training, assembly.training.network
    table = getattr(network_built, "network", network_built).backbone.table
    with torch.no_grad():
        table.copy_(renormalize(table, LABELS, C))
    if config.regime != "plain":
        ridge = ridge_of(training.optimizer, assembly.classifier, assembly.half_mse_scale)
        training.path = PathRegime(config.regime, network_built, (ridge.weight, ridge.bias), 1.0, training.data)
    return training, table


def _spectrum(table: Tensor) -> Tensor:
    return snr_singular_values(class_statistics(table.detach(), LABELS, C))


if __name__ == "__main__":
    main()
