"""NC4: does the network decide as the nearest class mean would?

Both decisions are those of float64. Most of them float32 can make: with a float32 vector a near the class means,
x = h − a and m_c = μ_c − a, the two scores of class c,

    ⟨w_c, h⟩ + b_c = ⟨w_c, x⟩ + (⟨w_c, a⟩ + b_c)   and   −½‖h − μ_c‖² + ½‖x‖² = ⟨m_c, x⟩ − ½‖m_c‖²,

are one product of x with the 2C rows r = w_c, m_c, plus constants k that are computed in float64. Other layers are more
rows of the same product. In float32, unit
round-off u = 2⁻²⁴, each score is within

    e = (P + 8) u (‖r‖ (‖x‖ + √P √τ) + |k|) + 2 P τ (1 + ‖r‖ + ‖x‖),      τ = 2⁻¹²⁶,

of its value, in whatever order the P products are summed (Higham 2002, section 3.1: (P + 1)u for the sum and k, u each
for the roundings of x, r and k, the rest for the square of u and for the norm; τ for products that underflow, √τ for
squares in ‖x‖ that do). So where the largest score is ahead by more than twice the largest e, it is the largest in
float64 as well. The other examples are decided there.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ncexp.collapse.checks import all_finite, check_features, check_layer, require_finite
from ncexp.collapse.linear_classifier import LinearClassifier

# Numbers in one block of rows of features, or of their scores (4 MiB of float32); rows that it has at least, as a
# product of few rows would read all weights for them.
_BLOCK_SCORES, _LEAST_ROWS = 2**20, 128
_UNIT_ROUND_OFF = 2.0**-24
_TINY, _HUGE = torch.finfo(torch.float32).tiny, torch.finfo(torch.float32).max


@torch.no_grad()
def nearest_class_center_mismatch(
    features: torch.Tensor, classifier: LinearClassifier, class_means: torch.Tensor
) -> float:
    """NC4: share of examples with argmax_c(⟨w_c, h⟩ + b_c) ≠ argmin_c ‖h − μ_c‖ (PHD20), both as in float64.

    Blocked over examples: 4 n C P flops, in float32 but for the examples that float32 cannot decide for certain. See
    `Decider`.

    Args:
        features: h, (n, P), n >= 1, any floating dtype.
        classifier: the last layer, its bias part of the decision.
        class_means: μ_c of the TRAIN examples, (C, P), also where the features are test features.

    Raises:
        ValueError: another shape than that, no example, or a feature that is not finite.
    """
    check_layer(class_means, classifier.weight)
    check_features(features, classifier.num_features)
    if not len(features):
        raise ValueError("features: expected at least one example, got none. Pass the inputs of the last layer.")
    network, nearest = Decider([classifier], class_means)(features).unbind(1)
    return int((network != nearest).sum()) / len(features)


class Decider:
    """What layers and the nearest class mean decide, each as in float64.

    argmin_c ‖h − μ_c‖ is argmax_c ⟨h − a, μ_c − a⟩ − ½‖μ_c − a‖² for any a; with a the average class mean nothing large
    cancels. Ties go to the lowest class. float32 decides where features are not float64, float32 products are not set
    to TF32 or bfloat16, and it is certain. Memory O(C P) and a block of examples.

    layers: of the features, (C, P) each; class_means: μ_c of the TRAIN examples, (C, P).
    """

    def __init__(self, layers: Sequence[LinearClassifier], class_means: torch.Tensor) -> None:
        self._layers, means = [*layers], class_means.to(torch.float64)
        # A float32 vector, so that h − a is rounded once.
        self._center = means.mean(0).clamp(-_HUGE, _HUGE).to(torch.float32).to(torch.float64)
        means = means - self._center
        self._nearest = LinearClassifier(means, -means.square().sum(1) / 2)
        self._certain: _CertainDecisions | None = None

    @torch.no_grad()
    def __call__(self, features: torch.Tensor) -> torch.Tensor:
        """(n, L + 1) int64: the decision of each layer, and of the nearest class mean. features (n, P), finite, of any
        floating dtype; ValueError for others.
        """
        require_finite("features", all_finite(features))
        self._move(features.device)
        fast = features.dtype != torch.float64 and torch.get_float32_matmul_precision() == "highest"
        if fast and self._certain is None:
            self._certain = _CertainDecisions(self._layers, self._nearest, self._center)
        most = _BLOCK_SCORES // max((len(self._layers) + 1) * self._nearest.num_classes, self._nearest.num_features)
        found = []
        for rows in features.split(max(_LEAST_ROWS, most)):
            if self._certain is None or not fast:
                found.append(self._exact(rows))
                continue
            decided, certain = self._certain(rows)
            decided[~certain] = self._exact(rows[~certain])
            found.append(decided)
        return torch.cat(found)

    def _exact(self, features: torch.Tensor) -> torch.Tensor:
        exact = features.to(torch.float64)
        scores = [layer(exact).argmax(1) for layer in self._layers]
        return torch.stack([*scores, self._nearest(exact - self._center).argmax(1)], 1)

    def _move(self, device: torch.device) -> None:
        if self._center.device != device:
            self._layers, self._nearest = [layer.to(device) for layer in self._layers], self._nearest.to(device)
            self._center, self._certain = self._center.to(device), None


class _CertainDecisions:
    """The decisions in float32 for a block of examples, and for which of them all are certain."""

    def __init__(self, layers: list[LinearClassifier], nearest: LinearClassifier, center: torch.Tensor) -> None:
        constants = torch.stack([*(layer(center) for layer in layers), nearest.bias])  # type: ignore[list-item]
        every, num_features = [*layers, nearest], nearest.num_features
        self._center, self._shape = center.to(torch.float32), constants.shape
        self._rows = torch.cat([layer.weight.to(torch.float32) for layer in every]).T
        self._constants = constants.flatten().to(torch.float32)
        norms = torch.stack([torch.linalg.vector_norm(layer.weight, dim=1).amax() for layer in every])
        # 2 e = slope ‖x‖ + offset, of each.
        relative, absolute = 2 * (num_features + 8) * _UNIT_ROUND_OFF, 4 * num_features * _TINY
        self._slope = (relative * norms + absolute).to(torch.float32)
        hidden = relative * norms * (num_features * _TINY) ** 0.5
        self._offset = (hidden + relative * constants.abs().amax(1) + absolute * (1 + norms)).to(torch.float32)

    def __call__(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """[the decisions, (n, L + 1)], [all are certain, (n,)]."""
        with torch.autocast(features.device.type, enabled=False):
            centered = features.to(torch.float32) - self._center
            scores = torch.addmm(self._constants, centered, self._rows).unflatten(1, self._shape)
        best = scores.max(2, keepdim=True)
        lead = (best.values - scores.scatter_(2, best.indices, -torch.inf).amax(2, keepdim=True))[..., 0]
        sizes = torch.linalg.vector_norm(centered, dim=1, keepdim=True)
        # Where float32 overflows, both sides are infinite or one is nan, and nothing is certain.
        certain = (lead > sizes * self._slope + self._offset) & lead.isfinite()
        return best.indices[..., 0], certain.all(1)
