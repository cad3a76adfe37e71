"""Streaming class statistics: counts, class means, within-class covariance, exact also in deep collapse.

Everything in this package is a function of these four and of the classifier. In collapse Σ_W ≪ Σ_B, so raw second
moments are useless there; the accumulator centres before it squares and merges batches pairwise, in float64.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import torch
import torch.distributed
from torch import Tensor

from ncexp.collapse.checks import all_finite, check_features, check_labels, require_finite

# The square of a smaller number has lost digits to underflow.
_SQUARABLE = 2.0**-485


@dataclass(frozen=True, eq=False)
class ClassStatistics:
    """What the features (n, P) of C classes look like to first and second order; float64 but for the counts.

    Args:
        counts: n_c, (C,) int64: examples per class, each at least 1.
        class_means: μ_c = average of h over class c, (C, P).
        within_class_covariance: Σ_W = Ave_i (h_i − μ_c(i))(h_i − μ_c(i))ᵀ, (P, P): over all n examples, divided by n.
        within_class_variances: v_c = average of ‖h − μ_c‖² over class c, (C,), divided by n_c; Σ_c π_c v_c = tr Σ_W.
        feature_eps: ε_f, the machine epsilon of the dtype that the features came in, the coarsest of all batches: what
            is smaller than ε_f of the features is their own rounding. Features that were computed in less than their
            dtype (TF32, a cast after bfloat16) have a larger one; name it with `dataclasses.replace`.

    Raises:
        ValueError: a class without examples (all of them named); shapes that contradict each other.
    """

    counts: Tensor
    class_means: Tensor
    within_class_covariance: Tensor
    within_class_variances: Tensor
    feature_eps: float = torch.finfo(torch.float64).eps

    def __post_init__(self) -> None:
        of_classes, of_features = self.class_means.shape[:1], self.class_means.shape[1:]
        expected = {"counts": of_classes, "within_class_variances": of_classes}
        for name, shape in {**expected, "within_class_covariance": (*of_features, *of_features)}.items():
            if (found := tuple(getattr(self, name).shape)) != shape:
                means = tuple(self.class_means.shape)
                raise ValueError(f"{name}: expected shape {tuple(shape)} beside class means {means}, got {found}.")
        empty = (self.counts < 1).nonzero().flatten().tolist()
        if empty:
            listed = ", ".join(map(str, empty[:10])) + (", ..." if len(empty) > 10 else "")
            raise ValueError(
                f"labels: expected at least one example of every class, got none of class {listed} ({len(empty)} of "
                f"{self.num_classes} classes). Pass more examples, or measure the classes that occur: "
                "classes=occurring."
            )

    @property
    def num_classes(self) -> int:
        """C."""
        return self.class_means.shape[0]

    @property
    def num_features(self) -> int:
        """P."""
        return self.class_means.shape[1]

    @property
    def num_examples(self) -> int:
        """n = Σ_c n_c."""
        return int(self.counts.sum())

    @property
    def frequencies(self) -> Tensor:
        """π_c = n_c / n, (C,)."""
        counts = self.counts.to(torch.float64)
        return counts / counts.sum()

    @property
    def global_mean(self) -> Tensor:
        """μ_G = Σ_c π_c μ_c, (P,): the average over examples, not over classes."""
        return self.frequencies @ self.class_means

    @property
    def centered_class_means(self) -> Tensor:
        """M̄ᵀ, (C, P): row c is μ_c − μ_G."""
        return self.class_means - self.global_mean

    @cached_property
    def between_class_covariance(self) -> Tensor:
        """Σ_B = Σ_c π_c (μ_c − μ_G)(μ_c − μ_G)ᵀ, (P, P)."""
        centered = self.centered_class_means
        return (centered.T * self.frequencies) @ centered

    @property
    def total_covariance(self) -> Tensor:
        """Σ_T = Σ_W + Σ_B, (P, P)."""
        return self.within_class_covariance + self.between_class_covariance

    @cached_property
    def hold_squares(self) -> bool:
        """Whether float64 holds the squares: features below about 1e150, class means that are one or 1e-146 apart."""
        extent = float((self.class_means - self.class_means[0]).abs().amax())
        squares = self.within_class_covariance.isfinite().all() & self.class_means.square().sum().isfinite()
        return bool(squares) and not 0 < extent < _SQUARABLE

    def to(self, device: torch.device | str) -> ClassStatistics:
        """The same statistics on another device."""
        tensors = {field.name: getattr(self, field.name) for field in fields(self)}
        moved: Any = {name: value.to(device) for name, value in tensors.items() if isinstance(value, Tensor)}
        return replace(self, **moved)


# Rows that wait for one common rank update: enough to run the P×P product at full speed and to spread its fixed cost
# over many small batches, few enough to be forgotten beside one batch of a network's activations.
_BUFFER_ROWS = 4096
# Columns of the scatter from which a product of their own is worth its start.
_LEAST_BLOCK = 64
_SUMS = ("counts", "means", "scatter", "class_scatter", "invalid", "feature_eps")


class ClassStatisticsAccumulator:
    """Class statistics of a stream of batches, shards and processes: update, merge, all_reduce, then compute.

    One pass, in float64 whatever the features' dtype, memory O(P² + CP) and flat in n. Centred before squared, merged
    pairwise (Chan, Golub & LeVeque 1979), so that the result depends on neither the batch size, nor the order, nor the
    tree of merges, beyond rounding, also where Σ_W is 1e-10 of Σ_B.

    `update` never waits for a GPU. A bad label or a NaN is refused at once where features and accumulator lie on the
    CPU; elsewhere `update` only takes note of it, and `compute` refuses.

    Args:
        num_classes: C >= 2.
        num_features: P >= 1; named here so that a shard without examples is a full member of a merge.
        device: where the sums live; features are copied there. None is torch's default device. Name the features' own.

    Raises:
        ValueError: C < 2 or P < 1.

    >>> accumulator = ClassStatisticsAccumulator(num_classes=2, num_features=1)
    >>> accumulator.update(torch.tensor([[0.0], [5.0]]), torch.tensor([0, 1]))
    >>> accumulator.update(torch.tensor([[2.0]]), torch.tensor([0]))
    >>> accumulator.compute().within_class_variances.tolist()
    [1.0, 0.0]
    """

    @torch.inference_mode(False)
    def __init__(self, num_classes: int, num_features: int, device: torch.device | str | None = None) -> None:
        if num_classes < 2:
            raise ValueError(f"num_classes: expected at least 2, got {num_classes}. One class has nothing to collapse.")
        if num_features < 1:
            raise ValueError(f"num_features: expected at least 1, got {num_features}. Pass the features' width P.")
        self.num_classes = num_classes
        self.num_features = num_features
        # Ordinary tensors even where inference mode builds the accumulator: batches may come outside it.
        self._counts = torch.zeros(num_classes, dtype=torch.float64, device=device)
        self._means = torch.zeros(num_classes, num_features, dtype=torch.float64, device=device)
        # Σ_i (h_i − μ_c(i))(h_i − μ_c(i))ᵀ, of which the upper triangle counts, and its trace class by class.
        self._scatter = torch.zeros(num_features, num_features, dtype=torch.float64, device=device)
        self._class_scatter = torch.zeros(num_classes, dtype=torch.float64, device=device)
        # [a feature was not finite, a label was out of range], noted where the CPU must not wait for the result.
        self._invalid = torch.zeros(2, dtype=torch.bool, device=device)
        self._block = max(_LEAST_BLOCK, -(-num_features // 4))
        self._reduced = False
        self._feature_eps = torch.tensor(torch.finfo(torch.float64).eps, dtype=torch.float64, device=device)
        self._pending = torch.empty(_BUFFER_ROWS, num_features, dtype=torch.float64, device=device)
        self._pending_labels = torch.empty(_BUFFER_ROWS, dtype=torch.int64, device=device)
        self._num_pending = 0

    @torch.no_grad()
    def update(self, features: Tensor, labels: Tensor) -> None:
        """Takes in a batch; neither tensor is kept, and an empty batch is a batch.

        Args:
            features: h, (n, P), any floating dtype; detached.
            labels: c(i), (n,), any integer dtype, 0 to C − 1.

        Raises:
            ValueError: another shape, width or dtype than that; on the CPU, a value that is not finite or a label out
                of range.
        """
        check_features(features, self.num_features)
        check_labels(labels, features)
        if features.shape[0] == 0:
            return
        first, last = torch.aminmax(labels.to(features.device))
        valid = torch.stack([all_finite(features), (first >= 0) & (last < self.num_classes)])
        if features.device.type == labels.device.type == self._means.device.type == "cpu":
            self._require(valid)
        else:
            self._invalid |= ~valid.to(self._invalid.device)
            # Noted, and refused in compute(); until then no index may leave the arrays.
            labels = labels.clamp(0, self.num_classes - 1)
        self._feature_eps.clamp_(min=torch.finfo(features.dtype).eps)
        for rows, row_labels in zip(features.split(_BUFFER_ROWS), labels.split(_BUFFER_ROWS), strict=True):
            if self._num_pending + len(rows) > _BUFFER_ROWS:
                self._absorb()
            window = slice(self._num_pending, self._num_pending + len(rows))
            self._pending[window].copy_(rows)
            self._pending_labels[window].copy_(row_labels)
            self._num_pending = window.stop

    @torch.no_grad()
    def merge(self, other: ClassStatisticsAccumulator) -> None:
        """Takes in all that another accumulator has seen; the other keeps its own.

        Raises:
            ValueError: the other has a different C or P.
        """
        if (other.num_classes, other.num_features) != (self.num_classes, self.num_features):
            raise ValueError(
                f"other: expected C = {self.num_classes}, P = {self.num_features}, got C = {other.num_classes}, "
                f"P = {other.num_features}. Merge only accumulators of the same network and data set."
            )
        self._absorb()
        other._absorb()
        device = self._means.device
        counts = other._counts.to(device)
        step = other._means.to(device) - self._means
        # Chan: Σ_ab = Σ_a + Σ_b + Σ_c (n_a n_b / n) (μ_b − μ_a)(μ_b − μ_a)ᵀ, and μ_ab = μ_a + (n_b / n)(μ_b − μ_a).
        # A class that neither has seen has n = 0 and weight 0.
        share = counts / (self._counts + counts).clamp(min=1)
        between = (self._counts * share).sqrt()[:, None] * step
        self._scatter += other._scatter.to(device) + between.T @ between
        self._class_scatter += other._class_scatter.to(device) + between.square().sum(1)
        self._means += share[:, None] * step
        self._counts += counts
        self._invalid |= other._invalid.to(device)
        self._feature_eps.clamp_(min=other._feature_eps.to(device))

    @torch.inference_mode(False)
    @torch.no_grad()
    def all_reduce(self, group: torch.distributed.ProcessGroup | None = None) -> None:
        """Replaces every process's own sums by those of all processes together; a process may have seen nothing.

        Collective: every process of the group calls it, once, before `compute`.

        Raises:
            ValueError: C or P differ between the processes, or the sums are already those of all processes.
        """
        if self._reduced:
            raise ValueError("all_reduce: expected sums of one process, got those of all. Call it once, at the end.")
        self._refuse_other_sizes(group)
        self._absorb()
        # n = Σ_r n_r and μ = Σ_r (n_r / n) μ_r; then each process moves its scatter to the common means, exactly:
        # Σ_i (h_i − μ)(h_i − μ)ᵀ = Σ_i (h_i − μ_r)(h_i − μ_r)ᵀ + n_r (μ_r − μ)(μ_r − μ)ᵀ, and the scatters add.
        total = self._counts.clone()
        torch.distributed.all_reduce(total, group=group)
        means = (self._counts / total.clamp(min=1))[:, None] * self._means
        torch.distributed.all_reduce(means, group=group)
        shift = self._counts.sqrt()[:, None] * (self._means - means)
        self._scatter += shift.T @ shift
        self._class_scatter += shift.square().sum(1)
        torch.distributed.all_reduce(self._scatter, group=group)
        torch.distributed.all_reduce(self._class_scatter, group=group)
        invalid = self._invalid.to(torch.int32)
        torch.distributed.all_reduce(invalid, group=group)
        torch.distributed.all_reduce(self._feature_eps, op=torch.distributed.ReduceOp.MAX, group=group)
        self._counts, self._means, self._invalid, self._reduced = total, means, invalid > 0, True

    @torch.no_grad()
    def state_dict(self) -> dict[str, Tensor]:
        """All that was taken in so far, as tensors by name; not copied."""
        self._absorb()
        return {name: getattr(self, f"_{name}") for name in _SUMS}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Goes on from what `state_dict` returned; the tensors are taken over, not copied.

        Raises:
            ValueError: sums of another C or P.
        """
        if state["means"].shape != self._means.shape:
            raise ValueError(
                f"state: expected class means of shape {tuple(self._means.shape)}, got {tuple(state['means'].shape)}. "
                "Load the state of an accumulator of the same C and P."
            )
        self._num_pending = 0
        for name in _SUMS:
            setattr(self, f"_{name}", state[name])

    @torch.inference_mode(False)
    @torch.no_grad()
    def compute(self) -> ClassStatistics:
        """The statistics of all that was taken in so far; the accumulator can go on.

        Raises:
            ValueError: a class without examples, or a batch on a GPU held a value that is not finite or a bad label.
        """
        self._require(~self._invalid)
        self._absorb()
        covariance = self._scatter.triu() / self._counts.sum().clamp(min=1)
        return ClassStatistics(
            counts=self._counts.to(torch.int64),
            class_means=self._means.clone(),
            within_class_covariance=covariance + covariance.triu(1).T,
            within_class_variances=self._class_scatter / self._counts.clamp(min=1),
            feature_eps=float(self._feature_eps),
        )

    def _absorb(self) -> None:
        """Moves the pending rows into the sums, as one matrix product whatever the number of classes."""
        rows, labels = self._pending[: self._num_pending], self._pending_labels[: self._num_pending]
        if self._num_pending == 0:
            return
        self._num_pending = 0
        classes, group = _classes_present(labels, self.num_classes)
        counts = _sums(rows.new_ones(len(rows)), group, len(classes))
        means = _sums(rows, group, len(classes)) / counts.clamp(min=1)[:, None]
        # With n_a, μ_a seen before and n_b, μ_b new, Chan adds Σ_b + (n_a n_b / n)(μ_b − μ_a)(μ_b − μ_a)ᵀ per class.
        # As the new rows' deviations from μ_b sum to 0, that is Σ_i (h_i − r)(h_i − r)ᵀ with
        # r = μ_b − √(n_a/n)(μ_b − μ_a): the cross terms vanish and n_b (n_a/n) is Chan's weight. So the correction
        # costs no rows of its own, and every term is a square.
        before = self._counts[classes]
        total = (before + counts).clamp(min=1)
        step = means - self._means[classes]
        rows -= (means - (before / total).sqrt()[:, None] * step).index_select(0, group)
        # Only the upper triangle, block column by block column: 10/16 of the flops of the whole for four of them.
        for start in range(0, self.num_features, self._block):
            stop = min(start + self._block, self.num_features)
            self._scatter[:stop, start:stop].addmm_(rows[:, :stop].T, rows[:, start:stop])
        squares = _sums(rows.square().sum(1), group, len(classes))
        self._class_scatter.index_put_((classes,), squares, accumulate=True)
        self._means.index_put_((classes,), (counts / total)[:, None] * step, accumulate=True)
        self._counts.index_put_((classes,), counts, accumulate=True)

    def _refuse_other_sizes(self, group: torch.distributed.ProcessGroup | None) -> None:
        sizes = torch.tensor([self.num_classes, self.num_features], device=self._means.device)
        extremes = torch.cat([sizes, -sizes])
        torch.distributed.all_reduce(extremes, op=torch.distributed.ReduceOp.MAX, group=group)
        if not torch.equal(extremes[:2], -extremes[2:]):
            raise ValueError(
                f"all_reduce: expected the same C and P in every process, got C from {-extremes[2]} to {extremes[0]}, "
                f"P from {-extremes[3]} to {extremes[1]}. Build every process's accumulator alike."
            )

    def _require(self, valid: Tensor) -> None:
        require_finite("features", valid[0])
        if not bool(valid[1]):
            expected = f"class numbers 0 to {self.num_classes - 1}"
            raise ValueError(f"labels: expected {expected}, got others. Check num_classes.")


