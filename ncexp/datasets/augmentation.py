"""dataset.augment at work: the batches of training steps, their images changed at random.

Crop, flip, randaugment and noise act on grey values as the files have them, 0 black, before standardisation, so that a
border is black; cutout, mixup and cutmix act on what the network is given. Each is a function of a batch and its draws.
Draws of an example follow from (seed, epoch, place in the data), those of a mixed batch from (seed, epoch, step): the
batches of an epoch are the same however it was interrupted, and on however many processes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ncexp.config.augment import MIXES, Augment, Augmented, Crop, CutMix, Cutout, Flip, Mixup, Noise, RandAugment
from ncexp.datasets import Dataset, Split
from ncexp.datasets.labelling import OF_EXAMPLES
from ncexp.datasets.preprocessing import Standardization

#: Examples whose grey values are found at a time.
_BLOCK = 256
#: White of what torchvision's operations take.
_BYTE = 255


def crop(images: Tensor, padding: int, top: Tensor, left: Tensor) -> Tensor:
    """Of images (m, channels, height, width) in a border of `padding` zeros the windows of their size at (top, left).

    top, left: (m,) int64, 0..2 padding, on the images' device; padding of both is the image as it is.
    """
    height, width = images.shape[-2:]
    windows = functional.pad(images, [padding] * 4).unfold(2, height, 1).unfold(3, width, 1)
    return windows[torch.arange(len(images), device=images.device), :, top, left]


def flip(images: Tensor, chosen: Tensor) -> Tensor:
    """Left and right exchanged in the images that are chosen, (m,) bool."""
    return torch.where(chosen.view(-1, 1, 1, 1), images.flip(-1), images)


def cutout(inputs: Tensor, length: int, y: Tensor, x: Tensor) -> Tensor:
    """0 in rows y − length/2 to y + length/2 − 1 and such columns, of (m, channels, height, width), as far as there are
    some; y, x: (m,) int64.
    """
    half, (height, width) = length // 2, inputs.shape[-2:]
    rows = torch.arange(height, device=inputs.device) - y.unsqueeze(1)
    columns = torch.arange(width, device=inputs.device) - x.unsqueeze(1)
    inside = ((rows >= -half) & (rows < half)).unsqueeze(2) & ((columns >= -half) & (columns < half)).unsqueeze(1)
    return inputs.masked_fill(inside.unsqueeze(1), 0.0)


def add_noise(images: Tensor, noise: Tensor, highest: float | None) -> Tensor:
    """float32; the sum is held between 0 and `highest`, unless that is None."""
    noisy = images.float() + noise
    return noisy if highest is None else noisy.clamp(0.0, highest)


def mixup(inputs: Tensor, others: Tensor, share: float) -> Tensor:
    """share · inputs + (1 − share) · others; of images, or of labels as (m, C)."""
    return others * (1.0 - share) + inputs * share


def cutmix(inputs: Tensor, others: Tensor, box: tuple[int, int, int, int]) -> Tensor:
    """The others' pixels in box = (x1, y1, x2, y2), x2 and y2 not among them."""
    x1, y1, x2, y2 = box
    mixed = inputs.clone()
    mixed[..., y1:y2, x1:x2] = others[..., y1:y2, x1:x2]
    return mixed


def box_of(share: float, x: int, y: int, height: int, width: int) -> tuple[int, int, int, int]:
    """A rectangle of (1 − share) of the area around (x, y), cut at the image's edges, as (x1, y1, x2, y2)."""
    side = 0.5 * (1.0 - share) ** 0.5
    across, down = int(side * width), int(side * height)
    return max(x - across, 0), max(y - down, 0), min(x + across, width), min(y + down, height)


def neighbours(order: Tensor, batch_size: int) -> Tensor:
    """With which example each is mixed: the one before it in its batch, the first with the last."""
    return torch.cat([batch.roll(1) for batch in order.split(batch_size)])


