"""hydra/launcher=local: the same sweep on this machine, several at once."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
from pathlib import Path

import pytest
from support import PATIENCE_S
from sweeps import LONG, Project, processes, until
from tracking_stores import journalled, statuses, stored

pytestmark = pytest.mark.slow


def test_local_sweep_trains_several_at_once_and_one_failing_stops_nothing(project: Project) -> None:
    behaviours = "architecture.behaviour=calm,raise,killed,diverge"
    code, printed = project.sweep(behaviours, "hydra.launcher.runs_at_once=2", launcher="local")
    assert code == 3, printed
    assert project.states() == ["completed", "failed", "failed", "diverged"]
    assert "1 completed, 1 diverged, 2 failed" in printed
    assert "killed by SIGKILL" in project.status(project.manifest()[2])["message"]
    head, *rows = printed[printed.index("architecture.behaviour ") :].splitlines()
    assert head.split() == ["architecture.behaviour", "seeds", "test", "error", "%", "NC1"]
    assert [row.split()[:2] for row in rows[:4]] == [["calm", "1"], ["diverge", "0"], ["killed", "0"], ["raise", "0"]]
    assert "3 of 4 runs did not complete: 1 diverged, 2 failed (architecture.behaviour diverge; " in printed
    (again,) = (line for line in printed.splitlines() if line.startswith("again "))
    words = project.sweep_arguments(behaviours, "hydra.launcher.runs_at_once=2", launcher="local")
    assert shlex.split(again, comments=True) == ["again", "ncexp", *words]
    (project.folder / "cured").touch()
    code, printed = project.sweep(behaviours, launcher="local")
    assert "to submit 2: 2 failed; left alone 2: 1 completed, 1 diverged" in printed
    assert project.states() == ["completed", "completed", "completed", "diverged"]


def test_run_with_a_link_is_named_and_the_others_are_trained(project: Project) -> None:
    """The log of the run was appended to whatever file the link named."""
    code, printed = project.sweep("seed=1,2", "architecture.behaviour=raise", launcher="local")
    assert (code, project.states()) == (1, ["failed"] * 2), printed
    first = Path(project.manifest()[0]["directory"])
    theirs = project.folder / "theirs"
    (first / "run.log").rename(theirs)
    (first / "run.log").symlink_to(theirs)
    (project.folder / "cured").touch()
    before = theirs.read_bytes()
    code, printed = project.sweep("seed=1,2", "architecture.behaviour=raise", launcher="local")
    assert code != 0
    assert f"{first}/run.log: expected a file in {first.parent}, got a link to {theirs}" in printed
    assert "to submit 1: 1 failed; left alone 1: 1 damaged" in printed
    assert (project.states(), theirs.read_bytes()) == (["failed", "completed"], before)
    (first / "run.log").unlink()
    project.succeed("seed=1,2", "architecture.behaviour=raise", launcher="local")
    assert project.states() == ["completed", "completed"]


@pytest.mark.parametrize(("launcher", "begun"), [("local", 2), ("none", 1)])
def test_sweep_saves_its_runs_when_interrupted_and_goes_on(project: Project, launcher: str, begun: int) -> None:
    sweep = project.begin("seed=1,2,3", LONG, runs=begun, launcher=launcher)
    if launcher == "local":
        assert "2 running, 1 queued" in project.run("status", "last")[1]
    sweep.send_signal(signal.SIGINT)
    code, printed = project.end(sweep, hold=True)
    assert code == 130, printed
    states = [json.loads(path.read_text())["state"] for path in project.outputs.glob("*/status.json")]
    assert states == ["interrupted"] * begun
    if launcher == "none":
        assert ("run 1 of 3  seed=1" in printed, "run 2 of 3" in printed) == (True, False)
        assert "3 runs: 1 interrupted, 2 new" in printed
    (project.folder / "hold").unlink()
    printed = project.succeed("seed=1,2,3", LONG, launcher=launcher)
    assert "3 completed" in printed
    printed += "".join(path.read_text() for path in project.outputs.glob("*/run.log"))
    assert printed.count("resumed ") == begun


def test_local_sweep_of_one_process_sends_every_run_to_mlflow(project: Project) -> None:
    project.succeed("seed=1,2", "hydra.launcher.runs_at_once=1", launcher="local", tracking=True)
    entries = project.manifest()
    assert len({project.status(entry)["pid"] for entry in entries}) == 1
    assert stored(project.outputs / "mlflow.db") == journalled([Path(entry["directory"]) for entry in entries])


def test_local_sweep_sends_at_its_end_what_a_killed_uploader_did_not(project: Project) -> None:
    words = ("seed=1", LONG)
    sweep = project.begin(*words, launcher="local", tracking=True)
    (uploader,) = (number for kind, number in processes(project.folder) if kind == "uploader")
    os.kill(uploader, signal.SIGKILL)
    code, printed = project.end(sweep)
    assert (code, "MLflow    1 sent" in printed) == (0, True), printed
    runs = [path.parent for path in project.outputs.glob("*/config.yaml")]
    assert stored(project.outputs / "mlflow.db") == journalled(runs)
    assert "MLflow    1 up to date" in project.succeed(*words, launcher="local", tracking=True)


def test_local_sweep_in_a_shell_of_a_job_keeps_to_the_journals(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In salloc, or in a notebook on a node: it was refused, and without a launcher it trained."""
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    code, printed = project.sweep("seed=1", launcher="local", tracking=True)
    assert (code, project.states()) == (0, ["completed"]), printed
    assert "a cluster job does not write an SQLite store; `ncexp sync`" in printed
    assert not (project.outputs / "mlflow.db").exists()


