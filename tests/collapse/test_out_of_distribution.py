"""NC5, scores and their detection: NumPy and SciPy by definition, scikit-learn, Gaussians with a known AUROC."""

import math

import numpy as np
import pytest
import torch
from drawn_features import draw
from scipy.special import expit, logsumexp, softmax
from scipy.stats import norm
from sklearn.covariance import EmpiricalCovariance
from sklearn.decomposition import PCA
from sklearn.metrics import roc_auc_score, roc_curve
from sklearn.preprocessing import StandardScaler

from ncexp.collapse import (
    LinearClassifier,
    VirtualLogit,
    auroc,
    class_statistics,
    energy,
    false_positive_rate,
    mahalanobis,
    maximum_logit,
    maximum_softmax,
    nearest_class_mean,
    neco,
    outside_orthogonality,
)

# Products and projections in float64, condition numbers below 1e3.
ROUNDING = 1e-11


def case(dtype=torch.float64, num_classes: int = 4, num_features: int = 7):
    """Train features with labels and a layer, and other features further away."""
    features, labels, classifier = draw(num_classes, num_features, 80)
    generator = torch.Generator().manual_seed(9)
    others = 1 + 2 * torch.randn(30, num_features, generator=generator, dtype=torch.float64)
    return features.to(dtype), labels, classifier, others.to(dtype)


