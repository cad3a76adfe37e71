"""The report: chosen as the paper chooses, the same from folders and from MLflow, numbers that another way confirms."""

from __future__ import annotations

import csv
import errno
import io
import math
import os
import re
import statistics
from pathlib import Path

import pytest
from commands import compare, report
from markupsafe import escape
from synthetic_sweep import RATES, curves, write_journals, write_run, write_sweep

from ncexp.record import SavedRun, State, find_runs, load, read_run
from ncexp.record.quantities import selected
from ncexp.report.compare import last_common_epoch
from ncexp.report.han2022 import Sweep, decomposition, gains, gather, learning_rates, results
from ncexp.report.numbers import Value, gain
from ncexp.report.page import AT_ONCE, render_page, shown_at_once
from ncexp.report.study import study_of
from ncexp.report.tables import Table, troubles
from ncexp.report.verdict import outcome


def _read(folder: Path) -> list[SavedRun]:
    return [read_run(path) for path in find_runs([folder])]


def test_best_rate_is_that_of_the_lowest_test_error_at_the_last_epoch(tmp_path: Path) -> None:
    worse_at_last, better_at_last = write_run(tmp_path, rate=0.01), write_run(tmp_path, rate=0.02)
    for path, errors in ((worse_at_last, [0.5, 0.01, 0.30]), (better_at_last, [0.5, 0.40, 0.20])):
        records = list(curves(0.02, 0, 1.0, [1, 2, 3]))
        write_journals(path, [{**record, "test/error": error} for record, error in zip(records, errors, strict=True)])
    (cell,) = gather(_read(tmp_path)).cells.values()
    assert cell.best_rate == 0.02


@pytest.mark.slow
def test_best_rate_counts_only_rates_of_which_every_seed_completed(tmp_path: Path) -> None:
    for seed in range(2):
        write_run(tmp_path, rate=0.2, seed=seed)
        write_run(tmp_path, rate=0.02, seed=seed, state=State.DIVERGED if seed else State.COMPLETED)
    (cell,) = gather(_read(tmp_path)).cells.values()
    assert (cell.best_rate, list(cell.complete_rates)) == (0.2, [0.2])
    (row,) = learning_rates(gather(_read(tmp_path))).rows
    assert row[3] == "diverged"
    assert str(row[4]).startswith("[")
    assert [entry[2] for entry in troubles(_read(tmp_path)).rows] == ["diverged"]


def test_cell_without_a_complete_rate_is_reported_as_such(tmp_path: Path) -> None:
    write_run(tmp_path, state=State.FAILED)
    sweep = gather(_read(tmp_path))
    (row,) = results(sweep).rows
    assert row[3:5] == ["0.02 (failed, at epoch 24)", "1"]
    assert gains(sweep).rows == [["mse", "0 of 1", "–", "–", "0 of 1", "–", "–"]]
    assert troubles(sweep.runs).rows[0][4] == "OutOfMemoryError: 12 GiB"


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


def test_results_have_the_columns_of_the_catalogue_shares_in_percent(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path))
    table = results(gather([run]))
    recorded = [row.short for name, row in selected("report") if name in run.records[-1]]
    assert [column.removesuffix(" %") for column in table.columns[-len(recorded) :]] == recorded
    mismatch = table.frame["NC4 mismatch %"][0]
    assert mismatch.mean == pytest.approx(100 * run.records[-1]["train/collapse/nearest_class_center_mismatch"])


def test_value_of_undefined_numbers() -> None:
    assert str(Value.of([math.nan])) == "–"
    assert str(Value.of([1.0, math.nan])) == "1 (1 of 2)"
    assert str(Value.of([1.0, 3.0])) == "2 ± 1.41"
    assert str(Value.of([11, 11, math.nan], ".0f")) == "11 ± 0 (2 of 3)"


