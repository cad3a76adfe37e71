"""Plain training of unconstrained features to full collapse: how many steps it takes, and how many theory says.

    python benchmarks/full_collapse.py [--figure FILE.png] [--json FILE] [--short]

C = 4 classes of N = 10 free features in P = 3 dimensions, n = 40, full-batch gradient descent on

    F = (1/2n) ‖W H + b1ᵀ − Y‖² + (wd/2)(‖W‖² + ‖H‖² + ‖b‖²).

Its global minimum (Zhu et al. 2021, Theorem 3.1; the closed form by soft thresholding stands in
tests/architectures/test_unconstrained_features.py): W H has C − 1 singular values √N − n wd, W and H are balanced, the
noise within classes is 0, W and the class means are one simplex ETF.

The start: Σ_W = I; class means with singular values k_j = √N ω_j, spread between the given ends; W a simplex ETF, times
a. In the singular basis of the class means, which nothing turns when W is an ETF, mode j of the flow is

    da/dt = (√N − a k) k/n − a (σ² + wd),   dk/dt = (√N − a k) a/n − wd k,   dσ/dt = −(a²/n + wd) σ,   ω = k/(√N σ),

three numbers a mode, from which the predicted steps are. With a² ≫ √N means forget where they began as fast as noise
decays, exp(−∫a²/n dt), and the ω become equal, but for what the means have taken from a: (a² − k²) exp(2 wd t) is
conserved once noise is small, so that log ω_last/ω_1 tends to (ω_1² − ω_last²)/(2 C wd) of the start. Full collapse
in ω wants ω_1(0)² ≪ 2 C wd. From a small W the ω do not become equal: ω_j ∝ a_j(0)/σ_j(0) at the end, whatever the
training's length; the last row is such a start. P = C − 1: in a direction that W does not see noise decays
by wd alone, and Σ_W soon has no rank that float64 could tell. Where noise is below rounding, ω is not defined.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.integrate import solve_ivp
from timing import parser, report
from torch import Tensor

from ncexp.collapse import LinearClassifier, class_statistics, measure_collapse, snr_spectrum
from ncexp.collapse.gradient_flow import renormalize
from ncexp.config import check
from ncexp.config.composing import compose_mapping
from ncexp.training import Training, assemble

C, N, P = 4, 10, 3
n = C * N
LABELS = torch.arange(C).repeat_interleave(N)
#: When a run counts as fully collapsed, and when its objective as the global minimum: relative.
RATIO, DUALITY, GAP = 1.01, 1e-4, 1e-6
#: Steps between two evaluations; the times at which F − F_min, which falls as exp(−4 wd t) at last, falls e-fold.
EVERY, FOLDS = 5, 22
BIG, SMALL_START = 30.0, 0.05


@dataclass(frozen=True)
class Start:
    """decay: wd; rate: the learning rate; spread: ω_1/ω_last at the start; size: a²/√N."""

    decay: float
    rate: float
    spread: float
    size: float = BIG

    @property
    def omegas(self) -> list[float]:
        """ω_j at the start, around 0.01, evenly in log ω."""
        return [0.01 * self.spread ** (0.5 - j / (C - 2)) for j in range(C - 1)]

    @property
    def a(self) -> float:
        """Every singular value of W."""
        return math.sqrt(self.size * math.sqrt(N))


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--figure", type=Path, help="draw loss and modes of the first row against the predicted ones")
    arguments = options.parse_args()
    starts = [Start(0.02, 0.1, 10.0)]
    if not arguments.short:
        starts += [Start(0.01, 0.1, 10.0), Start(0.04, 0.1, 10.0), Start(0.02, 0.05, 10.0), Start(0.02, 0.2, 10.0)]
        starts += [Start(0.02, 0.1, 1.0), Start(0.02, 0.1, 100.0), Start(0.02, 0.1, 10.0, SMALL_START)]
    runs = [(start, train(start), predict(start)) for start in starts]
    rows: list[dict[str, object]] = []
    for start, measured, theory in runs:
        row: dict[str, object] = {"wd": start.decay, "lr": start.rate, "ω₁/ω₃ at first": start.spread}
        row["a²/√N"] = start.size
        for name, level in (("ratio", RATIO), ("duality", DUALITY), ("gap", GAP)):
            row[f"steps to {name} ≤ {level:g}"] = _reached(measured[name], level)
            row[f"{name}, theory"] = _reached(theory[name], level)
        defined = np.isfinite(measured["ratio"])
        row["last ratio"], row["of step"] = float(measured["ratio"][defined][-1]), EVERY * int(defined.sum())
        row["duality at the end"] = float(measured["duality"][-1])
        errors = np.abs(np.log(measured["omega"] / theory["omega"]))[defined]
        row["largest error of log ω"] = float(errors.max())
        rows.append(row)
    report(f"Plain training to full collapse, C = {C}, N = {N}, P = {P}", rows, arguments.json)
    if arguments.figure:
        _draw(arguments.figure, *runs[0])


def train(start: Start) -> dict[str, np.ndarray]:
    """Gradient descent by the training loop itself; every number after every EVERY steps."""
    training = _training(start)
    table, layer = training.network.backbone.table, training.network.classifier  # type: ignore[union-attr]
    least = minimum(start.decay)
    columns: dict[str, list[object]] = {"ratio": [], "duality": [], "gap": [], "omega": [], "loss": []}
    for step in range(1, _steps(start) + 1):
        training.run_epoch(lambda: False)
        if step % EVERY:
            continue
        statistics = class_statistics(table.detach(), LABELS, C)  # type: ignore[operator]
        omega = snr_spectrum(statistics).singular_values
        loss = _objective(table.detach(), layer.weight.detach(), layer.bias.detach(), start.decay)  # type: ignore
        collapse = measure_collapse(statistics, LinearClassifier(layer.weight, layer.bias))  # type: ignore[arg-type]
        columns["ratio"].append(float(omega[0] / omega[-1]))
        columns["duality"].append(collapse.self_duality)
        columns["omega"].append(omega.numpy())
        columns["loss"].append(loss)
        columns["gap"].append(loss / least - 1)
    return {name: np.asarray(values) for name, values in columns.items()}


def predict(start: Start) -> dict[str, np.ndarray]:
    """The same numbers from the 3 (C − 1) equations of the modes, and one for the bias."""
    count, root = _steps(start), math.sqrt(N)
    k, a = root * np.array(start.omegas), np.full(C - 1, start.a)
    first = np.concatenate([a, k, np.zeros(C - 1), [0.0]])  # log σ, so that small noise keeps its digits

    def velocity(_: float, y: np.ndarray) -> np.ndarray:
        a, k, sigma, x = y[: C - 1], y[C - 1 : 2 * C - 2], np.exp(y[2 * C - 2 : 3 * C - 3]), y[-1]
        short = (root - a * k) / n
        moving = [short * k - a * (sigma**2 + start.decay), short * a - start.decay * k]
        return np.concatenate([*moving, -(a**2 / n + start.decay), [(1 / C - x) - start.decay * x]])

    times = start.rate * np.arange(EVERY, count + 1, EVERY)
    y = solve_ivp(velocity, (0, times[-1]), first, "DOP853", times, rtol=1e-10, atol=1e-14).y
    a, k, sigma, x = y[: C - 1], y[C - 1 : 2 * C - 2], np.exp(y[2 * C - 2 : 3 * C - 3]), y[-1]
    loss = ((root - a * k) ** 2).sum(0) / (2 * n) + (a**2 * sigma**2).sum(0) / 2 + C / 2 * (x - 1 / C) ** 2
    loss += start.decay / 2 * ((a**2 + k**2).sum(0) + n * (sigma**2).sum(0) + C * x**2)
    omega = -np.sort(-(k / root / sigma), axis=0).T
    shapes = a / np.linalg.norm(a, axis=0) - k / np.linalg.norm(k, axis=0)
    columns = {"ratio": omega[:, 0] / omega[:, -1], "duality": (shapes**2).sum(0), "omega": omega, "loss": loss}
    return columns | {"gap": loss / minimum(start.decay) - 1}


def minimum(decay: float) -> float:
    """F at the global minimum: each of C − 1 modes has z = √N − n wd, and the bias x = 1/(C (1 + wd)) in each entry."""
    z = math.sqrt(N) - n * decay
    assert z > 0, "beyond, all features die"
    x = 1 / (C * (1 + decay))
    modes = (C - 1) * ((n * decay) ** 2 / (2 * n) + decay * z)
    return modes + C / 2 * (x - 1 / C) ** 2 + decay / 2 * C * x**2


def _training(start: Start) -> Training:
    data = ["dataset=unconstrained", f"dataset.num_classes={C}", f"dataset.examples_per_class={N}", f"batch_size={n}"]
    network = ["architecture=unconstrained_features", f"architecture.num_features={P}", "loss=mse"]
    steps = ["optimizer=sgd", f"optimizer.lr={start.rate}", "optimizer.momentum=0.0"]
    steps += [f"optimizer.weight_decay={start.decay}", "optimizer/schedule=constant", "device=cpu"]
    raw = compose_mapping("config", [*data, *network, *steps])
    training = assemble(check(raw)).training
    table, layer = training.network.backbone.table, training.network.classifier  # type: ignore[union-attr]
    with torch.no_grad():
        noise = renormalize(table, LABELS, C)  # type: ignore[arg-type]
        means = class_statistics(noise, LABELS, C).class_means
        left, _, right = torch.linalg.svd(means - means.mean(0), full_matrices=False)
        wanted = (left[:, : C - 1] * torch.tensor(start.omegas, dtype=torch.float64)) @ right[: C - 1]
        table.copy_(noise + (wanted - means)[LABELS])  # type: ignore[operator]
        # a (I − 11^T/C) turned into the space of the class means; or, small, in proportion to them.
        sizes = start.a if start.size > 1 else start.a * torch.tensor(start.omegas, dtype=torch.float64)
        layer.weight.copy_((left[:, : C - 1] * sizes) @ right[: C - 1])  # type: ignore[operator]
        layer.bias.zero_()  # type: ignore[operator]
    return training


def _objective(features: Tensor, weight: Tensor, bias: Tensor, decay: float) -> float:
    residuals = features @ weight.T + bias - torch.nn.functional.one_hot(LABELS, C)
    squares = sum(float(one.square().sum()) for one in (features, weight, bias))
    return float(residuals.square().sum()) / (2 * n) + decay / 2 * squares


def _steps(start: Start) -> int:
    """Until F − F_min has fallen FOLDS times e-fold by the slowest rate, that of ‖W‖² − ‖H‖²: exp(−2 wd t)."""
    return EVERY * math.ceil(FOLDS / (4 * start.decay * start.rate) / EVERY)


def _reached(values: np.ndarray, level: float) -> int | str:
    """The first evaluated step from which on the value, where it is defined, stays at or below the level."""
    above = np.nonzero(values > level)[0]
    first = 0 if not len(above) else int(above[-1]) + 1
    return EVERY * (first + 1) if np.isfinite(values[first:]).any() else "–"


def _draw(path: Path, start: Start, measured: dict[str, np.ndarray], theory: dict[str, np.ndarray]) -> None:
    from matplotlib import pyplot

    from ncexp.report.style import COLOURS, mode_colours, omega

    figure, (modes, losses) = pyplot.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
    steps = EVERY * np.arange(1, len(measured["loss"]) + 1)
    for j, colour in enumerate(mode_colours(C - 1)):
        modes.plot(steps, measured["omega"][:, j], ".", color=colour, markersize=4, label=f"{omega(j + 1)} trained")
        modes.plot(steps, theory["omega"][:, j], "-", color="0.3", linewidth=0.8)
    modes.set(xlim=(0, 1.2 * EVERY * np.isfinite(measured["ratio"]).sum()), ylim=(0.1, None))
    for name, part, label in (("gap", "loss", "F/F_min − 1"), ("duality", "loss_nc23", "NC3 self-duality")):
        losses.plot(steps, measured[name], ".", color=COLOURS[part], markersize=4, label=label)
        losses.plot(steps, theory[name], "-", color="0.3", linewidth=0.8)
    modes.set(yscale="log", xlabel="step", ylabel="ω")
    losses.set(yscale="log", xlabel="step", ylim=(1e-12, None))
    for axes in (modes, losses):
        axes.legend(fontsize=8, frameon=False)
        axes.grid(alpha=0.25, linewidth=0.5)
    figure.suptitle(f"wd {start.decay}, lr {start.rate}: trained (points), the modes' equations (lines)", fontsize=10)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
