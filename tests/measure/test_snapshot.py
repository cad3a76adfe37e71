"""Snapshots: what an analysis finds in one read from the disk is what it found before, to the last bit."""

from __future__ import annotations

from dataclasses import fields
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from support import TRAINING, snapshot_of

from ncexp.collapse import ClassStatistics, LinearClassifier
from ncexp.measure import Probe, Ridge, Snapshot, load_snapshot, snapshot_bytes

NUM_CLASSES, WIDTH = 4, 6
LAYERS = {"backbone.3 average": 5, "backbone.1 flatten": 9}


def example(width: int = WIDTH, bias: bool = True, layers: dict[str, int] = LAYERS) -> Snapshot:
    """Float32 features, as a network's, of classes of unequal size."""
    generator = torch.Generator().manual_seed(3)
    labels = torch.arange(60) % 7 % NUM_CLASSES
    features = torch.randn(60, width, generator=generator).relu() + labels[:, None]
    probed = {name: torch.randn(60, size, generator=generator) for name, size in layers.items()}
    weight, offset = torch.randn(NUM_CLASSES, width, generator=generator), torch.ones(NUM_CLASSES)
    classifier = LinearClassifier(weight, offset if bias else None)
    splits = {"train": (features, labels), "test": (features[:30] * 1.1, labels[:30])}
    return snapshot_of(splits, classifier, Ridge(0.02, 0.01, "λ = 0.02"), probed, epoch=7)


def assert_equal(one: ClassStatistics, other: ClassStatistics) -> None:
    for field in fields(ClassStatistics):
        ours, theirs = torch.as_tensor(getattr(one, field.name)), torch.as_tensor(getattr(other, field.name))
        assert ours.dtype == theirs.dtype, field.name
        assert torch.equal(ours, theirs), field.name


@pytest.mark.parametrize("bias", [True, False])
def test_snapshot_comes_back_to_the_last_bit(tmp_path: Path, bias: bool) -> None:
    snapshot, path = example(bias=bias), tmp_path / "epoch_0007.safetensors"
    snapshot.save(path, TRAINING)
    loaded = load_snapshot(path, TRAINING)
    assert (loaded.epoch, loaded.ridge, list(loaded.splits)) == (7, snapshot.ridge, ["train", "test"])
    assert torch.equal(loaded.classifier.weight, snapshot.classifier.weight)
    assert loaded.classifier.weight.dtype == torch.float64
    if bias:
        assert torch.equal(loaded.classifier.bias, snapshot.classifier.bias)  # type: ignore[arg-type]
    assert (loaded.classifier.bias is None) is (not bias)
    for name, split in snapshot.splits.items():
        again = loaded.splits[name]
        assert (again.loss, again.error) == (split.loss, split.error)
        assert list(again.layers) == list(split.layers) == list(LAYERS)
        assert_equal(again.statistics, split.statistics)
        assert torch.equal(split.statistics.within_class_covariance, split.statistics.within_class_covariance.T)
        for layer, statistics in split.layers.items():
            assert_equal(again.layers[layer], statistics)


def test_equal_snapshots_are_equal_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        example().save(tmp_path / name, TRAINING)
    load_snapshot(tmp_path / "one", TRAINING).save(tmp_path / "three", TRAINING)
    assert all(a.read_bytes() == b.read_bytes() for a, b in pairwise(sorted(tmp_path.iterdir())))


def test_snapshot_has_the_probes_that_it_has() -> None:
    snapshot = example()
    assert snapshot.has({})
    assert snapshot.has({name: Probe(*name.split()) for name in LAYERS})
    assert not snapshot.has({"backbone.3 flatten": Probe("backbone.3", "flatten")})


@pytest.mark.parametrize(
    ("width", "layers"), [(8, {}), (64, {}), (64, {"a average": 16, "b average": 32}), (512, {"a": 128})]
)
def test_snapshot_bytes_are_the_size_of_the_file_within_five_percent(
    tmp_path: Path, width: int, layers: dict[str, int]
) -> None:
    path = tmp_path / "epoch_0007.safetensors"
    example(width, layers=layers).save(path, TRAINING)
    told = snapshot_bytes(NUM_CLASSES, [width, *layers.values()])
    assert path.stat().st_size == pytest.approx(told, rel=0.05)
