"""The twelve known sorrows of sweeps on SLURM, each against a real one (launch/dev_cluster)."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from support import PATIENCE_S, assert_same_record, journals
from sweeps import LONG, Project, job_facts, queue, until

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("slurm")]
#: The dev cluster's limit is small on purpose; on a large one there would be a thousand runs to make a chunk.
BEHAVIOURS = ["calm", "raise", "killed", "diverge"]


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory, slurm: None) -> tuple[Project, int, str]:
    """A sweep of which one run is sound, one raises, one is killed -9, one diverges; two at once, two CPUs each."""
    project = Project(tmp_path_factory.mktemp("mixed"), cold=True)
    code, printed = project.sweep(
        f"architecture.behaviour={','.join(BEHAVIOURS)}",
        "hydra.launcher.array_parallelism=2",
        "hydra.launcher.cpus_per_task=2",
    )
    return project, code, printed


def _run_log(entry: dict[str, Any]) -> str:
    return (Path(entry["directory"]) / "run.log").read_text()


def test_slurm_01_exception_is_in_the_runs_log_and_in_slurms_state(mixed: tuple[Project, int, str]) -> None:
    project, code, printed = mixed
    entry = project.manifest()[BEHAVIOURS.index("raise")]
    assert code != 0, printed
    assert project.states() == ["completed", "failed", "failed", "diverged"], printed
    assert "RuntimeError: a bug in the third step" in _run_log(entry)
    assert _run_log(entry).count("Traceback") == 1
    assert project.status(entry)["message"] == "RuntimeError: a bug in the third step"
    until(lambda: job_facts(entry["job"])["JobState"] == "FAILED", "SLURM to record it")
    assert "1 completed, 1 diverged, 2 failed" in printed
    assert f"log {entry['directory']}/run.log" in printed


def test_slurm_02_killed_run_does_not_hide_the_others(mixed: tuple[Project, int, str]) -> None:
    project, _, printed = mixed
    killed = project.manifest()[BEHAVIOURS.index("killed")]
    assert "killed by SIGKILL" in project.status(killed)["message"]
    assert project.states()[BEHAVIOURS.index("calm")] == "completed"
    assert re.search(r"002 .* failed .* killed by SIGKILL", printed)


def test_slurm_09_arrays_are_cut_and_parallelism_holds_over_all(mixed: tuple[Project, int, str]) -> None:
    project, _, _ = mixed
    jobs = [entry["job"] for entry in project.manifest()]
    assert len({job.partition("_")[0] for job in jobs}) == 2, "MaxArraySize of the test cluster must be below 4"
    facts = [job_facts(job) for job in jobs]
    spans = [tuple(datetime.fromisoformat(fact[edge]) for edge in ("StartTime", "EndTime")) for fact in facts]
    assert max(sum(begin <= moment < end for begin, end in spans) for moment, _ in spans) <= 2


def test_slurm_10_cpus_per_task_reach_the_step_and_are_logged(mixed: tuple[Project, int, str]) -> None:
    project, _, _ = mixed
    assert "2 asked per task, 2 threads; 0 GPUs" in _run_log(project.manifest()[0])


def test_slurm_12_names_can_be_read(mixed: tuple[Project, int, str]) -> None:
    project, _, _ = mixed
    (folder,) = (project.outputs / "sweeps").iterdir()
    assert folder.name.startswith("gaussian_mixture-paced-mse_")
    for entry in project.manifest():
        name = f"{entry['num']:03d}_gaussian_mixture-paced-mse_lr0.02_seed0_{entry['key']}"
        assert (folder / "runs" / name).resolve() == Path(entry["directory"])
        assert job_facts(entry["job"])["JobName"] == name


def test_slurm_07_same_command_does_only_what_is_missing(mixed: tuple[Project, int, str]) -> None:
    project, _, _ = mixed
    behaviours = f"architecture.behaviour={','.join(BEHAVIOURS)}"
    before = {entry["key"]: project.status(entry)["updated"] for entry in project.manifest()}
    _, printed = project.sweep(behaviours, "hydra.launcher.dry_run=true", "rerun=none")
    assert "to submit 0" in printed
    _, printed = project.sweep(behaviours, "hydra.launcher.dry_run=true", "rerun=all")
    assert "to submit 4: 1 completed, 1 diverged, 2 failed" in printed
    (project.folder / "cured").touch()
    code, printed = project.sweep(behaviours)
    assert "to submit 2: 2 failed; left alone 2: 1 completed, 1 diverged" in printed
    assert project.states() == ["completed", "completed", "completed", "diverged"]
    assert code == 3, printed
    for index in (0, 3):
        entry = project.manifest()[index]
        assert project.status(entry)["updated"] == before[entry["key"]]


def test_slurm_03_job_without_a_result_is_lost_and_not_waited_for(project: Project) -> None:
    project.hold()
    sweep = project.start(*project.sweep_arguments("seed=1,2", LONG, "hydra.launcher.array_parallelism=1"))
    until(lambda: len(list(project.outputs.glob("sweeps/*/manifest.jsonl"))) == 1, "the submission")
    until(lambda: all(entry["job"] for entry in project.manifest()), "the jobs")
    first, second = project.manifest()
    subprocess.run(["scancel", second["job"]], check=True)  # while it waits: it leaves no status
    project.wait_for(first)
    parent = Path(f"/proc/{project.status(first)['pid']}/stat").read_text().rpartition(")")[2].split()[1]
    os.kill(int(parent), signal.SIGKILL)  # the process that would have written down how the run ended
    code, printed = project.end(sweep, hold=True)
    assert code == 5, printed
    assert "1 killed, 1 lost" in printed
    assert printed.count("its process ended without a word") == printed.count("left without a result") == 1
    # And the next command goes on with both.
    (project.folder / "hold").unlink()
    project.succeed("seed=1,2", LONG)
    assert project.states() == ["completed", "completed"]
    assert "resumed " in _run_log(first)


def test_slurm_04_left_sweep_is_inspected_and_cancelled_from_elsewhere(project: Project) -> None:
    project.hold()
    printed = project.succeed("seed=1,2", LONG, "hydra.launcher.wait=false")
    (word,) = re.findall(r"ncexp status (\S+)", printed)
    assert f"ncexp cancel {word}" in printed
    project.wait_for(project.manifest()[0])
    project.wait_for(project.manifest()[1])
    assert "2 running" in project.run("status", word)[1]
    _, printed = project.sweep("seed=1,2", LONG, "hydra.launcher.wait=false")  # running ones are left alone
    assert "to submit 0: none; left alone 2: 2 running" in printed
    assert "epoch 1/200" in project.run("logs", "last", "1")[1]
    assert project.run("cancel", word)[0] == 0
    until(lambda: project.states() == ["interrupted"] * 2, "the runs to save themselves")
    until(lambda: not set(queue()) & {entry["job"] for entry in project.manifest()}, "the jobs to end")
    assert "2 interrupted" in project.run("status", word)[1]
    assert project.run("status", "nonsense")[0] == 2


def _undisturbed(project: Project, tmp_path: Path, epochs: str) -> Path:
    arguments = [argument for argument in project.sweep_arguments() if "launcher" not in argument and argument != "-m"]
    code, printed = project.run(*arguments, f"outputs={tmp_path / 'undisturbed'}", epochs)
    assert code == 0, printed
    (journal,) = (tmp_path / "undisturbed").glob("*/training.jsonl")
    return journal.parent


def test_slurm_05_time_limit_requeue_and_node_failure_leave_no_trace(project: Project, tmp_path: Path) -> None:
    limits = ["hydra.launcher.timeout_min=60", "hydra.launcher.signal_delay_s=45"]
    sweep = project.begin(LONG, *limits, tracking=True)
    (entry,) = project.manifest()

    def limit(minutes: int) -> None:
        subprocess.run(["scontrol", "update", f"JobId={entry['job']}", f"TimeLimit={minutes}"], check=True)

    def requeued(times: int) -> None:
        until(lambda: int(job_facts(entry["job"])["Restarts"]) >= times, f"requeue {times}")
        limit(60)  # one warning is enough
        until(lambda: _run_log(entry).count("resumed ") >= times, f"resumption {times}")

    # SLURM warns forty-five seconds before the limit. With a limit of a minute from the start, a slow machine would be
    # warned before it has trained anything, again and again.
    limit(1)
    requeued(1)
    assert "interrupted: stopped in epoch" in _run_log(entry)
    subprocess.run(["scontrol", "requeue", entry["job"]], check=True)
    requeued(2)
    _fail_node(project.status(entry)["pid"])
    requeued(3)
    code, printed = project.end(sweep)
    assert code == 0, printed
    assert journals(Path(entry["directory"])) == journals(_undisturbed(project, tmp_path, LONG))
    memory = json.loads(Path(entry["directory"], "mlflow.json").read_text())
    assert len(memory) == 1
    assert len([*project.outputs.glob("*/training.jsonl")]) == 1


def _fail_node(pid: int) -> None:
    """The training and what started it vanish without a word, and SLURM finds the node dead."""
    parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    node = subprocess.run(["sinfo", "-h", "-o", "%n"], capture_output=True, text=True, check=True).stdout.strip()
    subprocess.run(["scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=test"], check=True)
    for victim in (pid, parent):
        with contextlib.suppress(ProcessLookupError):  # SLURM may have been faster
            os.kill(victim, signal.SIGKILL)
    # Refused where SLURM has taken the node back by itself, as it does once the node has responded.
    subprocess.run(["scontrol", "update", f"NodeName={node}", "State=RESUME"], capture_output=True, check=False)
    state = ["sinfo", "-h", "-o", "%t"]
    until(lambda: "down" not in subprocess.run(state, capture_output=True, text=True, check=True).stdout, "the node")


def test_slurm_06_what_is_edited_while_jobs_wait_changes_nothing(project: Project) -> None:
    held = "+hydra.launcher.additional_parameters.hold=true"
    project.succeed("seed=1", held, "hydra.launcher.wait=false")
    (entry,) = project.manifest()
    project.choice.write_text(project.choice.read_text().replace("width: 8", "width: 12"))
    subprocess.run(["scontrol", "release", entry["job"]], check=True)
    until(lambda: project.status(entry).get("state") == "completed", "the run")
    assert json.loads(Path(entry["directory"], "facts.json").read_text())["num_features"] == 8
    (folder,) = (project.outputs / "sweeps").iterdir()
    (code_folder,) = (folder / "code").iterdir()
    assert f"code      {code_folder}/ncexp" in _run_log(entry)
    commit = next(code_folder.glob("*.commit")).read_text()
    assert re.match(r"[0-9a-f]{40} ", commit)
    assert next(code_folder.glob("*.diff")).exists()


def test_slurm_08_nothing_is_submitted_unless_everything_can_run(project: Project) -> None:
    code, printed = project.sweep("seed=1,2", "optimizer.lr=0.1,-1")
    assert (code, "optimizer.lr: expected a value greater than 0" in printed) == (2, True), printed
    code, printed = project.sweep("batch_size=16,81")
    assert (code, "batch_size: expected at most the 80 training examples, got 81" in printed) == (2, True), printed
    unprepared = ["dataset=mnist", f"dataset.root={project.folder}/nothing", "architecture=vgg11"]
    small = [argument for argument in project.sweep_arguments() if not argument.startswith(("dataset", "arch"))]
    code, printed = project.run(*small, *unprepared)
    assert code == 2, printed
    assert "ncexp prepare" in printed
    printed = project.succeed("seed=1,2,3,4", "hydra.launcher.dry_run=true", "hydra.launcher.array_parallelism=2")
    assert "4 jobs of at most 1 runs, in 2 arrays of at most 2, 2 at once" in printed
    assert "at most 8.0 h" in printed
    assert not queue(project.folder)  # other tests' jobs may still be ending
    assert not list(project.outputs.glob("sweeps/*"))


def test_slurm_11_runs_share_a_job_and_one_failing_leaves_the_others_alone(project: Project) -> None:
    code, printed = project.sweep("architecture.behaviour=calm,raise,diverge", "hydra.launcher.runs_per_task=3")
    assert code == 3, printed
    assert project.states() == ["completed", "failed", "diverged"]
    entries = project.manifest()
    assert len({entry["job"] for entry in entries}) == 1
    assert ["a bug in the third step" in _run_log(entry) for entry in entries] == [False, True, False]
    until(lambda: job_facts(entries[0]["job"])["JobState"] == "FAILED", "SLURM to record it")


def test_slurm_12_two_sweeps_in_the_same_second_do_not_collide(project: Project) -> None:
    arguments = project.sweep_arguments("seed=1,2")
    twins = [project.start(*arguments), project.start(*arguments)]
    printed = [twin.communicate(timeout=PATIENCE_S)[0] for twin in twins]
    assert [twin.returncode for twin in twins] == [0, 0], printed
    assert project.states() == ["completed", "completed"]
    assert sum("submitted 2 jobs" in one for one in printed) == 1, printed
    assert all(_run_log(entry).count("completed: ") == 1 for entry in project.manifest())


def test_slurm_two_tasks_are_one_run_with_the_record_of_a_single_process(project: Project, tmp_path: Path) -> None:
    loopback = 'hydra.launcher.setup=["export GLOO_SOCKET_IFNAME=lo"]'
    sweep = project.begin("epochs=40", "hydra.launcher.tasks_per_node=2", loopback)
    (entry,) = project.manifest()
    subprocess.run(["scancel", "--signal=USR2", entry["job"]], check=True)  # both save, one is requeued, both go on
    until(lambda: "resumed " in _run_log(entry), "the requeue")
    code, printed = project.end(sweep)
    assert code == 0, printed
    alone, spread = _undisturbed(project, tmp_path, "epochs=40"), Path(entry["directory"])
    for name in journals(alone):
        assert_same_record(alone / name, spread / name)
    assert json.loads(Path(entry["directory"], "environment.json").read_text())["processes"] == 2
    assert len(list(project.outputs.glob("*/training.jsonl"))) == 1
