"""The general tables, against the same numbers by pandas, NumPy and SciPy from the journals."""

from __future__ import annotations

import io
import math
from dataclasses import replace

import numpy
import pandas
import pytest
from scipy.stats import spearmanr
from synthetic_sweep import write_run

from ncexp.record import SavedRun, State, load
from ncexp.report.numbers import rank_correlation
from ncexp.report.study import Asked, study_of
from ncexp.report.tables import Table, correlation, differences, runs, settings
from ncexp.report.whole import made_tables

EPOCHS = [1, 2, 5, 12, 35]
DECAY, BATCH = "optimizer.weight_decay", "batch_size"
#: The same sum in another order.
ROUNDING = 1e-12
#: Of a bound of an interval by 2,000 draws beside that of 500 others: some standard errors of a 2.5 % quantile.
DRAWS = 0.1


@pytest.fixture(scope="module")
def some(tmp_path_factory: pytest.TempPathFactory) -> list[SavedRun]:
    """Decay × batch; three seeds, one of which is missing and one diverged; one number is undefined."""
    folder = tmp_path_factory.mktemp("some")
    for place, (decay, batch) in enumerate([(d, b) for d in (1e-4, 1e-3, 1e-2) for b in (32, 64)]):
        for seed in range(3):
            if (place, seed) != (1, 2):
                state = State.DIVERGED if (place, seed) == (2, 1) else State.COMPLETED
                rate = 0.02 * (1 + 0.4 * place + 0.1 * seed)
                options = {DECAY: decay, BATCH: batch, "optimizer.lr": 0.02}
                write_run(folder, rate=rate, seed=seed, epochs=EPOCHS, state=state, options=options)
    found = list(load(folder))
    found[0] = replace(found[0], records=[*found[0].records[:-1], {**found[0].records[-1], "test/error": math.nan}])
    return found


def last_rows(found: list[SavedRun]) -> pandas.DataFrame:
    """A row a run that completed: keys and the last record, read without the package's tables."""
    keys = [{DECAY: run.raw["optimizer"]["weight_decay"], BATCH: run.raw[BATCH], "seed": run.seed} for run in found]
    rows = [{**key, **run.records[-1]} for key, run in zip(keys, found, strict=True) if run.state is State.COMPLETED]
    return pandas.DataFrame(rows)


def read(table: Table) -> pandas.DataFrame:
    return pandas.read_csv(io.StringIO(table.csv()))


def test_settings_are_means_and_standard_errors(some: list[SavedRun]) -> None:
    read_back = read(settings(study_of(some))).set_index([DECAY, BATCH])
    grouped = last_rows(some).groupby([DECAY, BATCH])
    for column, name, factor in (("error %, test", "test/error", 100), ("NC1", "train/collapse/nc1_trace", 1)):
        mean, error = factor * grouped[name].mean(), factor * grouped[name].sem()
        for place in mean.index:
            assert read_back.loc[place, column] == pytest.approx(mean[place], rel=ROUNDING)
            assert read_back.loc[place, f"{column} se"] == pytest.approx(error[place], rel=1e-6, abs=1e-15)
    counted = read_back["runs"].to_dict()
    assert counted == {
        (1e-4, 32): "3", (1e-4, 64): "2", (1e-3, 32): "2 of 3 (1 diverged)", (1e-3, 64): "3", (1e-2, 32): "3",
        (1e-2, 64): "3",
    }  # fmt: skip
    assert read_back["error %, test seeds"].dropna().to_dict() == {(1e-4, 32): "2 of 3"}


def test_settings_stand_the_best_first(some: list[SavedRun]) -> None:
    table = read(settings(study_of(some)))
    complete = table[~table["runs"].str.contains("of")]
    assert list(complete["error %, test"]) == sorted(complete["error %, test"])
    assert "of" in table["runs"].iloc[-1]
    columns = [*settings(study_of(some, Asked(by=(BATCH,)))).columns]
    assert columns[:3] == [BATCH, f"{DECAY} (chosen)", "runs"]
    assert [*settings(study_of(some, Asked(by=(BATCH,), best="none"))).columns][:2] == [BATCH, "runs"]


def test_differences_are_those_of_paired_seeds(some: list[SavedRun]) -> None:
    table = read(differences(study_of(some))).set_index(["key", "value"])
    rows = last_rows(some)
    for axis, other, first, value in ((DECAY, BATCH, 1e-4, 1e-3), (DECAY, BATCH, 1e-4, 1e-2), (BATCH, DECAY, 32, 64)):
        wide = rows.pivot(index=[other, "seed"], columns=axis, values="train/collapse/nc1_trace")
        paired = (wide[value] - wide[first]).dropna()
        line = table.loc[(axis, value)]
        assert line["less"] == first
        assert line["pairs"] == len(paired)
        assert line["NC1"] == pytest.approx(paired.mean(), rel=1e-9)
        assert line["NC1 se"] == pytest.approx(numpy.std(paired, ddof=1) / math.sqrt(len(paired)), rel=1e-9)
    assert table.loc[(BATCH, 64)]["error %, test seeds"] == f"{table.loc[(BATCH, 64)]['pairs'] - 1} of 7"


