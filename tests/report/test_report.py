"""The report: chosen as the paper chooses, the same from folders and from MLflow, numbers that another way confirms."""

from __future__ import annotations

import csv
import io
import math
import statistics
from pathlib import Path

import pytest
from synthetic_sweep import RATES, curves, write_journal, write_run, write_sweep

from ncexp.report.command import main as report
from ncexp.report.compare import last_common_epoch
from ncexp.report.compare import main as compare
from ncexp.report.export import main as export
from ncexp.report.sweep import gather
from ncexp.report.tables import Value, gain, gains, learning_rates, results, troubles
from ncexp.run_record import RunRecord, find_runs, pick_run, read_run
from ncexp.tracking.sync import main as sync


def _read(folder: Path) -> list[RunRecord]:
    return [read_run(path) for path in find_runs([folder])]


def test_best_rate_is_that_of_the_lowest_test_error_at_the_last_epoch(tmp_path: Path) -> None:
    worse_at_last, better_at_last = write_run(tmp_path, rate=0.01), write_run(tmp_path, rate=0.02)
    for path, errors in ((worse_at_last, [0.5, 0.01, 0.30]), (better_at_last, [0.5, 0.40, 0.20])):
        records = list(curves(0.02, 0, 1.0, [1, 2, 3]))
        write_journal(path, [{**record, "test/error": error} for record, error in zip(records, errors, strict=True)])
    (cell,) = gather(_read(tmp_path)).cells.values()
    assert cell.best_rate == 0.02


def test_best_rate_counts_only_rates_of_which_every_seed_completed(tmp_path: Path) -> None:
    for seed in range(2):
        write_run(tmp_path, rate=0.2, seed=seed)
        write_run(tmp_path, rate=0.02, seed=seed, state="diverged" if seed else "completed")
    (cell,) = gather(_read(tmp_path)).cells.values()
    assert (cell.best_rate, list(cell.complete_rates)) == (0.2, [0.2])
    (row,) = learning_rates(gather(_read(tmp_path))).rows
    assert row[3] == "diverged"
    assert str(row[4]).startswith("[")
    assert [entry[2] for entry in troubles(gather(_read(tmp_path))).rows] == ["diverged"]


def test_cell_without_a_complete_rate_is_reported_as_such(tmp_path: Path) -> None:
    write_run(tmp_path, state="failed")
    sweep = gather(_read(tmp_path))
    (row,) = results(sweep).rows
    assert row[3:5] == ["–", "0"]
    assert gains(sweep).rows == [["mse", "0 of 1", "–", "–"]]
    assert troubles(sweep).rows[0][4] == "OutOfMemoryError: 12 GiB"


def test_results_agree_with_the_journals_by_hand(tmp_path: Path) -> None:
    for seed in range(3):
        write_run(tmp_path, rate=0.02, seed=seed)
    runs = _read(tmp_path)
    (line,) = list(csv.DictReader(io.StringIO(results(gather(runs)).csv())))
    ends = [100 * (1 - run.records[-1]["test/error"]) for run in runs]
    zeros = [next(r for r in run.records if r["train/error"] <= 0.001) for run in runs]
    assert float(line["test acc. at the end %"]) == pytest.approx(statistics.mean(ends))
    assert float(line["test acc. at the end % std"]) == pytest.approx(statistics.stdev(ends))
    won = [end - 100 * (1 - zero["test/error"]) for end, zero in zip(ends, zeros, strict=True)]
    assert float(line["gain"]) == pytest.approx(statistics.mean(won))
    assert [gain(run) for run in runs] == pytest.approx(won)
    assert float(line["zero-error epoch"]) == zeros[0]["epoch"]
    assert line["seeds"] == "3"


def test_value_of_undefined_numbers() -> None:
    assert str(Value.of([math.nan])) == "–"
    assert str(Value.of([1.0, math.nan])) == "1"
    assert str(Value.of([1.0, 3.0])) == "2 ± 1.41"


