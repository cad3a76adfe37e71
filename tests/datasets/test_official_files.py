"""Official files as people have them: wherever they lie, however they are compressed, in folders that are not ours."""

from __future__ import annotations

import gzip
import hashlib
import os
import pickle
import tarfile
from pathlib import Path

import pytest
import scipy.io
import torch
from official_files import examples, idx, write, write_idx
from torchvision.datasets import CIFAR10, MNIST, FashionMNIST

from ncexp.datasets import cache as folders
from ncexp.datasets import images
from ncexp.datasets import official as formats
from ncexp.datasets.official import OFFICIAL

#: Debian's package dataset-fashion-mnist: the official content, compressed anew, in a folder of the system.
PACKAGED = Path("/usr/share/datasets/fashion-mnist")
NAMES = [name for name, _ in MNIST.resources]


@pytest.fixture
def packaged() -> Path:
    if not PACKAGED.is_dir():
        if os.environ.get("CI"):
            pytest.fail("CI installs dataset-fashion-mnist")
        pytest.skip("Debian's dataset-fashion-mnist is not installed")
    return PACKAGED


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "ncexp"


# Debian's package


@pytest.mark.slow
def test_packaged_fashion_mnist_is_official_and_nothing_is_written(packaged, cache):
    before = sorted(packaged.iterdir())
    dataset = images.load(source="fashion_mnist", examples_per_class=100, pad=32, root=str(packaged))
    assert dataset.facts["official_files"]
    assert torch.bincount(dataset.train.labels).tolist() == [100] * 10
    assert torch.bincount(dataset.test.labels).tolist() == [1000] * 10  # as published
    assert dataset.test.inputs.shape == (10_000, 1, 32, 32)
    assert sorted(packaged.iterdir()) == before
    assert len(list(cache.glob("fashion_mnist-*.pt"))) == 1
    assert str(cache) in dataset.origin
    assert str(packaged) in dataset.origin


@pytest.mark.slow
@pytest.mark.parametrize("pack", [gzip.compress, bytes])
def test_one_wrong_label_in_official_sizes_is_refused(pack, packaged, tmp_path):
    (tmp_path / "mine").mkdir()
    for path in packaged.iterdir():
        if path.name != "t10k-labels-idx1-ubyte.gz":
            (tmp_path / "mine" / path.name).symlink_to(path)
    labels = bytearray(gzip.decompress((packaged / "t10k-labels-idx1-ubyte.gz").read_bytes()))
    labels[-1] ^= 1
    name = "t10k-labels-idx1-ubyte" + (".gz" if pack is gzip.compress else "")
    (tmp_path / "mine" / name).write_bytes(pack(labels))
    with pytest.raises(ValueError, match=f"FashionMNIST: expected {tmp_path / 'mine' / name} with MD5 .*, got "):
        OFFICIAL["fashion_mnist"].read(tmp_path / "mine")


def test_packaged_content_is_the_published_one_and_that_of_no_other_set(packaged):
    (_, labels_file), _ = OFFICIAL["fashion_mnist"].files()
    assert labels_file.published != labels_file.unpacked  # the one is of the .gz, the other of what is in it
    data = gzip.decompress((packaged / "train-labels-idx1-ubyte.gz").read_bytes())
    # The head of the published training labels, as Fashion-MNIST's own README numbers its classes: 9 is an ankle boot.
    assert list(data[8:18]) == [9, 0, 0, 3, 0, 2, 7, 2, 5, 5]
    with pytest.raises(ValueError, match=r"MNIST: .* the content is FashionMNIST's train-images-idx3-ubyte") as refused:
        OFFICIAL["mnist"].read(packaged)
    assert "delete" not in str(refused.value)


# Where files may lie, and how they may be compressed


