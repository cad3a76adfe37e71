"""What every dataset is, whatever it was read from: two splits and a number of classes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor


def listed(names: Sequence[str], most: int = 100) -> str:
    """The names with commas between them, and how many there are beyond `most`."""
    more = [f"and {len(names) - most} more"] if len(names) > most else []
    return ", ".join([*names[:most], *more])


class Examples(Protocol):
    """Labelled examples of one split, held as tensors (`Split`) or read as they are asked for (`StreamedSplit`)."""

    @property
    def labels(self) -> Tensor:
        """(n,) int64, on the device that the batches come to."""

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


@dataclass(frozen=True)
class Split:
    """Examples held as tensors: inputs (n, *input_shape) float32, labels (n,) int64, on one device.

    Raises ValueError for what is no such tensor (a NumPy array, say), and for other than one label for each input.
    """

    inputs: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        for name, value, kind, make in (
            ("inputs", self.inputs, torch.float32, "torch.as_tensor(...).float()"),
            ("labels", self.labels, torch.int64, "torch.as_tensor(...).long()"),
        ):
            if not isinstance(value, Tensor) or value.dtype != kind:
                got = value.dtype if isinstance(value, Tensor) else f"a {type(value).__module__}.{type(value).__name__}"
                raise ValueError(f"Split: expected {name} as a tensor of {kind}, got {got}. {make} makes one.")
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
    """A train and a test split of one classification problem with labels 0..num_classes-1.

    facts: what is worth writing into a run's record beside the sizes, by name: pixels that never vary, labels changed.
    origin: where the files were found and what is kept of them where, in a sentence to print; "" without files.
    """

    train: Examples
    test: Examples
    num_classes: int
    facts: dict[str, Any] = field(default_factory=dict)
    origin: str = ""

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
        return Dataset(self.train.to(device), self.test.to(device), self.num_classes, self.facts, self.origin)
