"""What a split and a dataset take, and what they say of anything else: with the line that repairs it."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch

from ncexp.datasets import Dataset, Split, check_data

INPUTS, LABELS = torch.zeros(4, 3), torch.zeros(4, dtype=torch.int64)


@pytest.mark.parametrize(
    ("inputs", "labels", "message"),
    [
        (INPUTS.numpy(), LABELS, r"expected inputs as a tensor of torch.float32, got a numpy.ndarray\. torch.as_tens"),
        (INPUTS, LABELS.numpy(), r"expected labels as a tensor of torch.int64, got a numpy.ndarray\. torch.as_tensor"),
        (INPUTS.double(), LABELS, "expected inputs as a tensor of torch.float32, got torch.float64"),
        (INPUTS, LABELS.int(), "expected labels as a tensor of torch.int64, got torch.int32"),
        (INPUTS, [0, 0, 0, 0], "expected labels as a tensor of torch.int64, got a builtins.list"),
        (INPUTS, LABELS.unsqueeze(1), r"expected a whole number .* got shape \(4, 1\).*: labels = labels.flatten\(\)"),
        (INPUTS, torch.tensor([0, 0.5, 1, 0]), r"expected a whole number as label of each example, got 0\.5. Where"),
        (INPUTS, torch.tensor([0, 1.0, 1, 0]), "expected labels as a tensor of torch.int64, got torch.float32"),
        (INPUTS, LABELS[:3], "expected as many labels as inputs, and some, got 4 inputs and 3 labels"),
    ],
)
def test_split_refuses_what_is_no_tensor_of_its_kind(inputs: Any, labels: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^Split: {message}"):
        Split(inputs, labels)


def test_split_takes_what_the_message_recommends() -> None:
    split = Split(torch.as_tensor(np.zeros((4, 3))).float(), torch.as_tensor(np.zeros(4, np.uint8)).long())
    assert (split.input_shape, len(split)) == ((3,), 4)


GOOD = torch.tensor([0, 1, 2, 0])


def data(
    inputs: torch.Tensor = INPUTS, labels: torch.Tensor = GOOD, test: Split | None = None, num_classes: int = 3
) -> Dataset:
    return Dataset(Split(inputs, labels), Split(inputs, labels) if test is None else test, num_classes)


@pytest.mark.parametrize("shape", [(3,), (3, 8, 8), (1, 5, 3), (9, 128, 1), (4, 4, 3), (8, 8, 8), (2, 5), (16, 6, 2)])
def test_data_of_any_shape_with_channels_first_are_taken(shape: tuple[int, ...]) -> None:
    found = data(torch.full((4, *shape), 1e38))  # whose sum is infinite
    assert check_data(found) is found


@pytest.mark.parametrize(
    ("given", "message", "repair"),
    [
        (data(labels=GOOD + 1), "labels 0 to 2 in train, got 1 to 3", "labels = labels - 1"),
        (data(labels=GOOD * 2), "labels 0 to 2 in train, got 0 to 4", "labels = torch.unique(labels, return_inv"),
        (data(labels=GOOD - 1), "labels 0 to 2 in train, got -1 to 1", "labels = torch.unique(labels, return_inv"),
        (data(num_classes=4), "examples of every class 0 to 3 in train, got none of 3", "Leave these out of both"),
        (
            data(test=Split(INPUTS, GOOD.clamp(max=1))),
            "examples of every class 0 to 2 in test, got none of 2",
            "keep = ~torch.isin(labels, torch.tensor([2])); labels = torch.unique(labels[keep]",
        ),
        (data(labels=LABELS, num_classes=1), "two classes at least, got 1", "Check the labels"),
        (data(torch.zeros(4, 8, 8, 3)), "images (channels, height, width), got (8, 8, 3)", "inputs = inputs.permute"),
        (data(torch.zeros(4, 8, 8, 1)), "got (8, 8, 1)", "inputs = inputs.permute(0, 3, 1, 2)"),
        (data(torch.zeros(4, 32, 48, 3)), "got (32, 48, 3)", "inputs = inputs.permute(0, 3, 1, 2)"),
        (data(torch.zeros(4)), "inputs (n, ...) of one shape, got ()", "inputs = inputs.unsqueeze(1)"),
        (data(test=Split(torch.zeros(4, 5), GOOD)), "got (3,) in train and (5,) in test", "Make them alike"),
        (
            data(torch.tensor([[0.0], [torch.nan], [1.0], [torch.inf]])),
            "finite inputs, got NaN or infinity in 2 of 4 train examples, the first number 1",
            "keep = inputs.flatten(1).isfinite().all(1); inputs, labels = inputs[keep], labels[keep]",
        ),
    ],
)  # fmt: skip
def test_data_that_cannot_be_trained_on_are_refused_with_their_repair(
    given: Dataset, message: str, repair: str
) -> None:
    with pytest.raises(ValueError, match=f"^dataset: expected .*{re.escape(message)}") as refused:
        check_data(given)
    assert repair in str(refused.value)
    assert str(refused.value).count("\n") == 0


def test_data_are_right_after_the_line_that_repairs_them() -> None:
    for labels in (GOOD + 1, GOOD * 2, GOOD - 1):
        with pytest.raises(ValueError, match="labels = ") as refused:
            check_data(data(labels=labels))
        names: dict[str, Any] = {"labels": labels, "torch": torch}
        exec(re.search(r"labels = .*(?=\.$)", str(refused.value))[0], names)  # type: ignore[index]
        check_data(data(labels=names["labels"]))
    inputs = torch.tensor([[0.0], [1.0], [2.0], [torch.nan]])
    with pytest.raises(ValueError, match="keep = ") as refused:
        check_data(data(inputs))
    names = {"inputs": inputs, "labels": GOOD, "torch": torch}
    exec(re.search(r"keep = .*(?=\.$)", str(refused.value))[0], names)  # type: ignore[index]
    check_data(data(names["inputs"], names["labels"]))
