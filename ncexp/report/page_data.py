"""What the page's script asks: the runs of a study, their keys, numbers and curves, as JSON takes them."""

from __future__ import annotations

import base64
import math
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy
from matplotlib.colors import to_hex

from ncexp.record import RunDirectory, SavedRun, column, read_json
from ncexp.record.files import DamagedFile
from ncexp.report.numbers import at_the_end
from ncexp.report.study import ABSENT, ZERO_EPOCH, Column, Study, brief, text_of
from ncexp.report.style import COLOURS, MORE, OTHERS, RED, group_colours, mode_colours

#: Base64 letters of all curves together: the file stays below 25 MB, of which Plotly's script takes five. Numbers that
#: have a place in summary, figures or tables come first; of those that no room is left for, the last value is there.
MOST_LETTERS = 15_000_000
#: Where MLflow shows a training rather than a language model; see `ncexp.tracking.address`.
MLFLOW_PAGE = "{uri}/#/experiments/{experiment_id}/runs/{run_id}?workflowType=machine_learning"
IDENTIFIER = re.compile(r"\w{1,64}")


def page_data(study: Study, folder: Path) -> dict[str, Any]:
    """The content of the page's JSON. folder: that the page lies in, from which links lead to runs.

    keys and quantities: what each is called and means, and its colours or scale. runs: in order; `setting` is a place
    in settings; kept: shown for its setting. final: quantity → the number of each run at its last evaluated epoch;
    history: quantity → of each run base64 of float32, a number for each of its `epochs`. view: what is drawn first.
    """
    quantities = [one for one in study.quantities if any(map(math.isfinite, _finals(one, study.runs)))]
    keys = {one.name: one for one in [*study.keys, *study.layout.keys_of()] if one.is_key}
    places = {run.key: place for place, one in enumerate(study.settings) for run in one.runs}
    kept = {run.key for one in study.settings for run in one.kept}
    return {
        "keys": [_key(one) for one in keys.values()],
        "axes": [one.name for one in study.by],
        "free": [one.name for one in study.free],
        "quantities": [_quantity(one) for one in quantities],
        "runs": [
            _run(run, [*keys], folder) | {"setting": places.get(run.key), "kept": run.key in kept} for run in study.runs
        ],
        "settings": [
            {"label": one.label, "values": one.values, "chosen": one.chosen, "completed": one.completed}
            for one in study.settings
        ],
        "final": {one.name: [*map(_number, _finals(one, study.runs))] for one in quantities},
        "history": dict(_histories(study, quantities)),
        "epochs": [[int(record["epoch"]) for record in run.records] for run in study.runs],
        "view": _view(study, {one.name for one in quantities}),
        "palette": [*OTHERS, *MORE],
        "scale": [to_hex(one) for one in mode_colours(10)],
        "red": RED,
    }


def _finals(one: Column, runs: Sequence[SavedRun]) -> list[float]:
    """As recorded: a share is a fraction."""
    if one.name == ZERO_EPOCH:
        return [one.of(run) for run in runs]
    return [*map(at_the_end(one.name), runs)]


def _number(value: float) -> float | str | None:
    """With the digits of float32; what JSON has no number for as JavaScript reads it from a word."""
    if math.isnan(value):
        return None
    return float(f"{value:.8g}") if math.isfinite(value) else f"{'-' * (value < 0)}Infinity"


def _histories(study: Study, quantities: Sequence[Column]) -> Iterator[tuple[str, list[str | None]]]:
    """Of numbers of the catalogue and those that are asked for, as far as MOST_LETTERS allow."""
    asked = {one.name for one in study.layout.y}

    def rank(one: Column) -> int:
        placed = one.row is not None and (one.row.panel or one.row.summary or one.row.report or one.row.view)
        return 0 if one.name in asked else 1 if placed else 2

    left = MOST_LETTERS
    for one in sorted((one for one in quantities if one.row is not None or one.name in asked), key=rank):
        curves = [_encoded(column(run.records, one.name)) for run in study.runs]
        left -= sum(len(curve) for curve in curves if curve)
        if left < 0:
            return
        yield one.name, curves


def _encoded(values: Sequence[float]) -> str | None:
    """None where nothing is defined."""
    with numpy.errstate(over="ignore"):
        array = numpy.asarray(values, "<f4")
    return None if numpy.isnan(array).all() else base64.b64encode(array.tobytes()).decode()


