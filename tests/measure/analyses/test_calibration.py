"""Calibration and lengths of features in a run: NumPy and SciPy from the outputs of the network, on unequal classes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import softmax
from support import Compose, measured

from ncexp.config import check
from ncexp.datasets import Examples
from ncexp.training import Assembly, assemble

#: Overlapping classes, of 12 down to 3 examples.
HARD = ["dataset.separation=0.5", "dataset.examples_per_class=12", "dataset.imbalance=4", "batch_size=20"]
BINS = 7


def probabilities(assembly: Assembly, data: Examples) -> np.ndarray:
    """Of W h + b in float64, from the features as the network puts them out."""
    layer = assembly.training.network.classifier
    with torch.no_grad():
        _, features = assembly.training.network.eval()(next(data.batches(len(data)))[0])
        weight, bias = layer.weight.double().numpy(), layer.bias.double().numpy()
    return softmax(features.double().numpy() @ weight.T + bias, axis=1)


@pytest.mark.parametrize("split", ["train", "test"])
def test_calibration_equals_numpy(composed: Compose, split: str) -> None:
    config = check(composed(*HARD, "analysis=[calibration]", f"analysis.calibration.bins={BINS}"))
    assembly = assemble(config)
    with torch.no_grad():  # confidences far apart
        torch.nn.init.normal_(
            assembly.training.network.classifier.weight, std=8.0, generator=torch.Generator().manual_seed(1)
        )
    record = measured(assembly, config)
    data = getattr(assembly.dataset, split)
    chances, labels = probabilities(assembly, data), data.labels.numpy()
    sure, right = chances.max(1), chances.argmax(1) == labels
    wanted = {
        "negative_log_likelihood": -np.log(chances[np.arange(len(labels)), labels]).mean(),
        "brier_score": ((chances - np.eye(4)[labels]) ** 2).sum(1).mean(),
        "confidence": sure.mean(),
        "expected_calibration_error": 0.0,
    }
    for j in range(1, BINS + 1):
        here = (sure > (j - 1) / BINS) & (sure <= j / BINS)
        wanted[f"share_{j}"] = here.mean()
        wanted[f"accuracy_{j}"] = right[here].mean() if here.any() else np.nan
        wanted[f"confidence_{j}"] = sure[here].mean() if here.any() else np.nan
        wanted["expected_calibration_error"] += abs((right[here] * 1.0 - sure[here]).sum()) / len(labels)
    found = {name: value for name, value in record.items() if name.startswith(f"{split}/calibration/")}
    assert found.keys() == {f"{split}/calibration/{name}" for name in wanted}
    for name, value in wanted.items():
        assert found[f"{split}/calibration/{name}"] == pytest.approx(value, rel=1e-12, nan_ok=True), name
    assert sum(found[f"{split}/calibration/share_{j}"] > 0 for j in range(1, BINS + 1)) > 2


@pytest.mark.parametrize("split", ["train", "test"])
def test_feature_length_is_the_mean_of_lengths(composed: Compose, split: str) -> None:
    config = check(composed(*HARD, "analysis=[norms,spectra]"))
    assembly = assemble(config)
    record = measured(assembly, config)
    data = getattr(assembly.dataset, split)
    with torch.no_grad():
        _, features = assembly.training.network.eval()(next(data.batches(len(data)))[0])
    lengths = np.linalg.norm(features.double().numpy(), axis=1)
    assert record[f"{split}/norms/feature_length"] == pytest.approx(lengths.mean(), rel=1e-9)
    assert record[f"{split}/norms/features"] == pytest.approx(np.sqrt((lengths**2).mean()), rel=1e-9)
    assert lengths.std() > 0.01 * lengths.mean()
