"""Anybody's data loaders as the splits of an evaluation: in a fixed order, each example once, none left out.

A torch DataLoader is not iterated itself where it takes all of a map-style dataset (in order, shuffled, or shared out
by a DistributedSampler; also by a BatchSampler of these): its dataset is read in order by a loader of ours with the
same batch size, collate function and workers. So nothing is drawn from its generators, its workers stay as they are,
`drop_last` drops nothing, padding repeats nothing, and each process has its exact share. Any other iterable of batches
is iterated as it is; where that is a DataLoader's own sampler, the examples that it takes are counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, IterableDataset
from torch.utils.data.distributed import DistributedSampler
from torch.utils.data.sampler import RandomSampler, SequentialSampler

from ncexp.datasets import Examples, Targets, label_fault
from ncexp.datasets.labelling import OF_EXAMPLES, OF_TOKENS, Labelling
from ncexp.training import Processes

#: Samplers that mean every example of the dataset.
COMPLETE = (SequentialSampler, RandomSampler, DistributedSampler)


@dataclass(frozen=True)
class LoadedData:
    """What `Subject.dataset` is made of here; splits: train, and test where there is one; outside: what the analysis
    `outside` compares with it, by name.
    """

    splits: dict[str, Examples]
    num_classes: int
    outside: dict[str, Examples] = field(default_factory=dict)
    targets: Targets | None = None
    labelling: Labelling = OF_EXAMPLES


class LoadedExamples:
    """The examples of a loader whose batches are (inputs, labels), or mappings with the entry "labels".

    Of several processes each has its share already. Labels are known once all batches have been read; those of tokens
    come aligned with the logits.
    given: the loader; num_targets: m, where labels are targets of a regression.
    """

    def __init__(
        self,
        split: str,
        loader: Iterable[Any],
        device: torch.device,
        processes: Processes,
        labelling: Labelling = OF_EXAMPLES,
        num_targets: int | None = None,
    ) -> None:
        self._name, self._labelling, self._num_targets = f"{split}_loader", labelling, num_targets
        self.given, self._device, self._processes = loader, device, processes
        self._loader = in_order(loader, processes)
        self._draws: _Draws | None = None
        own: Any = loader  # torch's own of a map-style dataset, whose sampler chooses the examples: those are counted
        counted = type(own) is DataLoader and not isinstance(own.dataset, IterableDataset)
        if self._loader is loader and counted and own.batch_sampler:
            self._draws = _Draws(own.batch_sampler)
            self._loader = _like(own, batch_sampler=self._draws)
        self._labels: Tensor | None = None

    @property
    def labels(self) -> Tensor:
        """(n,) int64, on the network's device, in the order of the first complete reading; of tokens those of all
        positions that have a class.
        """
        if self._labels is None:
            for _ in self.batches():
                pass
        assert self._labels is not None
        return self._labels

    @property
    def incomplete(self) -> str:
        """In words, how what was read differs from the dataset; "" where it does not, or where it cannot be known."""
        if self._draws is None or self._processes.size > 1:
            return ""
        drawn, different, length = self._draws.count, len(self._draws.places), len(self.given.dataset)  # type: ignore[attr-defined]
        if drawn == different == length:
            return ""
        return f"{drawn} examples, {different} of them different, of the {length} in its dataset"

    @property
    def shapes(self) -> dict[str, Any]:
        """Of a loader of all of a dataset, what is known before it is read: examples, and the shape of inputs that are
        one tensor; of others nothing.
        """
        if self._loader is self.given or self._draws is not None:
            return {}
        inputs, _ = next(self.batches())
        shape = {"input_shape": list(inputs.shape[1:])} if isinstance(inputs, Tensor) else {}
        return {"num_train": len(self.given.dataset), **shape}  # type: ignore[attr-defined]

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one input, without the batch."""
        inputs, _ = next(self.batches())
        return tuple(self._tensor(inputs).shape[1:])

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device) -> LoadedExamples:
        """The same examples: each batch is moved to the network's device as it is drawn, and no other is asked for."""
        if device != self._device:
            raise ValueError(f"{self._name}: expected the device of its batches, {self._device}, got {device}.")
        return self

    def batches(self, batch_size: int = 0, order: Tensor | None = None, start: int = 0) -> Iterator[tuple[Any, Tensor]]:
        """Batches of (inputs, labels) of the loader's own size; those of `order` as one batch, for tensors alone."""
        if start:
            raise ValueError(f"{self._name}: expected to begin with its first example, got start = {start}.")
        if order is not None:
            yield self._chosen(order)
            return
        found = []
        with undrawn(self.given):
            for batch in self._loader:
                inputs, labels = self._moved(batch)
                found.append(self._labelling.kept(labels))
                yield inputs, labels
        if not found:
            raise ValueError(
                f"{self._name}: expected batches, got none. Pass a DataLoader, or another iterable that can be "
                "iterated again and again, not an iterator."
            )
        if self._labels is None:
            self._labels = torch.cat(found)
        elif self._labelling.classes == "occurring" and not torch.equal(self._labels, torch.cat(found)):
            raise ValueError(
                f"{self._name}: expected the same labels at each reading, as the classes that occur are counted first, "
                "got others. Pass a loader whose order and labels stay (tokens that are masked at random: mask them "
                "once, before)."
            )

    def _chosen(self, order: Tensor) -> tuple[Tensor, Tensor]:
        """The examples at these places, in this order; one reading of all batches."""
        found, place, first = [], order.argsort(), 0
        ascending = order[place]
        for inputs, labels in self.batches():
            here = ascending[(ascending >= first) & (ascending < first + len(labels))] - first
            found.append((self._tensor(inputs)[here], labels[here]))
            first += len(labels)
        inputs, labels = (torch.cat(parts)[place.argsort()] for parts in zip(*found, strict=True))
        return inputs, labels

    def _tensor(self, inputs: Any) -> Tensor:
        if not isinstance(inputs, Tensor) or self._labelling.shift_labels is not None:
            got = type(inputs).__name__ if self._labelling.shift_labels is None else "labels of tokens"
            raise ValueError(
                f"{self._name}: expected tensors as inputs for an analysis that changes single examples, got {got}. "
                "Leave that analysis out."
            )
        return inputs

    def _moved(self, batch: Any) -> tuple[Any, Tensor]:
        if isinstance(batch, Mapping) and "labels" in batch:
            inputs, labels = {name: value for name, value in batch.items() if name != "labels"}, batch["labels"]
        elif isinstance(batch, Sequence) and len(batch) == 2:
            inputs, labels = batch
        else:
            of = f"a mapping with {', '.join(map(str, batch))}" if isinstance(batch, Mapping) else type(batch).__name__
            raise ValueError(f'{self._name}: expected batches (inputs, labels) or mappings with "labels", got {of}.')
        if self._num_targets is not None:
            return _to(inputs, self._device), self._moved_targets(labels)
        tokens = isinstance(labels, Tensor) and labels.dim() == 2 and self._labelling.shift_labels is not None
        if not isinstance(labels, Tensor) or labels.is_floating_point() or not (labels.dim() == 1 or tokens):
            kind = f"{labels.dtype} {tuple(labels.shape)}" if isinstance(labels, Tensor) else type(labels).__name__
            repair = label_fault(labels).partition(". ")[2] if isinstance(labels, Tensor) else ""
            fault = f"expected labels (n,) of integers, the class of each example, got {kind}. {repair}"
            if isinstance(labels, Tensor) and labels.dim() == 2 and not labels.is_floating_point():
                fault += f" {OF_TOKENS}"
            raise ValueError(f"{self._name}: {fault.rstrip()}")
        aligned = self._labelling.aligned(self._name, labels.to(self._device, torch.int64, non_blocking=True))
        return _to(inputs, self._device), aligned

    def _moved_targets(self, targets: Any) -> Tensor:
        """(n, m) float32; one target may come as (n,)."""
        wanted = self._num_targets
        if isinstance(targets, Tensor) and targets.is_floating_point():
            rows = targets.unsqueeze(1) if targets.dim() == 1 else targets
            if rows.dim() == 2 and rows.shape[1] == wanted:
                return rows.to(self._device, torch.float32, non_blocking=True)
        got = f"{targets.dtype} {tuple(targets.shape)}" if isinstance(targets, Tensor) else type(targets).__name__
        raise ValueError(f"{self._name}: expected targets (n, {wanted}) of floating numbers, got {got}.")