def _key(one: Column) -> dict[str, Any]:
    named = [*dict.fromkeys(brief(text) for text in one.texts if text != ABSENT)]
    if one.numeric:
        colours = dict(zip(named, map(to_hex, mode_colours(len(named))), strict=True))
    else:
        colours = group_colours(named)
    return {
        "name": one.name,
        "label": one.name,
        "numeric": one.numeric,
        "log": one.log,
        "values": named,
        "colors": [colours[text] for text in named],
    }


def _quantity(one: Column) -> dict[str, Any]:
    """A number of a mode has its number in the label, and the panel of its row."""
    split, _, base = one.name.rpartition("/") if one.row is None else one.name.partition("/")
    named: dict[str, Any] = {"name": one.name, "split": split, "base": base, "family": base.rpartition("/")[0]}
    if one.row is None:
        label = one.label if one.name == ZERO_EPOCH else base
        meaning = "the first epoch after which at most 0.1 % of the training examples are decided wrongly"
        return named | {"split": "" if one.name == ZERO_EPOCH else split, "base": label, "label": label, "symbol": "",
                        "meaning": meaning if one.name == ZERO_EPOCH else "", "log": False, "share": False,
                        "at_collapse": "–", "source": "", "panel": label, "place": 0, "at_once": False}  # fmt: skip
    row, mode = one.row, re.search(r"_(\d+)$", base)
    label = row.label
    if "<j>" in row.name and mode:
        label = label.replace("_j", f"_{mode[1]}").replace("class j", f"class {mode[1]}").replace("mode j", f"mode {mode[1]}")
    elif base.startswith("layers/"):
        label = f"{base.split('/')[1]}, {label}"
    short, _, symbol = label.partition(": ")
    return named | {
        "label": short,
        "symbol": symbol,
        "meaning": row.meaning,
        "log": row.is_log,
        "share": row.is_share,
        "at_collapse": row.at_collapse,
        "source": row.source,
        "panel": row.panel or (row.short if "<" in row.name else short),
        "curve": row.curve,
        "color": COLOURS.get(row.quantity) if row.name.startswith("mse/") else None,
        "at_once": split in row.report,
        "in_panel": bool(row.panel),
    }


def _run(run: SavedRun, keys: Sequence[str], folder: Path) -> dict[str, Any]:
    figures = sorted((run.path / "figures").glob("*.png"))
    return {
        "key": run.key,
        "name": run.name,
        "state": str(run.state),
        "message": run.message,
        "last": int(run.records[-1]["epoch"]) if run.records else None,
        "zero": run.zero_error_epoch,
        "seed": run.seed,
        "values": {name: brief(text) for name in keys if (text := text_of(run, name)) != ABSENT},
        "folder": _link(run.path, folder),
        "figures": [[one.stem.replace("_", " "), _link(one, folder)] for one in figures],
        "mlflow": mlflow_page(run),
        "command": "",
    }


def _link(path: Path, folder: Path) -> str:
    """From the page to a file, with what an address may not hold escaped."""
    return quote(os.path.relpath(path.resolve(), folder.resolve()))


def mlflow_page(run: SavedRun) -> str | None:
    """The run's page on its tracking server; None where there is no server, or the run was not sent there."""
    uri = (run.raw.get("tracking") or {}).get("uri")
    if not (isinstance(uri, str) and uri.startswith(("http://", "https://"))):
        return None
    try:
        sent = (read_json(RunDirectory(run.path).tracking) or {}).get(uri)
    except DamagedFile:  # `ncexp sync` says so, and mends it
        return None
    names = {name: str(sent.get(name)) for name in ("experiment_id", "run_id")} if isinstance(sent, dict) else {}
    if not names or not all(map(IDENTIFIER.fullmatch, names.values())):
        return None
    return MLFLOW_PAGE.format(uri=uri.rstrip("/"), **names)


def _view(study: Study, known: set[str]) -> dict[str, str]:
    """What the figure shows first: the layout's choice, as names that the page's controls have."""
    layout = study.layout
    numbers = [one.name for one in layout.y if one.name in known]
    against, second = (layout.x.name if layout.x else "epoch"), layout.across.name if layout.across else ""
    if layout.scatter and not layout.scatter[1].is_key:
        against, second, numbers = layout.scatter[0].name, "", [layout.scatter[1].name]
    return {
        "quantity": numbers[0] if numbers else "",
        "against": against,
        "second": second,
        "color": layout.color.name if layout.color and layout.color.is_key else "",
        "facet": layout.facet[0].name if layout.facet else "",
    }
