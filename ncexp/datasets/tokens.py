"""conf/dataset/tokens: sequences of tokens, or other data of whose labels, outputs of a network, few may occur."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.data import default_collate

from ncexp.config import Count
from ncexp.config.components import locate
from ncexp.datasets import Dataset, digest
from ncexp.datasets.labelling import IGNORED, Labelling, class_counts

#: What a model is given: one tensor, or its arguments by name.
Inputs = Tensor | Mapping[str, Tensor]


def load(
    *,
    factory: str,
    num_classes: Count,
    classes: Literal["all", "occurring"] = "all",
    min_examples: Count = 1,
    shift_labels: bool | None = None,
    ignore_index: int = IGNORED,
    batch_size: Count = 8,
    **options: Any,
) -> Dataset:
    """factory(**options) → (train, test), each (inputs, labels), or a torch Dataset of such pairs, or of mappings with
    the entry "labels".

    inputs: a tensor or a mapping of tensors (input_ids, attention_mask), the arguments of the model, as they are;
    labels: (n,) or (n, tokens), numbers of the network's `num_classes` outputs. The other options are those of
    `Labelling`; batch_size: sequences in a forward pass.

    Raises ValueError where the function cannot be imported or refuses the options, and for other data.
    """
    labelling = Labelling(
        classes=classes, min_examples=min_examples, shift_labels=shift_labels, ignore_index=ignore_index
    )
    try:
        returned = locate("dataset.factory", factory)(**options)
    except TypeError as error:
        raise ValueError(
            f"dataset: expected options that {factory} takes, got {options or 'none'} ({error}). See its signature."
        ) from error
    if not isinstance(returned, tuple | list) or len(returned) != 2:
        raise ValueError(
            f"dataset.factory: expected (train, test), got {type(returned).__name__} of {factory}. Return a pair."
        )
    train, test = (_split(factory, part, labelling, batch_size) for part in returned)
    counts = [class_counts("dataset.factory", split.labels, num_classes) for split in (train, test)]
    facts: dict[str, Any] = {"content": digest(*train.content, *test.content)}
    for name, split in (("train", train), ("test", test)):
        facts |= {f"labels_{name}": len(split.labels), f"ignored_{name}": split.aligned.numel() - len(split.labels)}
    labelling.measured(counts)  # refused now, if at all
    return Dataset(train, test, num_classes, facts, labelling=labelling)


@dataclass(frozen=True)
class TokenSplit:
    """inputs (n, ...) each; aligned (n,) or (n, tokens) int64, as `Labelling.aligned` returns it; on one device."""

    inputs: Inputs
    aligned: Tensor
    labelling: Labelling
    batch_size: int

    @cached_property
    def labels(self) -> Tensor:
        """(m,), of all positions that have a class, in the order of the batches."""
        return self.labelling.kept(self.aligned)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one input, of several the first, without the batch."""
        first = self.inputs if isinstance(self.inputs, Tensor) else next(iter(self.inputs.values()))
        return tuple(first.shape[1:])

    @property
    def content(self) -> list[bytes]:
        """What its digest is of."""
        named = {"": self.inputs} if isinstance(self.inputs, Tensor) else dict(self.inputs)
        named["labels"] = self.aligned
        return [
            f"{name}{tuple(one.shape)}".encode() + one.contiguous().numpy().tobytes() for name, one in named.items()
        ]

    def __len__(self) -> int:
        return len(self.aligned)

    def to(self, device: torch.device) -> TokenSplit:
        """The same examples on another device."""
        return replace(self, inputs=_each(self.inputs, lambda one: one.to(device)), aligned=self.aligned.to(device))

    def batches(self, batch_size: int, order: Tensor | None = None, start: int = 0) -> Iterator[tuple[Any, Tensor]]:
        """Batches of (inputs, aligned labels) along `order`, of its own batch size where that is less."""
        size = min(batch_size, self.batch_size)
        sequence = torch.arange(len(self), device=self.aligned.device) if order is None else order
        for chosen in sequence.split(size)[start:]:
            yield _each(self.inputs, lambda one, chosen=chosen: one[chosen]), self.aligned[chosen]


def _each(inputs: Inputs, change: Any) -> Inputs:
    if isinstance(inputs, Tensor):
        changed: Tensor = change(inputs)
        return changed
    return {name: change(one) for name, one in inputs.items()}


def _split(factory: str, part: Any, labelling: Labelling, batch_size: int) -> TokenSplit:
    if not (isinstance(part, tuple | list) and len(part) == 2 and isinstance(part[1], Tensor)):
        try:
            part = default_collate([part[place] for place in range(len(part))])
        except (TypeError, RuntimeError, IndexError, KeyError) as error:
            raise ValueError(
                "dataset.factory: expected (inputs, labels), or a torch Dataset of examples that are equally long, got "
                f"a {type(part).__name__} of {factory} ({error}). Pad them; label what is padded {IGNORED}."
            ) from error
    if isinstance(part, Mapping) and "labels" in part:
        inputs, labels = {name: one for name, one in part.items() if name != "labels"}, part["labels"]
    elif isinstance(part, tuple | list) and len(part) == 2:
        inputs, labels = part
    else:
        raise ValueError(
            f'dataset.factory: expected examples (input, label), or mappings with "labels", got {type(part).__name__} '
            f"of {factory}."
        )
    tensors = [inputs] if isinstance(inputs, Tensor) else [*inputs.values()]
    if labels.is_floating_point() or not len(labels) or any(len(one) != len(labels) for one in tensors):
        shapes = ", ".join(str(tuple(one.shape)) for one in tensors)
        raise ValueError(
            f"dataset.factory: expected whole numbers as labels, for as many inputs, got {labels.dtype} "
            f"{tuple(labels.shape)} for inputs {shapes} of {factory}."
        )
    return TokenSplit(inputs, labelling.aligned("dataset.factory", labels.long()), labelling, batch_size)