@dataclass(frozen=True, eq=False)
class Images:
    """Training images by their grey values, 0 black; white: that of white, None where nobody knows.

    values: (n, channels, height, width), bytes where they are whole numbers of a byte; standardization: what makes the
    network's inputs of them; None where they are these.
    """

    values: Tensor
    standardization: Standardization | None
    white: float | None

    @classmethod
    def of(cls, dataset: Dataset) -> Images:
        """Of the training examples, on their device. Raises ValueError for data that are no images held in memory."""
        shape, fault = dataset.input_shape, ""
        if dataset.targets is not None:
            fault = "targets of a regression"
        elif dataset.labelling != OF_EXAMPLES:
            fault = "labels of tokens or of occurring classes"
        elif len(shape) != 3:
            fault = f"inputs {shape}"
        elif not isinstance(dataset.train, Split):
            fault = "images that are read from files as they are asked for"
        if fault:
            raise ValueError(
                f"dataset.augment: expected labelled images (channels, height, width) held in memory, got {fault}. "
                "Leave it out."
            )
        assert isinstance(dataset.train, Split)
        if dataset.raw is None:
            return cls(dataset.train.inputs, None, None)
        standardization = dataset.raw.standardization.to(dataset.train.inputs.device)
        values = _grey_values(dataset.train.inputs, standardization, dataset.raw.inputs.dtype)
        return cls(values, standardization, dataset.raw.white)

    def inputs(self, values: Tensor) -> Tensor:
        """What the network is given of these grey values, float32."""
        return values if self.standardization is None else self.standardization(values)


def _grey_values(inputs: Tensor, standardization: Standardization, kind: torch.dtype) -> Tensor:
    """The whole numbers of which the inputs were made: (x / scale) + mean, rounded; the mean where a pixel is constant.

    That they give the inputs again, to the last bit, is looked at: else an epoch would be of other images.
    """
    scale, mean = standardization.scale, standardization.mean
    divisor = torch.where(scale == 0, 1.0, scale)
    values = torch.empty(inputs.shape, dtype=kind, device=inputs.device)
    for block, out in zip(inputs.split(_BLOCK), values.split(_BLOCK), strict=True):
        out.copy_((block.double() / divisor + mean).round())
        if not torch.equal(standardization(out), block):
            raise ValueError(
                "dataset.augment: expected images of whole grey values, got others, which cannot be told from their "
                "standardised ones. Leave it out, or give the data as dataset=module."
            )
    return values


