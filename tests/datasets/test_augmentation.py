"""Augmentation, against torchvision on the same draws and against loops over single examples and pixels."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from support import Compose
from torch import Tensor
from torchvision.transforms import v2

from ncexp.config import check
from ncexp.config.augment import augment_of
from ncexp.datasets import Dataset, Split, digits
from ncexp.datasets.augmentation import (
    Augmentation,
    add_noise,
    box_of,
    crop,
    cutmix,
    cutout,
    flip,
    mixup,
    neighbours,
)
from ncexp.training import Processes

EPOCH, SEED = 3, 7
IMAGES = torch.rand(12, 3, 8, 10, generator=torch.Generator().manual_seed(0))


def augmentation(data: Dataset, *asked: Any, seed: int = SEED) -> Augmentation:
    return Augmentation.of(augment_of({"_target_": "ncexp.datasets.digits.load", "augment": [*asked]}), data, seed)


@pytest.fixture(scope="module")
def data() -> Dataset:
    return digits.load(examples_per_class=6)


@pytest.fixture(scope="module")
def raw() -> Tensor:
    """The training images of `data` as scikit-learn's table has them."""
    grey, labels = digits._read()
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0)).tolist()
    chosen = [[one for one in order if labels[one] == label][:6] for label in range(10)]
    return grey[torch.tensor(sorted(one for some in chosen for one in some))]


