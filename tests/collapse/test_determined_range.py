"""λ = 0 on features that are rank deficient to their own precision: L_LS and ω are those on the range.

The oracle fits the coordinates that the features were made of, in float64, by NumPy's least squares.
"""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ncexp.collapse import (
    LinearClassifier,
    central_path_losses,
    class_statistics,
    decompose_mse,
    distance_to_path,
    least_squares_classifier,
    snr_spectrum,
)

NUM_CLASSES, NUM_EXAMPLES, INNER, WIDTH = 10, 1400, 16, 64
LABELS = torch.arange(NUM_EXAMPLES) % NUM_CLASSES
# Features carry their rounding into L_LS: sqrt(P) times ε_f of their size, over their within-class deviation.
# Of float64 features that are copies to 1e-8 the mean of both is fitted.
ROUNDED = {torch.float64: 1e-9, torch.float32: 1e-5, torch.bfloat16: 1e-3}


def gaussian(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def inner_features(width: int = INNER, collapse: float = 1.0) -> Tensor:
    return 0.7 * gaussian(0, NUM_CLASSES, width)[LABELS] + collapse * gaussian(1, NUM_EXAMPLES, width)


def least_loss(coordinates: Tensor) -> float:
    """L_LS of a layer with a bias, straight from the examples."""
    extended = np.c_[coordinates.double().numpy(), np.ones(len(coordinates))]
    targets = np.eye(NUM_CLASSES)[LABELS.numpy()]
    solution = np.linalg.lstsq(extended, targets, rcond=1e-13)[0]
    return float(((extended @ solution - targets) ** 2).sum(1).mean() / 2)


def bottleneck(dtype: torch.dtype, collapse: float = 1.0, offset: float = 0.0) -> tuple[Tensor, Tensor, int]:
    """Features (n, P) computed in `dtype`, the coordinates they carry, their rank."""
    inner = inner_features(collapse=collapse).to(dtype)
    outer = inner @ (gaussian(2, INNER, WIDTH) / 4).to(dtype) + (offset * gaussian(3, WIDTH)).to(dtype)
    return outer, inner, INNER


def layer_normed(dtype: torch.dtype, affine: bool, shift: float = 0.0) -> tuple[Tensor, Tensor, int]:
    features = torch.nn.functional.layer_norm((inner_features(WIDTH) + shift).to(dtype), (WIDTH,))
    coordinates = features[:, :-1]
    if affine:
        features = features * (0.5 + gaussian(4, WIDTH).abs()).to(dtype) + gaussian(5, WIDTH).to(dtype)
    return features, coordinates, WIDTH - 1


def copies(size: float) -> tuple[Tensor, Tensor, int]:
    """Half of the units are the other half but for deviations of that size."""
    own = inner_features(WIDTH // 2)
    return torch.cat([own, own + size * gaussian(6, *own.shape)], 1), own, WIDTH // 2


CASES = {
    "bottleneck": lambda: bottleneck(torch.float32),
    "bottleneck in float64": lambda: bottleneck(torch.float64),
    "bottleneck in bfloat16": lambda: bottleneck(torch.bfloat16),
    "bottleneck with offset": lambda: bottleneck(torch.float32, offset=3),
    "bottleneck in collapse": lambda: bottleneck(torch.float32, collapse=0.03),
    "LayerNorm": lambda: layer_normed(torch.float32, affine=False),
    "LayerNorm in float64": lambda: layer_normed(torch.float64, affine=False),
    "LayerNorm with affine": lambda: layer_normed(torch.float32, affine=True),
    "LayerNorm of an offset": lambda: layer_normed(torch.float32, affine=True, shift=5.0),
    "no bottleneck in deep collapse": lambda: (*2 * [inner_features(WIDTH, collapse=3e-6).float()], WIDTH),
    "copies to 1e-8": lambda: copies(1e-8),
    "copies to 1e-10": lambda: copies(1e-10),
}


@pytest.mark.parametrize("case", CASES)
def test_losses_of_rank_deficient_features_are_of_their_coordinates(case):
    features, coordinates, rank = CASES[case]()
    statistics, width = class_statistics(features, LABELS, NUM_CLASSES), features.shape[1]
    expected, rounded = least_loss(coordinates), ROUNDED[features.dtype]
    spectrum = snr_spectrum(statistics)
    assert (spectrum.undefined, spectrum.rank) == ("", rank)
    of_spectrum = [float(loss) for loss in central_path_losses(spectrum.singular_values, NUM_CLASSES)]
    weight, bias = gaussian(7, NUM_CLASSES, width), torch.full((NUM_CLASSES,), 0.1)
    for size in (0.0, 0.01, 0.1, 10.0):  # of a layer, from nothing to far off
        measured = decompose_mse(statistics, LinearClassifier(size * weight, bias), 0.0)
        assert measured.loss_ls == pytest.approx(expected, rel=rounded)
        assert 0 <= measured.loss_ls <= measured.loss
        # Both are of the same statistics: only float64 and a condition number below 1e3 are between them.
        terms = [measured.loss_ls, measured.loss_nc1, measured.loss_nc23]
        assert terms == pytest.approx(of_spectrum, rel=1e-11)
    # W̃_LS reaches it on the examples, and a layer from training is a finite distance away.
    residuals = least_squares_classifier(statistics, 0.0)(features) - torch.nn.functional.one_hot(LABELS, NUM_CLASSES)
    assert float(residuals.square().sum(1).mean()) / 2 == pytest.approx(expected, rel=10 * rounded)
    for layer in (LinearClassifier(0.1 * weight, bias), LinearClassifier(0.1 * weight)):
        distance = distance_to_path(statistics, layer, 0.0)
        assert 0 <= distance.perp_share <= 1
        assert 0.1 < distance.classifier_distance < 100
        assert 0 < distance.prediction_angle < 180


def collapsed(
    dtype: torch.dtype,
    spread: float,
    *,
    num_classes: int = 6,
    num_features: int = 32,
    per_class: int = 40,
    unequal: bool = False,
    additive: bool = False,
    relu: bool = True,
    offset: float = 0.0,
    near_copies: float | None = None,
    bottleneck_width: int | None = None,
    seed: int = 0,
) -> tuple[Tensor, Tensor]:
    """Features of a collapsed network: class means of size 1, clearly apart, with a spread down to their rounding."""
    counts = torch.full((num_classes,), per_class)
    if unequal:
        counts[0], counts[-1] = 2, 3 * per_class
    labels = torch.arange(num_classes).repeat_interleave(counts)
    width = num_features if bottleneck_width is None else bottleneck_width
    means = gaussian(seed, num_classes, width)
    means = means.relu() if relu else means
    noise = spread * gaussian(seed + 1, len(labels), width)
    features = means[labels] + noise if additive else means[labels] * (1 + noise)
    if bottleneck_width is not None:
        features = features.to(dtype) @ (gaussian(seed + 2, width, num_features) / width**0.5).to(dtype)
    if near_copies is not None:
        features = features.double()
        half = features[:, : features.shape[1] // 2]
        features = torch.cat([half, half * (1 + near_copies * gaussian(seed + 3, *half.shape))], 1)
    return (features.double() + offset).to(dtype), labels


def modest_layer(features: Tensor, labels: Tensor, bias: bool, size: float = 1e-6) -> LinearClassifier:
    """What training leaves: a layer fitted with a small decay."""
    extended = torch.cat([features.double(), torch.ones(len(features), int(bias))], 1).double()
    targets = torch.nn.functional.one_hot(labels).double()
    moments = extended.T @ extended / len(features) + size * torch.eye(extended.shape[1]).double()
    solution = torch.linalg.solve(moments, extended.T @ targets / len(features)).T
    width = features.shape[1]
    return LinearClassifier(solution[:, :width].contiguous(), solution[:, -1].contiguous() if bias else None)


@pytest.mark.slow
@given(
    dtype=st.sampled_from([torch.float64, torch.float32, torch.bfloat16, torch.float16]),
    # In roundings of the dtype.
    spread=st.sampled_from([0.0, 0.1, 0.5, 1.0, 1.5, 3.0, 10.0, 1e3, 1e5]),
    num_classes=st.integers(2, 6),
    num_features=st.sampled_from([2, 5, 16, 40]),
    per_class=st.integers(2, 40),
    unequal=st.booleans(),
    additive=st.booleans(),
    relu=st.booleans(),
    offset=st.sampled_from([0.0, 1.0, 30.0]),
    near_copies=st.sampled_from([None, None, 0.0, 1e-8, 1e-3]),
    bottleneck_width=st.sampled_from([None, None, 1, 3]),
    bias=st.booleans(),
    decay=st.sampled_from([1e-12, 1e-6, 1e-2]),
    ridge=st.sampled_from([0.0, 0.0, 1e-18, (1e-12, 0.0)]),
    seed=st.integers(0, 2**20),
)
@settings(max_examples=200, deadline=None)
def test_loss_ls_exceeds_loss_by_no_more_than_rounding_features_changes(
    dtype, spread, num_classes, bias, decay, ridge, **kind
):
    """√L_LS <= √L + ‖W∘ρ‖/√2, with ρ straight from the examples: what rounding shared by all units does to L."""
    features, labels = collapsed(dtype, min(spread * torch.finfo(dtype).eps, 0.3), num_classes=num_classes, **kind)
    check_bound(features, labels, num_classes, modest_layer(features, labels, bias, decay), ridge)


# Where float64 was wrong: units that differ in spread by ten orders, and in scale, with few examples.
CORNERS = {
    "a deep unit before its near copy": (2, 1e3, False, {"num_features": 2, "per_class": 2, "seed": 16737}),
    "the same, four classes": (4, 10.0, False, {"num_features": 2, "per_class": 2, "seed": 718965, "additive": True}),
    "weights of 1e18": (3, 1.0, False, {"num_features": 5, "per_class": 3, "unequal": True, "seed": 858816}),
    "units below the rounding of others": (2, 1.5, True, {"num_features": 16, "per_class": 4, "seed": 27615}),
    "more classes than weights of 1e8 can send": (
        4, 0.5, False, {"num_features": 2, "per_class": 2, "near_copies": 1e-8, "bottleneck_width": 3, "seed": 442334},
    ),
    "exact copies": (3, 1e5, False, {"num_features": 5, "near_copies": 0.0, "unequal": True, "seed": 934682}),
}  # fmt: skip


@pytest.mark.parametrize("corner", CORNERS)
def test_loss_ls_is_below_loss_in_corners_of_float64(corner):
    num_classes, spread, bias, given = CORNERS[corner]
    for relu, additive in itertools.product((True, False), repeat=2):
        kind = {"per_class": 2, "near_copies": 1e-3, "relu": relu, "additive": additive} | given
        features, labels = collapsed(torch.float64, spread * 2.0**-52, num_classes=num_classes, **kind)
        check_bound(features, labels, num_classes, modest_layer(features, labels, bias, 1e-12))


def test_loss_ls_is_the_same_for_copies_of_a_unit_with_an_offset():
    """One unit, and two copies of it beside a common offset: sums of few bits, so that the offset rounds nothing."""
    unit = torch.tensor([[3, -5, 8, 1, -9, 2, 4, -7, 6, -1, 2, 5]], dtype=torch.float64).T * 2.0**-36
    labels = torch.arange(12) // 4
    own = modest_layer(unit, labels, bias=True)
    alone = decompose_mse(class_statistics(unit, labels, 3), own, 0.0)
    pair = LinearClassifier(torch.cat([own.weight, 0 * own.weight], 1), own.bias)
    both = decompose_mse(class_statistics(torch.cat([unit, unit], 1) + 32, labels, 3), pair, 0.0)
    assert [both.loss_ls, both.loss_nc1, both.loss_nc23] == pytest.approx(
        [alone.loss_ls, alone.loss_nc1, alone.loss_nc23], rel=1e-11
    )


def check_bound(
    features: Tensor,
    labels: Tensor,
    num_classes: int,
    layer: LinearClassifier,
    ridge: float | tuple[float, float] = 0.0,
) -> None:
    epsilon = torch.finfo(features.dtype).eps
    statistics = class_statistics(features, labels, num_classes)
    measured = decompose_mse(statistics, layer, ridge)
    examples, width = features.double(), features.shape[1]
    deviations = (examples - statistics.class_means[labels]).square().mean(0)
    shared = width if features.dtype in (torch.float64, torch.float32) else 1
    # Of sums in float64: a variance below 100 P² 2⁻⁵² of the unit's is not known to 1 %.
    squares = shared * (epsilon * examples.abs().amax(0)).square() + 100 * width**2 * 2.0**-52 * deviations
    moved = float((layer.weight.square() @ squares).sum().sqrt())
    floor = 4 * len(examples) * 2.0**-52 * (1 + float(layer.weight.norm()) * float(examples.abs().max()) * width)
    assert measured.loss_ls >= 0
    # Of Σ_W that is all but singular in float64 itself, κ = 1e15, nine digits of L_LS are left.
    assert math.sqrt(2 * measured.loss_ls) <= math.sqrt(2 * max(measured.loss, 0)) * (1 + 1e-9) + 2 * moved + floor
    assert measured.residual * measured.loss <= measured.loss_rounding
    assert measured.loss_ls <= measured.loss + measured.loss_rounding
    share = distance_to_path(statistics, layer, ridge).perp_share
    assert 0 <= share <= 1 or math.isnan(share)
