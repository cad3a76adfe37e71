"""NC4: does the network decide as the nearest class mean would?"""

from __future__ import annotations

import torch

from ncexp.collapse.linear_classifier import LinearClassifier

# Scores in one block (32 MiB of float64).
_BLOCK_SCORES = 2**22


@torch.no_grad()
def nearest_class_center_mismatch(
    features: torch.Tensor, classifier: LinearClassifier, class_means: torch.Tensor
) -> float:
    """NC4: share of examples with argmax_c(⟨w_c, h⟩ + b_c) ≠ argmin_c ‖h − μ_c‖ (PHD20), both in float64.

    argmin_c ‖h − μ_c‖ is argmax_c ⟨h − a, μ_c − a⟩ − ½‖μ_c − a‖² for any a; with a the average class mean nothing large
    cancels. Ties go to the lowest class. Blocked over examples: 4 n C P flops, memory O(C P) and a block.

    Args:
        features: h, (n, P), n >= 1, any floating dtype.
        classifier: the last layer, its bias part of the decision.
        class_means: μ_c of the TRAIN examples, (C, P), also where the features are test features.

    Raises:
        ValueError: another shape than that, no example, or a feature that is not finite.
    """
    _check(features, classifier, class_means)
    classifier = classifier.to(features.device)
    means = class_means.to(features.device, torch.float64)
    center = means.mean(0)
    means = means - center
    nearest = LinearClassifier(means, -means.square().sum(1) / 2)
    mismatches = torch.zeros((), dtype=torch.int64, device=features.device)
    for rows in features.split(max(1, _BLOCK_SCORES // classifier.num_classes)):
        block = rows.to(torch.float64)
        mismatches += (classifier(block).argmax(1) != nearest(block - center).argmax(1)).sum()
    return int(mismatches) / len(features)


def _check(features: torch.Tensor, classifier: LinearClassifier, class_means: torch.Tensor) -> None:
    if class_means.shape != classifier.weight.shape:
        raise ValueError(
            f"class_means: expected shape (C, P) = {tuple(classifier.weight.shape)} as the classifier's weight, got "
            f"{tuple(class_means.shape)}. Pass the train statistics' class_means."
        )
    if features.ndim != 2 or features.shape[1] != classifier.num_features or not len(features):
        raise ValueError(
            f"features: expected shape (n, {classifier.num_features}) with n >= 1, got {tuple(features.shape)}. "
            "Pass the inputs of the last layer."
        )
    if not bool(torch.stack(torch.aminmax(features)).isfinite().all()):
        raise ValueError(
            "features: expected finite values, got NaN or infinity. The training has diverged; look there."
        )
