"""The small image data sets of the paper and others like them: decoded once, subset, standardised, held as tensors."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from ncexp.config import ADDED, INCIDENTAL, Count, Fraction, Seed
from ncexp.datasets import Dataset, Split
from ncexp.datasets.cache import data_root, is_ours, load_or_build, locked
from ncexp.datasets.holding_out import Classes, HoldOut
from ncexp.datasets.official import OFFICIAL, OfficialSet, Source
from ncexp.datasets.preprocessing import (
    Imbalance,
    Raw,
    Standardization,
    Standardize,
    finish,
    fit,
    mislabel,
    testing_subset,
    training_subset,
)

TestExamples = Annotated[Count | None, ADDED]


def load(
    *,
    source: Source,
    examples_per_class: Count | None = None,
    test_examples_per_class: TestExamples = None,
    standardize: Standardize = "per_pixel",
    pad: Count | None = None,
    label_noise: Fraction = 0.0,
    imbalance: Imbalance = 1.0,
    hold_out: HoldOut = None,
    subset_seed: Seed = 0,
    root: Annotated[str | None, INCIDENTAL] = None,
) -> Dataset:
    """An official data set from its files: inputs (n, channels, height, width) float32; nothing is ever downloaded.

    examples_per_class: a balanced training subset of the official training set (the rule: `preprocessing.choose`);
    None: all of it, as unbalanced as it is.
    test_examples_per_class: a balanced subset of the official test set, by the same rule; None: all of it.
    standardize: per_pixel (HPD22) | per_channel, from the training subset | none: grey values 0..1.
    pad: width and height to which images are centred in black, after the statistics were taken.
    label_noise: share of training labels moved to another class. imbalance: largest training class over smallest.
    hold_out: classes to train without (`holding_out`).
    root: the folder of the files; None: the environment's NCEXP_DATA, else ./data. Nothing is written there unless it
    is the user's own: the decoded data are then kept in the user's cache.

    Raises ValueError where a file is missing, cut short or not the official one, where a class has too few examples,
    where images are larger than `pad`, and for a class held out that does not exist, or one class left.
    """
    folder, official = data_root(root), OFFICIAL[source]
    classes = Classes.without([*map(str, range(official.num_classes))], hold_out)
    rules: dict[str, Any] = {
        "examples_per_class": examples_per_class,
        "standardize": standardize,
        "label_noise": label_noise,
        "imbalance": imbalance,
        "subset_seed": subset_seed,
        **({"hold_out": hold_out} if hold_out else {}),
    }
    content = official.fingerprint(folder)
    decoded, kept = load_or_build(
        folder, source, content, rules, lambda: _decode(official, folder, content, rules, classes)
    )
    standardization = Standardization(decoded["mean"], decoded["scale"], decoded["num_constant"])
    images, labels = decoded["test_images"], classes.numbers[decoded["test_labels"]]
    tested = testing_subset(labels, classes.num_classes, test_examples_per_class, subset_seed)
    held = classes.held_out(labels, test_examples_per_class, subset_seed)
    train = Split(finish(decoded["train_images"], standardization, pad), decoded["train_labels"])
    raw = Raw.of(images[tested], standardization, pad, white=255.0)
    held_out = Split(finish(images[held], standardization, pad), labels[held]) if hold_out else None
    facts = {**decoded["facts"], **classes.facts}
    known = "the official files" if facts["official_files"] else "files of the official form, of unknown content"
    where = f"in {kept.parent}" if kept else "anew by each run: no folder to keep it in"
    test, origin = Split(raw.standardized(), labels[tested]), f"{known} from {folder}; decoded {where}"
    return Dataset(train, test, classes.num_classes, facts, origin, held_out, raw)


def prepare(*, source: Source, root: str | None = None, **_: Any) -> None:
    """Download what is missing and check every file, for `load` with the same options.

    Raises ValueError where a file is not the official one, and where the network does not give it.
    """
    folder, official = data_root(root), OFFICIAL[source]
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder, f"{source}.prepare"):  # of several that start at once, one downloads
        if not official.is_there(folder) and is_ours(folder):
            official.download(folder)
        official.read(folder)


def _decode(official: OfficialSet, root: Path, content: str, rules: dict[str, Any], classes: Classes) -> dict[str, Any]:
    """Everything that is kept: the chosen images as bytes, the labels to train on, the standardisation, the facts."""
    (images, labels), (test_images, test_labels), are_official = official.read(root)
    labels, num_classes, seed = classes.numbers[labels], classes.num_classes, rules["subset_seed"]
    chosen = training_subset(labels, num_classes, rules["examples_per_class"], rules["imbalance"], seed)
    images, labels = images[chosen], labels[chosen]
    standardization = fit([images], rules["standardize"], unit=255.0)
    noisy = mislabel(labels, num_classes, rules["label_noise"], seed)
    facts = {
        "num_constant_pixels": standardization.num_constant,
        "num_mislabelled": int((noisy != labels).sum()),
        "content": content,
        "official_files": are_official,
    }
    examples = {"train_images": images, "train_labels": noisy, "test_images": test_images, "test_labels": test_labels}
    return {**examples, **vars(standardization), "facts": facts}
