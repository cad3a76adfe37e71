"""dataset.augment: in which keys it is, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support import Compose

from ncexp.config import ConfigError, check
from ncexp.config.augment import augment_of
from ncexp.datasets import Dataset, Split
from ncexp.datasets.augmentation import Augmentation
from ncexp.record.saved_run import _choices
from ncexp.training import assemble

DIGITS = [
    "dataset=digits",
    "dataset.examples_per_class=6",
    "architecture=mlp",
    "optimizer=adam",
    "device=cpu",
    "batch_size=30",
]


def test_key_is_as_before_without_and_follows_what_is_asked_for(composed: Compose) -> None:
    def key(*overrides: str) -> str:
        return check(composed(*overrides, base=DIGITS)).key

    bare = composed(base=DIGITS)
    del bare["dataset"]["augment"]
    assert key() == check(bare).key == key("dataset.augment=[]")
    assert "augment" not in check(composed(base=DIGITS)).raw["dataset"]
    both = key("dataset.augment=[flip,crop]")
    assert both == key("dataset.augment=[{crop:{padding:null}},flip]")
    assert len({key(), both, key("dataset.augment=[{crop:{padding:3}},flip]"), key("dataset.augment=[crop]")}) == 4
    written = check(composed("dataset.augment=[flip,crop]", base=DIGITS)).raw
    assert written["dataset"]["augment"] == [{"crop": {"padding": None}}, {"flip": {"probability": 0.5}}]
    assert check(written).key == both


def own(augment: bool = True) -> Any:
    """A function of somebody's with an option of this name."""
    inputs, labels = torch.rand(8, 1, 4, 4), torch.arange(8) % 2
    return (inputs + float(augment), labels), (inputs, labels)


def test_option_of_ones_own_function_stays_its_own(composed: Compose) -> None:
    factory = ["dataset=module", f"dataset.factory={__name__}.own", *DIGITS[2:]]
    config = check(composed("dataset.augment=false", base=factory))
    assert config.dataset.options["augment"] is False
    assert not config.augment.chosen


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (
            "crop",
            r"expected a list of augmentations, as \[crop,flip\] .* got 'crop'. Valid: crop, flip",
        ),
        ("[3]", "dataset.augment: expected a list"),
        ("[corp]", "dataset.augment: no such augmentation, 'corp'. Valid: .* Did you mean crop?"),
        ("[crop,crop]", "dataset.augment: expected each once, got crop twice"),
        ("[{crop:{pad:2}}]", "dataset.augment.crop.pad: no such key. Valid: padding"),
        ("[{crop:{padding:0}}]", "dataset.augment.crop.padding: expected"),
        ("[{flip:{probability:1.5}}]", "dataset.augment.flip.probability: expected"),
        ("[{randaugment:{magnitude:31}}]", "dataset.augment.randaugment.magnitude: expected"),
        ("[{mixup:{alpha:0.0}}]", "dataset.augment.mixup.alpha: expected"),
        ("[{crop:{padding:8}}]", r"crop.padding: expected less than 8, the shorter side of images \(1, 8, 8\), got 8"),
        ("[{cutout:{length:10}}]", "cutout.length: expected an even number, at most 8"),
        ("[{cutout:{length:3}}]", "cutout.length: expected an even number"),
    ],
)
def test_augmentations_that_cannot_be_are_refused(composed: Compose, asked: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        assemble(check(composed(f"dataset.augment={asked}", base=DIGITS)))


@pytest.mark.parametrize("loss", ["rescaled_mse", "focal", "torch.nn.CrossEntropyLoss"])
@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_losses_of_whole_labels_are_refused_with_mixtures(composed: Compose, loss: str, kind: str) -> None:
    chosen = [f"loss={loss}"] if "." not in loss else [f"loss._target_={__name__}.theirs", "~loss.scale"]
    raw = composed(*chosen, f"dataset.augment=[{kind}]", base=DIGITS)
    with pytest.raises(ConfigError, match=r"expected a loss that takes soft labels \(n, C\) for mixup and cutmix, got"):
        assemble(check(raw))


def theirs(num_classes: int) -> torch.nn.Module:
    del num_classes
    return torch.nn.CrossEntropyLoss()


def test_mixtures_are_refused_on_the_central_path(composed: Compose) -> None:
    raw = composed("regime=on_path", "dataset.augment=[mixup]", "loss=mse", base=DIGITS)
    with pytest.raises(ConfigError, match="expected no mixup or cutmix with regime=on_path"):
        assemble(check(raw))


@pytest.mark.parametrize(
    ("overrides", "got"),
    [
        (["dataset=gaussian_mixture"], r"got inputs \(32,\)"),
        (["dataset=unconstrained"], r"got inputs \(200,\)"),
        (["dataset=diabetes", "loss=squared_error"], "got targets of a regression"),
    ],
)
def test_data_without_images_are_refused(composed: Compose, overrides: list[str], got: str) -> None:
    raw = composed(*overrides, "dataset.augment=[flip]", base=["architecture=mlp", "optimizer=adam", "device=cpu"])
    with pytest.raises(ConfigError, match=rf"dataset.augment: expected labelled images .* {got}"):
        assemble(check(raw))


@pytest.mark.parametrize(("asked", "message"), [("randaugment", "whose white is known"), ("noise", "noise.clip")])
def test_unknown_white_is_refused(asked: str, message: str) -> None:
    (inputs, labels), _ = own()
    with pytest.raises(ValueError, match=message):
        Augmentation.of(
            augment_of({"_target_": "ncexp.datasets.digits.load", "augment": [asked]}),
            Dataset(Split(inputs, labels), Split(inputs, labels), 2),
            0,
        )


def test_tables_name_augmentations_with_the_options_that_were_stated(composed: Compose) -> None:
    raw = check(composed("dataset.augment=[crop,{flip:{probability:0.25}},{cutout:{length:4}}]", base=DIGITS)).raw
    assert _choices(raw)["dataset.augment"] == "crop+flip(0.25)+cutout(4)"
