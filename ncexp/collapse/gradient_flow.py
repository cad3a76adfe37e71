"""The continually renormalized gradient flow, simulated on the features themselves (HPD22 section 3).

    dX/dt = Π(−∇_X L(W_LS(X), X)),   Π the orthogonal projection on the tangent space of {X : Σ_W(X) = I},

with L = ½ Ave_i ‖W x_i + b − y_i‖² at λ = 0. Nothing of the closed form in central_path.py enters:
this is its independent check.

The gradient. W_LS(X) minimises L, so its own change with X contributes nothing (envelope theorem):
∂L/∂x_i = (1/n) W_LSᵀ (W_LS x_i + b_LS − y_i). By least squares on centred quantities W_LS = (1/C) M̄ᵀ Σ_T^{-1} and
b_LS = 1/C − W_LS μ_G, for balanced classes.

The projection. Write D (n, P) for the deviations from class means and Z for those of a velocity field. Σ_W = DᵀD/n
stands still when DᵀZ + ZᵀD = 0; the normal directions are D S with S symmetric, and class means are free. So Π maps Z
to Z − D S, where S takes the symmetric part away:

    Σ_W S + S Σ_W = (DᵀZ + ZᵀD)/n.

On {Σ_W = I} this is S = (DᵀZ + ZᵀD)/(2n). Solved as it stands it also keeps Σ_W constant a rounding error beside that
set; the short form there would amplify the error, exponentially in √t. This is why no retraction is needed on the way.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ncexp.collapse.class_statistics import class_statistics
from ncexp.collapse.snr_spectrum import snr_singular_values, snr_spectrum

# Per-step tolerances of the integrator. Over a whole run modes above 1e-3 are then good to about 1e-7. The absolute one
# of features of size 1, costs smaller modes digits while they grow: modes of 1e-6 are good to 1e-4, of 1e-9 to 1e-2.
_RELATIVE, _ABSOLUTE = 1e-10, 1e-12
_HELD = 1e-8  # how well Σ_W = I must hold at every output time


@dataclass(frozen=True, eq=False)
class FlowTrajectory:
    """The renormalized gradient flow at the asked times, all float64."""

    times: Tensor
    """t, (T,)."""
    singular_values: Tensor
    """ω_j(t), (T, K), K = min(C−1, P), descending at each time."""
    snapshots: Tensor
    """The renormalized features X at each time, (T, n, P)."""
    constraint_error: Tensor
    """Largest entry of |Σ_W − I| at each time, (T,); below 1e-8."""

    @property
    def features(self) -> Tensor:
        """The features X at the end, (n, P)."""
        return self.snapshots[-1]


def renormalized_gradient_flow(features: Tensor, labels: Tensor, num_classes: int, times: Tensor) -> FlowTrajectory:
    """Integrate the continually renormalized gradient flow from the given features (HPD22 section 3).

    The features are first renormalized, X(0) = Σ_W^{-1/2} H; time is that of descent on L = ½ Ave_i ‖W x_i + b − y_i‖².
    The integrator is SciPy's DOP853, adaptive, explicit, of order 8. It is for small problems: every time holds a copy
    of the features, and every step solves P×P systems.

    Args:
        features: h, (n, P), the same number N of examples in each class, Σ_W of full rank.
        labels: (n,) class of each example.
        num_classes: C.
        times: (T,), strictly ascending, first ≥ 0, last > 0.

    Returns:
        FlowTrajectory.

    Raises:
        ValueError: classes of different size; Σ_W not of full rank; times not as above; a flow that cannot be
            integrated so far, or that does not keep Σ_W = I.
    """
    check_times(times)
    labels, start = labels.to("cpu"), renormalize(features, labels, num_classes)
    targets = torch.nn.functional.one_hot(labels.long(), num_classes).to(start)
    states = integrate(lambda x: flow_velocity(x.reshape(start.shape), targets).flatten(), start.flatten(), times)
    snapshots = states.reshape(-1, *start.shape)
    statistics = [class_statistics(snapshot, labels, num_classes) for snapshot in snapshots]
    identity = torch.eye(start.shape[1], dtype=torch.float64)
    error = torch.stack([(s.within_class_covariance - identity).abs().max() for s in statistics])
    if not float(error.max()) <= _HELD:
        raise ValueError(
            f"features: expected a flow that keeps Σ_W = I to {_HELD}, got {float(error.max())} off. Take earlier "
            "times, or features whose Σ_W is better conditioned."
        )
    return FlowTrajectory(
        times.to(torch.float64), torch.stack([snr_singular_values(s) for s in statistics]), snapshots, error
    )


def integrate(velocity: Callable[[Tensor], Tensor], start: Tensor, times: Tensor) -> Tensor:
    """The solution (T, d) of dx/dt = velocity(x) from x(0) = start, (d,) float64, at the times; DOP853.

    Raises ValueError where the integrator gives up.
    """
    from scipy.integrate import solve_ivp  # half a second to import, and no training needs it

    grid = times.to(torch.float64)
    solution = solve_ivp(
        lambda _, state: velocity(torch.as_tensor(state)).numpy(),
        (0.0, float(grid[-1])),
        start.numpy(),
        method="DOP853",
        t_eval=grid.numpy(),
        rtol=_RELATIVE,
        atol=_ABSOLUTE,
    )
    if not solution.success:
        raise ValueError(f"times: expected a flow that can be integrated to {float(grid[-1])}, got: {solution.message}")
    return torch.as_tensor(solution.y).T.contiguous()


def flow_velocity(features: Tensor, targets: Tensor) -> Tensor:
    """dX/dt = Π(−∇_X L(W_LS(X), X)) at one X, the vector field of the flow.

    Args:
        features: X, (n, P) float64, Σ_W = I (Σ_W is kept whatever it is).
        targets: y, (n, C) float64, one-hot, the same number of examples in each class.

    Returns:
        (n, P) float64.
    """
    share = targets.shape[1] / len(targets)  # of one example in its class's mean
    descent = descent_on_path(features, targets)
    centered = features - features.mean(dim=0)
    deviations = centered - targets @ (targets.T @ centered) * share
    descent_deviations = descent - targets @ (targets.T @ descent) * share
    return descent - deviations @ _normal_part(deviations, descent_deviations)


def descent_on_path(features: Tensor, targets: Tensor) -> Tensor:
    """−∇_X L(W_LS(X), X), (n, P) float64; Args as `flow_velocity`, Σ_T of full rank instead of Σ_W = I."""
    num_examples, num_classes = targets.shape
    centered = features - features.mean(dim=0)
    means = targets.T @ centered * (num_classes / num_examples)
    total_covariance = centered.T @ centered / num_examples
    weight = torch.linalg.solve(total_covariance, means.T).T / num_classes
    residuals = centered @ weight.T + 1 / num_classes - targets
    return -(residuals @ weight) / num_examples


def _normal_part(deviations: Tensor, field: Tensor) -> Tensor:
    """S with Σ_W S + S Σ_W = (DᵀZ + ZᵀD)/n, in the eigenbasis of Σ_W."""
    moment = deviations.T @ field / len(deviations)
    variances, basis = torch.linalg.eigh(deviations.T @ deviations / len(deviations))
    rotated = basis.T @ (moment + moment.T) @ basis
    return basis @ (rotated / (variances[:, None] + variances)) @ basis.T


def renormalize(features: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """X = Σ_W^{-1/2} H, the renormalized features (n, P) float64 with Σ_W(X) = I to rounding.

    Raises:
        ValueError: classes of different size; Σ_W not of full rank.
    """
    labels, whitened = labels.to("cpu"), features.detach().to("cpu", torch.float64)
    statistics = class_statistics(whitened, labels, num_classes)
    if bool((statistics.counts != statistics.counts[0]).any()):
        raise ValueError(
            f"labels: expected the same number of examples in each class, got {statistics.counts.tolist()}. "
            "The central path is a theory of balanced classes; take a balanced sample."
        )
    rank = snr_spectrum(statistics).rank
    if rank < statistics.num_features:
        raise ValueError(
            f"features: expected a within-class covariance of full rank {statistics.num_features}, got rank {rank}. "
            "Pass more examples, or drop the units that do not vary within classes."
        )
    whitened = whitened @ _inverse_root(statistics.within_class_covariance)
    # Again, for the rounding that an ill-conditioned Σ_W leaves behind.
    return whitened @ _inverse_root(class_statistics(whitened, labels, num_classes).within_class_covariance)


def _inverse_root(covariance: Tensor) -> Tensor:
    """The symmetric Σ^{-1/2}."""
    variances, basis = torch.linalg.eigh(covariance)
    return (basis / variances.sqrt()) @ basis.T


def check_times(times: Tensor) -> None:
    """Raises ValueError for times that are not strictly ascending from t ≥ 0 to t > 0."""
    ascending = times.ndim == 1 and len(times) > 0 and bool(times.isfinite().all()) and bool((times.diff() > 0).all())
    if not ascending or times[0] < 0 or times[-1] <= 0:
        raise ValueError(
            f"times: expected shape (T,), strictly ascending from t >= 0 to t > 0, got {times.tolist()}. "
            "Sort the times and drop repeats."
        )
