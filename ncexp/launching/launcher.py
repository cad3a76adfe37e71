"""Hydra's launchers of ncexp: the same life of a sweep, on SLURM, on this machine several at once, or one by one."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig, OmegaConf

from ncexp.config import ConfigError, RunConfig, check_outputs
from ncexp.config.composing import Composer
from ncexp.launching import slurm
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
from ncexp.launching.pool import followed, shares, work
from ncexp.launching.states import Standing, look, own_job
from ncexp.launching.submission import Chunk, adopt_noted, cut, describe_estimate, refuse_options, submit
from ncexp.launching.sweep_directory import SweepDirectory, environment
from ncexp.launching.table import labels, print_end, print_table, wait
from ncexp.launching.task import attempt, returned
from ncexp.record import DamagedFile, State
from ncexp.record.console import process_console
from ncexp.tracking import follow, sync_runs  # now: days later, at the end of the wait, its source may be another


class CheckedLauncher(Launcher):
    """Composes and checks every task before any of them begins."""

    def __init__(self, **options: Any) -> None:
        self.options: dict[str, Any] = {
            name: OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
            for name, value in options.items()
        }
        self.console = process_console()

    @property
    def is_dry(self) -> bool:
        """Whether it only checks, and prints what it would do."""
        return bool(self.options.get("dry_run"))

    @property
    def waits(self) -> bool:
        """Whether it returns once the runs have ended."""
        return bool(self.options.get("wait", True))

    def setup(self, *, hydra_context: Any, task_function: Any, config: DictConfig) -> None:
        """What Hydra hands over before `launch`."""
        self._context, self._config, self._task = hydra_context, config, task_function
        self._task.composed = True

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Carry out one sweep for a sweeper that is not ours.

        Returns the objectives of each task, nan where it has none; nothing where nobody waits. The task function gets
        the states.
        """
        sweep, asked = self.prepare(job_overrides)
        if not (now := self.carry_out(sweep, asked, range(len(asked)))):
            return []
        self.conclude(sweep, asked, now)
        self._task.finished(now.states.values())
        return [
            JobReturn(overrides=one.overrides, status=JobStatus.COMPLETED, _return_value=returned(one.task, state))
            for one, state in zip(asked, now.states.values(), strict=True)
        ]

    @abstractmethod
    def announce(self, sweep: SweepDirectory, asked: Sequence[Asked]) -> None:
        """Say where the sweep is; raises ConfigError where it cannot be there."""

    @abstractmethod
    def carry_out(self, sweep: SweepDirectory, asked: Sequence[Asked], wanted: Collection[int]) -> Standing | None:
        """Work on the tasks of these numbers, or see that others do; None where it is not waited for.

        A failure stops nothing, Ctrl-C all: what has not begun stays new.
        """

    @abstractmethod
    def conclude(self, sweep: SweepDirectory, asked: Sequence[Asked], now: Standing) -> None:
        """Print what the whole sweep came to."""

    def prepare(self, job_overrides: Sequence[Sequence[str]]) -> tuple[SweepDirectory, list[Asked]]:
        """The sweep's folder, which may be there, and its tasks. Raises ConfigError for a task that is refused."""
        self._refuse_sweep(job_overrides)
        composer = Composer(self._context.config_loader, self._config)
        asked = check_all([(list(overrides), composer.compose(overrides)) for overrides in job_overrides])
        if note := note_on_optimizers(asked):
            self.say(note)
        sweep = SweepDirectory.of(self.name_of(asked), [one.task for one in asked])
        self.announce(sweep, asked)
        return sweep, asked

    def say(self, line: str) -> None:
        """Print it as it is."""
        self.console.print(line, soft_wrap=True, markup=False)

    def name_of(self, asked: Sequence[Asked]) -> str:
        """The chosen sweep's name, else what its tasks have in common: data, network and loss, or the analyses."""
        chosen = self._config.hydra.runtime.choices.get("sweep")
        if chosen not in (None, "null"):
            return str(chosen).replace("/", "-")
        trainings = [one.task for one in asked if isinstance(one.task, RunConfig)]
        if not trainings:
            return "-".join(["measure", *sorted({name for one in asked for name in one.task.analyses})])
        parts = zip(*((task.dataset, task.architecture, task.loss) for task in trainings), strict=True)
        words = [sorted({part.name for part in same}) for same in parts]
        return "-".join(names[0] if len(names) == 1 else f"{len(names)}_{names[0]}" for names in words)

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


