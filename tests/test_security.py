"""What docs/security.md says: what never runs code, who may read what a run writes, and whom a run contacts."""

from __future__ import annotations

import ast
import csv
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from commands import cancel, export, logs, report, status
from rich.table import Table
from support import SMALL, Compose, train
from synthetic_sweep import write_run, write_status

from ncexp.launching.states import fault_of
from ncexp.launching.sweep_directory import Entry, SweepDirectory
from ncexp.record import DamagedFile, State, contents, load, read_all
from ncexp.record.console import literal_console
from ncexp.record.text import printable
from ncexp.report.tables import Table as Tables

PACKAGE = Path(__file__).parents[1] / "ncexp"
SOURCES = sorted(PACKAGE.rglob("*.py"))
#: What turns data into code. `torch.load` is looked at by itself.
FORBIDDEN = {"eval", "exec", "pickle.load", "pickle.loads", "os.system", "yaml.unsafe_load"}
#: CIFAR is published as pickles. They are loaded only if their MD5 is the published one: test_official_files.py.
ALLOWED = {("datasets/official.py", "pickle.loads")}

#: Python notes here whom any process of ours connects to, by whatever library: sitecustomize is imported at its start.
WATCH = """
import os, sys
def note(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto"):
        with open(os.environ["CONTACTED"], "a") as file:
            print(event, arguments, file=file)
sys.addaudithook(note)
"""


def _calls(tree: ast.AST) -> list[ast.Call]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.Call)]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_nothing_that_was_read_is_run(path: Path) -> None:
    for call in _calls(ast.parse(path.read_text())):
        name, options = ast.unparse(call.func), {word.arg: ast.unparse(word.value) for word in call.keywords}
        if (str(path.relative_to(PACKAGE)), name) not in ALLOWED:
            assert name not in FORBIDDEN, f"line {call.lineno}: {name}"
        assert options.get("shell", "False") == "False", f"line {call.lineno}: a shell"
        if name == "yaml.load":
            assert ast.unparse(call.args[1]) == "_Loader", f"line {call.lineno}: YAML may name code"
        if name == "torch.load":
            assert options.get("weights_only") == "True", f"line {call.lineno}: a pickle is unpickled"


def test_yaml_of_runs_names_no_code() -> None:
    with pytest.raises(yaml.YAMLError, match="python/object"):
        yaml.load("!!python/object/apply:os.getpid []", contents._Loader)


