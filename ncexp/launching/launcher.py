"""Hydra's launchers of ncexp: the same life of a sweep, on SLURM or on this machine."""

from __future__ import annotations

import os
import socket
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from ncexp.interruption import StopRequest
from ncexp.launching import submission
from ncexp.launching.code_state import environment, freeze_code
from ncexp.launching.composition import Composer
from ncexp.launching.estimate import tell_estimate
from ncexp.launching.plan import Asked, Plan, check_all, freeze, make_plan, prepare_tracking
from ncexp.launching.pool import Share, work
from ncexp.launching.slurm import SlurmUnavailable, jobs_in_queue, max_array_size, outside_of_any_job
from ncexp.launching.states import ACTIVE
from ncexp.launching.sweep_directory import SweepDirectory
from ncexp.launching.waiting import look, print_table, wait
from ncexp.tracking import sync  # now: days later, at the end of the wait, its source may be another

#: How the runs of the last sweep of this process stand: Hydra hands no results to the caller of its main.
last_states: dict[int, str] = {}


class SweepLauncher(Launcher):
    """Check all, plan, freeze, hand over, wait, tell; what a subclass adds is who trains the runs."""

    def __init__(self, **options: Any) -> None:
        self.options: dict[str, Any] = {
            name: OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
            for name, value in options.items()
        }
        self.console = Console(highlight=False)

    def setup(self, *, hydra_context: Any, task_function: Any, config: DictConfig) -> None:
        """What Hydra hands over before `launch`."""
        self._context, self._config = hydra_context, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Carry out one sweep; every run's last state is in `last_states`."""
        composer = Composer(self._context.config_loader, self._config)
        asked = check_all([(list(overrides), composer.compose(overrides)) for overrides in job_overrides])
        sweep = SweepDirectory.of(self._name(asked), [one.config for one in asked])
        self.console.print(f"sweep     {sweep.path}", soft_wrap=True)
        if self.options["dry_run"]:
            self._tell(make_plan(sweep, asked, self.queue()))
        else:
            with sweep.locked():
                plan = make_plan(sweep, asked, self.queue())
                self._tell(plan)
                prepare_tracking([asked[num] for num in plan.to_submit])
                freeze(sweep, asked, plan)
                self.hand_over(sweep, plan)
            last_states.update(self.finish(sweep))
        return [JobReturn(overrides=list(overrides), status=JobStatus.COMPLETED) for overrides in job_overrides]

    @abstractmethod
    def queue(self) -> dict[str, str] | None:
        """The jobs that are known to wait or run; None where nobody knows."""

    @abstractmethod
    def estimate(self, plan: Plan) -> str:
        """How the runs are divided, and what is known of how long they will take."""

    @abstractmethod
    def hand_over(self, sweep: SweepDirectory, plan: Plan) -> None:
        """See that the plan's runs are trained."""

    @abstractmethod
    def finish(self, sweep: SweepDirectory) -> dict[int, str]:
        """Wait, tell how the runs ended, answer their states."""

    def _tell(self, plan: Plan) -> None:
        self.console.print(plan.tell(), soft_wrap=True)
        self.console.print(self.estimate(plan), soft_wrap=True)

    def _name(self, asked: Sequence[Asked]) -> str:
        """The chosen sweep's name, else what its runs have in common."""
        chosen = self._config.hydra.runtime.choices.get("sweep")
        if chosen not in (None, "null"):
            return str(chosen).replace("/", "-")
        words = [
            sorted({component(one).name for one in asked})
            for component in (lambda one: one.config.dataset, lambda one: one.config.architecture,
                              lambda one: one.config.loss)
        ]  # fmt: skip
        return "-".join(names[0] if len(names) == 1 else f"{len(names)}_{names[0]}" for names in words)


class SlurmLauncher(SweepLauncher):
    """hydra/launcher=slurm."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        submission.refuse_options(self.options)

    def queue(self) -> dict[str, str]:
        return jobs_in_queue()

    def estimate(self, plan: Plan) -> str:
        return tell_estimate(plan, self._chunks(plan), self.options)

    def _chunks(self, plan: Plan) -> list[submission.Chunk]:
        # Jobs of an earlier submission count as well, and one more at least may run.
        earlier = {entry.run.job() for entry in plan.entries if plan.states[entry.num] in ACTIVE}
        at_once = max(1, self.options["array_parallelism"] - len(earlier))
        return submission.cut(plan.to_submit, self.options["runs_per_task"], max_array_size(), at_once)

    def hand_over(self, sweep: SweepDirectory, plan: Plan) -> None:
        if plan.to_submit:
            jobs = submission.submit(sweep, self._chunks(plan), freeze_code(sweep), self.options)
            self.console.print(f"submitted {len(jobs)} jobs", soft_wrap=True)
        word = sweep.path.name
        self.console.print(f"look      ncexp status {word}\ncancel    ncexp cancel {word}", soft_wrap=True)

    def finish(self, sweep: SweepDirectory) -> dict[int, str]:
        if not self.options["wait"]:
            return {}
        try:
            states = wait(sweep, self.console, self.options["poll_s"], self.options["grace_s"])
        except KeyboardInterrupt:
            self.console.print("stopped waiting; the jobs go on")
            raise
        print_table(self.console, sweep, states)
        self._send_to_mlflow(sweep)
        return states

    def _send_to_mlflow(self, sweep: SweepDirectory) -> None:
        """What jobs may not do themselves with a store that is a file on a shared disk."""
        if directories := [entry.directory for entry in sweep.entries() if entry.run.journal.path.exists()]:
            self.console.print("MLflow    ", end="")
            sync.main(directories)


class LocalLauncher(SweepLauncher):
    """hydra/launcher=local."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        if self.options["runs_at_once"] < 1:
            raise ValueError(f"hydra.launcher.runs_at_once: expected at least 1, got {self.options['runs_at_once']}.")

    def queue(self) -> dict[str, str] | None:
        try:
            return jobs_in_queue()  # a run may have a job in a cluster as well
        except SlurmUnavailable:
            return None

    def estimate(self, plan: Plan) -> str:
        at_once = self.options["runs_at_once"]
        return f"{at_once} runs at once, {Share.of_machine(at_once).cpus} CPUs each"

    def hand_over(self, sweep: SweepDirectory, plan: Plan) -> None:
        job = f"local:{socket.gethostname()}:{os.getpid()}"
        sweep.record_jobs(dict.fromkeys(plan.to_submit, job))
        self._job, self._plan, self._code = job, plan, freeze_code(sweep)

    def finish(self, sweep: SweepDirectory) -> dict[int, str]:
        wanted = set(self._plan.to_submit)
        entries = [entry for entry in sweep.entries() if entry.num in wanted]
        os.environ.update(environment(self._code))
        with outside_of_any_job(), StopRequest() as stop:
            work(sweep, entries, self.options["runs_at_once"], stop, self._job)
        # This process lives, but trains no more: what has not begun by now was stopped before.
        states = {num: "interrupted" if state == "queued" else state for num, state in look(sweep.entries()).items()}
        print_table(self.console, sweep, states)
        return states
