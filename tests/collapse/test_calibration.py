"""Calibration: NumPy on the examples, scikit-learn, torchmetrics where it means the same, edges, splits."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import brier_score_loss, log_loss
from torch import Tensor
from torchmetrics.functional.classification import multiclass_calibration_error

from ncexp.collapse import CalibrationAccumulator, CalibrationMetrics, calibration_bins

# Averages of some hundred numbers in another order.
ROUNDING = 1e-12
# What torchmetrics' float32 leaves.
SINGLE = 1e-6


def draw(n: int, num_classes: int, seed: int = 0, scale: float = 2.0) -> tuple[Tensor, Tensor]:
    """Logits that are right about half of the time."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(num_classes, (n,), generator=generator)
    logits = scale * torch.randn(n, num_classes, generator=generator, dtype=torch.float64)
    return logits + scale * torch.nn.functional.one_hot(labels, num_classes), labels


def measured(logits: Tensor, labels: Tensor, **options) -> CalibrationMetrics:
    accumulator = CalibrationAccumulator(**options)
    accumulator.update(logits, labels)
    return accumulator.compute()


def by_definition(confidences: np.ndarray, correct: np.ndarray, edges: np.ndarray) -> float:
    """Σ_b n_b/n |accuracy − confidence|, bin by bin, (edge_{b−1}, edge_b]."""
    total, lower = 0.0, -1.0
    for upper in edges:
        inside = (confidences > lower) & (confidences <= upper)
        if inside.any():
            total += inside.mean() * abs(correct[inside].mean() - confidences[inside].mean())
        lower = upper
    return total


def softmax(logits: Tensor) -> np.ndarray:
    shifted = np.exp(logits.double().numpy() - logits.double().numpy().max(1, keepdims=True))
    return shifted / shifted.sum(1, keepdims=True)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("n", "num_classes", "num_bins"), [(500, 10, 15), (300, 2, 10), (1, 3, 15), (40, 4, 1)])
def test_metrics_equal_their_definitions(n, num_classes, num_bins, dtype):
    logits, labels = draw(n, num_classes)
    logits = logits.to(dtype)
    found, probabilities = measured(logits, labels, num_bins=num_bins), softmax(logits)
    confidences, correct = probabilities.max(1), probabilities.argmax(1) == labels.numpy()
    own, one_hot = probabilities[np.arange(n), labels.numpy()], np.eye(num_classes)[labels.numpy()]
    assert found.negative_log_likelihood == pytest.approx(-np.log(own).mean(), rel=ROUNDING)
    assert found.brier_score == pytest.approx(((probabilities - one_hot) ** 2).sum(1).mean(), rel=ROUNDING)
    assert found.accuracy == pytest.approx(correct.mean(), rel=ROUNDING)
    assert found.confidence == pytest.approx(confidences.mean(), rel=ROUNDING)
    edges = np.arange(1, num_bins + 1) / num_bins
    assert found.expected_calibration_error == pytest.approx(by_definition(confidences, correct, edges), rel=1e-10)
    assert int(found.bins.counts.sum()) == n


def test_likelihood_and_brier_score_equal_scikit_learn():
    logits, labels = draw(200, 5)
    found, probabilities = measured(logits, labels), softmax(logits)
    assert found.negative_log_likelihood == pytest.approx(log_loss(labels, probabilities), rel=ROUNDING)
    assert found.brier_score == pytest.approx(brier_score_loss(labels, probabilities), rel=ROUNDING)
    # Of two classes scikit-learn takes half.
    logits, labels = draw(200, 2)
    halved = brier_score_loss(labels, softmax(logits))
    assert measured(logits, labels).brier_score == pytest.approx(2 * halved, rel=ROUNDING)


@pytest.mark.parametrize("seed", range(5))
def test_error_equals_torchmetrics_away_from_edges(seed):
    logits, labels = draw(400, 6, seed)
    theirs = multiclass_calibration_error(logits, labels, num_classes=6, n_bins=15)
    assert measured(logits, labels).expected_calibration_error == pytest.approx(float(theirs), abs=SINGLE)


def test_torchmetrics_has_a_bin_for_confidence_1_alone():
    """0.99 always right and 1 always wrong cancel in the last bin of Guo et al.; torchmetrics keeps them apart."""
    confidences = torch.tensor([0.99, 0.99, 1.0, 1.0], dtype=torch.float64)
    correct = torch.tensor([True, True, False, False])
    assert calibration_bins(confidences, correct).expected_error == pytest.approx(0.995 - 0.5)
    probabilities = torch.stack([confidences, 1 - confidences], 1)
    theirs = multiclass_calibration_error(probabilities, (~correct).long(), num_classes=2, n_bins=15)
    assert float(theirs) == pytest.approx((0.01 + 1) / 2, abs=SINGLE)


