"""The simulated renormalized flow: its field by autograd, its path against the closed form, its limit collapse."""

import pytest
import torch
from torch import Tensor

from ncexp.collapse.central_path import CentralPath
from ncexp.collapse.class_statistics import class_statistics
from ncexp.collapse.gradient_flow import flow_velocity, renormalize, renormalized_gradient_flow
from ncexp.collapse.least_squares import decompose_mse, least_squares_classifier
from ncexp.collapse.nearest_class_center import nearest_class_center_mismatch
from ncexp.collapse.neural_collapse import measure_collapse

CLASSES, PER_CLASS, WIDTH = 4, 10, 6
AGREEMENT = 1e-6  # closed form against simulation
HELD = 1e-8  # Σ_W = I along the flow
ROUNDING = 1e-12
TIMES = torch.cat([torch.zeros(1), torch.logspace(-1, 6, 15)]).double()


def balanced_features(width: int = WIDTH) -> tuple[Tensor, Tensor]:
    """Overlapping classes with correlated, unequally scaled features: nothing collapsed or white about them."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(CLASSES).repeat(PER_CLASS)
    means = 0.5 * torch.randn(CLASSES, width, generator=generator, dtype=torch.float64)
    noise = torch.randn(len(labels), width, generator=generator, dtype=torch.float64)
    mixing = torch.randn(width, width, generator=generator, dtype=torch.float64)
    return (means[labels] + noise) @ mixing + 3, labels


def one_hot(labels: Tensor) -> Tensor:
    return torch.eye(CLASSES, dtype=torch.float64)[labels]


def least_squares_loss(features: Tensor, targets: Tensor) -> Tensor:
    """min over (W, b) of ½ Ave ‖W x + b − y‖², differentiable in x."""
    extended = torch.cat([features, torch.ones(len(features), 1, dtype=torch.float64)], dim=1)
    solution = torch.linalg.solve(extended.T @ extended, extended.T @ targets)
    return (extended @ solution - targets).square().sum(dim=1).mean() / 2


def centred_means(features: Tensor, labels: Tensor) -> Tensor:
    return class_statistics(features, labels, CLASSES).centered_class_means


@pytest.fixture(scope="module")
def trajectory():
    features, labels = balanced_features()
    return renormalized_gradient_flow(features, labels, CLASSES, TIMES)


@pytest.fixture(scope="module")
def path(trajectory) -> CentralPath:
    return CentralPath(trajectory.singular_values[0], CLASSES, PER_CLASS)


def test_renormalize_whitens_and_keeps_the_spectrum() -> None:
    features, labels = balanced_features()
    whitened = renormalize(features, labels, CLASSES)
    covariance = class_statistics(whitened, labels, CLASSES).within_class_covariance
    torch.testing.assert_close(covariance, torch.eye(WIDTH, dtype=torch.float64), rtol=0, atol=ROUNDING)
    assert float(least_squares_loss(whitened, one_hot(labels))) == pytest.approx(
        float(least_squares_loss(features, one_hot(labels))), rel=1e-10
    )


def test_flow_velocity_is_the_projected_autograd_gradient() -> None:
    # The field by autograd through the least-squares solution, and the projection as theory writes it on Σ_W = I.
    features, labels = balanced_features()
    start, targets = renormalize(features, labels, CLASSES).requires_grad_(), one_hot(labels)
    (gradient,) = torch.autograd.grad(least_squares_loss(start, targets), start)
    start = start.detach()

    def deviations(field: Tensor) -> Tensor:
        return field - targets @ (targets.T @ field) / PER_CLASS

    d, z = deviations(start), deviations(-gradient)
    expected = -gradient - d @ (d.T @ z + z.T @ d) / (2 * len(start))
    torch.testing.assert_close(flow_velocity(start, targets), expected, rtol=1e-9, atol=1e-14)


def test_flow_velocity_keeps_any_within_class_covariance() -> None:
    features, labels = balanced_features()
    targets = one_hot(labels)
    velocity = flow_velocity(features, targets)
    d, z = (field - targets @ (targets.T @ field) / PER_CLASS for field in (features, velocity))
    # Cancels to zero from terms of this size.
    size = float((d.T @ d).abs().max() * least_squares_loss(features, targets))
    assert float((d.T @ z + z.T @ d).abs().max()) < ROUNDING * size


@pytest.mark.slow
@pytest.mark.parametrize("width", [2, 3, WIDTH])
def test_flow_matches_the_closed_form(width: int) -> None:
    flow = renormalized_gradient_flow(*balanced_features(width), CLASSES, TIMES)
    exact = CentralPath(flow.singular_values[0], CLASSES, PER_CLASS).singular_values(TIMES)
    torch.testing.assert_close(flow.singular_values, exact, rtol=AGREEMENT, atol=0)
    assert float(flow.singular_values[-1, 0]) > 10 * float(flow.singular_values[0, 0])


@pytest.mark.parametrize(("size", "digits"), [(1e-3, 1e-7), (1e-6, 1e-4), (1e-9, 1e-2)])
def test_flow_of_small_modes_holds_the_digits_that_its_tolerance_states(size: float, digits: float) -> None:
    features, labels = balanced_features()
    means = centred_means(features, labels)
    means = means / torch.linalg.matrix_norm(means, 2)
    deviations = features - class_statistics(features, labels, CLASSES).class_means[labels]
    start = renormalize(deviations + 3 * means[labels], labels, CLASSES)
    deviations = start - class_statistics(start, labels, CLASSES).class_means[labels]
    times = torch.tensor([0.0, 100.0, 1000.0], dtype=torch.float64)
    flow = renormalized_gradient_flow(deviations + size * means[labels], labels, CLASSES, times)
    exact = CentralPath(flow.singular_values[0], CLASSES, PER_CLASS).singular_values(times)
    torch.testing.assert_close(flow.singular_values, exact, rtol=digits, atol=0)


@pytest.mark.slow
def test_flow_holds_the_within_class_covariance(trajectory) -> None:
    _, labels = balanced_features()
    for snapshot in trajectory.snapshots:
        covariance = class_statistics(snapshot, labels, CLASSES).within_class_covariance
        torch.testing.assert_close(covariance, torch.eye(WIDTH, dtype=torch.float64), rtol=0, atol=HELD)
    assert float(trajectory.constraint_error.max()) < HELD


@pytest.mark.slow
def test_flow_loss_is_that_of_the_central_path(trajectory, path) -> None:
    _, labels = balanced_features()
    for index, snapshot in enumerate(trajectory.snapshots):
        statistics = class_statistics(snapshot, labels, CLASSES)
        terms = decompose_mse(statistics, least_squares_classifier(statistics, 0.0), 0.0)
        at = TIMES[index : index + 1]
        assert terms.loss_ls == pytest.approx(float(path.loss(at)), rel=AGREEMENT)
        assert terms.loss_nc1 == pytest.approx(float(path.loss_nc1(at)), rel=AGREEMENT)
        assert terms.loss_nc23 == pytest.approx(float(path.loss_nc23(at)), rel=AGREEMENT)


def test_flow_turns_no_singular_vector(trajectory) -> None:
    _, labels = balanced_features()
    start, *others = (torch.linalg.svd(centred_means(x, labels), full_matrices=False) for x in trajectory.snapshots)
    for left, _, right in others[:8]:  # later the ω's are nearly equal and single vectors are no longer determined
        modes = slice(0, CLASSES - 1)
        for now, then in ((left[:, modes].T, start[0][:, modes].T), (right[modes], start[2][modes])):
            cosines = (now * then).sum(dim=1).abs()
            torch.testing.assert_close(cosines, torch.ones(3, dtype=torch.float64), rtol=0, atol=AGREEMENT)


def test_flow_leaves_deviations_and_global_mean_alone(trajectory) -> None:
    _, labels = balanced_features()
    first, last = trajectory.snapshots[0], trajectory.features
    means = [class_statistics(x, labels, CLASSES).class_means[labels] for x in (first, last)]
    torch.testing.assert_close(last - means[1], first - means[0], rtol=0, atol=HELD)
    torch.testing.assert_close(last.mean(dim=0), first.mean(dim=0), rtol=0, atol=HELD)


@pytest.mark.slow
def test_flow_ends_in_neural_collapse() -> None:
    features, labels = balanced_features()
    times = torch.tensor([0.0, 1e5, 1e9], dtype=torch.float64)
    flow = renormalized_gradient_flow(features, labels, CLASSES, times)
    rows = []
    for snapshot in flow.snapshots:
        statistics = class_statistics(snapshot, labels, CLASSES)
        classifier = least_squares_classifier(statistics, 0.0)
        metrics = measure_collapse(statistics, classifier)
        mismatch = nearest_class_center_mismatch(snapshot, classifier, statistics.class_means)
        shape = (metrics.equinorm_means, metrics.maximal_angle_means, metrics.self_duality)
        rows.append((metrics.nc1_trace, *shape, mismatch))
    start, middle, end = torch.tensor(rows, dtype=torch.float64)
    assert bool((middle < start).all())
    assert bool((end[:4] < middle[:4]).all())
    # ω = 141 at t = 1e9: NC1 is about C/ω² = 2e-4; NC2 and NC3 fall with the spread of the ω's, about 1/ω⁴.
    assert float(end[0]) < 1e-3
    assert float(end[1:4].max()) < 1e-5
    assert float(end[4]) == 0
    ratios = flow.singular_values[:, 0] / flow.singular_values[:, -1]
    assert float(ratios[0]) > 1.2
    assert float(ratios[-1]) == pytest.approx(1, abs=1e-5)


def test_flow_accepts_float32_features_and_answers_float64(trajectory) -> None:
    features, labels = balanced_features()
    flow = renormalized_gradient_flow(features.float(), labels, CLASSES, TIMES[:3])
    assert flow.features.dtype == flow.singular_values.dtype == flow.times.dtype == torch.float64
    assert flow.features.shape == features.shape
    torch.testing.assert_close(flow.singular_values, trajectory.singular_values[:3], rtol=1e-5, atol=0)


def test_flow_refuses_unbalanced_classes() -> None:
    features, labels = balanced_features()
    with pytest.raises(ValueError, match="labels: expected the same number of examples in each class, got"):
        renormalized_gradient_flow(features[1:], labels[1:], CLASSES, TIMES)


@pytest.mark.parametrize("kind", ["dead unit", "copied unit", "constant in each class"])
def test_flow_refuses_rank_deficient_features(kind: str) -> None:
    features, labels = balanced_features()
    extra = {
        "dead unit": torch.zeros_like(features[:, :1]),
        "copied unit": features[:, :1],
        "constant in each class": labels[:, None].double(),
    }
    with pytest.raises(ValueError, match="full rank 7, got rank 6"):
        renormalized_gradient_flow(torch.cat([features, extra[kind]], dim=1), labels, CLASSES, TIMES)


@pytest.mark.parametrize("times", [[], [0.0], [-1.0, 1.0], [1.0, 1.0], [2.0, 1.0], [1.0, float("inf")], [[1.0, 2.0]]])
def test_flow_refuses_times(times: list) -> None:
    features, labels = balanced_features()
    with pytest.raises(ValueError, match=r"times: expected shape \(T,\), strictly ascending"):
        renormalized_gradient_flow(features, labels, CLASSES, torch.tensor(times))
