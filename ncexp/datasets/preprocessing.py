"""What becomes of the examples of files: which a set holds, which training labels are wrong, how they are standardised.

(x − mean) / standard deviation is from the training subset, pixel by pixel or channel by channel.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

Standardize = Literal["per_pixel", "per_channel", "none"]
#: Largest training class over smallest.
Imbalance = Annotated[float, Field(ge=1, allow_inf_nan=False)]

#: In fewer rows a column may be in order by chance.
_FEWEST_ORDERED = 10
#: Numbers that are looked at at a time.
_NUMBERS = 2**20
#: Examples that are converted to float64 at a time: a few megabytes, which stay in the processor's cache.
_BLOCK = 256


def choose(labels: Tensor, counts: list[int], seed: int, option: str = "examples_per_class") -> Tensor:
    """Indices, ascending, of counts[c] examples of every class c.

    The rule: one permutation of all examples is drawn from `seed`; of every class the first counts[c] in that order
    are chosen. So a smaller subset of the same seed is contained in a larger one. Of labels beyond `counts`, none is.

    Raises ValueError where a class has fewer examples than asked for (its label and count are named); option: by which
    option of the dataset they were.
    """
    there = torch.bincount(labels, minlength=len(counts))
    wanted = torch.tensor([*counts, *[0] * (len(there) - len(counts))])
    if bool((there < wanted).any()):
        label = int((there - wanted).argmin())
        raise ValueError(
            f"dataset.{option}: expected at most {int(there[label])} (class {label} has no more), "
            f"got {counts[label]}. Lower it."
        )
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    by_class = order[torch.argsort(labels[order], stable=True)]
    rank = torch.arange(len(labels)) - (there.cumsum(0) - there)[labels[by_class]]
    return by_class[rank < wanted[labels[by_class]]].sort().values


def training_subset(
    labels: Tensor, num_classes: int, examples_per_class: int | None, imbalance: float, seed: int
) -> Tensor:
    """Indices, ascending, of the examples to train on: balanced, long-tailed, or all of them as they are.

    N = examples_per_class, of the largest class; sizes are those of `class_sizes`. None takes every example. Labels of
    num_classes or more are those of classes held out.

    Raises ValueError where imbalance is asked for without an N, where the smallest class would be empty, and where a
    class has fewer examples than asked for.
    """
    if examples_per_class is None:
        if imbalance != 1:
            raise ValueError(
                f"dataset.imbalance: expected 1.0 with examples_per_class=null, got {imbalance:g}. "
                "Set dataset.examples_per_class: the size of the largest class."
            )
        return (labels < num_classes).nonzero().squeeze(1)
    return choose(labels, class_sizes(num_classes, examples_per_class, imbalance), seed)


def class_sizes(num_classes: int, examples_per_class: int, imbalance: float) -> list[int]:
    """n_c = round(N · imbalance^(−c/(C−1))), N = examples_per_class: the exponential profile of Cui et al. 2019.

    From N down to N/imbalance along the labels; 1.0 is balanced. Raises ValueError where the smallest would be empty.
    """
    counts = [round(examples_per_class * imbalance ** (-c / (num_classes - 1))) for c in range(num_classes)]
    if min(counts) < 1:
        raise ValueError(
            f"dataset.imbalance: expected less than 2 × examples_per_class = {2 * examples_per_class}, "
            f"got {imbalance:g}. The smallest class would be empty."
        )
    return counts


def testing_subset(labels: Tensor, num_classes: int, examples_per_class: int | None, seed: int) -> Tensor:
    """Indices, ascending, of the examples to test on: as many of each class, by the rule of `choose`; None: all.

    Raises ValueError where a class has fewer examples than asked for.
    """
    if examples_per_class is None:
        return (labels < num_classes).nonzero().squeeze(1)
    return choose(labels, [examples_per_class] * num_classes, seed, "test_examples_per_class")


def mislabel(labels: Tensor, num_classes: int, fraction: float, seed: int) -> Tensor:
    """The labels (n,) with round(fraction · n) of them moved to another class, each of the others equally likely.

    They are drawn without replacement; the draw depends on the seed and on nothing else that the same seed decides.
    """
    digest = hashlib.sha256(f"label noise/{seed}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
    wrong = torch.randperm(len(labels), generator=generator)[: round(fraction * len(labels))]
    step = torch.randint(1, num_classes, (len(wrong),), generator=generator)
    result = labels.clone()
    result[wrong] = (labels[wrong] + step) % num_classes
    return result


@dataclass(frozen=True)
class Standardization:
    """x → (x − mean) · scale, in float64, returned as float32; mean and scale broadcast against one input.

    num_constant: pixels, or channels, that never vary in training. They have no scale: they are 0, in test too.
    """

    mean: Tensor
    scale: Tensor
    num_constant: int

    def __call__(self, inputs: Tensor) -> Tensor:
        """inputs (n, *shape) of any dtype, on the device of mean and scale → float32."""
        result = torch.empty(inputs.shape, dtype=torch.float32, device=inputs.device)
        for block, out in zip(inputs.split(_BLOCK), result.split(_BLOCK), strict=True):
            out.copy_((block.double() - self.mean) * self.scale)
        return result

    def to(self, device: torch.device) -> Standardization:
        """The same for inputs on another device."""
        return replace(self, mean=self.mean.to(device), scale=self.scale.to(device))

    def pad(self, margins: tuple[int, int, int, int]) -> Standardization:
        """For images with a border of (left, right, top, bottom) black pixels, which per_pixel leaves at 0."""
        if self.mean.ndim == 0 or self.mean.shape[-1] == 1:  # one number a channel holds for the border too
            return self
        return replace(self, mean=functional.pad(self.mean, margins), scale=functional.pad(self.scale, margins))


def fit(blocks: Iterable[Tensor], kind: Standardize, unit: float) -> Standardization:
    """The standardisation of training images that come as blocks (m, channels, height, width).

    per_pixel: mean and standard-deviation image (HPD22, PHD20); per_channel: one mean and deviation a channel; none:
    x / unit. The deviation is the population's (1/n). Blocks are merged pairwise about their means, in float64 (Chan et
    al. 1983). Raises ValueError where there is no image.
    """
    mean = squares = torch.zeros((), dtype=torch.float64)
    if kind == "none":
        return Standardization(mean, torch.tensor(1 / unit, dtype=torch.float64), 0)
    count, lowest, highest = 0, torch.tensor(torch.inf), torch.tensor(-torch.inf)
    for part in (part for block in blocks for part in block.split(_BLOCK)):
        rows = part.double() if kind == "per_pixel" else part.double().transpose(0, 1).flatten(1).T
        here, total = rows.mean(0), count + len(rows)
        between = (here - mean).square() * (count * len(rows) / total)
        squares = squares + (rows - here).square().sum(0) + between
        mean = mean + (here - mean) * (len(rows) / total)
        lowest, highest, count = lowest.minimum(rows.amin(0)), highest.maximum(rows.amax(0)), total
    if count == 0:
        raise ValueError("standardize: expected training images, got none. Check the dataset.")
    varies = highest > lowest
    if kind == "per_channel":
        mean, squares, varies = (numbers.view(-1, 1, 1) for numbers in (mean, squares, varies))
    return Standardization(mean, varies / (squares / count).sqrt().masked_fill(~varies, 1.0), int((~varies).sum()))


def finish(images: Tensor, standardization: Standardization, pad: int | None) -> Tensor:
    """Images (n, channels, height, width), centred in black squares of `pad` pixels if asked, then standardised.

    Raises ValueError where they are larger than `pad`.
    """
    return Raw.of(images, standardization, pad, white=1.0).standardized()


@dataclass(frozen=True, eq=False)
class Raw:
    """Test inputs as the files have them, bordered, beside what standardises them: by it, those of other data, too.

    inputs: (n, *shape) of any dtype; standardization: fitted to train; white: the input that is white, 255 of bytes, on
    whose scale two data sets are compared; what: the places of an input.
    """

    inputs: Tensor
    standardization: Standardization
    white: float
    what: str = "pixels"

    @classmethod
    def of(cls, images: Tensor, standardization: Standardization, pad: int | None, white: float) -> Raw:
        """Of images (n, channels, height, width), centred in black squares of `pad` pixels if asked. Raises ValueError
        where they are larger.
        """
        if pad is None:
            return cls(images, standardization, white)
        height, width = images.shape[-2:]
        if pad < max(height, width):
            raise ValueError(f"dataset.pad: expected at least the images' {height}×{width} pixels, got {pad}. Or null.")
        left, top = (pad - width) // 2, (pad - height) // 2
        margins = (left, pad - width - left, top, pad - height - top)
        return cls(functional.pad(images, margins), standardization.pad(margins), white)

    def standardized(self, other: Raw | None = None) -> Tensor:
        """These inputs, or those of other data on this scale of grey, by this train set's statistics."""
        given = self if other is None else other
        inputs = given.inputs if given.white == self.white else given.inputs.double() * (self.white / given.white)
        return self.standardization(inputs)


def like_row_numbers(inputs: Tensor) -> list[int]:
    """The columns of inputs (n, columns) that may be a row number or an id: in order, or a shuffled range.

    Strictly ascending or descending; or whole numbers, each once, of a range that is less than twice as long as they
    are many. Of fewer than ten rows, none.
    """
    if len(inputs) < _FEWEST_ORDERED:
        return []
    found = []
    for some in inputs.split(max(1, _NUMBERS // len(inputs)), dim=1):
        steps, sorted_steps = some.diff(dim=0), some.sort(dim=0).values.diff(dim=0)
        ordered = (steps > 0).all(0) | (steps < 0).all(0)
        whole = (some == some.round()).all(0) & (sorted_steps > 0).all(0)
        found.append(ordered | whole & (sorted_steps.sum(0) < 2 * len(some)))
    return torch.cat(found).nonzero().flatten().tolist()
