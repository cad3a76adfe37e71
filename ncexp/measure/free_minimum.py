"""Which closed form is the minimum of what a run of free features descends, and how far its parameters are from it."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from ncexp.architectures.unconstrained_features import FreeFeatures
from ncexp.collapse import DeepMinimum, deep_minimum, entropy_collapse, gram_distance
from ncexp.collapse.deep_minimum import product_of
from ncexp.measure.evaluator import Subject
from ncexp.training.losses import CrossEntropy, LabelSmoothing


def free_features_of(subject: Subject) -> FreeFeatures:
    """Raises ValueError, begun with the option's name, for another network."""
    found = getattr(subject.network, "backbone", None)
    if not isinstance(found, FreeFeatures):
        raise ValueError(
            "minimum: expected architecture=unconstrained_features with regime=plain or on_path, whose minimum is "
            f"known, got {type(found or subject.network).__name__}. Leave minimum out."
        )
    return found


def minimum_of(subject: Subject) -> DeepMinimum | str:
    """The global minimum of loss and decay, or in words why none is known.

    Known are: any multiple of the MSE, of classes or targets, with linear layers (`deep_minimum`); cross-entropy, also
    with label smoothing, of one layer and classes of equal size (`entropy_collapse`).
    """
    backbone, layer, decays = free_features_of(subject), subject.last_layer, subject.decays
    if backbone.rectifies:
        return "with ReLU between the layers no theorem gives the minimum"
    if decays is None:
        return "the decay is no part of the objective, or not known"
    if still := [name for name, one in subject.network.named_parameters() if not one.requires_grad]:
        return f"{still[0]} is not trained"
    if "classifier.weight" not in decays:
        return "the classifier is fixed"
    if least := [name for name, decay in decays.items() if decay == 0 and name != "classifier.bias"]:
        return f"without decay of {least[0]} no minimum is attained"
    given = [decay for name, decay in decays.items() if name != "classifier.bias"]
    labels, width = subject.splits["train"].labels.cpu(), layer.in_features
    scale = getattr(subject.criterion, "half_mse_scale", None)
    try:
        if scale is not None:
            targets = labels if subject.of_targets else functional.one_hot(labels, layer.out_features)
            return deep_minimum(targets.double(), width, given, decays.get("classifier.bias"), scale)
        if isinstance(subject.criterion, CrossEntropy | LabelSmoothing):
            sizes = labels.bincount(minlength=layer.out_features)
            if int(sizes.max()) > int(sizes.min()):
                return "cross-entropy with classes of unequal size has no closed form"
            smoothing = getattr(subject.criterion, "smoothing", 0.0)
            return _in_order(entropy_collapse(len(sizes), int(sizes[0]), width, given, smoothing), labels)
    except ValueError as error:
        return str(error)
    return f"no theorem gives the minimum of {type(subject.criterion).__name__}"


def _in_order(found: DeepMinimum, labels: Tensor) -> DeepMinimum:
    """With the rows of H at the places of the labels, instead of class by class."""
    table, *weights = found.factors
    ordered = torch.empty_like(table)
    ordered[labels.argsort(stable=True)] = table
    return DeepMinimum(found.loss, found.scales, [ordered, *weights], found.bias)


def distances(subject: Subject, least: DeepMinimum | str, loss: float) -> Iterator[tuple[str, float]]:
    """``minimum_excess``, F/F* − 1; ``minimum_outputs``, ‖Z − Z*‖/‖Z*‖ with Z = W_k … W_1 Hᵀ; ``minimum_features`` and
    ``minimum_weights``, ‖G/‖G‖ − G*/‖G*‖‖ of the Gram matrices of the means of H, of targets of C_yh, and of W_k … W_1.

    loss: without decay. nan where no minimum is known, or where what is compared is 0 at it.
    """
    names = ("minimum_excess", "minimum_outputs", "minimum_features", "minimum_weights")
    if isinstance(least, str):
        yield from ((name, math.nan) for name in names)
        return
    backbone, labels = free_features_of(subject), subject.splits["train"].labels.cpu()
    hidden = [layer.weight for layer in backbone.layers if isinstance(layer, nn.Linear)]
    found = [one.detach().cpu() for one in (backbone.table, *hidden, subject.last_layer.weight)]
    assert subject.decays is not None
    parameters = dict(subject.network.named_parameters())
    squares = {name: float(parameters[name].detach().square().sum()) for name in subject.decays}
    value = loss + sum(decay / 2 * squares[name] for name, decay in subject.decays.items())
    outputs, expected = product_of(found), least.outputs
    if subject.of_targets:
        chosen = labels.double() - labels.double().mean(0)
    else:
        chosen = functional.one_hot(labels, outputs.shape[1]).double()
        chosen = chosen / chosen.sum(0)
    size = float(expected.norm())
    yield names[0], value / least.loss - 1
    yield names[1], float((outputs - expected).norm()) / size if size else math.nan
    for name, rows, others in zip(names[2:], _compared(found, chosen), _compared(least.factors, chosen), strict=True):
        yield name, gram_distance(rows @ rows.T, others @ others.T)


def _compared(factors: list[Tensor], chosen: Tensor) -> tuple[Tensor, Tensor]:
    """Class means of H, or C_yh, and W_k … W_1, each (m, P); chosen: (n, m), what makes them of H."""
    identity = torch.eye(factors[0].shape[1], dtype=torch.float64)
    return chosen.T @ factors[0], product_of([identity, *factors[1:]]).T
