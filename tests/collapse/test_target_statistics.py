"""Joint moments of features and targets: exact rationals, splits and orders, processes, bad input."""

import multiprocessing
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from drawn_targets import draw_targets as draw

from ncexp.collapse import TargetStatistics, TargetStatisticsAccumulator, target_statistics

# Of √(C_ii C_jj): sums of a few hundred products in float64, whatever the split.
ROUNDING = 1e-12


def joint(statistics: TargetStatistics) -> np.ndarray:
    cross = statistics.cross_covariance
    rows = [torch.cat([statistics.feature_covariance, cross.T], 1), torch.cat([cross, statistics.target_covariance], 1)]
    return torch.cat(rows).numpy()


def assert_same(one: TargetStatistics, other: TargetStatistics, tolerance: float = ROUNDING) -> None:
    assert one.num_examples == other.num_examples
    sizes = np.sqrt(np.outer(np.diag(joint(other)), np.diag(joint(other))))
    assert np.all(np.abs(joint(one) - joint(other)) <= tolerance * sizes)
    for name in ("feature_mean", "target_mean"):
        torch.testing.assert_close(getattr(one, name), getattr(other, name), rtol=tolerance, atol=0)


@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_moments_equal_exact_rationals(offset):
    """Also where means are 1e6 times the spread."""
    features, targets = draw(15, 2, 2, offset)
    rows = [[Fraction(value) for value in row] for row in torch.cat([features, targets], 1).tolist()]
    means = [sum(column) / len(rows) for column in zip(*rows, strict=True)]
    exact = [
        [float(sum((r[i] - means[i]) * (r[j] - means[j]) for r in rows) / len(rows)) for j in range(4)]
        for i in range(4)
    ]
    statistics = target_statistics(features, targets)
    assert np.all(np.abs(joint(statistics) - np.array(exact)) <= ROUNDING * np.abs(np.diag(exact)).max())
    found = torch.cat([statistics.feature_mean, statistics.target_mean])
    np.testing.assert_allclose(found.numpy(), [float(mean) for mean in means], rtol=1e-15, atol=1e-15)


@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_moments_depend_on_no_split_order_or_tree(offset):
    features, targets = draw(300, 5, 3, offset)
    whole = target_statistics(features, targets)
    order = torch.randperm(300, generator=torch.Generator().manual_seed(1))
    parts = [TargetStatisticsAccumulator(5, 3) for _ in range(4)]
    for place, rows in enumerate(order.split([1, 0, 7, 92, 100, 100])):
        parts[place % 3].update(features[rows], targets[rows])
    parts[3].merge(parts[2])  # into one that has seen nothing
    parts[0].merge(parts[1])
    parts[0].merge(parts[3])
    assert_same(parts[0].compute(), whole)


def test_more_rows_than_the_buffer_holds():
    features, targets = draw(9001, 2, 1)
    moments = np.cov(torch.cat([features, targets], 1).numpy().T, ddof=0)
    np.testing.assert_allclose(joint(target_statistics(features, targets)), moments, rtol=1e-11)


def test_inference_mode_does_not_matter():
    features, targets = draw(60, 3, 2, offset=5)
    with torch.inference_mode():
        accumulator = TargetStatisticsAccumulator(3, 2)
        accumulator.update(features[:25], targets[:25])
        accumulator.compute()
    accumulator.update(features[25:], targets[25:])
    assert_same(accumulator.compute(), target_statistics(features, targets))


def test_statistics_know_the_coarsest_dtype():
    accumulator = TargetStatisticsAccumulator(2, 1)
    features, targets = draw(8, 2, 1)
    accumulator.update(features.float(), targets)
    accumulator.update(features, targets.bfloat16())
    statistics = accumulator.compute()
    assert statistics.feature_eps == torch.finfo(torch.float32).eps
    assert statistics.target_eps == torch.finfo(torch.bfloat16).eps
    assert statistics.feature_covariance.dtype == torch.float64


