"""The statistics over pairs of very many classes, in tiles: those of the blocks, and of every pair in NumPy."""

from __future__ import annotations

from dataclasses import asdict, replace
from itertools import combinations

import numpy as np
import pytest
import torch
from torch import Tensor

from ncexp.collapse import ClassStatistics, LinearClassifier, class_statistics, many_pairs, measure_collapse
from ncexp.collapse import neural_collapse as module
from ncexp.collapse.pairwise import RunningMoments

#: Sums of up to 10⁶ terms of one size in another order; a variance of them.
TOLERANCE = 1e-11


def drawn(means: Tensor, spread: float = 0.3) -> ClassStatistics:
    labels = torch.arange(len(means)).repeat(3)
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(len(labels), means.shape[1], generator=generator, dtype=torch.float64)
    return class_statistics(means[labels] + spread * noise, labels, len(means))


def kinds(num_classes: int, num_features: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    random = torch.randn(num_classes, num_features, generator=generator, dtype=torch.float64)
    close, apart = random.clone(), 1 + 1e-7 * random
    close[1] = close[0] + 1e-5 * random[2]
    apart[0] = -1000
    return {"random": random, "close": close, "all but one alike": apart}


@pytest.mark.parametrize("kind", ["random", "close", "all but one alike"])
@pytest.mark.parametrize(("num_classes", "num_features"), [(5, 3), (90, 7), (40, 60)])
def test_tiles_give_the_numbers_of_the_blocks(
    num_classes: int, num_features: int, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    means = kinds(num_classes, num_features)[kind]
    statistics, layer = drawn(means, 1e-9 if kind == "all but one alike" else 0.3), LinearClassifier(means.flip(0))
    expected = asdict(measure_collapse(statistics, layer))
    monkeypatch.setattr(module, "MOST_IN_BLOCKS", 1)
    for height, width in ((4, 7), (16, 3), (256, 512)):
        monkeypatch.setattr(many_pairs, "_HEIGHT", height)
        monkeypatch.setattr(many_pairs, "_WIDTH", max(height, width))
        found = asdict(measure_collapse(statistics, layer))
        for name, value in expected.items():
            assert found[name] == pytest.approx(value, rel=TOLERANCE, abs=1e-15, nan_ok=True), name


def test_tiles_give_what_every_pair_gives_in_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_IN_BLOCKS", 1)
    monkeypatch.setattr(many_pairs, "_HEIGHT", 8)
    monkeypatch.setattr(many_pairs, "_WIDTH", 16)
    statistics = drawn(kinds(70, 6)["random"])
    found = measure_collapse(statistics, LinearClassifier(statistics.class_means))
    means, spread = statistics.class_means.numpy(), statistics.within_class_variances.numpy()
    frame = means - means.mean(0)
    units = frame / np.linalg.norm(frame, axis=1, keepdims=True)
    pairs = list(combinations(range(70), 2))
    cosines = np.array([units[i] @ units[j] for i, j in pairs])
    ratios = [(spread[i] + spread[j]) / 2 / ((means[i] - means[j]) ** 2).sum() for i, j in pairs]
    logarithms = [-np.log(np.linalg.norm(units[i] - units[j])) for i, j in pairs]
    assert found.equiangularity_means == pytest.approx(cosines.std(), rel=TOLERANCE)
    assert found.maximal_angle_means == pytest.approx(np.abs(cosines + 1 / 69).mean(), rel=TOLERANCE)
    assert found.cdnv == pytest.approx(np.mean(ratios), rel=TOLERANCE)
    assert found.uniformity_means == pytest.approx(np.mean(logarithms), rel=TOLERANCE)
    assert found.uniformity_means_variance == pytest.approx(np.var(logarithms), rel=TOLERANCE)


def test_variance_of_values_that_are_nearly_one_value_does_not_cancel() -> None:
    generator, moments = torch.Generator().manual_seed(0), RunningMoments()
    values = 1 + 1e-9 * torch.randn(3, 1000, generator=generator, dtype=torch.float64)
    for part in values:
        many_pairs._add(moments, part, 0.0)
    assert float(moments.variance) == pytest.approx(values.numpy().var(), rel=1e-6, abs=0)


@pytest.mark.parametrize("what", ["zero row", "zero mean", "two alike", "two within rounding"])
def test_what_is_undefined_in_blocks_is_so_in_tiles(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    means = kinds(30, 5)["random"]
    if what == "zero mean":
        means[3] = 0
        means[4:] -= means.mean(0) * 30 / 26
    elif what == "two alike":
        means[3] = means[4]
    elif what == "two within rounding":
        means[3] = means[4] * (1 + 1e-8)
    statistics = drawn(means, 0.0 if what != "zero row" else 0.3)
    statistics = replace(statistics, feature_eps=1e-7)
    layer = LinearClassifier(means.clone().index_fill_(0, torch.tensor([2]), 0.0) if what == "zero row" else means)
    expected = asdict(measure_collapse(statistics, layer))
    monkeypatch.setattr(module, "MOST_IN_BLOCKS", 1)
    found = asdict(measure_collapse(statistics, layer))
    undefined = [name for name, value in expected.items() if np.isnan(value)]
    assert len(undefined) >= 2
    assert undefined == [name for name, value in found.items() if np.isnan(value)]
