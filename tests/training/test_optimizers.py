"""The learning rate's schedule."""

from __future__ import annotations

import pytest

from ncexp.training.optimizers import constant_schedule, cosine_schedule, step_schedule


def test_step_schedule_falls_after_epochs_116_and_233_of_350() -> None:
    schedule = step_schedule(350, decays=2, factor=0.1)
    falls = [epoch for epoch in range(1, 350) if schedule(epoch + 1) < schedule(epoch)]
    assert falls == [116, 233]
    assert schedule(1) == 1
    assert schedule(350) == pytest.approx(0.01)


def test_step_schedule_without_decays_is_constant() -> None:
    schedule = step_schedule(10, decays=0)
    assert [schedule(e) for e in range(1, 11)] == [constant_schedule(10)(e) for e in range(1, 11)] == [1.0] * 10


def test_cosine_schedule_starts_at_one_and_halves_midway() -> None:
    schedule = cosine_schedule(100)
    assert schedule(1) == 1
    assert schedule(51) == pytest.approx(0.5)
    assert 0 < schedule(100) < 0.001
