"""Class statistics against a two-pass oracle in extended precision: any split, order, dtype, depth of collapse."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ncexp.collapse import ClassStatistics, ClassStatisticsAccumulator, class_statistics
from ncexp.collapse.class_statistics import _BUFFER_ROWS

# What the statistics promise down to a spread of 1e-5 of the class means: float64 resolves a deviation there to 1e-11.
PROMISED = 1e-9
# Where the spread is of the means' size: a few hundred roundings.
ROUNDING = 1e-12


def two_pass(features: Tensor, labels: Tensor, num_classes: int) -> ClassStatistics:
    """The definitions, in 64-bit mantissas: first the class means, then the deviations from them."""
    rows, classes = features.to(torch.float64).numpy().astype(np.longdouble), labels.numpy()
    counts = np.bincount(classes, minlength=num_classes)
    means = np.stack([rows[classes == c].mean(0) for c in range(num_classes)])
    deviations = rows - means[classes]
    squares = (deviations**2).sum(1)
    variances = np.stack([squares[classes == c].mean() for c in range(num_classes)])
    covariance = deviations.T @ deviations / len(rows)
    return ClassStatistics(
        torch.from_numpy(counts), *(torch.from_numpy(a.astype(float)) for a in (means, covariance, variances))
    )


def draw(num_classes: int, num_features: int, n: int, spread: float, seed: int) -> tuple[Tensor, Tensor]:
    """Unbalanced classes about means of size 1 (and an offset of the same size), deviations of size `spread`."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.cat([torch.arange(num_classes), torch.randint(num_classes, (n - num_classes,), generator=generator)])
    labels = labels[torch.randperm(n, generator=generator)]
    means = 1 + torch.randn(num_classes, num_features, generator=generator, dtype=torch.float64)
    noise = torch.randn(n, num_features, generator=generator, dtype=torch.float64)
    return means[labels] + spread * noise, labels


def error(measured: Tensor, expected: Tensor) -> float:
    scale = torch.linalg.vector_norm(expected)
    return float(torch.linalg.vector_norm(measured - expected) / torch.where(scale > 0, scale, 1.0))


def assert_same(measured: ClassStatistics, expected: ClassStatistics, tolerance: float) -> None:
    assert torch.equal(measured.counts, expected.counts)
    assert error(measured.class_means, expected.class_means) < ROUNDING
    assert error(measured.within_class_covariance, expected.within_class_covariance) < tolerance
    assert error(measured.within_class_variances, expected.within_class_variances) < tolerance


@pytest.mark.slow
@given(
    num_classes=st.integers(2, 12),
    num_features=st.sampled_from([1, 2, 5, 9, 64, 65, 200]),  # from 65 on block column by block column
    extra=st.integers(2, 60),
    spread=st.sampled_from([1.0, 1e-2, 1e-5]),
    dtype=st.sampled_from([torch.float64, torch.float32, torch.bfloat16]),
    batch=st.integers(1, 70),
    num_shards=st.integers(1, 4),
    seed=st.integers(0, 2**20),
)
@settings(max_examples=150, deadline=None)
def test_statistics_equal_two_pass_for_any_split_and_merge(
    num_classes, num_features, extra, spread, dtype, batch, num_shards, seed
):
    features, labels = draw(num_classes, num_features, num_classes + extra, spread, seed)
    features = features.to(dtype)
    shards = [ClassStatisticsAccumulator(num_classes, num_features) for _ in range(num_shards)]
    for index, (rows, row_labels) in enumerate(zip(features.split(batch), labels.split(batch), strict=True)):
        shards[index % num_shards].update(rows, row_labels)
        if index % 3 == 0:
            shards[index % num_shards]._absorb()  # as if the buffer were full here
    while len(shards) > 1:
        shards[len(shards) // 2 - 1].merge(shards.pop())
    expected = two_pass(features, labels, num_classes)
    # Rounding of the means themselves is all there is where a low-precision dtype has flattened the deviations to 0.
    measured = shards[0].compute()
    assert torch.equal(measured.within_class_covariance, measured.within_class_covariance.T)
    if expected.within_class_variances.sum() < 1e-20:
        assert measured.within_class_variances.max() < 1e-20
    else:
        assert_same(measured, expected, PROMISED)


@pytest.mark.parametrize("spread", [1.0, 1e-5])
@pytest.mark.parametrize(("num_classes", "n"), [(7, 3 * _BUFFER_ROWS + 5), (2 * _BUFFER_ROWS, 4 * _BUFFER_ROWS + 3)])
def test_statistics_equal_two_pass_beyond_the_buffer_and_of_many_classes(num_classes, n, spread):
    features, labels = draw(num_classes, 3, n, spread, seed=1)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(2))
    whole = class_statistics(features, labels, num_classes)
    batched = ClassStatisticsAccumulator(num_classes, 3)
    for at in order.split(1000):
        batched.update(features[at], labels[at])
    expected = np.zeros((num_classes, 3), np.longdouble)
    rows = features.numpy().astype(np.longdouble)
    np.add.at(expected, labels.numpy(), rows)
    expected /= np.bincount(labels.numpy())[:, None]
    deviations = rows - expected[labels.numpy()]
    covariance = torch.from_numpy((deviations.T @ deviations / n).astype(float))
    for measured in (whole, batched.compute()):
        assert error(measured.within_class_covariance, covariance) < PROMISED
        weighted = measured.frequencies @ measured.within_class_variances
        torch.testing.assert_close(weighted, covariance.trace(), rtol=PROMISED, atol=0)


