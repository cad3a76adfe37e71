"""Collapse through depth: the numbers are those of the submodule's own outputs, and nothing stays hooked."""

from __future__ import annotations

import pytest
import torch
from support import Compose

from ncexp.analyses import LayerwiseCollapse
from ncexp.analyses.probes import average, flatten
from ncexp.assembly import assemble
from ncexp.collapse import LinearClassifier, class_statistics, measure_collapse
from ncexp.config import ConfigError, check

#: The same float32 outputs in batches of another size.
ROUNDING = 1e-9


def test_layerwise_collapse_measures_the_outputs_of_the_submodule(composed: Compose) -> None:
    assembly = assemble(check(composed("analysis=[layers]", "analysis.layers.modules=[backbone.3]")))
    record = assembly.look()
    network, data = assembly.training.network, assembly.dataset.test
    network.eval()
    outputs = network.backbone[:4](next(data.batches(len(data)))[0]).detach()  # type: ignore[index]
    statistics = class_statistics(outputs, data.labels, 4)
    expected = measure_collapse(statistics, LinearClassifier(torch.ones(4, outputs.shape[1])))
    assert record["layers/test_nc1_ratio_backbone.3"] == pytest.approx(expected.nc1_ratio, rel=ROUNDING)
    assert record["layers/test_cdnv_backbone.3"] == pytest.approx(expected.cdnv, rel=ROUNDING)
    assert not any(module._forward_hooks for module in network.modules())


def test_layerwise_collapse_of_the_last_features_is_neural_collapse(composed: Compose) -> None:
    layers = "analysis.layers.modules=[backbone]"
    record = assemble(check(composed("analysis=[neural_collapse,layers]", layers))).look()
    assert record["layers/nc1_trace_backbone"] == record["train/nc1_trace"]


def test_layerwise_collapse_refuses_what_is_no_submodule(composed: Compose) -> None:
    with pytest.raises(ConfigError, match=r"expected names of submodules, got 'backbone.33'\. Valid: backbone, "):
        assemble(check(composed("analysis=[layers]", "analysis.layers.modules=[backbone.33]")))


def test_reductions_flatten_and_average() -> None:
    output = torch.arange(24.0).reshape(2, 3, 2, 2)
    assert flatten(output).shape == (2, 12)
    assert torch.equal(average(output), output.mean((2, 3)))
    assert torch.equal(average(output[:, :, 0, 0]), output[:, :, 0, 0])
    assert LayerwiseCollapse(modules=["a"], features="flatten").probes == {"a": flatten}
