"""What a split takes, and what it says of anything else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from ncexp.datasets import Split

INPUTS, LABELS = torch.zeros(4, 3), torch.zeros(4, dtype=torch.int64)


@pytest.mark.parametrize(
    ("inputs", "labels", "message"),
    [
        (
            INPUTS.numpy(),
            LABELS,
            r"expected inputs as a tensor of torch.float32, got a numpy.ndarray\. torch.as_tensor",
        ),
        (INPUTS, LABELS.numpy(), r"expected labels as a tensor of torch.int64, got a numpy.ndarray\. torch.as_tensor"),
        (INPUTS.double(), LABELS, "expected inputs as a tensor of torch.float32, got torch.float64"),
        (INPUTS, LABELS.int(), "expected labels as a tensor of torch.int64, got torch.int32"),
        (INPUTS, [0, 0, 0, 0], "expected labels as a tensor of torch.int64, got a builtins.list"),
        (INPUTS, LABELS[:3], "expected as many labels as inputs, and some, got 4 inputs and 3 labels"),
    ],
)
def test_split_refuses_what_is_no_tensor_of_its_kind(inputs: Any, labels: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^Split: {message}"):
        Split(inputs, labels)


def test_split_takes_what_the_message_recommends() -> None:
    split = Split(torch.as_tensor(np.zeros((4, 3))).float(), torch.as_tensor(np.zeros(4, np.uint8)).long())
    assert (split.input_shape, len(split)) == ((3,), 4)
