"""Collapse metrics where class means or variances are rounding alone, vanish or overflow: undefined, or as without."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from drawn_features import draw
from torch import Tensor

from ncexp.collapse import CollapseMetrics, LinearClassifier, class_statistics, measure_collapse

# Well-conditioned cases: a few hundred roundings, and the condition number of a random covariance.
ROUNDING = 1e-10
NAMES = [field.name for field in dataclasses.fields(CollapseMetrics)]

# What rounding adds to the variance of features that a bottleneck computes in the dtype, and to the means' geometry.
BEHIND_A_BOTTLENECK = {torch.float64: 1e-9, torch.float32: 1e-5, torch.bfloat16: 1e-2, torch.float16: 1e-3}


@pytest.mark.parametrize("dtype", BEHIND_A_BOTTLENECK)
@pytest.mark.parametrize(
    ("num_classes", "num_features", "width", "per_class"),
    [
        *((10, 64, 2, 100), (5, 32, 3, 50), (10, 6, 4, 100)),
        *(
            pytest.param(*one, marks=pytest.mark.slow)
            for one in ((10, 64, 2, 1000), (10, 64, 5, 100), (10, 512, 8, 100))
        ),
    ],
)
@pytest.mark.parametrize("spread", [0.3, 1e-2])
def test_nc1_behind_a_bottleneck_is_that_of_the_means_directions(
    num_classes, num_features, width, per_class, spread, dtype
):
    """Class means that span fewer directions than C − 1: rounding fills the others, and is no direction."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(num_classes).repeat_interleave(per_class)
    inner = torch.randn(num_classes, width, generator=generator).double()[labels]
    inner = inner + spread * torch.randn(inner.shape, generator=generator).double()
    exact = inner @ torch.randn(width, num_features, generator=generator).double() / width**0.5
    statistics = class_statistics(exact.to(dtype), labels, num_classes)
    metrics = measure_collapse(statistics, LinearClassifier(statistics.class_means))
    of_exact = class_statistics(exact, labels, num_classes)
    values, vectors = np.linalg.eigh(of_exact.between_class_covariance.numpy())
    values, vectors = values[-width:], vectors[:, -width:]
    spreads = np.einsum("pk,pq,qk->k", vectors, of_exact.within_class_covariance.numpy(), vectors)
    sizes = np.linalg.svd((of_exact.class_means - of_exact.class_means.mean(0)).numpy(), compute_uv=False)[:width]
    shares = sizes / sizes.sum()
    rel = BEHIND_A_BOTTLENECK[dtype]
    assert metrics.rank_means == width
    assert math.isnan(metrics.nc1_trace)
    # The features' own rounding, squared, is a visible share of a small variance.
    of_rounding = (statistics.feature_eps / spread) ** 2
    assert metrics.nc1_trace_on_range == pytest.approx((spreads / values).sum() / num_classes, rel=rel + of_rounding)
    assert metrics.effective_rank_means == pytest.approx(np.exp(-(shares * np.log(shares)).sum()), rel=rel)
    if statistics.feature_eps < spread / 100:  # else the noise of rounding has a say in how many directions there are
        assert metrics.effective_rank_within <= width


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_class_mean_that_is_rounding_has_no_angle(dtype):
    """Class 0 lies where the mean of the class means is, but for the rounding of the dtype."""
    features, labels, classifier = draw(4, 6, 400)
    others = torch.stack([features[labels == c].mean(0) for c in (1, 2, 3)])
    # Spread over less than a rounding, so that it does not average out.
    features[labels == 0] = others.mean(0) * (1 + torch.finfo(dtype).eps / 4)
    names = undefined_names(features.to(dtype), labels, classifier)
    assert names >= {"equiangularity_means", "maximal_angle_means", "self_duality_angle", "uniformity_means"}
    assert not names & {"nc1_ratio", "cdnv", "equinorm_means", "etf_error_means", "self_duality", "norm_ratio"}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_class_means_that_agree_to_rounding_coincide(dtype):
    """Two classes with one mean; their examples differ, their rounding is all that tells their means apart."""
    features, labels, classifier = draw(4, 6, 400)
    apart = features[labels == 1] - features[labels == 1].mean(0)
    center = features[labels == 0].mean(0)
    features = torch.cat([features[labels != 1], center + apart])
    labels = torch.cat([labels[labels != 1], labels[labels == 1]])
    statistics = class_statistics(features.to(dtype), labels, 4)
    metrics = measure_collapse(statistics, classifier)
    assert metrics.rank_means == 2
    for undefined in (metrics.nc1_trace, metrics.nc1_snr, metrics.cdnv):
        assert math.isnan(undefined)
    assert metrics.nc1_trace_on_range > 0


