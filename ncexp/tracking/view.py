"""The stored views with which MLflow's UI opens an experiment of ours: parameters as columns, the catalogue's charts.

The UI keeps a shared view as a tag of the experiment, in JSON (as of MLflow 3.17); a link names it. Whoever wants
another view makes it in the UI: these are offered, not imposed.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ncexp.record.quantities import NC1 as NC1_PANEL
from ncexp.record.quantities import Quantity, leading, selected
from ncexp.tracking.address import OF_TRAININGS
from ncexp.tracking.store import only_writer

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

TAG = "mlflow.sharedViewState."
NC1 = leading(NC1_PANEL).on()
COLUMNS = [
    *(f"params.`{name}`" for name in ("architecture", "loss", "lr", "seed", "precision")),
    *(f"metrics.`{name}`" for name in ("test/error", NC1, "train/path/perp_share", "zero/epoch")),
    *(f"tags.`{name}`" for name in ("state", "reason", "sweep")),
]
#: Name of a view → the parameters by which it groups runs (mean, and band); none: each run by itself.
VIEWS: dict[str, tuple[str, ...]] = {"runs": (), "by_loss_and_rate": ("loss", "lr")}


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
    chosen = f"compareRunsMode=CHART&{OF_TRAININGS}&viewStateShareKey={view}"
    return f"#/experiments/{experiment}/runs?{chosen}"


def view_state(grouping: tuple[str, ...]) -> dict[str, Any]:
    """A view in the UI's own terms: a section for each split, in it the quantities that the catalogue shows there."""
    keys = [{"mode": "param", "groupByData": name} for name in grouping]
    charts = selected("view")
    sections = dict.fromkeys(name.partition("/")[0] for name, _ in charts)
    return {
        "selectedColumns": COLUMNS,
        "runsHiddenMode": "FIRST_20_RUNS",
        "groupBy": {"aggregateFunction": "average", "groupByKeys": keys} if keys else None,
        "compareRunSections": [
            {"uuid": name, "name": name, "display": True, "isReordered": True, "deleted": False, "isGenerated": True}
            for name in sections
        ],
        "compareRunCharts": [_parallel(next(iter(sections))), *(_chart(name, row) for name, row in charts)],
        "isAccordionReordered": True,
        "orderByKey": "metrics.`test/error`",
        "orderByAsc": True,
    }


def _parallel(section: str) -> dict[str, Any]:
    """Parallel coordinates: what was chosen, and what came of it at the end."""
    chosen = {"selectedParams": ["loss", "lr"], "selectedMetrics": [NC1], "showAllRuns": False}
    return _drawn("PARALLEL", "parallel", section, "loss, rate, NC1 at the end") | chosen


def _chart(metric: str, row: Quantity) -> dict[str, Any]:
    axes = {"scaleType": "log" if row.is_log else "linear", "xAxisKey": "step", "useGlobalXaxisKey": True}
    lines = {"metricKey": metric, "selectedMetricKeys": [metric], "useGlobalLineSmoothing": True}
    return _drawn("LINE", metric, metric.partition("/")[0], row.short) | axes | lines


def _drawn(kind: str, name: str, section: str, title: str) -> dict[str, Any]:
    """What every chart has."""
    where = {"type": kind, "uuid": name, "metricSectionId": section, "displayName": title}
    return where | {"isGenerated": True, "deleted": False, "runsCountToCompare": 20}