def class_means(features: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return np.stack([features[labels == c].mean(0) for c in range(labels.max() + 1)])


# NC5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_nc5_is_the_average_cosine_about_the_origin(dtype):
    means = torch.randn(5, 8, generator=torch.Generator().manual_seed(0), dtype=dtype)
    other = means.sum(0) + 1
    rows, mean = means.double().numpy(), other.double().numpy()
    expected = np.mean([abs(row @ mean) / np.linalg.norm(row) / np.linalg.norm(mean) for row in rows])
    assert outside_orthogonality(means, other) == pytest.approx(expected, rel=ROUNDING)
    assert outside_orthogonality(1e-200 * means.double(), 1e200 * other.double()) == pytest.approx(
        expected, rel=ROUNDING
    )


def test_nc5_of_exact_cases():
    assert outside_orthogonality(torch.eye(4)[:3], torch.eye(4)[3]) == 0
    assert outside_orthogonality(torch.eye(2)[:1], torch.tensor([-3.0, 0.0])) == 1
    assert math.isnan(outside_orthogonality(torch.eye(2), torch.zeros(2)))
    assert math.isnan(outside_orthogonality(torch.zeros(1, 2), torch.ones(2)))


# Scores


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_scores_of_logits_equal_scipy(dtype):
    logits = 5 * torch.randn(20, 6, generator=torch.Generator().manual_seed(0), dtype=dtype)
    rows = logits.double().numpy()
    np.testing.assert_allclose(maximum_softmax(logits), softmax(rows, axis=1).max(1), rtol=ROUNDING)
    np.testing.assert_allclose(maximum_logit(logits), rows.max(1), rtol=0)
    np.testing.assert_allclose(energy(logits), logsumexp(rows, axis=1), rtol=ROUNDING)
    huge = torch.tensor([[2000.0, 0.0]], dtype=dtype)
    assert (float(maximum_softmax(huge)), float(energy(huge))) == (1.0, 2000.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_distances_equal_numpy(dtype):
    features, labels, _, others = case(dtype)
    statistics, rows = class_statistics(features, labels, 4), features.double().numpy()
    means = class_means(rows, labels.numpy())
    gaps = others.double().numpy()[:, None] - means
    np.testing.assert_allclose(
        nearest_class_mean(others, statistics.class_means), -np.linalg.norm(gaps, axis=2).min(1), rtol=ROUNDING
    )
    covariance = EmpiricalCovariance(assume_centered=True).fit(rows - means[labels.numpy()])
    squares = np.einsum("ncp,pq,ncq->nc", gaps, covariance.precision_, gaps).min(1)
    np.testing.assert_allclose(mahalanobis(others, statistics), -squares, rtol=1e-9)


def test_distances_keep_their_digits_in_deep_collapse():
    """Examples 1e-9 from class means that are 1e3 long: a form with ‖h‖² − 2⟨h, μ⟩ + ‖μ‖² has none."""
    generator = torch.Generator().manual_seed(0)
    means = 1e3 * torch.randn(4, 6, generator=generator, dtype=torch.float64).round()
    shifts = 2.0**-30 * torch.randint(-9, 9, (40, 6), generator=generator).double()
    labels = torch.arange(40) % 4
    found = nearest_class_mean(means[labels] + shifts, means)
    np.testing.assert_allclose(found, -torch.linalg.vector_norm(shifts, dim=1), rtol=1e-12)


def test_mahalanobis_leaves_out_what_is_not_known():
    """A copy and a constant unit: the distance is that of the other units, wherever an example lies in those."""
    features, labels, _, others = case()
    singular = torch.cat([features, features[:, :1], torch.ones(len(features), 1)], 1)
    far = torch.cat([others, others[:, :1], torch.full((30, 1), 1e3)], 1)
    expected = mahalanobis(others, class_statistics(features, labels, 4))
    found = mahalanobis(far, class_statistics(singular, labels, 4))
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    collapsed = class_statistics(torch.eye(4)[torch.arange(12) % 4], torch.arange(12) % 4, 4)
    with pytest.raises(ValueError, match="statistics: expected within-class variation above the rounding"):
        mahalanobis(torch.eye(4), collapsed)


def test_mahalanobis_does_not_change_under_invertible_maps():
    features, labels, _, others = case()
    turn = torch.randn(7, 7, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    moved = mahalanobis(others @ turn + 5, class_statistics(features @ turn + 5, labels, 4))
    np.testing.assert_allclose(moved, mahalanobis(others, class_statistics(features, labels, 4)), rtol=1e-8)


@pytest.mark.parametrize("num_directions", [1, 3, 7])
@pytest.mark.parametrize("standardize", [False, True])
@pytest.mark.parametrize("scaled", [False, True])
def test_neco_equals_the_paper_and_its_code(num_directions, standardize, scaled):
    """Eq. 6 as printed; with StandardScaler and PCA as in the authors' code."""
    features, labels, classifier, others = case()
    logits = classifier(others) if scaled else None
    found = neco(others, class_statistics(features, labels, 4), num_directions, logits, standardize)
    train, rows = features.numpy(), others.numpy()
    if standardize:
        scaler = StandardScaler().fit(train)
        train, rows = scaler.transform(train), scaler.transform(rows)
    principal = PCA(num_directions).fit(train).components_
    expected = np.linalg.norm(rows @ principal.T, axis=1) / np.linalg.norm(rows, axis=1)
    if scaled:
        expected = expected * logits.numpy().max(1)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_neco_of_exact_cases():
    features, labels = torch.randn(40, 3).double(), torch.arange(40) % 2
    flat = torch.cat([features, torch.zeros(40, 2)], 1)
    statistics = class_statistics(flat, labels, 2)
    inside, outside, nowhere = torch.eye(5)[:3], torch.eye(5)[3:], torch.zeros(1, 5)
    assert neco(torch.cat([inside, outside]), statistics, 3).tolist() == pytest.approx([1, 1, 1, 0, 0], abs=1e-14)
    assert neco(nowhere, statistics, 3).isnan().all()
    for count in (0, 4):
        with pytest.raises(ValueError, match="num_directions: expected 1 to 3, got"):
            neco(inside, statistics, count)
    # A constant unit stays at deviation 1, as StandardScaler has it.
    scaled = neco(torch.cat([inside, outside]), statistics, 3, standardize=True)
    assert scaled[3] < scaled[0]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("num_directions", [1, 4, 6])
def test_vim_equals_its_formulas(bias, num_directions):
    features, labels, classifier, others = case()
    layer = LinearClassifier(classifier.weight, classifier.bias if bias else None)
    statistics = class_statistics(features, labels, 4)
    fitted = VirtualLogit.fit(statistics, layer, num_directions, features.split(33))
    weight, own_bias = layer.weight.numpy(), layer.bias.numpy() if bias else np.zeros(4)
    origin = -np.linalg.pinv(weight) @ own_bias
    centered = features.numpy() - origin
    residual_space = np.linalg.svd(centered)[2][num_directions:].T
    lengths = np.linalg.norm(centered @ residual_space, axis=1)
    scale = (features.numpy() @ weight.T + own_bias).max(1).sum() / lengths.sum()
    logits = others.numpy() @ weight.T + own_bias
    virtual = scale * np.linalg.norm((others.numpy() - origin) @ residual_space, axis=1)
    assert fitted.scale == pytest.approx(scale, rel=1e-9)
    np.testing.assert_allclose(fitted(others), logsumexp(logits, axis=1) - virtual, rtol=1e-8)
    # Minus the log-odds of the paper's score, the probability of the virtual logit.
    probability = softmax(np.c_[logits, virtual], axis=1)[:, -1]
    np.testing.assert_allclose(expit(-fitted(others).numpy()), probability, rtol=1e-8)


def test_vim_needs_a_residual():
    features, labels, classifier, _ = case()
    statistics = class_statistics(features, labels, 4)
    for count in (0, 7):
        with pytest.raises(ValueError, match="num_directions: expected 1 to 6, got"):
            VirtualLogit.fit(statistics, classifier, count, [features])
    flat = features * torch.tensor([1, 1, 1, 1, 0, 0, 0])
    layer = LinearClassifier(classifier.weight)
    with pytest.raises(ValueError, match="train_features: expected residuals outside of 5 directions"):
        VirtualLogit.fit(class_statistics(flat, labels, 4), layer, 5, [flat])
    with pytest.raises(ValueError, match="train_features: expected residuals"):
        VirtualLogit.fit(statistics, classifier, 3, [])


# Detection


def by_pairs(inside: np.ndarray, outside: np.ndarray) -> float:
    gaps = inside[:, None] - outside
    return ((gaps > 0).sum() + 0.5 * (gaps == 0).sum()) / gaps.size


@pytest.mark.parametrize("seed", range(20))
def test_detection_equals_brute_force_and_scikit_learn(seed):
    """With many ties, and sizes that 20 does not divide."""
    generator = np.random.default_rng(seed)
    inside = generator.integers(1, 9, generator.integers(1, 60)).astype(float)
    outside = generator.integers(0, 8, generator.integers(1, 60)).astype(float)
    scores, truth = np.r_[inside, outside], np.r_[np.ones(len(inside)), np.zeros(len(outside))]
    found = auroc(torch.from_numpy(inside), torch.from_numpy(outside))
    assert found == pytest.approx(by_pairs(inside, outside), rel=1e-15)
    assert found == pytest.approx(roc_auc_score(truth, scores), rel=1e-12)
    rates = roc_curve(truth, scores, drop_intermediate=False)
    for level in (0.5, 0.8, 0.95, 1.0):
        expected = min((outside >= threshold).mean() for threshold in inside if (inside >= threshold).mean() >= level)
        ours = false_positive_rate(torch.from_numpy(inside), torch.from_numpy(outside), level)
        assert ours == expected
        assert ours == pytest.approx(rates[0][rates[1] >= level][0], rel=1e-14)


def test_points_on_a_straight_line_count():
    """scikit-learn's roc_curve leaves them out by default: of 20 scores, the same on either side, it keeps the ends."""
    scores = torch.arange(20.0)
    truth, both = np.r_[np.ones(20), np.zeros(20)], np.r_[scores, scores]
    assert false_positive_rate(scores, scores) == 0.95
    assert roc_curve(truth, both, drop_intermediate=False)[0][19] == 0.95
    rates = roc_curve(truth, both)
    assert rates[0][rates[1] >= 0.95][0] == 1.0


@pytest.mark.parametrize("shift", [0.0, 0.5, 2.0])
def test_auroc_of_gaussians_is_known(shift):
    """Φ(δ/√2) for unit variances δ apart; FPR at 95 % is Φ(1.645 − δ). Quantiles instead of a sample: no noise."""
    places = (torch.arange(4000) + 0.5) / 4000
    scores = torch.from_numpy(norm.ppf(places.double().numpy()))
    assert auroc(scores + shift, scores) == pytest.approx(norm.cdf(shift / math.sqrt(2)), abs=1e-3)
    assert false_positive_rate(scores + shift, scores) == pytest.approx(norm.cdf(norm.ppf(0.95) - shift), abs=1e-3)


def test_detection_of_exact_cases():
    one, other = torch.tensor([1.0]), torch.tensor([0.0])
    assert (auroc(one, other), auroc(other, one), auroc(one, one)) == (1, 0, 0.5)
    assert (false_positive_rate(one, other), false_positive_rate(other, one)) == (0, 1)
    infinite = torch.tensor([math.inf, -math.inf])
    assert auroc(infinite, other) == 0.5
    assert auroc(infinite, infinite) == 0.5
    # 0.95 · 20 and 0.95 · 40 are whole, whatever their rounding.
    for size, count in ((20, 19), (40, 38), (100, 95), (21, 20)):
        scores = torch.arange(float(size))
        assert false_positive_rate(scores, scores) == count / size
    assert false_positive_rate(torch.arange(100.0), torch.arange(100.0), 0.55) == 0.55  # 0.55 · 100 is above 55


def test_scores_detect_what_lies_outside():
    """All of them, on Gaussian classes and features far from the classes' plane."""
    features, labels, _, _ = case(num_features=9)
    statistics = class_statistics(features, labels, 4)
    means = statistics.class_means
    layer = LinearClassifier(means - means.mean(0), -(means.square().sum(1) - means.mean(0).square().sum()) / 2)
    generator = torch.Generator().manual_seed(4)
    outside = means.mean(0) + 20 * torch.linalg.svd(means - means.mean(0)).Vh[4:].mean(0)
    outside = outside + 0.3 * torch.randn(60, 9, generator=generator, dtype=torch.float64)
    fitted = VirtualLogit.fit(statistics, layer, 3, [features])
    for score in (
        fitted,
        lambda rows: mahalanobis(rows, statistics),
        lambda rows: nearest_class_mean(rows, means),
        lambda rows: neco(rows - means.mean(0), class_statistics(features - means.mean(0), labels, 4), 3),
    ):
        assert auroc(score(features), score(outside)) > 0.95


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: outside_orthogonality(torch.eye(2), torch.ones(3)), r"outside_mean: expected shape \(P,\)"),
        (lambda: outside_orthogonality(torch.eye(2) / 0, torch.ones(2)), "class_means: expected finite values"),
        (lambda: outside_orthogonality(torch.eye(2), torch.ones(2) / 0), "outside_mean: expected finite values"),
        (lambda: energy(torch.zeros(3)), r"logits: expected a floating tensor \(n, C\)"),
        (lambda: maximum_logit(torch.zeros(3, 1)), r"logits: expected a floating tensor \(n, C\)"),
        (lambda: maximum_softmax(torch.tensor([[math.nan, 0]])), "logits: expected finite values"),
        (lambda: nearest_class_mean(torch.zeros(2, 3), torch.eye(2)), "features: expected width P = 2, got 3"),
        (lambda: nearest_class_mean(torch.zeros(2, 2) / 0, torch.eye(2)), "features: expected finite values"),
        (lambda: auroc(torch.zeros(0), torch.zeros(1)), r"inside: expected a floating tensor \(n,\) with n >= 1"),
        (lambda: auroc(torch.zeros(1), torch.zeros(1, 1)), r"outside: expected a floating tensor \(n,\)"),
        (lambda: auroc(torch.tensor([math.nan]), torch.zeros(1)), "inside: expected scores that can be ordered"),
        (lambda: false_positive_rate(torch.zeros(1), torch.tensor([math.nan])), "outside: expected scores"),
        (lambda: false_positive_rate(torch.zeros(1), torch.zeros(1), 0.0), "true_positive_rate: expected above 0"),
        (lambda: false_positive_rate(torch.zeros(1), torch.zeros(1), 1.1), "true_positive_rate: expected above 0"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_no_example_has_no_score():
    features, labels, classifier, others = case()
    statistics, none = class_statistics(features, labels, 4), others[:0]
    fitted = VirtualLogit.fit(statistics, classifier, 3, [features])
    for scores in (
        energy(classifier(none)),
        maximum_softmax(classifier(none)),
        mahalanobis(none, statistics),
        nearest_class_mean(none, statistics.class_means),
        neco(none, statistics, 2),
        fitted(none),
    ):
        assert scores.shape == (0,)
