"""What lies outside: on the scale and by the statistics of the training's own data, to the bit; and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from official_files import write, write_idx
from torchvision.datasets import FashionMNIST

from ncexp.datasets import Dataset, Split, digits, gaussian_mixture, images, table
from ncexp.datasets.outside import Noise, outside_sets

#: Means and deviations in float64 of another order, rounded to float32.
ROUNDING = 1e-6


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Files of MNIST, and of FashionMNIST with other pixels."""
    arrays = write("mnist", tmp_path, monkeypatch)
    other = tuple(255 - one if one.ndim > 1 else one for one in arrays)
    write_idx(tmp_path, monkeypatch, FashionMNIST, other)  # type: ignore[arg-type]
    monkeypatch.setenv("NCEXP_DATA", str(tmp_path))
    return tmp_path


def load(**options: Any) -> Dataset:
    return images.load(**{"source": "mnist", "pad": 32, **options})


def only(own: Dataset, asked: Any) -> Any:
    (examples,) = outside_sets(own, [asked], 0).values()
    return examples


MNIST = {"dataset": "mnist", "examples_per_class": None}
FASHION = {"dataset": "fashion_mnist", "examples_per_class": None}


@pytest.mark.parametrize("standardize", ["per_pixel", "per_channel", "none"])
def test_the_same_data_come_out_as_the_test_set_does_to_the_bit(root: Path, standardize: str) -> None:
    own = load(standardize=standardize, examples_per_class=5)
    found = only(own, {**MNIST, "standardize": "per_channel"})  # its own has no effect
    assert torch.equal(found.inputs, own.test.inputs)  # type: ignore[attr-defined]
    assert torch.equal(found.labels, own.test.labels)


def test_other_data_are_standardised_by_the_statistics_of_train(root: Path) -> None:
    own, raw = load(), load(standardize="none", pad=None)
    train = np.round(raw.train.inputs.double().numpy() * 255)  # type: ignore[attr-defined]
    pixels = 255 - np.round(raw.test.inputs.double().numpy() * 255)  # type: ignore[attr-defined]
    mean, deviation = train.mean(0), train.std(0)
    expected = np.where(deviation > 0, (pixels - mean) / np.where(deviation > 0, deviation, 1), 0)
    found = only(own, FASHION).inputs
    np.testing.assert_allclose(found[:, :, 2:30, 2:30], expected, rtol=ROUNDING, atol=ROUNDING)
    found[:, :, 2:30, 2:30] = 0
    assert not found.any()


def test_white_is_white_on_another_scale(root: Path) -> None:
    """Of digits 16 is white, of MNIST 255."""
    found = only(load(standardize="none"), {"dataset": "digits", "pad": 32}).inputs
    expected = digits.load(standardize="none", pad=32).test.inputs / 16  # type: ignore[attr-defined]
    np.testing.assert_allclose(found, expected, rtol=ROUNDING)
    assert found.max() == 1


