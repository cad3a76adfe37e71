"""ImageNet, or any images in a folder per class, too many to hold: read by processes beside the training."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, cast

import numpy as np
import torch
from PIL import Image
from pydantic import Field
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset
from torchvision.datasets.folder import IMG_EXTENSIONS
from torchvision.transforms import functional as transforms

from ncexp.config import INCIDENTAL, Count, Fraction, Seed
from ncexp.datasets import Dataset, digest, listed
from ncexp.datasets.cache import data_root, load_or_build
from ncexp.datasets.holding_out import Classes, HoldOut
from ncexp.datasets.images import TestExamples
from ncexp.datasets.preprocessing import (
    Imbalance,
    Standardization,
    Standardize,
    fit,
    mislabel,
    testing_subset,
    training_subset,
)
from ncexp.record import counted
from ncexp.record.tensor_file import UnusableFile

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
    hold_out: HoldOut = None,
    subset_seed: Seed = 0,
    root: Annotated[str | None, INCIDENTAL] = None,
    num_workers: Annotated[int, Field(ge=0), INCIDENTAL] = 4,
) -> Dataset:
    """Images under root/folder/train/CLASS/ and root/folder/val/CLASS/: inputs (n, 3, size, size) float32, streamed.

    Classes are numbered along their folders' names, sorted; what is hidden (`.NAME`) or no image by its suffix is
    skipped, and named in facts and origin. examples_per_class, test_examples_per_class, standardize, label_noise,
    imbalance, hold_out, by folders' names, subset_seed and root are as in `images.load`; size: see `ImageFiles`;
    num_workers: processes that decode, or 0.
    Files are known by their content, which is read once at every start. The statistics take one pass over the training
    subset, whose result is kept under the root by `ncexp prepare`.

    Raises ValueError where a folder is missing or empty, where train and val differ in their classes, where a class has
    too few images, and, at the batch that meets it, where a file is no readable image.
    """
    data = data_root(root) / folder
    found, tested_on = _train_and_val(data)
    left = Classes.without(found.classes, hold_out)
    classes, num_classes = left.names[: left.num_classes], left.num_classes
    labels, all_tested = left.numbers[found.labels], left.numbers[tested_on.labels]
    chosen = training_subset(labels, num_classes, examples_per_class, imbalance, subset_seed)
    tested = testing_subset(all_tested, num_classes, test_examples_per_class, subset_seed)
    held = left.held_out(all_tested, test_examples_per_class, subset_seed)
    train, test, held_files = (
        files.chosen(one, size) for files, one in ((found, chosen), (tested_on, tested), (tested_on, held))
    )
    true, test_labels = labels[chosen], all_tested[tested]
    noisy = mislabel(true, num_classes, label_noise, subset_seed)
    contents = [_content(data, files, num_workers) for files in (train, test, *([held_files] if hold_out else []))]
    standardization = _standardization(data_root(root), data.name, contents[0], train, standardize, num_workers)
    skipped = "; ".join(f"{name}: {one.skipped}" for name, one in (("train", found), ("val", tested_on)) if one.skipped)
    facts = {
        "num_constant_pixels": standardization.num_constant,
        "num_mislabelled": int((noisy != true).sum()),
        "classes": listed(classes),
        "content": digest("\n".join(contents).encode()),
        **left.facts,
        **({"skipped": skipped} if skipped else {}),
    }
    counts = [torch.bincount(one, minlength=num_classes).tolist() for one in (true, test_labels)]
    sizes = [f"{name} ({first} train, {second} test)" for name, first, second in zip(classes, *counts, strict=True)]
    origin = f"{data}, {len(classes)} classes: {listed(sizes, most=20)}" + (f"; skipped: {skipped}" if skipped else "")
    splits = [StreamedSplit(*one, standardization, num_workers) for one in ((train, noisy), (test, test_labels))]
    held_out = StreamedSplit(held_files, all_tested[held], standardization, num_workers) if hold_out else None
    return Dataset(splits[0], splits[1], num_classes, facts, origin, held_out)


@dataclass(frozen=True, eq=False)
class _Files:
    """classes: names, sorted; paths: of the images, class by class; labels (n,) int64; skipped: what is neither."""

    classes: list[str]
    paths: list[str]
    labels: Tensor
    skipped: str

    def chosen(self, indices: Tensor, size: int) -> ImageFiles:
        """Some of the images."""
        return ImageFiles([self.paths[index] for index in indices.tolist()], size)

    @staticmethod
    def under(path: Path) -> _Files:
        """The images in a folder for each class, in torchvision's order. What is hidden is left out: a notebook puts
        `.ipynb_checkpoints` with copies of images anywhere, a Mac `._NAME` beside NAME.
        """
        found: dict[str, list[str]] = {}
        hidden: list[str] = []
        others: Counter[str] = Counter()
        for place, folders, files in os.walk(path, followlinks=True):
            inside = Path(place).relative_to(path)
            hidden += [str(inside / one) for one in (*folders, *files) if one.startswith(".")]
            folders[:] = [one for one in folders if not one.startswith(".")]
            found = found if inside.parts else {name: [] for name in sorted(folders)}
            for file in (inside / one for one in files if not one.startswith(".")):
                if inside.parts and file.suffix.lower() in IMG_EXTENSIONS:
                    found[file.parts[0]].append(str(path / file))
                else:
                    others[file.suffix.lower()] += 1
        if not found or (empty := [name for name, images in found.items() if not images]):
            got = f"none in those of the classes {listed(empty, most=5)}" if found else "no folder"
            raise ValueError(
                f"{path}: expected a folder for each class with images in it ({' '.join(IMG_EXTENSIONS)}), got {got}. "
                "Put the images there, or set NCEXP_DATA (or dataset.root, dataset.folder) to where they are."
            )
        labels = torch.arange(len(found)).repeat_interleave(torch.tensor([*map(len, found.values())]))
        said = [f"{len(hidden)} hidden ({listed(sorted(hidden), most=5)})"] if hidden else []
        said += [f"{count} {suffix or 'without a suffix'}" for suffix, count in sorted(others.items())]
        paths = [file for images in found.values() for file in sorted(images, key=os.path.split)]
        return _Files([*found], paths, labels, ", ".join(said))


def _train_and_val(data: Path) -> tuple[_Files, _Files]:
    train, test = _Files.under(data / "train"), _Files.under(data / "val")
    if train.classes != test.classes:
        differing = sorted({*train.classes} ^ {*test.classes})
        raise ValueError(
            f"{data}: expected the same classes in train and val, got {len(train.classes)} and {len(test.classes)}; "
            f"only in one of them: {', '.join(differing[:3])}."
        )
    return train, test


def _standardization(
    root: Path, name: str, content: str, train: ImageFiles, standardize: Standardize, num_workers: int
) -> Standardization:
    """From one pass over the training images, kept under the root."""

    def build() -> dict[str, Any]:
        parts = list(torch.arange(len(train)).split(_BLOCK))
        blocks = counted(_load(train, parts, num_workers, torch.device("cpu")), "blocks of images")
        return dict(vars(fit(blocks, standardize, unit=255.0)))

    if standardize == "none":
        return fit([], "none", unit=255.0)
    options = {"standardize": standardize, "size": train.size}
    return Standardization(**load_or_build(root, name, content, options, build)[0])


def _content(folder: Path, files: ImageFiles, num_workers: int) -> str:
    """A digest of the files' names and bytes, in order: each is read once, without decoding it."""

    def line(path: str) -> str:
        return f"{Path(path).relative_to(folder)} {digest(Path(path).read_bytes())}"

    blocks = [files.paths[first : first + _READ] for first in range(0, len(files), _READ)]
    said = f"blocks of {_READ} files, read to know them by"
    with ThreadPoolExecutor(max(num_workers, 1)) as pool:  # reading and hashing leave Python's lock to the others
        return digest("\n".join(one for block in counted(blocks, said) for one in pool.map(line, block)).encode())