def test_statistics_hold_for_drifting_and_sorted_streams():
    """Class by class and with a drift, so that every batch mean lies far from what was seen before."""
    features, labels = draw(4, 5, 4000, spread=1e-5, seed=3)
    features = features + torch.linspace(0, 1, 4000, dtype=torch.float64)[:, None]
    order = labels.argsort(stable=True)
    accumulator = ClassStatisticsAccumulator(4, 5)
    for at in order.split(7):
        accumulator.update(features[at], labels[at])
        accumulator._absorb()
    assert_same(accumulator.compute(), two_pass(features, labels, 4), PROMISED)


def test_covariances_are_what_they_are_called():
    features, labels = draw(5, 4, 57, spread=0.7, seed=5)
    statistics = class_statistics(features, labels, 5)
    assert statistics.num_examples == 57
    assert statistics.num_classes == 5
    assert statistics.num_features == 4
    assert torch.equal(statistics.frequencies, torch.bincount(labels) / torch.tensor(57.0, dtype=torch.float64))
    torch.testing.assert_close(statistics.global_mean, features.mean(0))
    torch.testing.assert_close(statistics.total_covariance, torch.cov(features.T, correction=0))
    torch.testing.assert_close(statistics.frequencies @ statistics.centered_class_means, torch.zeros(4).double())
    trace = statistics.frequencies @ statistics.within_class_variances
    torch.testing.assert_close(trace, statistics.within_class_covariance.trace())
    assert torch.equal(statistics.within_class_covariance, statistics.within_class_covariance.T)
    assert torch.equal(statistics.to("cpu").class_means, statistics.class_means)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_statistics_are_float64_inside_autocast_and_inference_mode(dtype):
    features, labels = draw(3, 4, 40, spread=1.0, seed=6)
    features = features.to(dtype)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        accumulator = ClassStatisticsAccumulator(3, 4)
        accumulator.update(features[:20].clone(), labels[:20].to(torch.int32))
    accumulator.update(features[20:].requires_grad_(), labels[20:])
    measured = accumulator.compute()
    assert measured.class_means.dtype == measured.within_class_covariance.dtype == torch.float64
    assert not measured.class_means.requires_grad
    assert_same(measured, two_pass(features.detach(), labels, 3), ROUNDING)


def test_feature_eps_is_that_of_the_coarsest_batch():
    features, labels = draw(3, 4, 40, spread=1.0, seed=6)
    assert class_statistics(features, labels, 3).feature_eps == torch.finfo(torch.float64).eps
    coarse, fine = ClassStatisticsAccumulator(3, 4), ClassStatisticsAccumulator(3, 4)
    for dtype in (torch.float32, torch.bfloat16, torch.float64):
        coarse.update(features.to(dtype), labels)
    fine.update(features, labels)
    fine.merge(coarse)
    measured = fine.compute()
    assert type(measured.feature_eps) is float
    assert measured.feature_eps == measured.to("cpu").feature_eps == torch.finfo(torch.bfloat16).eps
    tensors = (measured.counts, measured.class_means, measured.within_class_covariance, measured.within_class_variances)
    assert ClassStatistics(*tensors).feature_eps == torch.finfo(torch.float64).eps  # as whoever names no dtype


