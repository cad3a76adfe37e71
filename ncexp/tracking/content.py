"""What MLflow gets of a run, from its directory alone: numbers, parameters, tags, the data that it saw."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

from ncexp.config.augment import KEY
from ncexp.record import Record, RunDirectory, SavedRun, State
from ncexp.record.quantities import selected

#: (name, value, milliseconds since 1970, epoch)
Point = tuple[str, float, int, int]
Item = TypeVar("Item")

#: MLflow's longest name.
LONGEST_NAME = 250


def sources(run: SavedRun) -> dict[str, Sequence[Record]]:
    """Every number of the run: journal → its lines; of a final run also the closed form's fit, and its `milestones`."""
    found: dict[str, Sequence[Record]] = {"training.jsonl": run.training, **run.measured}
    if run.state.final and run.records:
        last = run.records[-1]["epoch"]
        found["path_fit.json"] = run.path_fit
        found |= {name: [{"epoch": last, name: value}] for name, value in milestones(run).items()}
    return found


def milestones(run: SavedRun) -> dict[str, float]:
    """What a table with one row a run shows beside the last values, which MLflow shows itself.

    ``best/`` at the epoch of the lowest test error; ``zero/`` at the zero-error epoch, with ``final/gain``, the test
    accuracy won from there to the end, in points; ``exact/`` and ``final/exact_gain`` the same from the first evaluated
    epoch without a single train error. These only where they were reached.
    """
    tested = [record for record in run.records if "test/error" in record]
    if not tested:
        return {}
    best = min(tested, key=lambda record: record["test/error"])
    numbers = {"best/test_error": best["test/error"], "best/epoch": best["epoch"]}
    exact = next((record["epoch"] for record in tested if record["train/error"] == 0), None)
    for word, gain, epoch in (("zero", "gain", run.zero_error_epoch), ("exact", "exact_gain", exact)):
        for record in tested:
            if record["epoch"] == epoch:
                numbers |= {f"{word}/epoch": record["epoch"], f"{word}/test_error": record["test/error"]}
                numbers[f"final/{gain}"] = 100 * (record["test/error"] - tested[-1]["test/error"])
    return {name: value for name, value in numbers.items() if not math.isnan(value)}


def points(lines: Iterable[Record], times: dict[int, int], otherwise: int) -> list[Point]:
    """Every defined value; an undefined one is a gap in a chart.

    A value bears the time at which its epoch ended, however late it was measured; `otherwise` where no clock ran.
    """
    return [
        (metric_name(name), value, times.get(int(line["epoch"]), otherwise), int(line["epoch"]))
        for line in lines
        for name, value in line.items()
        if name != "epoch" and not math.isnan(value)
    ]


def metric_name(name: str) -> str:
    """The name in MLflow: the same, but for what MLflow refuses: other characters are ``:hex:``, long names are cut.

    >>> metric_name("train/layers/block(1)/nc1_ratio")
    'train/layers/block:28:1:29:/nc1_ratio'
    """
    escaped = re.sub(r"[^A-Za-z0-9_\-. /]", lambda match: f":{ord(match[0]):x}:", name)
    parts = [part.replace(".", ":2e:") if part in (".", "..") else part or ":" for part in escaped.split("/")]
    whole = "/".join(parts)
    if len(whole) <= LONGEST_NAME:
        return whole
    return f"{whole[: LONGEST_NAME - 11]}:{hashlib.sha256(name.encode()).hexdigest()[:10]}"


def tags(run: SavedRun, run_id: str = "") -> dict[str, str]:
    """What changes as the run goes, and what it is called outside MLflow; run_id: what it is called inside."""
    found = {"state": str(run.state), "mlflow.note.content": description(run, run_id)}
    if run.message and run.state != "completed":
        found["reason"] = run.message[:500]
    if run.sweeps:
        found["sweep"] = ", ".join(run.sweeps)
    records = run.training or run.records
    if run.state != "running" and records:  # how far the record is good, for who reads it from MLflow
        found["epoch"] = str(int(records[-1]["epoch"]))
    return found


def short_name(run: SavedRun) -> str:
    """For the UI's lists and legends, which cut names: without the dataset, which is the experiment's."""
    if run.is_simulation:
        return run.name
    _, architecture, loss = run.cell
    return f"{architecture}-{loss}-{_rate(run, '.3g')}-{_seed(run)}"


def description(run: SavedRun, run_id: str = "") -> str:
    """The run in Markdown: what it is, how it ended, its numbers at the end, and, of a run in MLflow, its figures."""
    lines = [
        _title(run),
        f"State: **{run.state}**" + (f" ({run.message})" if run.message else ""),
        f"Record: `{run.path}`. MLflow has a copy of its numbers.",
    ]
    if run.state.final and run.records:
        last = run.records[-1]
        rows = [(f"{name.partition('/')[0]} {row.short}", name) for name, row in selected("summary") if name in last]
        table = [f"| {label} | {last[name]:.4g} |" for label, name in rows]
        lines.append("\n".join([f"| at epoch {last['epoch']:.0f} | |", "|---|---|", *table]))
    if run_id and run.state is not State.RUNNING:  # of a running one they are not there yet
        figures = sorted(RunDirectory(run.path).figures.glob("*.png"))
        address = f"get-artifact?run_uuid={run_id}&path=figures/"  # where the UI's server has the run's files
        lines += [f"![{figure.stem}]({address}{figure.name})" for figure in figures]
    return "\n\n".join(lines)


def _title(run: SavedRun) -> str:
    if run.is_simulation:
        return f"**{run.parameters['simulation']}**, a simulation, seed {run.raw['seed']}."
    dataset, architecture, loss = run.cell
    origin = (
        f" Measured on another training's checkpoints, {run.facts.get('checkpoints', '?')}." if run.is_foreign else ""
    )
    return f"**{architecture}** on **{dataset}**, {loss}, learning rate {_rate(run, 'g')}, seed {_seed(run)}.{origin}"


def _rate(run: SavedRun, form: str) -> str:
    return "?" if math.isnan(run.rate) else format(run.rate, form)


def _seed(run: SavedRun) -> str:
    return "?" if run.seed is None else str(run.seed)


def sizes(run: SavedRun) -> dict[str, Any]:
    """Those of the data."""
    return {name: run.facts.get(name) for name in ("num_train", "num_test", "num_classes")}


def data_digest(run: SavedRun) -> str:
    """What determines the data, in sixteen hexadecimal digits: the choice, its options, and the sizes it came to."""
    chosen = {name: option for name, option in run.raw["dataset"].items() if name not in ("name", KEY)}
    return hashlib.sha256(json.dumps([chosen, sizes(run)], sort_keys=True).encode()).hexdigest()[:16]


def chunks(items: list[Item], size: int) -> Iterator[list[Item]]:
    """`items` in lists of at most `size`."""
    for first in range(0, len(items), size):
        yield items[first : first + size]
