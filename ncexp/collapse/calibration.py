"""Calibration: negative log-likelihood, expected calibration error and Brier score, from logits in one pass.

The confidence of an example is its largest softmax probability; its prediction is the class that has it, on a tie the
lowest. The expected calibration error (Naeini, Cooper & Hauskrecht 2015; Guo, Pleiss, Sun & Weinberger 2017, eq. 3) is

    ECE = Σ_b (n_b/n) |Ave_b correct − Ave_b confidence|    over the bins b that hold examples.

**Bins.** Guo et al.: M of equal width, bin b = ((b − 1)/M, b/M], M = 15 in their tables. A confidence on an edge
belongs to the bin below it, confidence 1 to the last bin. The option `adaptive` has bins of equal size instead: edge b
is the ⌈bn/M⌉-th smallest confidence, and bins are closed above as well, so that equal confidences are never parted; a
bin may then be empty.

Codes differ in what they call by these names (each was run):

| where | what | ours |
|---|---|---|
| netcal 1.4, `ECE(15)` | the bins of Guo et al. | the same |
| netcal 1.4, `equal_intervals=False` | edges interpolated between confidences | up to one example a bin |
| torchmetrics 1.9, `CalibrationError` | [(b − 1)/M, b/M), and confidence 1 in a bin of its own | differs there |
| torchmetrics 1.9, given logits | all between 0 and 1: taken for probabilities; else softmax | logits always |
| pytorch-ood 0.4, `calibration_error` | root mean square over bins of 100 by rank | `adaptive` for its p = "1" |
| scikit-learn 1.9, `brier_score_loss` | half of the sum over the classes where there are two | the sum, from 0 to 2 |
| scikit-learn 1.9, `log_loss` | probabilities clipped at 2e-16: at most 36 an example | of logits, unbounded |
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ncexp.collapse.checks import all_finite, check_labels, require_finite

#: M of Guo et al. 2017, table 1.
NUM_BINS = 15


@dataclass(frozen=True, eq=False, kw_only=True)
class CalibrationBins:
    """The diagram behind an ECE; M bins."""

    counts: Tensor
    """n_b, (M,) int64."""
    accuracies: Tensor
    """Ave_b correct, (M,); nan where a bin is empty."""
    confidences: Tensor
    """Ave_b confidence, (M,); nan where a bin is empty."""
    edges: Tensor
    """Upper edge of each bin, (M,), itself in the bin."""

    @property
    def expected_error(self) -> float:
        """ECE, from 0 to 1; nan without examples."""
        gaps = (self.accuracies - self.confidences).abs() * self.counts
        total = int(self.counts.sum())
        return float(gaps.nansum()) / total if total else math.nan


@dataclass(frozen=True, kw_only=True)
class CalibrationMetrics:
    """Averages over examples, in float64."""

    negative_log_likelihood: float
    """Ave −log p_y, in nats: cross-entropy, also of a network that was trained on another loss."""
    expected_calibration_error: float
    """ECE; 0 for a calibrated network."""
    brier_score: float
    """Ave Σ_c (p_c − 1{c = y})² (Brier 1950), from 0 to 2."""
    accuracy: float
    """Share of examples whose prediction is the label."""
    confidence: float
    """Ave of the largest probability; above `accuracy` where the network is overconfident."""
    bins: CalibrationBins


def calibration_bins(
    confidences: Tensor, correct: Tensor, num_bins: int = NUM_BINS, adaptive: bool = False
) -> CalibrationBins:
    """Sorts confidences into bins; see the module's docstring for their definition.

    Args:
        confidences: (n,), any floating dtype, from 0 to 1.
        correct: (n,), bool or 0 and 1.
        num_bins: M >= 1.
        adaptive: bins of equal size instead of equal width.

    Raises:
        ValueError: other shapes, a confidence outside [0, 1] or NaN, M < 1.

    >>> bins = calibration_bins(torch.tensor([0.5, 1.0]), torch.tensor([True, False]), num_bins=2)
    >>> bins.counts.tolist(), bins.expected_error
    ([1, 1], 0.75)
    """
    _check_bins(num_bins)
    if confidences.ndim != 1 or confidences.shape != correct.shape or not confidences.is_floating_point():
        raise ValueError(
            f"confidences: expected a floating tensor (n,) beside correct (n,), got {tuple(confidences.shape)} of "
            f"{confidences.dtype} and {tuple(correct.shape)}. Pass the largest probability of each example."
        )
    if not bool(((confidences >= 0) & (confidences <= 1)).all()):
        raise ValueError("confidences: expected values from 0 to 1, got others or NaN. Pass probabilities, not logits.")
    confidences, correct = confidences.to(torch.float64), correct.to(torch.float64)
    edges = _equal_width(num_bins, confidences.device)
    if adaptive and len(confidences):
        places = torch.tensor([-(-len(confidences) * b // num_bins) - 1 for b in range(1, num_bins + 1)])
        edges = confidences.sort().values[places.clamp(min=0).to(confidences.device)]
    return _bins(_sums(confidences, correct, edges), edges)


class CalibrationAccumulator:
    """Calibration over batches: update, merge, then compute; the split and the order do not matter beyond rounding.

    Memory O(M); with `adaptive` O(n), as the edges are known at the end only.

    Args:
        num_bins: M >= 1.
        adaptive: bins of equal size instead of equal width.
        device: where the sums live; None is torch's default device.

    Raises:
        ValueError: M < 1.

    >>> accumulator = CalibrationAccumulator()
    >>> accumulator.update(torch.tensor([[2.0, 2.0], [9.0, -9.0]]), torch.tensor([1, 0]))
    >>> metrics = accumulator.compute()
    >>> metrics.accuracy, round(metrics.expected_calibration_error, 6)
    (0.5, 0.25)
    """

    @torch.inference_mode(False)
    def __init__(
        self, num_bins: int = NUM_BINS, adaptive: bool = False, device: torch.device | str | None = None
    ) -> None:
        _check_bins(num_bins)
        self.num_bins, self.adaptive = num_bins, adaptive
        # Rows of n_b, Σ correct, Σ confidence by bin; then n, Σ −log p_y, Σ of squares.
        self._bins = torch.zeros(3, num_bins, dtype=torch.float64, device=device)
        self._totals = torch.zeros(3, dtype=torch.float64, device=device)
        self._kept: list[tuple[Tensor, Tensor]] = []

    @torch.no_grad()
    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Takes in a batch; an empty batch is a batch.

        Args:
            logits: (n, C), C >= 2, any floating dtype: what the softmax is taken of.
            labels: (n,), any integer dtype, 0 to C − 1.

        Raises:
            ValueError: another shape or dtype than that, a logit that is not finite, a label out of range.
        """
        if logits.ndim != 2 or logits.shape[1] < 2 or not logits.is_floating_point():
            raise ValueError(
                f"logits: expected a floating tensor (n, C) with C >= 2, got {tuple(logits.shape)} of {logits.dtype}. "
                "Pass the outputs of the last layer."
            )
        check_labels(labels, logits)
        if not len(logits):
            return
        require_finite("logits", all_finite(logits))
        device = self._totals.device
        logs = torch.log_softmax(logits.detach().to(device, torch.float64), dim=1)
        labels = labels.to(device, torch.int64)
        if not bool(((labels >= 0) & (labels < logits.shape[1])).all()):
            raise ValueError(
                f"labels: expected class numbers 0 to {logits.shape[1] - 1}, got others. Check the labels."
            )
        own, probabilities = logs.gather(1, labels[:, None])[:, 0], logs.exp()
        # Of the logits: two that differ in their last bits may have one and the same logarithm.
        predictions = logits.to(device).argmax(1)
        confidences, correct = probabilities.amax(1).clamp(max=1.0), (predictions == labels).to(torch.float64)
        squares = probabilities.scatter_add(1, labels[:, None], -torch.ones_like(own)[:, None]).square().sum(1)
        self._totals += torch.stack([own.new_tensor(float(len(own))), -own.sum(), squares.sum()])
        if self.adaptive:
            self._kept.append((confidences, correct))
        else:
            self._bins += _sums(confidences, correct, _equal_width(self.num_bins, device))

    def merge(self, other: CalibrationAccumulator) -> None:
        """Takes in all that another accumulator has seen; the other keeps its own.

        Raises:
            ValueError: the other has other bins.
        """
        if (other.num_bins, other.adaptive) != (self.num_bins, self.adaptive):
            raise ValueError(
                f"other: expected {self.num_bins} bins, adaptive {self.adaptive}, got {other.num_bins}, "
                f"{other.adaptive}. Merge only accumulators of the same bins."
            )
        self._bins += other._bins.to(self._bins)
        self._totals += other._totals.to(self._totals)
        self._kept += [(confidences.to(self._bins), correct.to(self._bins)) for confidences, correct in other._kept]

    def reduce(self, total: Callable[..., Sequence[float]]) -> None:
        """Replaces the sums by `total(*sums)`, their totals over the processes that each have seen a share.

        Raises:
            ValueError: bins of equal size, whose edges no process knows alone.
        """
        if self.adaptive:
            raise ValueError("adaptive: expected bins of equal width, got bins of equal size. Merge these instead.")
        sums = self._bins.new_tensor(total(*self._bins.flatten().tolist(), *self._totals.tolist()))
        self._bins, self._totals = sums[:-3].view_as(self._bins), sums[-3:]

    def compute(self) -> CalibrationMetrics:
        """The metrics of all that was taken in so far; the accumulator can go on.

        Raises:
            ValueError: no example.
        """
        count = float(self._totals[0])
        if not count:
            raise ValueError("logits: expected at least one example, got none. Call update first.")
        if self.adaptive:
            confidences, correct = (torch.cat(parts) for parts in zip(*self._kept, strict=True))
            bins = calibration_bins(confidences, correct, self.num_bins, adaptive=True)
            sums = torch.stack([correct.sum(), confidences.sum()])
        else:
            bins = _bins(self._bins, _equal_width(self.num_bins, self._bins.device))
            sums = self._bins[1:].sum(1)
        return CalibrationMetrics(
            negative_log_likelihood=float(self._totals[1]) / count,
            expected_calibration_error=bins.expected_error,
            brier_score=float(self._totals[2]) / count,
            accuracy=float(sums[0]) / count,
            confidence=float(sums[1]) / count,
            bins=bins,
        )