def test_no_sum_is_taken_in_an_order_that_a_gpu_is_free_to_choose():
    """Of PyTorch's sums by index only index_put_ has a fixed order on CUDA."""
    features, labels = draw(3, 4, 40, spread=1.0, seed=6)
    called = set()

    class Operations(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            called.add(function._overloadpacket._qualified_op_name)
            return function(*args, **(kwargs or {}))

    with Operations():
        class_statistics(features, labels, 3)
    assert "aten::index_put_" in called
    assert not [name for name in called if "index_add" in name or "scatter_" in name or "bincount" in name]


def test_compute_can_be_asked_on_the_way_and_merge_leaves_the_other_alone():
    features, labels = draw(3, 4, 60, spread=1.0, seed=8)
    first, second = ClassStatisticsAccumulator(3, 4), ClassStatisticsAccumulator(3, 4)
    given = features[:30].clone(), labels[:30].clone()
    first.update(*given)
    first.update(features[:0], labels[:0])  # an empty batch is one
    for tensor in given:  # which are not kept
        tensor.zero_()
    halfway = first.compute()
    second.update(features[30:], labels[30:])
    alone = second.compute()
    for shard in (second, ClassStatisticsAccumulator(3, 4)):
        first.merge(shard)
    assert_same(halfway, two_pass(features[:30], labels[:30], 3), ROUNDING)
    assert_same(first.compute(), two_pass(features, labels, 3), ROUNDING)
    assert torch.equal(second.compute().within_class_covariance, alone.within_class_covariance)
    empty = ClassStatisticsAccumulator(3, 4)
    empty.merge(second)
    assert torch.equal(empty.compute().within_class_covariance, alone.within_class_covariance)


ACCUMULATOR = ClassStatisticsAccumulator(3, 2)
FEATURES, LABELS = torch.ones(4, 2), torch.tensor([0, 1, 2, 0])
NOT_FINITE = [
    torch.cat([FEATURES[:3], torch.full((1, 2), value)]).to(dtype)
    for value in (torch.nan, torch.inf, -torch.inf)
    for dtype in (torch.bfloat16, torch.float32, torch.float64)
]


@pytest.mark.parametrize(
    ("features", "labels", "message"),
    [
        (FEATURES[..., None], LABELS, r"features: expected .*\(n, P\), got \(4, 2, 1\)"),
        (FEATURES.long(), LABELS, "features: expected a floating tensor"),
        (torch.zeros(4, 5), LABELS, "features: expected width P = 2, got 5"),
        *((FEATURES, wrong, "labels: expected 4 integers") for wrong in (LABELS[:3], LABELS.float(), LABELS > 0,
                                                                         torch.eye(4, 3, dtype=torch.int64))),
        *((wrong, LABELS, "features: expected finite") for wrong in NOT_FINITE),
        *((FEATURES, torch.tensor([0, 1, c, 2]), "labels: expected class numbers 0 to 2") for c in (-1, 3, 2**40)),
    ],
)  # fmt: skip
def test_update_refuses_what_is_no_batch(features, labels, message):
    with pytest.raises(ValueError, match=message):
        ACCUMULATOR.update(features, labels)


@pytest.mark.parametrize(
    ("entry", "message"), [(0, "features: expected finite"), (1, "labels: expected class numbers")]
)
def test_compute_refuses_what_update_could_only_take_note_of(entry, message):
    accumulator, other = ClassStatisticsAccumulator(2, 1), ClassStatisticsAccumulator(2, 1)
    other.update(torch.ones(2, 1), torch.tensor([0, 1]))
    other._invalid[entry] = True
    accumulator.merge(other)
    with pytest.raises(ValueError, match=message):
        accumulator.compute()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: class_statistics(torch.ones(2, 1), torch.tensor([0, 2]), 4), r"none of class 1, 3 \(2 of 4 classes\)"),
        *(
            (lambda sizes=sizes: ACCUMULATOR.merge(ClassStatisticsAccumulator(*sizes)), "other: expected C = 3, P = 2")
            for sizes in ((4, 2), (3, 3))
        ),
        (lambda: ClassStatisticsAccumulator(1, 2), "num_classes: expected at least 2, got 1"),
        (lambda: ClassStatisticsAccumulator(2, 0), "num_features: expected at least 1, got 0"),
        (lambda: class_statistics(torch.zeros(4), LABELS, 3), r"features: expected shape \(n, P\), got \(4,\)"),
    ],
)
def test_statistics_refuse_sizes_without_meaning(call, message):
    with pytest.raises(ValueError, match=message):
        call()
