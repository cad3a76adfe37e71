"""The quantities of a full analysis in plain float32 torch: what they cost where no digit is defended."""

from __future__ import annotations

import torch
from torch import Tensor


def analyse_in_float32(features: Tensor, labels: Tensor, weight: Tensor, batch: int) -> dict[str, float]:
    """One pass over batches for raw second moments, then NC1 to NC4, L and L_LS at λ = 5e-4 and 0, and ω."""
    num_classes, num_features = weight.shape
    counts = torch.zeros(num_classes, device=features.device)
    sums, moment = torch.zeros_like(weight), torch.zeros(num_features, num_features, device=features.device)
    for rows, row_labels in zip(features.split(batch), labels.split(batch), strict=True):
        counts += torch.bincount(row_labels, minlength=num_classes)
        sums.index_add_(0, row_labels, rows)
        moment += rows.T @ rows
    means, shares = sums / counts[:, None], counts / counts.sum()
    centered = means - shares @ means
    within = moment / counts.sum() - (means.T * shares) @ means
    between = (centered.T * shares) @ centered
    units, rows_of_weight = (torch.nn.functional.normalize(x) for x in (centered, weight))
    mismatches = 0
    for rows in features.split(batch):
        mismatches += int(((rows @ weight.T).argmax(1) != torch.cdist(rows, means).argmin(1)).sum())
    numbers = {
        "within_trace": float(within.trace()),
        "nc1": float((within @ torch.linalg.pinv(between)).trace()) / num_classes,
        "nc2": float((units @ units.T).std()),
        "nc2_classifier": float((rows_of_weight @ rows_of_weight.T).std()),
        "nc3": float((weight / weight.norm() - centered / centered.norm()).square().sum()),
        "nc4": mismatches / len(features),
        "effective_rank": float(torch.linalg.eigvalsh(within).clamp(min=0).sqrt().sum()),
    }
    variances, directions = torch.linalg.eigh(within)
    roots = directions / variances.clamp(min=1e-12).sqrt()
    numbers["snr"] = float(torch.linalg.svdvals(centered @ roots)[0])
    identity = torch.eye(num_features, device=features.device)
    for ridge in (5e-4, 0.0):
        best = torch.linalg.solve(within + between + (ridge + 1e-9) * identity, (centered.T * shares)).T
        for name, layer in (("loss", weight), ("loss_ls", best)):
            misfit = centered @ layer.T - torch.eye(num_classes, device=features.device) + shares
            spread = ((layer @ within) * layer).sum() + ridge * layer.square().sum()
            numbers[f"{name}_{ridge}"] = float(spread + shares @ misfit.square().sum(1)) / 2
    return numbers
