"""Hydra's launchers of ncexp: the same life of a sweep, on SLURM, on this machine several at once, or one by one."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig, OmegaConf

from ncexp.config import ConfigError, RunConfig, check_outputs
from ncexp.config.composing import Composer
from ncexp.launching import submission
from ncexp.launching.code_state import environment, freeze_code
from ncexp.launching.console import process_console
from ncexp.launching.estimate import describe_estimate
from ncexp.launching.in_turn import work_in_turn
from ncexp.launching.local_job import own_job
from ncexp.launching.next_commands import print_next, print_outcome_of, print_repeat
from ncexp.launching.noted_submission import adopt_noted
from ncexp.launching.plan import (
    Asked,
    Plan,
    check_all,
    configured_stores,
    freeze,
    make_plan,
    note_on_optimizers,
    prepare_tracking,
)
from ncexp.launching.pool import Share, followed, work
from ncexp.launching.slurm import Queue, SlurmUnavailable, jobs_in_queue, max_array_size
from ncexp.launching.sweep_directory import SweepDirectory
from ncexp.launching.sweep_progress import SweepProgress
from ncexp.launching.task import describe_tasks, run_of
from ncexp.launching.waiting import ask_queue, current_states, jobs_put_back, print_table, wait
from ncexp.record import DamagedFile, State
from ncexp.tracking import follow, sync_runs  # now: days later, at the end of the wait, its source may be another


class CheckedLauncher(Launcher):
    """Composes and checks every task before any of them begins."""

    def __init__(self, **options: Any) -> None:
        self.options: dict[str, Any] = {
            name: OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
            for name, value in options.items()
        }
        self.console = process_console()

    def setup(self, *, hydra_context: Any, task_function: Any, config: DictConfig) -> None:
        """What Hydra hands over before `launch`."""
        self._context, self._config = hydra_context, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Carry out one sweep; returns a result for each task, its return value the State; none where nobody waits."""
        self._refuse_sweep(job_overrides)
        composer = Composer(self._context.config_loader, self._config)
        asked = check_all([(list(overrides), composer.compose(overrides)) for overrides in job_overrides])
        if note := note_on_optimizers(asked):
            self.console.print(note, soft_wrap=True, markup=False)
        return [
            JobReturn(overrides=one.overrides, status=JobStatus.COMPLETED, _return_value=state)
            for one, state in zip(asked, self.carry_out(asked), strict=False)
        ]

    def _refuse_sweep(self, job_overrides: Sequence[Sequence[str]]) -> None:
        """Raises ConfigError for a sweep of no runs, and for one over sweeps, whose own lists nobody would read."""
        words: Any = OmegaConf.to_container(self._config.hydra.overrides.task, resolve=False)  # as they were typed
        asked = " ".join(words)
        if not job_overrides:
            raise ConfigError(
                f"{asked}: expected a sweep of one run at least, got none. A glob sees the choices of one folder; name "
                "those of others, as in experiment=quick/vgg,quick/resnet."
            )
        chosen = f"sweep={self._config.hydra.runtime.choices.get('sweep') or 'null'}"
        for word in {word for overrides in job_overrides for word in overrides if word.startswith("sweep=")}:
            if word != chosen:
                raise ConfigError(f"sweep: expected one sweep a command, got {asked}. Begin one after the other.")

    @abstractmethod
    def carry_out(self, asked: Sequence[Asked]) -> list[State]:
        """The states that all tasks ended in, or nothing."""


class InTurnLauncher(CheckedLauncher):
    """A sweep for which no launcher was chosen."""

    def carry_out(self, asked: Sequence[Asked]) -> list[State]:
        with follow(asked[0].task.raw, (run_of(one.task) for one in asked), self.console):
            states = work_in_turn(asked, self.console)
        if len(states) > 1:  # one alone has said what it came to
            print_outcome_of(self.console, (run_of(one.task) for one in asked), states)
        else:
            print_repeat(self.console, states)
        if State.COMPLETED in states and isinstance(asked[0].task, RunConfig):
            outputs = asked[0].task.outputs
            print_next(self.console, outputs, outputs)
        return states