class Augmentation:
    """The training batches of a run with augmentation; seed: the run's."""

    def __init__(
        self, asked: Augment, images: Images, labels: Tensor, num_classes: int, seed: int, views: int = 1
    ) -> None:
        self.chosen, self.mixes, self.views = asked.chosen, asked.mixes, views
        self._images, self._labels, self._num_classes, self._seed = images, labels, num_classes, seed
        for option in self.chosen.values():
            _refuse_unfit(option, images)

    @classmethod
    def of(cls, asked: Augment, dataset: Dataset, seed: int, views: int = 1) -> Augmentation:
        """views: how many changed images of each example a batch has. Raises ValueError for data that are no images
        held in memory, and what does not fit their shape.
        """
        images = Images.of(dataset)
        return cls(asked, images, dataset.train.labels, dataset.num_classes, seed, views)

    @property
    def keeps_labels(self) -> bool:
        """Whether something is done to an image that leaves it its class."""
        return any(name not in MIXES for name in self.chosen)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one input, without the batch."""
        return tuple(self._images.values.shape[1:])

    def batches(
        self, epoch: int, batch_size: int, order: Tensor, others: Tensor | None = None, start: int = 0
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of (inputs, labels) along `order`, from batch number `start` on; labels (m, C) where they are mixed.
        Of several views there are first one of each example, then the next, each with draws of its own.

        others: with which examples those of `order` are mixed; None: with those before them in their batch.
        """
        draws = self._draws(epoch)
        words = [f"{epoch}/view {view}" for view in range(2, self.views + 1)]
        more = [(word, self._draws(word)) for word in words]
        parts, mixed = order.cpu().split(batch_size), (order if others is None else others).cpu().split(batch_size)
        for step in range(start, len(parts)):
            places = parts[step]
            inputs, labels = self.inputs(epoch, places, draws), self._labels[places.to(self._labels.device)]
            if self.mixes:
                if others is None:
                    before, other_labels = inputs.roll(1, 0), labels.roll(1)
                else:
                    before = self.inputs(epoch, mixed[step], draws)
                    other_labels = self._labels[mixed[step].to(self._labels.device)]
                inputs, labels = self._mix(epoch, step, inputs, labels, before, other_labels)
            if more:
                inputs = torch.cat([inputs, *(self.inputs(word, places, drawn) for word, drawn in more)])
                labels = labels.repeat(self.views)
            yield inputs, labels

    def inputs(self, epoch: int | str, places: Tensor, draws: dict[str, Tensor] | None = None) -> Tensor:
        """What becomes of the examples at these places (m,), on the CPU, in this epoch, before any are mixed; a word in
        place of an epoch has other draws.
        """
        draws = self._draws(epoch) if draws is None else draws
        values, white = self._images.values[places.to(self._images.values.device)], self._images.white
        drawn = {name: one[places].to(values.device, non_blocking=True) for name, one in draws.items()}
        for name, option in self.chosen.items():
            if isinstance(option, Crop):
                values = crop(values, _padding(option, values.shape), *drawn[name].unbind(1))
            elif isinstance(option, Flip):
                values = flip(values, drawn[name])
            elif isinstance(option, RandAugment):
                values = self._randaugment(epoch, places, values, option)
            elif isinstance(option, Noise):
                noise = self._noise(epoch, places, values.shape[1:]) * (option.sigma * (white or 1.0))
                values = add_noise(values, noise.to(values.device), white if option.clip else None)
        inputs = self._images.inputs(values)
        if isinstance(square := self.chosen.get("cutout"), Cutout):
            inputs = cutout(inputs, _length(square, inputs.shape), *drawn["cutout"].unbind(1))
        return inputs

    def _draws(self, epoch: int | str) -> dict[str, Tensor]:
        """Name → what is drawn for each example, in the data's order, on the CPU."""
        count, (height, width), found = len(self._labels), self._images.values.shape[-2:], dict[str, Tensor]()
        for name, option in self.chosen.items():
            generator = _generator(self._seed, epoch, name)
            if isinstance(option, Crop):
                padding = _padding(option, self._images.values.shape)
                found[name] = torch.randint(0, 2 * padding + 1, (count, 2), generator=generator)
            elif isinstance(option, Flip):
                found[name] = torch.rand(count, generator=generator) < option.probability
            elif isinstance(option, Cutout):
                y = torch.randint(0, height, (count,), generator=generator)
                found[name] = torch.stack([y, torch.randint(0, width, (count,), generator=generator)], 1)
        return found

    def _noise(self, epoch: int | str, places: Tensor, shape: torch.Size) -> Tensor:
        """Standard normal numbers, those of an example from a generator of its own: a table of all would be large."""
        rows = [torch.randn(shape, generator=_generator(self._seed, epoch, "noise", one)) for one in places.tolist()]
        return torch.stack(rows)

    def _randaugment(self, epoch: int | str, places: Tensor, values: Tensor, option: RandAugment) -> Tensor:
        """On the CPU, one image after the other, as torchvision draws from torch's own generator; returns its bytes in
        the units of `values`, float32 where they are none.
        """
        from torchvision.transforms import v2  # takes a second

        assert self._images.white is not None
        bytes_per, operations = _BYTE / self._images.white, v2.RandAugment(option.num_ops, option.magnitude)
        images = (values.cpu().float() * bytes_per).round().to(torch.uint8)
        changed = torch.empty_like(images)
        with torch.random.fork_rng(devices=[]):
            for place, image, out in zip(places.tolist(), images, changed, strict=True):
                torch.default_generator.manual_seed(_seed_of(self._seed, epoch, "randaugment", place))
                out.copy_(operations(image))
        return (changed if bytes_per == 1 else changed.float() / bytes_per).to(values.device)

    def _mix(
        self, epoch: int, step: int, inputs: Tensor, labels: Tensor, others: Tensor, other_labels: Tensor
    ) -> tuple[Tensor, Tensor]:
        """One batch by mixup or cutmix; by either, each as likely, where both are chosen."""
        random = np.random.default_rng(_seed_of(self._seed, epoch, "mix", step))
        either = [one for one in self.chosen.values() if isinstance(one, Mixup | CutMix)]
        option = either[-1 if random.random() < 0.5 else 0]
        share = float(random.beta(option.alpha, option.alpha))
        if isinstance(option, Mixup):
            inputs = mixup(inputs, others, share)
        else:
            height, width = inputs.shape[-2:]
            box = box_of(share, int(random.integers(width)), int(random.integers(height)), height, width)
            inputs = cutmix(inputs, others, box)
            share = 1.0 - (box[2] - box[0]) * (box[3] - box[1]) / (width * height)
        soft, other = (functional.one_hot(one, self._num_classes).float() for one in (labels, other_labels))
        return inputs, mixup(soft, other, share)


