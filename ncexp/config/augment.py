"""dataset.augment: what the steps of a training make of its images; apart from the options of the data's own target."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any

from pydantic import Field

from ncexp.config.components import Component, ConfigError, Count, Positive, nearest, read_part
from ncexp.config.names import shown
from ncexp.config.start import divide

KEY = "augment"


@dataclass(frozen=True, kw_only=True)
class Crop:
    """The image in a border of `padding` black pixels, and of that a window of the image's size at a random place;
    padding: None: an eighth of the shorter side, 4 of 32.
    """

    padding: Count | None = None


@dataclass(frozen=True, kw_only=True)
class Flip:
    """Left and right exchanged, with this probability."""

    probability: Annotated[float, Field(gt=0, le=1)] = 0.5


@dataclass(frozen=True, kw_only=True)
class RandAugment:
    """`num_ops` of torchvision's fourteen operations, each drawn anew, at this one of 31 magnitudes."""

    num_ops: Count = 2
    magnitude: Annotated[int, Field(ge=0, le=30)] = 9


@dataclass(frozen=True, kw_only=True)
class Noise:
    """Normal noise of standard deviation sigma × white on each pixel; clip: the sum is held between black and white."""

    sigma: Positive = 0.1
    clip: bool = True


@dataclass(frozen=True, kw_only=True)
class Cutout:
    """A square of 0, the mean of training, around a random pixel; length: its side, even; None: half the image's."""

    length: Count | None = None


@dataclass(frozen=True, kw_only=True)
class Mixup:
    """λ x + (1 − λ) x', labels likewise; λ of each batch from Beta(alpha, alpha)."""

    alpha: Positive = 1.0


@dataclass(frozen=True, kw_only=True)
class CutMix:
    """A rectangle of another image, uncut 1 − λ of the area, λ from Beta(alpha, alpha); labels by area."""

    alpha: Positive = 1.0


Augmented = Crop | Flip | RandAugment | Noise | Cutout | Mixup | CutMix
#: Name → options, in the order in which they are applied.
KINDS: dict[str, type[Augmented]] = {
    "crop": Crop, "flip": Flip, "randaugment": RandAugment, "noise": Noise, "cutout": Cutout, "mixup": Mixup,
    "cutmix": CutMix,
}  # fmt: skip
#: Those that mix two examples and their labels.
MIXES = ("mixup", "cutmix")


@dataclass(frozen=True)
class Augment:
    """chosen: name → options, in the order of KINDS, whatever the order in which they were asked for."""

    chosen: dict[str, Augmented]

    @property
    def mixes(self) -> bool:
        """Whether labels become soft."""
        return any(name in self.chosen for name in MIXES)

    def written(self) -> dict[str, Any]:
        """Its part in the training key, and the key as config.yaml has it; empty without augmentation."""
        chosen = [{name: asdict(options)} for name, options in self.chosen.items()]
        return {KEY: chosen} if chosen else {}

    def __str__(self) -> str:
        """``crop (padding 4), flip (probability 0.5)``."""
        words = {
            name: ", ".join(f"{option} {value}" for option, value in asdict(options).items() if value is not None)
            for name, options in self.chosen.items()
        }
        return ", ".join(f"{name} ({said})" if said else name for name, said in words.items())


def apart(raw: Any) -> Component:
    """The choice of the data without what `augment_of` reads of it."""
    return Component.check("dataset", divide(raw, "dataset", (KEY,))[0])


def augment_of(raw: Any) -> Augment:
    """The `Augment` of a choice of data. Raises ConfigError for other than names, or mappings of a name to options."""
    asked = divide(raw, "dataset", (KEY,))[1].get(KEY) or []
    if not isinstance(asked, list):
        raise _refused(asked)
    chosen: dict[str, Augmented] = {}
    for one in asked:
        if not isinstance(one, str) and not (isinstance(one, Mapping) and len(one) == 1):
            raise _refused(one)
        name, options = (one, {}) if isinstance(one, str) else next(iter(one.items()))
        if name not in KINDS:
            raise ConfigError(f"dataset.augment: no such augmentation, {shown(name)}. {nearest(str(name), KINDS)}")
        if name in chosen:
            raise ConfigError(f"dataset.augment: expected each once, got {name} twice. Leave one out.")
        schema: Callable[..., Augmented] = KINDS[name]
        chosen[name] = read_part(f"dataset.augment.{name}", schema, options or {})
    return Augment({name: chosen[name] for name in KINDS if name in chosen})


def _refused(got: Any) -> ConfigError:
    return ConfigError(
        f"dataset.augment: expected a list of augmentations, as [crop,flip] or [{{crop:{{padding:2}}}},flip], got "
        f"{shown(got)}. Valid: {', '.join(KINDS)}."
    )