class SweepLauncher(CheckedLauncher):
    """Plan, freeze, hand over, wait, print; what a subclass adds is who works on the tasks."""

    def carry_out(self, asked: Sequence[Asked]) -> list[State]:
        check_outputs(asked[0].task.outputs)
        sweep = SweepDirectory.of(self._name(asked), [one.task for one in asked])
        self._stores = configured_stores([one.task for one in asked])
        asked = [one.remaining() for one in asked]
        self.console.print(f"sweep     {sweep.path}", soft_wrap=True, markup=False)
        if self.options["dry_run"]:
            self._print_plan(make_plan(sweep, asked, self.queue()))
            return []
        with sweep.locked():
            if (queue := self.queue()) is not None and (faults := adopt_noted(sweep, queue, self.console.print)):
                raise DamagedFile(faults[0])
            plan = make_plan(sweep, asked, queue)
            self._print_plan(plan)
            prepare_tracking([asked[num].task for num in plan.to_submit])
            freeze(sweep, asked, plan, self.console)
            self.hand_over(sweep, plan)
        states = self.finish(sweep)
        return [states[num] for num in sorted(states)]

    @abstractmethod
    def queue(self) -> Queue | None:
        """The jobs that are known to wait or run; None where nobody knows."""

    @abstractmethod
    def estimate(self, plan: Plan) -> str:
        """How the tasks are divided, and what is known of how long they will take."""

    @abstractmethod
    def hand_over(self, sweep: SweepDirectory, plan: Plan) -> None:
        """See that the plan's tasks are worked on."""

    @abstractmethod
    def finish(self, sweep: SweepDirectory) -> dict[int, State]:
        """Wait, print how the tasks ended, return their states by number."""

    def _upload_rest(self, sweep: SweepDirectory) -> None:
        """Send MLflow what the runs' own processes could not."""
        runs = {Path(entry.run) for entry in sweep.entries()}
        there = sorted(run for run in runs if (run / "config.yaml").exists())
        counts = sync_runs(there, report=self._print, named=self._stores)
        text = ", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items()))
        self.console.print(f"MLflow    {text or 'no run has begun'}", soft_wrap=True, markup=False)

    def _print(self, line: str) -> None:
        self.console.print(line, soft_wrap=True)

    def _print_next(self, sweep: SweepDirectory, states: Mapping[int, State]) -> None:
        entries = sweep.entries()
        print_outcome_of(self.console, (Path(entry.run) for entry in entries), states.values())
        trained = any(entry.directory == entry.run for entry in entries)
        if trained and State.COMPLETED in states.values():
            print_next(self.console, sweep.path.parent.parent, sweep.path)

    def _print_plan(self, plan: Plan) -> None:
        self.console.print(plan.describe(), soft_wrap=True)
        self.console.print(self.estimate(plan), soft_wrap=True)

    def _name(self, asked: Sequence[Asked]) -> str:
        """The chosen sweep's name, else what its tasks have in common."""
        chosen = self._config.hydra.runtime.choices.get("sweep")
        if chosen not in (None, "null"):
            return str(chosen).replace("/", "-")
        return describe_tasks([one.task for one in asked])


class SlurmLauncher(SweepLauncher):
    """hydra/launcher=slurm."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        submission.refuse_options(self.options)

    def queue(self) -> Queue:
        return jobs_in_queue()

    def estimate(self, plan: Plan) -> str:
        return describe_estimate(plan, self._chunks(plan), self.options)

    def _chunks(self, plan: Plan) -> list[submission.Chunk]:
        # Jobs of an earlier submission count as well, and one more at least may run.
        earlier = {entry.task.job() for entry in plan.entries if plan.states[entry.num].active}
        at_once = max(1, self.options["array_parallelism"] - len(earlier))
        return submission.cut(plan.to_submit, self.options["runs_per_task"], max_array_size(), at_once)

    def hand_over(self, sweep: SweepDirectory, plan: Plan) -> None:
        if plan.to_submit:
            jobs = submission.submit(sweep, self._chunks(plan), freeze_code(sweep), self.options, self.console.print)
            self.console.print(f"submitted {len(jobs)} jobs", soft_wrap=True)
        word = sweep.path.name
        self.console.print(f"status    ncexp status {word}\ncancel    ncexp cancel {word}", soft_wrap=True)

    def finish(self, sweep: SweepDirectory) -> dict[int, State]:
        if not self.options["wait"]:
            return {}
        try:
            states = wait(sweep, self.console, self.options["poll_s"], self.options["grace_s"])
        except KeyboardInterrupt:
            self.console.print("stopped waiting; the jobs go on")
            raise
        print_table(self.console, sweep, states, queue={})  # nothing is queued any more
        if left := jobs_put_back(entries := sweep.entries(), states, ask_queue(entries)):
            words = "jobs were put back into the queue when their runs were through; they end as soon as they start"
            self.console.print(f"{len(left)} {words}", soft_wrap=True)
        self._upload_rest(sweep)  # jobs do not write a store that is a file on a shared disk
        self._print_next(sweep, states)
        return states


class LocalLauncher(SweepLauncher):
    """hydra/launcher=local."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        if self.options["runs_at_once"] < 1:
            raise ValueError(f"hydra.launcher.runs_at_once: expected at least 1, got {self.options['runs_at_once']}.")

    def queue(self) -> Queue | None:
        try:
            return jobs_in_queue()  # a task may have a job in a cluster as well
        except SlurmUnavailable:
            return None

    def estimate(self, plan: Plan) -> str:
        at_once = self.options["runs_at_once"]
        return f"{at_once} runs at once, {Share.of_machine(at_once).cpus} CPUs each"

    def hand_over(self, sweep: SweepDirectory, plan: Plan) -> None:
        job = own_job()
        sweep.record_jobs(dict.fromkeys(plan.to_submit, job))
        self._job, self._plan, self._code = job, plan, freeze_code(sweep)

    def finish(self, sweep: SweepDirectory) -> dict[int, State]:
        from ncexp.training import StopRequest  # torch takes seconds

        wanted = set(self._plan.to_submit)
        entries = [entry for entry in sweep.entries() if entry.num in wanted]
        os.environ.update(environment(self._code))
        watcher = SweepProgress(self.console, entries)
        with StopRequest() as stop, followed(sweep, entries, self.console):
            work(sweep, entries, self.options["runs_at_once"], stop, self._job, watcher=watcher)
        everything = sweep.entries()
        queue = ask_queue(everything)
        states = current_states(everything, queue)
        for num in wanted:
            if states[num] is State.QUEUED:  # this process lives, but works no more: it was stopped before this one
                states[num] = State.INTERRUPTED
        print_table(self.console, sweep, states, queue)
        if stop():
            print_repeat(self.console, states.values())
        else:
            self._upload_rest(sweep)  # of a process whose uploader was killed
            self._print_next(sweep, states)
        return states
