"""What a report is about: axes that no preset knows, settings, which are kept, names that no run has."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
from synthetic_sweep import write_run

from ncexp.record import SavedRun, State, load
from ncexp.report.columns import is_geometric
from ncexp.report.page_data import page_data
from ncexp.report.study import MOST_FACETS, Asked, Best, Study, study_of
from ncexp.report.tables import settings

EPOCHS = [1, 2, 5, 12, 35]
ERROR, NC1 = "test/error", "train/collapse/nc1_trace"
DECAYS, BATCHES, WARMUPS = (0.0005, 0.005, 0.05), (32, 128), ("none", "linear")
AXES = ["batch_size", "optimizer.warmup", "optimizer.weight_decay"]


def write_stranger(folder: Path, seeds: int = 2) -> None:
    """A sweep over three keys that no preset knows."""
    for decay, batch, warmup, seed in product(DECAYS, BATCHES, WARMUPS, range(seeds)):
        options = {"optimizer.weight_decay": decay, "batch_size": batch, "optimizer.warmup": warmup}
        write_run(folder, seed=seed, epochs=EPOCHS, options=options)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[SavedRun]:
    """The stranger's, with errors of their own: 1 % for each step of decay, 0.1 % of batch, 0.01 % of a seed."""
    folder = tmp_path_factory.mktemp("stranger")
    write_stranger(folder)
    return [with_end(run, ERROR, error_of(run)) for run in load(folder)]


def error_of(run: SavedRun) -> float:
    decay, batch = (float(run.parameters[name]) for name in ("optimizer.weight_decay", "batch_size"))
    return 0.01 * (1 + DECAYS.index(decay)) + 0.001 * BATCHES.index(int(batch)) + 0.0001 * (run.seed or 0)


def with_end(run: SavedRun, name: str, value: float) -> SavedRun:
    return replace(run, records=[*run.records[:-1], {**run.records[-1], name: value}])


def names(columns: object) -> list[str]:
    return [one.name for one in columns]  # type: ignore[attr-defined]


def test_axes_of_a_strangers_sweep_are_found(runs: list[SavedRun]) -> None:
    study = study_of(runs)
    assert sorted(names(study.by)) == AXES
    assert (len(study.settings), study.free) == (12, [])
    assert {len(setting.runs) for setting in study.settings} == {2}
    assert sorted(names(study.keys)) == sorted([*AXES, "seed"])
    layout = study.layout
    assert layout.x is not None
    assert layout.across is not None
    assert (layout.x.name, layout.across.name) == ("optimizer.weight_decay", "batch_size")
    assert layout.x.log
    assert layout.y[0].name == ERROR


def test_free_axes_keep_the_best_combination_and_none_pools(runs: list[SavedRun]) -> None:
    study = study_of(runs, Asked(by=("optimizer.warmup",)))
    assert sorted(names(study.free)) == ["batch_size", "optimizer.weight_decay"]
    assert [setting.chosen for setting in study.settings] == [
        {"batch_size": "32", "optimizer.weight_decay": "0.0005"}
    ] * 2
    assert [len(setting.kept) for setting in study.settings] == [2, 2]
    worst = study_of(runs, Asked(by=("optimizer.warmup",), best=f"{ERROR}:max"))
    assert {setting.chosen["optimizer.weight_decay"] for setting in worst.settings} == {"0.05"}
    pooled = study_of(runs, Asked(by=("optimizer.warmup",), best="none"))
    assert [len(setting.kept) for setting in pooled.settings] == [12, 12]
    assert pooled.best is None


def test_choice_that_did_not_complete_is_not_kept(runs: list[SavedRun]) -> None:
    def ended(run: SavedRun) -> SavedRun:
        best = run.parameters["optimizer.weight_decay"] == 0.0005 and run.seed == 0
        return replace(run, state=State.DIVERGED) if best else run

    study = study_of(map(ended, runs), Asked(by=("batch_size",)))
    assert [setting.chosen["optimizer.weight_decay"] for setting in study.settings] == ["0.005", "0.005"]


