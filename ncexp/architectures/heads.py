"""`architecture.head`: what becomes of the last layer of any network after it was made.

Whatever the head, `network.classifier` is an nn.Linear with W and b, and the network's features h are what it is given:
logits = W h + b. Of a normalised head W is computed from other parameters, its rows of length 1/T.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ncexp.collapse import simplex_etf
from ncexp.config.start import USUAL_TEMPERATURE, Head


def put_head(network: nn.Module, head: Head) -> None:
    """Change `network.classifier` in place. A network without an nn.Linear of that name is left to `last_layer`.

    no_bias: W h. etf_fixed: see `fix_at_simplex_etf`. normalized: W_c = v_c / (T ‖v_c‖), no bias. hyperspherical: the
    same, of h/‖h‖, which become the network's features: logits cos(v_c, h) / T. v begins as the linear layer's W.

    Raises ValueError where the last layer is something else already.
    """
    layer = getattr(network, "classifier", None)
    if head.kind == "linear" or not isinstance(layer, nn.Linear):
        return
    if not isinstance(layer.weight, nn.Parameter):
        raise ValueError(
            f"architecture.head: expected linear with a last layer that is not trained or is made of other parameters, "
            f"got {head.kind}. Leave one of them out, as architecture.classifier=simplex_etf."
        )
    if head.kind == "etf_fixed":
        fix_at_simplex_etf(layer)
        return
    layer.bias = None  # type: ignore[assignment]
    if head.kind == "no_bias":
        return
    parametrize.register_parametrization(layer, "weight", UnitRows(layer.weight, head))
    if head.kind == "hyperspherical":
        layer.register_forward_pre_hook(_unit_inputs)
        network.register_forward_hook(_unit_features)


def fix_at_simplex_etf(layer: nn.Linear) -> None:
    """Fix a last layer at the frame that neural collapse would lead it to (Zhu et al. 2021, section 4).

    W = √(C/(C−1)) (I − 11ᵀ/C) Qᵀ: unit rows, turned by a random Q (P, C−1) with orthonormal columns from torch's
    global generator; without the turn, features that a ReLU keeps non-negative could not reach the frame's negative
    coordinates. b = 1/C, which cross-entropy does not see and without which logits that sum to zero could not meet
    one-hot targets. Both are buffers: no gradient, no decay, no optimizer; saved and moved as any state.

    Raises ValueError where P < C − 1: no simplex of C corners fits.
    """
    num_classes, num_features = layer.weight.shape
    if num_features < num_classes - 1:
        raise ValueError(
            f"architecture: expected at least C − 1 = {num_classes - 1} features for simplex_etf, got {num_features}. "
            "Choose head=linear or a wider network."
        )
    corners = simplex_etf(num_classes, num_classes - 1)
    turn = torch.linalg.qr(torch.randn(num_features, num_classes - 1, dtype=torch.float64)).Q
    weight = (corners @ turn.T).to(layer.weight.dtype)
    del layer.weight, layer.bias
    layer.register_buffer("weight", weight)
    layer.register_buffer("bias", torch.full((num_classes,), 1 / num_classes, dtype=weight.dtype))


class UnitRows(nn.Module):
    """V (C, P) → W_c = v_c / (T ‖v_c‖): a parametrization of a layer's weight.

    T is `head.temperature`, or begins at the usual one and is learned, as log 1/T, which no step makes negative. Decay
    of V changes ‖V‖ alone, of which W is free; decay of log 1/T draws T to 1.
    """

    def __init__(self, weight: Tensor, head: Head) -> None:
        super().__init__()
        learned = head.temperature == "learned"
        scale = 1 / (USUAL_TEMPERATURE[head.kind] if learned else float(head.temperature or 1.0))
        self.log_scale = nn.Parameter(weight.new_tensor(math.log(scale))) if learned else None
        self._scale = scale

    def forward(self, weight: Tensor) -> Tensor:
        return unit(weight) * (self._scale if self.log_scale is None else self.log_scale.exp())

    def extra_repr(self) -> str:
        """1/T, for people and for whoever tells networks apart by their repr."""
        return f"scale={'learned' if self.log_scale is not None else self._scale}"


def unit(vectors: Tensor) -> Tensor:
    """v / ‖v‖ of each row (..., P). A row that is 0 has no direction: it stays 0, and its gradient is finite."""
    # Untrained networks have features of 1e-9 and less, whose squares would be lost.
    sizes = vectors.detach().abs().amax(-1, keepdim=True)
    scaled = vectors / torch.where(sizes > 0, sizes, 1.0)
    norms = torch.linalg.vector_norm(scaled, dim=-1, keepdim=True)
    return scaled / torch.where(norms > 0, norms, 1.0)


def unit_rows(layer: nn.Module) -> UnitRows | None:
    """What makes the weight of a normalised head; None of another layer."""
    made_by = getattr(layer, "parametrizations", {})
    found = made_by["weight"][0] if "weight" in made_by else None
    return found if isinstance(found, UnitRows) else None


def _unit_inputs(layer: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
    return (unit(given[0]), *given[1:])


def _unit_features(network: nn.Module, given: Any, output: Any) -> Any:
    # What is no (logits, features) is `last_layer`'s to refuse.
    return (output[0], unit(output[1])) if isinstance(output, tuple) and len(output) == 2 else output
