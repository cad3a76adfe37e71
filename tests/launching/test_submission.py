"""How a sweep is cut into jobs and arrays: nothing lost, no array too large, never more jobs at once than asked."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ncexp.launching.submission import Chunk, cut, refuse_options

sizes = st.integers(1, 9)


def most_at_once(chunks: list[Chunk]) -> int:
    """The most jobs that can run together: of each lane (a chunk and those that wait for it) only one chunk runs."""
    lanes: dict[int, int] = {}
    for index, chunk in enumerate(chunks):
        first = index
        while (before := chunks[first].after) is not None:
            first = before
        lanes[first] = max(lanes.get(first, 0), min(chunk.at_once, len(chunk.jobs)))
    return sum(lanes.values())


@given(st.integers(0, 60), sizes, sizes, sizes)
def test_cut_keeps_every_run_once_and_in_order(runs: int, per_job: int, largest: int, at_once: int) -> None:
    chunks = cut(range(runs), per_job, largest, at_once)
    assert [num for chunk in chunks for job in chunk.jobs for num in job] == list(range(runs))
    assert all(0 < len(job) <= per_job for chunk in chunks for job in chunk.jobs)


@given(st.integers(1, 60), sizes, sizes, sizes)
def test_cut_holds_both_limits(runs: int, per_job: int, largest: int, at_once: int) -> None:
    chunks = cut(range(runs), per_job, largest, at_once)
    assert all(len(chunk.jobs) <= largest and chunk.at_once >= 1 for chunk in chunks)
    assert all(chunk.after is None or chunk.after < index for index, chunk in enumerate(chunks))
    assert most_at_once(chunks) <= at_once


def test_cut_of_750_runs_is_one_array_where_slurm_takes_a_thousand() -> None:
    assert [len(chunk.jobs) for chunk in cut(range(750), 1, 1001, 64)] == [750]
    assert [(len(chunk.jobs), chunk.at_once) for chunk in cut(range(1500), 1, 1001, 64)] == [(750, 32), (750, 32)]


OPTIONS = {"runs_per_task": 1, "array_parallelism": 1, "tasks_per_node": 1, "nodes": 1, "timeout_min": 10,
           "signal_delay_s": 120}  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"runs_per_task": 0}, "runs_per_task: expected at least 1, got 0"),
        ({"runs_per_task": 2, "tasks_per_node": 2}, "runs_per_task: expected 1 where one run has 2 tasks"),
        ({"timeout_min": 2}, "signal_delay_s: expected less than the limit of 2 min, got 120"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(changed: dict[str, int], message: str) -> None:
    refuse_options(OPTIONS)
    with pytest.raises(ValueError, match=message):
        refuse_options({**OPTIONS, **changed})
