"""conf/dataset/module: the data that a function of one's own returns, exactly as it returns them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from ncexp.config.factories import find_factory
from ncexp.datasets.dataset import Dataset, Split

#: Examples that are put together at a time.
_BLOCK = 512


def load(*, factory: str, **options: Any) -> Dataset:
    """factory(**options) → (train, test), each a torch Dataset of (input, label), or (inputs, labels) as arrays.

    Each example is taken once, in order, and held as a tensor: inputs (n, *shape) float32, labels (n,) int64 from 0 on.
    What a random transformation makes of it is drawn once. The number of classes is the largest training label's
    plus one.

    Raises ValueError where the function cannot be imported, refuses the options, or returns something else.
    """
    found = find_factory("dataset", factory)
    try:
        returned = found(**options)
    except TypeError as error:
        raise ValueError(
            f"dataset: expected options that {factory} takes, got {options or 'none'} ({error}). See its signature."
        ) from error
    if not isinstance(returned, tuple | list) or len(returned) != 2:
        raise ValueError(f"dataset.factory: expected (train, test) of {factory}, got {type(returned).__name__}.")
    train, test = (_split(factory, part) for part in returned)
    num_classes = int(train.labels.max()) + 1
    for name, split in (("train", train), ("test", test)):
        if not 0 <= int(split.labels.min()) <= int(split.labels.max()) < num_classes:
            raise ValueError(
                f"dataset.factory: expected labels 0..{num_classes - 1} as in train, got {int(split.labels.min())} to "
                f"{int(split.labels.max())} in {name} of {factory}. Number the classes from 0 on."
            )
    return Dataset(train, test, num_classes, {"content": _digest([train, test])})


def _split(factory: str, part: Any) -> Split:
    if isinstance(part, tuple | list) and len(part) == 2:
        blocks: Iterable[Any] = [part]
    elif hasattr(part, "__getitem__") and hasattr(part, "__len__"):
        blocks = DataLoader(part, batch_size=_BLOCK, generator=torch.Generator())
    else:
        raise ValueError(
            f"dataset.factory: expected torch Datasets, or (inputs, labels), of {factory}, got {type(part).__name__}."
        )
    inputs, labels = map(_joined, zip(*blocks, strict=True))
    if labels.ndim != 1 or not torch.equal(labels, labels.long().to(labels.dtype)):
        got = f"shape {tuple(labels.shape)}" if labels.ndim != 1 else f"{labels[labels != labels.long()][0].item():g}"
        raise ValueError(
            f"dataset.factory: expected a whole number as label of each example, got {got} of {factory}. Number the "
            "classes from 0 on."
        )
    return Split(inputs.float(), labels.long())


def _joined(parts: Iterable[Any]) -> Tensor:
    return torch.cat([torch.as_tensor(part) for part in parts])


def _digest(splits: Iterable[Split]) -> str:
    """Sixteen hexadecimal digits for inputs and labels."""
    found = hashlib.sha256()
    for split in splits:
        for tensor in (split.inputs, split.labels):
            found.update(f"{tuple(tensor.shape)}".encode() + tensor.contiguous().numpy().tobytes())
    return found.hexdigest()[:16]