def tiny(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """MNIST of 60 and 20 images in torchvision's layout, its MD5s, packed and unpacked, in the tables."""
    arrays = examples(1, 28)
    write_idx(folder, patch, MNIST, arrays)
    contents = [idx(arrays[0][:, 0]), idx(arrays[1]), idx(arrays[2][:, 0]), idx(arrays[3])]
    digests = tuple(hashlib.md5(content).hexdigest() for content in contents)
    patch.setitem(formats._UNPACKED, "MNIST", digests)


def repack(folder: Path, level: int | None) -> None:
    """Every .gz of `folder` compressed anew at a level; None: uncompressed."""
    for path in folder.glob("*.gz"):
        data = gzip.decompress(path.read_bytes())
        if level is None:
            path.with_suffix("").write_bytes(data)
            path.unlink()
        else:
            path.write_bytes(gzip.compress(data, level))


@pytest.mark.parametrize("root", ["", "MNIST", "MNIST/raw", "flat"])
@pytest.mark.parametrize("level", [9, 1, None])
def test_same_content_is_found_and_known_however_it_lies(root, level, tmp_path, monkeypatch):
    tiny(tmp_path, monkeypatch)
    expected = OFFICIAL["mnist"].fingerprint(tmp_path)
    repack(tmp_path / "MNIST/raw", level)
    (tmp_path / "flat").symlink_to(tmp_path / "MNIST/raw")
    assert OFFICIAL["mnist"].read(tmp_path / root)[2]  # known to be official
    assert OFFICIAL["mnist"].fingerprint(tmp_path / root) == expected
    assert OFFICIAL["mnist"].is_there(tmp_path / root)


def test_published_checksum_is_enough_and_damage_hides_no_right_file(tmp_path, monkeypatch):
    tiny(tmp_path, monkeypatch)
    damaged = tmp_path / "MNIST/raw/train-images-idx3-ubyte"
    damaged.write_bytes(gzip.decompress(damaged.with_suffix(".gz").read_bytes())[:-1])
    monkeypatch.setitem(formats._UNPACKED, "MNIST", ("no digest",) * 4)
    assert OFFICIAL["mnist"].read(tmp_path)[2]


def test_files_of_other_sizes_are_taken_and_said_to_be_others(tmp_path):
    write_idx(tmp_path, None, FashionMNIST, examples(1, 28), compress=False)
    dataset = images.load(source="fashion_mnist", root=str(tmp_path))
    assert not dataset.facts["official_files"]
    assert dataset.origin.startswith("files of the official form, of unknown content from ")


def test_archive_is_read_as_it_is(tmp_path, monkeypatch):
    arrays = write("cifar10", tmp_path, monkeypatch)
    folder = tmp_path / CIFAR10.base_folder
    with tarfile.open(tmp_path / CIFAR10.filename, "w:gz") as archive:
        archive.add(folder, CIFAR10.base_folder)
    for path in folder.iterdir():
        path.unlink()
    (train, labels), _, official = OFFICIAL["cifar10"].read(tmp_path)
    assert official
    assert (train.numpy() == arrays[0]).all()
    assert labels.tolist() == arrays[1].tolist()
    assert not list(folder.iterdir())


def test_unknown_pickle_is_never_loaded(tmp_path, monkeypatch):
    write("cifar10", tmp_path, monkeypatch)
    path = tmp_path / CIFAR10.base_folder / "test_batch"
    path.write_bytes(pickle.dumps({"data": [], "labels": []}))
    monkeypatch.setattr(pickle, "loads", lambda *_, **__: pytest.fail("loaded"))
    with pytest.raises(ValueError, match=r"CIFAR10: expected .*test_batch with MD5"):
        OFFICIAL["cifar10"].read(tmp_path)


def test_svhn_saved_anew_is_taken_by_its_class_sizes(tmp_path, monkeypatch):
    arrays = write("svhn", tmp_path, monkeypatch)
    for path in tmp_path.glob("*.mat"):
        table = scipy.io.loadmat(path)
        scipy.io.savemat(path, {"X": table["X"], "y": table["y"]}, do_compression=True)
    with pytest.raises(ValueError, match=r"SVHN: expected .*train_32x32\.mat with MD5"):
        OFFICIAL["svhn"].read(tmp_path)
    monkeypatch.setattr(formats, "_SVHN_SIZES", ([6] * 10, [2] * 10))
    (train, labels), _, official = OFFICIAL["svhn"].read(tmp_path)
    assert not official
    assert (train.numpy() == arrays[0]).all()
    assert labels.tolist() == arrays[1].tolist()


# Folders that are not ours


def load_tiny(root: Path):
    return images.load(source="mnist", examples_per_class=4, root=str(root))


def test_read_only_folder_is_left_alone_and_the_cache_is_named(tmp_path, monkeypatch, cache):
    root = tmp_path / "data"
    tiny(root, monkeypatch)
    for folder in (root, root / "MNIST", root / "MNIST/raw"):
        folder.chmod(0o555)
    before = sorted(root.rglob("*"))
    first = load_tiny(root)
    assert sorted(root.rglob("*")) == before
    assert first.origin == f"the official files from {root}; decoded in {cache}"
    monkeypatch.setattr(images, "_decode", lambda *_, **__: pytest.fail("decoded again"))
    assert torch.equal(load_tiny(root).train.inputs, first.train.inputs)


def test_wrong_file_in_a_folder_of_others_is_not_to_be_deleted(tmp_path, monkeypatch, cache):
    tiny(tmp_path / "data", monkeypatch)
    path = tmp_path / "data/MNIST/raw" / NAMES[0]
    path.write_bytes(path.read_bytes()[:-9])
    path.parent.chmod(0o555)
    with pytest.raises(ValueError, match=r"cannot be unpacked.*leave it there, and set dataset\.root") as caught:
        load_tiny(tmp_path / "data")
    assert "delete" not in str(caught.value)


def test_what_others_prepared_is_read(tmp_path, monkeypatch, cache):
    tiny(tmp_path / "data", monkeypatch)
    first = load_tiny(tmp_path / "data")
    decoded = tmp_path / "data" / folders.DECODED
    assert first.origin.endswith(f"decoded in {decoded}")
    decoded.chmod(0o555)
    (tmp_path / "data").chmod(0o555)
    monkeypatch.setattr(images, "_decode", lambda *_, **__: pytest.fail("decoded again"))
    assert load_tiny(tmp_path / "data").origin == first.origin
    assert not cache.exists()


def test_without_any_folder_to_write_each_run_decodes(tmp_path, monkeypatch):
    tiny(tmp_path / "data", monkeypatch)
    (tmp_path / "data").chmod(0o555)
    (tmp_path / "a file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "a file"))
    dataset = load_tiny(tmp_path / "data")
    assert "decoded anew by each run" in dataset.origin
    assert len(dataset.train) == 40


def test_folders_of_the_system_and_of_others_are_not_ours(tmp_path):
    assert folders.is_ours(tmp_path)
    assert not folders.is_ours(Path("/usr"))
    assert not folders.is_ours(tmp_path / "nowhere")
    if os.geteuid() == 0:
        os.chown(tmp_path, 12345, -1)
        assert not folders.is_ours(tmp_path)


def test_preparation_downloads_nothing_into_a_folder_of_others(tmp_path, monkeypatch, cache):
    monkeypatch.setattr("ncexp.datasets.official.OfficialSet.download", lambda *_: pytest.fail("downloaded"))
    (tmp_path / "data").mkdir(mode=0o555)
    with pytest.raises(ValueError, match=r"MNIST: expected the file .*set NCEXP_DATA \(or dataset\.root\)"):
        images.prepare(source="mnist", root=str(tmp_path / "data"))
