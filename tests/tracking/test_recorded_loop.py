"""A recorded loop of one's own in MLflow: every number of every journal, by the key and name that its folder gives."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient
from own_loops import NUM_CLASSES, loaders, network

import ncexp
from ncexp.record import read_run
from ncexp.tracking import sync_runs, tracking_uri


@pytest.mark.slow
@pytest.mark.usefixtures("no_figures")
def test_recorded_loop_is_sent_with_all_its_numbers(tmp_path: Path, store_template: Path) -> None:
    shutil.copy(store_template, tmp_path / "mlflow.db")
    recorder = ncexp.Recorder(
        tmp_path / "mine", num_classes=NUM_CLASSES, classifier="last", dataset="gaussians", architecture="small"
    )
    for epoch in (1, 2):
        recorder.evaluate(epoch, network(), *loaders())
    recorder.close()
    assert sync_runs([tmp_path], report=lambda line: None) == {"sent": 1}
    client = MlflowClient(tracking_uri(None, tmp_path))
    (experiment,) = (one for one in client.search_experiments() if one.name == "gaussians")
    (sent,) = client.search_runs([experiment.experiment_id])
    run = read_run(tmp_path / "mine")
    assert sent.data.tags["key"] == run.key
    assert sent.data.tags["epoch"] == "2"
    assert sent.data.params["architecture"] == "small"
    defined = {name: value for name, value in run.records[-1].items() if value == value and name != "epoch"}
    assert {name: sent.data.metrics[name] for name in defined} == defined
