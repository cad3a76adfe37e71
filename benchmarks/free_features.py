"""Free features against what theorems say of them: four tables for docs/free_features.md.

    python benchmarks/free_features.py [--only linear|lower_rank|entropy|row_sums] [--json FILE] [--short]

With --json, FILE_linear.json and so on, one for each table.

linear: the imbalanced experiment of Dang et al. 2023 on 1, 3, 6 and 9 linear layers without bias, as their code has it:
classes of 200, 100, 50 and 50 examples, P = 64, (1/2n) ‖W_k … W_1 Hᵀ − Y‖² + (5e-4/2)(‖H‖² + Σ_j ‖W_j‖²), all numbers
from N(0, 0.1²) at first, full-batch gradient descent at 0.1 with momentum 0.9, 30,000 steps. Distances to the closed
form are those of their code: Gram matrices of W_k … W_1 and of the class means of H (NC2), class means of the outputs
(NC3), each normalised, and tr(Σ_W Σ_B⁺)/C of H (NC1).

lower_rank: layers with ReLU between (Súkeník et al. 2024): the loss of deep collapse, of the triangular graph's
solution, and the least that L-BFGS finds from random starts, with the rank of the inputs of the last ReLU there.

entropy: cross-entropy, balanced, on 1 and 2 linear layers: the simplex and the orthoplex of the best length, and what
L-BFGS finds.

row_sums: ‖Wᵀ1‖ of a classifier under cross-entropy and SGD with momentum, against its recursion; and under AdamW.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from scipy.optimize import minimize, minimize_scalar
from timing import parser, report
from torch import Tensor
from torch.nn import functional

from ncexp.collapse import (
    class_statistics,
    deep_collapse,
    entropy_collapse,
    row_sum_factors,
    row_sum_rate,
    triangular_graph_solution,
)
from ncexp.config import RunConfig, check
from ncexp.config.composing import compose_mapping
from ncexp.measure import subject_of
from ncexp.measure.free_minimum import distances, minimum_of
from ncexp.training import Assembly, assemble

SIZES, WIDTH, DECAY = [200, 100, 50, 50], 64, 5e-4
Row = dict[str, object]


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--only", choices=PARTS, help="one table; all without")
    arguments = options.parse_args()
    for name in [arguments.only] if arguments.only else PARTS:
        title, part = PARTS[name]
        place = arguments.json and arguments.json.with_stem(f"{arguments.json.stem}_{name}")
        report(title, part(arguments.short), place)


def linear(short: bool) -> list[Row]:
    return [_linear(layers, 200 if short else 30000) for layers in ([1] if short else [1, 3, 6, 9])]


def _linear(layers: int, steps: int) -> Row:
    assembly = _assembled(
        "dataset.num_classes=4", "dataset.examples_per_class=200", f"dataset.class_sizes={SIZES}".replace(" ", ""),
        "batch_size=400", f"architecture.num_features={WIDTH}", f"architecture.layers={layers}", "loss=mse",
        "optimizer=sgd", "optimizer.lr=0.1", "optimizer.momentum=0.9", f"optimizer.weight_decay={DECAY}",
    )  # fmt: skip
    with torch.no_grad():
        for parameter in assembly.training.network.parameters():
            parameter.normal_(0, 0.1)
    began = time.perf_counter()
    _descend(assembly, steps)
    seconds = time.perf_counter() - began
    subject, labels = subject_of(assembly), assembly.dataset.train.labels
    least = minimum_of(subject)
    assert not isinstance(least, str), least
    with torch.no_grad():
        logits, features = assembly.training.network(assembly.dataset.train.inputs)  # type: ignore[attr-defined]
        loss = float(assembly.training.loss(logits, labels, features))
    found = dict(distances(subject, least, loss))
    table = assembly.training.network.backbone.table.detach()  # type: ignore[union-attr, operator]
    statistics = class_statistics(table, labels, len(SIZES))
    between = statistics.class_means - table.mean(0)  # as their code: classes count alike, about the mean of examples
    means = functional.one_hot(labels).double().T / torch.tensor(SIZES).double()[:, None]
    ours, theirs = means @ logits, means @ least.outputs
    return {
        "layers": layers,
        "steps": steps,
        "F/F* − 1": found["minimum_excess"],
        "‖Z − Z*‖/‖Z*‖": found["minimum_outputs"],
        "NC1": float(
            torch.trace(statistics.within_class_covariance @ torch.linalg.pinv(between.T @ between / len(SIZES)))
        )
        / len(SIZES),
        "NC2, W": found["minimum_weights"],
        "NC2, H": found["minimum_features"],
        "NC3, WH": float(torch.linalg.norm(ours / ours.norm() - theirs / theirs.norm())),
        "s": round(seconds),
    }


def _descend(assembly: Assembly, steps: int) -> None:
    """Full-batch steps by the run's network, loss and optimizer, a third of the loop's time: the inputs, rows of the
    identity, are looked at nowhere, and nothing is recorded.
    """
    training, labels = assembly.training, assembly.dataset.train.labels
    table, *weights = training.network.parameters()
    for _ in range(steps):
        outputs = table
        for weight in weights:
            outputs = outputs @ weight.T
        training.optimizer.zero_grad()
        training.loss(outputs, labels, table).backward()
        training.optimizer.step()


def _assembled(*words: str) -> Assembly:
    common = ["dataset=unconstrained", "architecture=unconstrained_features", "architecture.bias=false", "device=cpu"]
    config: RunConfig = check(compose_mapping("config", [*common, *words, "optimizer/schedule=constant"]))
    return assemble(config)


def lower_rank(short: bool) -> list[Row]:
    """One example a class, P = 2 C, λ = 2e-3 of every factor, s = 1."""
    cases = [(4, 4)] if short else [(4, 3), (4, 4), (5, 3), (5, 4), (6, 4), (6, 6)]
    return [_lower_rank(vertices, layers, 1 if short else 4) for vertices, layers in cases]


def _lower_rank(vertices: int, layers: int, starts: int) -> Row:
    count = vertices * (vertices - 1) // 2
    width, decays = 2 * count, [2e-3] * (layers + 1)
    collapse = deep_collapse([1] * count, width, decays)
    graph = triangular_graph_solution(vertices, 1, width, decays)
    row: Row = {
        "classes": count, "layers": layers, "deep collapse": collapse.loss, "triangular graph": graph.loss,
        "rank": 3 if vertices == 4 else vertices,
    }  # fmt: skip
    if vertices > 4:  # minutes each
        return row | {"from its point": "–", "random starts": "–", "its rank": "–"}
    targets = torch.eye(count, dtype=torch.float64)
    shapes = [(count, width), *[(width, width)] * (layers - 1), (count, width)]

    def value(factors: Sequence[Tensor]) -> Tensor:
        outputs = factors[0]
        for place, weight in enumerate(factors[1:], 1):
            outputs = outputs @ weight.T
            outputs = functional.relu(outputs) if place < layers else outputs
        penalty = sum(decay / 2 * one.square().sum() for decay, one in zip(decays, factors, strict=True))
        return (outputs - targets).square().sum() / (2 * count) + penalty

    best, at = _least(value, shapes, starts, (2 / width) ** 0.5)
    inputs = at[0]
    for weight in at[1:-1]:
        inputs = functional.relu(inputs) if weight is not at[1] else inputs
        inputs = inputs @ weight.T
    sizes = torch.linalg.svdvals(inputs)
    return row | {
        "from its point": float(_least(value, shapes, 0, 0.0, graph.factors)[0]),
        "random starts": best,
        "its rank": int((sizes > 1e-3 * sizes[0]).sum()),
    }


def entropy(short: bool) -> list[Row]:
    """One example a class, P = C, λ = 5e-3 of every factor."""
    cases = [(4, 1)] if short else [(4, 1), (4, 2), (6, 1), (6, 2), (8, 2), (10, 2)]
    return [_entropy(classes, layers, 1 if short else 8) for classes, layers in cases]


def _entropy(count: int, layers: int, starts: int) -> Row:
    decays = [5e-3] * (layers + 1)
    labels = torch.arange(count)

    def value(factors: Sequence[Tensor]) -> Tensor:
        outputs = factors[0]
        for weight in factors[1:]:
            outputs = outputs @ weight.T
        penalty = sum(decay / 2 * one.square().sum() for decay, one in zip(decays, factors, strict=True))
        return functional.cross_entropy(outputs, labels) + penalty

    def cost(modes: float, size: float) -> float:
        """The least penalty of a product with so many singular values of one size."""
        return (layers + 1) / 2 * decays[0] * modes * size ** (2 / (layers + 1))

    def simplex(margin: float) -> float:
        return math.log1p((count - 1) * math.exp(-margin)) + cost(count - 1, margin)

    def orthoplex(margin: float) -> float:
        """Pairs of opposite classes, in C/2 orthogonal directions: logits ± margin, and 0 for all other classes."""
        others = math.exp(-2 * margin) + (count - 2) * math.exp(-margin)
        return math.log1p(others) + cost(count / 2, 2 * margin)

    lengths = (
        minimize_scalar(one, bounds=(0, 50), method="bounded", options={"xatol": 1e-12}) for one in (simplex, orthoplex)
    )
    least, opposite = (min(float(one.fun), math.log(count)) for one in lengths)
    if layers == 1:
        assert math.isclose(least, entropy_collapse(count, 1, count, decays).loss, rel_tol=1e-9)
    best, at = _least(value, [(count, count)] * (layers + 1), starts, 1.0)
    outputs = at[0]
    for weight in at[1:]:
        outputs = outputs @ weight.T
    outputs = outputs - outputs.mean(1, keepdim=True)
    sizes = torch.linalg.svdvals(outputs)
    return {
        "classes": count,
        "layers": layers,
        "simplex": least,
        "orthoplex": opposite,
        "L-BFGS": best,
        "below the simplex": f"{abs(round(100 * (1 - best / least), 2)):.2f} %",
        "its rank": int((sizes > 1e-3 * sizes[0]).sum()),
    }


def _least(
    value: Callable[[Sequence[Tensor]], Tensor],
    shapes: Sequence[tuple[int, int]],
    starts: int,
    deviation: float,
    first: Sequence[Tensor] | None = None,
) -> tuple[float, list[Tensor]]:
    """The least of L-BFGS from random starts, or from one point, and where."""
    counts = [rows * columns for rows, columns in shapes]
    generator = np.random.default_rng(0)

    def parts(flat: Tensor) -> list[Tensor]:
        return [one.reshape(shape) for one, shape in zip(flat.split(counts), shapes, strict=True)]

    def both(flat: np.ndarray) -> tuple[float, np.ndarray]:
        at = torch.tensor(flat, requires_grad=True)
        result = value(parts(at))
        (slope,) = torch.autograd.grad(result, [at])
        return float(result.detach()), slope.numpy()

    points = [deviation * generator.standard_normal(sum(counts)) for _ in range(starts)]
    if first is not None:
        points.append(torch.cat([one.flatten() for one in first]).numpy())
    options = {"maxiter": 3000, "maxfun": 4000, "ftol": 1e-12, "gtol": 1e-9}
    found = [minimize(both, point, jac=True, method="L-BFGS-B", options=options) for point in points]
    best = min(found, key=lambda one: one.fun)
    return float(best.fun), parts(torch.tensor(best.x))


def row_sums(short: bool) -> list[Row]:
    """Cross-entropy, four classes of ten free features, 500 full-batch steps."""
    steps = 20 if short else 500
    rows = []
    for momentum in [0.9] if short else [0.0, 0.5, 0.9]:
        measured = _row_sums(steps, "optimizer=sgd", f"optimizer.momentum={momentum}")
        theory = row_sum_factors(steps, 0.1, 0.02, momentum)
        rows.append({
            "optimizer": f"SGD, momentum {momentum}",
            "rate a step, theory": row_sum_rate(0.1, 0.02, momentum),
            f"r/r0 after {steps}, theory": float(theory[-1]),
            "measured": measured[-1],
            "largest difference": max(abs(one - float(two)) for one, two in zip(measured, theory, strict=True)),
        })  # fmt: skip
    for name in [] if short else ["adam", "adamw"]:
        measured = _row_sums(steps, f"optimizer={name}")
        label = {"adam": "Adam, coupled", "adamw": "AdamW"}[name]
        rows.append({
            "optimizer": label, "rate a step, theory": "–", f"r/r0 after {steps}, theory": "–",
            "measured": measured[-1], "largest difference": "–",
        })  # fmt: skip
    return rows


def _row_sums(steps: int, *optimizer: str) -> list[float]:
    """‖Wᵀ1‖ after each step over that of the start."""
    data = ["dataset.num_classes=4", "dataset.examples_per_class=10", "batch_size=40", "loss=cross_entropy"]
    more = ["architecture.num_features=8", "optimizer.lr=0.1", "optimizer.weight_decay=0.02"]
    training = _assembled(*data, *more, *optimizer).training
    sums = [float(training.network.classifier.weight.detach().sum(0).norm())]  # type: ignore[union-attr, operator]
    for _ in range(steps):
        training.run_epoch(lambda: False)
        sums.append(float(training.network.classifier.weight.detach().sum(0).norm()))  # type: ignore[union-attr, operator]
    return [one / sums[0] for one in sums]


PARTS: dict[str, tuple[str, Callable[[bool], list[Row]]]] = {
    "linear": ("Linear layers, MSE, classes of 200, 100, 50 and 50 (Dang et al. 2023)", linear),
    "lower_rank": ("ReLU between layers: deep collapse and a lower rank (Súkeník et al. 2024)", lower_rank),
    "entropy": ("Cross-entropy on linear layers: the simplex and what L-BFGS finds", entropy),
    "row_sums": ("NC0: ‖Wᵀ1‖ under cross-entropy, lr 0.1, decay 0.02", row_sums),
}

if __name__ == "__main__":
    main()
