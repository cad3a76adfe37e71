"""Gradient flows of free features, simulated on the features themselves: the independent check of the closed form.

With rows h_i of H, residuals R = H Wᵀ + 1 bᵀ − Y and L = ‖R‖²/(2n) = ½ Ave_i ‖W h_i + b − y_i‖² at λ = 0:

    renormalized   dX/dt = Π(−∇_X L(W_LS(X), X)),  Π the projection on the tangent space of {X : Σ_W(X) = I} (HPD22);
    on the path    dH/dt = −(1/n) R W with (W, b) = (W_LS, b_LS) of H at every time;
    plain          dH/dt = −(1/n) R W, dW/dt = −(1/n) Rᵀ H, db/dt = −(1/n) Rᵀ 1.

Nothing of the closed form in central_path.py enters. Known of the second, from Σ_W = I:
ω_j(t) = ω_j(0) exp(t/(n (C + ω_j(0)²))); of the third: WᵀW − HᵀH is constant.

The gradient on the path. W_LS(X) minimises L, so its own change with X contributes nothing (envelope theorem):
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
from ncexp.collapse.least_squares import least_squares_classifier
from ncexp.collapse.linear_classifier import LinearClassifier
from ncexp.collapse.snr_spectrum import snr_singular_values, snr_spectrum

# Per-step tolerances of the integrator. Over a whole run modes above 1e-3 are then good to about 1e-7. The absolute one
# of features of size 1, costs smaller modes digits while they grow: modes of 1e-6 are good to 1e-4, of 1e-9 to 1e-2.
_RELATIVE, _ABSOLUTE = 1e-10, 1e-12
_HELD = 1e-8  # how well Σ_W = I must hold at every output time

#: At each time the features (n, P) and the last layer, float64.
States = list[tuple[Tensor, LinearClassifier]]


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
    """Integrate the continually renormalized gradient flow from X(0) = Σ_W^{-1/2} H of the features (HPD22 section 3).

    It is for small problems: every time holds a copy of the features, and every step solves P×P systems.

    Args:
        features: h, (n, P), the same number N of examples in each class, Σ_W of full rank.
        labels: (n,) class of each example.
        num_classes: C.
        times: (T,), strictly ascending, first ≥ 0, last > 0; time is that of descent on L.

    Raises:
        ValueError: classes of different size; Σ_W not of full rank; times not as above; a flow that cannot be
            integrated so far, or that does not keep Σ_W = I.
    """
    labels, start, targets = _start(features, labels, num_classes)
    snapshots = integrate(lambda x: flow_velocity(x, targets), start, times)
    statistics = [class_statistics(snapshot, labels, num_classes) for snapshot in snapshots]
    identity = torch.eye(start.shape[1], dtype=torch.float64)
    error = torch.stack([(s.within_class_covariance - identity).abs().max() for s in statistics])
    if not float(error.max()) <= _HELD:
        raise ValueError(
            f"features: expected a flow that keeps Σ_W = I to {_HELD}, got {float(error.max())} off. Take earlier "
            "times, or features whose Σ_W is better conditioned."
        )
    spectra = torch.stack([snr_singular_values(one) for one in statistics])
    return FlowTrajectory(times.to(torch.float64), spectra, snapshots, error)


def on_path_gradient_flow(features: Tensor, labels: Tensor, num_classes: int, times: Tensor) -> States:
    """Integrate the gradient flow of L_LS(H) from X = Σ_W^{-1/2} H: regime=on_path in continuous time.

    Args and Raises as `renormalized_gradient_flow`.
    """
    labels, start, targets = _start(features, labels, num_classes)
    return with_optimum(integrate(lambda h: descent_on_path(h, targets), start, times), labels, num_classes)


def plain_gradient_flow(features: Tensor, classifier: LinearClassifier, labels: Tensor, times: Tensor) -> States:
    """Integrate the gradient flow of L(W, b, H) from X = Σ_W^{-1/2} H and a layer: regime=plain in continuous time.

    Args and Raises as `renormalized_gradient_flow`, and classifier: (W, b) at t = 0; ValueError for one without bias.
    """
    if classifier.bias is None:
        raise ValueError("classifier: expected one with bias, got none. Pass zeros for a bias that begins at 0.")
    num_classes, (num_examples, width) = classifier.num_classes, features.shape
    _, start, targets = _start(features, labels, num_classes)

    def parts(state: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        h, weight, bias = state.split([num_examples * width, num_classes * width, num_classes])
        return h.reshape(num_examples, width), weight.reshape(num_classes, width), bias

    def velocity(state: Tensor) -> Tensor:
        h, weight, bias = parts(state)
        residuals = (h @ weight.T + bias - targets) / num_examples
        return -torch.cat([(residuals @ weight).flatten(), (residuals.T @ h).flatten(), residuals.sum(0)])

    begin = torch.cat([start.flatten(), classifier.weight.flatten(), classifier.bias])
    found = map(parts, integrate(velocity, begin, times))
    return [(h, LinearClassifier(weight, bias)) for h, weight, bias in found]


def with_optimum(snapshots: Tensor, labels: Tensor, num_classes: int) -> States:
    """Features (T, n, P), each with its own least-squares layer at λ = 0."""
    return [(h, least_squares_classifier(class_statistics(h, labels, num_classes), 0.0)) for h in snapshots]


def integrate(velocity: Callable[[Tensor], Tensor], start: Tensor, times: Tensor) -> Tensor:
    """The solution (T, *shape) of dx/dt = velocity(x) from x(0) = start, float64; SciPy's DOP853, explicit, order 8.

    Raises:
        ValueError: times that are not strictly ascending from t ≥ 0 to t > 0; the integrator gives up.
    """
    from scipy.integrate import solve_ivp  # half a second to import, and no training needs it

    ascending = times.ndim == 1 and len(times) > 0 and bool(times.isfinite().all()) and bool((times.diff() > 0).all())
    if not ascending or times[0] < 0 or times[-1] <= 0:
        raise ValueError(
            f"times: expected shape (T,), strictly ascending from t >= 0 to t > 0, got {times.tolist()}. "
            "Sort the times and drop repeats."
        )
    grid = times.to(torch.float64).numpy()
    solution = solve_ivp(
        lambda _, state: velocity(torch.as_tensor(state).reshape(start.shape)).flatten().numpy(),
        (0.0, float(grid[-1])),
        start.flatten().numpy(),
        method="DOP853",
        t_eval=grid,
        rtol=_RELATIVE,
        atol=_ABSOLUTE,
    )
    if not solution.success:
        raise ValueError(f"times: expected a flow that can be integrated to {float(grid[-1])}, got: {solution.message}")
    return torch.as_tensor(solution.y).T.contiguous().reshape(-1, *start.shape)


def flow_velocity(features: Tensor, targets: Tensor) -> Tensor:
    """dX/dt = Π(−∇_X L(W_LS(X), X)), (n, P), the vector field of the renormalized flow; all float64.

    Args:
        features: X, (n, P), Σ_W = I (Σ_W is kept whatever it is).
        targets: y, (n, C), one-hot, the same number of examples in each class.
    """
    share = targets.shape[1] / len(targets)  # of one example in its class's mean
    descent = descent_on_path(features, targets)
    centered = features - features.mean(dim=0)
    deviations = centered - targets @ (targets.T @ centered) * share
    descent_deviations = descent - targets @ (targets.T @ descent) * share
    # S of Σ_W S + S Σ_W = (DᵀZ + ZᵀD)/n, in the eigenbasis of Σ_W.
    moment = deviations.T @ descent_deviations / len(deviations)
    variances, basis = torch.linalg.eigh(deviations.T @ deviations / len(deviations))
    rotated = basis.T @ (moment + moment.T) @ basis
    return descent - deviations @ (basis @ (rotated / (variances[:, None] + variances)) @ basis.T)


def descent_on_path(features: Tensor, targets: Tensor) -> Tensor:
    """−∇_X L(W_LS(X), X), (n, P) float64; Args as `flow_velocity`, Σ_T of full rank instead of Σ_W = I."""
    num_examples, num_classes = targets.shape
    centered = features - features.mean(dim=0)
    means = targets.T @ centered * (num_classes / num_examples)
    total_covariance = centered.T @ centered / num_examples
    weight = torch.linalg.solve(total_covariance, means.T).T / num_classes
    residuals = centered @ weight.T + 1 / num_classes - targets
    return -(residuals @ weight) / num_examples


def _start(features: Tensor, labels: Tensor, num_classes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Labels on the CPU, the renormalized features, the targets (n, C)."""
    labels, start = labels.to("cpu"), renormalize(features, labels, num_classes)
    return labels, start, torch.nn.functional.one_hot(labels.long(), num_classes).to(start)


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
    for _ in range(2):  # again, for the rounding that an ill-conditioned Σ_W leaves behind
        variances, basis = torch.linalg.eigh(class_statistics(whitened, labels, num_classes).within_class_covariance)
        whitened = whitened @ ((basis / variances.sqrt()) @ basis.T)
    return whitened
