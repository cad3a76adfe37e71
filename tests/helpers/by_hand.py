"""Neural collapse and the MSE decomposition of features in NumPy alone, as the papers define them."""

from __future__ import annotations

import numpy as np
from numpy import ndarray


def quantities(
    features: ndarray, labels: ndarray, weight: ndarray, bias: ndarray, means: ndarray, ridge: float
) -> dict[str, float]:
    """features (n, P), labels (n,), the last layer; means (C, P): the TRAIN class means, for NC4; ridge: λ."""
    h, w, b = (np.asarray(one, dtype=np.float64) for one in (features, weight, bias))
    n = len(h)
    classes = len(w)
    counts = np.bincount(labels, minlength=classes)
    mu = np.stack([h[labels == c].mean(0) for c in range(classes)])
    within = (h - mu[labels]).T @ (h - mu[labels]) / n
    return {
        "collapse/nc1_trace": _nc1(within, mu, counts / n),
        **_frames(mu - mu.mean(0), w),
        "collapse/nearest_class_center_mismatch": _nc4(h, w, b, means),
        **_decomposition(h, labels, np.c_[w, b], ridge),
    }


def _nc1(within: ndarray, mu: ndarray, share: ndarray) -> float:
    """tr(Σ_W Σ_B⁺)/C, Σ_B of rank C − 1."""
    between = (mu - share @ mu).T @ np.diag(share) @ (mu - share @ mu)
    values, vectors = np.linalg.eigh(between)
    keep = slice(len(values) - (len(mu) - 1), None)
    inverse = vectors[:, keep] / values[keep] @ vectors[:, keep].T
    return float(np.trace(within @ inverse) / len(mu))


def _frames(m: ndarray, w: ndarray) -> dict[str, float]:
    def equinorm(rows: ndarray) -> float:
        norms = np.linalg.norm(rows, axis=1)
        return float(norms.std(ddof=1) / norms.mean())

    duality = np.linalg.norm(w / np.linalg.norm(w) - m / np.linalg.norm(m)) ** 2
    return {
        "collapse/equinorm_means": equinorm(m),
        "collapse/equinorm_classifier": equinorm(w),
        "collapse/self_duality": float(duality),
    }


def _nc4(h: ndarray, w: ndarray, b: ndarray, means: ndarray) -> float:
    nearest = np.array([((means - one) ** 2).sum(1).argmin() for one in h])
    return float(((h @ w.T + b).argmax(1) != nearest).mean())


def _decomposition(h: ndarray, labels: ndarray, extended: ndarray, ridge: float) -> dict[str, float]:
    """L = ½ Ave ‖W̃h̃ − y‖² + λ/2 ‖W̃‖² and its terms, from every example's prediction."""
    n, classes = len(h), len(extended)
    x, y = np.c_[h, np.ones(n)], np.eye(classes)[labels]
    best = np.linalg.solve(x.T @ x / n + ridge * np.eye(x.shape[1]), x.T @ y / n).T

    def loss(layer: ndarray) -> float:
        return float(((x @ layer.T - y) ** 2).sum() / n / 2 + ridge / 2 * (layer**2).sum())

    means = np.stack([x[labels == c].mean(0) for c in range(classes)])
    share = np.bincount(labels, minlength=classes) / n
    of_means = float((share * ((means @ best.T - np.eye(classes)) ** 2).sum(1)).sum() / 2)
    return {
        "mse/loss": loss(extended),
        "mse/loss_nc1": loss(best) - of_means,
        "mse/loss_nc23": of_means,
        "mse/loss_ls_perp": loss(extended) - loss(best),
    }
