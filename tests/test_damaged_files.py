"""One damaged file blocks no command: each names the file, carries on with the other runs, and returns that it did."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas
import pytest
from rich.console import Console
from support import SMALL, Compose, train, trained
from synthetic_sweep import write_run

import ncexp
from ncexp.cli import main
from ncexp.launching.states import state_of
from ncexp.launching.sweep_directory import Entry, SweepDirectory
from ncexp.main import run
from ncexp.record import DamagedFile, RunDirectory, State, read_run

QUIET = "tracking.enabled=false"
DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "cut": lambda data: data[: len(data) // 2],
    "garbage": lambda data: b"\x00\xff\xfe{]" + data[5:],
    "a list": lambda data: b"[1, 2]\n",
    "unknown": lambda data: data.replace(b'"completed"', b'"complete"').replace(b'"job"', b'"jib"'),
}


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three completed runs."""
    folder = tmp_path_factory.mktemp("three")
    return [write_run(folder, rate=rate) for rate in (0.01, 0.02, 0.03)]


@pytest.fixture
def sweep(three: list[Path], tmp_path: Path) -> SweepDirectory:
    """Copies of the three, asked for by one sweep."""
    paths = [shutil.copytree(path, tmp_path / "outputs" / path.name) for path in three]
    made = SweepDirectory(tmp_path / "outputs" / "sweeps" / "three_01234567")
    made.path.mkdir(parents=True)
    places = [{"name": one.name[:-11], "key": one.name[-10:], "directory": str(one), "run": str(one)} for one in paths]
    made.write_entries([Entry(num=num, **place, overrides=[]) for num, place in enumerate(places)])
    for path in paths:
        RunDirectory(path).set_job("local:another-machine:7:1")
        RunDirectory(path).log.write_text("said something\n")
    return made


def damage(path: Path, how: str) -> None:
    path.write_bytes(DAMAGES[how](path.read_bytes()))


def call(command: str, *arguments: object) -> int:
    return main([command, *map(str, arguments)])


def pick(sweep: SweepDirectory, file: str) -> Path:
    """A file of the second run."""
    (path,) = Path(sweep.entries()[1].directory).glob(file)
    return path


@pytest.mark.parametrize("how", DAMAGES)
@pytest.mark.parametrize("file", ["status.json", "job.json"])
def test_sweep_with_a_run_that_cannot_be_read_is_shown(
    sweep: SweepDirectory, capsys: pytest.CaptureFixture[str], file: str, how: str
) -> None:
    path, outputs = pick(sweep, file), sweep.path.parents[1]
    damage(path, how)
    assert call("status", "--outputs", outputs, "last") == 1
    said = capsys.readouterr().out
    assert re.search(rf"damaged +epoch 350 +{re.escape(str(path))}: expected", said)
    assert "2 completed, 1 damaged" in said
    assert call("status", "--outputs", outputs) == 1
    assert capsys.readouterr().out == "three_01234567: 2 completed, 1 damaged\n"
    for words in ([], ["1"]):
        assert call("logs", "--outputs", outputs, "last", *words) == 1
        shown = capsys.readouterr()
        assert "said something" in shown.out
        assert f"{path}: expected" in shown.err
    assert call("cancel", "--outputs", outputs, "last") == 1
    assert f"{path}: expected" in capsys.readouterr().err


@pytest.mark.parametrize("how", ["empty", "cut", "garbage", "a list"])
def test_damaged_manifest_is_named_and_the_other_sweeps_are_shown(
    sweep: SweepDirectory, capsys: pytest.CaptureFixture[str], how: str
) -> None:
    other, outputs = SweepDirectory(sweep.path.with_name("other_76543210")), sweep.path.parents[1]
    other.path.mkdir()
    other.write_entries(sweep.entries())
    manifest = sweep.path / "manifest.jsonl"
    damage(manifest, how)
    if how == "empty":
        assert call("status", "--outputs", outputs) == 0  # a sweep of which nothing is known
        return
    assert call("status", "--outputs", outputs) == 1
    said = capsys.readouterr()
    assert "other_76543210: 3 completed" in said.out
    assert f"{manifest}: expected a line of JSON for each task, got a damaged file" in said.err
    for command in ("status", "logs", "cancel"):
        assert call(command, "--outputs", outputs, "three") == 1
        assert f"{manifest}: expected" in capsys.readouterr().err


