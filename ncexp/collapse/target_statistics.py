"""Streaming joint moments of features and real-valued targets: means and covariances, in one pass.

All that least squares of any target is a function of. As in class_statistics.py, rows are centred before they are
squared and batches are merged pairwise, in float64. In addition rows are taken less a reference, the first row seen, so
that a mean of 1e6 times the spread costs no digit of the covariances.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.distributed
from torch import Tensor

from ncexp.collapse.checks import all_finite, check_features, require_finite

_EPS = torch.finfo(torch.float64).eps
# Rows that wait for one common rank update; as in class_statistics.py.
_BUFFER_ROWS = 4096
_SUMS = ("count", "reference", "mean", "scatter", "invalid")


@dataclass(frozen=True, eq=False)
class TargetStatistics:
    """Features (n, P) and targets (n, m) to first and second order; float64.

    Args:
        num_examples: n >= 1.
        feature_mean: h̄ = Ave h, (P,).
        target_mean: ȳ = Ave y, (m,).
        feature_covariance: C_hh = Ave (h − h̄)(h − h̄)ᵀ, (P, P): divided by n, as all three.
        cross_covariance: C_yh = Ave (y − ȳ)(h − h̄)ᵀ, (m, P).
        target_covariance: Σ_Y = Ave (y − ȳ)(y − ȳ)ᵀ, (m, m).
        feature_eps: ε_f, the machine epsilon of the dtype that the features came in, the coarsest of all batches.
        target_eps: the same of the targets.

    Raises:
        ValueError: no example; shapes that contradict each other.
    """

    num_examples: int
    feature_mean: Tensor
    target_mean: Tensor
    feature_covariance: Tensor
    cross_covariance: Tensor
    target_covariance: Tensor
    feature_eps: float = _EPS
    target_eps: float = _EPS

    def __post_init__(self) -> None:
        if self.num_examples < 1:
            raise ValueError(f"num_examples: expected at least 1, got {self.num_examples}. Pass some examples.")
        of_features, of_targets = tuple(self.feature_mean.shape), tuple(self.target_mean.shape)
        expected = {
            "feature_covariance": of_features * 2,
            "cross_covariance": of_targets + of_features,
            "target_covariance": of_targets * 2,
        }
        for name, shape in expected.items():
            if (found := tuple(getattr(self, name).shape)) != shape:
                raise ValueError(
                    f"{name}: expected shape {shape} beside means of {of_features} features and {of_targets} targets, "
                    f"got {found}. Pass the moments of the same features and targets."
                )

    @property
    def num_features(self) -> int:
        """P."""
        return self.feature_mean.shape[0]

    @property
    def num_targets(self) -> int:
        """m."""
        return self.target_mean.shape[0]

    def to(self, device: torch.device | str) -> TargetStatistics:
        """The same statistics on another device."""
        moved: dict[str, Any] = {name: one.to(device) for name, one in vars(self).items() if isinstance(one, Tensor)}
        return replace(self, **moved)

    @property
    def hold_squares(self) -> bool:
        """Whether float64 holds the squares: features and targets below about 1e150."""
        squares = [self.feature_mean.square().sum(), self.target_mean.square().sum()]
        traces = [self.feature_covariance.abs().sum(), self.target_covariance.abs().sum()]
        return bool(torch.stack([*squares, *traces]).isfinite().all())


class TargetStatisticsAccumulator:
    """Joint moments of a stream of batches, shards and processes: update, merge, all_reduce, then compute.

    One pass, in float64 whatever the dtypes, memory O((P + m)²) and flat in n. The result depends on neither the batch
    size, nor the order, nor the tree of merges, beyond rounding.

    `update` never waits for a GPU: a NaN is refused at once where features, targets and accumulator lie on the CPU;
    elsewhere `update` only takes note of it, and `compute` refuses.

    Args:
        num_features: P >= 1.
        num_targets: m >= 1.
        device: where the sums live; None is torch's default device.

    Raises:
        ValueError: P < 1 or m < 1.

    >>> accumulator = TargetStatisticsAccumulator(num_features=1, num_targets=1)
    >>> accumulator.update(torch.tensor([[0.0], [2.0]]), torch.tensor([[1.0], [5.0]]))
    >>> accumulator.compute().cross_covariance.tolist()
    [[2.0]]
    """

    @torch.inference_mode(False)
    def __init__(self, num_features: int, num_targets: int, device: torch.device | str | None = None) -> None:
        for name, size in (("num_features", num_features), ("num_targets", num_targets)):
            if size < 1:
                raise ValueError(f"{name}: expected at least 1, got {size}. Pass the width of the layer or target.")
        self.num_features, self.num_targets = num_features, num_targets
        width = num_features + num_targets
        # Ordinary tensors even where inference mode builds the accumulator: batches may come outside it.
        # z = [h, y]; the mean is that of z less the reference, the scatter Σ_i (z_i − z̄)(z_i − z̄)ᵀ.
        self._count = torch.zeros((), dtype=torch.float64, device=device)
        self._reference = torch.zeros(width, dtype=torch.float64, device=device)
        self._mean = torch.zeros(width, dtype=torch.float64, device=device)
        self._scatter = torch.zeros(width, width, dtype=torch.float64, device=device)
        # [a feature was not finite, a target was not], noted where the CPU must not wait for the result.
        self._invalid = torch.zeros(2, dtype=torch.bool, device=device)
        self._eps, self._reduced = [_EPS, _EPS], False
        self._pending = torch.empty(_BUFFER_ROWS, width, dtype=torch.float64, device=device)
        self._num_pending, self._has_reference = 0, False

    @torch.no_grad()
    def update(self, features: Tensor, targets: Tensor) -> None:
        """Takes in a batch; neither tensor is kept, and an empty batch is a batch.

        Args:
            features: h, (n, P), any floating dtype; detached.
            targets: y, (n, m), any floating dtype; detached.

        Raises:
            ValueError: another shape, width or dtype than that; on the CPU, a value that is not finite.
        """
        check_features(features, self.num_features)
        _check_targets(targets, len(features), self.num_targets)
        if not len(features):
            return
        valid = [all_finite(features), all_finite(targets)]
        if features.device.type == targets.device.type == self._mean.device.type == "cpu":
            self._require(torch.stack(valid))
        else:
            self._invalid |= ~torch.stack([one.to(self._invalid.device) for one in valid])
        for place, values in enumerate((features, targets)):
            self._eps[place] = max(self._eps[place], torch.finfo(values.dtype).eps)
        if not self._has_reference:
            self._reference.copy_(torch.cat([self._as_sums(features[0]), self._as_sums(targets[0])]))
            self._has_reference = True
        for rows, their_targets in zip(features.split(_BUFFER_ROWS), targets.split(_BUFFER_ROWS), strict=True):
            if self._num_pending + len(rows) > _BUFFER_ROWS:
                self._absorb()
            window = slice(self._num_pending, self._num_pending + len(rows))
            self._pending[window, : self.num_features].copy_(rows)
            self._pending[window, self.num_features :].copy_(their_targets)
            self._num_pending = window.stop

    @torch.no_grad()
    def merge(self, other: TargetStatisticsAccumulator) -> None:
        """Takes in all that another accumulator has seen; the other keeps its own.

        Raises:
            ValueError: the other has a different P or m.
        """
        if (other.num_features, other.num_targets) != (self.num_features, self.num_targets):
            raise ValueError(
                f"other: expected P = {self.num_features}, m = {self.num_targets}, got P = {other.num_features}, "
                f"m = {other.num_targets}. Merge only accumulators of the same network and data set."
            )
        self._absorb()
        other._absorb()
        if not self._has_reference:
            self._reference.copy_(other._reference)
            self._has_reference = other._has_reference
        shift = self._as_sums(other._reference) - self._reference
        self._combine(self._as_sums(other._count), self._as_sums(other._mean) + shift, self._as_sums(other._scatter))
        self._invalid |= other._invalid.to(self._invalid.device)
        self._eps = [max(pair) for pair in zip(self._eps, other._eps, strict=True)]

    @torch.inference_mode(False)
    @torch.no_grad()
    def all_reduce(self, group: torch.distributed.ProcessGroup | None = None) -> None:
        """Replaces every process's own sums by those of all processes together; a process may have seen nothing.

        Collective: every process of the group calls it, once, before `compute`.

        Raises:
            ValueError: P or m differ between the processes, or the sums are already those of all processes.
        """
        if self._reduced:
            raise ValueError("all_reduce: expected sums of one process, got those of all. Call it once, at the end.")
        sizes = torch.tensor([self.num_features, self.num_targets], device=self._mean.device)
        extremes = torch.cat([sizes, -sizes])
        torch.distributed.all_reduce(extremes, op=torch.distributed.ReduceOp.MAX, group=group)
        if not torch.equal(extremes[:2], -extremes[2:]):
            raise ValueError(
                f"all_reduce: expected the same P and m in every process, got {-extremes[2]} to {extremes[0]} and "
                f"{-extremes[3]} to {extremes[1]}. Build every process's accumulator alike."
            )
        self._absorb()
        total = self._count.clone()
        torch.distributed.all_reduce(total, group=group)
        share = self._count / total.clamp(min=1)
        # A common reference near the mean of all, then means and scatters about it, as in class_statistics.py.
        reference = share * (self._reference + self._mean)
        torch.distributed.all_reduce(reference, group=group)
        own = (self._reference - reference) + self._mean
        mean = share * own
        torch.distributed.all_reduce(mean, group=group)
        self._scatter += self._count * torch.outer(own - mean, own - mean)
        torch.distributed.all_reduce(self._scatter, group=group)
        flags = self._as_sums(torch.cat([self._invalid.to(torch.float64), self._mean.new_tensor(self._eps)]))
        torch.distributed.all_reduce(flags, op=torch.distributed.ReduceOp.MAX, group=group)
        self._count, self._reference, self._mean = total, reference, mean
        self._invalid, self._eps = flags[:2] > 0, flags[2:].tolist()
        self._has_reference = self._reduced = True

    @torch.no_grad()
    def state_dict(self) -> dict[str, Tensor]:
        """All that was taken in so far, as tensors by name; not copied."""
        self._absorb()
        return {name: getattr(self, f"_{name}") for name in _SUMS} | {"eps": self._mean.new_tensor(self._eps)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Goes on from what `state_dict` returned; the tensors are taken over, not copied.

        Raises:
            ValueError: sums of another P + m.
        """
        if state["mean"].shape != self._mean.shape:
            raise ValueError(
                f"state: expected means of {len(self._mean)} features and targets, got {len(state['mean'])}. Load the "
                "state of an accumulator of the same P and m."
            )
        self._num_pending, self._eps = 0, state["eps"].tolist()
        for name in _SUMS:
            setattr(self, f"_{name}", state[name])
        self._has_reference = bool(self._count > 0)

    @torch.inference_mode(False)
    @torch.no_grad()
    def compute(self) -> TargetStatistics:
        """The statistics of all that was taken in so far; the accumulator can go on.

        Raises:
            ValueError: no example, or a batch on a GPU held a value that is not finite.
        """
        self._require(~self._invalid)
        self._absorb()
        covariance = self._scatter / self._count.clamp(min=1)
        covariance = (covariance + covariance.T) / 2
        mean, split = self._reference + self._mean, self.num_features
        return TargetStatistics(
            num_examples=int(self._count),
            feature_mean=mean[:split].clone(),
            target_mean=mean[split:].clone(),
            feature_covariance=covariance[:split, :split].clone(),
            cross_covariance=covariance[split:, :split].clone(),
            target_covariance=covariance[split:, split:].clone(),
            feature_eps=self._eps[0],
            target_eps=self._eps[1],
        )

    def _absorb(self) -> None:
        """Moves the pending rows into the sums."""
        if not self._num_pending:
            return
        rows = self._pending[: self._num_pending] - self._reference
        self._num_pending = 0
        mean = rows.mean(0)
        rows -= mean
        self._combine(self._count.new_tensor(float(len(rows))), mean, rows.T @ rows)

    def _combine(self, count: Tensor, mean: Tensor, scatter: Tensor) -> None:
        """Chan, Golub & LeVeque 1979: Σ_ab = Σ_a + Σ_b + (n_a n_b/n)(z̄_b − z̄_a)(z̄_b − z̄_a)ᵀ."""
        share, step = count / (self._count + count).clamp(min=1), mean - self._mean
        self._scatter += scatter + self._count * share * torch.outer(step, step)
        self._mean += share * step
        self._count += count

    def _as_sums(self, values: Tensor) -> Tensor:
        return values.detach().to(self._mean)

    def _require(self, valid: Tensor) -> None:
        require_finite("features", valid[0])
        require_finite("targets", valid[1])


def _check_targets(targets: Tensor, num_examples: int, num_targets: int) -> None:
    if targets.shape != (num_examples, num_targets) or not targets.is_floating_point():
        raise ValueError(
            f"targets: expected a floating tensor of shape (n, m) = ({num_examples}, {num_targets}), got "
            f"{tuple(targets.shape)} of {targets.dtype}. Pass one row of targets per row of features."
        )


def target_statistics(features: Tensor, targets: Tensor) -> TargetStatistics:
    """The joint moments of features and targets at hand at once; `TargetStatisticsAccumulator` is for batches.

    Args:
        features: h, (n, P), n >= 1, any floating dtype.
        targets: y, (n, m), any floating dtype.

    Raises:
        ValueError: as `TargetStatisticsAccumulator`; no example.
    """
    for name, values in (("features", features), ("targets", targets)):
        if values.ndim != 2:
            raise ValueError(f"{name}: expected shape (n, width), got {tuple(values.shape)}. One row per example.")
    accumulator = TargetStatisticsAccumulator(features.shape[1], targets.shape[1], features.device)
    accumulator.update(features, targets)
    return accumulator.compute()
