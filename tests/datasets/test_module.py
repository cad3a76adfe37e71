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
    return (numpy.arange(6.0).reshape(6, 1), numpy.arange(6) % 3), (torch.zeros(2, 1), [0, 2])

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
    assert data.test.labels.tolist() == [0, 2]
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("factory", "options", "message"),
    [
        ("data_of_theirs.as_dataset", {}, r"dataset\.factory: expected package.module.callable, got"),
        ("data_of_theirs.as_datasets", {"cuont": 3}, "expected options that .* takes, got .*cuont"),
        ("data_of_theirs.three", {}, r"expected \(train, test\) of data_of_theirs.three, got tuple"),
        ("data_of_theirs.strange", {}, "expected torch Datasets, or .* got int"),
        ("data_of_theirs.halves", {}, r"expected a whole number as label of each example, got 1\.5 of data_of"),
        ("data_of_theirs.missing", {}, "expected a whole number as label of each example, got nan of data_of"),
        ("data_of_theirs.one_hot", {}, r"expected a whole number as label of each example, got shape \(2, 2\) of"),
        ("data_of_theirs.other_labels", {}, r"expected labels 0\.\.1 as in train, got 0 to 2 in test"),
    ],
)
def test_module_refuses_what_is_no_data(factory: str, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        module.load(factory=factory, **options)
