"""What SLURM does not say, says late, or says of somebody else's job; against a real one (launch/dev_cluster)."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from support import PATIENCE_S
from sweeps import LONG, Project, queue, until

from ncexp.record import RunDirectory

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("slurm")]
HELD = "+hydra.launcher.additional_parameters.hold=true"
LEAVE = "hydra.launcher.wait=false"
TIMED_OUT = "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation"


def replace_sbatch(project: Project, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Have `sbatch` mean this script, in which $SBATCH is the real one."""
    real = subprocess.run(["which", "sbatch"], capture_output=True, text=True, check=True).stdout.strip()
    programs = project.folder / "programs"
    programs.mkdir()
    (programs / "sbatch").write_text(f"#!/bin/sh\nSBATCH={real}\n{script}\n")
    (programs / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")


def trainings(entry: dict[str, Any]) -> int:
    return (Path(entry["directory"]) / "run.log").read_text().count("completed: ")


@pytest.mark.parametrize("seeds", ["1,2", "1"])  # an array, and a job that is none
def test_sbatch_that_submits_and_reports_a_time_out_has_submitted(
    project: Project, monkeypatch: pytest.MonkeyPatch, seeds: str
) -> None:
    replace_sbatch(project, monkeypatch, f'$SBATCH "$@" >/dev/null; echo "{TIMED_OUT}" >&2; exit 1')
    code, printed = project.sweep(f"seed={seeds}")
    count = len(seeds.split(","))
    assert code == 0, printed
    assert f"sbatch failed, but SLURM has the {count} jobs" in printed
    assert project.states() == ["completed"] * count
    assert [trainings(entry) for entry in project.manifest()] == [1] * count


def test_command_killed_while_it_submits_finds_its_jobs_again(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        replace_sbatch(project, patched, '$SBATCH "$@"; kill -9 $PPID')
        code, printed = project.sweep("seed=1,2", HELD, LEAVE)
    assert code == -9, printed
    assert [entry["job"] for entry in project.manifest()] == [None, None]
    first = set(queue(project.folder))
    assert len(first) == 2
    code, printed = project.sweep("seed=1,2", LEAVE)
    assert code == 0, printed
    assert "2 jobs of an earlier command were found in the queue" in printed
    assert "to submit 0: none; left alone 2: 2 queued" in printed
    assert set(queue(project.folder)) == first == {entry["job"] for entry in project.manifest()}
    subprocess.run(["scontrol", "release", *first], check=True)
    until(lambda: project.states() == ["completed"] * 2, "the runs")


def test_cancel_ends_jobs_that_no_command_has_confirmed(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        replace_sbatch(project, patched, '$SBATCH "$@"; kill -9 $PPID')
        assert project.sweep("seed=1,2", HELD, LEAVE)[0] == -9
    assert len(queue(project.folder)) == 2
    code, printed = project.run("cancel", "last")
    assert (code, "2 jobs are being ended" in printed, queue(project.folder)) == (0, True, []), printed


def test_sbatch_that_refuses_has_submitted_nothing(project: Project) -> None:
    code, printed = project.sweep("seed=1,2", "hydra.launcher.partition=nowhere")
    assert (code, "Traceback" in printed) == (1, False), printed
    assert "invalid partition specified: nowhere" in printed
    assert "0 jobs were submitted before and go on; the same command submits the rest" in printed
    assert not queue(project.folder)
    code, printed = project.sweep("seed=1,2")
    assert (code, project.states()) == (0, ["completed"] * 2), printed


def test_run_of_two_processes_ends_when_one_of_them_fails(project: Project) -> None:
    """The first waited half an hour for the other, as long as torch.distributed does."""
    project.hold()
    loopback = 'hydra.launcher.setup=["export GLOO_SOCKET_IFNAME=lo"]'
    two = ["hydra.launcher.tasks_per_node=2", loopback, "architecture.behaviour=rank"]
    code, printed = project.sweep(LONG, *two)
    assert code in (1, 5), printed  # as SLURM's signal finds it: in a step, or between two
    (log,) = project.outputs.glob("*/run.rank1.log")
    assert "a bug in the second process" in log.read_text()


def test_job_ended_at_its_memory_limit_says_so_and_goes_on_with_more(tmp_path: Path) -> None:
    """It was "lost: node failure, kill -9, ...", with a log in which nothing stood."""
    project = Project(tmp_path, cold=True)  # what a job forks from another process, SLURM does not count
    try:
        words = ["architecture.behaviour=hungry", "hydra.launcher.mem_gb=2"]
        code, printed = project.sweep(*words)
        assert code != 0, printed
        (entry,) = project.manifest()
        (said,) = {line for line in printed.splitlines() if line.startswith("000")}
        assert re.search(r"killed .* exceeded memory limit \(\d+ > 2147483648\).*: raise hydra.launcher.mem_gb", said)
        assert "raise hydra.launcher.mem_gb" in project.run("status", "last")[1]
        (tmp_path / "cured").touch()
        code, printed = project.sweep(*words)
        assert (code, project.states()) == (0, ["completed"]), printed
        assert trainings(entry) == 1
    finally:
        project.close()


def test_job_that_slurm_begins_again_when_its_run_is_through_does_nothing(project: Project) -> None:
    """As after a preemption in the moment between the run's end and the job's; it took 105 s to find nothing to do."""
    code, printed = project.sweep()
    assert code == 0, printed
    (entry,) = project.manifest()
    run = Path(entry["directory"])
    until(lambda: "completed: " in RunDirectory(run).log.read_text(), "the run's end")
    until(lambda: "MLflow" in RunDirectory(run).log.read_text() or not queue(project.folder), "the job's last lines")
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    subprocess.run(["scontrol", "requeue", entry["job"]], check=True)
    until(lambda: queue(project.folder) == [], "the job's second end")
    (sweep,) = (project.outputs / "sweeps").iterdir()
    (log,) = sweep.rglob("*_log.out")
    assert log.read_text().count("Job completed successfully") == 2
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_comment_of_the_users_own_is_kept(project: Project) -> None:
    code, printed = project.sweep(HELD, LEAVE, "+hydra.launcher.additional_parameters.comment=theirs")
    assert code == 0, printed
    (entry,) = project.manifest()
    (sweep,) = (project.outputs / "sweeps").iterdir()
    said = subprocess.run(["squeue", "-h", "-j", entry["job"], "-o", "%k"], capture_output=True, text=True, check=True)
    assert re.fullmatch(rf"theirs {sweep.name[-8:]}:[0-9a-f]{{12}}\n", said.stdout)
    assert "1 queued" in project.run("status", "last")[1]


def test_status_says_why_a_job_waits_whoever_asks(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    assert project.sweep("seed=1,2", HELD, LEAVE)[0] == 0
    monkeypatch.setenv("LOGNAME", "nobody")
    monkeypatch.setenv("USER", "nobody")
    code, printed = project.run("status", "last")
    assert (code, "2 queued: JobHeldUser" in printed, ": 2 queued\n" in printed) == (0, True, True), printed
    assert re.search(r"000 .* queued +JobHeldUser", project.run("status", "last", "--all")[1])


def test_cancel_leaves_a_job_alone_that_only_bears_the_number(project: Project) -> None:
    assert project.sweep("seed=1,2", HELD, LEAVE)[0] == 0
    _, theirs = project.manifest()
    # As after a restart, when SLURM counts from one again: the number of the second is that of somebody's job.
    wrap = ["sbatch", "--parsable", "--hold", "--output=/dev/null", "--wrap=sleep 60"]
    stranger = subprocess.run(wrap, capture_output=True, text=True, check=True, cwd=project.folder).stdout.strip()
    try:
        (sweep,) = (project.outputs / "sweeps").iterdir()
        subprocess.run(["scancel", theirs["job"]], check=True)
        manifest = sweep / "manifest.jsonl"
        manifest.write_text(manifest.read_text().replace(f'"{theirs["job"]}"', f'"{stranger}"'))
        run = RunDirectory(Path(theirs["directory"]))
        run.set_job(stranger, run.submission())
        assert "1 lost, 1 queued" in project.run("status", "last")[1]
        code, printed = project.run("cancel", "last")
        assert code == 0, printed
        assert f"{stranger}: left alone" in printed
        assert "1 jobs are being ended" in printed
        assert queue(project.folder) == [stranger]
    finally:
        subprocess.run(["scancel", stranger], check=True)


def test_run_that_its_time_limit_ends_again_and_again_says_so(project: Project) -> None:
    project.hold()
    # A limit of at most ten minutes: then submitit takes every warning for that of the limit.
    sweep = project.start(
        *project.sweep_arguments(LONG, "hydra.launcher.max_num_timeout=1", "hydra.launcher.timeout_min=10")
    )
    until(lambda: bool(list(project.outputs.glob("*/training.jsonl"))), "the training")
    (entry,) = project.manifest()
    log = Path(entry["directory"]) / "run.log"
    subprocess.run(["scancel", "--signal=USR2", entry["job"]], check=True)
    until(lambda: "resumed " in log.read_text(), "the requeue")
    subprocess.run(["scancel", "--signal=USR2", entry["job"]], check=True)
    printed, _ = sweep.communicate(timeout=PATIENCE_S)
    assert sweep.returncode == 130, printed
    said = "stopped by the time limit of 10 min, 2 times in this job: raise hydra.launcher.timeout_min"
    assert said in printed
    epoch = re.search(r"interrupted +epoch (\d+) +stopped in epoch (\d+) after step (\d+)", printed)
    assert epoch is not None, printed
    assert int(epoch[1]) >= 1
    assert said in project.run("status", "last")[1]
