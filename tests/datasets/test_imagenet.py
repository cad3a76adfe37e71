"""Images in folders, streamed: the same protocol as tensors, decoded by worker processes."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ncexp.config import Component
from ncexp.datasets import imagenet, prepare
from ncexp.datasets.imagenet import ImageFiles, UnreadableImage

CLASSES = ["n01", "n02", "n03"]
OPTIONS = {"size": 14, "examples_per_class": 4, "num_workers": 0}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three classes, five JPEGs each for training and two for test; every file has a grey value of its own."""
    for split, size in (("train", 5), ("val", 2)):
        for label, name in enumerate(CLASSES):
            folder = tmp_path / "imagenet" / split / name
            folder.mkdir(parents=True)
            for k in range(size):
                grey = 40 * label + 7 * k + (3 if split == "val" else 0)
                Image.fromarray(np.full((20 + k, 24, 3), grey, dtype=np.uint8)).save(folder / f"{k}.JPEG", quality=95)
    return tmp_path


def load(root: Path, **options):
    return imagenet.load(root=str(root), **{**OPTIONS, **options})


def test_images_are_cut_from_the_centre_and_labelled_by_their_folder(root):
    dataset = load(root, standardize="none")
    raw = {"name": "imagenet", "_target_": "ncexp.datasets.imagenet.load", "root": str(root), **OPTIONS}
    said = prepare(Component.check("dataset", raw))
    assert (said["num_train"], said["num_test"], said["origin"]) == (12, 6, dataset.origin)
    assert dataset.num_classes == 3
    assert dataset.input_shape == (3, 14, 14)
    assert torch.bincount(dataset.train.labels).tolist() == [4, 4, 4]
    assert dataset.test.labels.tolist() == [0, 0, 1, 1, 2, 2]
    ((inputs, labels),) = dataset.test.batches(10)
    assert inputs.shape == (6, 3, 14, 14)
    assert labels.tolist() == dataset.test.labels.tolist()
    greys = (inputs * 255).round().mean((1, 2, 3))
    np.testing.assert_allclose(greys, [3, 10, 43, 50, 83, 90], atol=1)  # JPEG keeps a flat grey to one level


@pytest.mark.parametrize("num_workers", [0, 2])
def test_batches_follow_order_and_start_as_those_of_tensors(root, num_workers):
    train = load(root, num_workers=num_workers).train
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))
    everything = torch.cat([inputs for inputs, _ in load(root).train.batches(12)])
    batches = list(train.batches(5, order, start=1))
    assert [len(labels) for _, labels in batches] == [5, 2]  # the last, shorter batch is there
    assert torch.equal(torch.cat([labels for _, labels in batches]), train.labels[order[5:]])
    assert torch.equal(torch.cat([inputs for inputs, _ in batches]), everything[order[5:]])


@pytest.mark.parametrize("standardize", ["per_channel", "per_pixel"])
def test_statistics_are_of_the_training_subset_and_kept(root, standardize, monkeypatch):
    dataset = load(root, standardize=standardize)
    inputs = torch.cat([inputs for inputs, _ in dataset.train.batches(5)]).double()
    axes = (0, 2, 3) if standardize == "per_channel" else 0
    np.testing.assert_allclose(inputs.mean(axes), 0, atol=1e-6)  # float32 numbers of size one
    np.testing.assert_allclose(inputs.std(axes, correction=0), 1, rtol=1e-6)
    monkeypatch.setattr(imagenet, "fit", lambda *_, **__: pytest.fail("taken again"))
    again = load(root, standardize=standardize)
    assert torch.equal(next(again.test.batches(6))[0], next(dataset.test.batches(6))[0])


@pytest.mark.parametrize("standardize", ["per_channel", "per_pixel"])
def test_images_replaced_under_their_names_are_measured_anew(root, standardize):
    """The same names, sizes and times of change: what is in the files decides."""
    before = load(root, standardize=standardize)
    for path in (root / "imagenet/train").rglob("*.JPEG"):
        status = path.stat()
        with Image.open(path) as image:
            grey = 255 - np.asarray(image)
        Image.fromarray(grey).save(path, quality=95)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    after = load(root, standardize=standardize)
    inputs = torch.cat([inputs for inputs, _ in after.train.batches(5)]).double()
    np.testing.assert_allclose(inputs.mean((0, 2, 3)), 0, atol=1e-6)  # float32 numbers of size one
    assert after.facts["content"] != before.facts["content"]
    path = root / "imagenet/val/n01/0.JPEG"
    path.write_bytes((root / "imagenet/val/n02/0.JPEG").read_bytes())
    assert load(root, standardize=standardize).facts["content"] != after.facts["content"]


