"""Anybody's loaders: each example once, in a fixed order; other forms are refused in words that help."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from own_loops import examples
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    WeightedRandomSampler,
)

from ncexp.measure import LoadedExamples
from ncexp.measure.loaders import one_loader
from ncexp.training import SINGLE, Processes

CPU = torch.device("cpu")


def read(loader: Any, processes: Processes = SINGLE) -> tuple[list[int], Tensor]:
    """Sizes of the batches, and all inputs."""
    batches = list(LoadedExamples("train", loader, CPU, processes).batches())
    return [len(labels) for _, labels in batches], torch.cat([inputs for inputs, _ in batches])


@pytest.mark.parametrize("options", [{"shuffle": True}, {"shuffle": True, "drop_last": True}, {"num_workers": 1}, {}])
def test_loader_of_all_examples_is_read_in_the_datasets_order(options: dict[str, Any]) -> None:
    data = examples(50)
    sizes, inputs = read(DataLoader(data, batch_size=16, **options))
    assert sizes == [16, 16, 16, 2]
    assert torch.equal(inputs, data.tensors[0])


def test_processes_share_out_the_examples_without_a_repetition() -> None:
    data = examples(51)
    loaders = [DataLoader(data, 16, sampler=DistributedSampler(data, 2, rank)) for rank in (0, 1)]
    shares = [read(loader, Processes(rank, 2))[1] for rank, loader in enumerate(loaders)]
    assert [len(share) for share in shares] == [26, 25]
    assert torch.equal(shares[0], data.tensors[0][::2])
    assert torch.equal(shares[1], data.tensors[0][1::2])


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        return iter([tuple(one) for one in zip(*examples(20).tensors, strict=True)])


def test_loaders_of_another_kind_are_read_as_they_are() -> None:
    data = examples(50)
    chosen = Subset(data, range(30))
    own_batches = BatchSampler(RandomSampler(range(30)), 7, drop_last=False)
    assert read(DataLoader(data, batch_sampler=own_batches))[0] == [7, 7, 7, 7, 2]
    assert len(read(DataLoader(data, 8, sampler=RandomSampler(range(30))))[1]) == 30
    assert len(read(DataLoader(chosen, 8, shuffle=True))[1]) == 30
    assert len(read(DataLoader(data, 8, sampler=torch.utils.data.SubsetRandomSampler(range(11))))[1]) == 11
    assert read(DataLoader(Stream(), 8))[0] == [8, 8, 4]
    assert read([(data.tensors[0][:5], data.tensors[1][:5])])[0] == [5]


@pytest.mark.parametrize("drops", [False, True])
def test_sampler_of_batches_of_all_examples_is_read_in_the_datasets_order(drops: bool) -> None:
    """So Accelerate makes its loaders; what the last short batch would drop is there."""
    data = examples(50)
    for sampler in (RandomSampler(data), SequentialSampler(data)):
        sizes, inputs = read(DataLoader(data, batch_sampler=BatchSampler(sampler, 16, drop_last=drops)))
        assert sizes == [16, 16, 16, 2]
        assert torch.equal(inputs, data.tensors[0])


@pytest.mark.parametrize(
    ("sampler", "drawn", "different"),
    [
        (SubsetRandomSampler(range(40)), 40, 40),
        ([0, 0, 1, 2], 4, 3),
        (range(49, -1, -1), 50, 50),
        (WeightedRandomSampler(torch.tensor([1.0] + 49 * [1e-30]), 50), 50, 1),
    ],
)
def test_examples_that_a_sampler_leaves_out_or_repeats_are_counted(sampler: Any, drawn: int, different: int) -> None:
    loaded = LoadedExamples("train", DataLoader(examples(50), 8, sampler=sampler), CPU, SINGLE)
    words = f"{drawn} examples, {different} of them different, of the 50 in its dataset"
    for _ in range(2):
        assert sum(len(labels) for _, labels in loaded.batches()) == drawn
        assert loaded.incomplete == ("" if drawn == different == 50 else words)


def test_loader_may_be_a_list_or_mapping_of_one_and_no_iterator() -> None:
    loader = DataLoader(examples(8), 4)
    for given in (loader, [loader], (loader,), {"validation": loader}):
        assert one_loader("test_loader", given) is loader
    batches = [*loader]
    assert one_loader("test_loader", batches) is batches
    with pytest.raises(ValueError, match=r"test_loader: expected one loader, got 2. Pass the one to evaluate"):
        one_loader("test_loader", [loader, loader])
    for given in (iter(loader), (batch for batch in loader), iter([examples(8).tensors])):
        with pytest.raises(ValueError, match=r"train_loader: expected a DataLoader, or another iterable .* got a"):
            one_loader("train_loader", given)


def test_labels_are_those_of_the_first_complete_reading() -> None:
    """The features that were kept belong to it, whatever the order of a second one."""
    sampler = torch.utils.data.SubsetRandomSampler(range(40))
    loaded = LoadedExamples("train", DataLoader(examples(40), 8, sampler=sampler), CPU, SINGLE)
    first = torch.cat([labels for _, labels in loaded.batches()])
    second = torch.cat([labels for _, labels in loaded.batches()])
    assert not torch.equal(first, second)
    assert torch.equal(loaded.labels, first)
    assert len(loaded) == 40


def test_chosen_examples_come_in_the_order_they_are_asked_for() -> None:
    data = examples(50)
    loaded = LoadedExamples("train", DataLoader(data, 16, shuffle=True), CPU, SINGLE)
    order = torch.tensor([40, 3, 17, 16, 0])
    ((inputs, labels),) = loaded.batches(5, order)
    assert torch.equal(inputs, data.tensors[0][order])
    assert torch.equal(labels, data.tensors[1][order])
    assert loaded.input_shape == (6,)


def test_mappings_are_spread_into_inputs_and_labels() -> None:
    rows = [{"pixels": inputs, "labels": label} for inputs, label in zip(*examples(8).tensors, strict=True)]
    loaded = LoadedExamples("train", DataLoader(rows, 4), CPU, SINGLE)  # type: ignore[arg-type]
    inputs, labels = next(loaded.batches())
    assert inputs.keys() == {"pixels"}
    assert labels.shape == (4,)
    with pytest.raises(
        ValueError, match="train_loader: expected tensors as inputs for an analysis that changes single"
    ):
        next(loaded.batches(2, torch.tensor([1])))


@pytest.mark.parametrize(
    ("loader", "words"),
    [
        ([], "train_loader: expected batches, got none"),
        ([torch.zeros(3)], r"expected batches \(inputs, labels\) or mappings with \"labels\", got Tensor"),
        ([{"x": torch.zeros(3), "label": torch.zeros(3)}], r"got a mapping with x, label"),
        ([(torch.zeros(3), torch.eye(3))], r"got torch.float32 \(3, 3\). One of each: labels = labels.argmax\(1\)."),
        ([(torch.zeros(3), torch.zeros(3))], r"expected labels \(n,\) of integers, .* got torch.float32 \(3,\)"),
        ([(torch.zeros(3), torch.zeros(3, 2, dtype=torch.int64))], r"got torch.int64 \(3, 2\)"),
        ([(torch.zeros(3), [0, 1, 2])], "got list"),
    ],
)
def test_other_batches_are_refused(loader: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        read(loader)
