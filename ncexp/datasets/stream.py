"""Examples that are read from image files as they are asked for, by processes beside the training."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset
from torchvision.transforms import functional as transforms

from ncexp.datasets.standardize import Standardization
from ncexp.record import counted
from ncexp.record.tensor_file import UnusableFile


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

    def __post_init__(self) -> None:
        if len(self.files) != len(self.labels) or len(self.labels) == 0:
            raise ValueError(
                f"StreamedSplit: expected as many labels as files, and some, got {len(self.files)} files and "
                f"{len(self.labels)} labels. Check the loader."
            )

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one input, without the batch."""
        return (3, self.files.size, self.files.size)

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device) -> StreamedSplit:
        """The same examples; labels, and the inputs of every batch, on another device."""
        standardization = self.standardization.to(device)
        return dataclasses.replace(self, labels=self.labels.to(device), standardization=standardization)

    def batches(self, batch_size: int, order: Tensor | None = None, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of (inputs, labels) along `order`, from batch number `start` on; see `Examples.batches`."""
        sequence = torch.arange(len(self)) if order is None else order.cpu()
        parts = list(sequence.split(batch_size))[start:]
        labels = (self.labels if order is None else self.labels[order]).split(batch_size)[start:]
        device = self.labels.device
        for images, batch_labels in zip(_load(self.files, parts, self.num_workers, device), labels, strict=True):
            yield self.standardization(images.to(device, non_blocking=True)), batch_labels


def image_blocks(files: ImageFiles, block_size: int, num_workers: int) -> Iterator[Tensor]:
    """All images (m, 3, size, size) uint8 in order, in blocks."""
    parts = list(torch.arange(len(files)).split(block_size))
    yield from counted(_load(files, parts, num_workers, torch.device("cpu")), "blocks of images")


def _load(files: ImageFiles, parts: list[Tensor], num_workers: int, device: torch.device) -> Any:
    return DataLoader(
        files,
        batch_sampler=[part.tolist() for part in parts],
        num_workers=num_workers,
        pin_memory=device.type == "cuda",
        generator=torch.Generator(),  # the loader draws a seed; not from the generator whose state a checkpoint keeps
    )