@pytest.mark.parametrize("num_bins", [1, 10, 15, 20])
def test_an_edge_belongs_to_the_bin_below(num_bins):
    edges = torch.arange(1, num_bins + 1, dtype=torch.float64) / num_bins
    correct = torch.ones(num_bins)
    assert calibration_bins(edges, correct, num_bins).counts.tolist() == [1] * num_bins
    above = torch.nextafter(edges[:-1], edges.new_tensor(2.0))
    assert calibration_bins(above, correct[1:], num_bins).counts.tolist() == [0] + [1] * (num_bins - 1)
    ends = calibration_bins(torch.tensor([0.0, 1.0]), torch.ones(2), num_bins).counts.tolist()
    assert (ends[0], ends[-1]) == ((2, 2) if num_bins == 1 else (1, 1))


@pytest.mark.parametrize("adaptive", [False, True])
def test_splits_orders_and_merges_do_not_matter(adaptive):
    logits, labels = draw(300, 4)
    whole = measured(logits, labels, adaptive=adaptive)
    order = torch.randperm(300, generator=torch.Generator().manual_seed(1))
    parts = [CalibrationAccumulator(adaptive=adaptive) for _ in range(2)]
    for place, rows in enumerate(order.split([0, 1, 99, 200])):
        parts[place % 2].update(logits[rows], labels[rows])
    parts[0].merge(parts[1])
    found = parts[0].compute()
    for name, value in vars(whole).items():
        if name != "bins":
            assert getattr(found, name) == pytest.approx(value, rel=ROUNDING), name
    assert torch.equal(found.bins.counts, whole.bins.counts)
    assert torch.equal(found.bins.edges, whole.bins.edges)


@pytest.mark.parametrize(("n", "num_bins"), [(300, 15), (301, 7), (4, 9)])
def test_adaptive_bins_have_equal_sizes(n, num_bins):
    logits, labels = draw(n, 4)
    bins = measured(logits, labels, adaptive=True, num_bins=num_bins).bins
    filled = bins.counts[bins.counts > 0]
    assert filled.max() - filled.min() <= 1
    probabilities = softmax(logits)
    confidences, correct = probabilities.max(1), probabilities.argmax(1) == labels.numpy()
    edges = np.quantile(confidences, np.arange(1, num_bins + 1) / num_bins, method="inverted_cdf")
    assert bins.expected_error == pytest.approx(by_definition(confidences, correct, edges), rel=1e-9)


def test_equal_confidences_are_never_parted():
    """Whatever the order of the examples: all of one confidence are in one bin, and other bins are empty."""
    confidences = torch.tensor([0.5] * 7 + [0.9] * 2)
    correct = torch.tensor([1, 0, 0, 0, 0, 0, 0, 1, 0])
    for adaptive in (False, True):
        found = calibration_bins(confidences, correct, 3, adaptive)
        turned = calibration_bins(confidences.flip(0), correct.flip(0), 3, adaptive)
        assert sorted(found.counts.tolist()) == [0, 2, 7]
        expected = (7 * abs(1 / 7 - 0.5) + 2 * abs(0.5 - 0.9)) / 9
        assert found.expected_error == pytest.approx(expected, rel=SINGLE)
        assert turned.expected_error == pytest.approx(found.expected_error, rel=ROUNDING)


def test_constant_logits_are_as_confident_as_chance():
    found = measured(torch.zeros(30, 3), torch.arange(30) % 3)
    assert found.negative_log_likelihood == pytest.approx(math.log(3), rel=ROUNDING)
    assert found.expected_calibration_error == pytest.approx(0, abs=1e-15)
    assert found.accuracy == pytest.approx(1 / 3)  # ties go to the lowest class


def test_likelihood_has_no_bound():
    """A probability of 0 in float64 has a finite logit; a clipped one would say 36."""
    found = measured(torch.tensor([[1000.0, 0.0]]), torch.tensor([1]))
    assert found.negative_log_likelihood == 1000.0
    assert found.brier_score == 2.0
    assert found.bins.counts.tolist() == [0] * 14 + [1]
    assert found.expected_calibration_error == 1.0


