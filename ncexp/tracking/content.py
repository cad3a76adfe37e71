"""What MLflow is told of a run, from its record alone: parameters, tags, points, summaries, the data it saw."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from ncexp.journal import Record
from ncexp.run_record import RunRecord
from ncexp.summary import ROWS, outcome

#: How MLflow calls our states.
RUN_STATUS = {
    "pending": "SCHEDULED",
    "running": "RUNNING",
    "completed": "FINISHED",
    "diverged": "FINISHED",
    "failed": "FAILED",
    "interrupted": "KILLED",
    "killed": "KILLED",
}
#: States after which the journal grows no more, so that its summary is worth stating.
FINAL = ("completed", "diverged")
#: Kept in the journal alone, so that MLflow's page of a run stays under eighty charts: single modes of the spectrum,
#: checks on rounding, and quantities that few people plot.
JOURNAL_ONLY = re.compile(
    r"path/snr_\d+|path/(rank|condition_number)|.*identity_residual|.*/(uniformity_means_variance|effective_rank_within)"
)

Point = tuple[str, float, int, int]


def points(records: list[Record], timestamps: dict[int, int]) -> list[Point]:
    """(name, value, milliseconds, epoch) of every defined value that is sent; an undefined one is a gap in a chart."""
    return [
        (name, value, timestamps[int(record["epoch"])], int(record["epoch"]))
        for record in records
        for name, value in record.items()
        if is_sent(name) and not math.isnan(value)
    ]


def is_sent(name: str) -> bool:
    """Is this entry of the journal one that MLflow gets?"""
    return name != "epoch" and JOURNAL_ONLY.fullmatch(name) is None


def summary_points(run: RunRecord, timestamps: dict[int, int]) -> list[Point]:
    """``final/``, ``best/`` and ``zero/`` of a run that is over, at its last epoch; none before that."""
    if run.state not in FINAL or not run.records:
        return []
    last = int(run.records[-1]["epoch"])
    return [(name, value, timestamps[last], last) for name, value in outcome(run.records).items()]


def tags(run: RunRecord) -> dict[str, str]:
    """What changes as the run goes, and what it is called outside MLflow."""
    reason = {"reason": run.message[:500]} if run.message and run.state != "completed" else {}
    sweep = {"sweep": ", ".join(run.sweeps)} if run.sweeps else {}
    return {"state": run.state, **reason, **sweep, "mlflow.note.content": description(run)}


def short_name(run: RunRecord) -> str:
    """For the UI's lists and legends, which cut names: without the dataset, which the experiment tells."""
    _, architecture, loss = run.cell
    return f"{architecture}-{loss}-{run.rate:.3g}-{run.parameters['seed']}"


def description(run: RunRecord) -> str:
    """The run in Markdown: what it is, how it ended, its numbers at the end."""
    dataset, architecture, loss = run.cell
    lines = [
        f"**{architecture}** on **{dataset}**, {loss}, learning rate {run.rate:g}, seed {run.parameters['seed']}.",
        f"State: **{run.state}**" + (f" ({run.message})" if run.message else ""),
        f"Record: `{run.path}`, the truth of which this is a copy.",
    ]
    if run.state in FINAL and run.records:
        last = run.records[-1]
        table = [f"| {label} | {last[name]:.4g} |" for label, name in ROWS.items() if name in last]
        lines.append("\n".join([f"| at epoch {last['epoch']:.0f} | |", "|---|---|", *table]))
    return "\n\n".join(lines)


def data_digest(run: RunRecord) -> str:
    """What determines the data, in sixteen hexadecimal digits: the choice, its options, and the sizes it came to."""
    sizes = {name: run.facts.get(name) for name in ("num_classes", "num_train", "num_test")}
    chosen = {name: option for name, option in run.raw["dataset"].items() if name != "name"}
    return hashlib.sha256(json.dumps([chosen, sizes], sort_keys=True).encode()).hexdigest()[:16]


def milliseconds(stamp: str) -> int:
    """An ISO time of status.json in milliseconds since 1970."""
    return int(datetime.fromisoformat(stamp).timestamp() * 1000)


def chunks(items: list[Any], size: int) -> Iterator[list[Any]]:
    """`items` in lists of at most `size`."""
    for first in range(0, len(items), size):
        yield items[first : first + size]