def in_order(loader: Iterable[Any], processes: Processes) -> Iterable[Any]:
    """A loader of all examples of this process's share in the dataset's order; other iterables as they are."""
    if not isinstance(loader, DataLoader) or isinstance(loader.dataset, IterableDataset):
        return loader
    batches = loader if loader.batch_size is not None else loader.batch_sampler
    if not isinstance(batches, DataLoader | BatchSampler):
        return loader
    sampler: Any = batches.sampler
    drawn_from = getattr(sampler, "data_source", getattr(sampler, "dataset", ()))  # a DistributedSampler's dataset
    if not isinstance(sampler, COMPLETE) or len(drawn_from) != len(loader.dataset):  # type: ignore[arg-type]
        return loader
    share = range(processes.rank, len(loader.dataset), processes.size)  # type: ignore[arg-type]
    return _like(loader, batch_size=batches.batch_size, sampler=share)


class _Draws:
    """The batches of places that a sampler gives, counted as they are drawn; of the last complete reading."""

    def __init__(self, batches: Iterable[Sequence[Any]]) -> None:
        self._batches = batches
        self.count, self.places = 0, set[Any]()

    def __iter__(self) -> Iterator[Sequence[Any]]:
        self.count, self.places = 0, set()
        for batch in self._batches:
            self.count += len(batch)
            self.places.update(batch)
            yield batch