NO_FILE = ["empty", "cut", "garbage", "a list"]
#: (file of a run, a damage that makes it no such file any more).
READ = [(f"{name}.jsonl", how) for name in ("training", "measurements/collapse_*") for how in ("garbage", "a list")]
READ += [(name, how) for name in ("facts.json", "config.yaml", "measurements/collapse_*.json") for how in NO_FILE]


@pytest.mark.parametrize(("file", "how"), [*READ, *(("status.json", how) for how in DAMAGES)])
def test_many_runs_are_read_without_one_that_cannot_be(
    sweep: SweepDirectory, capsys: pytest.CaptureFixture[str], tmp_path: Path, file: str, how: str
) -> None:
    path, outputs = pick(sweep, file), sweep.path.parents[1]
    keys = [entry.key for entry in sweep.entries()]
    damage(path, how)
    with pytest.raises(DamagedFile, match=f"{path}: expected"):
        read_run(path.parents[1] if path.parent.name == "measurements" else path.parent)
    with pytest.warns(UserWarning, match=f"left out: {path}: expected"):
        runs = ncexp.load(outputs)
    assert ([found.key for found in runs], len(runs.faults)) == ([keys[0], keys[2]], 1)
    target = tmp_path / "all.csv"
    assert call("export", outputs, "--to", target) == 1
    assert f"left out: {path}: expected" in capsys.readouterr().err
    assert set(pandas.read_csv(target, dtype={"run": str}).run) == {keys[0], keys[2]}
    assert call("compare", "--in", outputs, *keys) == 1
    said = capsys.readouterr()
    assert (keys[0] in said.out, keys[1] in said.out, str(path) in said.err) == (True, False, True)


@pytest.mark.parametrize("name", [b"\xff\xfe", b"a\nb"])
def test_folder_whose_name_is_no_text_is_named_and_left_out(
    sweep: SweepDirectory, capsys: pytest.CaptureFixture[str], tmp_path: Path, name: bytes
) -> None:
    outputs, entries = sweep.path.parents[1], sweep.entries()
    os.rename(os.fsencode(entries[1].directory), os.path.join(os.fsencode(outputs), name))
    target = tmp_path / "all.csv"
    assert call("export", outputs, "--to", target) == 1
    assert "expected a folder's name that can be printed" in capsys.readouterr().err
    assert set(pandas.read_csv(target, dtype={"run": str}).run) == {entries[0].key, entries[2].key}
    assert call("compare", "--in", outputs, entries[0].key, entries[2].key) == 0


