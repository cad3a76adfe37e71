"""What the page's script asks: the runs of a study, their keys, numbers and curves, as JSON takes them."""

from __future__ import annotations

import base64
import json
import math
import os
import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy

from ncexp.config.composing import quoted
from ncexp.config.installed import choices, read_choice
from ncexp.record import DamagedFile, RunDirectory, SavedRun, column, read_json
from ncexp.record.quantities import Quantity
from ncexp.report.columns import ABSENT, SEED, ZERO_EPOCH, Column, text_of
from ncexp.report.numbers import at_the_end
from ncexp.report.page_pictures import pictures_of
from ncexp.report.study import Study
from ncexp.report.style import COLOURS, MORE, OTHERS, RED, key_colours, scale_colours

#: Base64 letters of all curves together: the file stays below 25 MB, of which Plotly's script takes five. Numbers that
#: have a place in summary, figures or tables come first; of those that no room is left for the last value is there.
MOST_LETTERS = 15_000_000
#: What is chosen by a name.
GROUPS = ("dataset", "architecture", "loss", "optimizer", "optimizer/schedule")
#: Runs up to which each has its pictures.
MOST_PICTURED = 4
#: Axes of the parallel coordinates.
MOST_COORDINATES = 10
#: Where `ncexp ui` shows the store of an outputs folder, and a training's page there (`ncexp.tracking.address`).
UI_ADDRESS = "http://ncexp.localhost:5000"
MLFLOW_PAGE = "{}/#/experiments/{}/runs/{}?workflowType=machine_learning"
#: Of every run, but none of the catalogue's: it is no number of an epoch.
ZERO = Quantity(
    ZERO_EPOCH,
    "zero-error epoch",
    "the first epoch after which at most 0.1 % of the training examples are decided wrongly",
    "PHD20",
    "linear",
    "–",
    ("",),
)


def page_data(study: Study, folder: Path) -> dict[str, Any]:
    """The content of the page's JSON. folder: that the page lies in, from which links lead to runs.

    keys and quantities: what each is called and means, and its colours or scale. runs: in order; `setting` is the place
    of its setting; kept: whether that shows it. final: quantity → the number of each run at its last evaluated epoch;
    history: quantity → of each run base64 of float32, a number for each of its `epochs`. view: what is drawn first.
    """
    runs, asked = study.runs, {one.name for one in study.layout.y}
    known = [one for one in study.quantities if _is_there(one, runs)]
    keys = [*dict.fromkeys(one for one in [*study.keys, *study.layout.keys_of()] if one.is_key)]
    settings = {run.key: place for place, one in enumerate(study.settings) for run in one.runs}
    kept = {run.key for one in study.settings for run in one.kept}
    panels = {run.key: title for title, ones in study.facets for one in ones for run in one.runs}
    axes, free = ([one.name for one in columns] for columns in (study.by, study.free))
    shown = [one.name for one in known if one.name in asked or (one.row and one.name.split("/")[0] in one.row.report)]
    return {
        "keys": [*map(_key, keys)],
        "axes": axes,
        "free": free,
        "quantities": [_quantity(one) | {"at_once": one.name in shown} for one in known],
        "runs": [
            _run(run, keys, folder)
            | {"setting": settings[run.key], "kept": run.key in kept, "panel": panels[run.key]}
            | {"pictures": pictures_of(run) if len(runs) <= MOST_PICTURED else []}
            for run in runs
        ],
        "final": {one.name: [_number(_final(one)(run)) for run in runs] for one in known},
        "history": dict(_histories(runs, known, asked)),
        "epochs": [[int(record["epoch"]) for record in run.records] for run in runs],
        "view": _view(study, [one.name for one in known]),
        "facets": [one.name for one in study.layout.facet],
        "panels": [title for title, _ in study.facets] if len(study.layout.facet) > 1 else [],
        "coordinates": [name for name in (*axes, *free, *shown) if name != SEED][:MOST_COORDINATES],
        "palette": [*OTHERS, *(MORE[4 * family + shade] for shade in range(4) for family in (3, 4, 2, 1, 5, 0))],
        "scale": scale_colours(10),
        "red": RED,
        "blue": COLOURS["mse"],
    }


