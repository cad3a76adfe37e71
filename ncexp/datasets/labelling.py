"""What labels stand for: one class of each example, or of each token; and which classes are measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

#: What torch.nn.functional.cross_entropy leaves out unless told otherwise, and Transformers with it.
IGNORED = -100
#: In messages.
OF_TOKENS = (
    "Of tokens, labels (n, tokens): say who shifts them, shift_labels=True where the model's loss does (causal models "
    "of Transformers, labels = input_ids), shift_labels=False where labels[:, i] is the class of logits[:, i]."
)


@dataclass(frozen=True, kw_only=True)
class Labelling:
    """classes: ``all`` V outputs are measured, or the ``occurring`` ones, with at least `min_examples` labels in every
    split. ignore_index: of a token without a class; such positions count nowhere. shift_labels: whether labels
    (n, tokens) belong to the logits one position before them, as in the loss of a causal language model; None where
    labels are of whole examples.

    Raises ValueError for other values.
    """

    classes: Literal["all", "occurring"] = "all"
    min_examples: int = 1
    ignore_index: int = IGNORED
    shift_labels: bool | None = None

    def __post_init__(self) -> None:
        if self.classes not in ("all", "occurring"):
            raise ValueError(f"classes: expected all or occurring, got {self.classes!r}.")
        if isinstance(self.min_examples, bool) or not isinstance(self.min_examples, int) or self.min_examples < 1:
            raise ValueError(f"min_examples: expected a whole number, at least 1, got {self.min_examples!r}.")
        if self.min_examples > 1 and self.classes == "all":
            raise ValueError(
                f"min_examples: expected 1 where all classes are measured, got {self.min_examples}. Choose "
                "classes=occurring."
            )
        if self.shift_labels not in (None, True, False):
            raise ValueError(f"shift_labels: expected true, false or nothing, got {self.shift_labels!r}.")

    def aligned(self, name: str, labels: Tensor) -> Tensor:
        """Labels as they belong to the logits: (n,) as they are; (n, tokens) moved one position to the left where the
        loss does so, ignore_index in the last.

        name: of the data, for messages. Raises ValueError where the labels have more axes or fewer than was said.
        """
        if labels.dim() == 1 and self.shift_labels is None:
            return labels
        if labels.dim() == 2 and self.shift_labels is None:
            raise ValueError(
                f"{name}: expected labels (n,), the class of each example, or a word on who shifts those of tokens, "
                f"got labels {tuple(labels.shape)} without it. {OF_TOKENS}"
            )
        if labels.dim() != 2:
            raise ValueError(
                f"{name}: expected labels (n, tokens), as shift_labels={self.shift_labels} says, got "
                f"{tuple(labels.shape)}. Leave shift_labels out where labels are of whole examples."
            )
        if not self.shift_labels:
            return labels
        return torch.cat([labels[:, 1:], torch.full_like(labels[:, :1], self.ignore_index)], dim=1)

    def kept(self, aligned: Tensor) -> Tensor:
        """Those labels that are classes, (m,)."""
        return aligned[aligned != self.ignore_index] if aligned.dim() > 1 else aligned

    def measured(self, counts: Sequence[Tensor]) -> Tensor | None:
        """The classes that are measured, ascending, (K,); None for all. counts: (V,) of each split.

        Raises ValueError where fewer than two are.
        """
        if self.classes == "all":
            return None
        enough = torch.stack([one >= self.min_examples for one in counts]).all(0).nonzero().flatten()
        if len(enough) < 2:
            raise ValueError(
                f"classes: expected two at least with {self.min_examples} examples in every split, got {len(enough)} "
                f"of {len(counts[0])}. Pass more examples, or choose a smaller min_examples."
            )
        return enough

    def facts(self, measured: int, outputs: int) -> dict[str, int | str]:
        """What facts.json says where not all of the outputs are measured; `classes` is for people."""
        least = "an example" if self.min_examples == 1 else f"{self.min_examples} examples"
        said = f"{measured:,} of {outputs:,} outputs, those with at least {least} in every split"
        said += "; loss and error are of all"
        return {"num_outputs": outputs, "min_examples": self.min_examples, "classes": said}


#: Labels (n,) of whole examples, every class measured.
OF_EXAMPLES = Labelling()


def class_counts(name: str, labels: Tensor, num_classes: int) -> Tensor:
    """How many labels each class has, (V,). Raises ValueError for a label that is none of 0..V−1."""
    if len(labels) and not bool((labels.min() >= 0) & (labels.max() < num_classes)):
        raise ValueError(
            f"{name}: expected labels 0 to {num_classes - 1}, got {int(labels.min())} to {int(labels.max())}. Number "
            "them as the outputs of the last layer are; of tokens without a class say ignore_index."
        )
    return torch.bincount(labels, minlength=num_classes)


def kept_positions(
    logits: Tensor, features: Tensor, labels: Tensor, kept: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """(m, V), (m, P) and (m,) of the m positions that are `kept`, (n, tokens) bool; None: (n, ...) as they are.

    logits (n, tokens, V), features (n, tokens, P), labels (n, tokens), aligned. Raises ValueError for other shapes.
    """
    shapes = tuple(logits.shape[:-1]), tuple(features.shape[:-1]), tuple(labels.shape)
    if len({*shapes}) > 1:
        raise ValueError(
            f"labels: expected one for each row of the logits {tuple(logits.shape)} and features "
            f"{tuple(features.shape)}, got {tuple(labels.shape)}. A model of whole examples takes labels (n,), one of "
            "tokens labels (n, tokens) and shift_labels."
        )
    if kept is None:
        return logits, features, labels
    if bool(kept.all()):
        return logits.flatten(0, 1), features.flatten(0, 1), labels.flatten()
    return logits[kept], features[kept], labels[kept]