def one_loader(name: str, loader: Any) -> Iterable[Any]:
    """The loader, also where it is given as a list or mapping of one. Raises ValueError for several, and iterators."""
    members = [*loader.values()] if isinstance(loader, Mapping) else loader
    if isinstance(members, list | tuple) and any(isinstance(one, DataLoader) for one in members):
        if len(members) > 1:
            raise ValueError(f"{name}: expected one loader, got {len(members)}. Pass the one to evaluate.")
        loader = members[0]
    if isinstance(loader, Iterator):
        raise ValueError(
            f"{name}: expected a DataLoader, or another iterable that can be iterated again and again, got a "
            f"{type(loader).__name__}. Pass a list of its batches, or an object whose __iter__ begins anew."
        )
    given: Iterable[Any] = loader
    return given


def _like(loader: DataLoader[Any], **chosen: Any) -> DataLoader[Any]:
    """One of ours with the same dataset, collate function and workers."""
    same = ("num_workers", "collate_fn", "pin_memory", "timeout", "worker_init_fn", "multiprocessing_context")
    chosen |= {name: getattr(loader, name) for name in same}
    # Of the generator it draws a seed for its workers: the same one each time.
    return DataLoader(loader.dataset, **chosen, generator=torch.Generator())


@contextmanager
def undrawn(loader: Iterable[Any]) -> Iterator[None]:
    """After it the generators of the loader and of its samplers are as before."""
    samplers = [getattr(loader, name, None) for name in ("sampler", "batch_sampler")]
    samplers.append(getattr(samplers[1], "sampler", None))
    held = (getattr(owner, "generator", None) for owner in (loader, *samplers))
    states = {generator: generator.get_state() for generator in held if isinstance(generator, torch.Generator)}
    try:
        yield
    finally:
        for generator, state in states.items():
            generator.set_state(state)


def _to(inputs: Any, device: torch.device) -> Any:
    """Tensors, and what holds tensors, on the device."""
    if isinstance(inputs, Mapping):
        return {name: _to(value, device) for name, value in inputs.items()}
    if isinstance(inputs, list | tuple):
        return [_to(value, device) for value in inputs]
    return inputs.to(device, non_blocking=True) if isinstance(inputs, Tensor) else inputs
