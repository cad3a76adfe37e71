"""docs/conventions.md: what others call NC1 to NC4, computed in NumPy, against what the page says each is of ours."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from own_loops import loaders
from own_loops import network as own_network

import ncexp
from ncexp.collapse import (
    ClassStatistics,
    LinearClassifier,
    class_statistics,
    measure_collapse,
    nearest_class_center_mismatch,
)

TEXT = (Path(__file__).parents[1] / "docs" / "conventions.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)
#: float64 in another order.
ROUNDING = 1e-9
C, P = 5, 9


def drawn(counts: list[int]) -> tuple[Any, Any, Any, Any]:
    """Features, labels, W, b as NumPy arrays."""
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(C), counts)
    features = random.normal(size=(C, P))[labels] * 2 + random.normal(size=(len(labels), P)) + 1
    return features, labels, random.normal(size=(C, P)), random.normal(size=C)


def ours(features: Any, labels: Any, weight: Any) -> tuple[ClassStatistics, dict[str, float]]:
    statistics = class_statistics(torch.tensor(features), torch.tensor(labels), C)
    metrics = measure_collapse(statistics, LinearClassifier(torch.tensor(weight)))
    return statistics, vars(metrics)


def scatter(features: Any, labels: Any, center: Any) -> tuple[Any, Any, Any]:
    """Class means, Σ_W, and Σ_B about a centre, all classes of weight 1/C."""
    means = np.stack([features[labels == c].mean(0) for c in range(C)])
    deviations = features - means[labels]
    return means, deviations.T @ deviations / len(features), (means - center).T @ (means - center) / C


def test_forms_of_nc1_are_what_the_page_says() -> None:
    features, labels, weight, _ = drawn([20] * C)
    _, found = ours(features, labels, weight)
    means, within, between = scatter(features, labels, features.mean(0))
    sizes, directions = np.linalg.eigh(between)
    truncated = directions[:, 1 - C :] / sizes[1 - C :] @ directions[:, 1 - C :].T
    assert np.trace(within @ truncated) == pytest.approx(C * found["nc1_trace"], rel=ROUNDING)
    assert np.trace(within @ np.linalg.pinv(between)) / C == pytest.approx(found["nc1_trace"], rel=ROUNDING)
    assert np.trace(within @ np.linalg.pinv(between, rcond=0.9)) / C < 0.9 * found["nc1_trace"]  # the cut-off deletes
    share = np.trace(within) / (np.trace(within) + np.trace(between))
    assert share == pytest.approx(found["nc1_ratio"] / (1 + found["nc1_ratio"]), rel=ROUNDING)
    variances = [((features[labels == c] - means[c]) ** 2).sum(1).mean() for c in range(C)]
    pairs = [(a, b) for a in range(C) for b in range(a)]
    cdnv = [(variances[a] + variances[b]) / 2 / ((means[a] - means[b]) ** 2).sum() for a, b in pairs]
    assert np.mean(cdnv) == pytest.approx(found["cdnv"], rel=ROUNDING)


def test_nc1_of_equal_weights_is_that_of_both_codes_for_unequal_classes() -> None:
    features, labels, weight, _ = drawn([5, 10, 20, 40, 80])
    statistics, found = ours(features, labels, weight)
    names: dict[str, Any] = {"torch": torch}
    exec(compile(BLOCKS[0], "docs/conventions.md", "exec"), names)
    means = scatter(features, labels, 0)[0]
    for center in (means.mean(0), features.mean(0)):
        _, within, between = scatter(features, labels, center)
        sizes, directions = np.linalg.eigh(between)
        rank = C - 1
        kept = directions[:, -rank:] / sizes[-rank:] @ directions[:, -rank:].T
        value = names["nc1_of_equal_weights"](statistics, torch.tensor(center))
        assert value == pytest.approx(np.trace(within @ kept) / C, rel=1e-7)
        assert value != pytest.approx(found["nc1_trace"], rel=1e-2)


def test_forms_of_nc2_and_nc3_are_what_the_page_says() -> None:
    features, labels, weight, _ = drawn([20] * C)
    _, found = ours(features, labels, weight)
    means = scatter(features, labels, 0)[0]
    frame = means - means.mean(0)
    etf = (np.eye(C) - 1 / C) / math.sqrt(C - 1)
    off = ~np.eye(C, dtype=bool)
    for name, rows in (("means", frame), ("classifier", weight)):
        lengths = np.linalg.norm(rows, axis=1)
        cosines = (rows @ rows.T / np.outer(lengths, lengths))[off]
        gram = rows @ rows.T
        expected = {
            "equinorm": lengths.std(ddof=1) / lengths.mean(),
            "equiangularity": cosines.std(),
            "maximal_angle": np.abs(cosines + 1 / (C - 1)).mean(),
            "etf_error": np.linalg.norm(gram / np.linalg.norm(gram) - etf),
        }
        for quantity, value in expected.items():
            assert value == pytest.approx(found[f"{quantity}_{name}"], rel=ROUNDING), quantity
        population = lengths.std() / lengths.mean()
        assert population == pytest.approx(math.sqrt((C - 1) / C) * found[f"equinorm_{name}"], rel=ROUNDING)
    apart = np.linalg.norm(weight / np.linalg.norm(weight) - frame / np.linalg.norm(frame))
    assert apart == pytest.approx(math.sqrt(found["self_duality"]), rel=ROUNDING)
    product = weight @ frame.T
    assert np.linalg.norm(product / np.linalg.norm(product) - etf) == pytest.approx(
        found["self_duality_product"], rel=ROUNDING
    )
    cosines = (weight * frame).sum(1) / np.linalg.norm(weight, axis=1) / np.linalg.norm(frame, axis=1)
    assert cosines.mean() == pytest.approx(1 - found["self_duality_angle"], rel=ROUNDING)
    assert (weight * frame).sum(1).var() == pytest.approx(found["uniform_duality"], rel=ROUNDING)
    units = frame / np.linalg.norm(frame, axis=1, keepdims=True)
    logs = -np.log(np.linalg.norm(units[:, None] - units[None], axis=2)[off])
    assert (logs.mean(), logs.var()) == pytest.approx(
        (found["uniformity_means"], found["uniformity_means_variance"]), rel=ROUNDING
    )


def test_forms_of_nc4_are_what_the_page_says() -> None:
    features, labels, weight, bias = drawn([20] * C)
    means = scatter(features, labels, 0)[0]
    nearest = ((features[:, None] - means[None]) ** 2).sum(2).argmin(1)
    shares = []
    for own_bias in (bias, None):
        decided = (features @ weight.T + (0 if own_bias is None else own_bias)).argmax(1)
        classifier = LinearClassifier(torch.tensor(weight), None if own_bias is None else torch.tensor(own_bias))
        shares.append(nearest_class_center_mismatch(torch.tensor(features), classifier, torch.tensor(means)))
        assert shares[-1] == pytest.approx((decided != nearest).mean())
    assert shares[0] != shares[1]


def test_output_at_the_mean_feature_of_stored_epochs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    model, (train_loader, _) = own_network(), loaders()
    ncexp.Recorder("outputs/mine", num_classes=4, classifier="last", analyses=[]).evaluate(1, model, train_loader)
    exec(compile(BLOCKS[1], "docs/conventions.md", "exec"), {})
    inputs, _ = train_loader.dataset.tensors  # type: ignore[attr-defined]
    with torch.no_grad():
        expected = model.eval()(inputs).double().mean(0).norm().item()
    name, epoch, value = capsys.readouterr().out.split()
    assert (name, epoch, float(value)) == ("mine", "1", pytest.approx(expected, rel=1e-5))
