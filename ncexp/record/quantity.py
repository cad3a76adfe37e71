"""One row of the catalogue of numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

TRAIN, TEST, BOTH, FIT = ("train",), ("test",), ("train", "test"), ("fit",)
#: Training images, changed as the steps change them (`dataset.augment`).
AUGMENTED = "train_augmented"
Place = Literal["summary", "report", "view"]
PLACES: tuple[Place, ...] = get_args(Place)


@dataclass(frozen=True)
class Quantity:
    """One number, on every split that it exists on.

    name: family/quantity, or the quantity alone; ``<j>`` stands for the number of a mode, ``<module>`` for a submodule,
    ``<set>`` for examples outside;
    label: what axes and tables call it, ``name[, of what]: symbol``; meaning: in one line; source: who defined it;
    scale: of its axis, with percent for shares; at_collapse: its value there (– : none of its own); splits: where it
    exists. Places, each with the splits whose number it has: summary: the table after a run; report: the results of a
    sweep; view: the first charts in MLflow. panel: the figure panel that draws it; rows with one panel are its curves.
    of_layers: any layer's features have it.
    """

    name: str
    label: str
    meaning: str
    source: str
    scale: Literal["log", "linear", "percent", "log percent"]
    at_collapse: str
    splits: tuple[str, ...]
    summary: tuple[str, ...] = ()
    report: tuple[str, ...] = ()
    view: tuple[str, ...] = ()
    panel: str = ""
    of_layers: bool = False

    def on(self, split: str = "train") -> str:
        """Its full name on a split."""
        return f"{split}/{self.name}"

    @property
    def quantity(self) -> str:
        """The name without its family."""
        return self.name.rpartition("/")[2]

    @property
    def is_log(self) -> bool:
        """Whether its axis is logarithmic."""
        return self.scale.startswith("log")

    @property
    def is_share(self) -> bool:
        """Whether people read it in percent; on record it is a fraction."""
        return self.scale.endswith("percent")

    def label_of(self, full_name: str) -> str:
        """The label of this number, with the module and the set that its name has in the places of the row's."""
        return ", ".join([*(full_name.split("/")[2:-1] if "/<" in self.name else []), self.label])

    @property
    def short(self) -> str:
        """The label without its symbol."""
        return self.label.partition(": ")[0]

    @property
    def symbol(self) -> str:
        """The label's symbol or formula; the whole label where it has none."""
        return self.label.partition(": ")[2] or self.label

    @property
    def curve(self) -> str:
        """What a legend calls it beside the other curves of its panel: of what it is, or its short label."""
        return self.short.partition(", ")[2] or self.short
