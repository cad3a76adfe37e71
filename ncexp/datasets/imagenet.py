"""ImageNet, or any images in a folder per class, too many to hold: read as they are asked for."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor
from torchvision.datasets import ImageFolder

from ncexp.config import INCIDENTAL, Count, Fraction, Seed
from ncexp.datasets.cache import load_or_build
from ncexp.datasets.dataset import Dataset
from ncexp.datasets.folders import data_root
from ncexp.datasets.images import Imbalance, TestExamples
from ncexp.datasets.standardize import Standardization, Standardize, fit
from ncexp.datasets.stream import ImageFiles, StreamedSplit, image_blocks
from ncexp.datasets.subset import mislabel, testing_subset, training_subset

_BLOCK = 64


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

    Classes are numbered along their folders' names, sorted. examples_per_class, test_examples_per_class, standardize,
    label_noise, imbalance, subset_seed and root are as in `images.load`; size: see `ImageFiles`; num_workers: processes
    that decode, or 0.
    The statistics take one pass over the training subset, whose result is kept under the root by `ncexp prepare`.

    Raises ValueError where a folder is missing or empty, where train and val differ in their classes, where a class has
    too few images, and, at the batch that meets it, where a file is no readable image.
    """
    data = data_root(root)
    classes, paths, labels = _folder(data / folder / "train")
    test_classes, test_paths, test_labels = _folder(data / folder / "val")
    if classes != test_classes:
        differing = sorted(set(classes) ^ set(test_classes))
        raise ValueError(
            f"{data / folder}: expected the same classes in train and val, got {len(classes)} and {len(test_classes)}; "
            f"only in one of them: {', '.join(differing[:3])}."
        )
    chosen = training_subset(labels, len(classes), examples_per_class, imbalance, subset_seed)
    train = ImageFiles([paths[index] for index in chosen.tolist()], size)
    true = labels[chosen]
    noisy = mislabel(true, len(classes), label_noise, subset_seed)
    standardization = _standardization(data, folder, train, standardize, num_workers)
    facts = {
        "num_constant_pixels": standardization.num_constant,
        "num_mislabelled": int((noisy != true).sum()),
        "content": _listing(data / folder, train),
    }
    tested = testing_subset(test_labels, len(classes), test_examples_per_class, subset_seed)
    test = ImageFiles([test_paths[index] for index in tested.tolist()], size)
    return Dataset(
        StreamedSplit(train, noisy, standardization, num_workers),
        StreamedSplit(test, test_labels[tested], standardization, num_workers),
        len(classes),
        facts,
    )


def prepare(**options: Any) -> dict[str, Any]:
    """Check the folders and take the statistics for `load` with the same options; ImageNet cannot be downloaded.

    Raises ValueError as `load` does, at unreadable training images included.
    """
    dataset = load(**options)
    root = str(data_root(options.get("root")))
    return {"root": root, "num_train": len(dataset.train), "num_test": len(dataset.test), **dataset.facts}


def _folder(path: Path) -> tuple[list[str], list[str], Tensor]:
    """Names of the classes, paths of the images, their labels (n,) int64."""
    try:
        found = ImageFolder(str(path))
    except FileNotFoundError as error:
        raise ValueError(
            f"{path}: expected a folder for each class with images in it, got {error} Put the images there, or set "
            "NCEXP_DATA (or dataset.root, dataset.folder) to where they are."
        ) from error
    return found.classes, [name for name, _ in found.samples], torch.tensor(found.targets)


def _standardization(
    root: Path, folder: str, train: ImageFiles, standardize: Standardize, num_workers: int
) -> Standardization:
    def build() -> dict[str, Any]:
        fitted = fit(image_blocks(train, _BLOCK, num_workers), standardize, unit=255.0)
        return {"mean": fitted.mean, "scale": fitted.scale, "num_constant": fitted.num_constant}

    if standardize == "none":
        return fit([], "none", unit=255.0)
    options = {"standardize": standardize, "size": train.size}
    kept, _ = load_or_build(root, Path(folder).name, _listing(root / folder, train), options, build)
    return Standardization(kept["mean"], kept["scale"], kept["num_constant"])


def _listing(folder: Path, train: ImageFiles) -> str:
    """A digest of the names of the chosen files, in order."""
    names = "\n".join(str(Path(path).relative_to(folder)) for path in train.paths)
    return hashlib.sha256(names.encode()).hexdigest()[:16]