@pytest.mark.slow
@pytest.mark.usefixtures("no_rendering")
def test_reading_a_run_runs_nothing_that_it_names(
    composed: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = train(composed("tracking.enabled=false", "device=cpu"))
    (tmp_path / "foreign.py").write_text("from pathlib import Path\nPath(__file__).with_name('imported').touch()\n")
    monkeypatch.syspath_prepend(tmp_path)
    raw: dict[str, Any] = yaml.safe_load(directory.config.read_text())
    for group in ("dataset", "architecture", "loss", "optimizer"):
        raw[group]["_target_"] = "foreign.Anything"
    directory.config.write_text(yaml.safe_dump(raw))
    outputs = directory.path.parent
    assert len(load(outputs).frame()) > 0
    assert report([str(outputs), "--to", str(tmp_path / "report")]) == 0
    assert export([str(outputs), "--to", str(tmp_path / "all.csv")]) == 0
    assert status(["--outputs", str(outputs)]) == 0
    assert not (tmp_path / "imported").exists()


@pytest.mark.slow
def test_files_have_the_modes_that_the_umask_allows(composed: Compose) -> None:
    before = os.umask(0o077)
    try:
        directory = train(composed("tracking.enabled=false", "device=cpu"))
    finally:
        os.umask(before)
    written = [path for path in directory.path.rglob("*") if path.stat().st_mode & 0o077]
    assert not written


@pytest.mark.slow
@pytest.mark.cold
def test_a_run_contacts_nobody(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(WATCH)
    contacted = tmp_path / "contacted"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "CONTACTED": str(contacted)}
    witness = [sys.executable, "-c", "import socket; socket.getaddrinfo('127.0.0.1', 9)"]
    subprocess.run(witness, env=environment, check=True)
    assert "127.0.0.1" in contacted.read_text()  # it does see
    contacted.unlink()
    command = [sys.executable, "-m", "ncexp", *SMALL, "device=cpu"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "outputs" / "mlflow.db").exists()
    assert not contacted.exists() or contacted.read_text() == ""


# The folder of somebody else.

ESCAPE = "\x1b[31mred\x1b]0;title\x9b2J\u202e"
SHOWN = r"\x1b[31mred\x1b]0;title\x9b2J\u202e"


def _stranger(outputs: Path, *, before: str = ESCAPE, **options: Any) -> Path:
    """A run that failed, with control characters wherever a file may have them, its folder's name `before` its own."""
    path = write_run(outputs, state=State.FAILED, **options)
    path = path.rename(path.with_name(f"{before}{path.name}"))
    write_status(path, State.FAILED, message=ESCAPE)
    (path / "run.log").write_text(f"{ESCAPE}\nlast line\n")
    return path


def test_what_a_terminal_obeys_is_escaped_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    assert printable(ESCAPE) == SHOWN
    plain = "ω ≤ 0.1 %\tL_LS⊥\n\xa0é日本 😀"
    assert printable(plain) == plain
    table, console = Table(ESCAPE), literal_console(width=200)
    table.add_row(ESCAPE)
    for one in (ESCAPE, table):
        console.print(one)
    printed = capsys.readouterr().out
    assert (printed.count(r"\x1b[31mred"), printed.count("\x1b")) == (3, 0)


def test_everything_is_printed_by_say_or_a_console() -> None:
    """Our own words alone may go without: help, completion."""
    own = {"record/text.py", "cli/__init__.py", "cli/shell_completion.py"}
    found = {
        str(path.relative_to(PACKAGE))
        for path in SOURCES
        if re.search(r"\bprint\(|stdout\.write\(", path.read_text())
        for call in _calls(ast.parse(path.read_text()))
        if ast.unparse(call.func) in ("print", "sys.stdout.write")
    }
    assert found == own


def test_sweep_of_a_stranger_is_shown_without_control_characters(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = _stranger(tmp_path)
    _submitted(tmp_path, path)
    for command in (status, logs):
        command(["--outputs", str(tmp_path), "quick_1"])
        said = capsys.readouterr()
        assert SHOWN in said.out
        assert "\x1b" not in said.out + said.err


@pytest.mark.parametrize("place", ["dataset.name", "architecture.name", "loss.name", "architecture.family", "regime"])
def test_names_in_a_configuration_are_names_or_the_run_is_left_out(tmp_path: Path, place: str) -> None:
    kept, left_out = write_run(tmp_path), write_run(tmp_path, seed=1)
    raw = yaml.safe_load((left_out / "config.yaml").read_text())
    *groups, last = place.split(".")
    (raw[groups[0]] if groups else raw)[last] = "x/../../../outside"
    (left_out / "config.yaml").write_text(yaml.safe_dump(raw))
    runs = read_all(tmp_path, {})
    assert [run.path for run in runs] == [kept]
    assert re.fullmatch(rf".*: expected as {re.escape(place)} 1 to 64 letters.* got 'x/\.\./.*", runs.faults[0])


def test_words_of_a_record_are_no_formulas_in_csv(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_run(tmp_path, epochs=[1, 2])
    (errors,) = path.glob("measurements/errors_*.jsonl")
    errors.write_text(errors.read_text().replace('"train/error"', '"=1+1/@a/+b": -2.5, "train/error"', 1))
    assert export([str(tmp_path), "--to", str(tmp_path / "all.csv")]) == 0
    capsys.readouterr()
    with (tmp_path / "all.csv").open() as file:
        rows = list(csv.DictReader(file))
    (row,) = (row for row in rows if "1+1" in row["split"])
    assert [row[name] for name in ("split", "family", "quantity", "value")] == ["'=1+1", "'@a", "'+b", "-2.5"]
    assert "'-1+1" in Tables.of("t", "T", ["a"], [["-1+1"]]).csv()
    assert "\n-1.5\n" in Tables.of("t", "T", ["a"], [["-1.5"]]).csv()


@pytest.mark.slow
@pytest.mark.usefixtures("no_rendering")
def test_report_on_a_stranger_stays_in_its_folder_and_is_printable(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outputs = tmp_path / "outputs"
    write_run(outputs)
    _stranger(outputs, rate=0.05)
    _stranger(outputs, before="", rate=0.05)
    bad = _stranger(outputs, before="", seed=1)
    (bad / "config.yaml").write_text((bad / "config.yaml").read_text().replace("name: mse", "name: ../../../out"))
    before = set(tmp_path.rglob("*"))
    assert report([str(outputs), "--to", str(tmp_path / "report")]) == 1
    said = capsys.readouterr()
    assert "expected as loss.name" in said.err
    assert f"outputs/{SHOWN}" in said.err
    assert "\x1b" not in said.out + said.err
    made = set(tmp_path.rglob("*")) - before
    assert made
    assert all(path.is_relative_to(tmp_path / "report") for path in made)
    assert SHOWN in (tmp_path / "report" / "troubles.md").read_text()
    assert not [path for path in made if path.suffix in (".md", ".csv", ".tex") and "\x1b" in path.read_text()]


def _submitted(outputs: Path, run: Path | None = None) -> SweepDirectory:
    sweep, place = SweepDirectory(outputs / "sweeps" / "quick_1"), str(run or outputs / "run_0")
    sweep.submissions.mkdir(parents=True)
    sweep.write_entries([Entry(num=0, name="run", key="0", directory=place, run=place, overrides=[])])
    return sweep


def test_cancel_deletes_nothing_that_a_submission_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ncexp.launching.slurm.jobs_in_queue", dict)
    sweep, victim = _submitted(tmp_path), tmp_path / "victim.json"
    victim.write_text("{}")
    noted = {"name": "1:../../../victim", "jobs": [[0]], "timeout_min": 60, "max_num_timeout": 3}
    for content in (json.dumps(noted), json.dumps({**noted, "name": "1:ab", "jobs": 3}), "{", "[]"):
        (sweep.submissions / "ab.json").write_text(content)
        assert cancel(["--outputs", str(tmp_path), "quick_1"]) == 1
        assert "submissions/ab.json: expected a submission of its name" in capsys.readouterr().err
        assert victim.exists()
    (sweep.submissions / "ab.json").write_text(json.dumps({**noted, "name": "1:ab"}))
    assert cancel(["--outputs", str(tmp_path), "quick_1"]) == 0
    assert not list(sweep.submissions.iterdir())
    assert "0 jobs are being ended" in capsys.readouterr().out


@pytest.mark.parametrize("job", ["--me", "7;ls", "../../7", "", "7 8", "local:zzz", "local:a:1", "7_", "--user=root"])
def test_job_of_a_file_has_the_form_of_one_or_is_refused(tmp_path: Path, job: str) -> None:
    sweep = _submitted(tmp_path)
    (entry,) = sweep.entries()
    (tmp_path / "run_0").mkdir()
    (tmp_path / "run_0" / "job.json").write_text(json.dumps({"job": job, "submission": "1:ab"}))
    assert "job.json: expected a job" in fault_of(entry.task)
    manifest = sweep.path / "manifest.jsonl"
    manifest.write_text(manifest.read_text().replace('"name": "run"', '"name": "a/../../../../victim"'))
    with pytest.raises(DamagedFile, match="expected a name and a key that make a file's name"):
        sweep.entries()
    sweep.write_entries([replace(entry, job=job)])
    with pytest.raises(DamagedFile, match="expected a job"):
        sweep.entries()