def test_local_sweep_on_a_full_disk_shows_the_run_as_killed_and_goes_on(project: Project) -> None:
    project.outputs.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(project.outputs)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("a file system can be mounted by root only")
    try:
        arguments = project.sweep_arguments(
            "architecture.behaviour=calm,fill", "hydra.launcher.runs_at_once=1", launcher="local"
        )
        code, printed = project.run(*arguments)
        assert (code, "Traceback" in printed) == (5, False), printed
        assert "1 completed, 1 killed" in printed
        assert project.states() == ["completed", "running"]
        for words in (["status", "last"], ["status"]):
            assert "1 completed, 1 killed" in project.run(*words)[1]
        (project.outputs / "filler").unlink()
        (project.folder / "cured").touch()
        code, printed = project.run(*arguments)
        assert (code, project.states()) == (0, ["completed", "completed"]), printed
    finally:
        subprocess.run(["umount", str(project.outputs)], check=True)


def test_moved_sweep_is_found_and_goes_on(project: Project) -> None:
    """`mv outputs elsewhere`: status, logs, cancel, the same command, and one run each in MLflow."""
    arguments = project.sweep_arguments("architecture.behaviour=calm,raise", launcher="local", tracking=True)
    code, printed = project.run(*arguments)
    assert code == 1, printed
    assert str(project.folder) not in next(project.outputs.glob("sweeps/*/manifest.jsonl")).read_text()
    elsewhere = project.folder / "elsewhere" / "results"
    elsewhere.parent.mkdir()
    project.outputs.rename(elsewhere)
    code, printed = project.run("status", "--outputs", "elsewhere/results", "last")
    assert (code, "1 completed, 1 failed" in printed, f"log {elsewhere}" in printed) == (0, True, True), printed
    code, printed = project.run("logs", "--outputs", "elsewhere/results", "last")
    assert (code, "a bug in the third step" in printed) == (0, True), printed
    code, printed = project.run("cancel", "--outputs", "elsewhere/results", "last")
    assert (code, "0 jobs are being ended" in printed) == (0, True), printed
    (project.folder / "cured").touch()
    code, printed = project.run(*arguments, "outputs=elsewhere/results")
    assert (code, "left alone 1: 1 completed" in printed) == (0, True), printed
    assert not project.outputs.exists()
    project.outputs = elsewhere
    assert project.states() == ["completed", "completed"]
    assert statuses(elsewhere / "mlflow.db") == [("FINISHED", "completed")] * 2
    runs = [path.parent for path in elsewhere.glob("*/training.jsonl")]
    assert stored(elsewhere / "mlflow.db") == journalled(runs)


@pytest.mark.parametrize("launcher", ["local", "none"])
def test_sweep_of_which_a_run_is_trained_elsewhere_trains_the_others(project: Project, launcher: str) -> None:
    hold = project.hold()
    single = [word for word in project.sweep_arguments(launcher="none") if word != "-m"]
    elsewhere = project.start(*single, "seed=1", LONG)
    until(lambda: len(list(project.outputs.glob("*_seed1_*/training.jsonl"))) == 1, "the other training")
    sweep = project.start(*project.sweep_arguments("seed=1,2", LONG, launcher=launcher))
    until(lambda: len(list(project.outputs.glob("*_seed2_*/training.jsonl"))) == 1, "the sweep's training")
    elsewhere.send_signal(signal.SIGSTOP)  # it keeps the lock, and ends after the sweep
    hold.unlink()
    printed, _ = sweep.communicate(timeout=PATIENCE_S)
    elsewhere.send_signal(signal.SIGCONT)
    assert sweep.returncode == 4, printed
    assert "Traceback" not in printed
    assert ("1 completed, 1 running" if launcher == "local" else "1 completed, 1 busy") in printed
    assert elsewhere.wait(PATIENCE_S) == 0


@pytest.mark.parametrize("launcher", ["local", "none"])
def test_parts_of_a_sweep_are_checked_before_anything_is_trained(project: Project, launcher: str) -> None:
    """What only network and analysis together can tell; the rest: tests/test_command_line.py."""
    layers = "+analysis.layers={name: layers, _target_: ncexp.measure.analyses.LayerwiseCollapse, modules: [bodi]}"
    code, printed = project.sweep("seed=1,2", layers, launcher=launcher)
    assert (code, "bodi" in printed, "Traceback" in printed) == (2, True, False), printed
    assert not list(project.outputs.glob("*"))
