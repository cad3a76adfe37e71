"""Data of one's own function, exactly as it returns them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from ncexp.datasets import module

THEIRS = """
import numpy, torch
from torch.utils.data import TensorDataset

class Pictures:
    def __init__(self, count):
        self.count = count
    def __len__(self):
        return self.count
    def __getitem__(self, place):
        if place >= self.count:
            raise IndexError
        return torch.full((1, 2, 2), float(place)), place % 3

def as_datasets(count=700):
    return Pictures(count), Pictures(9)

def as_arrays():
    return (numpy.arange(6.0).reshape(6, 1), numpy.arange(6) % 3), (torch.zeros(3, 1), [0, 2, 1])

def three():
    return 1, 2, 3

def strange():
    return 1, 2

def halves():
    return (torch.zeros(4, 1), [0.0, 1.0, 0.0, 1.5]), (torch.zeros(2, 1), [0, 1])

def missing():
    return (torch.zeros(4, 1), [0.0, 1.0, 0.0, 1.0]), (torch.zeros(2, 1), [0, float("nan")])

def one_hot():
    return (torch.zeros(2, 1), torch.eye(2)), (torch.zeros(2, 1), torch.eye(2))

def other_labels():
    return (torch.zeros(4, 1), [0, 1, 0, 1]), (torch.zeros(2, 1), [0, 2])

def column():
    return (torch.zeros(2, 1), torch.tensor([[0], [1]])), (torch.zeros(2, 1), [0, 1])

def one_pair():
    return torch.zeros(4, 1), torch.tensor([0, 1, 0, 1])

def four():
    return torch.zeros(4, 1), torch.tensor([0, 1, 0, 1]), torch.zeros(4, 1), torch.tensor([0, 1, 0, 1])

def unlabelled():
    return [torch.zeros(3)] * 4, [torch.zeros(3)] * 3

def fewer():
    return (torch.zeros(4, 1), [0, 1, 2, 1]), (torch.zeros(2, 1), [0, 1])

def single():
    return (torch.zeros(2, 1), [3, 3]), (torch.zeros(2, 1), [3, 3])

def from_one():
    return (torch.zeros(4, 1), [1, 2, 10, 1]), (torch.zeros(3, 1), numpy.array([10, 2, 1]))

def words():
    return (torch.zeros(3, 1), ["dog", "cat", "eel"]), (torch.zeros(3, 1), numpy.array(["cat", "eel", "dog"]))

class Named:
    def __len__(self):
        return 600
    def __getitem__(self, place):
        if place >= 600:
            raise IndexError
        return torch.zeros(2), ["dog", "cat"][place % 2]

def named():
    return Named(), Named()
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


def test_labels_that_are_numbers_already_stay_as_they_are() -> None:
    data = module.load(factory="data_of_theirs.as_datasets")
    assert data.origin == ""
    assert data.facts.keys() == {"content"}


@pytest.mark.parametrize(
    ("factory", "options", "message"),
    [
        ("data_of_theirs.as_dataset", {}, r"dataset\.factory: expected package.module.callable, got"),
        ("data_of_theirs.as_datasets", {"cuont": 3}, "expected options that .* takes, got .*cuont"),
        (
            "data_of_theirs.three",
            {},
            r"expected \(train, test\), .* got tuple of int, int, int of data_of_theirs.three",
        ),
        ("data_of_theirs.strange", {}, r"expected \(train, test\), .* got tuple of int, int of data_of_theirs.strange"),
        (
            "data_of_theirs.one_pair",
            {},
            r"got tuple of Tensor, Tensor .* return \(x_train, y_train\), \(x_test, y_test\)",
        ),
        ("data_of_theirs.four", {}, r"got tuple of Tensor, .* return \(x_train, y_train\), \(x_test, y_test\)"),
        ("data_of_theirs.unlabelled", {}, r"expected examples \(input, label\), got Tensor from a list"),
        (
            "data_of_theirs.halves",
            {},
            r"expected a whole number .* got 1\.5. .*: labels = torch.unique\(labels, return_in",
        ),
        ("data_of_theirs.missing", {}, "expected a whole number as label of each example, got nan"),
        ("data_of_theirs.one_hot", {}, r"got shape \(2, 2\). One of each: labels = labels.argmax\(1\)"),
        ("data_of_theirs.column", {}, r"got shape \(2, 1\). One of each: labels = labels.flatten\(\)"),
        (
            "data_of_theirs.other_labels",
            {},
            "expected the same classes in training and test, got '1' in training alone",
        ),
        ("data_of_theirs.fewer", {}, "expected the same classes in training and test, got '2' in training alone"),
        ("data_of_theirs.single", {}, "expected two classes at least, got 1"),
    ],
)
def test_module_refuses_what_is_no_data(factory: str, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        module.load(factory=factory, **options)