def test_table_escapes_what_each_format_would_misread() -> None:
    values = [Value(1.0, 0.5), Value(math.nan, math.nan)]
    table = Table.of("t", "T", ["a_b %", "L_LS⊥"], [["x|y", values[0]], ["50 %", values[1]]])
    assert "| x\\|y | 1 ± 0.5 |" in table.markdown()
    assert table.csv().splitlines() == ["a_b %,L_LS⊥,L_LS⊥ std", "x|y,1.0,0.5", "50 %,,"]
    latex = table.latex()
    assert "a\\_b \\% & L\\_LS$^\\perp$ \\\\" in latex
    assert "1 $\\pm$ 0.5" in latex
    assert latex.startswith("\\begin{tabular}{ll}\n\\toprule")
    some = Table.of("t", "T", ["a"], [[Value.of([2.0, math.nan])], [values[0]]])
    assert some.csv().splitlines() == ["a,a std,a seeds", "2.0,,1 of 2", "1.0,0.5,"]


def test_gather_refuses_no_runs_and_one_run_twice(tmp_path: Path) -> None:
    path = write_run(tmp_path)
    with pytest.raises(ValueError, match="expected some to report on, got none"):
        gather(load(tmp_path, where={"epochs": 7}))
    with pytest.raises(ValueError, match="expected one run of key"):
        gather([read_run(path), read_run(path)])


@pytest.mark.slow
def test_report_is_the_same_from_folders_and_from_mlflow(tmp_path: Path) -> None:
    from ncexp.tracking.sync import sync_runs

    runs, folder = tmp_path / "runs", tmp_path / "report"
    write_sweep(runs, datasets=1, architectures=1, rates=RATES[3:])
    sync_runs([runs])
    assert report(["--uri", f"sqlite:///{runs / 'mlflow.db'}", "--to", str(folder), "preset=han2022"]) == 0
    sweep = gather(load(runs))
    for table in (results(sweep), gains(sweep), learning_rates(sweep), troubles(sweep.runs)):
        for suffix, text in (("md", table.markdown()), ("csv", table.csv()), ("tex", table.latex())):
            assert (folder / f"{table.name}.{suffix}").read_text() == text
    assert "4 runs in 2 cells: 2 completed, 1 diverged, 1 failed" in (folder / "report.html").read_text()


@pytest.mark.slow
def test_report_page_needs_nothing_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_sweep(tmp_path / "runs", datasets=1, architectures=1, rates=RATES[2:])
    assert report([str(tmp_path / "runs"), "--to", str(tmp_path / "a"), "preset=han2022"]) == 0
    page = (tmp_path / "a" / "report.html").read_text()
    said = outcome(study_of(load(tmp_path / "runs")))
    assert len(said) > 2
    assert all(f"<p>{escape(line)}</p>" in page for line in said)
    ends = capsys.readouterr().out.splitlines()[-len(said) - 1 : -1]  # the last line names the page
    assert [line[10:] for line in ends] == said
    assert page.count("<img alt=") == len(list((tmp_path / "a" / "figures").glob("*.pdf"))) == 11
    assert page.count("<table>") == page.count("</table>") - 1 == 6  # one waits for the script
    assert '<td class="chosen"' in page
    assert all(path.read_bytes().startswith(b"%PDF") for path in (tmp_path / "a" / "figures").glob("*.pdf"))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["csv", "png", "html"])
