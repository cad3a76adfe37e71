"""conf/loss: losses of the logits for unequal classes, and losses between cross-entropy, the MSE and a margin.

As those of `ncexp.training.losses`. One that depends on how many training examples the classes have is told by
`set_class_counts`, before the first step; a loop of one's own, whose data are not known, states numbers.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from ncexp.config import NonNegative
from ncexp.training.losses import Scale, resolve

#: balanced: v_c = n / (C n_c), of which the training examples have the mean 1; or v_c of every class.
Weights = Literal["balanced"] | Annotated[list[NonNegative], Field(min_length=1)]


def tell_class_counts(loss: Any, counts: Tensor) -> None:
    """Call loss.set_class_counts(counts), (C,) numbers of training examples, if it has such a method.

    Raises ValueError where it cannot do with them.
    """
    tell = getattr(loss, "set_class_counts", None)
    if tell is not None:
        tell(counts)


class _WeightedByClass:
    """Ave_i v(y_i) ℓ_i: the mean over the examples, not, as torch's weighted losses have it, divided by Ave v."""

    task = "classes"

    def __init__(self, num_classes: int, weights: Literal["balanced"] | list[float]) -> None:
        if isinstance(weights, list) and (len(weights) != num_classes or not any(weights)):
            got = f"{len(weights)}" if any(weights) else "zeros alone"
            raise ValueError(
                f"loss.weights: expected balanced, or a number for each of the {num_classes} classes, got {got}. State "
                "one for each, not all of them 0."
            )
        self.weights = None if weights == "balanced" else torch.tensor(weights, dtype=torch.float64)

    def set_class_counts(self, counts: Tensor) -> None:
        """v of balanced classes. Raises ValueError where a class has no example."""
        if self.weights is None:
            _refuse_absent("loss.weights: expected balanced", counts, "State a list")
            self.weights = counts.sum() / (len(counts) * counts.double())

    def mean(self, losses: Tensor, labels: Tensor) -> Tensor:
        """Ave_i v(y_i) ℓ_i of losses (n,)."""
        if self.weights is None:
            raise _unknown("loss.weights: expected a list", "balanced", "State the weights")
        self.weights = self.weights.to(labels.device)
        return (self.weights.to(losses.dtype)[labels] * losses).mean()


class WeightedCrossEntropy(_WeightedByClass):
    """−Ave_i v(y_i) log softmax(logits_i)[y_i]; weights: v, `Weights`."""

    half_mse_scale = None

    def __init__(self, num_classes: int, *, weights: Weights = "balanced") -> None:
        super().__init__(num_classes, weights)

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        return self.mean(functional.cross_entropy(logits, labels, reduction="none"), labels)


class WeightedMSE(_WeightedByClass):
    """s · ½ · Ave_i v(y_i) ‖logits_i − onehot(y_i)‖²; weights: v, `Weights`; scale: s, as of the MSE.

    Where all v are one number it is a multiple of the MSE; otherwise the decomposition, which counts every example
    alike, has no λ for it.
    """

    no_ridge = "the loss weighs the classes unequally, where the decomposition counts every example alike"

    def __init__(self, num_classes: int, *, weights: Weights = "balanced", scale: Scale = 1.0) -> None:
        super().__init__(num_classes, weights)
        self.scale = resolve(scale, num_classes)

    @property
    def half_mse_scale(self) -> float | None:
        """s · v, where v is one number."""
        alike = self.weights is not None and bool((self.weights == self.weights[0]).all())
        return self.scale * float(self.weights[0]) if alike and self.weights is not None else None

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        targets = functional.one_hot(labels, logits.shape[1]).to(logits.dtype)
        return self.mean(self.scale / 2 * (logits - targets).square().sum(1), labels)


class LogitAdjustment:
    """Cross-entropy of logits_i + τ log π, π_c the share of class c among the training examples (Menon et al. 2021).

    tau: τ, 0 for cross-entropy. The logits themselves, by which the network decides, are not adjusted.
    """

    half_mse_scale = None
    task = "classes"

    def __init__(self, num_classes: int, *, tau: NonNegative = 1.0) -> None:
        del num_classes
        self.tau, self._log_shares = tau, torch.zeros(0)

    def set_class_counts(self, counts: Tensor) -> None:
        """π. Raises ValueError where a class has no example."""
        _refuse_absent("loss: expected logit_adjustment", counts, "Choose another loss")
        self._log_shares = (counts.double() / counts.sum()).log()

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        if not len(self._log_shares):
            raise _unknown("loss: expected a loss that needs no numbers", "logit_adjustment", "Add τ log π yourself")
        self._log_shares = self._log_shares.to(logits.device)
        return functional.cross_entropy(logits + self.tau * self._log_shares.to(logits.dtype), labels)


class Squentropy:
    """Cross-entropy + Ave_i 1/(C−1) Σ_{c ≠ y_i} logits_i[c]² (Hui, Belkin and Wright 2023)."""

    half_mse_scale = None
    task = "classes"

    def __init__(self, num_classes: int) -> None:
        del num_classes

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        # As of RescaledMSE: the true class's logit is by far the largest, and Σ_c z_c² − z_y² would cancel.
        others = logits.scatter(1, labels.unsqueeze(1), 0.0).square().sum(1) / (logits.shape[1] - 1)
        return functional.cross_entropy(logits, labels) + others.mean()


class Hinge:
    """Ave_i max(0, 1 + max_{c ≠ y_i} logits_i[c] − logits_i[y_i]): Crammer and Singer's (2001).

    Not the sum over the classes, which is Weston and Watkins' (torch.nn.MultiMarginLoss, divided by C).
    """

    half_mse_scale = None
    task = "classes"

    def __init__(self, num_classes: int) -> None:
        del num_classes

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        true = logits.gather(1, labels.unsqueeze(1)).squeeze(1)
        rival = logits.scatter(1, labels.unsqueeze(1), -torch.inf).amax(1)
        return (1 + rival - true).relu().mean()


def _refuse_absent(expected: str, counts: Tensor, instead: str) -> None:
    if absent := (counts == 0).nonzero().flatten().tolist():
        raise ValueError(
            f"{expected} with training examples of every class, got none of class {absent[0]} ({len(absent)} of "
            f"{len(counts)} classes have none). {instead}."
        )


def _unknown(expected: str, got: str, instead: str) -> ValueError:
    return ValueError(
        f"{expected} where it is not known how many training examples the classes have, as of a loop of one's own, "
        f"got {got}. {instead}."
    )
