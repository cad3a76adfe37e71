"""conf/loss: the training objectives.

A loss is a callable (logits (n, C), labels (n,)) → scalar, averaged over the examples. One that is a multiple of the
paper's MSE says so by `half_mse_scale`, the s in s · ½ Ave ‖logits − onehot‖²; the λ of the decomposition follows.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor
from torch.nn import functional

from ncexp.config import Positive


class MSE:
    """s · ½ · Ave_i ‖logits_i − onehot(y_i)‖², the sum over classes not averaged (HPD22, section 1).

    scale: s. 1.0 is the paper's loss; "2/C" is torch.nn.MSELoss(), which takes the mean over the classes as well.
    """

    def __init__(self, num_classes: int, *, scale: Positive | Literal["2/C"] = 1.0) -> None:
        self.half_mse_scale = 2 / num_classes if scale == "2/C" else float(scale)

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        targets = functional.one_hot(labels, logits.shape[1]).to(logits.dtype)
        return self.half_mse_scale / 2 * (logits - targets).square().sum() / len(labels)


class CrossEntropy:
    """−Ave_i log softmax(logits_i)[y_i]."""

    half_mse_scale = None

    def __init__(self, num_classes: int) -> None:
        del num_classes  # every loss is told it; this one has no use for it

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        return functional.cross_entropy(logits, labels)
