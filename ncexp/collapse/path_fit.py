"""Theory against training: the one monotone time change that lays a measured run along the central path.

The closed form says how the modes move relative to each other, not how epochs map to t. So for a run's spectra
ω_j(e) and a starting epoch, whose spectrum is taken as it is, the only thing to fit is τ(e), non-decreasing from 0:

    minimise Σ_e Σ_j (log ω_j(e) − log ω_j^path(τ(e)))²   over   0 = τ(start) ≤ τ(start+1) ≤ …

With δ_j(e) = log ω_j(e)/ω_j(start) and u_j(τ) the path's log growth, each epoch is a projection of the point δ(e) on
the curve u(τ). Two facts make it easy:
- Its nearest τ lies between the earliest and the latest time at which some mode alone has grown by its δ_j, both closed
  forms. A grid over that interval finds the best basin, bisection of the slope the point. Both run over s, the log
  growth of the smallest mode: no mode grows faster in log ω, so equal steps in s are small steps of all.
- Epochs that share one τ cost (their number) · ‖u(τ) − mean δ‖² plus a constant. So pooling neighbours that are out of
  order into their mean and fitting again (pool adjacent violators) is the order-restricted least-squares fit, exactly
  so as long as residuals are small against the curve's radius of curvature, which makes each epoch's cost convex.

What remains, r_j(e) = log ω_j(e) − log ω_j^path(τ(e)), is what the theory does not explain.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ncexp.collapse.central_path import (
    LARGEST,
    SMALLEST,
    CentralPath,
    conserved_differences,
    elapsed_for_growth,
    log_growth,
)

_GRID = 33  # candidate times per epoch before the bisection
_HALVINGS = 54  # from a grid cell to rounding


@dataclass(frozen=True, eq=False)
class PathFit:
    """A run's spectra laid along the central path, from the starting epoch on; E epochs, K modes, float64 tensors."""

    epochs: Tensor
    """(E,): the epochs compared, the starting one first."""
    excluded_epochs: Tensor
    """(X,): epochs after the start whose spectrum is undefined (nan) or not positive; they take no part."""
    times: Tensor
    """τ(epoch), (E,): non-decreasing from 0, in the flow's unit of time."""
    measured: Tensor
    """ω_j(epoch), (E, K), as given; modes are matched by their place in the spectrum."""
    predicted: Tensor
    """ω_j of the path at τ(epoch), (E, K); equal to `measured` at the start."""
    residuals: Tensor
    """log measured − log predicted, (E, K)."""
    mode_rms: Tensor
    """Root mean square residual of each mode over the epochs after the start, (K,)."""
    rms: float
    """Root mean square residual over epochs after the start and modes: relative error of a typical ω."""
    explained: float
    """1 − Σ r²/Σ δ², δ the change of log ω since the start: share of the motion; nan if nothing moved."""
    explained_spread: float
    """1 − Σ r²/Σ (δ − mean_j δ)²: share of what one common growth factor per epoch leaves over; nan where the modes
    all grew alike (or K = 1), negative where common growth describes the run better than the path does."""
    conserved_differences: Tensor
    """F(ω_1) − F(ω_j) of the measured spectra, (E, K−1): constant along the exact flow, whatever τ is."""


def fit_time_change(epochs: Tensor, spectra: Tensor, num_classes: int, examples_per_class: int, start: int) -> PathFit:
    """Fit the monotone time change τ(epoch) of measured spectra to the closed form (HPD22, central-path theorem).

    Least squares in log ω over modes and epochs, with τ(start) = 0 and τ non-decreasing; the path starts at the
    measured spectrum of the starting epoch. With one mode every increasing run fits exactly: the test needs K ≥ 2.

    Args:
        epochs: (E,), strictly ascending.
        spectra: ω_j(epoch), (E, K), K ≤ C−1; rows with nan, zero or infinite entries are excluded and listed.
        num_classes: C.
        examples_per_class: N, which sets the unit of τ.
        start: index into `epochs` of the starting epoch; earlier ones take no part.

    Raises:
        ValueError: shapes that do not match or epochs not ascending; start out of range; an undefined spectrum at the
            start; no usable epoch after it; or what CentralPath refuses.
    """
    epochs, spectra = epochs.to(torch.float64), spectra.to(torch.float64)
    usable = _check(epochs, spectra, start)
    kept, dropped = epochs[start:][usable[start:]], epochs[start:][~usable[start:]]
    measured = spectra[start:][usable[start:]]
    path = CentralPath(measured[0], num_classes, examples_per_class)

    growth = (measured / measured[0]).log()
    times = examples_per_class * _monotone_times(growth, measured[0], num_classes)
    predicted = path.singular_values(times)
    residuals = (measured / predicted).log()
    left, moved = residuals[1:].square(), growth[1:]

    def share_of(motion: Tensor) -> float:
        whole = motion.square().sum()
        return float(1 - left.sum() / whole) if bool(whole > 0) else torch.nan

    return PathFit(
        epochs=kept,
        excluded_epochs=dropped,
        times=times,
        measured=measured,
        predicted=predicted,
        residuals=residuals,
        mode_rms=left.mean(dim=0).sqrt(),
        rms=float(left.mean().sqrt()),
        explained=share_of(moved),
        explained_spread=share_of(moved - moved.mean(dim=1, keepdim=True)),
        conserved_differences=conserved_differences(measured, num_classes),
    )


