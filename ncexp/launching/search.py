"""hydra/sweeper=optuna: trials are asked of Optuna's study, carried out by one of our launchers, and told to it.

A trial that is asked for is in the journal before its run begins, and one that was not told yet is carried out first.
So the same command goes on where it was killed. Each trial is drawn with a seed of its own, by its number, and batches
end at multiples of n_jobs: what is suggested depends on the trials before, not on how often the command began. (A
sampler that begins again with the seed of the search suggests its first trials again.)
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import optuna
from filelock import FileLock, Timeout
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState
from pydantic import Field

from ncexp.config import ConfigError, Count, RunConfig, Seed, check
from ncexp.config.components import read_part
from ncexp.config.composing import Composer
from ncexp.config.names import Name
from ncexp.launching.launcher import CheckedLauncher
from ncexp.launching.plan import Asked, check_all, merged, note_on_optimizers
from ncexp.launching.states import Standing, look
from ncexp.launching.sweep_directory import SweepDirectory
from ncexp.launching.table import TYPED
from ncexp.launching.task import check_task
from ncexp.record import Busy, RunDirectory, State, acquire, read_run
from ncexp.record.objective import STUDY, check_directions, check_objectives, values_of
from ncexp.record.study import open_storage, report_values, trial_of

Space = dict[str, BaseDistribution]
Sampler = Callable[[int], optuna.samplers.BaseSampler]
#: The states of runs of which Optuna is told that they failed.
FAILED = (State.FAILED, State.DIVERGED, State.REFUSED)
#: Keys that say what is searched for, not where.
GOALS = ("objective", "direction")


@dataclass(frozen=True, kw_only=True)
class Options:
    """What hydra/sweeper=optuna takes; conf/hydra/sweeper/optuna.yaml says what each means."""

    n_trials: Count
    n_jobs: Count
    sampler: Literal["tpe", "random", "grid", "cmaes"]
    seed: Seed
    pruner: Literal["median", "successive_halving"] | None
    direction: Any
    study_name: Name | None
    max_failure_rate: Annotated[float, Field(ge=0, le=1)]


def distribution(override: Override) -> BaseDistribution:
    """What a word with several values searches. Raises ConfigError for one that has no such meaning."""
    key, value = override.get_key_element(), override.value()
    if key in GOALS:
        words = override.get_value_string()
        raise ConfigError(f"{key}: expected one value, got {words}. Of several objectives it is {key}=[{words}].")
    tags: set[str] = getattr(value, "tags", set())
    if tags - {"log"} or (tags and not isinstance(value, IntervalSweep)):
        raise ConfigError(f"{key}: expected tag(log,interval(...)), got {override.get_value_string()}. Write it so.")
    try:
        if isinstance(value, IntervalSweep):
            of: Any = IntDistribution if isinstance(value.start, int) else FloatDistribution
            return of(value.start, value.end, log=bool(tags))
        if isinstance(value, RangeSweep) and not value.shuffle:
            values = [*value.range()]
            of = IntDistribution if isinstance(values[0], int) else FloatDistribution
            return of(values[0], values[-1], step=value.step)
        return CategoricalDistribution([*override.sweep_string_iterator()])
    except (ValueError, IndexError) as error:  # an empty range has no first value
        words = override.get_value_string()
        raise ConfigError(f"{key}: expected bounds that can be searched, got {words} ({error}) Correct it.") from error


def grid_of(space: Space) -> dict[str, list[Any]]:
    """Every value of every key. Raises ConfigError for a key that has values without number."""
    grid: dict[str, list[Any]] = {}
    for key, one in space.items():
        if isinstance(one, CategoricalDistribution):
            grid[key] = [*one.choices]
        elif isinstance(one, IntDistribution) and not one.log:
            grid[key] = [*range(one.low, one.high + 1, one.step)]
        elif isinstance(one, FloatDistribution) and one.step:
            grid[key] = [one.low + place * one.step for place in range(round((one.high - one.low) / one.step) + 1)]
        else:
            raise ConfigError(
                f"{key}: expected values for sampler=grid, got an interval. Write {key}=1,2 or range(...)."
            )
    return grid


def sampler_of(name: str, seed: int, space: Space, directions: Sequence[str]) -> Sampler:
    """Number of a trial → what suggests it. Raises ConfigError for one that is not there, or not for this."""
    if name == "grid":
        grid = grid_of(space)
        return lambda number: optuna.samplers.GridSampler(grid, seed=seed)
    if name == "cmaes":
        _refuse_cmaes(space, directions)
        return lambda number: optuna.samplers.CmaEsSampler(seed=seed_of(seed, number), warn_independent_sampling=False)
    kind = optuna.samplers.RandomSampler if name == "random" else optuna.samplers.TPESampler
    return lambda number: kind(seed=seed_of(seed, number))


def seed_of(seed: int, number: int) -> int:
    """The seed with which trial `number` of a search of this seed is drawn: other seeds share no trials."""
    return int(hashlib.sha256(f"{seed}/{number}".encode()).hexdigest()[:8], 16)


def _refuse_cmaes(space: Space, directions: Sequence[str]) -> None:
    fault = ""
    try:
        import cmaes  # noqa: F401
    except ImportError:
        fault = "its package, got none. pip install cmaes"
    if all(isinstance(one, CategoricalDistribution) for one in space.values()):
        fault = "an interval or range, got lists of values alone. Choose tpe"
    elif len(directions) > 1:
        fault = f"one objective, got {len(directions)}. Choose tpe"
    if fault:
        raise ConfigError(f"hydra.sweeper.sampler=cmaes: expected {fault}.")


class Search:
    """One command; `options` are those of conf/hydra/sweeper/optuna.yaml, `overrides` the words that are no options."""

    def __init__(
        self, launcher: CheckedLauncher, composer: Composer, overrides: Sequence[Override], options: Mapping[str, Any]
    ) -> None:
        self._launcher, self._composer = launcher, composer
        self._options = chosen = read_part("hydra.sweeper", Options, options)
        last = {one.get_key_element(): one for one in overrides}
        self._space = {key: distribution(one) for key, one in last.items() if one.is_sweep_override()}
        self._fixed = [f"{key}={one.get_value_element_as_str()}" for key, one in last.items() if key not in self._space]
        if not self._space:
            raise ConfigError("hydra/sweeper=optuna: expected a key to search, got none. As in loss=mse,cross_entropy.")
        if not launcher.waits:
            raise ConfigError("hydra.launcher.wait: expected true, as a search needs the results, got false. Leave it.")
        self._corners = check_all([(words, composer.compose(words)) for words in self._words_of_corners()])
        first = self._corners[0].task
        if not isinstance(first, RunConfig):
            raise ConfigError("hydra/sweeper=optuna: expected a training, got a measuring. Leave it out.")
        self._objectives = check_objectives(first.objective)
        if not self._objectives:
            raise ConfigError("objective: expected what the search looks for, got none. As in objective=test/error.")
        self._directions = check_directions(self._objectives, self._direction(first))
        if chosen.pruner and len(self._objectives) > 1:
            words = f"expected one objective, got {len(self._objectives)}"
            raise ConfigError(f"hydra.sweeper.pruner: {words}. Leave the pruner out.")
        self._sampler = sampler_of(chosen.sampler, chosen.seed, self._space, self._directions)
        self._wanted = chosen.n_trials
        if chosen.sampler == "grid":
            self._wanted = min(self._wanted, math.prod(map(len, grid_of(self._space).values())))
        name = chosen.study_name or launcher.name_of(self._corners)
        self._sweep = SweepDirectory(first.outputs / "sweeps" / f"{name}_{self._digest()}")
        #: Every run that a trial asked for, in the sweep's order, and the place of each trial's: two may ask for one.
        self._asked: list[Asked] = []
        self._places: dict[Path, int] = {}
        self._numbers: dict[int, int] = {}
        self._left: list[State] = []

    def _direction(self, config: RunConfig) -> Any:
        """As the key says or the sweeper's option of that name. Raises ConfigError where they differ."""
        ours, theirs = config.direction, self._options.direction
        if ours is not None and theirs is not None and ours != theirs:
            raise ConfigError(f"direction: expected one, got {ours} and hydra.sweeper.direction={theirs}. Leave one.")
        return theirs if ours is None else ours

    def _words_of_corners(self) -> list[list[str]]:
        """Combinations in which each value of a list, and both ends of each interval, are seen once at least."""
        ends = {
            key: [*one.choices] if isinstance(one, CategoricalDistribution) else [one.low, one.high]  # type: ignore[attr-defined]
            for key, one in self._space.items()
        }
        first = {key: values[0] for key, values in ends.items()}
        return [self._words(first | {key: value}) for key, values in ends.items() for value in values]

    def _words(self, params: Mapping[str, Any]) -> list[str]:
        return [*self._fixed, *(f"{key}={value}" for key, value in params.items())]

    def _digest(self) -> str:
        """Of all that says which search it is, so that another one has another folder; n_trials may be raised."""
        options = [self._options.sampler, self._options.seed, self._options.pruner]
        space = {key: optuna.distributions.distribution_to_json(one) for key, one in self._space.items()}
        runs = [one.task.directory.name for one in self._corners]
        content = json.dumps([runs, space, self._objectives, self._directions, options], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:8]

    def _command(self) -> list[str]:
        """The words with which a trial's own are the command of its run."""
        swept = ("-m", "--multirun", "hydra/", "hydra.", *(f"{key}=" for key in (*GOALS, *self._space)))
        return [word for word in TYPED or self._fixed if not word.startswith(swept)]

    def run(self) -> list[State]:
        """Carry out the trials that are left; returns the states that the command ends with.

        They are those of trials that could not be told, and failed where too many have failed. Raises Busy where
        another process makes this search, ConfigError for an objective that a run cannot have.
        """
        self._launcher.announce(self._sweep, self._corners)
        if note := note_on_optimizers(self._corners):
            self._launcher.say(note)
        self._launcher.say(f"search    {self._wanted} trials by {self._options.sampler} of {', '.join(self._space)}")
        if self._launcher.is_dry:
            return []
        lock = FileLock(self._sweep.path / ".search.lock")
        try:
            acquire(lock, timeout=1)
        except Timeout:
            raise Busy(f"{self._sweep.path}: expected a search that no process makes, got one. Wait for it.") from None
        with lock:
            self._open_study()
            while not self._left and not self._too_many_failed() and (batch := self._next_batch()):
                self._work_on(batch)
            self._conclude()
        return self._left + [State.FAILED] * self._too_many_failed()

    def _open_study(self) -> None:
        """The study as an earlier command left it, or a new one; and the runs that it asked for."""
        self._study = optuna.create_study(
            storage=open_storage(self._sweep.path / STUDY),
            study_name=self._options.study_name or self._sweep.path.name,
            directions=self._directions,  # type: ignore[arg-type]
            load_if_exists=True,
        )
        for fact, value in {"objectives": self._objectives, "command": self._command()}.items():
            if self._study.user_attrs.get(fact) != value:
                self._study.set_user_attr(fact, value)
        for trial in self._study.get_trials(deepcopy=False):
            if trial.state.is_finished() and "refused" not in trial.user_attrs:
                self._numbers[trial.number] = self._number_of(trial.params)

    def _next_batch(self) -> list[FrozenTrial]:
        """The trials that were asked for and not told, filled up to a whole batch."""
        size, number = self._options.n_jobs, len(self._study.get_trials(deepcopy=False))
        for trial in self._open():  # one may have been killed amid the suggestion
            self._suggest(trial.number)
        while number < self._wanted and (number % size or not self._open()):
            self._suggest(number)
            number += 1
        return self._open()

    def _open(self) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))

    def _suggest(self, number: int) -> None:
        self._study.sampler = self._sampler(number)
        is_new = number == len(self._study.get_trials(deepcopy=False))
        trial = self._study.ask() if is_new else trial_of(self._study, number)
        for key, one in self._space.items():
            trial._suggest(key, one)
        self._study.sampler = optuna.samplers.RandomSampler()  # to `tell` GridSampler raises when its last one is told

    def _work_on(self, batch: Sequence[FrozenTrial]) -> None:
        for trial in batch:
            try:
                check_all([(words := self._words(trial.params), self._composer.compose(words))])
                self._numbers[trial.number] = self._number_of(trial.params)
            except ConfigError as error:  # of this combination alone: the space as such was checked
                self._launcher.say(f"trial {trial.number}  {State.REFUSED}: {error}")
                trial_of(self._study, trial.number).set_user_attr("refused", str(error))
                self._study.tell(trial.number, state=TrialState.FAIL)
        trials = {trial.number: trial for trial in batch if trial.number in self._numbers}
        owners = {self._numbers[number]: number for number in reversed(trials)}
        # Pruned by this search, and killed before that was told: it is not to go on.
        begun = {num: self._asked[num].task for num, number in owners.items() if trials[number].intermediate_values}
        ended = {num for num, task in begun.items() if RunDirectory(task.directory).state() is State.PRUNED}
        asked = [self._for_trial(one, owners.get(num)) for num, one in enumerate(self._asked)]
        wanted = sorted(owners.keys() - ended)
        jobs = {entry.num: entry.job for entry in self._sweep.entries()}
        self._sweep.write_entries([one.entry(num, jobs.get(num)) for num, one in enumerate(self._asked)])
        now = self._launcher.carry_out(self._sweep, asked, wanted) if wanted else Standing({}, {}, set())
        assert now is not None  # options that do not wait are refused
        for number in trials:
            num = self._numbers[number]
            self._tell(number, State.PRUNED if num in ended else now.states[num])

    def _tell(self, number: int, state: State) -> None:
        """Tell the study how a trial ended; one that can go on stays open, and the search ends for now."""
        task, text = self._asked[self._numbers[number]].task, ""
        assert isinstance(task, RunConfig)
        if state is State.COMPLETED:
            values = values_of(saved := read_run(task.directory), self._objectives)
            if self._options.pruner:  # which knows nothing yet of a run that was there already
                report_values(trial_of(self._study, number), saved, self._objectives[0], task.evaluated)
            told = TrialState.FAIL if values is None else TrialState.COMPLETE
            self._study.tell(number, values, state=told)
            pairs = zip(self._objectives, values or [], strict=False)
            text = (
                ", ".join(f"{name} {value:.6g}" for name, value in pairs)
                or "told as failed: an objective is not finite"
            )
        elif state is State.PRUNED or state in FAILED:
            self._study.tell(number, state=TrialState.PRUNED if state is State.PRUNED else TrialState.FAIL)
        else:
            self._left.append(state)
        self._launcher.say(f"trial {number}  {state}  {text}")

    def _number_of(self, params: Mapping[str, Any]) -> int:
        """The place of a trial's run among those of the sweep. Raises ConfigError for one that cannot be run."""
        words = self._words(params)
        one = Asked(check_task(self._composer.compose(words)), words)
        num = self._places.setdefault(one.task.directory, len(self._asked))
        if num < len(self._asked):
            self._asked[num] = merged(self._asked[num], one)
        else:
            self._asked.append(one)
        return num

    def _for_trial(self, one: Asked, number: int | None) -> Asked:
        """With what the training needs to ask the pruner."""
        assert isinstance(one.task, RunConfig)
        if number is None or self._options.pruner is None:
            return one
        trial = {"study": str(self._sweep.path / STUDY), "number": number, "pruner": self._options.pruner}
        return replace(one, task=check({**one.task.raw, "trial": trial}))

    def _too_many_failed(self) -> bool:
        failed = self._study.get_trials(deepcopy=False, states=(TrialState.FAIL,))
        return len(failed) > self._options.max_failure_rate * self._wanted

    def _conclude(self) -> None:
        if self._asked:
            self._launcher.conclude(self._sweep, self._asked, look(self._sweep.entries()))
        if self._too_many_failed():
            self._launcher.say(
                f"search    ended: of {self._wanted} trials more than hydra.sweeper.max_failure_rate="
                f"{self._options.max_failure_rate:g} failed or diverged. Search elsewhere, or raise it"
            )
        from ncexp.report.search import read_search  # matplotlib takes a second

        for line in read_search(self._sweep.path).words():
            self._launcher.say(line)
