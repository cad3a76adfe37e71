"""NC4: does the network decide as the nearest class mean would?

Both decisions are those of float64. Most of them float32 can make: with a float32 vector a near the class means,
x = h − a and m_c = μ_c − a, the two scores of class c,

    ⟨w_c, h⟩ + b_c = ⟨w_c, x⟩ + (⟨w_c, a⟩ + b_c)   and   −½‖h − μ_c‖² + ½‖x‖² = ⟨m_c, x⟩ − ½‖m_c‖²,

are one product of x with the 2C rows r = w_c, m_c, plus constants k that are computed in float64. In float32, unit
round-off u = 2⁻²⁴, each score is within

    e = (P + 8) u (‖r‖ (‖x‖ + √P √τ) + |k|) + 2 P τ (1 + ‖r‖ + ‖x‖),      τ = 2⁻¹²⁶,

of its value, in whatever order the P products are summed (Higham 2002, section 3.1: (P + 1)u for the sum and k, u each
for the roundings of x, r and k, the rest for the square of u and for the norm; τ for products that underflow, √τ for
squares in ‖x‖ that do). So where the largest score is ahead by more than twice the largest e, it is the largest in
float64 as well. The other examples are decided there.
"""

from __future__ import annotations

import torch

from ncexp.collapse.checks import all_finite, check_features, check_layer, require_finite
from ncexp.collapse.linear_classifier import LinearClassifier

# Numbers in one block of rows of features, or of their scores (4 MiB of float32).
_BLOCK_SCORES = 2**20
_UNIT_ROUND_OFF = 2.0**-24
_TINY, _HUGE = torch.finfo(torch.float32).tiny, torch.finfo(torch.float32).max


@torch.no_grad()
def nearest_class_center_mismatch(
    features: torch.Tensor, classifier: LinearClassifier, class_means: torch.Tensor
) -> float:
    """NC4: share of examples with argmax_c(⟨w_c, h⟩ + b_c) ≠ argmin_c ‖h − μ_c‖ (PHD20), both as in float64.

    argmin_c ‖h − μ_c‖ is argmax_c ⟨h − a, μ_c − a⟩ − ½‖μ_c − a‖² for any a; with a the average class mean nothing large
    cancels. Ties go to the lowest class. Blocked over examples: 4 n C P flops, in float32 but for the examples that
    float32 cannot decide for certain, where features are not float64 and float32 products are not set to TF32 or
    bfloat16. Memory O(C P) and a block of examples.

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
    require_finite("features", all_finite(features))
    classifier, means = classifier.to(features.device), class_means.to(features.device, torch.float64)
    # A float32 vector, so that h − a is rounded once.
    center = means.mean(0).clamp(-_HUGE, _HUGE).to(torch.float32).to(torch.float64)
    nearest = LinearClassifier(means - center, -(means - center).square().sum(1) / 2)
    fast = features.dtype != torch.float64 and torch.get_float32_matmul_precision() == "highest"
    certain = _CertainDecisions(classifier, nearest, center) if fast else None
    mismatches = torch.zeros((), dtype=torch.int64, device=features.device)
    for rows in features.split(max(1, _BLOCK_SCORES // max(2 * classifier.num_classes, classifier.num_features))):
        undecided = rows
        if certain is not None:
            different, decided = certain(rows)
            mismatches += (different & decided).sum()
            undecided = rows[~decided]
        exact = undecided.to(torch.float64)
        mismatches += (classifier(exact).argmax(1) != nearest(exact - center).argmax(1)).sum()
    return int(mismatches) / len(features)


class _CertainDecisions:
    """Both decisions in float32 for a block of examples, and for which of them both are certain."""

    def __init__(self, classifier: LinearClassifier, nearest: LinearClassifier, center: torch.Tensor) -> None:
        constants = torch.stack([classifier(center), nearest.bias])  # type: ignore[list-item]
        rows = torch.stack([classifier.weight, nearest.weight])
        self._center, self._shape = center.to(torch.float32), constants.shape
        self._rows, self._constants = rows.flatten(0, 1).T.to(torch.float32), constants.flatten().to(torch.float32)
        norms, num_features = torch.linalg.vector_norm(rows, dim=2).amax(1), rows.shape[2]
        # 2 e = slope ‖x‖ + offset, of the classifier and of the means, (2,) each.
        relative, absolute = 2 * (num_features + 8) * _UNIT_ROUND_OFF, 4 * num_features * _TINY
        self._slope = (relative * norms + absolute).to(torch.float32)
        hidden = relative * norms * (num_features * _TINY) ** 0.5
        self._offset = (hidden + relative * constants.abs().amax(1) + absolute * (1 + norms)).to(torch.float32)

    def __call__(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """[the decisions differ], [both are certain], (n,) bool each."""
        with torch.autocast(features.device.type, enabled=False):
            centered = features.to(torch.float32) - self._center
            scores = torch.addmm(self._constants, centered, self._rows).unflatten(1, self._shape)
        best = scores.topk(2, dim=2)
        lead = best.values[..., 0] - best.values[..., 1]
        sizes = torch.linalg.vector_norm(centered, dim=1, keepdim=True)
        # Where float32 overflows, both sides are infinite or one is nan, and nothing is certain.
        certain = (lead > sizes * self._slope + self._offset) & lead.isfinite()
        return best.indices[:, 0, 0] != best.indices[:, 1, 0], certain.all(1)
