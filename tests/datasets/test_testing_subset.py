"""A balanced subset of the test examples, and that runs of before there was one keep their key."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from official_files import write
from PIL import Image

from ncexp.config import check
from ncexp.config.composing import compose_plain
from ncexp.datasets import Dataset, digits, imagenet, images

Load = Callable[..., Dataset]


@pytest.fixture(params=["images", "imagenet", "digits"])
def load(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """A loader without standardisation of a set with at least two test examples of each class."""
    if request.param == "images":
        write("cifar10", tmp_path, monkeypatch)
        return lambda **options: images.load(source="cifar10", standardize="none", root=str(tmp_path), **options)
    if request.param == "digits":
        return lambda **options: digits.load(standardize="none", **options)
    for split in ("train", "val"):
        for label in range(3):
            folder = tmp_path / "imagenet" / split / f"class_{label}"
            folder.mkdir(parents=True)
            for number in range(4):
                Image.new("RGB", (8, 8), (label, number, split == "val")).save(folder / f"{number}.png")
    options: dict[str, Any] = {"standardize": "none", "size": 8, "num_workers": 0, "examples_per_class": 2}
    return lambda **more: imagenet.load(root=str(tmp_path), **options, **more)


def contents(dataset: Dataset) -> list[tuple[bytes, int]]:
    """Every test example by its content, in order."""
    batches = list(dataset.test.batches(7))
    return [(image.numpy().tobytes(), int(label)) for some in batches for image, label in zip(*some, strict=True)]


def test_subset_is_balanced_of_the_test_set_and_nested_and_leaves_training_alone(load: Load) -> None:
    whole, one, two = load(), load(test_examples_per_class=1), load(test_examples_per_class=2)
    classes = whole.num_classes
    assert torch.bincount(one.test.labels, minlength=classes).tolist() == [1] * classes
    assert torch.bincount(two.test.labels, minlength=classes).tolist() == [2] * classes
    everything = contents(whole)
    for smaller, larger in ((contents(one), contents(two)), (contents(two), everything)):
        places = [larger.index(example) for example in smaller]  # in the order of the larger one
        assert places == sorted(set(places))
    first = [next(iter(dataset.train.batches(16))) for dataset in (whole, one)]
    assert all(torch.equal(left, right) for left, right in zip(*first, strict=True))


def test_subset_depends_on_the_seed(load: Load) -> None:
    chosen = [contents(load(test_examples_per_class=1, subset_seed=seed)) for seed in range(4)]
    assert len({tuple(examples) for examples in chosen}) > 1


def test_subset_larger_than_the_smallest_class_is_refused(load: Load) -> None:
    smallest = int(torch.bincount(load().test.labels).min())
    match = rf"^dataset.test_examples_per_class: expected at most {smallest} \(class \d+ has no more\), got"
    with pytest.raises(ValueError, match=match):
        load(test_examples_per_class=smallest + 1)


def test_subset_is_taken_of_what_is_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, _, test_images, _ = write("cifar10", tmp_path, monkeypatch)
    whole = images.load(source="cifar10", root=str(tmp_path))
    monkeypatch.setattr(images, "_decode", lambda *_, **__: pytest.fail("decoded again"))
    part = images.load(source="cifar10", root=str(tmp_path), test_examples_per_class=1)
    assert (len(whole.test), len(part.test)) == (len(test_images), 10)
    np.testing.assert_array_equal(part.train.inputs.numpy(), whole.train.inputs.numpy())  # the same statistics


#: Training keys that runs had before there was the option.
KEYS = {"digits": "6bca22af0a", "mnist": "8311a893f1", "imagenet": "b89c9fde64"}


@pytest.mark.slow
@pytest.mark.parametrize("name", KEYS)
def test_training_key_is_that_of_earlier_runs_unless_a_subset_is_asked_for(name: str) -> None:
    assert check(compose_plain("config", [f"dataset={name}", "optimizer=sgd"])).key == KEYS[name]
    assert (
        check(compose_plain("config", [f"dataset={name}", "optimizer=sgd", "dataset.test_examples_per_class=1"])).key
        != KEYS[name]
    )


@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_refused_data_leave_no_folder_behind(damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write("mnist", tmp_path, monkeypatch)
    one = next((tmp_path / "MNIST" / "raw").glob("t10k*"))
    one.unlink() if damage == "missing" else one.write_bytes(one.read_bytes()[:-20])
    with pytest.raises(ValueError, match="MNIST: expected"):
        images.load(source="mnist", root=str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["MNIST"]


def test_refused_data_leave_the_folder_that_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write("mnist", tmp_path, monkeypatch)
    images.load(source="mnist", root=str(tmp_path))
    write("cifar10", tmp_path, monkeypatch)
    next(tmp_path.glob("cifar-10-batches-py/test_batch")).unlink()
    with pytest.raises(ValueError, match="CIFAR10: expected the file"):
        images.load(source="cifar10", root=str(tmp_path))
    assert len(list((tmp_path / "ncexp_decoded").glob("mnist-*.pt"))) == 1