def test_accumulator_goes_on_from_its_state():
    features, targets = draw(60, 3, 2, offset=5)
    first, second = TargetStatisticsAccumulator(3, 2), TargetStatisticsAccumulator(3, 2)
    first.update(features[:25].float(), targets[:25])
    second.load_state_dict({name: value.clone() for name, value in first.state_dict().items()})
    for accumulator in (first, second):
        accumulator.update(features[25:], targets[25:])
    assert np.array_equal(joint(first.compute()), joint(second.compute()))
    assert second.compute().feature_eps == torch.finfo(torch.float32).eps
    with pytest.raises(ValueError, match="state: expected means of 4 features and targets, got 5"):
        TargetStatisticsAccumulator(3, 1).load_state_dict(first.state_dict())


def work(rank: int, world_size: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=world_size)
    features, targets = draw(50, 4, 2, offset=1e6)
    rows = slice((0, 20, 50)[rank], (20, 50, 50)[rank])  # the last has none
    accumulator = TargetStatisticsAccumulator(4, 2)
    accumulator.update(features[rows], targets[rows].float() if rank == 1 else targets[rows])
    accumulator.all_reduce()
    for call, message in (
        (accumulator.all_reduce, "got those of all"),
        (TargetStatisticsAccumulator(4 + rank, 2).all_reduce, "all_reduce: expected the same P and m"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    torch.save(vars(accumulator.compute()), folder / f"{rank}.pt")


def test_moments_of_three_processes_are_those_of_one(tmp_path):
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=work, args=(rank, 3, tmp_path)) for rank in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    features, targets = draw(50, 4, 2, offset=1e6)
    targets[20:] = targets[20:].float().double()
    whole = replace(target_statistics(features, targets), target_eps=torch.finfo(torch.float32).eps)
    found = [TargetStatistics(**torch.load(tmp_path / f"{rank}.pt")) for rank in range(3)]
    for statistics in found:
        assert_same(statistics, whole)
        assert statistics.target_eps == whole.target_eps


@pytest.mark.parametrize(
    ("features", "targets", "message"),
    [
        (torch.zeros(3, 2), torch.zeros(3), r"targets: expected shape \(n, width\), got \(3,\)"),
        (torch.zeros(3), torch.zeros(3, 1), r"features: expected shape \(n, width\), got \(3,\)"),
        (torch.zeros(3, 2), torch.zeros(4, 1), r"targets: expected a floating tensor of shape \(n, m\) = \(3, 1\)"),
        (torch.zeros(3, 2), torch.zeros(3, 1, dtype=torch.int64), "targets: expected a floating tensor"),
        (torch.zeros(3, 2, dtype=torch.int64), torch.zeros(3, 1), "features: expected a floating tensor"),
        (torch.tensor([[float("nan")]]), torch.zeros(1, 1), "features: expected finite values"),
        (torch.zeros(1, 1), torch.tensor([[float("inf")]]), "targets: expected finite values"),
        (torch.zeros(0, 2), torch.zeros(0, 1), "num_examples: expected at least 1, got 0"),
        (torch.zeros(3, 0), torch.zeros(3, 1), "num_features: expected at least 1, got 0"),
        (torch.zeros(3, 1), torch.zeros(3, 0), "num_targets: expected at least 1, got 0"),
    ],
)
def test_bad_features_or_targets_are_refused(features, targets, message):
    with pytest.raises(ValueError, match=message):
        target_statistics(features, targets)


@pytest.mark.parametrize(("place", "name"), [(0, "features"), (1, "targets")])
def test_what_a_gpu_noted_is_refused_at_the_end(place, name):
    accumulator, other = TargetStatisticsAccumulator(2, 1), TargetStatisticsAccumulator(2, 1)
    accumulator.update(*draw(4, 2, 1))
    other._invalid[place] = True
    accumulator.merge(other)
    with pytest.raises(ValueError, match=f"{name}: expected finite values"):
        accumulator.compute()


def test_other_sizes_are_refused():
    with pytest.raises(ValueError, match="other: expected P = 2, m = 1, got P = 3, m = 1"):
        TargetStatisticsAccumulator(2, 1).merge(TargetStatisticsAccumulator(3, 1))
    statistics = target_statistics(*draw(5, 2, 1))
    with pytest.raises(ValueError, match=r"cross_covariance: expected shape \(1, 2\)"):
        replace(statistics, cross_covariance=torch.zeros(2, 2))