class InTurnLauncher(CheckedLauncher):
    """A sweep for which no launcher was chosen: its tasks one after another, in this process, without a folder."""

    def announce(self, sweep: SweepDirectory, asked: Sequence[Asked]) -> None:
        pass

    def carry_out(self, sweep: SweepDirectory, asked: Sequence[Asked], wanted: Collection[int]) -> Standing:
        entries = [one.entry(num) for num, one in enumerate(asked)]
        names, states = labels(entries), dict.fromkeys(wanted, State.NEW)
        with follow(asked[0].task.raw, [Path(entries[num].run) for num in wanted], self.console):
            for place, num in enumerate(wanted, start=1):
                if len(asked) > 1:
                    self.say(f"\nrun {place} of {len(wanted)}  {names[num]}")
                try:
                    states[num] = attempt(asked[num].task.raw, self.console, draws=len(asked) == 1)
                except KeyboardInterrupt:
                    states[num] = State.INTERRUPTED
                if states[num] is State.INTERRUPTED:
                    break
        return Standing(states, {}, set())

    def conclude(self, sweep: SweepDirectory, asked: Sequence[Asked], now: Standing) -> None:
        entries = [one.entry(num) for num, one in enumerate(asked)]
        if several := len(asked) > 1:  # one alone has said what it came to
            self.say("")
            print_table(self.console, f"{len(asked)} runs", sweep, entries, now, every=True)
        outputs = asked[0].task.outputs
        trained = outputs if isinstance(asked[0].task, RunConfig) else None
        runs = [Path(entry.run) for entry in entries if several]
        print_end(self.console, now.states.values(), outputs, trained, runs)


class SweepLauncher(CheckedLauncher):
    """Plan, freeze, hand over, wait, print; what a subclass adds is who works on the tasks."""

    def announce(self, sweep: SweepDirectory, asked: Sequence[Asked]) -> None:
        check_outputs(asked[0].task.outputs)
        self.say(f"sweep     {sweep.path}")

    def carry_out(self, sweep: SweepDirectory, asked: Sequence[Asked], wanted: Collection[int]) -> Standing | None:
        asked = [one.remaining() for one in asked]
        if self.options["dry_run"]:
            self._print_plan(make_plan(sweep, asked, wanted, self.queue()))
            return None
        with sweep.locked():
            if (queue := self.queue()) is not None and (faults := adopt_noted(sweep, queue, self.say)):
                raise DamagedFile(faults[0])
            plan = make_plan(sweep, asked, wanted, queue)
            self._print_plan(plan)
            prepare_tracking([asked[num].task for num in plan.to_submit])
            freeze(sweep, asked, plan, self.console)
            self.hand_over(sweep, plan)
        return self.finish(sweep, plan)

    def conclude(self, sweep: SweepDirectory, asked: Sequence[Asked], now: Standing) -> None:
        stores = configured_stores([one.task for one in asked])
        entries, states = sweep.entries(), now.states.values()
        print_table(self.console, sweep.path.name, sweep, entries, now)
        if now.put_back:
            words = "jobs were put back into the queue when their runs were through; they end as soon as they start"
            self.say(f"{len(now.put_back)} {words}")
        trained = any(entry.directory == entry.run for entry in entries)
        runs = [] if self.stopped else [*dict.fromkeys(Path(entry.run) for entry in entries)]
        if runs:  # send MLflow what the runs' own processes could not
            there = [run for run in runs if (run / "config.yaml").exists()]
            counts = sync_runs(there, report=self.say, named=stores)
            text = ", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items()))
            self.say(f"MLflow    {text or 'no run has begun'}")
        print_end(self.console, states, sweep.path.parent.parent, sweep.path if trained and runs else None, runs)

    #: Whether a person stopped it, who waits for nothing more.
    stopped = False

    @abstractmethod
    def queue(self) -> slurm.Queue | None:
        """The jobs that are known to wait or run; None where nobody knows."""

    @abstractmethod
    def estimate(self, plan: Plan) -> str:
        """How the tasks are divided, and what is known of how long they will take."""

    @abstractmethod
    def hand_over(self, sweep: SweepDirectory, plan: Plan) -> None:
        """See that the plan's tasks are worked on."""

    @abstractmethod
    def finish(self, sweep: SweepDirectory, plan: Plan) -> Standing | None:
        """How the tasks stand at the end; None where it is not waited for."""

    def _print_plan(self, plan: Plan) -> None:
        self.say(plan.describe())
        self.say(self.estimate(plan))


