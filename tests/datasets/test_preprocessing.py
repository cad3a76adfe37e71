"""The rules that choose examples, move labels and standardise, alone and as the data sets have them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from official_files import write
from PIL import Image
from sklearn.datasets import load_digits

from ncexp.config import check
from ncexp.config.composing import compose_mapping
from ncexp.datasets import Dataset, digits, imagenet, images, preprocessing
from ncexp.datasets.preprocessing import choose, fit, mislabel, training_subset

Load = Callable[..., Dataset]


def labels_of(counts: list[int], seed: int = 0) -> torch.Tensor:
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    return labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))]


@pytest.mark.slow
@given(
    sizes=st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), min_size=2, max_size=5),
    seed=st.integers(0, 2**31),
)
def test_choice_has_the_asked_counts_and_follows_the_written_rule(sizes, seed):
    wanted = [w for w, _ in sizes]
    labels = labels_of([w + spare for w, spare in sizes], seed=1)
    left, by_hand = list(wanted), []
    for index in torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed)).tolist():
        if left[labels[index]] > 0:
            left[labels[index]] -= 1
            by_hand.append(index)
    assert choose(labels, wanted, seed).tolist() == sorted(by_hand)


def test_smaller_choice_of_the_same_seed_is_contained_in_a_larger():
    labels = labels_of([20, 30])
    small, large = choose(labels, [5, 5], 3), choose(labels, [12, 9], 3)
    assert set(small.tolist()) < set(large.tolist())
    assert set(small.tolist()) != set(choose(labels, [5, 5], 4).tolist())


def test_training_subset_is_long_tailed_or_all_the_data():
    labels = labels_of([100] * 5)
    chosen = training_subset(labels, 5, 100, imbalance=16.0, seed=0)
    assert torch.bincount(labels[chosen]).tolist() == [100, 50, 25, 12, 6]  # 100 · 16^(−c/4), rounded: 12.5 → 12
    assert training_subset(labels_of([3, 9]), 2, None, 1.0, seed=5).tolist() == list(range(12))


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        (lambda: training_subset(labels_of([3, 9]), 2, None, 10.0, 0), r"expected 1\.0 with .*_class=null, got 10"),
        (lambda: training_subset(labels_of([4, 4]), 2, 4, 100.0, 0), "less than 2 × examples_per_class = 8, got 100"),
        (lambda: choose(labels_of([9, 4, 5]), [6, 6, 5], 0), r"expected at most 4 \(class 1 has no more\), got 6"),
    ],
)
def test_subset_that_cannot_be_had_is_refused(choice, message):
    with pytest.raises(ValueError, match=message):
        choice()


def test_mislabelled_are_exactly_the_share_and_never_right():
    labels = labels_of([50, 50, 100])
    noisy = mislabel(labels, 3, 0.3, seed=0)
    assert int((noisy != labels).sum()) == 60
    assert set(noisy.tolist()) == {0, 1, 2}
    assert torch.equal(mislabel(labels, 3, 0.3, seed=0), noisy)
    assert not torch.equal(mislabel(labels, 3, 0.3, seed=1), noisy)
    assert torch.equal(mislabel(labels, 3, 0.0, seed=0), labels)


def test_mislabelled_go_to_every_other_class_alike():
    labels = torch.zeros(6000, dtype=torch.int64)
    counts = np.bincount(mislabel(labels, 4, 0.5, seed=0).numpy(), minlength=4)
    assert counts[0] == 3000
    np.testing.assert_allclose(counts[1:], 1000, atol=130)  # five standard deviations of a count, √(3000·⅓·⅔) each


# As the data sets have them


@pytest.fixture(params=["images", "imagenet", "digits"])
def load(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """A loader without standardisation of a set with at least two test examples of each class."""
    if request.param == "images":
        write("cifar10", tmp_path, monkeypatch)
        return lambda **options: images.load(source="cifar10", standardize="none", root=str(tmp_path), **options)
    if request.param == "digits":
        return lambda **options: digits.load(standardize="none", **options)
    for split in ("train", "val"):
        for label in range(3):
            folder = tmp_path / "imagenet" / split / f"class_{label}"
            folder.mkdir(parents=True)
            for number in range(4):
                Image.new("RGB", (8, 8), (label, number, split == "val")).save(folder / f"{number}.png")
    options = {"standardize": "none", "size": 8, "num_workers": 0, "examples_per_class": 2, "root": str(tmp_path)}
    return lambda **more: imagenet.load(**options, **more)  # type: ignore[arg-type]


def contents(dataset: Dataset) -> list[tuple[bytes, int]]:
    """Every test example by its content, in order."""
    batches = list(dataset.test.batches(7))
    return [(image.numpy().tobytes(), int(label)) for some in batches for image, label in zip(*some, strict=True)]


def test_label_noise_moves_training_labels_only(load: Load) -> None:
    clean, noisy = load(), load(label_noise=0.25)
    moved = int((clean.train.labels != noisy.train.labels).sum())
    assert moved == round(len(clean.train) / 4) == noisy.facts["num_mislabelled"]
    assert contents(noisy) == contents(clean)
    first = [next(iter(dataset.train.batches(16)))[0] for dataset in (clean, noisy)]
    assert torch.equal(*first)


def test_testing_subset_is_balanced_nested_and_leaves_training_alone(load: Load) -> None:
    whole, one, two = load(), load(test_examples_per_class=1), load(test_examples_per_class=2)
    classes = whole.num_classes
    for part, size in ((one, 1), (two, 2)):
        assert torch.bincount(part.test.labels, minlength=classes).tolist() == [size] * classes
    for smaller, larger in ((contents(one), contents(two)), (contents(two), contents(whole))):
        places = [larger.index(example) for example in smaller]  # in the order of the larger one
        assert places == sorted(set(places))
    first = [next(iter(dataset.train.batches(16))) for dataset in (whole, one)]
    assert all(torch.equal(left, right) for left, right in zip(*first, strict=True))
    chosen = [contents(load(test_examples_per_class=1, subset_seed=seed)) for seed in range(4)]
    assert len({tuple(examples) for examples in chosen}) > 1  # it depends on the seed


def test_testing_subset_larger_than_the_smallest_class_is_refused(load: Load) -> None:
    smallest = int(torch.bincount(load().test.labels).min())
    match = rf"^dataset.test_examples_per_class: expected at most {smallest} \(class \d+ has no more\), got"
    with pytest.raises(ValueError, match=match):
        load(test_examples_per_class=smallest + 1)


#: Training keys that runs had before there was the option.
KEYS = {"digits": "6bca22af0a", "mnist": "8311a893f1", "imagenet": "b89c9fde64"}


@pytest.mark.slow
@pytest.mark.parametrize("name", KEYS)
def test_training_key_is_that_of_earlier_runs_unless_a_subset_is_asked_for(name: str) -> None:
    words = [f"dataset={name}", "optimizer=sgd"]
    assert check(compose_mapping("config", words)).key == KEYS[name]
    assert check(compose_mapping("config", [*words, "dataset.test_examples_per_class=1"])).key != KEYS[name]


#: float64 sums of 10⁴ numbers in another order.
ROUNDING = 1e-12


@pytest.fixture
def pixels() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (50, 3, 5, 4), generator=generator, dtype=torch.uint8)
    pixels[:, 1, 2, 3] = 7
    return pixels


@pytest.mark.parametrize(("kind", "axes"), [("per_pixel", 0), ("per_channel", (0, 2, 3))])
@pytest.mark.parametrize("block", [50, 7, 1])
def test_statistics_equal_numpys_whatever_the_blocks(pixels, kind, axes, block, monkeypatch):
    monkeypatch.setattr(preprocessing, "_BLOCK", 4)
    fitted = fit(pixels.split(block), kind, unit=255.0)
    numbers = pixels.numpy().astype(np.float64)
    deviation = numbers.std(axes)
    np.testing.assert_allclose(fitted.mean.squeeze(), numbers.mean(axes), rtol=ROUNDING)
    np.testing.assert_allclose(fitted.scale.squeeze().numpy() * deviation, deviation > 0, rtol=ROUNDING)
    assert fitted.num_constant == (1 if kind == "per_pixel" else 0)


def test_none_divides_by_the_unit(pixels):
    assert torch.equal(fit([], "none", unit=255.0)(pixels), (pixels.double() / 255).float())


def test_pixel_that_never_varies_is_zero_in_test_too():
    train = torch.full((11, 1, 1, 2), 0.7, dtype=torch.float64)
    train[..., 1] = torch.arange(11.0).view(11, 1, 1)
    assert train[:, 0, 0, 0].mean() != 0.7  # so that the deviation, as computed, is not zero either
    standardization = fit([train], "per_pixel", unit=1.0)
    ours, test = standardization(train), standardization(torch.full((2, 1, 1, 2), 6.0))
    assert not ours[..., 0].any()
    assert not test[..., 0].any()
    assert test[..., 1].all()


def test_no_images_are_refused():
    with pytest.raises(ValueError, match="expected training images, got none"):
        fit([], "per_pixel", unit=1.0)


def test_digits_are_what_scikit_learn_reads() -> None:
    dataset, bunch = digits.load(standardize="none"), load_digits()
    ours = torch.cat([dataset.train.inputs, dataset.test.inputs]).squeeze(1)
    labels = torch.cat([dataset.train.labels, dataset.test.labels])
    rows = sorted([*image.flatten().tolist(), float(label)] for image, label in zip(ours, labels, strict=True))
    theirs = zip(bunch.images, bunch.target, strict=True)
    assert rows == sorted([*image.ravel().tolist(), float(label)] for image, label in theirs)


@pytest.mark.parametrize("standardize", ["per_pixel", "none"])
def test_digits_are_centred_in_black_where_a_network_takes_no_smaller_ones(standardize: str) -> None:
    plain, padded = (digits.load(standardize=standardize, pad=pad) for pad in (None, 32))  # type: ignore[arg-type]
    for name, split in plain.splits.items():
        inputs = padded.splits[name].inputs  # type: ignore[attr-defined]
        assert inputs.shape == (len(split), 1, 32, 32)
        assert torch.equal(inputs[:, :, 12:20, 12:20], split.inputs)  # type: ignore[attr-defined]
        assert inputs.count_nonzero() == split.inputs.count_nonzero()  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match=r"dataset\.pad: expected at least the images' 8×8 pixels, got 7"):
        digits.load(pad=7)
