"""Data with targets: splits, units, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_diabetes, load_linnerud

from ncexp.datasets import Dataset, Split, Targets, check_data
from ncexp.datasets.regression import scikit_learn, synthetic_regression
from ncexp.datasets.table import load

#: float32 numbers of size 1.
ROUNDING = 1e-6


@pytest.mark.parametrize(("source", "read", "names"), [
    ("diabetes", lambda: load_diabetes(scaled=False), ["progression"]),
    ("linnerud", load_linnerud, ["Weight", "Waist", "Pulse"]),
])  # fmt: skip
def test_set_of_scikit_learn_is_whole_and_standardised(source: Any, read: Any, names: Any) -> None:
    found = check_data(scikit_learn(source=source))
    given = read()
    targets = given.target.reshape(len(given.data), -1)
    assert found.targets is not None
    assert found.targets.names == names
    assert found.num_classes == len(names)
    assert len(found.test) == round(0.2 * len(targets))
    train, test = found.train.labels.double(), found.test.labels.double()
    assert torch.allclose(train.mean(0), torch.zeros(1).double(), atol=ROUNDING)
    assert torch.allclose(train.std(0, correction=0), torch.ones(1).double(), atol=ROUNDING)
    scales = np.array(found.targets.scales)
    both = np.concatenate([train.numpy(), test.numpy()]) * scales
    shift = targets.mean(0) - both.mean(0)
    assert np.allclose(np.sort(both + shift, axis=0), np.sort(targets, axis=0), rtol=ROUNDING)
    own = scikit_learn(source=source, standardize="none", standardize_targets=False)
    assert own.targets == Targets(names, [1.0] * len(names))
    rows = np.concatenate([own.train.labels.numpy(), own.test.labels.numpy()])
    assert np.allclose(np.sort(rows, axis=0), np.sort(targets, axis=0))


def test_made_up_targets_have_the_covariance_that_is_asked_for() -> None:
    variances = [4.0, 1.0, 0.25]
    found = check_data(synthetic_regression(variances=variances, num_train=200_000, num_test=10, noise=0.2))
    covariance = np.cov(found.train.labels.double().numpy().T, bias=True)  # type: ignore[attr-defined]
    sizes, vectors = np.linalg.eigh(covariance)
    assert np.allclose(sizes[::-1], variances, rtol=0.03)  # of 200,000 draws
    assert np.abs(vectors).max() < 0.999  # targets are correlated
    inputs = found.train.inputs.double().numpy()  # type: ignore[attr-defined]
    along = found.train.labels.double().numpy() @ vectors
    extended = np.c_[inputs, np.ones(len(inputs))]
    linear = extended @ np.linalg.lstsq(extended, along, rcond=None)[0]
    assert np.allclose(linear.var(0) / along.var(0), 0.5 * 0.8, atol=0.02)  # half of what is no noise


def table(path: Path, rows: list[list[Any]]) -> str:
    path.write_text("\n".join(",".join(map(str, row)) for row in [["x", "a", "z", "b"], *rows]) + "\n")
    return str(path)


def test_table_predicts_the_columns_that_are_named(tmp_path: Path) -> None:
    rows = [[i, 10.0 * i, i % 3, -float(i)] for i in range(20)]
    found = check_data(load(path=table(tmp_path / "a.csv", rows), target=["b", "a"], test_fraction=0.25))
    assert (len(found.train), len(found.test)) == (15, 5)
    assert found.facts["columns"] == "x, z"
    assert found.targets is not None
    assert found.targets.names == ["b", "a"]
    assert found.targets.scales[1] == pytest.approx(10 * found.targets.scales[0])
    assert torch.allclose(found.train.labels[:, 0], -found.train.labels[:, 1], atol=ROUNDING)
    given = load(
        path=table(tmp_path / "a.csv", rows[:15]), test_path=table(tmp_path / "b.csv", rows[15:]), target=["a"],
        standardize_targets=False,
    )  # fmt: skip
    assert given.test.labels[:, 0].tolist() == [150.0, 160.0, 170.0, 180.0, 190.0]


@pytest.mark.parametrize(("options", "message"), [
    ({}, "dataset.label: expected a column of labels, or dataset.target=[...] for a regression, got neither"),
    ({"label": "z", "target": ["a"]}, "got both"),
    ({"target": ["a", "c"]}, "dataset.target: expected a column of"),
    ({"target": ["a", "a"]}, "each once, got ['a', 'a']"),
    ({"target": []}, "dataset.target: expected columns"),
    ({"target": ["a"], "imbalance": 2.0}, "expected none of examples_per_class, label_noise, imbalance and hold_out"),
    ({"target": ["x", "a", "z", "b"]}, "expected a column of inputs beside"),
])  # fmt: skip
def test_table_without_usable_targets_is_refused(tmp_path: Path, options: Any, message: str) -> None:
    path = table(tmp_path / "a.csv", [[i, i, i, i] for i in range(9)])
    with pytest.raises(ValueError, match=re.escape(message)):
        load(path=path, **options)


X = torch.zeros(4, 3)


@pytest.mark.parametrize(("train", "message"), [
    (torch.tensor([[1.0, 2], [1, 3], [1, 4], [1, 5]]), "expected targets that vary in train, got 1 as a of all 4"),
    (torch.tensor([[1.0, 2], [2, torch.nan], [1, 4], [1, 5]]), "got NaN or infinity in b of 1 of 4 train examples"),
    (torch.tensor([[1.0], [2], [3], [4]]), "expected targets (n, 2) in train, for a, b, got (4, 1)"),
])  # fmt: skip
def test_targets_that_cannot_be_predicted_are_refused(train: torch.Tensor, message: str) -> None:
    good = torch.tensor([[1.0, 2], [2, 3], [1, 4], [1, 5]])
    with pytest.raises(ValueError, match=re.escape(message)):
        check_data(Dataset(Split(X, train), Split(X, good), 2, targets=Targets(["a", "b"], [1.0, 1.0])))


def test_targets_in_the_place_of_labels_are_refused() -> None:
    with pytest.raises(ValueError, match=r"labels = labels\.argmax\(1\)"):
        check_data(Dataset(Split(X, torch.eye(4)), Split(X, torch.eye(4)), 4))


class Pictures(torch.utils.data.Dataset[Any]):
    def __init__(self, count: int) -> None:
        self.images = torch.rand(count, 1, 4, 4, generator=torch.Generator().manual_seed(count))

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, place: int) -> Any:
        image = self.images[place]
        return image, torch.stack([image.mean(), image[0, 0, 0]]).double()


def pictures() -> Any:
    return Pictures(30), Pictures(9)


def pairs() -> Any:
    inputs = np.arange(12.0).reshape(6, 2)
    return (inputs, inputs[:, 0]), (inputs, inputs[:, 1])


def test_function_of_ones_own_gives_targets() -> None:
    from ncexp.datasets.module import load as by_module

    found = check_data(by_module(factory=f"{__name__}.pictures", targets=["mean", "corner"]))
    assert found.input_shape == (1, 4, 4)
    assert torch.allclose(found.train.labels[:, 0], found.train.inputs.mean((1, 2, 3)))  # type: ignore[attr-defined]
    one = by_module(factory=f"{__name__}.pairs", targets=["first"])
    assert one.train.labels.tolist() == [[0.0], [2.0], [4.0], [6.0], [8.0], [10.0]]
    with pytest.raises(ValueError, match=r"dataset.targets: expected the names of the 2 targets .* got 1 names"):
        by_module(factory=f"{__name__}.pictures", targets=["mean"])
