"""conf/dataset: each choice returns a Dataset: a train and a test split, and the number of classes, or the targets."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Protocol

import torch
from torch import Tensor

from ncexp.config import Component
from ncexp.datasets.labelling import OF_EXAMPLES, Labelling
from ncexp.datasets.preprocessing import Raw


def digest(*parts: bytes) -> str:
    """Sixteen hexadecimal digits for these bytes."""
    found = hashlib.sha256()
    for part in parts:
        found.update(part)
    return found.hexdigest()[:16]


def listed(names: Sequence[str], most: int = 100) -> str:
    """The names with commas between them, and how many there are beyond `most`."""
    more = [f"and {len(names) - most} more"] if len(names) > most else []
    return ", ".join([*names[:most], *more])


class Examples(Protocol):
    """Labelled examples of one split, held as tensors (`Split`) or read as they are asked for (`StreamedSplit`)."""

    @property
    def labels(self) -> Tensor:
        """(n,) int64, or targets (n, m) float32, on the device that the batches come to."""

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one input, without the batch."""

    def __len__(self) -> int: ...

    def to(self, device: torch.device) -> Examples:
        """The same examples, their batches on another device."""

    def batches(self, batch_size: int, order: Tensor | None = None, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of (inputs, labels) along `order` (as stored where None), from batch number `start` on.

        The last, shorter batch is among them: no example is left out.
        """


def label_fault(labels: Tensor) -> str:
    """What is wrong with labels that are not one whole number an example, and the line that repairs it; else ""."""
    if labels.dim() != 1:
        shape = tuple(labels.shape)
        repair = "labels.argmax(1)" if labels.dim() == 2 and shape[1] > 1 else "labels.flatten()"
        return f"a whole number as label of each example, got shape {shape}. One of each: labels = {repair}."
    if labels.is_floating_point() and bool((odd := labels != labels.round()).any()):
        return (
            f"a whole number as label of each example, got {labels[odd][0].item():g}. Where each value is a class: "
            "labels = torch.unique(labels, return_inverse=True)[1]."
        )
    return ""


@dataclass(frozen=True)
class Targets:
    """What a regression predicts, m numbers an example; names and scales: of each.

    A target in its own unit is a constant plus its scale times the number in the split: the standard deviation by which
    it was divided, 1 where it was not.
    """

    names: list[str]
    scales: list[float]


@dataclass(frozen=True)
class Split:
    """Examples held as tensors: inputs (n, *input_shape) float32, labels (n,) int64 or targets (n, m) float32, on one
    device.

    Raises ValueError for what is no such tensor (a NumPy array, say), and for other than one label for each input.
    `check_data` looks at their values.
    """

    inputs: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        of_targets = isinstance(self.labels, Tensor) and self.labels.dim() == 2 and self.labels.is_floating_point()
        if isinstance(self.labels, Tensor) and not of_targets and (fault := label_fault(self.labels)):
            raise ValueError(f"Split: expected {fault}")
        of_labels = ("labels", torch.float32, "float") if of_targets else ("labels", torch.int64, "long")
        for name, kind, make in (("inputs", torch.float32, "float"), of_labels):
            value: Any = getattr(self, name)
            if not isinstance(value, Tensor) or value.dtype != kind:
                got = value.dtype if isinstance(value, Tensor) else f"a {type(value).__module__}.{type(value).__name__}"
                raise ValueError(
                    f"Split: expected {name} as a tensor of {kind}, got {got}. torch.as_tensor(...).{make}() makes one."
                )
        if len(self.inputs) != len(self.labels) or len(self.labels) == 0:
            raise ValueError(
                f"Split: expected as many labels as inputs, and some, got {len(self.inputs)} inputs and "
                f"{len(self.labels)} labels. Check the loader."
            )

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one input, without the batch."""
        return tuple(self.inputs.shape[1:])

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device) -> Split:
        """The same examples on another device."""
        return Split(self.inputs.to(device), self.labels.to(device))

    def batches(self, batch_size: int, order: Tensor | None = None, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of (inputs, labels) along `order`, from batch number `start` on; see `Examples.batches`."""
        count = len(self) if order is None else len(order)  # an order may leave examples to other processes
        for first in range(start * batch_size, count, batch_size):
            last = min(first + batch_size, count)
            chosen = slice(first, last) if order is None else order[first:last]
            yield self.inputs[chosen], self.labels[chosen]


@dataclass(frozen=True)
class Dataset:
    """A train and a test split of one problem: labels 0..num_classes-1, or targets of a regression.

    num_classes: C; of a regression the number m of its targets, which is that of the network's outputs. targets: of a
    regression; None of classes.
    facts: what facts.json of a run tells beside the sizes, by name: pixels that never vary, labels changed.
    origin: a sentence to print: where the files were found and where what was decoded is kept; "" without files.
    held_out: test examples of the classes that are held out. raw: the test inputs before they were standardised; None
    where they are as they came, or streamed. labelling: what labels of tokens belong to, and which classes are
    measured.
    """

    train: Examples
    test: Examples
    num_classes: int
    facts: dict[str, Any] = field(default_factory=dict)
    origin: str = ""
    held_out: Examples | None = None
    raw: Raw | None = None
    targets: Targets | None = None
    labelling: Labelling = OF_EXAMPLES

    @property
    def splits(self) -> dict[str, Examples]:
        """By name."""
        return {"train": self.train, "test": self.test}

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one input, without the batch: (channels, height, width), or (features,)."""
        return self.train.input_shape

    def to(self, device: torch.device) -> Dataset:
        """The same data on another device."""
        held_out = None if self.held_out is None else self.held_out.to(device)
        return dataclasses.replace(self, train=self.train.to(device), test=self.test.to(device), held_out=held_out)


def check_data(data: Dataset) -> Dataset:
    """The data, after looking once, before anything is made of them, that they can be trained on and measured.

    Raises ValueError, with the line that repairs it: labels other than 0..num_classes-1, a class without an example in
    train or in test, targets that are constant or not finite, inputs that are not finite, of two shapes, or images with
    their channels last.
    """
    shape = data.input_shape
    if data.num_classes < 2 and data.targets is None:
        raise ValueError(f"dataset: expected two classes at least, got {data.num_classes}. Check the labels.")
    if data.test.input_shape != shape or not shape:
        raise ValueError(
            f"dataset: expected inputs (n, ...) of one shape, got {shape} in train and {data.test.input_shape} in test."
            f" {'Make them alike.' if shape else 'Of single numbers: inputs = inputs.unsqueeze(1).'}"
        )
    # Grey images are known by being square too: a signal of several channels may well end in a 1.
    last_is_channels = (
        len(shape) == 3 and min(shape[:2]) > 4 and shape[2] in ((1, 3, 4) if shape[0] == shape[1] else (3, 4))
    )
    if last_is_channels:
        raise ValueError(
            f"dataset: expected images (channels, height, width), got {shape}, whose channels seem to be last. "
            "Put them first: inputs = inputs.permute(0, 3, 1, 2)."
        )
    for name, split in data.splits.items():
        if data.targets is not None:
            _refuse_targets(name, split.labels, data.targets)
        elif data.labelling.shift_labels is None and (fault := label_fault(split.labels)):
            raise ValueError(f"dataset: expected {fault}")
        elif data.labelling.classes == "all":
            _refuse_labels(name, split.labels, data.num_classes)
        if isinstance(split, Split) and not bool(split.inputs.sum().isfinite()):  # a sum may overflow by itself
            finite = split.inputs.flatten(1).isfinite().all(1)
            if not bool(finite.all()):
                raise ValueError(
                    f"dataset: expected finite inputs, got NaN or infinity in {int((~finite).sum())} of {len(split)} "
                    f"{name} examples, the first number {int((~finite).nonzero()[0])}. Leave them out: keep = "
                    "inputs.flatten(1).isfinite().all(1); inputs, labels = inputs[keep], labels[keep]."
                )
    return data


def _refuse_targets(name: str, values: Tensor, targets: Targets) -> None:
    """values: (n, m), of this split. Of a test split a target may be constant: its R² is undefined, nothing else."""
    if values.shape[1:] != (len(targets.names),):
        raise ValueError(
            f"dataset: expected targets (n, {len(targets.names)}) in {name}, for {listed(targets.names)}, got "
            f"{tuple(values.shape)}. Give one column each."
        )
    for target, column in zip(targets.names, values.unbind(1), strict=True):
        if not bool(column.isfinite().all()):
            raise ValueError(
                f"dataset: expected finite targets, got NaN or infinity in {target} of "
                f"{int((~column.isfinite()).sum())} of {len(column)} {name} examples. Leave them out."
            )
        if name == "train" and bool((column == column[0]).all()):
            raise ValueError(
                f"dataset: expected targets that vary in {name}, got {float(column[0]):g} as {target} of all "
                f"{len(column)} examples. Leave {target} out."
            )


def _refuse_labels(name: str, labels: Tensor, num_classes: int) -> None:
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= num_classes:
        repair = "labels - 1" if (low, high) == (1, num_classes) else "torch.unique(labels, return_inverse=True)[1]"
        raise ValueError(
            f"dataset: expected labels 0 to {num_classes - 1} in {name}, got {low} to {high}. Number them "
            f"from 0 on, in train and test alike: labels = {repair}."
        )
    if len(empty := (torch.bincount(labels, minlength=num_classes) == 0).nonzero().flatten().tolist()):
        raise ValueError(
            f"dataset: expected examples of every class 0 to {num_classes - 1} in {name}, got none of "
            f"{listed([str(one) for one in empty], 5)}. Leave these out of both: keep = ~torch.isin(labels, "
            f"torch.tensor({empty[:20]}{' + ...' * (len(empty) > 20)})); labels = torch.unique(labels[keep], "
            "return_inverse=True)[1]. Of a network whose outputs need not all occur: dataset=tokens "
            "dataset.classes=occurring."
        )


def number_classes(key: str, words: Iterable[str], test_words: Iterable[str]) -> dict[str, int]:
    """Class → its number, in the order of the numbers that the words are, else of the alphabet.

    key: of the configuration, for messages. Raises ValueError where training and test have other classes, or one.
    """
    found, tested = {*words}, {*test_words}
    if found != tested:
        word = sorted(found ^ tested)[0]
        raise ValueError(
            f"{key}: expected the same classes in training and test, got {word!r} in "
            f"{'training' if word in found else 'test'} alone. Leave its examples out."
        )
    if len(found) < 2:
        raise ValueError(f"{key}: expected two classes at least, got {len(found)}. Check the labels.")
    numbers = all(map(is_number, found))
    ordered = sorted(found, key=lambda word: (Decimal(word) if numbers else Decimal(0), word))
    return {word: number for number, word in enumerate(ordered)}


def is_number(cell: Any) -> bool:
    """Whether a cell is a finite number, or reads as one."""
    try:
        return math.isfinite(float(cell))
    except (TypeError, ValueError):
        return False


def prepare(dataset: Component) -> dict[str, Any]:
    """Download, check, decode and keep what `dataset.build()` will read; returns what there is to print, by name.

    A module of datasets may hold a function `prepare` beside its loader, which takes the loader's options and fetches
    what is missing. Then the loader is run: it keeps what it makes, and shows that it can.

    Raises ValueError, saying which file, where it was searched and what to do, where the data are not to be had.
    Safe to run in several processes at once, and again.
    """
    module = importlib.import_module(dataset.target.rpartition(".")[0])
    if hasattr(module, "prepare"):
        module.prepare(**dataset.options)
    built: Dataset = dataset.build()
    origin = {"origin": built.origin} if built.origin else {}
    return {**origin, "num_train": len(built.train), "num_test": len(built.test), **built.facts}
