"""Reference results: bands of seeds, and which runs are held to agree with them."""

from __future__ import annotations

import json
import math
import re
import statistics
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy
import pytest
import yaml
from commands import compare, reference
from scipy import stats
from support import compose
from synthetic_sweep import configuration, curves, with_more, write_journals, write_run

from ncexp.record import SavedRun, State, read_run
from ncexp.record.saved_run import _choices
from ncexp.report.compare import verdict_words
from ncexp.report.reference import (
    MOST_OUTSIDE,
    Bands,
    compare_with_reference,
    configuration_of,
    judge,
    make_reference,
    read_reference,
    reference_directory,
    reference_text,
)

PAGE = Path(__file__).parents[2] / "docs" / "reference.md"
#: Of the synthetic runs; all are evaluated at them.
EPOCHS = [1, 3, 8, 24, 71, 350]
#: Six digits are written.
WRITTEN = 1e-5


def run_of(folder: Path, seed: int, rate: float = 0.02) -> SavedRun:
    """The numbers of a training with this rate, of a run whose configuration says 0.02: as of a faulty program."""
    path = write_run(folder, rate=0.02, seed=seed, epochs=EPOCHS, more=True)
    write_journals(path, with_more(list(curves(rate, seed, 1.2, EPOCHS))))
    (path / "config.yaml").write_text(yaml.safe_dump(configuration("digits", "resnet", "mse", 0.02, seed)))
    return read_run(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("runs")
    for seed in range(5):
        run_of(made, seed)
    return made


@pytest.fixture(scope="module")
def seeds(folder: Path) -> list[SavedRun]:
    return [read_run(path) for path in sorted(folder.iterdir())]


def test_band_is_students_prediction_interval(seeds: list[SavedRun]) -> None:
    made = make_reference(seeds, "r")
    assert made["seeds"] == [0, 1, 2, 3, 4]
    factor = stats.t.ppf(0.999, 4) * math.sqrt(6 / 5)
    for name, logarithmic in (("train/collapse/nc1_trace", True), ("train/collapse/equinorm_means", False)):
        values = [next(r for r in run.records if r["epoch"] == 350)[name] for run in seeds]
        scaled = [math.log(value) for value in values] if logarithmic else values
        middle, half = statistics.fmean(scaled), factor * statistics.stdev(scaled)
        expected = [middle - half, middle, middle + half]
        expected = [math.exp(one) for one in expected] if logarithmic else expected
        assert made["bands"][name]["350"] == pytest.approx(expected, rel=WRITTEN)


def test_interval_holds_one_more_seed_in_998_of_1000_draws() -> None:
    random = numpy.random.default_rng(0)
    values = random.normal(size=(6, 40_000))
    low, _, high = Bands.of_seeds([("a", "1")] * values.shape[1], values[:5], {}).of_level(0.998).T
    assert ((values[5] < low) | (values[5] > high)).mean() == pytest.approx(0.002, abs=0.0007)  # three deviations


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_quantity_is_refused_rarely_whatever_the_dependence_of_its_epochs(seeds: int) -> None:
    """Rüger's bound, 0.4 %, where its epochs are one number, two, or five, in 20,000 draws of one quantity."""
    random = numpy.random.default_rng(0)
    for causes in ((0, 0, 0, 0, 0), (0, 0, 0, 1, 1), (0, 1, 2, 3, 4)):
        values = random.normal(size=(seeds + 1, 20_000, 5))[:, :, causes].reshape(seeds + 1, -1)
        numbers = [(str(place // 5), str(place % 5)) for place in range(values.shape[1])]
        deviations = Bands.of_seeds(numbers, values[:-1], {}).deviations(values[-1])
        _, differing = judge(dict(zip(numbers, deviations.tolist(), strict=True)), seeds)
        assert len(differing) / 20_000 < 0.004


def test_quantity_differs_where_more_than_half_of_its_epochs_do() -> None:
    """By hand, five seeds: t(4) of 99.8 % is 7.17, of 99 % 4.60."""
    other = {("b", str(epoch)): 1.0 for epoch in range(5)}
    for far, expected in ((2, []), (3, ["a"])):
        deviations = {("a", str(epoch)): 7.2 if epoch < far else 7.1 for epoch in range(5)} | other
        outside, differing = judge(deviations, 5)
        assert differing == expected
        assert outside == [("a", str(epoch)) for epoch in range(5)]
    assert judge({("a", "1"): 4.59, ("a", "2"): math.inf, ("b", "1"): 4.61}, 5)[0] == [("a", "2"), ("b", "1")]


@pytest.mark.parametrize(
    ("quantity", "change"),
    [
        ("train/collapse/nc1_trace", lambda value: 100 * value),
        ("train/collapse/self_duality", lambda value: 100 * value),
        ("train/mse/loss_ls_perp", lambda value: value / 100),
        ("train/error", lambda value: value + 0.5),
    ],
)
def test_one_quantity_that_is_wrong_is_found_however_right_the_others(
    seeds: list[SavedRun], tmp_path: Path, quantity: str, change: Callable[[float], float]
) -> None:
    run = run_of(tmp_path, 17)
    records = [{**record, quantity: change(record[quantity])} for record in run.records]
    verdict = compare_with_reference(replace(run, records=records, training=[]), make_reference(seeds, "r"))
    # Without zero error there is no epoch of it either.
    assert {*verdict.differing} == {quantity, *(["zero_error_epoch"] if quantity == "train/error" else [])}
    assert verdict.share < MOST_OUTSIDE
    assert not verdict.agrees


@pytest.mark.parametrize("level", [0.998, 0.999])
def test_verdict_is_that_of_the_seeds_whatever_the_level_written(
    seeds: list[SavedRun], tmp_path: Path, level: float
) -> None:
    """From the bands alone, of either level, t is what the seeds' own numbers give, by NumPy and SciPy."""
    made, run = make_reference(seeds, "r"), run_of(tmp_path, 18, rate=0.03)
    factor = stats.t.ppf((1 + level) / 2, 4) / stats.t.ppf(0.999, 4)
    for name, logarithmic in (("train/collapse/nc1_trace", True), ("train/collapse/equinorm_means", False)):
        for epoch, (low, mean, high) in made["bands"][name].items():
            wider = [
                mean * (one / mean) ** factor if logarithmic else mean + (one - mean) * factor for one in (low, high)
            ]
            made["bands"][name][epoch] = [wider[0], mean, wider[1]]
    only = {name: made["bands"][name] for name in ("train/collapse/nc1_trace", "train/collapse/equinorm_means")}
    verdict = compare_with_reference(run, {**made, "bands": only, "level": level})
    for name, logarithmic in (("train/collapse/nc1_trace", True), ("train/collapse/equinorm_means", False)):
        for epoch in only[name]:
            *found, one = (next(r for r in of.records if r["epoch"] == int(epoch))[name] for of in (*seeds, run))
            scaled = numpy.log([*found, one]) if logarithmic else numpy.array([*found, one])
            t = abs(scaled[-1] - scaled[:-1].mean()) / scaled[:-1].std(ddof=1) / math.sqrt(6 / 5)
            assert ((name, epoch) in verdict.outside) == (t > stats.t.ppf(0.995, 4)), (name, epoch, t)


def test_reference_has_five_epochs_from_the_first_to_the_last(seeds: list[SavedRun]) -> None:
    made = make_reference(seeds, "r")
    epochs = [int(epoch) for epoch in made["bands"]["train/loss"]]
    assert len(epochs) == 5
    assert (epochs[0], epochs[-1]) == (1, 350)
    assert made["configuration"]["optimizer.lr"] == 0.02
    assert "seed" not in made["configuration"]
    assert sum(made["refused"]) <= 1  # one factor for all numbers of a synthetic seed: the strongest dependence
    assert [share > MOST_OUTSIDE for share in made["leave_one_out"]] <= made["refused"]


def test_another_seed_agrees_and_another_rate_does_not(seeds: list[SavedRun], tmp_path: Path) -> None:
    made = make_reference(seeds, "r")
    assert compare_with_reference(run_of(tmp_path, 17), made).agrees
    wrong = compare_with_reference(run_of(tmp_path, 18, rate=0.2), made)
    assert not wrong.agrees
    assert wrong.share > 0.5


def test_share_that_is_zero_for_all_seeds_leaves_room_for_a_few_examples(seeds: list[SavedRun]) -> None:
    for share in (0.0, 0.3):
        bands = Bands.of_seeds([("test/error", "350")], numpy.full((5, 1), share), seeds[0].facts)
        ((low, _, high),) = bands.of_level(0.998)
        if share:
            assert high - low > 2 * 7 * math.sqrt(0.3 * 0.7 / 400)
        else:
            assert 5 / 400 < high < 7 / 400  # t(4, 0.999) √(6/5) · √½


def test_numbers_that_a_run_should_have_and_lacks_lie_outside(seeds: list[SavedRun], tmp_path: Path) -> None:
    made = make_reference(seeds, "r")
    path = run_of(tmp_path, 19).path
    write_journals(path, with_more(list(curves(0.02, 19, 1.2, EPOCHS[:2]))))
    verdict = compare_with_reference(read_run(path), made)
    assert {epoch for _, epoch in verdict.outside} >= {"8", "71", "350"}
    assert not verdict.agrees
    for journal in (path / "measurements").glob("robustness*"):
        journal.unlink()
    assert "test/robustness/ratio" in compare_with_reference(read_run(path), made).lacking


@pytest.mark.parametrize(
    ("count", "changes", "message"),
    [
        (2, {}, "expected at least 3 of different seeds, got 0, 1"),
        (3, {"raw": {"batch_size": 64}}, "expected runs that differ in their seed alone, got batch_size = 64"),
        (3, {"state": State.DIVERGED}, "expected a completed run, got diverged"),
    ],
)
def test_make_reference_refuses(seeds: list[SavedRun], count: int, changes: dict[str, Any], message: str) -> None:
    *others, last = seeds[:count]
    changes = {**changes, "raw": {**last.raw, **changes.get("raw", {})}}
    with pytest.raises(ValueError, match=message):
        make_reference([*others, replace(last, **changes)], "r")


def test_folder_of_the_data_is_no_choice(seeds: list[SavedRun]) -> None:
    moved = [
        replace(run, raw={**run.raw, "dataset": {**run.raw["dataset"], "root": f"/data/{run.seed}"}}) for run in seeds
    ]
    assert moved[1].choices["dataset.root"] == "/data/1"
    made = make_reference(moved, "r")
    assert "/data" not in json.dumps(made)
    said = verdict_words(moved[1], compare_with_reference(moved[1], made), made)
    assert not [line for line in said if "chosen otherwise" in line]


@pytest.mark.slow
def test_commands_make_a_reference_and_hold_runs_against_it(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert reference([str(folder), "--name", "digits", "--to", str(tmp_path)]) == 0
    assert " of 5 would be refused" in capsys.readouterr().out
    file = str(tmp_path / "digits.json")
    assert json.loads(Path(file).read_text())["name"] == "digits"
    assert Path(file).read_text() == reference_text(read_reference(file))
    good, wrong = run_of(tmp_path / "more", 20), run_of(tmp_path / "more", 21, rate=0.2)
    assert compare([str(good.path), "--reference", file]) == 0
    printed = capsys.readouterr().out
    assert "agrees with digits" in printed
    rows = [line.split() for line in printed.splitlines()]
    said = {row[0]: row[1] for row in rows if row and "/" in row[0]}
    assert set(said) == {name for name in read_reference(file)["bands"] if "/" in name}
    assert list(said.values()).count("yes") > 0.9 * len(said)
    assert compare([str(good.path), str(wrong.path), "--reference", file]) == 1
    assert "differs from digits" in capsys.readouterr().out
    assert compare([str(good.path), "--reference", "nothing"]) == 2
    assert "reference: expected a name or a file.json, got 'nothing'" in capsys.readouterr().err
    assert reference([str(good.path), "--name", "digits", "--to", str(tmp_path)]) == 2


def test_configuration_is_the_same_with_an_option_that_has_no_value(tmp_path: Path) -> None:
    path = write_run(tmp_path)
    before = configuration_of(read_run(path))
    raw = yaml.safe_load((path / "config.yaml").read_text())
    raw["dataset"]["came_later"] = None
    (path / "config.yaml").write_text(yaml.safe_dump(raw))
    assert configuration_of(read_run(path)) == before


def _given(choices: dict[str, Any]) -> dict[str, Any]:
    """Without the options that have no value: later versions may have more of them."""
    return {name: value for name, value in choices.items() if value is not None}


@pytest.mark.slow
def test_documented_commands_are_those_of_the_shipped_references() -> None:
    """A default that changes would leave them behind: who follows the page would be told that nothing works."""
    rows = re.findall(r"^\| `(\w+)` \| `ncexp -m(.*) seed=[\d,]+` \|", PAGE.read_text(), flags=re.MULTILINE)
    assert {name for name, _ in rows} == {path.stem for path in reference_directory().glob("*.json")}
    for name, words in rows:
        chosen = _choices(compose("config", words.split()))
        for free in ("seed", "dataset.root"):
            chosen.pop(free, None)
        said = read_reference(name)["configuration"]
        assert _given(chosen) == _given(said), name


def test_reference_is_read_as_it_was_made_in_a_line_a_quantity(seeds: list[SavedRun], tmp_path: Path) -> None:
    made, path = make_reference(seeds, "r"), tmp_path / "r.json"
    path.write_text(reference_text(made))
    assert list(read_reference(str(path)).items()) == list(made.items())
    lines = [line.strip(" ,") for line in path.read_text().splitlines() if line.startswith("  ")]
    assert [json.loads(f"{{{line}}}") for line in lines] == [{name: band} for name, band in made["bands"].items()]
    written = path.read_text()
    path.write_text(json.dumps(made, indent=1))  # as earlier versions wrote them, an array over several lines
    assert reference_text(read_reference(str(path))) == written


def test_shipped_references_are_references() -> None:
    paths = [*reference_directory().glob("*.json")]
    assert paths
    for path in paths:
        name, content = path.stem, read_reference(path.stem)
        assert path.read_text() == reference_text(content)
        assert content["name"] == name
        assert len(content["seeds"]) >= 3
        assert max(content["leave_one_out"]) <= MOST_OUTSIDE
        bands = [band for by_epoch in content["bands"].values() for band in by_epoch.values()]
        assert all(low <= mean <= high for low, mean, high in bands)
