"""What augmentation adds to an epoch, for images of 28×28 bytes standardised pixel by pixel.

    python benchmarks/augmentation.py [--repeats 5] [--json FILE] [--short]

Epochs without and with it are interleaved. `seconds` are those of the clock; `processor` those that this process had of
the processors, which other processes' work changes less. Ratios are of medians, to the epoch without.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
from timing import interleaved_medians, parser, report
from workloads import NUM_CLASSES, assembled, train_epoch

from ncexp.datasets import Dataset, Split
from ncexp.datasets.preprocessing import Raw, fit

#: The network of the main job, and one whose steps are so short that the images are the largest part.
NETWORKS = ("resnet", "mlp")
AUGMENTATIONS = ("null", "[crop,flip]", "[cutout]", "[noise]", "[mixup]", "[cutmix]", "[randaugment]")


def images(count: int) -> Dataset:
    """Noise in bytes."""
    generator = torch.Generator().manual_seed(0)
    grey = torch.randint(0, 256, (count, 1, 28, 28), generator=generator, dtype=torch.uint8)
    raw = Raw.of(grey, fit([grey], "per_pixel", unit=255.0), None, white=255.0)
    split = Split(raw.standardized(), torch.arange(count) % NUM_CLASSES)
    return Dataset(split, split, NUM_CLASSES, raw=raw)


def measure(network: str, data: Dataset, repeats: int) -> list[dict[str, object]]:
    """A row for each augmentation."""
    of_processor: dict[str, list[float]] = {name: [] for name in AUGMENTATIONS}

    def counted(name: str, epoch: Callable[[], None]) -> None:
        began = time.process_time()
        epoch()
        of_processor[name].append(time.process_time() - began)

    contenders = {
        name: partial(counted, name, partial(train_epoch, assembled(data, *words)))
        for name in AUGMENTATIONS
        for words in [(f"architecture={network}", "loss=mse", f"dataset.augment={name}")]
    }
    seconds = interleaved_medians(contenders, repeats)
    processor = {name: statistics.median(values[-repeats:]) for name, values in of_processor.items()}
    return [
        {
            "network": network,
            "augment": name,
            "seconds": seconds[name],
            "ratio": seconds[name] / seconds["null"],
            "processor": processor[name],
            "processor ratio": processor[name] / processor["null"],
        }
        for name in AUGMENTATIONS
    ]


def main() -> None:
    arguments = parser(__doc__, repeats=5).parse_args()
    count = 128 if arguments.short else 1280
    data = images(count)
    rows = [row for network in NETWORKS for row in measure(network, data, arguments.repeats)]
    report(f"An epoch of {count} images in batches of 128", rows, arguments.json)


if __name__ == "__main__":
    main()
