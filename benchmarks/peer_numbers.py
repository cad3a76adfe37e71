"""The numbers of a public toolbox beside ours, on the same features, which anyone can make again.

    python benchmarks/peer_numbers.py [--json FILE] [--short]

Features (5000, 64) in float32, ten classes, of seed 0: class means of variance 1, and a spread about them; with classes
of 500 each, and of 50 to 950. The toolbox is github.com/rhubarbwu/neural-collapse, measured at commit c05a0b8: put a
clone of it on PYTHONPATH, without which our column stands alone. Truth: two passes in float64 by NumPy, from the
definitions. Of each number: its true value, and how far ours and the toolbox's are from it, relative to it.
"""

from __future__ import annotations

import numpy as np
import torch
from timing import parser, report
from torch import Tensor

from ncexp.collapse import LinearClassifier, class_statistics, measure_collapse, nearest_class_center_mismatch

NUM_CLASSES, NUM_FEATURES, NUM_EXAMPLES = 10, 64, 5000
NAMES = ("nc1_trace", "nc1_ratio", "cdnv", "etf_error_means", "self_duality_product", "self_duality_angle", "nc4")


def examples(spread: float, balanced: bool) -> tuple[Tensor, Tensor, LinearClassifier]:
    """Features, labels, and a last layer near the means whose bias matters."""
    generator = torch.Generator().manual_seed(0)
    sizes = [500] * NUM_CLASSES if balanced else [50 + 100 * c for c in range(NUM_CLASSES)]
    labels = torch.repeat_interleave(torch.arange(NUM_CLASSES), torch.tensor(sizes))
    means = torch.randn(NUM_CLASSES, NUM_FEATURES, generator=generator)
    features = means[labels] + spread * torch.randn(NUM_EXAMPLES, NUM_FEATURES, generator=generator)
    weight = means + 0.3 * torch.randn(NUM_CLASSES, NUM_FEATURES, generator=generator)
    bias = 40 * torch.randn(NUM_CLASSES, generator=generator) - means.square().sum(1) / 2
    return features, labels, LinearClassifier(weight, bias)


def ours(features: Tensor, labels: Tensor, layer: LinearClassifier) -> dict[str, float]:
    statistics = class_statistics(features, labels, NUM_CLASSES)
    metrics = measure_collapse(statistics, layer)
    nc4 = nearest_class_center_mismatch(features, layer, statistics.class_means)
    return {**{name: getattr(metrics, name) for name in NAMES[:-1]}, "nc4": nc4}


def truth(features: Tensor, labels: Tensor, layer: LinearClassifier) -> dict[str, float]:
    h, y = features.double().numpy(), labels.numpy()
    w, b = layer.weight.numpy(), layer.bias.numpy()
    share = np.bincount(y) / len(y)
    means = np.stack([h[y == c].mean(0) for c in range(NUM_CLASSES)])
    rest = h - means[y]
    within = rest.T @ rest / len(y)
    about_examples, about_means = means - share @ means, means - means.mean(0)
    between = (about_examples.T * share) @ about_examples
    values, vectors = np.linalg.eigh(between)
    inverse = (vectors[:, 1 - NUM_CLASSES :] / values[1 - NUM_CLASSES :]) @ vectors[:, 1 - NUM_CLASSES :].T
    variance = np.array([(rest[y == c] ** 2).sum(1).mean() for c in range(NUM_CLASSES)])
    apart = ((means[:, None] - means[None]) ** 2).sum(2)
    pairs = ~np.eye(NUM_CLASSES, dtype=bool)
    etf = (np.eye(NUM_CLASSES) - 1 / NUM_CLASSES) / np.sqrt(NUM_CLASSES - 1)
    gram, product = about_means @ about_means.T, w @ about_means.T
    cosine = (w * about_means).sum(1) / np.linalg.norm(w, axis=1) / np.linalg.norm(about_means, axis=1)
    nearest = ((h[:, None] - means[None]) ** 2).sum(2).argmin(1)
    return {
        "nc1_trace": np.trace(within @ inverse) / NUM_CLASSES,
        "nc1_ratio": np.trace(within) / np.trace(between),
        "cdnv": ((variance[:, None] + variance[None])[pairs] / (2 * apart[pairs])).mean(),
        "etf_error_means": np.linalg.norm(gram / np.linalg.norm(gram) - etf),
        "self_duality_product": np.linalg.norm(product / np.linalg.norm(product) - etf),
        "self_duality_angle": (1 - cosine).mean(),
        "nc4": ((h @ w.T + b).argmax(1) != nearest).mean(),
    }


def toolbox(features: Tensor, labels: Tensor, layer: LinearClassifier) -> dict[str, float]:
    """The toolbox as its README uses it, in batches of 500, in its float32; empty where it is not installed."""
    try:
        from neural_collapse import accumulate, measure  # type: ignore[import-not-found]
    except ImportError:
        return {}
    batches = list(zip(features.split(500), labels.split(500), strict=True))
    of_means = accumulate.MeanAccumulator(NUM_CLASSES, NUM_FEATURES)
    for rows, row_labels in batches:
        of_means.accumulate(rows, row_labels)
    means, center = of_means.compute()
    weight = layer.weight.float()
    covariance = accumulate.CovarAccumulator(NUM_CLASSES, NUM_FEATURES, M=means)
    norms = accumulate.VarNormAccumulator(NUM_CLASSES, NUM_FEATURES, M=means)
    decisions = accumulate.DecAccumulator(NUM_CLASSES, NUM_FEATURES, M=means, W=weight)
    for rows, row_labels in batches:
        covariance.accumulate(rows, row_labels, means)
        norms.accumulate(rows, row_labels, means)
        decisions.accumulate(rows, row_labels, weight, means)
    within = covariance.compute()
    return {
        "nc1_trace": measure.covariance_ratio(within, means, center),
        "nc1_ratio": measure.covariance_ratio(within, means, center, "quotient"),
        "cdnv": measure.variability_cdnv(norms.compute()[0], means),
        "etf_error_means": measure.simplex_etf_error(means, center),
        "self_duality_product": measure.self_duality_error(weight, means, center),
        "self_duality_angle": 1 - float(measure.similarities(weight, means, center, cos=True).mean()),
        "nc4": 1 - measure.clf_ncc_agreement(decisions),
    }


def main() -> None:
    options = parser(__doc__).parse_args()
    rows: list[dict[str, object]] = []
    for balanced in (True, False):
        for spread in (0.5, 5e-5):
            given = examples(spread, balanced)
            true, mine, theirs = truth(*given), ours(*given), toolbox(*given)
            for name in NAMES:
                row = {"classes": "equal" if balanced else "unequal", "spread": spread, "number": name}
                wrong = {who: error(of.get(name), true[name]) for who, of in (("ours", mine), ("toolbox", theirs))}
                rows.append({**row, "truth": float(true[name]), **wrong})
    report("NC1 to NC4 of the same features: relative errors", rows, options.json)


def error(got: float | None, true: float) -> float:
    """Relative to the true value, absolute where that is 0; nan for a number that is not there."""
    return float("nan") if got is None else abs(got - true) / (abs(true) or 1.0)


if __name__ == "__main__":
    main()
