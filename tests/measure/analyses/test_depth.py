"""Errors, effective depth and next weights of layers: NumPy and SciPy from the layers' own outputs."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.linalg import subspace_angles
from support import Compose, measured
from torch import Tensor, nn

from ncexp.config import check
from ncexp.measure.next_weights import next_weights
from ncexp.measure.probes import Probe
from ncexp.training import Assembly, assemble

#: Overlapping classes, of 12 down to 3 examples; layers of 16 and 8 features behind ReLU.
HARD = ["dataset.separation=0.5", "dataset.examples_per_class=12", "dataset.imbalance=4", "batch_size=20"]
#: The second before the first; behind a normalisation the third.
LAYERS = ["analysis.depth.modules=[backbone.6,backbone.3,backbone.1]", "analysis=[depth]"]
DEAD = 5


@pytest.fixture
def run(composed: Compose) -> tuple[Assembly, dict[str, Any]]:
    """A network of which some features of the first layer are 0 for every example, and what is measured of it."""
    config = check(composed(*HARD, *LAYERS))
    assembly = assemble(config)
    backbone: Any = assembly.training.network.backbone
    with torch.no_grad():
        backbone[2].bias[:DEAD] = -100.0
    return assembly, measured(assembly, config)


def outputs(assembly: Assembly, split: str, end: int) -> tuple[np.ndarray, np.ndarray]:
    """Features (n, P) in float64 behind backbone[:end], and labels."""
    data = getattr(assembly.dataset, split)
    backbone: Any = assembly.training.network.eval().backbone
    with torch.no_grad():
        return backbone[:end](next(data.batches(len(data)))[0]).double().numpy(), data.labels.numpy()


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("module", [3, 6])
def test_errors_and_alignment_equal_numpy(run: tuple[Assembly, dict[str, Any]], split: str, module: int) -> None:
    assembly, record = run
    (train, known), (rows, labels) = outputs(assembly, "train", module + 1), outputs(assembly, split, module + 1)
    assert module != 3 or np.linalg.matrix_rank(train) < train.shape[1]
    centres = np.stack([train[known == c].mean(0) for c in range(4)])
    nearest = np.linalg.norm(rows[:, None] - centres, axis=2).argmin(1)
    solved, *_ = np.linalg.lstsq(np.c_[train, np.ones(len(train))], np.eye(4)[known], rcond=1e-9)
    by_probe = (np.c_[rows, np.ones(len(rows))] @ solved).argmax(1)
    layer = f"{split}/layers/backbone.{module}"
    assert record[f"{layer}/nearest_class_center_error"] == pytest.approx((nearest != labels).mean(), abs=1e-12)
    assert record[f"{layer}/probe_error"] == pytest.approx((by_probe != labels).mean(), abs=1e-12)
    assert (nearest != labels).any()
    assert (nearest != by_probe).any()

    network: Any = assembly.training.network
    weight = (network.backbone[4] if module == 3 else network.classifier).weight.detach().double().numpy()
    means = np.stack([rows[labels == c].mean(0) for c in range(4)])
    span = np.linalg.svd(means - means.mean(0), full_matrices=False)[2][:3]
    scales, read = np.linalg.svd(weight, full_matrices=False)[1:]
    angles = subspace_angles(span.T, read[:3].T)
    assert record[f"{layer}/next_weight_overlap"] == pytest.approx((np.cos(angles) ** 2).mean(), rel=1e-6)
    assert record[f"{layer}/next_weight_angle"] == pytest.approx(math.degrees(angles.max()), rel=1e-6)
    if split == "train":
        shares = scales / scales.sum()
        effective = np.exp(-(shares * np.log(shares)).sum())
        assert record[f"{layer}/next_weight_stable_rank"] == pytest.approx((scales**2).sum() / scales[0] ** 2)
        assert record[f"{layer}/next_weight_effective_rank"] == pytest.approx(effective)


def test_effective_depth_counts_layers_as_they_run(run: tuple[Assembly, dict[str, Any]]) -> None:
    _, record = run
    for split in ("train", "test"):
        places = [f"{split}/layers/backbone.{module}/nearest_class_center_error" for module in (1, 3, 6)]
        errors = [record[place] for place in places]
        first = next(one for one in (1, 2, 3) if max(errors[one - 1 :]) <= errors[-1])
        assert record[f"{split}/depth/effective_depth"] == first


def test_weight_behind_a_normalisation_is_not_known(run: tuple[Assembly, dict[str, Any]]) -> None:
    _, record = run
    for name in ("overlap", "angle", "stable_rank", "effective_rank"):
        assert math.isnan(record[f"train/layers/backbone.1/next_weight_{name}"])


class Block(nn.Module):
    """Two convolutions read its input, one of them in groups; a pooled linear layer its output."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 1)
        self.main, self.shortcut, self.grouped = (
            nn.Conv2d(4, 6, 3, padding=1),
            nn.Conv2d(4, 6, 1),
            nn.Conv2d(4, 6, 1, groups=2),
        )
        self.sum, self.head = nn.AvgPool2d(1), nn.Linear(6, 5)

    def forward(self, inputs: Tensor) -> Tensor:
        stem = self.stem(inputs)
        whole = self.sum(self.main(stem) + self.shortcut(stem) + self.grouped(stem))
        return self.head(whole.mean((3, 2)))  # in another order than the probe's mean


def test_next_weights_are_those_that_read_the_output_or_its_features() -> None:
    network = Block()
    probes = {name: Probe(name, "average") for name in ("sum", "stem")}
    found = next_weights(network, probes, torch.randn(4, 3, 5, 5), 4)
    assert list(found) == ["stem", "sum"]
    kernels = [network.main.weight[:, :, i, j] for i in range(3) for j in range(3)]
    columns = torch.cat([*kernels, network.shortcut.weight[:, :, 0, 0]])
    assert found["stem"] is not None
    assert torch.allclose(found["stem"].T @ found["stem"], columns.T @ columns, atol=1e-6)
    assert found["sum"] is not None
    assert torch.equal(found["sum"], network.head.weight)
    flat = {"stem": Probe("stem", "flatten")}
    assert next_weights(network, flat, torch.randn(4, 3, 5, 5), 4) == {"stem": None}
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


def test_weight_behind_an_activation_in_place_does_not_read_the_layer() -> None:
    network = nn.Sequential(nn.Linear(4, 5), nn.ReLU(inplace=True), nn.Linear(5, 3))
    probes = {name: Probe(name, "average") for name in ("0", "1")}
    found = next_weights(network, probes, torch.randn(6, 4), 6)
    assert found["0"] is None
    assert found["1"] is not None
    assert torch.equal(found["1"], network[2].weight)
