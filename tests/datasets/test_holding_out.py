"""dataset.hold_out: the other classes renumbered, standardised by their own train examples; the held-out ones apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from official_files import write
from PIL import Image
from sklearn.datasets import load_digits
from support import Compose

from ncexp.config import Component, ConfigError, check
from ncexp.datasets import Dataset, digits, gaussian_mixture, imagenet, images, module, table

#: Means and deviations in float64 of another order, rounded to float32.
ROUNDING = 1e-6
KEPT = [0, 1, 2, 4, 5, 6, 8, 9]


def rows(split: Any) -> set[bytes]:
    """The inputs of a split, each as its bytes."""
    return {one.numpy().tobytes() for one in split.inputs}


def test_digits_without_two_classes_are_scikit_learns_others() -> None:
    all_ten, found = digits.load(standardize="none"), digits.load(standardize="none", hold_out=[3, 7])
    pixels, labels = load_digits(return_X_y=True)
    assert found.num_classes == 8
    assert found.held_out is not None
    for split, of_ten in ((found.train, all_ten.train), (found.test, all_ten.test)):
        here = torch.isin(of_ten.labels, torch.tensor(KEPT))
        assert torch.equal(split.inputs, of_ten.inputs[here])  # type: ignore[attr-defined]
        assert torch.tensor(KEPT)[split.labels].tolist() == of_ten.labels[here].tolist()
    outside = np.isin(labels, [3, 7])
    np.testing.assert_array_equal(found.held_out.inputs.flatten(1), pixels[outside])  # type: ignore[attr-defined]
    assert len(found.held_out) == 362
    assert found.facts == {"classes": "0, 1, 2, 4, 5, 6, 8, 9", "classes_held_out": "3, 7"}


def test_all_three_parts_are_standardised_by_the_train_set_that_is_left() -> None:
    raw, found = (digits.load(standardize=kind, hold_out=[3, 7]) for kind in ("none", "per_pixel"))  # type: ignore[arg-type]
    train = raw.train.inputs.double().numpy()  # type: ignore[attr-defined]
    mean, deviation = train.mean(0), train.std(0)
    for part in ("train", "test", "held_out"):
        here = getattr(raw, part).inputs.double().numpy()
        expected = np.where(deviation > 0, (here - mean) / np.where(deviation > 0, deviation, 1), 0)
        np.testing.assert_allclose(getattr(found, part).inputs, expected, rtol=ROUNDING, atol=ROUNDING)


def test_options_of_digits_are_of_the_classes_that_are_left() -> None:
    few = {"examples_per_class": 40, "test_examples_per_class": 5, "imbalance": 4.0, "label_noise": 0.2}
    found = digits.load(**few, hold_out=[9, 0], pad=12)  # type: ignore[arg-type]
    plain = digits.load(**{**few, "label_noise": 0.0}, hold_out=[0, 9], pad=12)  # type: ignore[arg-type]
    counts = torch.bincount(plain.train.labels).tolist()
    assert (len(counts), counts[0], counts[-1]) == (8, 40, 10)
    assert torch.bincount(found.test.labels).tolist() == [5] * 8
    assert found.held_out is not None
    assert torch.bincount(found.held_out.labels).tolist() == [0] * 8 + [5] * 2
    assert found.held_out.input_shape == (1, 12, 12)
    assert int(found.train.labels.max()) == 7
    assert found.facts["num_mislabelled"] == int((found.train.labels != plain.train.labels).sum()) > 0


def test_files_of_images_without_classes_come_out_as_they_went_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, labels, test, test_labels = write("mnist", tmp_path, monkeypatch)
    options: Any = {"source": "mnist", "standardize": "none", "root": str(tmp_path)}
    before = images.load(**options)
    found = images.load(**options, hold_out=[3, 7])
    parts = ((found.train, train, labels, KEPT), (found.test, test, test_labels, KEPT),
             (found.held_out, test, test_labels, [3, 7]))  # fmt: skip
    for split, pixels, words, classes in parts:
        here = np.isin(words, classes)
        assert split is not None
        np.testing.assert_array_equal((split.inputs * 255).round(), pixels[here])  # type: ignore[attr-defined]
        assert np.array([*KEPT, 3, 7])[split.labels].tolist() == words[here].tolist()
    assert rows(images.load(**options).train) == rows(before.train)  # what is kept of both is apart
    few = images.load(**options, hold_out=[3, 7], test_examples_per_class=1)
    assert few.held_out is not None
    assert (len(few.test), len(few.held_out)) == (8, 2)


def test_a_table_is_without_the_labels_that_are_named(tmp_path: Path) -> None:
    random, path = np.random.default_rng(0), tmp_path / "t.csv"
    kinds = ["b"] * 20 + ["a"] * 10 + ["c"] * 5
    numbers = random.normal(size=(35, 2)).round(6)
    lines = [f"{one[0]},{one[1]},{kind}" for one, kind in zip(numbers, kinds, strict=True)]
    path.write_text("\n".join(["x,y,kind", *lines]) + "\n")
    found = table.load(path=str(path), label="kind", hold_out=["b"])
    assert found.held_out is not None
    assert found.num_classes == 2
    assert (len(found.train), len(found.test), len(found.held_out)) == (12, 3, 4)
    assert (found.facts["classes"], found.facts["classes_held_out"]) == ("a, c", "b")
    inputs = found.train.inputs.double()  # type: ignore[attr-defined]
    assert inputs.mean(0).numpy() == pytest.approx([0, 0], abs=ROUNDING)
    assert inputs.std(0, correction=0).numpy() == pytest.approx([1, 1], rel=ROUNDING)


def words() -> Any:
    """A factory of dataset.factory: three classes by name."""
    inputs = np.arange(12.0).reshape(6, 2)
    return (inputs, ["cat", "dog", "cat", "eel", "dog", "eel"]), (
        inputs + 100,
        ["eel", "cat", "dog", "cat", "eel", "dog"],
    )


def test_data_as_they_come_are_without_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "locate", lambda key, factory: words)
    found = module.load(factory="tests.words", hold_out=["dog"])
    assert found.held_out is not None
    assert found.train.inputs[:, 0].tolist() == [0, 4, 6, 10]  # type: ignore[attr-defined]
    assert found.train.labels.tolist() == [0, 0, 1, 1]
    assert found.held_out.inputs[:, 0].tolist() == [104, 110]  # type: ignore[attr-defined]
    taken: list[Any] = []
    monkeypatch.setattr(module, "locate", lambda key, factory: lambda hold_out: taken.append(hold_out) or words())
    assert module.load(factory="tests.own", hold_out=["dog"]).num_classes == 3
    assert taken == [["dog"]]
    drawn, left = gaussian_mixture.sample(num_classes=4), gaussian_mixture.sample(num_classes=4, hold_out=[1])
    assert left.held_out is not None
    assert torch.equal(left.train.inputs, drawn.train.inputs[drawn.train.labels != 1])  # type: ignore[attr-defined]
    assert torch.equal(left.held_out.inputs, drawn.test.inputs[drawn.test.labels == 1])  # type: ignore[attr-defined]
    assert torch.bincount(left.test.labels).tolist() == [100] * 3


def test_folders_of_images_are_without_classes_by_their_names(tmp_path: Path) -> None:
    for split, size in (("train", 3), ("val", 2)):
        for label, name in enumerate(("ape", "bee", "cow")):
            (folder := tmp_path / "imagenet" / split / name).mkdir(parents=True)
            for k in range(size):
                grey = np.full((16, 16, 3), 60 * label + 9 * k + (4 if split == "val" else 0), np.uint8)
                Image.fromarray(grey).save(folder / f"{k}.png")
    options: Any = {"root": str(tmp_path), "size": 14, "num_workers": 0, "examples_per_class": None}
    found = imagenet.load(**options, standardize="none", hold_out=["ape"])
    assert found.held_out is not None
    for split, expected in ((found.train, [60, 69, 78, 120, 129, 138]), (found.held_out, [4, 13])):
        ((inputs, _),) = split.batches(10)
        assert (inputs * 255).round().mean((1, 2, 3)).tolist() == pytest.approx(expected)
    assert found.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert found.facts["classes"] == "bee, cow"
    assert found.facts["content"] != imagenet.load(**options).facts["content"]


@pytest.mark.parametrize(
    ("held", "message"),
    [
        ([12], r"dataset.hold_out: expected classes of the data, got 12\. Valid: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9\."),
        (["three"], "dataset.hold_out: expected classes of the data, got three"),
        (list(range(9)), "dataset.hold_out: expected two classes at least to be left of 10, got 1"),
        (list(range(10)), "dataset.hold_out: expected two classes at least to be left of 10, got 0"),
    ],
)
def test_classes_that_cannot_be_held_out_are_refused(held: list[Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        digits.load(hold_out=held)


def test_key_has_the_classes_held_out_where_there_are_some_in_any_order(composed: Compose) -> None:
    def key(*overrides: str) -> str:
        return check(composed("dataset=digits", *overrides, base=[])).key

    raw = composed("dataset=digits", base=[])
    del raw["dataset"]["hold_out"]
    assert check(raw).key == key() == key("dataset.hold_out=[]") == key("dataset.hold_out=null")
    assert key("dataset.hold_out=[3,7]") == key("dataset.hold_out=[7,3]") != key()
    assert key("dataset.hold_out=[3]") != key("dataset.hold_out=[3,7]")
    with pytest.raises(ConfigError, match=r"dataset\.hold_out: expected classes, each once, got \[3, 3\]"):
        key("dataset.hold_out=[3,3]")


def test_no_choice_has_another_component_for_nothing_held_out() -> None:
    raw = {"name": "digits", "_target_": "ncexp.datasets.digits.load"}
    assert "hold_out" not in Component.check("dataset", {**raw, "hold_out": []}).identity()
    built: Dataset = Component.check("dataset", {**raw, "hold_out": []}).build()
    assert (built.num_classes, built.held_out, built.facts) == (10, None, {})