def _is_there(one: Column, runs: Sequence[SavedRun]) -> bool:
    """Whether some run has the number, after some epoch."""
    if one.name == ZERO_EPOCH:
        return any(run.zero_error_epoch is not None for run in runs)
    return any(not math.isnan(record.get(one.name, math.nan)) for run in runs for record in run.records)


def _final(one: Column) -> Callable[[SavedRun], float]:
    """The number of a run as it is recorded: a share is a fraction."""
    return one.of if one.name == ZERO_EPOCH else at_the_end(one.name)


def _number(value: float) -> float | str | None:
    """With the digits of float32; what JSON has no number for as JavaScript reads it from a word."""
    if math.isnan(value):
        return None
    return float(f"{value:.8g}") if math.isfinite(value) else f"{'-' * (value < 0)}Infinity"


def _histories(
    runs: Sequence[SavedRun], known: Sequence[Column], asked: set[str]
) -> Iterator[tuple[str, list[str | None]]]:
    """Of the numbers of the catalogue and those that are asked for, as far as MOST_LETTERS allow."""

    def rank(one: Column) -> int:
        placed = one.row is not None and (one.row.panel or one.row.summary or one.row.report or one.row.view)
        return 0 if one.name in asked else 1 if placed else 2

    left = MOST_LETTERS
    for one in sorted((one for one in known if one.row is not None or one.name in asked), key=rank):
        curves = [_encoded(column(run.records, one.name)) for run in runs]
        left -= sum(len(curve) for curve in curves if curve)
        if left < 0:
            return
        if any(curves):
            yield one.name, curves


def _encoded(values: Sequence[float]) -> str | None:
    """None where nothing is defined."""
    with numpy.errstate(over="ignore"):
        array = numpy.asarray(values, "<f4")
    return None if numpy.isnan(array).all() else base64.b64encode(array.tobytes()).decode()


def _key(one: Column) -> dict[str, Any]:
    """Its values in their order, each with its colour: numbers dark to light, words as in figures."""
    values = [word for text, word in one.words.items() if text != ABSENT]
    colours = key_colours(values, one.numeric).values()
    return {"name": one.name, "numeric": one.numeric, "log": one.log, "values": values, "colors": [*colours]}


def _quantity(one: Column) -> dict[str, Any]:
    """What people are told of it. A number of a mode or class has its number in the label, and the panel of its row."""
    split, _, base = one.name.partition("/") if "/" in one.name else ("", "", one.name)
    unknown = Quantity(base, base, "not in the catalogue", "–", "linear", "–", (split,))
    row = one.row or (ZERO if one.name == ZERO_EPOCH else unknown)
    label = row.label
    if "<j>" in row.name:
        label = re.sub(r"(?<=[_ ])j\b", base.rpartition("_")[2], label)
    elif base.startswith("layers/"):
        label = f"{base.split('/')[1]}, {label}"
    short, _, symbol = label.partition(": ")
    source = f" ({row.source})" if row.source != "–" else ""
    end = f" At collapse: {row.at_collapse}." if row.at_collapse != "–" else ""
    return {
        "name": one.name,
        "base": base,
        "family": base.rpartition("/")[0],
        "split": split,
        "title": short if split in ("", "train") else f"{short}, {split}",
        "label": short,
        "symbol": symbol,
        "meaning": f"{row.meaning}.{end}{source}",
        "log": row.is_log,
        "share": row.is_share,
        "panel": row.panel or (row.short if "<j>" in row.name else short),
        "in_panel": bool(row.panel),
        "curve": short if "<j>" in row.name else row.curve,
        "color": COLOURS.get(row.quantity) if row.name.startswith("mse/") else None,
    }