def test_last_numbers_of_a_run_that_did_not_complete_do_not_count(runs: list[SavedRun]) -> None:
    """A diverged run's early test error stood in the mean of the seeds that completed."""
    lost = [replace(run, state=State.DIVERGED) if run.seed else run for run in runs]
    study = study_of(lost)
    assert all([run.seed for run in setting.done] == [0] for setting in study.settings)
    assert all(len(setting.kept) == 2 for setting in study.settings)
    none = study_of([replace(run, state=State.RUNNING) for run in runs])
    assert all(len(setting.done) == 2 for setting in none.settings)


def test_settings_are_ranked_the_best_first_and_the_incomplete_last(runs: list[SavedRun]) -> None:
    best = min(runs, key=error_of)
    states = [replace(run, state=State.FAILED) if run.key == best.key else run for run in runs]
    study = study_of(states)
    errors = [sum(map(error_of, setting.runs)) for setting in study.ranked[:-1]]
    assert errors == sorted(errors)
    assert best.key in {run.key for run in study.ranked[-1].runs}


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (Asked(by=("weight_decay",)), "by: expected a key of the runs, got 'weight_decay'"),
        (Asked(by=("batch_sise",)), "Did you mean batch_size?"),
        (Asked(by=(ERROR,)), "by: expected a key of the runs, got 'test/error'"),
        (Asked(x="batch"), "x: expected a key or quantity of the runs, got 'batch'"),
        (Asked(y=("test/eror",)), r"y: expected .*'test/eror'.* Did you mean test/error\?"),
        (Asked(y=("test/robustness/ratio",)), "y: expected a quantity of the runs, got 'test/robustness/ratio'"),
        (Asked(color=ERROR), "color: expected a key of the runs, got 'test/error'"),
        (Asked(facet=("loss.smoothing",)), "facet: expected a key of the runs, got 'loss.smoothing'"),
        (Asked(scatter=(NC1, "test/eror")), "scatter: expected .* Did you mean test/error?"),
        (Asked(scatter=("optimizer.warmup", ERROR)), "scatter: expected two numbers, got optimizer.warmup"),
        (Asked(best="nc1"), "best: expected a quantity of the runs or none, got 'nc1'"),
        (Asked(best=f"{ERROR}:least"), "best: expected test/error:min or test/error:max, got 'test/error:least'"),
        (Asked(best="zero_error_epoch"), "best: expected zero_error_epoch:min or zero_error_epoch:max"),
        (Asked(x=ERROR, y=("batch_size",)), "y: expected quantities, got the key batch_size"),
        (Asked(x="epoch", y=("batch_size",)), "y: expected quantities, got the key batch_size"),
        (Asked(x="batch_size", y=("batch_size",)), "y: expected quantities, got the key batch_size"),
        (Asked(y=("batch_size", "optimizer.warmup")), "y: expected one key at most"),
    ],
)
def test_what_no_run_has_is_refused_with_the_nearest(runs: list[SavedRun], asked: Asked, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        study_of(runs, asked)


def test_rate_has_two_names(runs: list[SavedRun]) -> None:
    (column,) = study_of(runs, Asked(by=("optimizer.lr",))).by
    assert (column.name, column.texts) == ("lr", ("0.02",))


def layout_of(runs: list[SavedRun], **asked: object) -> tuple[str, str, str, list[str]]:
    layout = study_of(runs, Asked(**asked)).layout  # type: ignore[arg-type]
    x, across, color = ("" if one is None else one.name for one in (layout.x, layout.across, layout.color))
    return x, across, color, names(layout.facet)


def test_words_choose_what_is_drawn(runs: list[SavedRun]) -> None:
    decay, batch, warmup = "optimizer.weight_decay", "batch_size", "optimizer.warmup"
    assert layout_of(runs) == (decay, batch, warmup, [])
    assert layout_of(runs, y=(ERROR,)) == (decay, "", warmup, [batch])
    assert layout_of(runs, x="epoch") == ("", "", warmup, [decay, batch])
    assert layout_of(runs, x=batch, color=decay) == (batch, "", decay, [warmup])
    assert layout_of(runs, y=(warmup, ERROR)) == (decay, warmup, batch, [])
    assert layout_of(runs, by=(warmup,)) == ("", "", warmup, [])
    assert layout_of(runs, by=(warmup,), x=decay) == (decay, "", warmup, [])
    assert layout_of(runs, by=(), facet=(warmup,)) == ("", "", "", [warmup])
    assert len(study_of(runs, Asked(x="epoch")).facets) <= MOST_FACETS


def test_key_that_some_runs_lack_has_a_place_for_them(tmp_path: Path) -> None:
    for decay in (None, 1e-4, 1e-2):
        write_run(tmp_path, epochs=EPOCHS, options={"optimizer.weight_decay": decay})
    x = study_of(load(tmp_path)).layout.x
    assert x is not None
    assert x.texts == ("0.0001", "0.01", "–")
    assert (x.numeric, x.ordered, x.log) == (False, True, False)


def test_study_of_one_run_of_none_and_of_none_evaluated(runs: list[SavedRun]) -> None:
    study = study_of(runs[:1])
    assert (study.by, study.keys, len(study.settings)) == ([], [], 1)
    assert study.settings[0].label == "all runs"
    with pytest.raises(ValueError, match="expected some to report on, got none"):
        study_of([])
    with pytest.raises(ValueError, match="expected one run of key"):
        study_of([runs[0], replace(runs[0])])
    empty = study_of([replace(run, state=State.QUEUED, records=[]) for run in runs])
    assert names(empty.quantities) == ["zero_error_epoch"]
    assert empty.best is None
    assert [setting.kept for setting in empty.settings] == [[]] * 12


@pytest.mark.parametrize(
    ("values", "geometric"),
    [
        ([1e-4, 1e-3, 1e-2], True),
        ([5e-4, 5e-3], True),
        ([1, 2], False),
        ([1, 5], True),
        ([1, 2, 3, 4], False),
        ([16, 32, 64, 128], True),
        ([0, 1e-4, 1e-3], False),
        ([-1, 1], False),
        ([10, 20, 40, 80], True),
        ([3], False),
        ([3, 3], False),
    ],
)
def test_geometric_spacing(values: list[float], geometric: bool) -> None:
    assert is_geometric(values) == geometric
    assert is_geometric(values[::-1]) == geometric


def test_best_directions() -> None:
    known = [ERROR, "test/loss", NC1, "test/robustness/ratio", "train/mine"]
    assert Best.parse("none", known) is None
    for name in (ERROR, "test/loss", NC1):
        assert Best.parse(name, known) == Best(name, "min")
    assert Best.parse("test/robustness/ratio:max", known) == Best("test/robustness/ratio", "max")
    with pytest.raises(ValueError, match="Say which is better"):
        Best.parse("train/mine", known)
    best = Best(NC1, "max")
    assert sorted([1.0, math.nan, 3.0], key=best.key)[:2] == [3.0, 1.0]


def test_seeds_that_are_missing_in_some_groups_are_counted(runs: list[SavedRun]) -> None:
    some = [run for run in runs if run.seed == 0 or run.parameters["batch_size"] == 32]
    counts: dict[str, set[int]] = {}
    study: Study = study_of(some)
    for setting in study.settings:
        counts.setdefault(setting.values["batch_size"], set()).add(len(setting.done))
    assert counts == {"32": {2}, "128": {1}}


def test_values_that_six_digits_make_one_stay_two(tmp_path: Path) -> None:
    """They shared a column of panels, a value of the page and a row of the CSV that named them alike."""
    near = (0.12345671, 0.12345672)
    for decay, rate in product(near, (0.02, 0.05)):
        write_run(tmp_path, rate=rate, epochs=EPOCHS, options={"optimizer.weight_decay": decay})
    study = study_of(load(tmp_path), Asked(x="lr", facet=("optimizer.weight_decay",)))
    assert [words for words, _ in study.facets] == [f"weight_decay={decay}" for decay in near]
    (key,) = (one for one in study.keys if one.name == "optimizer.weight_decay")
    assert [*key.words.values()] == [*map(str, near)]
    values = {run["values"]["optimizer.weight_decay"] for run in page_data(study, tmp_path)["runs"]}
    assert values == {*map(str, near)}
    (place,) = (place for place, name in enumerate(settings(study).columns) if name == "optimizer.weight_decay")
    assert {row[place] for row in settings(study).rows} == {*map(str, near)}
