"""Gradient flow of free features that are not renormalized: with the least-squares layer, or with a trained one.

What `ncexp.collapse.gradient_flow` integrates with Σ_W = I kept, HPD22's theorem, without that. With rows h_i of H,
residuals R = H Wᵀ + 1 bᵀ − Y and L = ‖R‖²/(2n) at λ = 0:

    on the path    dH/dt = −(1/n) R W with (W, b) = (W_LS, b_LS) of H at every time (gradient_flow.py has why);
    plain          dH/dt = −(1/n) R W, dW/dt = −(1/n) Rᵀ H, db/dt = −(1/n) Rᵀ 1.

Known of the first, from Σ_W = I: ω_j(t) = ω_j(0) exp(t/(n (C + ω_j(0)²))); of the second: WᵀW − HᵀH is constant.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ncexp.collapse.class_statistics import class_statistics
from ncexp.collapse.gradient_flow import check_times, descent_on_path, integrate, renormalize
from ncexp.collapse.least_squares import least_squares_classifier
from ncexp.collapse.linear_classifier import LinearClassifier


@dataclass(frozen=True, eq=False)
class FreeTrajectory:
    """Free features and their last layer at the asked times, all float64."""

    times: Tensor
    """t, (T,)."""
    snapshots: Tensor
    """H at each time, (T, n, P)."""
    classifiers: list[LinearClassifier]
    """The last layer at each time."""


def on_path_gradient_flow(features: Tensor, labels: Tensor, num_classes: int, times: Tensor) -> FreeTrajectory:
    """Integrate the gradient flow of L_LS(H) from X = Σ_W^{-1/2} H of the given features: regime=on_path in continuous
    time. Args and Raises as `renormalized_gradient_flow`.
    """
    check_times(times)
    start = renormalize(features, labels, num_classes)
    targets = torch.nn.functional.one_hot(labels.long(), num_classes).to(start)
    states = integrate(lambda h: descent_on_path(h.reshape(start.shape), targets).flatten(), start.flatten(), times)
    snapshots = states.reshape(-1, *start.shape)
    layers = [least_squares_classifier(class_statistics(one, labels, num_classes), 0.0) for one in snapshots]
    return FreeTrajectory(times.double(), snapshots, layers)


def plain_gradient_flow(
    features: Tensor, classifier: LinearClassifier, labels: Tensor, times: Tensor
) -> FreeTrajectory:
    """Integrate the gradient flow of L(W, b, H) from X = Σ_W^{-1/2} H and the given layer: regime=plain in continuous
    time.

    Args:
        features, labels, times: as for `renormalized_gradient_flow`.
        classifier: (W, b) at t = 0, with bias.

    Raises:
        ValueError: as `renormalized_gradient_flow`; a classifier without bias.
    """
    check_times(times)
    if classifier.bias is None:
        raise ValueError("classifier: expected one with bias, got none. Pass zeros for a bias that begins at 0.")
    num_classes, (num_examples, width) = classifier.num_classes, features.shape
    start = renormalize(features, labels, num_classes)
    targets = torch.nn.functional.one_hot(labels.long(), num_classes).to(start)
    sizes = [num_examples * width, num_classes * width, num_classes]
    shapes = [(num_examples, width), (num_classes, width), (num_classes,)]

    def parts(state: Tensor) -> list[Tensor]:
        return [part.reshape(shape) for part, shape in zip(state.split(sizes), shapes, strict=True)]

    def velocity(state: Tensor) -> Tensor:
        h, weight, bias = parts(state)
        residuals = (h @ weight.T + bias - targets) / num_examples
        return -torch.cat([(residuals @ weight).flatten(), (residuals.T @ h).flatten(), residuals.sum(0)])

    begin = torch.cat([start.flatten(), classifier.weight.flatten(), classifier.bias])
    found = [parts(state) for state in integrate(velocity, begin, times)]
    layers = [LinearClassifier(weight, bias) for _, weight, bias in found]
    return FreeTrajectory(times.double(), torch.stack([h for h, _, _ in found]), layers)
