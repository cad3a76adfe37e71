"""Spectra, ranks and norms against NumPy, from raw features of unequal classes that do not span their space."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from support import snapshot_of

from ncexp.collapse import LinearClassifier
from ncexp.measure import Ridge, run_analysis
from ncexp.measure.analyses import SpectraAndNorms

COUNTS = [40, 9, 5, 2]
#: Features (n, 7) of rank 5: the last two are sums of others.
P = 7
ROUNDING = 1e-9


def drawn(seed: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    labels = np.repeat(np.arange(4), COUNTS)
    means = np.random.default_rng(9).normal(size=(4, 5)) + 2
    free = means[labels] + generator.normal(size=(len(labels), 5))
    return np.c_[free, free[:, 0] + free[:, 1], free[:, 2] - free[:, 3]], labels


SPLITS = {"train": drawn(0), "test": drawn(1)}
WEIGHT, BIAS = np.random.default_rng(2).normal(size=(4, P)), np.random.default_rng(3).normal(size=4)


def found(bias: bool = True, **options: Any) -> dict[str, Any]:
    splits = {name: (torch.tensor(rows), torch.tensor(labels)) for name, (rows, labels) in SPLITS.items()}
    classifier = LinearClassifier(torch.tensor(WEIGHT), torch.tensor(BIAS) if bias else None)
    return run_analysis(SpectraAndNorms(**options), snapshot_of(splits, classifier, Ridge(0.0, 0.0, "")), None)


def expected(split: str) -> dict[str, Any]:
    """Spectra as lists under their name, other numbers, by NumPy from the features."""
    rows, labels = SPLITS[split]
    means = np.stack([rows[labels == c].mean(0) for c in range(4)])
    within = (rows - means[labels]).T @ (rows - means[labels]) / len(rows)
    between = (means[labels] - rows.mean(0)).T @ (means[labels] - rows.mean(0)) / len(rows)
    frame = np.linalg.svd(means - means.mean(0))[1][:3]
    weight = np.linalg.svd(WEIGHT)[1]
    inner = np.linalg.eigvalsh(within)[::-1]
    numbers: dict[str, Any] = {
        "spectra/means": frame,
        "spectra/within": inner,
        "spectra/between": np.linalg.eigvalsh(between)[::-1][:3],
        "spectra/stable_rank_means": (frame**2).sum() / frame[0] ** 2,
        "spectra/stable_rank_within": np.trace(within) / inner[0],
        "norms/features": np.sqrt((rows**2).sum(1).mean()),
        "norms/class_means": np.linalg.norm(means - means.mean(0)) / 2,
        "norms/at_global_mean": np.linalg.norm(WEIGHT @ rows.mean(0) + BIAS),
    }
    if split == "train":
        shares = weight / weight.sum()
        numbers |= {
            "spectra/weight": weight,
            "spectra/stable_rank_weight": np.linalg.norm(WEIGHT) ** 2 / weight[0] ** 2,
            "spectra/effective_rank_weight": np.exp(-(shares * np.log(shares)).sum()),
            "norms/weight": np.linalg.norm(WEIGHT) / 2,
            "norms/bias": np.linalg.norm(BIAS),
        }
    return numbers


@pytest.mark.parametrize("split", ["train", "test"])
def test_spectra_ranks_and_norms_equal_numpy(split: str) -> None:
    wanted = {}
    for name, value in expected(split).items():
        many = {f"{name}_{j}": one for j, one in enumerate(value, start=1)} if np.ndim(value) else {name: value}
        wanted |= {f"{split}/{one}": number for one, number in many.items()}
    values = {name: value for name, value in found().items() if name.startswith(f"{split}/")}
    assert values.keys() == wanted.keys()
    for name, value in values.items():
        assert value == pytest.approx(wanted[name], rel=ROUNDING, abs=1e-12), name
    assert abs(values[f"{split}/spectra/within_6"]) < 1e-12 < values[f"{split}/spectra/within_5"]


def test_long_spectra_are_recorded_at_modes_evenly_spaced_with_both_ends() -> None:
    few, all_ = found(modes=3), found(modes=7)
    assert [name for name in few if "train/spectra/within_" in name] == [f"train/spectra/within_{j}" for j in (1, 4, 7)]
    assert few.items() <= all_.items()
    assert found() == all_


def test_layer_without_bias_has_a_bias_of_norm_0() -> None:
    assert found(bias=False)["train/norms/bias"] == 0