def test_logits_between_0_and_1_are_logits():
    """torchmetrics takes them for probabilities."""
    logits, labels = torch.rand(50, 3, generator=torch.Generator().manual_seed(0)), torch.arange(50) % 3
    theirs = float(multiclass_calibration_error(logits, labels, num_classes=3))
    ours = measured(logits, labels).expected_calibration_error
    assert ours == pytest.approx(measured(logits + 5, labels).expected_calibration_error, rel=1e-6)
    assert abs(ours - theirs) > 0.1


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (torch.zeros(3), torch.zeros(3, dtype=torch.int64), r"logits: expected a floating tensor \(n, C\)"),
        (torch.zeros(3, 1), torch.zeros(3, dtype=torch.int64), r"logits: expected a floating tensor \(n, C\)"),
        (torch.zeros(3, 2, dtype=torch.int64), torch.zeros(3, dtype=torch.int64), "logits: expected a floating"),
        (torch.zeros(3, 2), torch.zeros(2, dtype=torch.int64), "labels: expected 3 integers"),
        (torch.zeros(3, 2), torch.zeros(3), "labels: expected 3 integers"),
        (torch.zeros(1, 2), torch.tensor([2]), "labels: expected class numbers 0 to 1"),
        (torch.zeros(1, 2), torch.tensor([-1]), "labels: expected class numbers 0 to 1"),
        (torch.tensor([[math.nan, 0.0]]), torch.tensor([0]), "logits: expected finite values"),
        (torch.tensor([[math.inf, 0.0]]), torch.tensor([0]), "logits: expected finite values"),
    ],
)
def test_bad_logits_or_labels_are_refused(logits, labels, message):
    with pytest.raises(ValueError, match=message):
        CalibrationAccumulator().update(logits, labels)


def test_other_bad_input_is_refused():
    for call, message in (
        (lambda: CalibrationAccumulator(num_bins=0), "num_bins: expected at least 1, got 0"),
        (lambda: CalibrationAccumulator().compute(), "logits: expected at least one example, got none"),
        (lambda: CalibrationAccumulator().merge(CalibrationAccumulator(10)), "other: expected 15 bins"),
        (lambda: calibration_bins(torch.tensor([1.1]), torch.ones(1)), "confidences: expected values from 0 to 1"),
        (lambda: calibration_bins(torch.tensor([math.nan]), torch.ones(1)), "confidences: expected values from 0 to 1"),
        (lambda: calibration_bins(torch.ones(2), torch.ones(1)), r"confidences: expected a floating tensor \(n,\)"),
        (lambda: calibration_bins(torch.ones(2), torch.ones(2), 0), "num_bins: expected at least 1"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_inference_mode_does_not_matter():
    logits, labels = draw(20, 3)
    with torch.inference_mode():
        accumulator = CalibrationAccumulator()
        accumulator.update(logits[:9], labels[:9])
    accumulator.update(logits[9:], labels[9:])
    assert accumulator.compute().brier_score == pytest.approx(measured(logits, labels).brier_score, rel=ROUNDING)


def test_an_empty_batch_is_a_batch():
    logits, labels = draw(10, 3)
    accumulator = CalibrationAccumulator()
    accumulator.update(logits[:0], labels[:0])
    accumulator.update(logits, labels)
    assert accumulator.compute().accuracy == measured(logits, labels).accuracy
    assert math.isnan(calibration_bins(torch.zeros(0), torch.zeros(0)).expected_error)


def test_sums_of_processes_give_the_numbers_of_all_examples():
    generator = torch.Generator().manual_seed(3)
    logits, labels = 3 * torch.randn(50, 4, generator=generator), torch.randint(4, (50,), generator=generator)
    whole, one, other = (CalibrationAccumulator(num_bins=5) for _ in range(3))
    whole.update(logits, labels)
    one.update(logits[:10], labels[:10])
    other.update(logits[10:], labels[10:])
    sent: list[float] = []
    other.reduce(lambda *sums: sent.extend(sums) or sums)
    one.reduce(lambda *sums: [mine + theirs for mine, theirs in zip(sums, sent, strict=True)])
    found, expected = one.compute(), whole.compute()
    assert found.bins.counts.tolist() == expected.bins.counts.tolist()
    for name in ("negative_log_likelihood", "expected_calibration_error", "brier_score", "accuracy", "confidence"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name), rel=1e-12)
    with pytest.raises(ValueError, match="adaptive: expected bins of equal width"):
        CalibrationAccumulator(adaptive=True).reduce(lambda *sums: sums)
