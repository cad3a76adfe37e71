"""What the page's script is given: the runs' own numbers, and nobody's markup; `test_page_in_browser.py` drives it."""

from __future__ import annotations

import base64
import json
import math
import re
import shlex
from pathlib import Path
from typing import Any

import numpy
import pytest
import yaml
from support import compose
from synthetic_sweep import write_journals, write_paper, write_run, write_status

from ncexp.config import check
from ncexp.record import SavedRun, State, read_run
from ncexp.record.quantities import find
from ncexp.report import page_data as data_of_page
from ncexp.report.columns import Column
from ncexp.report.page import render_page
from ncexp.report.page_data import MOST_COORDINATES, command_of, mlflow_page, page_data
from ncexp.report.study import Asked, study_of
from ncexp.tracking.address import OF_TRAININGS, UI_ADDRESS

STRANGE = "</script><img src=x onerror=alert(1)> \"quoted\" 'it' $x^2$ {{ 1 }} \u2028"


def _data(folder: Path, asked: Asked | None = None) -> tuple[list[SavedRun], dict[str, Any]]:
    """The page's data as its script reads them: through JSON."""
    study = study_of([read_run(path.parent) for path in sorted(folder.glob("*/config.yaml"))], asked)
    return study.runs, json.loads(json.dumps(page_data(study, folder / "report"), allow_nan=False))


def _curve(text: str) -> numpy.ndarray:
    return numpy.frombuffer(base64.b64decode(text), "<f4")


def _letters(data: dict[str, Any]) -> int:
    return sum(len(curve or "") for curves in data["history"].values() for curve in curves)


def _page(runs: list[SavedRun], folder: Path) -> str:
    return render_page(study_of(runs), "lead", ["verdict"], [], [], folder)


def test_numbers_of_the_page_are_those_of_the_runs(tmp_path: Path) -> None:
    write_run(tmp_path)
    write_run(tmp_path, seed=1, rate=0.05, epochs=[1, 2, 5, 9])
    runs, data = _data(tmp_path)
    for place, run in enumerate(runs):
        assert data["epochs"][place] == [one["epoch"] for one in run.records]
        assert data["runs"][place]["zero"] == run.zero_error_epoch
        for name, curves in data["history"].items():
            recorded = [one.get(name, math.nan) for one in run.records]
            numpy.testing.assert_allclose(_curve(curves[place]), recorded, rtol=1e-6)
        for name in {*data["final"]} - {"zero_error_epoch"}:
            assert float(data["final"][name][place] or "nan") == pytest.approx(run.records[-1].get(name), nan_ok=True)
    named = {name for run in runs for name in run.records[-1] if find(name)}
    assert {*data["history"]} == named  # the whole catalogue, on every split


def test_what_no_number_of_json_is_reaches_the_page(tmp_path: Path) -> None:
    path = write_run(tmp_path, epochs=[1, 2])
    one, two = ({**record, "train/mse/loss_ls": math.nan} for record in read_run(path).records)
    write_journals(path, [one, {**two, "train/mse/loss": math.inf, "train/loss": 1e300}])
    _, data = _data(tmp_path)
    assert data["final"]["train/mse/loss"] == ["Infinity"]
    assert "train/mse/loss_ls" not in data["final"]  # no run has it
    assert data["final"]["train/loss"] == [1e300]
    assert _curve(data["history"]["train/loss"][0])[-1] == math.inf  # as far as float32 goes


def test_words_of_a_run_are_no_markup_in_the_page(tmp_path: Path) -> None:
    path = write_run(tmp_path, state=State.FAILED)
    write_status(path, State.FAILED, message=STRANGE)
    path = path.rename(path.with_name(f"<b onclick=1>&amp;{path.name}"))
    page = _page([read_run(path)], tmp_path)
    assert "<img src=x" not in page
    assert "<b onclick" not in page
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page)
    (run,) = json.loads(text)["runs"]
    assert (run["message"], run["name"]) == (STRANGE, read_run(path).name)
    assert text.isascii()