def _sums(values: Tensor, group: Tensor, num_groups: int) -> Tensor:
    """Σ of the values, (n, ...), of each group."""
    # Not index_add_, which adds in any order on a GPU: the same examples must give the same bytes there as well.
    return values.new_zeros(num_groups, *values.shape[1:]).index_put_((group,), values, accumulate=True)


def _classes_present(labels: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    """Class numbers (K,) and, for each label, its place among them; K = min(C, n), found without asking the device.

    Where C exceeds the rows, only classes that occur are named (a place left over names class 0 and stays empty), so
    that the work is O(n P) and not O(C P).
    """
    if num_classes <= len(labels):
        return torch.arange(num_classes, device=labels.device), labels
    ordered, order = labels.sort()
    is_new = torch.ones_like(ordered)
    is_new[1:] = ordered[1:] != ordered[:-1]
    ordered_place = is_new.cumsum(0) - 1
    classes = torch.zeros_like(labels).scatter_(0, ordered_place, ordered)
    return classes, torch.empty_like(labels).scatter_(0, order, ordered_place)


def class_statistics(features: Tensor, labels: Tensor, num_classes: int) -> ClassStatistics:
    """The class statistics of features that are at hand at once; see `ClassStatisticsAccumulator` for batches.

    How many digits hold: 12 of the class means and 9 of Σ_W and v_c, for float64, float32 and bfloat16 features as they
    are given, deviations down to 1e-5 of the class means, an offset of their size.

    Args:
        features: h, (n, P), any floating dtype.
        labels: c(i), (n,), any integer dtype, 0 to C − 1.
        num_classes: C >= 2.

    Raises:
        ValueError: as `ClassStatisticsAccumulator`, and `ClassStatistics` where a class is empty.

    >>> class_statistics(torch.tensor([[0.0], [2.0], [5.0]]), torch.tensor([0, 0, 1]), 2).class_means.tolist()
    [[1.0], [5.0]]
    """
    if features.ndim != 2:
        raise ValueError(f"features: expected shape (n, P), got {tuple(features.shape)}. Flatten or pool each example.")
    accumulator = ClassStatisticsAccumulator(num_classes, features.shape[1], features.device)
    accumulator.update(features, labels)
    return accumulator.compute()