@dataclass(frozen=True, eq=False)
class Redrawn:
    """`count` changed images of each training image, to be evaluated: first one of each, then the next.

    labels: (n,), of the training images; epoch: after which they are evaluated; the training has other draws.
    """

    augmentation: Augmentation
    plain_labels: Tensor
    epoch: int
    count: int

    @property
    def labels(self) -> Tensor:
        """(count · n,) int64."""
        return self.plain_labels.repeat(self.count)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one input, without the batch."""
        return self.augmentation.input_shape

    def __len__(self) -> int:
        return self.count * len(self.plain_labels)

    def to(self, device: torch.device) -> Redrawn:
        """The same, on the device that they are on already."""
        if device != self.plain_labels.device:
            raise ValueError(f"Redrawn: expected the training images' device, got {device}. Move those.")
        return self

    def batches(self, batch_size: int, order: Tensor | None = None, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of (inputs, labels) along `order`, from batch number `start` on; see `Examples.batches`."""
        plain = len(self.plain_labels)
        sequence = torch.arange(len(self)) if order is None else order.cpu()
        draws = [self.augmentation._draws(self._word(draw)) for draw in range(self.count)]
        for part in sequence.split(batch_size)[start:]:
            inputs = torch.empty(len(part), *self.input_shape, device=self.plain_labels.device)
            for draw in (part // plain).unique().tolist():
                mine = (part // plain == draw).nonzero().squeeze(1)
                changed = self.augmentation.inputs(self._word(draw), part[mine] % plain, draws[draw])
                inputs[mine.to(inputs.device)] = changed
            yield inputs, self.plain_labels[(part % plain).to(inputs.device)]

    def _word(self, draw: int) -> str:
        return f"evaluated/{self.epoch}/{draw}"


def _padding(option: Crop, shape: torch.Size) -> int:
    """The border; an eighth of the shorter side of the image, rounded up, where none is asked for."""
    return option.padding or -(-min(shape[-2:]) // 8)


def _length(option: Cutout, shape: torch.Size) -> int:
    """The side of the square; half the shorter side of the image, made even, where none is asked for."""
    return option.length or max(2, min(shape[-2:]) // 4 * 2)


def _refuse_unfit(option: Augmented, images: Images) -> None:
    """Raises ValueError where the images' shape, or what is known of their grey values, does not allow it."""
    channels, height, width = images.values.shape[1:]
    length = _length(option, images.values.shape) if isinstance(option, Cutout) else 0
    shortest, of = min(height, width), f"images {(channels, height, width)}"
    padding = _padding(option, images.values.shape) if isinstance(option, Crop) else 0
    if padding >= shortest:
        raise ValueError(
            f"dataset.augment.crop.padding: expected less than {shortest}, the shorter side of {of}, got "
            f"{padding}. Lower it."
        )
    if length % 2 or length > shortest:
        raise ValueError(
            f"dataset.augment.cutout.length: expected an even number, at most {shortest}, the shorter side of {of}, "
            f"got {length}. Choose another."
        )
    if isinstance(option, RandAugment) and (images.white is None or channels not in (1, 3)):
        what = f"{channels} channels" if images.white is not None else "data of one's own, in unknown units"
        raise ValueError(
            f"dataset.augment.randaugment: expected grey or RGB images whose white is known, got {what}. Leave it out."
        )
    if isinstance(option, Noise) and option.clip and images.white is None:
        raise ValueError(
            "dataset.augment.noise.clip: expected false for data of one's own, whose black and white are not known, "
            "got true. As in dataset.augment=[{noise:{sigma:0.1,clip:false}}], with sigma in the data's units."
        )


def _generator(seed: int, *words: object) -> torch.Generator:
    return torch.Generator().manual_seed(_seed_of(seed, *words))


def _seed_of(*words: object) -> int:
    digest = hashlib.sha256("/".join(map(str, ("augment", *words))).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
