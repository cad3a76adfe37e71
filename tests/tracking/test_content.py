"""Names that MLflow takes, the numbers that sum a run up, and the stored views."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow.entities import Metric
from mlflow.utils.validation import _validate_batch_log_data
from synthetic_sweep import write_run

from ncexp.record import Record, read_run, write_json
from ncexp.record.quantities import find
from ncexp.tracking.content import description, metric_name, milestones
from ncexp.tracking.view import COLUMNS, VIEWS, view_state


@pytest.mark.slow
@given(st.text(min_size=1, max_size=300))
def test_metric_name_is_one_that_mlflow_takes(name: str) -> None:
    _validate_batch_log_data([Metric(metric_name(name), 0.0, 0, 0)], [], [])


@given(st.lists(st.text(alphabet="ab:/.2e8(", max_size=8), unique=True, min_size=2, max_size=2))
def test_metric_name_keeps_different_names_apart(names: list[str]) -> None:
    assert metric_name(names[0]) != metric_name(names[1])
    for name in ("train/collapse/nc1_trace", "fit/lr", "test/robustness.0123456789/ratio"):
        assert metric_name(name) == name  # ours are as they are


def test_milestones_are_of_the_best_and_the_zero_error_epoch(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path))
    numbers = milestones(run)
    errors = {int(record["epoch"]): record["test/error"] for record in run.records}
    assert run.zero_error_epoch is not None
    assert numbers["best/test_error"] == min(errors.values()) == errors[int(numbers["best/epoch"])]
    assert numbers["zero/epoch"] == run.zero_error_epoch
    assert numbers["final/gain"] == 100 * (errors[run.zero_error_epoch] - errors[350])
    early = milestones(read_run(write_run(tmp_path, epochs=[1, 2])))
    assert not [name for name in early if name.startswith(("zero/", "exact/", "final/gain"))]


def test_path_fit_is_sent_only_if_it_is_of_the_epochs_on_record(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path, epochs=[1, 2, 3]))
    for record in run.records:
        record["train/path/rank"] = 9.0
    records = [{"epoch": 1, "train/path_fit/time": 0.0}, {"epoch": 3, "train/path_fit/explained": None}]
    content = {"fitted": True, "start_epoch": 1, "excluded_epochs": [2], "records": records}

    def fit_with(content: dict[str, object]) -> list[Record]:
        write_json(run.path / "path_fit.json", content)
        return replace(run).path_fit

    first, last = fit_with(content)
    assert first == records[0]
    assert last["train/path_fit/explained"] != last["train/path_fit/explained"]
    assert fit_with({**content, "excluded_epochs": []}) == []  # of an earlier state of the run
    assert fit_with({"fitted": False}) == []


def test_views_show_what_the_catalogue_says_with_its_axes() -> None:
    first, *lines = view_state(())["compareRunCharts"]
    assert (first["type"], first["selectedParams"]) == ("PARALLEL", ["loss", "lr"])
    assert {f"metrics.`{name}`" for name in first["selectedMetrics"]} <= set(COLUMNS)
    charts = {chart["metricKey"]: chart for chart in lines}
    assert charts["train/path/perp_share"]["scaleType"] == "log"
    assert charts["train/collapse/nc1_trace"]["scaleType"] == "log"
    assert charts["train/collapse/equinorm_means"]["scaleType"] == "linear"
    assert charts["test/error"]["metricSectionId"] == "test"
    for name in charts:
        row = find(name)
        assert row is not None
        assert name.partition("/")[0] in row.view
    grouped = view_state(VIEWS["by_loss_and_rate"])
    assert [key["groupByData"] for key in grouped["groupBy"]["groupByKeys"]] == ["loss", "lr"]
    assert len(json.dumps(grouped)) < 20_000  # MLflow's longest tag


def test_description_shows_the_figures_of_a_run_that_has_ended(tmp_path: Path) -> None:
    path = write_run(tmp_path)
    (path / "figures").mkdir(exist_ok=True)
    for name in ("neural_collapse.png", "neural_collapse.pdf"):
        (path / "figures" / name).touch()
    shown = [line for line in description(read_run(path), "0ab1").splitlines() if line.startswith("![")]
    assert shown == ["![neural_collapse](get-artifact?run_uuid=0ab1&path=figures/neural_collapse.png)"]
    assert "![" not in description(read_run(path))
