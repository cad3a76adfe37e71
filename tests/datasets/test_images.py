"""The official formats through torchvision's own readers: what comes out, and what is said about bad files."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from official_files import ONE_FILE, examples, write, write_idx, write_svhn
from torchvision.datasets import MNIST

from ncexp.config import Component
from ncexp.datasets import images, prepare

SOURCES = list(ONE_FILE)


def load_mnist(root, **options):
    return images.load(source="mnist", root=str(root), **options)


@pytest.mark.parametrize("source", SOURCES)
def test_files_in_the_official_format_come_out_as_they_went_in(source, tmp_path, monkeypatch):
    train_images, train_labels, test_images, test_labels = write(source, tmp_path, monkeypatch)
    dataset = images.load(source=source, standardize="none", root=str(tmp_path))
    for split, pixels, labels in (
        (dataset.train, train_images, train_labels),
        (dataset.test, test_images, test_labels),
    ):
        assert split.inputs.dtype == torch.float32
        np.testing.assert_array_equal((split.inputs * 255).round().numpy(), pixels)
        np.testing.assert_array_equal(split.labels.numpy(), labels)
    assert dataset.num_classes == train_labels.max() + 1
    assert dataset.input_shape == train_images.shape[1:]


def test_second_load_equals_the_first_and_reads_no_official_file(tmp_path, monkeypatch):
    write("cifar10", tmp_path, monkeypatch)
    options = {"source": "cifar10", "examples_per_class": 4, "label_noise": 0.25, "root": str(tmp_path)}
    first = images.load(**options)
    monkeypatch.setattr(images, "_decode", lambda *_, **__: pytest.fail("decoded again"))
    (tmp_path / ONE_FILE["cifar10"]).unlink()
    second = images.load(**options, test_examples_per_class=1)  # is taken of what was decoded
    assert len(second.test) == 10
    assert torch.equal(first.train.inputs, second.train.inputs)
    assert torch.equal(first.train.labels, second.train.labels)
    assert first.facts == second.facts


def test_kept_file_is_another_for_other_options_or_content(tmp_path, monkeypatch):
    def kept() -> set[Path]:
        return set((tmp_path / "ncexp_decoded").glob("*.pt"))

    write("svhn", tmp_path, monkeypatch)
    options = {"source": "svhn", "examples_per_class": 4, "root": str(tmp_path)}
    images.load(**options)
    images.load(**options, pad=40)  # is done after reading
    assert len(kept()) == 1
    for changed in ({"subset_seed": 1}, {"standardize": "none"}, {"label_noise": 0.1}, {"imbalance": 2.0}):
        before = kept()
        images.load(**{**options, **changed})
        assert len(kept() - before) == 1
    before = kept()
    for path in tmp_path.glob("*.mat"):
        path.unlink()
    with pytest.MonkeyPatch.context() as other:
        write_svhn(tmp_path, other, examples(3, 32, seed=1))
        images.load(**options)
    assert len(kept() - before) == 1


@pytest.mark.parametrize("standardize", ["per_pixel", "per_channel", "none"])
def test_padding_centres_the_same_image_in_black(standardize, tmp_path, monkeypatch):
    write("mnist", tmp_path, monkeypatch)
    options = {"source": "mnist", "standardize": standardize, "root": str(tmp_path)}
    plain, padded = images.load(**options), images.load(**options, pad=32)
    assert padded.input_shape == (1, 32, 32)
    assert torch.equal(padded.test.inputs[:, :, 2:30, 2:30], plain.test.inputs)
    black = plain.train.inputs[0, 0, 0, 0]  # that corner is black in every image
    border = padded.train.inputs.clone()
    border[:, :, 2:30, 2:30] = black
    assert torch.equal(border, torch.full_like(border, black))
    assert plain.facts == padded.facts


def test_statistics_are_of_the_balanced_training_subset(tmp_path, monkeypatch):
    write("cifar10", tmp_path, monkeypatch)
    dataset = images.load(source="cifar10", examples_per_class=4, root=str(tmp_path))
    assert torch.bincount(dataset.train.labels).tolist() == [4] * 10
    inputs = dataset.train.inputs.double()
    np.testing.assert_allclose(inputs.mean(0), 0, atol=1e-6)  # float32 numbers of size one
    assert (inputs.std(0, correction=0) < 0.5).sum() == 3 == dataset.facts["num_constant_pixels"]
    assert not dataset.test.inputs[:, :, 0, 0].any()


# Bad files


@pytest.mark.parametrize("source", SOURCES)
def test_empty_folder_names_the_file_and_the_folder(source, tmp_path):
    with pytest.raises(ValueError, match=f"expected the file .* under {tmp_path}, got none. Run `ncexp prepare"):
        images.load(source=source, root=str(tmp_path))


def test_missing_root_is_named_and_not_made(tmp_path, monkeypatch):
    monkeypatch.setenv("NCEXP_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match=f"expected the folder {tmp_path / 'nowhere'}, got none"):
        images.load(source="svhn")
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("damage", ["truncated", "changed"])
def test_damaged_file_is_named_with_both_checksums(source, damage, tmp_path, monkeypatch):
    write(source, tmp_path, monkeypatch)
    path = tmp_path / ONE_FILE[source]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content if damage == "changed" else content[: len(content) // 2])
    with pytest.raises(ValueError, match=f"expected {path} with MD5 [0-9a-f]+, got [0-9a-f]+ .* delete it"):
        images.load(source=source, root=str(tmp_path))
    assert not list((tmp_path / "ncexp_decoded").glob("*.pt"))


def cut(whole: bytes) -> bytes:
    return whole[:-1]


@pytest.mark.parametrize(
    ("name", "spoil", "message"),
    [
        ("train-images-idx3-ubyte", b"", "to be an idx file of bytes, got 0 bytes"),
        ("t10k-labels-idx1-ubyte", b"\0\0\x08", "to be an idx file of bytes, got 3 bytes"),
        ("t10k-labels-idx1-ubyte", b"<html>not found</html>", "to be an idx file of bytes, got 22 bytes"),
        ("train-images-idx3-ubyte", cut, "to be an idx file of 47056 bytes.*got 47055"),
    ],
)
def test_uncompressed_idx_file_that_is_none_or_cut_is_named(name, spoil, message, tmp_path):
    write_idx(tmp_path, None, MNIST, examples(1, 28), compress=False)
    path = tmp_path / "MNIST/raw" / name
    path.write_bytes(spoil(path.read_bytes()) if callable(spoil) else spoil)
    with pytest.raises(ValueError, match=f"expected {path} {message}"):
        load_mnist(tmp_path)


def test_images_and_labels_that_do_not_belong_together_are_counted(tmp_path):
    arrays = examples(1, 28)
    write_idx(tmp_path, None, MNIST, (arrays[0], arrays[1][:-1], *arrays[2:]), compress=False)
    with pytest.raises(ValueError, match="got 60 images and 59 labels"):
        load_mnist(tmp_path)


def test_kept_file_that_is_damaged_or_cannot_be_written_is_named(tmp_path, monkeypatch):
    write("mnist", tmp_path, monkeypatch)
    load_mnist(tmp_path)
    folder = tmp_path / "ncexp_decoded"
    (kept,) = folder.glob("*.pt")
    kept.write_bytes(kept.read_bytes()[:1000])
    with pytest.raises(ValueError, match=f"{kept}: expected decoded data.*Delete the file"):
        load_mnist(tmp_path)
    folder.rename(tmp_path / "away")
    folder.write_text("in the way")
    with pytest.raises(ValueError, match=f"expected to write the decoded data under {folder}"):
        load_mnist(tmp_path)


@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_refused_data_leave_only_what_was_there(damage, tmp_path, monkeypatch):
    write("mnist", tmp_path, monkeypatch)
    one = next((tmp_path / "MNIST" / "raw").glob("t10k*"))
    whole = one.read_bytes()
    one.unlink() if damage == "missing" else one.write_bytes(whole[:-20])
    with pytest.raises(ValueError, match="MNIST: expected"):
        load_mnist(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["MNIST"]
    one.write_bytes(whole)
    load_mnist(tmp_path)
    with pytest.raises(ValueError, match="CIFAR10: expected the file"):
        images.load(source="cifar10", root=str(tmp_path))
    assert len(list((tmp_path / "ncexp_decoded").glob("mnist-*.pt"))) == 1


# Preparing


def _component(**options) -> Component:
    raw = {"name": "mnist", "_target_": "ncexp.datasets.images.load", "source": "mnist", **options}
    return Component.check("dataset", raw)


def test_preparation_checks_and_decodes_what_is_there(tmp_path, monkeypatch):
    write("mnist", tmp_path, monkeypatch)
    said = prepare(_component(root=str(tmp_path), examples_per_class=3))
    assert (said["num_train"], said["num_test"]) == (30, 20)
    assert said["origin"].startswith(f"the official files from {tmp_path}; ")
    monkeypatch.setattr(images, "_decode", lambda *_, **__: pytest.fail("decoded again"))
    load_mnist(tmp_path, examples_per_class=3)


def test_preparation_downloads_only_what_is_missing(tmp_path, monkeypatch):
    asked = []

    def download(self, root):
        asked.append(root)
        write_idx(root, monkeypatch, MNIST, examples(1, 28))

    monkeypatch.setattr("ncexp.datasets.official.OfficialSet.download", download)
    root = tmp_path / "new"
    for _ in range(2):
        prepare(_component(root=str(root)))
    assert asked == [root]


def test_preparation_without_network_says_what_to_do(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr("torchvision.datasets.mnist.download_and_extract_archive", refuse)
    monkeypatch.setattr(MNIST, "download", lambda self: refuse())
    with pytest.raises(ValueError, match=r"no route to host.*or put these files under .*train-images-idx3-ubyte\.gz"):
        prepare(_component(root=str(tmp_path)))


def test_many_at_once_decode_once(tmp_path, monkeypatch):
    write_idx(tmp_path, None, MNIST, examples(1, 28), compress=False)
    decode, decoded = images._decode, []

    def slowly(*arguments, **options):
        decoded.append(threading.get_ident())
        time.sleep(0.2)
        return decode(*arguments, **options)

    monkeypatch.setattr(images, "_decode", slowly)
    loaded = []
    threads = [threading.Thread(target=lambda: loaded.append(load_mnist(tmp_path))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(decoded) == 1
    assert len(loaded) == 4
    assert all(torch.equal(loaded[0].train.inputs, other.train.inputs) for other in loaded[1:])