class UnreadableImage(UnusableFile):
    """A file that is no picture, or not one that a network can be shown; the message names it."""

    def __init__(self, message: str) -> None:
        # Of an exception in a worker's process torch makes another, whose message is the whole traceback.
        super().__init__(message.rpartition(f"{UnreadableImage.__name__}: ")[2].strip())


class ImageFiles(TorchDataset[Tensor]):
    """Files as (3, size, size) uint8: RGB, the shorter side scaled to 8/7 of `size`, then the centre cut out.

    At 224 pixels that is the usual evaluation of ImageNet (256, then the centre); there is no augmentation. How other
    kinds of pixels become RGB: `rgb`. Of several pictures in a file it is the first; a rotation noted in it is not
    done.
    Raises ValueError at a file that is no readable image.
    """

    def __init__(self, paths: list[str], size: int) -> None:
        self.paths, self.size = paths, size

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        path = Path(self.paths[index])
        try:
            with Image.open(path) as image:
                scaled = transforms.resize(rgb(image), [round(self.size * 8 / 7)])
        except (OSError, SyntaxError) as error:  # a damaged PNG is a SyntaxError to Pillow
            raise UnreadableImage(
                f"{path}: expected a readable image, got {error}. It is cut short, damaged or another file: replace it."
            ) from error
        except Image.DecompressionBombError as error:
            raise UnreadableImage(
                f"{path}: expected an image of at most {2 * (Image.MAX_IMAGE_PIXELS or 0)} pixels, got a larger one. "
                "Scale it down, or leave it out."
            ) from error
        return transforms.pil_to_tensor(transforms.center_crop(scaled, [self.size]))


