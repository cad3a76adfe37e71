"""conf/dataset/module: the data that a function of one's own returns: inputs as they are, labels numbered."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from typing import Annotated, Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from ncexp.config import ADDED
from ncexp.config.components import locate
from ncexp.datasets import Dataset, Split, Targets, digest, label_fault, listed, number_classes
from ncexp.datasets.holding_out import HoldOut, without_classes

#: Examples that are put together at a time.
_BLOCK = 512


def load(
    *, factory: str, hold_out: HoldOut = None, targets: Annotated[list[str] | None, ADDED] = None, **options: Any
) -> Dataset:
    """factory(**options) → (train, test), each a torch Dataset of (input, label), or (inputs, labels) as arrays.

    Each example is taken once, in order, and held as a tensor: inputs (n, *shape) float32, labels (n,) int64 from 0 on.
    What a random transformation makes of it is drawn once. The classes are the distinct labels: in the order of the
    numbers, with gaps or from 1 on, or of the alphabet where they are words; facts and origin name them then. hold_out:
    classes to train without, by their labels (`holding_out`); of a function that takes hold_out, its own option.
    targets: of a regression, the names of m numbers an example, which stand in the place of the label, (n, m), or (n,)
    for one; they are taken as they are.

    Raises ValueError where the function cannot be imported, refuses the options, or returns something else.
    """
    found = locate("dataset.factory", factory)
    if hold_out and "hold_out" in inspect.signature(found).parameters:  # its own option
        hold_out, options = None, {**options, "hold_out": hold_out}
    try:
        returned = found(**options)
    except TypeError as error:
        raise ValueError(
            f"dataset: expected options that {factory} takes, got {options or 'none'} ({error}). See its signature."
        ) from error
    if not isinstance(returned, tuple | list) or len(returned) != 2 or not all(map(_is_part, returned)):
        kinds = ", ".join(type(part).__name__ for part in returned) if isinstance(returned, tuple | list) else ""
        raise ValueError(
            "dataset.factory: expected (train, test), each a torch Dataset or a pair (inputs, labels), got "
            f"{type(returned).__name__}{f' of {kinds}' if kinds else ''} of {factory}. return (x_train, y_train), "
            "(x_test, y_test)"
        )
    if targets is not None:
        if hold_out:
            raise ValueError("dataset.hold_out: expected none beside targets, which are no classes. Leave it out.")
        return _regression(factory, targets, returned)
    (inputs, words), (test_inputs, test_words) = (_examples(factory, part) for part in returned)
    classes = number_classes("dataset.factory", words[0], test_words[0])
    train, test = (
        Split(
            torch.cat([torch.as_tensor(part) for part in parts]).float(),
            torch.tensor([classes[w] for w in own])[places],
        )
        for parts, (own, places) in ((inputs, words), (test_inputs, test_words))
    )
    named = [*classes] != [str(number) for number in range(len(classes))]
    said = f"the labels {listed([*classes], 10)} of {factory} are the classes 0 to {len(classes) - 1}" if named else ""
    facts = {"classes": listed([*classes])} if named else {}
    whole = Dataset(train, test, len(classes), {"content": _content(train, test), **facts}, said)
    return without_classes(whole, [*classes], hold_out)


def _content(train: Split, test: Split) -> str:
    tensors = (tensor for split in (train, test) for tensor in (split.inputs, split.labels))
    return digest(*(f"{tuple(one.shape)}".encode() + one.contiguous().numpy().tobytes() for one in tensors))


def _regression(factory: str, targets: list[str], parts: Iterable[Any]) -> Dataset:
    splits = []
    for part in parts:
        blocks = [*_blocks(factory, part)]
        values = torch.cat([torch.as_tensor(labels) for _, labels in blocks])
        values = values.unsqueeze(1) if values.dim() == 1 else values
        if values.dim() != 2 or values.shape[1] != len(targets):
            count = values.shape[1] if values.dim() == 2 else "m"
            raise ValueError(
                f"dataset.targets: expected the names of the {count} targets (n, m) of {factory}, got {len(targets)} "
                f"names and targets {tuple(values.shape)}. Name each column once."
            )
        splits.append(Split(torch.cat([torch.as_tensor(inputs) for inputs, _ in blocks]).float(), values.float()))
    named = Targets(targets, [1.0] * len(targets))
    return Dataset(splits[0], splits[1], len(targets), {"content": _content(*splits)}, targets=named)


def _is_part(part: Any) -> bool:
    """Whether it may be a split: a pair, or a torch Dataset, which is neither a tensor nor an array."""
    return _is_pair(part) or (hasattr(part, "__getitem__") and hasattr(part, "__len__") and not hasattr(part, "shape"))


def _is_pair(part: Any) -> bool:
    return isinstance(part, tuple | list) and len(part) == 2


def _examples(factory: str, part: Any) -> tuple[list[Any], tuple[list[str], Tensor]]:
    """The inputs in blocks; of the labels the distinct ones as words, and for each example the place among them."""
    inputs, labels = (list(parts) for parts in zip(*_blocks(factory, part), strict=True))
    if all(np.asarray(part).dtype.kind in "UO" and all(isinstance(word, str) for word in part) for part in labels):
        words, places = np.unique([word for part in labels for word in part], return_inverse=True)
        return inputs, (words.tolist(), torch.from_numpy(places))
    whole = torch.cat([torch.as_tensor(part) for part in labels])
    if fault := label_fault(whole):
        raise ValueError(f"dataset.factory: expected {fault} ({factory})")
    values, where = torch.unique(whole.long(), return_inverse=True)
    return inputs, ([str(value) for value in values.tolist()], where)


def _blocks(factory: str, part: Any) -> Iterator[tuple[Any, Any]]:
    """Inputs and labels of some examples at a time."""
    loaded = [part] if _is_pair(part) else DataLoader(part, batch_size=_BLOCK, generator=torch.Generator())
    for block in loaded:
        if not _is_pair(block):
            raise ValueError(
                f"dataset.factory: expected examples (input, label), got {type(block).__name__} from a "
                f"{type(part).__name__} of {factory}. Let its __getitem__ return input, label."
            )
        yield block[0], block[1]
