"""What is printed and drawn of one run, or of one simulation."""

from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from synthetic_path import records_of_path
from synthetic_sweep import write_journals, write_run

from ncexp.cli import main, ui
from ncexp.config import Component
from ncexp.record import RunDirectory, Runs, SavedRun, read_json, read_run, write_json
from ncexp.record.measurements import names_of
from ncexp.record.quantities import find, selected
from ncexp.report import draw_run, report_run, report_simulation
from ncexp.report import run as run_module
from ncexp.report.numbers import record_at
from ncexp.report.run import MOST_MEASURED, drawn_before, print_measured, print_summary
from ncexp.report.verdict import verdict

ROBUSTNESS = "ncexp.measure.analyses.RobustnessAnalysis"


def printed(console: Console) -> str:
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text


@pytest.mark.usefixtures("no_figures")
def test_summary_shows_the_catalogue_at_three_epochs(tmp_path: Path, console: Console) -> None:
    path = write_run(tmp_path)
    run = read_run(path)
    report_run(RunDirectory(path), console)
    text = printed(console)
    for name, row in selected("summary"):
        if name in run.records[-1]:
            line = next(line for line in text.splitlines() if row.short in line)
            assert len(line.split()) >= 4
    assert f"zero error ({run.zero_error_epoch})" in text
    nc1 = [f"{run.records[place]['train/collapse/nc1_trace']:.3g}" for place in (0, -1)]
    line = next(line for line in text.splitlines() if line.startswith("NC1 "))
    assert [line.split()[1], line.split()[-1]] == nc1
    assert max(map(len, text.partition("verdict")[0].splitlines())) <= 80


@pytest.mark.usefixtures("no_figures")
def test_summary_puts_the_test_errors_of_three_classifiers_side_by_side(tmp_path: Path, console: Console) -> None:
    path = write_run(tmp_path)
    report_run(RunDirectory(path), console)
    last = read_run(path).records[-1]
    names = ("test/error", "test/decisions/least_squares_error", "test/decisions/nearest_class_center_error")
    *_, line = (line for line in printed(console).splitlines() if line.startswith("last epoch"))
    assert line.split()[-3:] == [f"{last[name]:.2%}" for name in names]


@pytest.mark.usefixtures("no_figures")
def test_summary_of_a_run_that_never_reached_zero_error(tmp_path: Path, console: Console) -> None:
    path = write_run(tmp_path, epochs=[1, 2])
    report_run(RunDirectory(path), console)
    assert "zero error (none)" in printed(console)


def test_summary_says_where_the_terms_of_the_loss_do_not_add_up(tmp_path: Path, console: Console) -> None:
    run = read_run(write_run(tmp_path))
    print_summary(console, run)
    assert "in doubt" not in printed(console)
    epoch = run.records[-1]["epoch"]
    run.records[-1] |= {"train/mse/loss": 1.0, "train/mse/loss_rounding": 1e-9, "train/mse/identity_residual": 0.5}
    print_summary(console, replace(run))
    assert f"in doubt: train/mse and train/path at 1 epochs; at {epoch:.0f} the terms of L miss it" in printed(console)


@pytest.mark.usefixtures("no_figures")
def test_run_ends_with_its_verdict(tmp_path: Path, console: Console) -> None:
    path = write_run(tmp_path)
    report_run(RunDirectory(path), console)
    lines = printed(console).splitlines()
    said = verdict(read_run(path))
    assert lines[-len(said) :] == [f"{'' if place else 'verdict':9} {line}" for place, line in enumerate(said)]
    assert len(said) == 3


@pytest.mark.usefixtures("no_figures")
def test_measured_numbers_are_printed_at_three_epochs(tmp_path: Path, console: Console) -> None:
    path = write_run(tmp_path, more=True)
    run = read_run(path)
    robustness = Component(group="analysis.x", name="robustness", target=ROBUSTNESS, options={})
    names = names_of(path / "measurements", {"robustness": robustness})
    assert names == ["test/robustness/ratio"]
    report_run(RunDirectory(path), console, summary=False, measured=names)
    _, row, *said = printed(console).splitlines()
    epochs = [run.records[0], record_at(run, run.zero_error_epoch or 0) or {}, run.records[-1]]
    assert row.split() == ["test", "robustness", *(f"{one['test/robustness/ratio']:.3g}" for one in epochs)]
    assert [line[10:] for line in said] == verdict(run)