def test_gather_refuses_runs_that_the_paper_would_not_compare(tmp_path: Path) -> None:
    path = write_run(tmp_path)
    other = write_run(tmp_path, rate=0.05)
    (other / "config.yaml").write_text((other / "config.yaml").read_text().replace("epochs: 350", "epochs: 40"))
    with pytest.raises(ValueError, match=r"got epochs = 350, 40. Choose one with --where epochs=VALUE"):
        gather(_read(tmp_path))
    assert len(gather(_read(tmp_path), {"epochs": "40"}).runs) == 1
    with pytest.raises(ValueError, match="expected some to report on, got none"):
        gather(_read(tmp_path), {"epochs": "7"})
    with pytest.raises(ValueError, match="expected one run of key"):
        gather([read_run(path), read_run(path)])


def test_report_is_the_same_from_folders_and_from_mlflow(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    write_sweep(runs, datasets=1, architectures=1, rates=RATES[2:])
    assert sync([str(runs)]) == 0
    assert report([str(runs), "--to", str(tmp_path / "a")]) == 0
    assert report(["--uri", f"sqlite:///{runs / 'mlflow.db'}", "--to", str(tmp_path / "b")]) == 0
    for name in ("results", "gains", "learning_rates", "troubles"):
        for suffix in ("md", "csv", "tex"):
            assert (tmp_path / "a" / f"{name}.{suffix}").read_text() == (
                tmp_path / "b" / f"{name}.{suffix}"
            ).read_text()
    page = (tmp_path / "a" / "report.html").read_text()
    assert page == (tmp_path / "b" / "report.html").read_text()
    assert "http" not in page.replace("http-equiv", "")  # nothing is fetched from anywhere
    assert page.count("data:image/png;base64") == len(list((tmp_path / "a").glob("*.pdf"))) == 11
    assert all(path.read_bytes().startswith(b"%PDF") for path in (tmp_path / "a").glob("*.pdf"))


def test_report_says_what_it_needs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report([str(tmp_path)]) == 2
    assert report([str(tmp_path), "--where", "epochs"]) == 2
    assert report([str(tmp_path), "--uri", "sqlite:///x.db"]) == 2
    said = capsys.readouterr().err
    assert "expected run directories, got none" in said
    assert "expected NAME=VALUE, got 'epochs'" in said
    assert "expected no DIR beside it" in said


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_export_holds_every_value_once(tmp_path: Path, suffix: str) -> None:
    paths = [write_run(tmp_path, rate=rate) for rate in RATES[:2]]
    target = tmp_path / f"all{suffix}"
    assert export([str(tmp_path), "--to", str(target)]) == 0
    if suffix == ".csv":
        with target.open() as file:
            rows = list(csv.DictReader(file))
    else:
        from pyarrow import parquet

        rows = parquet.read_table(target).to_pylist()
    found = {(r["run"], int(r["epoch"]), f"{r['split']}/{r['metric']}"): r["value"] for r in rows}
    expected = {
        (run.key, int(record["epoch"]), name): value
        for run in map(read_run, paths)
        for record in run.records
        for name, value in record.items()
        if name != "epoch"
    }
    assert len(rows) == len(found) == len(expected)
    for place, value in expected.items():
        assert (found[place] in ("", None)) if math.isnan(value) else float(found[place]) == value


def test_export_refuses_other_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path)
    assert export([str(tmp_path), "--to", "all.xlsx"]) == 2
    assert "expected a file in .csv or .parquet, got all.xlsx" in capsys.readouterr().err


def test_compare_shows_what_differs_at_the_last_common_epoch(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = write_run(tmp_path, rate=0.02), write_run(tmp_path, rate=0.05, epochs=[1, 2, 3, 5, 7])
    assert last_common_epoch([read_run(first), read_run(second)]) == 5
    assert compare([str(first), second.name.rpartition("_")[2][:6], "--in", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "at epoch 5" in said
    assert "0.05" in said
    assert "architecture" not in said
    assert f"{read_run(second).records[3]['train/nc1_trace']:.4g}" in said


def test_pick_run_refuses_ambiguous_and_unknown_names(tmp_path: Path) -> None:
    write_run(tmp_path, rate=0.02)
    write_run(tmp_path, rate=0.05)
    with pytest.raises(ValueError, match="expected one run, got 2"):
        pick_run("digits", tmp_path)
    with pytest.raises(ValueError, match=r"expected a run under .* Valid: digits-resnet-mse"):
        pick_run("svhn", tmp_path)
