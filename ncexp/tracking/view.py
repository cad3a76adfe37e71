"""The stored views with which MLflow's UI opens an experiment of ours: parameters as columns, telling charts first.

The UI keeps a shared view as a tag of the experiment, in JSON (as of MLflow 3.17); a link names it. Whoever wants
another view makes it in the UI: these two are offered, not imposed.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ncexp.tracking.store import only_writer

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

TAG = "mlflow.sharedViewState."
COLUMNS = [
    *(f"params.`{name}`" for name in ("architecture", "loss", "lr", "seed")),
    *(f"metrics.`{name}`" for name in ("final/test_error", "final/nc1_trace", "zero/epoch")),
    *(f"tags.`{name}`" for name in ("state", "reason", "sweep")),
]
#: Section → its charts in order, and whether their axis is logarithmic, as in the paper.
CHARTS: dict[str, dict[str, bool]] = {
    "test": {
        "test/error": True,
        "test/nearest_class_center_mismatch": False,
        "test/loss": True,
        **{f"test/{name}": True for name in ("nc1_trace", "nc1_ratio", "nc1_snr", "cdnv")},
    },
    "train": {
        "train/nc1_trace": True,
        "train/self_duality": True,
        "train/equinorm_means": False,
        "train/equinorm_classifier": False,
        "train/maximal_angle_means": False,
        "train/nearest_class_center_mismatch": False,
        **{f"train/{name}": True for name in ("loss", "nc1_ratio", "nc1_snr", "cdnv")},
    },
    "mse": {"mse/loss": True, "mse/loss_nc1": True, "mse/loss_nc23": True, "mse/loss_ls_perp": True},
    "path": {"path/snr_ratio": True},
    "fit": {"fit/loss": True},
}
#: Name of a view → by which parameter it groups runs (mean, and band), None: each run by itself.
VIEWS: dict[str, str | None] = {"runs": None, "by_loss": "loss"}


def publish_views(client: MlflowClient, uri: str, experiment: str) -> None:
    """Write the views where they are not there, or are of another version of ours."""
    tags = client.get_experiment(experiment).tags
    for name, grouping in VIEWS.items():
        state = json.dumps(view_state(grouping), sort_keys=True)
        if tags.get(f"{TAG}{name}") != state:
            with only_writer(uri):
                client.set_experiment_tag(experiment, f"{TAG}{name}", state)


def link(experiment: str, view: str) -> str:
    """What stands behind the UI's address to open the charts of an experiment's runs in a view."""
    return f"#/experiments/{experiment}/runs?compareRunsMode=CHART&viewStateShareKey={view}"


def view_state(grouping: str | None) -> dict[str, Any]:
    """The UI's own terms for a view."""
    keys = [{"mode": "param", "groupByData": grouping}] if grouping else []
    sections = [
        {"uuid": name, "name": name, "display": True, "isReordered": True, "deleted": False, "isGenerated": True}
        for name in CHARTS
    ]
    return {
        "selectedColumns": COLUMNS,
        "runsHiddenMode": "FIRST_20_RUNS",
        "groupBy": {"aggregateFunction": "average", "groupByKeys": keys} if grouping else None,
        "compareRunSections": sections,
        "compareRunCharts": [_chart(s, metric, log) for s, charts in CHARTS.items() for metric, log in charts.items()],
        "isAccordionReordered": True,
        "orderByKey": "metrics.`final/test_error`",
        "orderByAsc": True,
    }


def _chart(section: str, metric: str, log: bool) -> dict[str, Any]:
    return {
        "type": "LINE",
        "uuid": metric,
        "metricSectionId": section,
        "metricKey": metric,
        "selectedMetricKeys": [metric],
        "displayName": metric.rpartition("/")[2],
        "scaleType": "log" if log else "linear",
        "xAxisKey": "step",
        "useGlobalXaxisKey": True,
        "useGlobalLineSmoothing": True,
        "isGenerated": True,
        "deleted": False,
        "runsCountToCompare": 20,
    }