def test_very_many_measured_numbers_are_cut_and_counted(tmp_path: Path, console: Console) -> None:
    run = read_run(write_run(tmp_path))
    names = [name for name in run.records[-1] if name != "epoch"]
    assert len(names) > MOST_MEASURED
    print_measured(console, run, names)
    head, *rows, more = printed(console).splitlines()
    assert len(rows) == MOST_MEASURED
    assert more == f"and {len(names) - MOST_MEASURED} more: `ncexp export`, or ncexp.load(...).frame()"
    shown_first = [name for name in names if name in {one for one, _ in [*selected("summary"), *selected("report")]}]
    assert len(shown_first) < MOST_MEASURED
    assert all(any(row.startswith(find(name).short) or find(name).short in row for row in rows) for name in shown_first)  # type: ignore[union-attr]
    del head


def test_report_run_without_records_prints_nothing(tmp_path: Path, console: Console) -> None:
    path = write_run(tmp_path)
    for journal in (path / "measurements").iterdir():
        journal.unlink()
    report_run(RunDirectory(path), console)
    assert printed(console) == ""


@pytest.mark.usefixtures("no_rendering")
def test_report_run_writes_the_path_fit(tmp_path: Path, console: Console) -> None:
    path = write_run(tmp_path)
    facts = {"num_classes": 4, "num_train": 40, "num_features": 8, "smallest_class": 10, "largest_class": 10}
    (path / "facts.json").write_text(str(facts).replace("'", '"'))
    for journal in (path / "measurements").iterdir():
        journal.unlink()
    write_journals(path, records_of_path())
    report_run(RunDirectory(path), console)
    assert "closed form fitted from epoch 3" in printed(console)
    assert read_json(path / "path_fit.json")["records"][0]["epoch"] == 3
    fit, runs = read_json(path / "path_fit.json")["records"], Runs([read_run(path)])
    frame = runs.frame().query("family == 'path_fit'")
    expected = {
        (record["epoch"], name.rpartition("/")[2]): value
        for record in fit
        for name, value in record.items()
        if name != "epoch" and value is not None
    }
    found = {(row.epoch, row.quantity): row.value for row in frame.dropna().itertuples()}
    assert found == expected
    (row,) = runs.table().to_dict("records")
    assert row["epoch"] == read_run(path).records[-1]["epoch"]
    assert {name: row[name] for name in fit[-1]} == fit[-1]
    drawn = {f"{name}{suffix}" for name in ("central_path", "path_portrait") for suffix in (".pdf", ".png")}
    assert {figure.name for figure in (path / "figures").glob("[!.]*")} == drawn


@pytest.mark.usefixtures("no_rendering")
def test_report_simulation_prints_one_line_and_draws(tmp_path: Path, console: Console) -> None:
    path = write_run(tmp_path)
    for journal in (path / "measurements").iterdir():
        journal.unlink()
    records = records_of_path()
    for place, record in enumerate(records):
        record |= {f"train/theory/snr_{j}": record[f"train/path/snr_{j}"] for j in (1, 2, 3)}
        record |= {f"train/{family}/{name}": 0.1 for family in ("theory", "path") for name in ("loss_ls", "loss_nc1")}
        record |= {
            "train/theory/loss_nc23": 0.1,
            "train/path/loss_nc23": 0.1,
            "train/collapse/nc1_trace": 2.0 / 2**place,
        }
        record |= {"train/path/time": 10.0**place if place else 0.0, "train/theory/residual": 1e-9 * place}
    write_journals(path, records)
    report_simulation(RunDirectory(path), console)
    line, figure = printed(console).splitlines()
    assert line.startswith("10 times up to t = 1e+09; simulation and closed form differ by at most 9.0e-09")
    assert line.endswith("NC1 falls from 2 to 0.00391")
    assert figure == f"figure    {path / 'figures' / 'path_portrait.png'}"


@pytest.mark.usefixtures("no_figures")
def test_summary_without_decisions_prints_dashes(tmp_path: Path, console: Console) -> None:
    path = write_run(tmp_path)
    next((path / "measurements").glob("decisions_*.jsonl")).unlink()
    report_run(RunDirectory(path), console)
    *_, line = (line for line in printed(console).splitlines() if line.startswith("last epoch"))
    assert line.split()[-2:] == ["–", "–"]


