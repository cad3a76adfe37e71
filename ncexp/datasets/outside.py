"""What lies outside of the data of a training: other choices of conf/dataset, held-out classes, noise."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from omegaconf import OmegaConf
from torch import Tensor

from ncexp.config import Component, nearest
from ncexp.config.installed import choices, read_choice
from ncexp.datasets import Dataset, Examples, Split, check_data

#: What is no choice of conf/dataset.
NOISE, HELD_OUT = "noise", "held_out"
#: Numbers of float64 that are looked at at a time.
_BATCH = 512


def outside_sets(own: Dataset, asked: Iterable[str | Mapping[str, Any]], seed: int) -> dict[str, Examples]:
    """Name → its examples, on the device of `own`, standardised by the statistics of its train set.

    asked: ``noise``; ``held_out``, the test examples of `dataset.hold_out`; else a choice of conf/dataset, by its name
    or as a mapping with `dataset`, its name, and options of it; then its test examples are taken. seed: of the noise.

    Raises ValueError for what is no such choice or named twice, for inputs of another shape, on a scale that cannot be
    compared, and where no class is held out.
    """
    found: dict[str, Examples] = {}
    examples: Examples
    for one in asked:
        if one == NOISE:
            name, examples = NOISE, Noise.like(own.train, len(own.test), seed)
        elif one == HELD_OUT:
            name, examples = HELD_OUT, _held_out(own)
        else:
            component = _choice(one)
            name, examples = component.name, _test_of(component, own)
        if name in found:
            raise ValueError(f"datasets: expected each name once, got {name} twice. Give one another, {{name: ...}}.")
        found[name] = examples.to(own.train.labels.device)
    return found


@dataclass(frozen=True)
class Noise:
    """Gaussian, independent at every place of an input: (n, *shape) float32, the same whenever it is read.

    mean, deviation: (*shape,) float64; labels: (n,) of 0, which nothing reads.
    """

    mean: Tensor
    deviation: Tensor
    labels: Tensor
    seed: int

    @classmethod
    def like(cls, train: Examples, count: int, seed: int) -> Noise:
        """With the mean and the deviation that each place has in `train`, from one reading."""
        total, sums, squares = 0, None, None
        shift: Tensor | None = None  # of the first batch, so that an offset costs no digit
        for inputs, _ in train.batches(_BATCH):
            rows = inputs.cpu().double()
            shift = rows.mean(0) if shift is None else shift
            rows = rows - shift
            sums = rows.sum(0) if sums is None else sums + rows.sum(0)
            squares = rows.square().sum(0) if squares is None else squares + rows.square().sum(0)
            total += len(rows)
        assert shift is not None
        assert sums is not None
        assert squares is not None
        mean = sums / total
        deviation = (squares / total - mean.square()).clamp(min=0).sqrt()
        return cls(shift + mean, deviation, torch.zeros(count, dtype=torch.int64), seed)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one input, without the batch."""
        return tuple(self.mean.shape)

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device) -> Noise:
        """The same, on another device; it is drawn on the CPU."""
        return dataclasses.replace(self, labels=self.labels.to(device))

    def batches(self, batch_size: int, order: Tensor | None = None, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """See `Examples.batches`; what is drawn depends on batch_size."""
        if order is not None or start:
            raise ValueError("noise: expected to be read from its first example on, got another order.")
        generator = torch.Generator().manual_seed(self.seed)
        for labels in self.labels.split(batch_size):
            drawn = torch.randn(len(labels), *self.mean.shape, generator=generator, dtype=torch.float64)
            yield (self.mean + self.deviation * drawn).float().to(labels.device), labels


def _held_out(own: Dataset) -> Examples:
    if own.held_out is None:
        raise ValueError(
            "datasets: expected held-out classes for held_out, got a training on all. Set dataset.hold_out=[...]."
        )
    return own.held_out


def _choice(asked: str | Mapping[str, Any]) -> Component:
    """The choice of conf/dataset, checked. Raises ConfigError, a ValueError."""
    options = {"dataset": asked} if isinstance(asked, str) else dict(asked)
    if "dataset" not in options:
        raise ValueError(
            f"datasets: expected {NOISE}, {HELD_OUT}, a choice of conf/dataset or {{dataset: CHOICE, ...}}, got "
            f"{options}. `ncexp list dataset` shows the choices."
        )
    choice = str(options.pop("dataset"))
    if choice not in (known := choices("dataset")):
        raise ValueError(
            f"datasets: expected {NOISE}, {HELD_OUT} or a choice of conf/dataset, got {choice!r}. "
            f"{nearest(choice, [NOISE, HELD_OUT, *known])}"
        )
    raw = {**read_choice("dataset", choice), **options}
    if missing := [name for name, value in raw.items() if value == "???"]:
        raise ValueError(
            f"datasets: expected {', '.join(missing)} of {choice}, got none. Write {{dataset: {choice}, "
            f"{missing[0]}: ...}}."
        )
    return Component.check("datasets", OmegaConf.to_container(OmegaConf.create(raw), resolve=True))


def _test_of(component: Component, own: Dataset) -> Examples:
    """The test examples of the choice. Raises ValueError where they are no inputs for the network."""
    data = check_data(component.build_a(Dataset))
    name, shape = component.name, own.input_shape
    if data.input_shape != shape:
        raise ValueError(
            f"datasets: expected inputs of the training's shape {shape}, got {data.input_shape} of {name}. "
            f"{_repair(name, data.input_shape, shape)}"
        )
    if own.raw is not None and data.raw is not None:
        if own.raw.what != data.raw.what:
            raise ValueError(f"datasets: expected {own.raw.what}, as in training, got {data.raw.what} of {name}.")
        return Split(own.raw.standardized(data.raw), data.test.labels)
    streamed = getattr(own.test, "standardization", None)
    if streamed is not None and hasattr(data.test, "standardization"):
        return dataclasses.replace(data.test, standardization=streamed)  # type: ignore[type-var]
    if own.raw is None and data.raw is None and streamed is None and isinstance(data.test, Split):
        return data.test
    raise ValueError(
        f"datasets: expected inputs on the scale of the training's, got {name}: of the two, one is standardised here, "
        "the other comes as it is or is read from folders. Take two of one kind, as two functions (dataset=module)."
    )


def _repair(name: str, got: tuple[int, ...], expected: tuple[int, ...]) -> str:
    if len(got) != 3 or len(expected) != 3:
        return "Choose other data."
    if got[0] != expected[0]:
        kinds = {1: "grey", 3: "colour"}
        return (
            f"{kinds.get(got[0], f'{got[0]} channels')} is not made {kinds.get(expected[0], f'{expected[0]} channels')}"
            " here: choose other data, or convert them in a function of your own (dataset=module)."
        )
    size = max(*got[1:], *expected[1:])
    smaller = [f"dataset.pad={size} in training"] if max(expected[1:]) < size else []
    smaller += [f"{{dataset: {name}, pad: {size}}} here"] if max(got[1:]) < size or not smaller else []
    return f"Set {' and '.join(smaller)}: images are centred in black."