def _check_bins(num_bins: int) -> None:
    if num_bins < 1:
        raise ValueError(f"num_bins: expected at least 1, got {num_bins}. Guo et al. take {NUM_BINS}.")


def _equal_width(num_bins: int, device: torch.device) -> Tensor:
    """b/M for b = 1 to M, each rounded once."""
    return torch.arange(1, num_bins + 1, dtype=torch.float64, device=device) / num_bins


def _sums(confidences: Tensor, correct: Tensor, edges: Tensor) -> Tensor:
    """n_b, Σ correct and Σ confidence by bin, (3, M)."""
    # The first edge that is not below the confidence.
    places = torch.bucketize(confidences, edges, right=False).clamp(max=len(edges) - 1)
    values = torch.stack([torch.ones_like(confidences), correct, confidences])
    # Not index_add_, which adds in any order on a GPU.
    sums = values.new_zeros(len(edges), 3).index_put_((places,), values.T.contiguous(), accumulate=True)
    return sums.T


def _bins(sums: Tensor, edges: Tensor) -> CalibrationBins:
    averages = sums[1:] / sums[0]  # 0/0 where a bin is empty: nan
    return CalibrationBins(counts=sums[0].to(torch.int64), accuracies=averages[0], confidences=averages[1], edges=edges)
