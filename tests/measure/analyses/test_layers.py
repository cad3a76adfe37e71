"""Collapse through depth: the numbers are those of the submodule's own outputs, and nothing stays hooked."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support import Compose, measured

from ncexp.collapse import LinearClassifier, class_statistics, measure_collapse
from ncexp.config import ConfigError, check
from ncexp.measure.analyses import LayerwiseCollapse
from ncexp.measure.probes import flatten, spatial_mean
from ncexp.training import assemble

#: The same float32 outputs in batches of another size.
ROUNDING = 1e-9


def test_layerwise_collapse_measures_the_outputs_of_the_submodule(composed: Compose) -> None:
    config = check(composed("analysis=[layers]", "analysis.layers.modules=[backbone.3]", "dataset.imbalance=4"))
    assembly = assemble(config)
    record = measured(assembly, config)
    network = assembly.training.network.eval()
    for split, data in (("train", assembly.dataset.train), ("test", assembly.dataset.test)):
        outputs = network.backbone[:4](next(data.batches(len(data)))[0]).detach()  # type: ignore[index]
        statistics = class_statistics(outputs, data.labels, 4)
        expected = measure_collapse(statistics, LinearClassifier(torch.ones(4, outputs.shape[1])))
        layer = f"{split}/layers/backbone.3"
        assert record[f"{layer}/nc1_ratio"] == pytest.approx(expected.nc1_ratio, rel=ROUNDING)
        assert record[f"{layer}/cdnv"] == pytest.approx(expected.cdnv, rel=ROUNDING)
        rows, labels = outputs.double().numpy(), data.labels.numpy()
        means = np.stack([rows[labels == c].mean(0) for c in range(4)])
        scales = np.linalg.svd(means - means.mean(0))[1]
        assert record[f"{layer}/stable_rank_means"] == pytest.approx((scales**2).sum() / scales[0] ** 2, rel=ROUNDING)
        if split == "train":
            targets = np.eye(4)[labels] - np.eye(4)[labels].mean(0)
            fitted = (rows - rows.mean(0)) @ np.linalg.lstsq(rows - rows.mean(0), targets, rcond=1e-9)[0]
            explained = 1 - ((targets - fitted) ** 2).sum() / (targets**2).sum()
            assert record[f"{layer}/probe_explained"] == pytest.approx(explained, rel=1e-8)
    assert not any(module._forward_hooks for module in network.modules())


def test_layerwise_collapse_of_the_last_features_is_neural_collapse(composed: Compose) -> None:
    config = check(composed("analysis=[collapse,layers]", "analysis.layers.modules=[backbone]"))
    record = measured(assemble(config), config)
    for split in ("train", "test"):
        assert record[f"{split}/layers/backbone/nc1_trace"] == record[f"{split}/collapse/nc1_trace"]


def test_layerwise_collapse_refuses_what_is_no_submodule(composed: Compose) -> None:
    config = check(composed("analysis=[layers]", "analysis.layers.modules=[backbone.33]"))
    message = r"expected names of submodules, got 'backbone.33'\. Valid: backbone, "
    with pytest.raises(ConfigError, match=message):
        measured(assemble(config), config)


def test_reductions_flatten_and_spatial_mean() -> None:
    output = torch.arange(24.0).reshape(2, 3, 2, 2)
    assert flatten(output).shape == (2, 12)
    assert torch.equal(spatial_mean(output), output.mean((2, 3)))
    assert torch.equal(spatial_mean(output[:, :, 0, 0]), output[:, :, 0, 0])


def test_probes_of_one_module_by_both_reductions_have_names_of_their_own() -> None:
    by_average, by_flatten = (LayerwiseCollapse(modules=["a"], features=how) for how in ("average", "flatten"))
    assert list(by_average.probes) == ["a average"]
    assert list(by_flatten.probes) == ["a flatten"]
    assert by_flatten.probes["a flatten"].reduce == "flatten"