def _run(run: SavedRun, keys: Sequence[Column], folder: Path) -> dict[str, Any]:
    there = run.path.exists()  # not one that was read from MLflow
    return {
        "key": run.key,
        "name": run.name,
        "state": str(run.state),
        "message": run.message,
        "last": int(run.records[-1]["epoch"]) if run.records else None,
        "zero": run.zero_error_epoch,
        "seed": run.seed,
        "values": {one.name: one.words[text] for one in keys if (text := text_of(run, one.name)) != ABSENT},
        "folder": _link(run.path, folder) if there else None,
        "figures": [[one.stem, _link(one, folder)] for one in sorted((run.path / "figures").glob("*.png"))],
        "mlflow": mlflow_page(run),
        "command": command_of(run),
    }


def _link(path: Path, folder: Path) -> str:
    """From the page to a file; what an address may not hold is escaped."""
    return quote(os.path.relpath(path.resolve(), folder.resolve()))


def mlflow_page(run: SavedRun) -> list[str] | None:
    """The run's page on its server, or in `ncexp ui`, and the command that serves it; None where it was not sent."""
    uri = (run.raw.get("tracking") or {}).get("uri")
    try:
        sent = (read_json(RunDirectory(run.path).tracking) or {}).get(uri or "embedded")
    except DamagedFile:  # `ncexp sync` says so, and mends it
        return None
    names = [str(sent.get(name)) for name in ("experiment_id", "run_id")] if isinstance(sent, dict) else []
    if not names or not all(re.fullmatch(r"\w{1,64}", name) for name in names):
        return None
    if uri is None:
        return [MLFLOW_PAGE.format(UI_ADDRESS, *names), "ncexp ui"]
    served = isinstance(uri, str) and uri.startswith(("http://", "https://"))
    return [MLFLOW_PAGE.format(uri.rstrip("/"), *names), ""] if served else None


def command_of(run: SavedRun) -> str:
    """The command that trains the same: choices, and their options where those of conf/ are others.

    Empty where no command does: of other trainings' checkpoints, of choices that are not in conf/ here.
    """
    if run.is_foreign or run.is_simulation:
        return ""
    words, defaults = ["ncexp"], {"precision": "fp32", "compile": False, "regime": "plain"}
    for name, value in run.choices.items():
        group = name.replace(".", "/")
        if group in GROUPS and value is not None:
            if (options := _options(group, str(value))) is None:
                return ""
            words.append(f"{group}={value}")
            defaults |= {f"{name}.{option}": of_file for option, of_file in options.items()}
        elif name != "lr" and not (name in defaults and defaults[name] == value):
            words.append(f"{name}={_written(value)}")
    return shlex.join(words)


@cache
def _options(group: str, name: str) -> dict[str, Any] | None:
    return read_choice(group, name) if name in choices(group) else None


def _written(value: Any) -> str:
    """As Hydra's grammar has it."""
    simple = not isinstance(value, str) or re.fullmatch(r"[A-Za-z_][\w/]*", value)
    return (value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))) if simple else quoted(value)


def _view(study: Study, known: Sequence[str]) -> dict[str, str]:
    """What the figure shows first: the layout's choice, as values of the page's controls."""
    layout = study.layout
    numbers = [one.name for one in layout.y if one.name in known] + [*known]
    view = {
        "against": layout.x.name if layout.x else "epoch",
        "second": layout.across.name if layout.across else "",
        "color": layout.color.name if layout.color and layout.color.is_key else "",
        "facet": ", ".join(one.name for one in layout.facet),
    }
    if layout.scatter and not layout.scatter[1].is_key:
        view |= {"against": layout.scatter[0].name, "second": ""}
        numbers = [layout.scatter[1].name]
    split, _, base = numbers[0].partition("/") if numbers and "/" in numbers[0] else ("", "", ZERO_EPOCH)
    return view | {"quantity": base, "split": split}
