"""One run as a walk: configuration → parts → epochs, some of them evaluated → journals → figures, MLflow.

And the second verb, on a run that is there or on the checkpoints of another training: what is asked for and missing is
measured, nothing is trained.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from contextlib import ExitStack, nullcontext, suppress
from typing import Any

import yaml
from rich.console import Console

from ncexp.config import (
    MeasureConfig,
    RunConfig,
    check,
    check_checkpoints,
    check_measurement,
    check_outputs,
)
from ncexp.measure import ForeignTraining, RecordedTraining, measure_stored, missing_epochs
from ncexp.record import RunDirectory, State, read_run, write_json, write_text
from ncexp.record.measurements import names_of
from ncexp.record.objective import check_objectives
from ncexp.record.provenance import code_state
from ncexp.record.pruning import Pruning
from ncexp.report import LiveFigures, ProgressLine, report_run
from ncexp.tracking import check_uri, follow, tracking_uri
from ncexp.training import (
    Assembly,
    Diverged,
    Interrupted,
    StopRequest,
    assemble,
    describe_out_of_memory,
    environment,
    join,
    set_threads,
)


def run(raw: Mapping[str, Any], console: Console, stop: StopRequest | None = None, draws: bool = True) -> State:
    """Train, or go on with, the run that a composed configuration describes; returns its final state.

    Of a run that is trained already, whatever is asked for and not yet measured is measured, if what it kept allows it.

    stop: the caller's, who catches the signals; None: SIGINT and SIGTERM are caught while it works. draws: whether its
    figures are drawn, as of a run for which somebody waits; those of a sweep's are drawn once somebody looks at them.

    Raises ConfigError before anything is written, Busy where another process trains the run. Any other exception goes
    with its traceback to the run's log, the run is marked failed, and it is raised.
    """
    config = check(raw)
    check_uri(config.tracking["uri"])
    check_objectives(config.objective)
    directory = RunDirectory(config.directory)
    processes = join(config.device)
    if processes.any(processes.first and _is_settled(directory, config)):  # rank 0 decides for all
        return _show(config, directory, console, stop, draws) if processes.first else State.COMPLETED
    check_outputs(config.outputs)
    assembly = assemble(config, processes=processes)
    assembly.check_gradients()
    training = RecordedTraining(config, directory, assembly)
    with ExitStack() as work:
        if processes.first:
            work.enter_context(directory.locked())
        if processes.any(processes.first and _is_settled(directory, config)):  # another process has finished it
            return _show(config, directory, console, stop, draws) if processes.first else State.COMPLETED
        if processes.first:
            _begin(config, directory, assembly, training, console)
        processes.wait()  # until rank 0 has made the directory ready
        ending = work.enter_context(_Ending(training, config, directory, console, draws, processes.first))
        asked = work.enter_context(StopRequest() if stop is None else nullcontext(stop))
        if position := training.resume():
            console.print(f"resumed   in epoch {position.epoch}, after {position.step} of its steps")
        for sentence in training.findings:
            console.print(f"record    {sentence}", soft_wrap=True, markup=False)
        live = work.enter_context(LiveFigures(directory, console)) if draws and processes.first else None
        progress = work.enter_context(ProgressLine(console, config.epochs, training.epoch))
        pruning = Pruning(config)
        for summary, evaluated in training.epochs(asked):
            epoch = int(summary["epoch"])
            progress.epoch_done(epoch, summary["fit/loss"])
            if evaluated is not None:
                progress.evaluated(summary | evaluated)
                if live is not None:
                    live.epoch_evaluated()
                if config.trial and processes.any(processes.first and pruning.ends(directory.path, epoch)):
                    break
        if pruning.fault:
            console.print(f"search    not asked: {pruning.fault}", soft_wrap=True, markup=False)
        if training.epoch < config.epochs:
            why = (
                f"epoch {training.epoch} of {config.epochs}: the search's pruner; asked for alone it goes on from here"
            )
            ending.end(State.PRUNED, why)
        elif lost := training.lost():
            ending.end(State.FAILED, f"{config.epochs} epochs, but lost: {lost}. rerun=all trains it anew")
        else:
            ending.end(State.COMPLETED, f"{config.epochs} epochs")
    return ending.state


def measure(raw: Mapping[str, Any], console: Console, stop: StopRequest | None = None, draws: bool = True) -> State:
    """Measure one stored run, as `ncexp measure` configures it; returns the state that the measuring ended in.

    stop, draws: as for `run`. Raises ConfigError, Busy, and whatever an analysis raises.
    """
    config = check_measurement(raw)
    console.print(f"run       {config.run}", soft_wrap=True, markup=False)
    directory, begun = RunDirectory(config.run), bool(missing_epochs(config))
    with StopRequest() if stop is None else nullcontext(stop) as asked:
        state, _ = measure_stored(config, console, asked)
    state = _with_what_is_lost(directory, state, console)
    numbers = names_of(directory.measurements, config.analyses)
    report_run(directory, console, summary=False, figures=begun, measured=numbers, draws=draws)
    return state


def measure_checkpoints(
    raw: Mapping[str, Any], console: Console, stop: StopRequest | None = None, draws: bool = True
) -> State:
    """Measure the checkpoints of another training into a run directory; returns the state that it ends in.

    Files that have their numbers are left alone; those that came later are added.
    stop, draws: as for `run`. Raises ConfigError before anything is written, Busy, and whatever an analysis raises.
    """
    config = check_checkpoints(raw)
    check_uri(config.run.tracking["uri"])
    foreign = ForeignTraining(config)
    directory = foreign.directory
    with follow(raw, [directory.path], console), directory.locked():  # only now is it known what it is called
        state = directory.state()
        if config.run.rerun == "all" or foreign.missing() or state is None or not state.final:
            _begin(foreign.run, directory, foreign.assembly, foreign, console)
            foreign.note_origin()
            for line in foreign.describe_files():
                console.print(f"weights   {line}", soft_wrap=True, markup=False)
            with (
                _Ending(foreign, foreign.run, directory, console, draws) as ending,
                StopRequest() if stop is None else nullcontext(stop) as asked,
            ):
                _measure_files(foreign, console, ending, asked)
            return ending.state
    console.print(f"run       {directory.path}", soft_wrap=True, markup=False)
    console.print("nothing to measure: every file has its numbers; rerun=all measures them anew")
    report_run(directory, console, draws=draws)
    return state


def _is_settled(directory: RunDirectory, config: RunConfig) -> bool:
    """Is there nothing to train? Final runs are, unless all are to be anew; failed ones, if none are to be.

    A run that lacks a file which only its beginning writes begins again, and goes on where it was.
    """
    state = directory.state()
    if state is None or not (directory.config.exists() and directory.facts.exists()):
        return False
    return (state.final and config.rerun != "all") or (state is State.FAILED and config.rerun == "none")


def _begin(
    config: RunConfig,
    directory: RunDirectory,
    assembly: Assembly,
    recorded: RecordedTraining | ForeignTraining,
    console: Console,
) -> None:
    """Write and print what is known before the first step, or the first file of another training."""
    if config.rerun == "all":
        directory.clear()
    threads = set_threads(config.threads, assembly.training, directory)
    directory.identity()
    write_text(directory.config, yaml.safe_dump(dict(config.raw), sort_keys=False, allow_unicode=True))
    facts = recorded.facts()
    write_json(directory.facts, facts)
    commit, difference = code_state()
    write_json(directory.environment, environment(assembly.device, assembly.training.processes) | {"commit": commit})
    write_text(directory.code_diff, difference)
    directory.set_status(State.RUNNING, epoch=0)
    lines = [f"run       {directory.path}"]
    if targets := assembly.dataset.targets:
        units = "as they are" if {*targets.scales} == {1.0} else "standardised over the training examples"
        noun = "target" if len(targets.names) == 1 else "targets"
        predicted = f"{len(targets.names)} {noun}, {units}: {', '.join(targets.names)}"
    else:
        classes = facts.get("classes", f"0 to {facts['num_classes'] - 1}")
        predicted = f"{facts['num_classes']} classes: {classes}"
    if config.tracking["enabled"]:
        lines.append(f"tracking  {tracking_uri(config.tracking['uri'], config.outputs)}")
    lines.append(
        f"{facts['num_train']} training and {facts['num_test']} test examples of shape "
        f"{tuple(facts['input_shape'])}, {predicted}"
    )
    lines.append(f"{facts['num_parameters']:,} parameters, {facts['num_features']} features")
    lines.append(f"decay     λ/2 ‖[W, b]‖² is the last layer's part in the MSE loss; {facts['ridge_convention']}")
    if isinstance(recorded, RecordedTraining):
        lines.append(f"trains    {_steps(config)}")
    lines.append(f"keeps     {recorded.describe_kept()}")
    if assembly.dataset.origin:
        lines.append(f"data      {assembly.dataset.origin}")
    if config.augment.chosen:
        lines.append(f"augments  {config.augment}")
    if assembly.foreign:
        lines.append(f"network   {assembly.foreign}")
    if assembly.start:
        lines.append(f"weights   {assembly.start}")
    if assembly.frozen:
        lines.append(f"frozen    {assembly.frozen}")
    if assembly.lags:
        lines.append(f"lags      {assembly.lags}")
    if assembly.layout:
        lines.append(f"layout    {assembly.layout}")
    lines.append(f"threads   {threads}")
    for line in lines:
        console.print(line, soft_wrap=True, markup=False)


def _steps(config: RunConfig) -> str:
    """What the defaults of other data would hide: "350 epochs in batches of 128; sgd, lr 0.25, weight_decay 0.002"."""
    options = {name: config.optimizer.options.get(name) for name in ("lr", "weight_decay")}
    chosen = [f"{name} {value:g}" for name, value in options.items() if isinstance(value, int | float)]
    how = ", ".join([config.optimizer.name, *chosen, *config.steps.describe()])
    return f"{config.epochs} epochs in batches of {config.batch_size}; {how}"


class _Ending:
    """Around the work on a run: however it ends, status and figures say so.

    `state`: how it ended, failed unless `end` says otherwise. Diverged and Interrupted end with the block; any other
    exception goes on. Of several processes rank 0 writes.
    """

    def __init__(
        self,
        work: RecordedTraining | ForeignTraining,
        config: RunConfig,
        directory: RunDirectory,
        console: Console,
        draws: bool,
        writes: bool = True,
    ) -> None:
        self.state, self._message = State.FAILED, ""
        self._work, self._config, self._directory, self._console = work, config, directory, console
        self._draws, self._writes = draws, writes

    def end(self, state: State, message: str) -> None:
        """So it ended, and why."""
        self.state, self._message = state, message

    def __enter__(self) -> _Ending:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        said = True
        if isinstance(error, Diverged):
            self.end(State.DIVERGED, str(error))
        elif isinstance(error, Interrupted):
            self.end(State.INTERRUPTED, f"{error}; the same command goes on from here")
        elif error is not None:
            advice = describe_out_of_memory(error, self._config.batch_size)
            self.end(State.FAILED, advice or f"{type(error).__name__}: {error}")
            said = bool(advice) or not isinstance(error, Exception)  # else by whoever catches it
        if self._writes:
            self._write(error, said)
        return isinstance(error, Diverged | Interrupted)

    def _write(self, error: BaseException | None, said: bool) -> None:
        directory, console, state = self._directory, self._console, self.state
        if state is State.FAILED and error is not None:
            with suppress(OSError), directory.log.open("a", encoding="utf-8") as log:
                log.writelines(traceback.format_exception(error))  # a sweep's run has all its output there
        noted = {"record": self._work.finish()} if state.final else {}
        directory.set_status(state, epoch=self._work.epoch, message=self._message, **noted)
        if state is State.COMPLETED:  # there is nothing to go on with
            directory.remove_resume_files()
        if said:
            console.print(f"{state}: {self._message}", soft_wrap=True, markup=False)
        is_waited_for = state is not State.INTERRUPTED  # who stops a run does not wait for figures
        report_run(directory, console, figures=is_waited_for, draws=self._draws)


def _measure_files(
    foreign: ForeignTraining, console: Console, ending: _Ending, should_stop: Callable[[], bool]
) -> None:
    """The files that have no numbers yet."""
    missing = foreign.missing()
    for count, epoch in enumerate(missing):
        if should_stop():
            raise Interrupted(f"{count} of {len(missing)} files measured")
        record = foreign.measure(epoch)
        errors = f"train error {record['train/error']:.2%} test {record['test/error']:.2%}"
        console.print(f"epoch {epoch}  {errors}  {foreign.files[epoch]}", soft_wrap=True, markup=False)
    ending.end(State.COMPLETED, f"{len(foreign.files)} files, {len(missing)} of them measured now")


def _show(config: RunConfig, directory: RunDirectory, console: Console, stop: StopRequest | None, draws: bool) -> State:
    """Nothing is to be trained: measure what is asked for and missing, print what is there.

    Returns the run's state, or that of the measuring where something asked for cannot be had.
    """
    status = directory.status() or {}
    console.print(f"run       {directory.path}", soft_wrap=True, markup=False)
    state = State(status["state"])
    again = "" if state is State.DIVERGED else "; rerun=all trains it anew"  # it would diverge again
    console.print(f"{state} on {status['updated']}: nothing to train{again}")
    if state.final:
        with StopRequest() if stop is None else nullcontext(stop) as asked:
            measured, _ = measure_stored(MeasureConfig.of_run(config), console, asked)
        state = state if measured is State.COMPLETED else measured
    state = _with_what_is_lost(directory, state, console)
    report_run(directory, console, draws=draws)
    return state


def _with_what_is_lost(directory: RunDirectory, state: State, console: Console) -> State:
    """The state of a record that is whole; damaged, and what it lacks is printed, where its journals are not."""
    saved = read_run(directory.path)
    if saved.state is not State.DAMAGED:
        return state
    console.print(f"record    lost: {saved.message}. rerun=all trains it anew", soft_wrap=True, markup=False)
    return State.DAMAGED
