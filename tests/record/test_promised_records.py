"""A record of version 0.2.0, kept in version_0_2/: every later version reads it, and the same command finds it again.

It was made by the command of `test_same_command_finds_the_run`, without tracking. Where this test fails, either the
change is wrong, or the second number of the version is to be raised (docs/versions.md).
"""

from __future__ import annotations

from pathlib import Path

import pytest

from ncexp.collapse import measure_collapse
from ncexp.config import check
from ncexp.config.composing import compose_mapping
from ncexp.measure import load_snapshot
from ncexp.record import RunDirectory, State, load

STORE = Path(__file__).with_name("version_0_2")
KEY = "ceef92b1bc"
#: tr(Σ_W Σ_B⁺)/C of the train features, as 0.2.0 wrote it.
NC1 = [0.6371274143472824, 0.5573792100082126, 0.5169304927691568]
#: Another machine's sums are taken in another order.
ROUNDING = 1e-9


def test_record_is_read_and_its_snapshots_give_its_numbers() -> None:
    (run,) = load(STORE)
    assert (run.key, run.state) == (KEY, State.COMPLETED)
    assert [record["epoch"] for record in run.records] == [1, 2, 3]
    assert [record["train/collapse/nc1_trace"] for record in run.records] == NC1
    snapshots = [load_snapshot(RunDirectory(run.path).snapshot(epoch), KEY) for epoch in (1, 2, 3)]
    found = [measure_collapse(one.splits["train"].statistics, one.classifier).nc1_trace for one in snapshots]
    assert found == pytest.approx(NC1, rel=ROUNDING)


def test_same_command_finds_the_run() -> None:
    command = (
        "dataset=gaussian_mixture dataset.num_classes=3 dataset.num_features=4 dataset.examples_per_class=10 "
        "dataset.test_examples_per_class=5 architecture=mlp architecture.hidden=[6,4] loss=mse optimizer=sgd "
        "optimizer.lr=0.05 epochs=3 batch_size=10 evaluate_at=[1,2]"
    )
    assert check(compose_mapping("config", command.split())).directory.name == next(STORE.iterdir()).name