def _monotone_times(growth: Tensor, initial: Tensor, num_classes: int) -> Tensor:
    """τ/N of each epoch, (E,), by pooling adjacent violators, all neighbours that are out of order at once."""
    block = torch.arange(len(growth), device=growth.device)
    while True:
        sizes = torch.bincount(block).to(growth)
        means = torch.zeros(len(sizes), growth.shape[1], dtype=growth.dtype, device=growth.device)
        means = means.index_add(0, block, growth) / sizes[:, None]
        times = _nearest_times(means, initial, num_classes)
        in_order = times.diff() >= 0
        if bool(in_order.all()):
            return times[block]
        block = torch.cat([block.new_zeros(1), in_order.cumsum(dim=0)])[block]


def _nearest_times(targets: Tensor, initial: Tensor, num_classes: int) -> Tensor:
    """τ/N at which the path's log growth comes nearest to each target (B, K): (B,)."""
    smallest = initial.min()
    alone = elapsed_for_growth(initial, targets, num_classes).clamp(min=0)
    low, high = (log_growth(smallest, bound, num_classes) for bound in (alone.amin(dim=1), alone.amax(dim=1)))

    def distance(s: Tensor) -> Tensor:
        elapsed = elapsed_for_growth(smallest, s, num_classes)
        return (log_growth(initial, elapsed[:, None], num_classes) - targets).square().sum(dim=1)

    def slope(s: Tensor) -> Tensor:
        """Half the derivative of the distance, with du_j/ds = ((C + ω_min²)/(C + ω_j²))²."""
        grown = log_growth(initial, elapsed_for_growth(smallest, s, num_classes)[:, None], num_classes)
        resistance = (num_classes + (initial * grown.exp()).square()).square()
        return ((grown - targets) * (resistance.amin(dim=1, keepdim=True) / resistance)).sum(dim=1)

    step = (high - low) / (_GRID - 1)
    best = torch.stack([distance(low + i * step) for i in range(_GRID)]).argmin(dim=0)
    low, high = low + (best - 1).clamp(min=0) * step, low + (best + 1).clamp(max=_GRID - 1) * step
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        beyond = slope(middle) > 0
        low, high = torch.where(beyond, low, middle), torch.where(beyond, middle, high)
    return elapsed_for_growth(smallest, low, num_classes)


def _check(epochs: Tensor, spectra: Tensor, start: int) -> Tensor:
    """Which epochs have a usable spectrum, (E,), once the arguments are known to be in order."""
    if epochs.ndim != 1 or spectra.ndim != 2 or len(epochs) != len(spectra):
        raise ValueError(
            f"spectra: expected shape (E, K) for epochs (E,), got {tuple(spectra.shape)} for {tuple(epochs.shape)}. "
            "Pass one row for each epoch, nan where it is undefined."
        )
    if not bool((epochs.diff() > 0).all()):
        raise ValueError(f"epochs: expected strictly ascending, got {epochs.tolist()}. Sort the record by epoch.")
    if not 0 <= start < len(epochs):
        raise ValueError(f"start: expected an index within 0..{len(epochs) - 1}, got {start}. Pass a row of spectra.")
    usable = ((spectra >= SMALLEST) & (spectra <= LARGEST)).all(dim=1)
    if not bool(usable[start]):
        raise ValueError(
            f"spectra: expected a defined spectrum of positive ω at the start, got {spectra[start].tolist()}. "
            "Start from a later epoch."
        )
    if not bool(usable[start + 1 :].any()):
        raise ValueError(
            f"spectra: expected a defined spectrum after the start, got none in {len(epochs) - start - 1} epochs. "
            "Start from an earlier epoch."
        )
    return usable
