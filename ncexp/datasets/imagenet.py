"""ImageNet, or any images in a folder per class, too many to hold: read as they are asked for."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor
from torchvision.datasets.folder import IMG_EXTENSIONS

from ncexp.config import INCIDENTAL, Count, Fraction, Seed
from ncexp.datasets.cache import load_or_build
from ncexp.datasets.dataset import Dataset, listed
from ncexp.datasets.folders import data_root
from ncexp.datasets.images import Imbalance, TestExamples
from ncexp.datasets.standardize import Standardization, Standardize, fit
from ncexp.datasets.stream import ImageFiles, StreamedSplit, image_blocks
from ncexp.datasets.subset import mislabel, testing_subset, training_subset
from ncexp.record import counted

#: Images that are decoded, and files that are read, between two looks at the clock.
_BLOCK, _READ = 64, 1024


def load(
    *,
    folder: Annotated[str, Field(min_length=1)] = "imagenet",
    examples_per_class: Count | None = 600,
    test_examples_per_class: TestExamples = None,
    standardize: Standardize = "per_channel",
    size: Count = 224,
    label_noise: Fraction = 0.0,
    imbalance: Imbalance = 1.0,
    subset_seed: Seed = 0,
    root: Annotated[str | None, INCIDENTAL] = None,
    num_workers: Annotated[int, Field(ge=0), INCIDENTAL] = 4,
) -> Dataset:
    """Images under root/folder/train/CLASS/ and root/folder/val/CLASS/: inputs (n, 3, size, size) float32, streamed.

    Classes are numbered along their folders' names, sorted; what is hidden (`.NAME`) or no image by its suffix is
    skipped, and named in facts and origin. examples_per_class, test_examples_per_class, standardize,
    label_noise, imbalance, subset_seed and root are as in `images.load`; size: see `ImageFiles`; num_workers: processes
    that decode, or 0.
    Files are known by their content, which is read once at every start. The statistics take one pass over the training
    subset, whose result is kept under the root by `ncexp prepare`.

    Raises ValueError where a folder is missing or empty, where train and val differ in their classes, where a class has
    too few images, and, at the batch that meets it, where a file is no readable image.
    """
    data = data_root(root) / folder
    found, tested_on = _both(data)
    classes = found.classes
    chosen = training_subset(found.labels, len(classes), examples_per_class, imbalance, subset_seed)
    tested = testing_subset(tested_on.labels, len(classes), test_examples_per_class, subset_seed)
    train, test = (
        ImageFiles([files.paths[index] for index in indices.tolist()], size)
        for files, indices in ((found, chosen), (tested_on, tested))
    )
    true, test_labels = found.labels[chosen], tested_on.labels[tested]
    noisy = mislabel(true, len(classes), label_noise, subset_seed)
    contents = [_content(data, files, num_workers) for files in (train, test)]
    standardization = _standardization(data_root(root), data.name, contents[0], train, standardize, num_workers)
    skipped = "; ".join(f"{name}: {one.skipped}" for name, one in (("train", found), ("val", tested_on)) if one.skipped)
    facts = {
        "num_constant_pixels": standardization.num_constant,
        "num_mislabelled": int((noisy != true).sum()),
        "classes": listed(classes),
        "content": _digest("\n".join(contents).encode()),
        **({"skipped": skipped} if skipped else {}),
    }
    splits = [StreamedSplit(*one, standardization, num_workers) for one in ((train, noisy), (test, test_labels))]
    return Dataset(splits[0], splits[1], len(classes), facts, _origin(data, classes, true, test_labels, skipped))


def prepare(**options: Any) -> dict[str, Any]:
    """Check the folders and take the statistics for `load` with the same options; ImageNet cannot be downloaded.

    Raises ValueError as `load` does, at unreadable training images included.
    """
    dataset = load(**options)
    root = str(data_root(options.get("root")))
    return {"root": root, "num_train": len(dataset.train), "num_test": len(dataset.test), **dataset.facts}


def _origin(data: Path, classes: list[str], labels: Tensor, test_labels: Tensor, skipped: str) -> str:
    counts = [torch.bincount(one, minlength=len(classes)).tolist() for one in (labels, test_labels)]
    sizes = [f"{name} ({first} train, {second} test)" for name, first, second in zip(classes, *counts, strict=True)]
    said = f"{data}, {len(classes)} classes: {listed(sizes, most=20)}"
    return f"{said}; skipped: {skipped}" if skipped else said


@dataclass(frozen=True, eq=False)
class _Files:
    """classes: names, sorted; paths: of the images, class by class; labels (n,) int64; skipped: what is neither."""

    classes: list[str]
    paths: list[str]
    labels: Tensor
    skipped: str


def _both(data: Path) -> tuple[_Files, _Files]:
    train, test = _folder(data / "train"), _folder(data / "val")
    if train.classes != test.classes:
        differing = sorted(set(train.classes) ^ set(test.classes))
        raise ValueError(
            f"{data}: expected the same classes in train and val, got {len(train.classes)} and {len(test.classes)}; "
            f"only in one of them: {', '.join(differing[:3])}."
        )
    return train, test


def _folder(path: Path) -> _Files:
    """The images in a folder for each class, in torchvision's order. What is hidden is left out: a notebook puts
    `.ipynb_checkpoints` with copies of images anywhere, a Mac `._NAME` beside NAME.
    """
    entries = sorted(path.iterdir()) if path.is_dir() else []
    classes = [entry.name for entry in entries if entry.is_dir() and not entry.name.startswith(".")]
    found: dict[str, list[str]] = {name: [] for name in classes}
    hidden = [entry.name for entry in entries if entry.name.startswith(".")]
    others = Counter(entry.suffix.lower() for entry in entries if not entry.is_dir() and entry.name not in hidden)
    for name in classes:
        for place, folders, files in os.walk(path / name, followlinks=True):
            unseen = [one for one in (*folders, *files) if one.startswith(".")]
            hidden += [str((Path(place) / one).relative_to(path)) for one in unseen]
            folders[:] = [one for one in folders if one not in unseen]
            for file in (Path(place) / one for one in files if one not in unseen):
                if file.suffix.lower() in IMG_EXTENSIONS:
                    found[name].append(str(file))
                else:
                    others[file.suffix.lower()] += 1
        found[name].sort(key=os.path.split)
    if not classes or not all(found.values()):
        empty = [name for name, files in found.items() if not files]
        got = f"none in those of the classes {listed(empty, most=5)}" if classes else "no folder"
        raise ValueError(
            f"{path}: expected a folder for each class with images in it ({' '.join(IMG_EXTENSIONS)}), got {got}. Put "
            "the images there, or set NCEXP_DATA (or dataset.root, dataset.folder) to where they are."
        )
    labels = torch.arange(len(classes)).repeat_interleave(torch.tensor([len(files) for files in found.values()]))
    said = [f"{len(hidden)} hidden ({listed(sorted(hidden), most=5)})"] if hidden else []
    said += [f"{count} {suffix or 'without a suffix'}" for suffix, count in sorted(others.items())]
    return _Files(classes, [file for files in found.values() for file in files], labels, ", ".join(said))


def _standardization(
    root: Path, name: str, content: str, train: ImageFiles, standardize: Standardize, num_workers: int
) -> Standardization:
    def build() -> dict[str, Any]:
        fitted = fit(image_blocks(train, _BLOCK, num_workers), standardize, unit=255.0)
        return {"mean": fitted.mean, "scale": fitted.scale, "num_constant": fitted.num_constant}

    if standardize == "none":
        return fit([], "none", unit=255.0)
    options = {"standardize": standardize, "size": train.size}
    kept, _ = load_or_build(root, name, content, options, build)
    return Standardization(kept["mean"], kept["scale"], kept["num_constant"])


def _content(folder: Path, files: ImageFiles, num_workers: int) -> str:
    """A digest of the files' names and bytes, in order: each is read once, without decoding it."""
    blocks = [files.paths[first : first + _READ] for first in range(0, len(files), _READ)]
    lines: list[str] = []
    with ThreadPoolExecutor(max(num_workers, 1)) as pool:  # reading and hashing leave Python's lock to the others
        for block in counted(blocks, f"blocks of {_READ} files, read to know them by"):
            digests = pool.map(lambda path: _digest(Path(path).read_bytes()), block)
            names = [str(Path(path).relative_to(folder)) for path in block]
            lines += [f"{name} {digest}" for name, digest in zip(names, digests, strict=True)]
    return _digest("\n".join(lines).encode())


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