def test_dead_features_leave_nc1_as_it_is_without_them():
    features, labels, classifier = draw(9, 4, 100)
    dead = torch.nn.functional.pad(features, (0, 2), value=0.1)
    weight = torch.nn.functional.pad(classifier.weight, (0, 2))
    before = measure_collapse(class_statistics(features, labels, 9), classifier)
    after = measure_collapse(class_statistics(dead, labels, 9), LinearClassifier(weight))
    assert after.nc1_trace == pytest.approx(before.nc1_trace, rel=ROUNDING)
    assert after.nc1_snr == pytest.approx(before.nc1_snr, rel=ROUNDING)


def undefined_names(features: Tensor, labels: Tensor, classifier: LinearClassifier) -> set[str]:
    statistics = class_statistics(features, labels, classifier.num_classes)
    return {name for name, value in vars(measure_collapse(statistics, classifier)).items() if math.isnan(value)}


FEATURES, LABELS, LAYER = draw(4, 6, 100)
NO_ROW = torch.tensor([1.0, 1, 0, 1])[:, None].double()
OF_ROWS = {"equiangularity_classifier", "maximal_angle_classifier"}
OF_LAYER = OF_ROWS | {"equinorm_classifier", "etf_error_classifier", "nc0_classifier"}
UNIFORMITY = {"uniformity_means", "uniformity_means_variance"}
#: Features, labels, layer → which numbers are undefined at least, and at most.
UNDEFINED = {
    "two class means coincide": (
        (torch.cat([FEATURES[LABELS < 3], FEATURES[LABELS == 1]]),
         torch.cat([LABELS[LABELS < 3], LABELS[LABELS == 1] + 2]), LAYER),
        {"nc1_trace"}, {"nc1_trace", "nc1_snr", "cdnv", *UNIFORMITY},
    ),
    "three classes share one dimension": (draw(3, 1, 100), UNIFORMITY, UNIFORMITY),
    "all class means are equal": (
        (torch.ones(6, 4), torch.arange(6) % 3, draw(3, 4, 10)[2]),
        *[{*NAMES} - OF_LAYER - {"uniform_duality", "rank_means"}] * 2,
    ),
    "a row of the layer is 0": (
        (FEATURES, LABELS, LinearClassifier(NO_ROW * LAYER.weight)), *[OF_ROWS | {"self_duality_angle"}] * 2
    ),
    "the layer is 0": (
        (FEATURES, LABELS, LinearClassifier(0 * LAYER.weight)),
        *[OF_LAYER | {"self_duality", "self_duality_product", "self_duality_angle"}] * 2,
    ),
    "no variation within classes": (
        (LAYER.weight.repeat(2, 1), torch.arange(8) % 4, LAYER), *[{"nc1_snr", "effective_rank_within"}] * 2
    ),
    "overflow": (
        (1e200 * FEATURES, LABELS, LAYER),
        {"nc1_trace", "nc1_ratio", "nc1_snr", "effective_rank_means", "effective_rank_within"},
        {*NAMES} - {"equinorm_classifier", "maximal_angle_classifier", "etf_error_classifier"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", UNDEFINED)
def test_metrics_are_undefined_and_not_an_error_where(case: str) -> None:
    given, at_least, at_most = UNDEFINED[case]
    assert at_least <= undefined_names(*given) <= at_most


@pytest.mark.parametrize("scale", [1e-140, 1e-100, 1e100, 1e149])
@pytest.mark.parametrize("of_weight", [1e-300, 1.0, 1e155, 1e300])
def test_metrics_without_scale_do_not_depend_on_it(scale, of_weight):
    features, labels, classifier = draw(5, 7, 100)
    before = vars(measure_collapse(class_statistics(features, labels, 5), classifier))
    scaled = LinearClassifier(of_weight * classifier.weight)
    after = vars(measure_collapse(class_statistics(scale * features, labels, 5), scaled))
    for name in set(NAMES) - {"uniform_duality", "norm_ratio"}:
        assert after[name] == pytest.approx(before[name], rel=ROUNDING), name


@pytest.mark.parametrize("scale", [1e-150, 1e-157, 1e-170, 1e-300])
def test_features_too_small_to_be_squared_leave_no_wrong_number(scale):
    features, labels, classifier = draw(5, 7, 100)
    before = vars(measure_collapse(class_statistics(features, labels, 5), classifier))
    after = vars(measure_collapse(class_statistics(scale * features, labels, 5), classifier))
    for name in set(NAMES) - {"uniform_duality", "norm_ratio"}:
        assert math.isnan(after[name]) or after[name] == pytest.approx(before[name], rel=ROUNDING), name
    assert {name for name in NAMES if math.isnan(after[name])} - {"norm_ratio"} == {
        *("nc1_trace", "nc1_trace_on_range", "nc1_ratio", "nc1_snr", "cdnv"),
        *("effective_rank_within", "effective_rank_means", "rank_means"),
    }
