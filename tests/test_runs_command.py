"""`ncexp runs`, and the words by which commands are told of runs and of the folder that they lie in."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from synthetic_sweep import write_run, write_status

from ncexp.cli import main
from ncexp.cli.words import with_outputs
from ncexp.record import State, read_run


@pytest.fixture
def outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two completed runs of one loss, and one of another that diverged; the working directory has them in outputs/."""
    monkeypatch.chdir(tmp_path)
    for rate in (0.02, 0.05):
        write_run(tmp_path / "outputs", rate=rate)
    write_run(tmp_path / "outputs", loss="cross_entropy", state=State.DIVERGED)
    return tmp_path / "outputs"


def call(capsys: pytest.CaptureFixture[str], command: str, *words: object) -> tuple[int, list[str], str]:
    code = main([command, *map(str, words)])
    said = capsys.readouterr()
    return code, said.out.splitlines(), said.err


def test_runs_lists_state_epoch_error_nc1_and_name(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, (head, *lines, end), said = call(capsys, "runs")
    assert (code, said, end) == (0, "", "3 runs: 2 completed, 1 diverged")
    assert head.split() == ["state", "epoch", "test", "error", "NC1", "run"]
    for line, path in zip(lines, sorted(outputs.iterdir()), strict=True):
        run = read_run(path)
        last = run.records[-1]
        assert line.split() == [
            str(run.state),
            f"{run.training[-1]['epoch']}",
            f"{last['test/error']:.2%}",
            f"{last['train/collapse/nc1_trace']:.3g}",
            path.name,
        ]
    assert max(map(len, (head[:38], *(line[:38] for line in lines)))) == 38


@pytest.mark.parametrize(
    ("words", "count"),
    [
        (["loss=mse"], 2),
        (["where=loss=mse"], 2),
        (["--where", "loss=mse", "lr=0.05"], 1),
        (["digits-resnet-mse*"], 2),
        (["digits-resnet-mse*", "lr=0.02"], 1),
        (["digits-resnet-cross"], 1),
        (["outputs=outputs"], 3),
        (["seed=7"], 0),
    ],
)
@pytest.mark.parametrize("word", ["runs", "ls"])
@pytest.mark.usefixtures("outputs")
def test_runs_lists_those_that_are_meant(
    word: str, words: list[str], count: int, capsys: pytest.CaptureFixture[str]
) -> None:
    code, lines, _ = call(capsys, word, *words)
    assert (code, len(lines) - 2) == (0, count)


def test_runs_of_a_stranger_are_named_and_no_terminal_obeys_them(
    outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = write_run(outputs, seed=1)
    odd.rename(outputs / f"\x1b[31m{odd.name}")
    (outputs / write_run(outputs, seed=2).name / "facts.json").write_text("[")
    linked = write_run(outputs, seed=3) / "measurements"
    for path in linked.glob("errors*.jsonl"):
        path.unlink()
        os.mkfifo(path)
    code, lines, said = call(capsys, "runs")
    assert (code, lines[-1]) == (1, "3 runs: 2 completed, 1 diverged")
    assert said.count("ncexp: left out: ") == 3
    assert r"\x1b[31m" in said
    assert "\x1b" not in said


def test_run_whose_journal_lost_its_end_is_listed_as_damaged(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_run(outputs, seed=1)
    status = (path / "status.json").read_text().rstrip().removesuffix("}")
    (path / "status.json").write_text(f'{status}, "record": {{"training.jsonl": 350}}}}')
    lines = (path / "training.jsonl").read_text().splitlines(keepends=True)
    (path / "training.jsonl").write_text("".join(lines[:-1]))
    code, lines, _ = call(capsys, "runs", "seed=1")
    assert (code, lines[-1]) == (1, "1 runs: 1 damaged")


@pytest.mark.usefixtures("outputs")
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["runs", "los=mse"], r"expected a parameter of the runs, got 'los'.*Did you mean loss\?"),
        (["runs", "outputs=none"], "expected run directories, got none"),
        (["compare", "digits-resnet-mse"], r"^ncexp: digits-resnet-mse: expected one run, got 2:\n  digits-"),
        (["status", "last"], "outputs, got 'last'. There are none. `ncexp runs` lists the runs.\n$"),
    ],
)
def test_what_is_not_there_is_refused(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, refused = call(capsys, *words)
    assert (code, bool(re.search(said, refused))) == (2, True), refused


def test_outputs_is_one_name_in_every_command() -> None:
    for words in (["outputs=there"], ["--outputs=there"], ["--outputs", "there"]):
        assert with_outputs("measure", ["a", *words, "b"]) == ["a", "outputs=there", "b"]
        assert with_outputs("train", words) == ["outputs=there"]
    assert with_outputs("report", ["a", "outputs=there"]) == ["a", "--outputs=there"]
    assert with_outputs("report", ["--outputs", "there"]) == ["--outputs", "there"]


@pytest.mark.parametrize("spelling", ["outputs={}", "--outputs={}", "--in={}"])
def test_commands_find_runs_in_a_named_folder(
    outputs: Path, spelling: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    outputs.rename(outputs.with_name("elsewhere"))
    there = spelling.format("elsewhere")
    assert call(capsys, "compare", there, "digits-resnet-mse*")[0] == 0
    assert call(capsys, "export", there, "digits-resnet-cross", "--to", "one.csv")[0] == 0
    assert Path("one.csv").read_text().count("cross_entropy") > 0
    assert "mse," not in Path("one.csv").read_text().replace("cross_entropy", "")[:2000]
    assert call(capsys, "runs", there)[0] == 0
    assert "runs there: 2 completed, 1 diverged" in call(capsys, "status", there)[1][0]
    sent: list[object] = []
    monkeypatch.setattr("ncexp.tracking.sync_runs", lambda paths, uri: sent.append(paths) or {"not sent": 0})
    assert call(capsys, "sync", there)[0] == 0
    assert call(capsys, "sync", there, "digits-resnet-mse*")[0] == 0
    assert sent[0] == [Path("elsewhere")]
    assert len(sent[1]) == 2  # type: ignore[arg-type]


def test_status_without_a_sweep_says_what_there_is(
    outputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = "no sweep in outputs; runs there: 2 completed, 1 diverged; `ncexp runs` lists them"
    assert call(capsys, "status") == (0, [line], "")
    empty = tmp_path / "empty"
    (code, (line,), _) = call(capsys, "status", "--outputs", empty)
    assert (code, line) == (0, f"no sweep in {empty}; runs there: none; `ncexp` trains one")
    write_status(next(outputs.iterdir()), "nonsense")
    assert call(capsys, "status")[0] == 1