def test_tables_of_the_same_columns_are_compared(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    paths = [tmp_path / name for name in ("a.csv", "b.csv", "c.csv")]
    for path, head in zip(paths, ("x,y", "x,y", "u,v"), strict=True):
        lines = [f"{one[0]},{one[1]},{k % 2}" for k, one in enumerate(random.normal(3, 2, size=(20, 2)))]
        path.write_text("\n".join([f"{head},kind", *lines]) + "\n")
    own = table.load(path=str(paths[0]), label="kind")
    other = {"dataset": "table", "path": str(paths[1]), "label": "kind"}
    raw, train = (table.load(path=str(path), label="kind", standardize="none") for path in (paths[1], paths[0]))
    rows = train.train.inputs.double()  # type: ignore[attr-defined]
    expected = (raw.test.inputs.double() - rows.mean(0)) / rows.std(0, correction=0)  # type: ignore[attr-defined]
    np.testing.assert_allclose(only(own, other).inputs, expected, rtol=1e-5)
    with pytest.raises(ValueError, match="datasets: expected columns x, y, as in training, got columns u, v of table"):
        only(own, {**other, "path": str(paths[2])})


def test_held_out_examples_are_those_of_the_dataset() -> None:
    own = digits.load(hold_out=[3, 7])
    assert outside_sets(own, ["held_out"], 0) == {"held_out": own.held_out}


def test_noise_has_the_moments_of_train_at_every_pixel() -> None:
    # Class by class in batches of 512: their means differ.
    own = gaussian_mixture.sample(num_features=4, num_classes=3, examples_per_class=400, separation=9.0)
    shifted = Split(own.train.inputs * torch.tensor([1.0, 3, 0, 2]) + 1e4, own.train.labels)  # type: ignore[attr-defined]
    noise: Any = Noise.like(shifted, 24000, 3)
    rows = shifted.inputs.double().numpy()
    np.testing.assert_allclose(noise.mean, rows.mean(0), rtol=1e-12)
    np.testing.assert_allclose(noise.deviation, rows.std(0), rtol=1e-9)
    drawn, again = (torch.cat([inputs for inputs, _ in noise.batches(512)]) for _ in range(2))
    assert torch.equal(drawn, again)
    assert drawn.shape == (24000, 4)
    five = 5 * rows.std(0) / np.sqrt(24000)
    assert (np.abs(drawn.double().mean(0).numpy() - rows.mean(0)) <= five + 1e-3).all()  # float32 near 1e4
    np.testing.assert_allclose(drawn.double().std(0).numpy(), rows.std(0), rtol=5 / np.sqrt(2 * 24000), atol=1e-3)
    other = next(Noise.like(shifted, 24000, 4).batches(512))[0]
    assert not torch.equal(other, drawn[:512])
    assert len(outside_sets(own, ["noise"], 0)["noise"]) == len(own.test)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (["held_out"], r"datasets: expected held-out classes for held_out, .*\. Set dataset\.hold_out=\[\.\.\.\]\."),
        (["nois"], "datasets: expected noise, held_out or a choice .*, got 'nois'.* Did you mean noise"),
        ([{"dataset": "digit"}], "got 'digit'.* Did you mean digits"),
        (["noise", "noise"], "datasets: expected each name once, got noise twice"),
        ([{"pad": 32}], r"datasets: expected noise, held_out, a choice of conf/dataset or {dataset: CHOICE, \.\.\.}"),
        ([{"dataset": "digits", "padd": 3}], r"datasets\.padd: no such key\. .*Did you mean pad\?"),
        (
            ["gaussian_mixture"],
            r"datasets: expected .* shape \(1, 8, 8\), got \(32,\) of gaussian_mixture\. Choose other",
        ),
        (
            ["fashion_mnist"],
            r"got \(1, 32, 32\) of fashion_mnist\. Set dataset\.pad=32 in training: images are centred",
        ),
        ([{**MNIST, "pad": None}], r"got \(1, 28, 28\) of mnist\. Set dataset\.pad=28 in training"),
        (["table"], r"datasets: expected path of table, got none\. Write {dataset: table, path: \.\.\.}"),
        (["module"], r"datasets: expected factory of module, got none"),
    ],
)
def test_what_cannot_be_compared_is_refused(root: Path, asked: list[Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        outside_sets(digits.load(), [{**FASHION} if one == "fashion_mnist" else one for one in asked], 0)


def test_a_smaller_or_coloured_image_says_what_to_do(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"Set {dataset: digits, pad: 32} here: images are centred in black"):
        outside_sets(load(), ["digits"], 0)
    write("cifar10", root, monkeypatch)
    coloured = {"dataset": "cifar10", "examples_per_class": None}
    with pytest.raises(ValueError, match=r"got \(3, 32, 32\) of cifar10\. colour is not made grey here: .*module"):
        outside_sets(load(), [coloured], 0)
    own = gaussian_mixture.sample(num_classes=3, num_features=32)
    path = root / "t.csv"
    lines = [",".join(["1", *map(str, range(k, k + 31)), str(k % 2)]) for k in range(9)]
    path.write_text("\n".join([",".join([*(f"x{j}" for j in range(32)), "kind"]), *lines]) + "\n")
    other = {"dataset": "table", "path": str(path), "label": "kind"}
    with pytest.raises(ValueError, match="expected inputs on the scale of the training's, got table"):
        outside_sets(own, [other], 0)
