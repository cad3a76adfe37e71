"""Data of one's own function, exactly as it returns them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from ncexp.datasets import module

THEIRS = """
import numpy, torch

def inputs(count):
    return torch.zeros(count, 1)

class Examples:
    def __init__(self, count, label):
        self.count, self.label = count, label
    def __len__(self):
        return self.count
    def __getitem__(self, place):
        if place >= self.count:
            raise IndexError
        return torch.full((1, 2, 2), float(place)), self.label(place)

def as_datasets(count=700):
    return Examples(count, lambda place: place % 3), Examples(9, lambda place: place % 3)

def named():
    return (Examples(600, lambda place: ["dog", "cat"][place % 2]),) * 2

def as_arrays():
    return (numpy.arange(6.0).reshape(6, 1), numpy.arange(6) % 3), (inputs(3), [0, 2, 1])

def from_one():
    return (inputs(4), [1, 2, 10, 1]), (inputs(3), numpy.array([10, 2, 1]))

def words():
    return (inputs(3), ["dog", "cat", "eel"]), (inputs(3), numpy.array(["cat", "eel", "dog"]))

three = lambda: (1, 2, 3)
strange = lambda: (1, 2)
one_pair = lambda: (inputs(4), torch.tensor([0, 1, 0, 1]))
four = lambda: (inputs(4), torch.tensor([0, 1, 0, 1])) * 2
unlabelled = lambda: ([torch.zeros(3)] * 4, [torch.zeros(3)] * 3)
halves = lambda: ((inputs(4), [0.0, 1.0, 0.0, 1.5]), (inputs(2), [0, 1]))
missing = lambda: ((inputs(4), [0.0, 1.0, 0.0, 1.0]), (inputs(2), [0, float("nan")]))
one_hot = lambda: ((inputs(2), torch.eye(2)),) * 2
column = lambda: ((inputs(2), torch.tensor([[0], [1]])), (inputs(2), [0, 1]))
other_labels = lambda: ((inputs(4), [0, 1, 0, 1]), (inputs(2), [0, 2]))
single = lambda: ((inputs(2), [3, 3]),) * 2
"""


@pytest.fixture(autouse=True)
def theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data_of_theirs.py").write_text(THEIRS)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(__import__("sys").modules, "data_of_theirs", raising=False)


def test_module_takes_every_example_of_a_torch_dataset_in_order() -> None:
    data = module.load(factory="data_of_theirs.as_datasets", count=700)
    assert data.num_classes == 3
    assert data.train.inputs[:, 0, 0, 0].tolist() == list(range(700))
    assert data.train.labels.tolist() == [place % 3 for place in range(700)]
    assert data.test.inputs.shape == (9, 1, 2, 2)
    assert (data.train.inputs.dtype, data.train.labels.dtype) == (torch.float32, torch.int64)
    assert (data.origin, data.facts.keys()) == ("", {"content"})  # labels that are numbers already need no words
    assert data.facts["content"] != module.load(factory="data_of_theirs.as_datasets", count=699).facts["content"]


def test_module_takes_arrays_and_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    data = module.load(factory="data_of_theirs.as_arrays")
    module.load(factory="data_of_theirs.as_datasets")
    assert np.array_equal(data.train.inputs.numpy(), np.arange(6.0, dtype=np.float32).reshape(6, 1))
    assert data.test.labels.tolist() == [0, 2, 1]
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("factory", "labels", "test_labels", "classes"),
    [
        ("from_one", [0, 1, 2, 0], [2, 1, 0], "1, 2, 10"),
        ("words", [1, 0, 2], [0, 2, 1], "cat, dog, eel"),
        ("named", [1, 0] * 300, [1, 0] * 300, "cat, dog"),
    ],
)
def test_labels_of_any_kind_become_numbers_and_are_said(
    factory: str, labels: list[int], test_labels: list[int], classes: str
) -> None:
    data = module.load(factory=f"data_of_theirs.{factory}")
    assert (data.train.labels.tolist(), data.test.labels.tolist()) == (labels, test_labels)
    assert data.num_classes == len(classes.split(", "))
    assert data.facts["classes"] == classes
    assert data.origin.startswith(f"the labels {classes} of data_of_theirs.{factory} are the classes 0 to ")


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        ("as_dataset", r"dataset\.factory: expected package.module.callable, got"),
        ("three", r"expected \(train, test\), .* got tuple of int, int, int of data_of_theirs.three"),
        ("strange", r"expected \(train, test\), .* got tuple of int, int of data_of_theirs.strange"),
        ("one_pair", r"got tuple of Tensor, Tensor .* return \(x_train, y_train\), \(x_test, y_test\)"),
        ("four", r"got tuple of Tensor, .* return \(x_train, y_train\), \(x_test, y_test\)"),
        ("unlabelled", r"expected examples \(input, label\), got Tensor from a list"),
        ("halves", r"expected a whole number .* got 1\.5. .*: labels = torch.unique\(labels, return_in"),
        ("missing", "expected a whole number as label of each example, got nan"),
        ("one_hot", r"got shape \(2, 2\). One of each: labels = labels.argmax\(1\)"),
        ("column", r"got shape \(2, 1\). One of each: labels = labels.flatten\(\)"),
        ("other_labels", "expected the same classes in training and test, got '1' in training alone"),
        ("single", "expected two classes at least, got 1"),
    ],
)
def test_module_refuses_what_is_no_data(factory: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        module.load(factory=f"data_of_theirs.{factory}")


def test_module_refuses_options_that_the_function_has_not() -> None:
    with pytest.raises(ValueError, match=r"expected options that .* takes, got .*cuont"):
        module.load(factory="data_of_theirs.as_datasets", cuont=3)