def seed_of(*words: object) -> int:
    """As the page says."""
    text = "/".join(["augment", *map(str, words)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") // 2


def generator(*words: object) -> torch.Generator:
    return torch.Generator().manual_seed(seed_of(*words))


def standardized(values: np.ndarray, grey: Tensor) -> np.ndarray:
    """Pixel by pixel, in double precision, by the mean and the deviation of the plain images."""
    plain = grey.double().numpy()
    mean, deviation = plain.mean(0), plain.std(0)
    scale = np.where(deviation > 0, 1 / np.where(deviation > 0, deviation, 1), 0)
    return ((values.astype(np.float64) - mean) * scale).astype(np.float32)


#: Means and deviations of the same numbers, added up in another order, in float64; inputs are float32.
ROUNDING = 1e-6


# Each ingredient


def test_crop_is_torchvisions_on_the_same_draws() -> None:
    draws = torch.randint(0, 7, (12, 2), generator=torch.Generator().manual_seed(1))
    found = crop(IMAGES, 3, draws[:, 0], draws[:, 1])
    for image, (top, left), ours in zip(IMAGES, draws.tolist(), found, strict=True):
        assert torch.equal(ours, v2.functional.crop(v2.functional.pad(image, [3]), top, left, 8, 10))


def test_crop_moves_each_pixel_or_leaves_black() -> None:
    ours = crop(IMAGES[:2], 3, torch.tensor([0, 5]), torch.tensor([6, 3])).numpy()
    for number, (top, left) in enumerate([(0, 6), (5, 3)]):
        for y in range(8):
            for x in range(10):
                from_y, from_x = y + top - 3, x + left - 3
                inside = 0 <= from_y < 8 and 0 <= from_x < 10
                expected = IMAGES[number, :, from_y, from_x].numpy() if inside else np.zeros(3)
                assert (ours[number, :, y, x] == expected).all()


def test_flip_is_torchvisions_for_the_chosen() -> None:
    chosen = torch.tensor([True, False] * 6)
    for image, is_flipped, ours in zip(IMAGES, chosen, flip(IMAGES, chosen), strict=True):
        assert torch.equal(ours, v2.functional.horizontal_flip(image) if is_flipped else image)


def test_cutout_is_the_loop_of_its_authors() -> None:
    y, x = torch.arange(12) % 8, torch.arange(12) % 10
    ours = cutout(IMAGES, 6, y, x).numpy()
    for number in range(12):
        expected = IMAGES[number].numpy().copy()
        for row in range(8):
            for column in range(10):
                if y[number] - 3 <= row < y[number] + 3 and x[number] - 3 <= column < x[number] + 3:
                    expected[:, row, column] = 0
        assert (ours[number] == expected).all()
    assert int((ours[0] == 0).sum()) == 3 * 3 * 3  # around the corner (0, 0) a quarter is left


@pytest.mark.parametrize("clip", [True, False])
def test_noise_is_torchvisions_on_the_same_draws(clip: bool) -> None:
    torch.manual_seed(5)
    expected = v2.functional.gaussian_noise(IMAGES, sigma=0.3, clip=clip)
    torch.manual_seed(5)
    assert torch.equal(add_noise(IMAGES, torch.randn_like(IMAGES) * 0.3, 1.0 if clip else None), expected)
    assert bool((expected.min() < 0) == (not clip))


@pytest.mark.parametrize(("ours", "theirs"), [("mixup", v2.MixUp), ("cutmix", v2.CutMix)])
def test_mixtures_are_torchvisions_on_the_same_draws(ours: str, theirs: type[Any]) -> None:
    transform, labels = theirs(num_classes=4), torch.arange(12) % 4
    soft, rolled = torch.eye(4)[labels], IMAGES.roll(1, 0)
    for seed in range(20):
        torch.manual_seed(seed)
        inputs, expected = transform(IMAGES.clone(), labels)
        torch.manual_seed(seed)
        share = float(torch.distributions.Beta(torch.tensor([1.0]), torch.tensor([1.0])).sample(()))
        if ours == "mixup":
            found = mixup(IMAGES, rolled, share)
        else:
            x, y = int(torch.randint(10, (1,))), int(torch.randint(8, (1,)))
            box = box_of(share, x, y, 8, 10)
            found, share = cutmix(IMAGES, rolled, box), 1.0 - (box[2] - box[0]) * (box[3] - box[1]) / 80
        assert torch.equal(found, inputs)
        assert torch.equal(mixup(soft, soft.roll(1, 0), share), expected)


# Whole batches


def test_batches_of_crop_flip_and_cutout_are_a_plain_loops(data: Dataset, raw: Tensor) -> None:
    order = torch.randperm(60, generator=torch.Generator().manual_seed(2))
    made = augmentation(data, {"cutout": {"length": 4}}, "flip", {"crop": {"padding": 2}})
    found = torch.cat([inputs for inputs, _ in made.batches(EPOCH, 16, order)]).numpy()
    offsets = torch.randint(0, 5, (60, 2), generator=generator(SEED, EPOCH, "crop")).tolist()
    flips = (torch.rand(60, generator=generator(SEED, EPOCH, "flip")) < 0.5).tolist()
    centres = generator(SEED, EPOCH, "cutout")
    ys, xs = (torch.randint(0, 8, (60,), generator=centres).tolist() for _ in "yx")
    for number, place in enumerate(order.tolist()):
        (top, left), image = offsets[place], np.zeros((12, 12))
        image[2:10, 2:10] = raw[place, 0].numpy()
        image = image[top : top + 8, left : left + 8]
        image = standardized(image[:, ::-1] if flips[place] else image, raw)[0]
        image[max(ys[place] - 2, 0) : ys[place] + 2, max(xs[place] - 2, 0) : xs[place] + 2] = 0
        np.testing.assert_allclose(found[number, 0], image, rtol=0, atol=ROUNDING)
    assert torch.equal(torch.cat([labels for _, labels in made.batches(EPOCH, 16, order)]), data.train.labels[order])


def test_noise_of_batches_is_in_units_of_white(data: Dataset, raw: Tensor) -> None:
    found, _ = next(augmentation(data, {"noise": {"sigma": 0.2}}).batches(EPOCH, 60, torch.arange(60)))
    for place in range(60):
        drawn = torch.randn(1, 8, 8, generator=generator(SEED, EPOCH, "noise", place)).numpy()
        noisy = np.clip(raw[place].numpy() + 0.2 * 16 * drawn, 0, 16)
        # float32 sums of two numbers up to 16, over deviations of 0.1 and more
        np.testing.assert_allclose(found[place].numpy(), standardized(noisy, raw), rtol=0, atol=1e-4)


def test_randaugment_is_torchvisions_on_bytes(data: Dataset, raw: Tensor) -> None:
    chosen = {"randaugment": {"num_ops": 3, "magnitude": 12}}
    before = torch.get_rng_state()
    found, _ = next(augmentation(data, chosen).batches(EPOCH, 60, torch.arange(60)))
    assert torch.equal(torch.get_rng_state(), before)
    for place in range(60):
        torch.manual_seed(seed_of(SEED, EPOCH, "randaugment", place))
        image = v2.RandAugment(num_ops=3, magnitude=12)((raw[place] * 255 / 16).round().to(torch.uint8))
        expected = standardized(image.numpy() * (16 / 255), raw)
        np.testing.assert_allclose(found[place].numpy(), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_mixed_batches_are_a_plain_loops(data: Dataset, kind: str) -> None:
    order = torch.randperm(60, generator=torch.Generator().manual_seed(2))
    plain = data.train.inputs.numpy()
    for step, (inputs, labels) in enumerate(augmentation(data, {kind: {"alpha": 0.7}}).batches(EPOCH, 25, order)):
        drawn = np.random.default_rng(seed_of(SEED, EPOCH, "mix", step))
        drawn.random()
        share = np.float32(drawn.beta(0.7, 0.7))
        places = order[25 * step : 25 * step + 25].tolist()
        for number, (one, other) in enumerate(zip(places, [places[-1], *places[:-1]], strict=True)):
            if kind == "mixup":
                image = share * plain[one] + (1 - share) * plain[other]
            else:
                if number == 0:
                    share, box = _cut(drawn, float(share))
                image = plain[one].copy()
                image[:, box[1] : box[3], box[0] : box[2]] = plain[other][:, box[1] : box[3], box[0] : box[2]]
            np.testing.assert_allclose(inputs[number].numpy(), image, rtol=0, atol=ROUNDING)
            target = np.zeros(10)
            target[data.train.labels[one]] += share
            target[data.train.labels[other]] += 1 - share
            np.testing.assert_allclose(labels[number].numpy(), target, rtol=0, atol=ROUNDING)


def _cut(drawn: np.random.Generator, share: float) -> tuple[float, tuple[int, int, int, int]]:
    side, x, y = 8 * np.sqrt(1 - share), drawn.integers(8), drawn.integers(8)
    half = int(side / 2)
    left, right, top, bottom = max(x - half, 0), min(x + half, 8), max(y - half, 0), min(y + half, 8)
    return 1 - (right - left) * (bottom - top) / 64, (left, top, right, bottom)


def test_mixup_and_cutmix_together_are_each_half_of_the_steps(data: Dataset) -> None:
    made = augmentation(data, "mixup", "cutmix")
    found = [made._mix(0, step, *_two(data)) for step in range(200)]
    ours = sum(bool(torch.isin(inputs, torch.cat(_two(data)[::2])).all()) for inputs, _ in found)
    assert 70 < ours < 130  # of a fair coin 200 times: four deviations are 28


def _two(data: Dataset) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    inputs, labels = data.train.inputs[:30], data.train.labels[:30]  # type: ignore[attr-defined]
    return inputs, labels, inputs.roll(1, 0), labels.roll(1)


ALL = ["crop", "flip", "randaugment", "noise", "cutout", "mixup", "cutmix"]


def test_epoch_is_the_same_from_any_step_and_on_any_number_of_processes(data: Dataset) -> None:
    made, order = augmentation(data, *ALL), torch.randperm(60, generator=torch.Generator().manual_seed(2))
    whole = [*made.batches(EPOCH, 16, order)]
    for start in range(4):
        rest = [*augmentation(data, *ALL).batches(EPOCH, 16, order, start=start)]
        for one, other in zip(whole[start:], rest, strict=True):
            assert all(torch.equal(ours, theirs) for ours, theirs in zip(one, other, strict=True))
    for rank in range(2):
        share = Processes(rank, 2).share
        parts = made.batches(EPOCH, 8, share(order, 16), share(neighbours(order, 16), 16))
        for one, other in zip(whole, parts, strict=True):
            assert all(torch.equal(ours[rank::2], theirs) for ours, theirs in zip(one, other, strict=True))


@pytest.mark.parametrize("name", ALL)
def test_draws_differ_by_epoch_and_seed(data: Dataset, name: str) -> None:
    def first(seed: int, epoch: int) -> Tensor:
        return next(augmentation(data, name, seed=seed).batches(epoch, 60, torch.arange(60)))[0]

    assert torch.equal(first(0, 1), first(0, 1))
    assert not torch.equal(first(0, 1), first(0, 2))
    assert not torch.equal(first(0, 1), first(1, 1))


def test_draws_take_every_value_as_often(data: Dataset) -> None:
    made = augmentation(data, {"crop": {"padding": 1}}, {"flip": {"probability": 0.25}})
    draws = [made._draws(epoch) for epoch in range(50)]
    offsets = torch.cat([one["crop"] for one in draws])
    counts = torch.bincount(offsets[:, 0] * 3 + offsets[:, 1], minlength=9) / len(offsets)
    assert float((counts - 1 / 9).abs().max()) < 0.03  # five deviations of a share of 3000
    assert abs(float(torch.cat([one["flip"] for one in draws]).float().mean()) - 0.25) < 0.04


def test_border_of_a_crop_is_black_where_images_are_centred_in_a_square() -> None:
    padded = digits.load(examples_per_class=6, pad=12)
    made = augmentation(padded, {"crop": {"padding": 3}})
    assert padded.raw is not None
    standardization = padded.raw.standardization
    grey = made._images.values
    assert torch.equal(standardization(grey), padded.train.inputs)  # type: ignore[attr-defined]
    inputs = made.inputs(EPOCH, torch.arange(60))
    black = standardization(torch.zeros(1, 1, 12, 12))
    assert bool((inputs[:, :, 0] == black[:, :, 0]).all())  # rows 0 and 1 hold no digit, and a window moves three


def test_data_of_ones_own_are_changed_in_their_own_units() -> None:
    inputs, labels = torch.randn(8, 2, 6, 6), torch.arange(8) % 2
    made = augmentation(Dataset(Split(inputs, labels), Split(inputs, labels), 2), {"crop": {"padding": 2}})
    top, left = torch.randint(0, 5, (8, 2), generator=generator(SEED, EPOCH, "crop")).unbind(1)
    assert torch.equal(made.inputs(EPOCH, torch.arange(8)), crop(inputs, 2, top, left))


# Losses of soft labels


@pytest.mark.parametrize("name", ["mse", "mse_mean", "cross_entropy", "label_smoothing"])
def test_loss_of_soft_labels_is_the_share_of_each_label_where_it_is_linear(composed: Compose, name: str) -> None:
    loss: Callable[..., Tensor] = check(composed(f"loss={name}")).loss.build(num_classes=10)
    drawn = torch.Generator().manual_seed(0)
    logits = torch.randn(20, 10, generator=drawn, dtype=torch.float64)
    one, other = torch.randint(0, 10, (2, 20), generator=drawn)
    share = 0.3
    eye = torch.eye(10, dtype=torch.float64)
    soft = share * eye[one] + (1 - share) * eye[other]
    expected = share * loss(logits, one) + (1 - share) * loss(logits, other)
    if "mse" in name:  # which is quadratic: less the variance of the label
        scale = loss.half_mse_scale  # type: ignore[attr-defined]
        expected -= scale / 2 * share * (1 - share) * (eye[one] - eye[other]).square().sum(1).mean()
    assert float(loss(logits, soft)) == pytest.approx(float(expected), rel=1e-12)  # float64, 200 terms
    assert float(loss(logits, eye[one])) == pytest.approx(float(loss(logits, one)), rel=1e-12)