def test_differences_of_one_setting_or_one_seed_each(some: list[SavedRun]) -> None:
    assert differences(study_of([run for run in some if run.raw[BATCH] == 32][:3])).rows == []
    (row,) = differences(
        study_of([run for run in some if run.seed == 0 and run.raw["optimizer"]["weight_decay"] == 1e-3])
    ).rows
    assert "±" not in str(row[5])


def test_every_run_stands_in_the_table_of_runs(some: list[SavedRun]) -> None:
    table = read(runs(study_of(some)))
    assert len(table) == len(some) == 17
    assert dict(zip(table["key"].astype(str), table["seed"], strict=True)) == {run.key: run.seed for run in some}
    assert table["state"].value_counts().to_dict() == {"completed": 16, "diverged": 1}
    ends = {run.key: run.records[-1]["train/collapse/nc1_trace"] for run in some}
    assert dict(zip(table["key"].astype(str), table["NC1"], strict=True)) == pytest.approx(ends)


def test_rank_correlation_is_spearmans(some: list[SavedRun]) -> None:
    study = study_of(some, Asked(scatter=("train/collapse/nc1_trace", "test/error")))
    line = read(correlation(study)).iloc[0]
    points = last_rows(some)[["train/collapse/nc1_trace", "test/error"]].dropna()
    assert line["runs"] == len(points) == 15
    assert line["Spearman's ρ"] == pytest.approx(spearmanr(points).statistic, rel=ROUNDING)
    assert line["95 % from"] <= line["Spearman's ρ"] <= line["to"]


def test_interval_is_that_of_a_bootstrap_over_clusters() -> None:
    """Against one that repeats indices of rows, with SciPy's ρ and draws of its own."""
    random = numpy.random.default_rng(7)
    centres = random.normal(size=(12, 1))
    frame = pandas.DataFrame(
        [
            {"group": place, "x": centre + 0.3 * random.normal(), "y": centre + random.normal()}
            for place, (centre,) in enumerate(centres)
            for _ in range(4)
        ]
    )
    groups = [[*zip(one.x, one.y, strict=True)] for _, one in frame.groupby("group")]
    rho, low, high, count = rank_correlation(groups)
    assert (count, rho) == (48, pytest.approx(spearmanr(frame.x, frame.y).statistic, rel=ROUNDING))
    rows = numpy.arange(48).reshape(12, 4)
    x, y = frame.x.to_numpy(), frame.y.to_numpy()
    drawn = [rows[random.choice(12, 12)].ravel() for _ in range(500)]
    found = sorted(spearmanr(x[one], y[one]).statistic for one in drawn)
    assert low == pytest.approx(found[12], abs=DRAWS)
    assert high == pytest.approx(found[487], abs=DRAWS)
    assert rank_correlation(groups) == (rho, low, high, count)


def test_rank_correlation_of_too_little() -> None:
    nan, inf = math.nan, math.inf
    for groups in (
        [],
        [[]],
        [[(1.0, 2.0), (2.0, 3.0)]],
        [[(1.0, nan), (inf, 2.0), (1.0, 1.0)]],
        [[(1.0, x) for x in (1.0, 2.0, 3.0)]],
    ):
        rho, low, high, _ = rank_correlation(groups)
        assert all(map(math.isnan, (rho, low, high)))
    rho, low, _, count = rank_correlation([[(1.0, 1.0)], [(2.0, 3.0)], [(3.0, 2.0)]])
    assert (rho, count) == (pytest.approx(0.5), 3)
    assert math.isnan(low)


def test_tables_are_written_in_each_format_and_the_same_twice(some: list[SavedRun]) -> None:
    asked = Asked(scatter=(DECAY, "test/error"))
    made = made_tables(study_of(some, asked))
    assert [table.name for table in made] == ["settings", "differences", "troubles", "correlation", "runs"]
    again = made_tables(study_of(reversed(some), asked))
    for table, other in zip(made[:2], again, strict=False):
        assert (table.csv(), table.latex(), table.markdown()) == (other.csv(), other.latex(), other.markdown())
    latex, markdown = made[0].latex(), made[0].markdown()
    assert latex.startswith("\\begin{tabular}")
    assert all(word in latex for word in ("\\toprule", "\\midrule", "\\bottomrule", "$\\pm$", "error \\%, test"))
    assert len(markdown.splitlines()) == 2 + 6
    assert [line for line in markdown.splitlines() if "2 of 3 (1 diverged)" in line]


def test_table_by_keys_has_the_numbers_of_the_settings(some: list[SavedRun]) -> None:
    """What `ncexp.load().table(by=...)` gives is what the report's settings.csv has; shares are fractions there."""
    from ncexp.record import Runs

    table = Runs(some).table(by=[DECAY, BATCH]).set_index([DECAY, BATCH])
    read_back = read(settings(study_of(some))).set_index([DECAY, BATCH]).loc[table.index]
    for column, name, factor in (("error %, test", "test/error", 100), ("NC1", "train/collapse/nc1_trace", 1)):
        for kind in ("", " se"):
            assert (factor * table[f"{name}{kind}"]).to_list() == pytest.approx(
                read_back[f"{column}{kind}"].to_list(), rel=1e-9, abs=1e-15
            )
    assert table["runs"].to_list() == [int(text.split()[0]) for text in read_back["runs"]]