def rgb(image: Image.Image) -> Image.Image:
    """Any picture as RGB of 8 bits.

    16 bits: the level v becomes 255 v / 65535, rounded: black and white are the range's ends, not the picture's.
    Transparency: laid on white. Everything else is Pillow's conversion, which keeps 8 bits as they are.
    Raises ValueError, naming the file, where pixels have no range (float32; 32 bits), where a colour is transparent in
    16 bits, and where a white picture would vanish on the white ground.
    """
    wide = image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM"))
    if (image.mode in ("I", "F") and not wide) or (wide and "transparency" in image.info):
        kind = "16 bits with a transparent colour" if wide else {"I": "int32", "F": "float32"}[image.mode]
        raise _refused(image, f"pixels of {kind}, which have no range from black to white. Save it in 8 or 16 bits")
    if wide:
        levels = np.asarray(image).astype(np.int64)
        return Image.fromarray(((levels * 255 + 32767) // 65535).astype(np.uint8)).convert("RGB")
    if not image.has_transparency_data:
        return image.convert("RGB")
    picture = image.convert("RGBA")
    laid = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
    low, high = cast(tuple[tuple[int, int], ...], picture.getextrema())[3]
    if low < high and laid.getextrema() == ((255, 255),) * 3:
        raise _refused(image, "a white one on a transparent ground. Lay it on another colour")
    return laid


def _refused(image: Image.Image, got: str) -> UnreadableImage:
    name = getattr(image, "filename", "") or "image"
    return UnreadableImage(f"{name}: expected a picture in 8 or 16 bits, seen on white, got {got}.")


@dataclass(frozen=True)
class StreamedSplit:
    """Examples read in `num_workers` processes; inputs (3, size, size) float32, labels (n,) int64 on one device."""

    files: ImageFiles
    labels: Tensor
    standardization: Standardization
    num_workers: int

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one input, without the batch."""
        return (3, self.files.size, self.files.size)

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device) -> StreamedSplit:
        """The same examples; labels, and the inputs of every batch, on another device."""
        return dataclasses.replace(self, labels=self.labels.to(device), standardization=self.standardization.to(device))

    def batches(self, batch_size: int, order: Tensor | None = None, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of (inputs, labels) along `order`, from batch number `start` on; see `Examples.batches`."""
        sequence = torch.arange(len(self)) if order is None else order.cpu()
        parts = list(sequence.split(batch_size))[start:]
        labels = (self.labels if order is None else self.labels[order]).split(batch_size)[start:]
        device = self.labels.device
        for images, batch_labels in zip(_load(self.files, parts, self.num_workers, device), labels, strict=True):
            yield self.standardization(images.to(device, non_blocking=True)), batch_labels


def _load(files: ImageFiles, parts: list[Tensor], num_workers: int, device: torch.device) -> Any:
    return DataLoader(
        files,
        batch_sampler=[part.tolist() for part in parts],
        num_workers=num_workers,
        pin_memory=device.type == "cuda",
        generator=torch.Generator(),  # the loader draws a seed; not from the generator whose state a checkpoint keeps
    )
