"""What a person reads of a sweep on this machine, and the commands after it."""

from __future__ import annotations

import shlex
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console
from scripted_workers import entries
from synthetic_sweep import write_run

from ncexp.launching import launcher, table
from ncexp.launching.launcher import InTurnLauncher
from ncexp.launching.sweep_directory import SweepDirectory
from ncexp.launching.table import print_end
from ncexp.record import State


def printed(console: Console) -> list[str]:
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text.splitlines()


def test_sweep_in_turn_stops_at_an_interruption_and_prints_a_table(
    tmp_path: Path, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = entries(tmp_path, 3)
    config = SimpleNamespace(raw={"tracking": {"enabled": False}}, outputs=tmp_path)
    asked = [SimpleNamespace(task=config, entry=lambda num: tasks[num], overrides=[]) for _ in tasks]
    ends = iter([State.COMPLETED, State.INTERRUPTED])
    tasks[1].task.path.mkdir()
    tasks[1].task.set_status(State.INTERRUPTED, epoch=3, message="stopped in epoch 4")

    def attempt(raw: object, console: Console, draws: bool) -> State:
        assert not draws  # a sweep of several
        return next(ends)

    monkeypatch.setattr(launcher, "attempt", attempt)
    monkeypatch.setattr(launcher, "process_console", lambda: console)
    monkeypatch.setattr(launcher, "print_end", lambda *others: None)
    monkeypatch.setattr(InTurnLauncher, "prepare", lambda *_: (SweepDirectory(tmp_path / "sweep"), asked))
    monkeypatch.setattr(launcher, "returned", lambda task, state: None)
    sweep, states = InTurnLauncher(), list[State]()
    sweep.setup(hydra_context=None, task_function=SimpleNamespace(finished=states.extend), config=None)
    sweep.launch([], 0)
    assert states == [State.COMPLETED, State.INTERRUPTED, State.NEW]
    assert printed(console) == [
        "",
        "run 1 of 3  seed=0",
        "",
        "run 2 of 3  seed=1",
        "",
        "000  seed=0  completed",
        "001  seed=1  interrupted              stopped in epoch 4",
        "002  seed=2  new",
        "3 runs: 1 completed, 1 interrupted, 1 new",
    ]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


RUN = "digits-resnet-mse_lr0.05_seed0_0123456789"


@pytest.mark.parametrize(
    ("outputs", "trained", "measured", "reported"),
    [
        ("outputs", RUN, "0123456789", "outputs"),
        ("my outputs", RUN, f"my outputs/{RUN}", "my outputs"),
        ("outputs", "sweeps/quick_0123", "outputs/sweeps/quick_0123", "outputs/sweeps/quick_0123"),
    ],
)
def test_next_commands_can_be_typed_as_they_are(
    outputs: str, trained: str, measured: str, reported: str, console: Console, here: Path
) -> None:
    print_end(console, [State.COMPLETED], here / outputs, here / outputs / trained)
    commands = [shlex.split(line.removeprefix("next"), comments=True) for line in printed(console)]
    assert commands == [
        ["ncexp", "ui", outputs],
        ["ncexp", "measure", measured, "analysis=robustness"],
        ["ncexp", "report", reported],
    ]


@pytest.mark.parametrize("of", ["run", "sweep"])
def test_regression_is_not_offered_what_is_refused(of: str, console: Console, here: Path) -> None:
    run, sweep = here / "outputs" / RUN, here / "outputs" / "sweeps" / "quick_0123"
    run.mkdir(parents=True)
    (run / "facts.json").write_text('{"num_targets": 1}')
    trained = {"run": run, "sweep": sweep}[of]
    print_end(console, [State.COMPLETED], here / "outputs", trained, runs=[run] if of == "sweep" else [])
    (line,) = [one for one in printed(console) if "ncexp measure" in one]
    assert "analysis=norms" in line


@pytest.mark.parametrize(
    ("states", "is_printed"),
    [
        ([State.COMPLETED, State.FAILED], True),
        ([State.INTERRUPTED, State.NEW], True),
        ([State.KILLED], True),
        ([State.COMPLETED, State.DIVERGED], False),  # the same would diverge again
        ([State.REFUSED, State.BUSY], False),
    ],
)
def test_command_that_does_what_is_left_is_printed_as_it_was_typed(
    states: list[State], is_printed: bool, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["-m", "analysis=[collapse,robustness]", "dataset.path=a file.csv"]
    monkeypatch.setattr(table, "TYPED", [])  # as in a process of a job
    print_end(console, states)
    assert printed(console) == []
    monkeypatch.setattr(table, "TYPED", words)
    print_end(console, states)
    assert [shlex.split(line.removeprefix("again"), comments=True) for line in printed(console)] == (
        [["ncexp", *words]] if is_printed else []
    )


def test_sweep_ends_with_its_axes_against_error_and_nc1_and_the_verdict(tmp_path: Path, console: Console) -> None:
    runs = [write_run(tmp_path, rate=rate, seed=seed) for rate in (0.02, 0.05) for seed in (0, 1)]
    damaged = write_run(tmp_path, seed=2)
    (damaged / "facts.json").write_text("[")
    print_end(console, [State.COMPLETED] * 5 + [State.NEW], runs=[*runs, damaged, tmp_path / "not begun"])
    left_out, _, head, *rows = printed(console)
    assert left_out.startswith(f"left out: {damaged / 'facts.json'}: expected JSON")
    assert head.split() == ["lr", "seeds", "test", "error", "%", "NC1"]
    assert [row.split()[:2] for row in rows[:2]] == [["0.02", "2"], ["0.05", "2"]]
    assert rows[2].startswith("verdict   ")