@pytest.fixture
def drawings(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Gets the name of each run whose figures are drawn, as files with nothing in them."""
    names: list[str] = []

    def draw(run: SavedRun, directory: Path, comparison: object) -> list[Path]:
        names.append(run.path.name)
        directory.mkdir(exist_ok=True)
        (path := directory / "neural_collapse.png").touch()
        return [path]

    monkeypatch.setattr("ncexp.report.figures.draw_figures", draw)
    monkeypatch.setattr("ncexp.report.portraits.draw_pictures", lambda run, directory: ([], ["no snapshots"]))
    return names


def test_figures_are_drawn_where_one_is_missing_or_a_journal_is_newer(tmp_path: Path, drawings: list[str]) -> None:
    directory = RunDirectory(write_run(tmp_path))
    lines = draw_run(directory)
    assert lines[-2:] == ["not drawn no snapshots", f"figure    {directory.figures / 'neural_collapse.png'}"]
    assert draw_run(directory) == lines
    assert len(drawings) == 1
    journal = directory.journals()[0].path
    os.utime(journal, ns=(0, journal.stat().st_mtime_ns + 1))
    assert draw_run(directory) == lines
    assert len(drawings) == 2
    (directory.figures / "neural_collapse.png").unlink()
    assert draw_run(directory) == lines
    assert (len(drawings), drawn_before(directory)) == (3, (["neural_collapse.png"], ["no snapshots"]))
    (directory.figures / ".drawn.json").write_text("{}")  # somebody's
    assert draw_run(directory) == lines
    shutil.copytree(directory.path, copy := tmp_path / "copies" / directory.path.name)
    assert drawn_before(RunDirectory(copy)) == drawn_before(directory) is not None  # with the times of its files


def test_a_row_that_comes_while_figures_are_drawn_is_not_in_them(
    tmp_path: Path, drawings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = RunDirectory(write_run(tmp_path))
    read = run_module.read_run

    def read_and_write(path: Path) -> SavedRun:
        run, journal = read(path), directory.journals()[0].path
        os.utime(journal, ns=(0, journal.stat().st_mtime_ns + 1))
        return run

    with monkeypatch.context() as patch:
        patch.setattr(run_module, "read_run", read_and_write)
        draw_run(directory)
    assert drawn_before(directory) is None


def test_a_run_of_a_sweep_is_drawn_once_somebody_looks_at_it(
    tmp_path: Path, console: Console, drawings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    paths = [write_run(tmp_path / "outputs", seed=seed) for seed in range(3)]
    for path in paths:
        report_run(RunDirectory(path), console, draws=False)
        assert not (path / "figures").exists()
    report_run(RunDirectory(paths[0]), console)
    assert drawings == [paths[0].name]
    sent: list[list[Path]] = []
    monkeypatch.setattr("ncexp.tracking.sync_runs", sent.append)
    assert main(["pictures", "--missing", "--sync", "outputs"]) == 0
    assert sorted(drawings) == sorted(path.name for path in paths)
    assert sorted(sent) == sorted([path] for path in paths[1:])
    assert main(["pictures", "--missing", "outputs"]) == 0
    assert len(drawings) == 3
    RunDirectory(paths[1]).training.path.touch()
    monkeypatch.setattr("ncexp.report.whole.write_report", lambda *_, **__: (Path("page"), []))
    assert main(["report", str(paths[1])]) == 0
    assert (len(drawings), drawings[-1]) == (4, paths[1].name)
    assert main(["pictures", "--missing", "classes=0,1,2", "outputs"]) != 0


def test_figures_of_a_run_that_is_trained_leave_its_fit_unwritten(tmp_path: Path, drawings: list[str]) -> None:
    directory = RunDirectory(write_run(tmp_path))
    facts = {"num_classes": 4, "num_train": 40, "num_features": 8, "smallest_class": 10, "largest_class": 10}
    write_json(directory.facts, facts)
    for journal in directory.journals():
        journal.path.unlink()
    write_journals(directory.path, records_of_path())
    assert "closed form fitted" in draw_run(directory, is_trained=True)[0]
    assert (drawings, directory.path_fit.exists()) == ([directory.path.name], False)
    report_run(directory, Console(file=io.StringIO()), draws=False)
    assert directory.path_fit.exists()


def test_ui_draws_what_the_runs_of_its_folder_lack_and_stops_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process of MLflow's server is one that waits, and ends as soon as Ctrl-C comes."""
    begun: list[tuple[list[str], subprocess.Popen[bytes]]] = []
    begin = subprocess.Popen

    def start(command: list[str], **options: Any) -> subprocess.Popen[bytes]:
        begun.append((command, begin(["sleep", "600"], **options)))
        return begun[-1][1]

    def interrupt(line: str) -> None:
        if line.startswith("A browser"):
            raise KeyboardInterrupt

    monkeypatch.setattr(ui.subprocess, "Popen", start)
    monkeypatch.setattr(ui, "print_links", lambda *_: None)
    monkeypatch.setattr("ncexp.tracking.address.responds", lambda address: True)
    monkeypatch.setattr(ui, "say", interrupt)
    monkeypatch.setattr(ui.signal, "signal", lambda *_: None)
    assert ui._serve("sqlite:///none.db", 0, "there") == 0
    (_, server), (command, drawing) = begun
    assert command[1:] == ["-m", "ncexp", "pictures", "--missing", "--sync", "there"]
    assert (server.wait(10), drawing.returncode) == (-signal.SIGTERM, -signal.SIGTERM)
    assert ui._serve("sqlite:///none.db", 0, None) == 0
    assert len(begun) == 3  # of an address of a store nothing is drawn