@pytest.mark.slow
@pytest.mark.usefixtures("no_rendering")
def test_report_leaves_out_what_cannot_be_read_and_shows_what_has_holes(
    sweep: SweepDirectory, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    outputs = sweep.path.parents[1]
    damage(pick(sweep, "status.json"), "cut")
    third = RunDirectory(Path(sweep.entries()[2].directory))
    third.set_status(State.COMPLETED, record={"training.jsonl": 351})
    assert call("report", outputs, "--to", tmp_path / "report") == 1
    said = capsys.readouterr()
    assert f"left out: {pick(sweep, 'status.json')}: expected JSON" in said.err
    assert "training.jsonl has 350 of 351 rows" in (tmp_path / "report" / "troubles.md").read_text()
    assert "| completed |" in (tmp_path / "report" / "runs.md").read_text()  # the first run counts


# Commands that work on runs.


def ncexp_command(*arguments: str) -> tuple[int, str]:
    done = subprocess.run([sys.executable, "-m", "ncexp", *arguments], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("launcher", [[], ["hydra/launcher=local", "hydra.launcher.runs_at_once=1"]])
def test_sweep_trains_the_others_and_names_the_damaged_file(composed: Compose, launcher: list[str]) -> None:
    raw = composed(QUIET, "epochs=2", "analysis=[]", "seed=1")
    damaged = train(raw)
    damaged.status_path.write_text("{")
    outputs = Path(raw["outputs"])
    words = [QUIET, "epochs=2", "analysis=[]", "device=cpu", f"outputs={outputs}"]
    code, said = ncexp_command("-m", *SMALL, *words, "seed=0,1,2", *launcher)
    assert (code, "Traceback" in said) == (1, False), said
    assert f"{damaged.status_path}: expected JSON, got a damaged file" in said
    assert "2 completed, 1 damaged" in said
    trained, made = outputs.glob("*/training.jsonl"), outputs.glob("*_*/config.yaml")
    assert {path.parent for path in trained} == {path.parent for path in made}
    assert damaged.status_path.read_text() == "{"


@pytest.mark.slow
def test_measure_measures_the_others_and_names_the_damaged_file(composed: Compose) -> None:
    good, damaged = (train(composed(QUIET, "epochs=2", "analysis=[]", f"seed={seed}")) for seed in (0, 1))
    damaged.config.write_text("dataset: {")
    outputs = str(good.path.parent)
    code, said = ncexp_command("measure", outputs, "analysis=[collapse]", "device=cpu", f"outputs={outputs}")
    assert (code, "Traceback" in said) == (1, False), said
    assert f"{damaged.config}: expected YAML, got a damaged file" in said
    assert "1 completed, 1 damaged" in said
    assert "train/collapse/nc1_trace" in read_run(good.path).records[-1]


@pytest.mark.slow
@pytest.mark.usefixtures("no_figures")
def test_single_run_with_a_damaged_status_is_refused_by_name(composed: Compose, console: Console) -> None:
    raw = composed(QUIET)
    directory = trained(raw, stop_after=3)
    directory.status_path.write_text('{"state": "runn')
    with pytest.raises(DamagedFile, match=f"{directory.status_path}: expected JSON, .* Set it aside"):
        run(raw, console)
    directory.status_path.rename(directory.path / "aside")
    assert run(raw, console) is State.COMPLETED
    assert "resumed   in epoch 3" in console.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.slow
def test_configuration_of_another_run_is_refused_before_it_is_measured(composed: Compose, console: Console) -> None:
    from ncexp.config.composing import compose_mapping
    from ncexp.main import measure

    directory = train(composed(QUIET, "epochs=2", "analysis=[]", "keep.snapshots=[]"))
    directory.config.write_text(directory.config.read_text().replace("separation: 4", "separation: 7"))
    with pytest.raises(DamagedFile, match=f"{directory.config}: expected the configuration of training"):
        measure(compose_mapping("measure", [f"run={directory.path}", "analysis=[collapse]", "device=cpu"]), console)


#: The command; before the status that says how the training ended, the disk is filled to its last byte.
FULL = """
import sys
from ncexp.record import RunDirectory
original = RunDirectory.set_status
def filling(self, state, **details):
    if "epoch" in details and details["epoch"] > 0:
        try:
            with open(self.path.parent / "filler", "wb", buffering=0) as file:
                while file.write(bytes(4096)):
                    pass
        except OSError:
            pass
    original(self, state, **details)
RunDirectory.set_status = filling
from ncexp.__main__ import main
sys.exit(main())
"""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of four megabytes."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", disk], capture_output=True, check=False)
    if mounted.returncode != 0:
        pytest.skip("a file system can be mounted by root only")
    yield disk
    subprocess.run(["umount", disk], check=True)


@pytest.mark.slow
def test_disk_full_at_the_status_leaves_a_killed_run_that_goes_on(
    small_disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*SMALL, QUIET, "analysis=[]", "device=cpu", f"outputs={small_disk}"]
    done = subprocess.run([sys.executable, "-c", FULL, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "No space left on device" in done.stdout + done.stderr
    (path,) = (one.parent for one in small_disk.glob("*/status.json"))
    directory = RunDirectory(path)
    assert (directory.state(), directory.actual_state(), state_of(directory, {})) == ("running", "killed", "killed")
    assert read_run(path).state is State.KILLED
    assert set(ncexp.load(small_disk).frame().state) == {"killed"}
    assert call("compare", path) == 0
    assert "killed" in capsys.readouterr().out
    (small_disk / "filler").unlink()
    code, said = ncexp_command(*words)
    assert (code, "resumed   in epoch 7" in said, directory.state()) == (0, True, "completed"), said