class SlurmLauncher(SweepLauncher):
    """hydra/launcher=slurm."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        refuse_options(self.options)

    def queue(self) -> slurm.Queue:
        return slurm.jobs_in_queue()

    def estimate(self, plan: Plan) -> str:
        return describe_estimate(plan, self._chunks(plan), self.options["timeout_min"])

    def _chunks(self, plan: Plan) -> list[Chunk]:
        # Jobs of an earlier submission count as well, and one more at least may run.
        earlier = {entry.task.job() for entry in plan.entries if plan.states[entry.num].active}
        at_once = max(1, self.options["array_parallelism"] - len(earlier))
        return cut(plan.to_submit, self.options["runs_per_task"], slurm.max_array_size(), at_once)

    def hand_over(self, sweep: SweepDirectory, plan: Plan) -> None:
        if plan.to_submit:
            count = submit(sweep, self._chunks(plan), sweep.freeze_code(), self.options, self.say)
            self.say(f"submitted {count} jobs")
        self.say(f"status    ncexp status {sweep.path.name}\ncancel    ncexp cancel {sweep.path.name}")

    def finish(self, sweep: SweepDirectory, plan: Plan) -> Standing | None:
        if not self.options["wait"]:
            return None
        try:
            return wait(sweep, self.console, self.options["poll_s"], self.options["grace_s"])
        except KeyboardInterrupt:
            self.say("stopped waiting; the jobs go on")
            raise


class LocalLauncher(SweepLauncher):
    """hydra/launcher=local."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        if self.options["runs_at_once"] < 1:
            raise ValueError(f"hydra.launcher.runs_at_once: expected at least 1, got {self.options['runs_at_once']}.")

    def queue(self) -> slurm.Queue | None:
        return slurm.known_queue()  # a task may have a job in a cluster as well

    def estimate(self, plan: Plan) -> str:
        at_once = self.options["runs_at_once"]
        return f"{at_once} runs at once, {shares(at_once)[0]['OMP_NUM_THREADS']} CPUs each"

    def hand_over(self, sweep: SweepDirectory, plan: Plan) -> None:
        sweep.record_jobs(dict.fromkeys(plan.to_submit, own_job()))
        os.environ.update(environment(sweep.freeze_code()))

    def finish(self, sweep: SweepDirectory, plan: Plan) -> Standing:
        from ncexp.training import StopRequest  # torch takes seconds

        entries = [entry for entry in sweep.entries() if entry.num in plan.to_submit]
        with StopRequest() as stop, followed(sweep, entries, self.console):
            work(sweep, entries, self.options["runs_at_once"], stop, own_job(), self.console)
        self.stopped, now = stop(), look(sweep.entries())
        for num in plan.to_submit:
            if now.states[num] is State.QUEUED:  # this process lives, but works no more: it was stopped before this one
                now.states[num] = State.INTERRUPTED
        return now