def test_page_fetches_nothing_and_forbids_it(tmp_path: Path) -> None:
    page = _page([read_run(write_run(tmp_path))], tmp_path)
    own = re.sub(r"<script>/\*\*\n\* plotly\.js.*?</script>", "", page, flags=re.DOTALL)
    assert len(page) - len(own) > 3_000_000  # Plotly's script is inside
    assert not re.search(r"https?://|<link|@import|url\(|\ssrc=\"(?!data:)", own)
    assert "default-src 'none'; img-src data: blob:;" in own


@pytest.mark.slow
def test_page_of_a_large_sweep_stays_below_its_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers with a place in figures and tables come first, and of the others the last value is there."""
    write_paper(tmp_path, [0.02], epochs=[1, 2, 5, 9])
    _, whole = _data(tmp_path)
    monkeypatch.setattr(data_of_page, "MOST_LETTERS", _letters(whole) * 3 // 4)
    _, data = _data(tmp_path, Asked(y=("train/collapse/cdnv",)))
    assert 0.9 * data_of_page.MOST_LETTERS < _letters(data) <= data_of_page.MOST_LETTERS
    assert next(iter(data["history"])) == "train/collapse/cdnv"
    assert {name for name in whole["history"] if (row := find(name)) and row.panel and row.report} <= {*data["history"]}
    assert data["final"].keys() == whole["final"].keys()


def test_columns_of_the_page_are_told_from_the_catalogue(tmp_path: Path) -> None:
    for seed, rate in enumerate((0.001, 0.01, 0.1)):
        write_run(tmp_path, rate=rate, seed=seed, more=True)
    _, data = _data(tmp_path)
    keys = {one["name"]: one for one in data["keys"]}
    assert {name: keys["lr"][name] for name in ("numeric", "log", "values")} == {
        "numeric": True,
        "log": True,
        "values": ["0.001", "0.01", "0.1"],
    }
    named = {one["name"]: one for one in data["quantities"]}
    assert {name for name, one in named.items() if one["share"]} == {
        name for name in named if (row := find(name)) and row.is_share
    }
    mode = named["train/path/snr_3"]
    assert (mode["label"], mode["panel"]) == ("ω_3", named["train/path/snr_1"]["panel"])
    assert "PHD20" in named["train/collapse/nc1_trace"]["meaning"]
    assert named["test/error"]["title"] == "error, test"
    assert len(data["coordinates"]) == MOST_COORDINATES
    assert data["coordinates"][:2] == ["lr", "test/error"]


@pytest.mark.parametrize(
    ("asked", "view"),
    [
        (Asked(), {"quantity": "error", "split": "test", "against": "lr", "second": ""}),
        (Asked(x="epoch", y=("train/loss",)), {"quantity": "loss", "split": "train", "against": "epoch"}),
        (Asked(x="lr", y=("seed", "train/loss")), {"against": "lr", "second": "seed", "quantity": "loss"}),
        (Asked(scatter=("train/loss", "test/error")), {"quantity": "error", "against": "train/loss", "second": ""}),
        (Asked(facet=("seed", "loss")), {"facet": "seed, loss"}),
        (Asked(color="seed"), {"color": "seed"}),
    ],
)
def test_page_opens_with_what_was_asked_for(tmp_path: Path, asked: Asked, view: dict[str, str]) -> None:
    for rate in (0.002, 0.02):
        for seed in range(2):
            write_run(tmp_path, rate=rate, seed=seed)
    _, data = _data(tmp_path, asked)
    assert data["view"].items() >= view.items()


def test_runs_of_the_page_say_what_their_setting_shows(tmp_path: Path) -> None:
    for rate in (0.02, 0.09):
        for loss in ("mse", "cross_entropy"):
            write_run(tmp_path, rate=rate, loss=loss)
    _, data = _data(tmp_path, Asked(by=("loss",)))
    assert (data["axes"], data["free"]) == (["loss"], ["lr"])
    kept = {(one["values"]["loss"], one["values"]["lr"]) for one in data["runs"] if one["kept"]}
    assert kept == {("mse", "0.02"), ("cross_entropy", "0.02")}


def test_page_of_runs_without_a_number_is_made(tmp_path: Path) -> None:
    for seed in range(2):
        path = write_run(tmp_path, seed=seed, state=State.DIVERGED)
        for journal in [path / "training.jsonl", *path.glob("measurements/*.jsonl")]:
            journal.write_text("")
    runs, data = _data(tmp_path)
    assert (data["quantities"], data["history"], data["coordinates"]) == ([], {}, [])
    assert [one["last"] for one in data["runs"]] == [None, None]
    assert "what the sweep came to" in _page(runs, tmp_path)
    assert "what the run came to" in _page(runs[:1], tmp_path)


def test_links_of_a_run_are_relative_and_escaped(tmp_path: Path) -> None:
    path = write_run(tmp_path / "outputs ?#")
    (path / "figures").mkdir()
    (path / "figures" / "neural_collapse.png").touch()
    run = read_run(path)
    (one,) = page_data(study_of([run]), tmp_path / "report")["runs"]
    assert one["folder"] == f"../outputs%20%3F%23/{path.name}"
    assert one["figures"] == [["neural_collapse", f"{one['folder']}/figures/neural_collapse.png"]]


SENT = {"experiment_id": "7", "run_id": "ab12", "tags": 0, "files": {}}


@pytest.mark.parametrize(
    ("uri", "sent", "expected"),
    [
        (None, {"embedded": SENT}, [f"{UI_ADDRESS}/#/experiments/7/runs/ab12?{OF_TRAININGS}", "ncexp ui"]),
        (
            "http://lab:5000/",
            {"http://lab:5000/": SENT},
            [f"http://lab:5000/#/experiments/7/runs/ab12?{OF_TRAININGS}", ""],
        ),
        ("postgresql://lab/db", {"postgresql://lab/db": SENT}, None),
        ("javascript:alert(1)", {"javascript:alert(1)": SENT}, None),
        (None, {"embedded": {**SENT, "run_id": "x/../../y"}}, None),
        (None, {"embedded": 3}, None),
        (None, {}, None),
    ],
)
def test_page_of_mlflow_is_linked_where_it_is_known(
    tmp_path: Path, uri: str | None, sent: dict[str, Any], expected: list[str] | None
) -> None:
    path = write_run(tmp_path, uri=uri)
    (path / "mlflow.json").write_text(json.dumps(sent))
    assert mlflow_page(read_run(path)) == expected


def test_damaged_memory_of_mlflow_stays_where_it_is(tmp_path: Path) -> None:
    path = write_run(tmp_path)
    (path / "mlflow.json").write_text("{")
    assert mlflow_page(read_run(path)) is None
    assert (path / "mlflow.json").read_text() == "{"


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["optimizer=sgd_digits", "optimizer.lr=0.3", "loss=cross_entropy", "seed=3", "precision=bf16"],
        [
            "architecture=mlp",
            "architecture.hidden=[8,4]",
            "dataset=gaussian_mixture",
            "dataset.num_classes=3",
            "epochs=7",
        ],
        ["dataset=mnist", r"dataset.root='a folder\'s, $x'", "regime=on_path", "loss=mse_mean"],
    ],
)
def test_command_of_a_run_trains_the_same(tmp_path: Path, overrides: list[str]) -> None:
    raw = compose("config", overrides)
    path = write_run(tmp_path)
    (path / "config.yaml").write_text(yaml.safe_dump(raw))
    program, *words = shlex.split(command_of(read_run(path)))
    assert program == "ncexp"
    assert check(compose("config", words)).key == check(raw).key


def test_run_of_a_choice_that_is_not_here_has_no_command(tmp_path: Path) -> None:
    assert command_of(read_run(write_run(tmp_path, architecture="somebodys_net"))) == ""


def test_column_of_no_catalogue_is_shown_by_its_name() -> None:
    one = data_of_page._quantity(Column("train/mine/number"))
    assert (one["label"], one["family"], one["share"]) == ("mine/number", "mine", False)