def test_report_that_ends_early_leaves_the_earlier_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    """It wrote in place: a kill, or a full disk, destroyed a good page."""
    write_run(tmp_path / "outputs")
    command = [str(tmp_path / "outputs"), "--to", str(tmp_path / "report")]
    assert report(command) == 0
    earlier = [*(tmp_path / "report").rglob(f"*.{kind}")]
    for path in earlier:
        path.write_bytes(b"earlier")
    sync = os.fsync

    def disk_full(descriptor: int) -> None:
        if f".{kind}." in os.readlink(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(descriptor)

    monkeypatch.setattr("os.fsync", disk_full)
    assert report(command) == 2
    assert "No space left" in capsys.readouterr().err
    assert {path.read_bytes() for path in earlier} == {b"earlier"}
    assert {*(tmp_path / "report").rglob(f"*.{kind}")} == {*earlier}


def test_report_says_what_it_needs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report([str(tmp_path)]) == 2
    assert report([str(tmp_path), "--where", "epochs"]) == 2
    assert report([str(tmp_path), "--uri", "sqlite:///x.db"]) == 2
    write_run(tmp_path)
    assert report([str(tmp_path), "--where", "epoch=350"]) == 2
    errors = capsys.readouterr().err
    assert "expected run directories, got none" in errors
    assert "expected NAME=VALUE, got 'epochs'" in errors
    assert "expected no RUN beside it" in errors
    assert "Did you mean epochs?" in errors


def test_compare_shows_what_differs_at_the_last_common_epoch(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = write_run(tmp_path, rate=0.02), write_run(tmp_path, rate=0.05, epochs=[1, 2, 3, 5, 7])
    assert last_common_epoch([read_run(first), read_run(second)]) == 5
    assert compare([str(first), second.name.rpartition("_")[2][:6], "--in", str(tmp_path)]) == 0
    shown_text = capsys.readouterr().out
    assert "at epoch 5" in shown_text
    assert "0.05" in shown_text
    assert "architecture" not in shown_text
    at_five = next(record for record in read_run(second).records if record["epoch"] == 5)
    assert f"{at_five['train/collapse/nc1_trace']:.3g}" in shown_text


def page_of(sweep: Sweep, folder: Path, *tables: Table, lead: str = "") -> str:
    return render_page(study_of(sweep.runs), lead, [], tables, [], folder)


def test_page_shows_words_of_a_run_as_words(tmp_path: Path) -> None:
    table = Table.of("troubles", "T", ["why"], [["<script>alert(1)</script>"]])
    page = page_of(gather([read_run(write_run(tmp_path))]), tmp_path, table, lead="1 < 2")
    assert "&lt;script&gt;alert(1)" in page
    assert "<script>alert" not in page
    assert "1 &lt; 2" in page


def test_page_shows_eight_columns_of_a_table_and_unfolds_the_others(tmp_path: Path) -> None:
    for rate in (0.01, 0.02, 0.03, 0.05, 0.07, 0.09, 0.12):
        write_run(tmp_path, rate=rate)
    sweep = gather(_read(tmp_path))
    expected = {
        results: {"dataset", "network", "loss", "learning rate", "seeds", "test acc. at the end %", "NC1", "L_LS⊥/L %"},
        learning_rates: {"dataset", "network", "loss", "0.01", "0.02", "0.03", "0.05", "0.07"},
        decomposition: None,
    }
    for make, names in expected.items():
        table = make(sweep)
        shown_columns = {table.columns[place] for place in shown_at_once(table)}
        assert len(shown_columns) == AT_ONCE
        assert names is None or shown_columns == names
        page = page_of(sweep, tmp_path, table)
        folded = len(table.columns) - AT_ONCE
        assert page.count(' class="more"') == folded  # in the head
        assert len(re.findall(r'<td class="\w* more"', page)) == folded * len(table.rows)
        assert f"all\n{len(table.columns)} columns" in page
    assert 'id="all_of_' not in page_of(sweep, tmp_path, gains(sweep))


def test_chosen_rate_is_among_the_columns_that_are_shown(tmp_path: Path) -> None:
    for rate in (0.001, 0.002, 0.003, 0.004, 0.005, 0.006, 0.02, 0.05):
        write_run(tmp_path, rate=rate)
    table = learning_rates(gather(_read(tmp_path)))
    (row,) = table.rows
    (chosen,) = [place for place, entry in enumerate(row) if str(entry).startswith("[")]
    assert chosen in shown_at_once(table)
    assert {0, 1, 2} < shown_at_once(table)


def test_outcome_is_said_before_any_file_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_sweep(tmp_path / "runs", 1, 1, RATES[:2])
    said: list[str] = []

    def write(*_: object, **__: object) -> None:
        said.append(capsys.readouterr().out)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("ncexp.report.whole.write_report", write)
    assert report([str(tmp_path / "runs"), "--to", str(tmp_path / "report")]) == State.REFUSED.exit_code
    assert "verdict" in said[0]
    assert not (tmp_path / "report").exists()