def test_hidden_folders_are_no_classes_and_what_is_skipped_is_said(root):
    plain = load(root)
    train = root / "imagenet/train"
    for folder in (train / ".ipynb_checkpoints", train / "n02/.ipynb_checkpoints"):
        folder.mkdir()
        (folder / "0-checkpoint.JPEG").write_bytes((train / "n02/0.JPEG").read_bytes())
    (train / "n01/._0.JPEG").write_bytes(b"not an image")
    for name in ("n01/a.npy", "n02/b.NPY", "list.txt"):
        (train / name).write_bytes(b"")
    found = load(root, examples_per_class=None)
    assert found.num_classes == 3
    assert torch.bincount(found.train.labels).tolist() == [5, 5, 5]
    assert load(root).facts["content"] == plain.facts["content"]
    assert found.facts["classes"] == plain.facts["classes"] == "n01, n02, n03"
    assert "n01 (5 train, 2 test), n02 (5 train, 2 test)" in found.origin
    skipped = "train: 3 hidden (.ipynb_checkpoints, n01/._0.JPEG, n02/.ipynb_checkpoints), 2 .npy, 1 .txt"
    assert f"skipped: {skipped}" in found.origin
    assert found.facts["skipped"] == skipped
    assert "skipped" not in plain.origin


@pytest.mark.slow
def test_reading_leaves_the_global_generator_alone(root):
    train = load(root, num_workers=1).train
    before = torch.get_rng_state()
    list(train.batches(6))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("num_workers", [0, pytest.param(1, marks=pytest.mark.slow)])  # torch waits 5 s for the process
def test_image_that_is_cut_short_or_too_large_is_named(root, num_workers, monkeypatch):
    dataset = load(root, standardize="none", num_workers=num_workers)
    path = root / "imagenet/val/n02/1.JPEG"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(UnreadableImage, match=f"^{path}: expected a readable image, [^\n]*$"):
        list(dataset.test.batches(2))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)  # Pillow's: against files that fill the memory
    with pytest.raises(UnreadableImage, match=f"^{root}/imagenet/val/n01/.*: expected an image of at most 20 pixels"):
        list(dataset.test.batches(2))


def written(folder: Path, pixels: np.ndarray, name: str) -> str:
    Image.fromarray(pixels).save(folder / name)
    return str(folder / name)


def decoded(path: str) -> np.ndarray:
    return ImageFiles([path], 28)[0].numpy()


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.pgm"])
def test_image_of_16_bits_is_scaled_by_its_range(tmp_path, name):
    """A ramp over all levels, resampled: as the same ramp in 8 bits, to the level that 8 bits round by."""
    wide = np.tile(np.linspace(0, 65535, 32), (32, 1)).round().astype(np.uint16)
    narrow = (wide.astype(np.int64) * 255 + 32767) // 65535
    found = decoded(written(tmp_path, wide, name)).astype(int)
    expected = decoded(written(tmp_path, narrow.astype(np.uint8), "b.png")).astype(int)
    assert (found == found[0]).all()
    assert abs(found - expected).max() <= 1
    assert len(np.unique(found)) > 20


@pytest.mark.parametrize("mode", ["LA", "RGBA", "P"])
def test_image_with_transparency_is_laid_on_white(tmp_path, mode):
    """A black picture whose opacity is the shape: alpha · 0 + (1 − alpha) · white; opaque, it is as without alpha."""
    alpha = np.tile(np.linspace(0, 255, 32), (32, 1)).round().astype(np.uint8)
    drawn = Image.new("RGBA", (32, 32))
    drawn.putalpha(Image.fromarray(alpha))
    if mode == "P":  # each colour of the palette black, with an opacity of its own
        drawn = Image.fromarray(alpha)
        drawn.putpalette(bytes(768))
        drawn.save(tmp_path / "a.png", transparency=bytes(range(256)))
    else:
        drawn.convert(mode).save(tmp_path / "a.png")
    expected = decoded(written(tmp_path, 255 - alpha, "b.png")).astype(int)
    assert abs(decoded(str(tmp_path / "a.png")).astype(int) - expected).max() <= 1
    grey = Image.fromarray(alpha).convert("RGB")
    opaque = grey.copy()
    opaque.putalpha(255)
    opaque.save(tmp_path / "c.png")
    grey.save(tmp_path / "d.png")
    assert np.array_equal(decoded(str(tmp_path / "c.png")), decoded(str(tmp_path / "d.png")))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda ramp: Image.fromarray(ramp / np.float32(255)), "got pixels of float32, which have no range"),
        (lambda ramp: Image.fromarray(ramp.astype(np.int32) * 256), "got pixels of int32, which have no range"),
        (lambda ramp: white_with(ramp), "got a white one on a transparent ground"),
    ],
)
def test_image_of_unknown_range_or_white_on_nothing_is_refused(tmp_path, make, message):
    ramp = np.tile(np.arange(0, 256, 8), (32, 1)).astype(np.uint8)
    make(ramp).save(tmp_path / "a.tif")
    with pytest.raises(ValueError, match=f"a.tif: expected a picture .*{message}"):
        decoded(str(tmp_path / "a.tif"))


def white_with(alpha: np.ndarray) -> Image.Image:
    picture = Image.new("RGBA", (32, 32), "white")
    picture.putalpha(Image.fromarray(alpha))
    return picture


def test_folders_that_are_missing_empty_or_differ_are_named(root):
    with pytest.raises(ValueError, match=f"{root / 'other/train'}: expected a folder for each class"):
        load(root, folder="other")
    (root / "imagenet/val/n03").rename(root / "imagenet/val/n04")
    with pytest.raises(ValueError, match="got 3 and 3; only in one of them: n03, n04"):
        load(root)
    (root / "imagenet/train/n04").mkdir()
    with pytest.raises(ValueError, match=r"imagenet/train: expected a folder for each class .* classes n04"):
        load(root)
