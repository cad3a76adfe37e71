"""conf/loss: the training objectives.

A loss is a callable (logits (n, C), labels (n,)) → scalar, averaged over the examples. One that is a multiple of the
paper's MSE says so by `half_mse_scale`, the s in s · ½ Ave ‖logits − onehot‖²; the λ of the decomposition follows.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from ncexp.config import Fraction, NonNegative, Positive

#: s, as a number, or "2/C": the mean over the classes instead of half their sum, as torch.nn.MSELoss() has it.
Scale = Positive | Literal["2/C"]


class MSE:
    """s · ½ · Ave_i ‖logits_i − onehot(y_i)‖², the sum over classes not averaged (HPD22, section 1).

    scale: s. 1.0 is the paper's loss; "2/C" is torch.nn.MSELoss(), which takes the mean over the classes as well.
    """

    def __init__(self, num_classes: int, *, scale: Scale = 1.0) -> None:
        self.half_mse_scale = _resolve(scale, num_classes)

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        targets = functional.one_hot(labels, logits.shape[1]).to(logits.dtype)
        return self.half_mse_scale / 2 * (logits - targets).square().sum() / len(labels)


class RescaledMSE:
    """s · ½ · Ave_i [κ (logits_i[y_i] − M)² + Σ_{c ≠ y_i} logits_i[c]²]: the MSE for many classes (Hui & Belkin 2021).

    target: M, which the true class's logit is drawn to instead of 1; weight: κ, of that term. scale: s; "2/C" gives
    their loss, which averages over the classes. For κ = M = 1 it is the MSE; otherwise the decomposition, which is of
    one-hot targets, has no λ for it, and half_mse_scale is None.
    """

    def __init__(self, num_classes: int, *, target: Positive, weight: Positive, scale: Scale = "2/C") -> None:
        self.scale, self.target, self.weight = _resolve(scale, num_classes), target, weight
        self.half_mse_scale = self.scale if target == weight == 1 else None

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        true = logits.gather(1, labels.unsqueeze(1))
        # Σ_{c ≠ y} z_c² as Σ_c z_c² − z_y² would cancel: the true class, drawn to M, is by far the largest.
        others = logits.scatter(1, labels.unsqueeze(1), 0.0).square().sum()
        return self.scale / 2 * (self.weight * (true - self.target).square().sum() + others) / len(labels)


class CrossEntropy:
    """−Ave_i log softmax(logits_i)[y_i]."""

    half_mse_scale = None

    def __init__(self, num_classes: int) -> None:
        del num_classes  # every loss is told it; this one has no use for it

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        return functional.cross_entropy(logits, labels)


class LabelSmoothing:
    """Cross-entropy with the targets (1 − ε) onehot(y_i) + ε/C (Szegedy et al. 2016, section 7); smoothing: ε."""

    half_mse_scale = None

    def __init__(self, num_classes: int, *, smoothing: Fraction = 0.1) -> None:
        del num_classes
        self.smoothing = smoothing

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        return functional.cross_entropy(logits, labels, label_smoothing=self.smoothing)


class Focal:
    """−Ave_i (1 − p_i)^γ log p_i, p_i = softmax(logits_i)[y_i] (Lin et al. 2017); gamma: γ, 0 for cross-entropy."""

    half_mse_scale = None

    def __init__(self, num_classes: int, *, gamma: NonNegative = 2.0) -> None:
        del num_classes
        self.gamma = gamma

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        # log(1 − p) from the other classes' logits: 1 − p itself rounds to 0 at collapse, where its power has no slope.
        others = logits.scatter(1, labels.unsqueeze(1), -torch.inf).logsumexp(1)
        log_rest = others - logits.logsumexp(1)
        log_true = -functional.cross_entropy(logits, labels, reduction="none")
        return -((self.gamma * log_rest).exp() * log_true).mean()


def _resolve(scale: float | Literal["2/C"], num_classes: int) -> float:
    return 2 / num_classes if scale == "2/C" else float(scale)
