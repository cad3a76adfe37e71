"""One run, as a walk: configuration → dataset → network → objective → training → looks → record → MLflow, figures."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import yaml
from rich.console import Console

from ncexp import checkpoint
from ncexp.assembly import Assembly, assemble
from ncexp.config import RunConfig, check
from ncexp.distributed import join
from ncexp.files import read_json, write_atomically, write_json
from ncexp.interruption import Diverged, Interrupted, StopRequest
from ncexp.progress import ProgressLine
from ncexp.provenance import code_state
from ncexp.run_directory import FINISHED, RunDirectory
from ncexp.simulations import simulate
from ncexp.summary import print_summary
from ncexp.theory import compare_with_path
from ncexp.tracking import Follower, mark_superseded, page_of, tracking_uri


def run(raw: Mapping[str, Any], console: Console, stop: StopRequest | None = None) -> str:
    """Train, or go on with, the run that a composed configuration describes; answers its final state.

    A configuration with the key `simulation` trains nothing: see `simulate`.

    stop: the caller's, who catches the signals; None: SIGINT and SIGTERM are caught while it trains.

    Raises ConfigError before anything is written, Busy where another process trains the run. Any other exception goes
    with its traceback to the run's log, the run is marked failed, and it is raised.
    """
    if "simulation" in raw:
        return simulate(raw, console)
    config = check(raw)
    directory = RunDirectory(config.directory)
    processes = join(config.device)
    if not processes.any(processes.first and _is_settled(directory, config)):  # the first decides for all
        assembly = assemble(config, processes=processes)
        if not processes.first:
            processes.wait()  # until the first has made the directory ready
            return _train(config, directory, assembly, console, None, stop)[0]
        with directory.locked():
            if not _is_settled(directory, config):  # another process may have finished it meanwhile
                _begin(config, directory, assembly, console)
                processes.wait()
                return _train_and_report(config, directory, assembly, console, stop)
    if processes.first:
        _say_settled(config, directory, console)
    return str(directory.state())


def _is_settled(directory: RunDirectory, config: RunConfig) -> bool:
    """Is there nothing to train? Finished runs are, unless all are to be anew; failed ones, if none are to be."""
    state = directory.state()
    return (state in FINISHED and config.rerun != "all") or (state == "failed" and config.rerun == "none")


def _begin(config: RunConfig, directory: RunDirectory, assembly: Assembly, console: Console) -> None:
    """Write and say what is known before the first step."""
    if config.rerun == "all" and directory.state() is not None:
        mark_superseded(directory)
        directory.clear()
    text = yaml.safe_dump(dict(config.raw), sort_keys=False, allow_unicode=True)
    write_atomically(directory.config, lambda file: file.write(text.encode()))
    facts = assembly.facts()
    write_json(directory.facts, facts)
    commit, difference = code_state()
    write_json(directory.environment, assembly.environment() | {"commit": commit})
    write_atomically(directory.code_diff, lambda file: file.write(difference.encode()))
    directory.set_status("running", epoch=0)
    console.print(f"run       {directory.path}", soft_wrap=True)
    if config.tracking["enabled"]:
        console.print(f"tracking  {_uri(config)}", soft_wrap=True)
    console.print(
        f"{facts['num_train']} training and {facts['num_test']} test examples, {facts['num_parameters']:,} parameters, "
        f"{facts['num_features']} features; {facts['ridge_convention']}",
        soft_wrap=True,
    )


def _train_and_report(
    config: RunConfig, directory: RunDirectory, assembly: Assembly, console: Console, stop: StopRequest | None
) -> str:
    """Train with MLflow in the background; however the training ends, status, figures and tracking tell of it."""
    follower = _follower(config, directory) if config.tracking["enabled"] else None
    state, message = "failed", ""
    try:
        state, message = _train(config, directory, assembly, console, follower, stop)
    except BaseException as error:
        with directory.log.open("a") as log:  # a sweep's run has all that it said there
            log.write(traceback.format_exc())
        message = f"{type(error).__name__}: {error}"
        raise
    finally:
        directory.set_status(state, epoch=assembly.training.position.epoch - 1, message=message)
        console.print(f"{state}: {message}", soft_wrap=True)
        _report(config, directory, console)
        if follower:
            _finish_tracking(follower, config, directory, console)
    return state


def _train(
    config: RunConfig,
    directory: RunDirectory,
    assembly: Assembly,
    console: Console,
    follower: Follower | None,
    stop: StopRequest | None,
) -> tuple[str, str]:
    """The epochs that are left, each analysis epoch on the record; answers the state it ended in, and why.

    Of several processes all train and look, and the first writes.
    """
    training, first = assembly.training, assembly.training.processes.first
    _resume(directory, assembly, console)
    analysis_epochs = set(config.analysis_epochs)
    catching = StopRequest() if stop is None else nullcontext(stop)
    with catching as asked, ProgressLine(console, config.epochs, training.position.epoch - 1) as progress:
        try:
            while training.position.epoch <= config.epochs:
                epoch = training.position.epoch
                summary = training.run_epoch(asked)
                progress.epoch_done(epoch, summary["fit/loss"])
                if epoch in analysis_epochs:
                    record = {"epoch": epoch, **summary, **assembly.look()}
                    # Journal, checkpoint, MLflow, in this order: what MLflow has is never computed a second time.
                    if first:
                        directory.journal.append(record)
                        checkpoint.save(directory.checkpoint, training.network, training.optimizer, training.position)
                    progress.looked(record)
                    if follower:
                        follower.notify(epoch)
        except Diverged as reason:
            return "diverged", str(reason)
        except Interrupted as reason:
            if first:
                checkpoint.save(directory.checkpoint, training.network, training.optimizer, training.position)
            return "interrupted", f"{reason}; the same command goes on from here"
    return "completed", f"{config.epochs} epochs"


def _resume(directory: RunDirectory, assembly: Assembly, console: Console) -> None:
    """Go on from the last checkpoint, if there is one; what was recorded after it is computed again."""
    training = assembly.training
    if directory.checkpoint.exists():
        training.position = checkpoint.load(directory.checkpoint, training.network, training.optimizer, assembly.device)
        console.print(f"resumed   in epoch {training.position.epoch}, after {training.position.step} of its steps")
    if training.processes.first:
        directory.journal.rewind(training.position.epoch - 1)


def _say_settled(config: RunConfig, directory: RunDirectory, console: Console) -> None:
    """The run is there already: say so, show it, and send MLflow what it may have missed."""
    status = directory.status() or {}
    console.print(f"run       {directory.path}", soft_wrap=True)
    console.print(f"{status['state']} on {status['updated']}: nothing to train; rerun=all trains it anew")
    _report(config, directory, console)
    if config.tracking["enabled"]:
        _finish_tracking(_follower(config, directory), config, directory, console)


def _report(config: RunConfig, directory: RunDirectory, console: Console) -> None:
    """What the journal holds: its table, how it lies along the central path, its figures."""
    records = directory.journal.read()
    if not records:
        return
    from ncexp.figures import draw_figures  # matplotlib takes a second to import

    print_summary(console, records)
    comparison = compare_with_path(records, read_json(directory.facts))
    if comparison is not None:
        write_json(directory.path_fit, comparison.to_json())
        console.print(f"path      {comparison.sentence()}", soft_wrap=True)
    for path in draw_figures(records, directory.figures, config.name, comparison):
        console.print(f"figure    {path}", soft_wrap=True)


def _uri(config: RunConfig) -> str:
    return tracking_uri(config.tracking["uri"], config.outputs)


def _follower(config: RunConfig, directory: RunDirectory) -> Follower:
    return Follower(directory, _uri(config), config.tracking["experiment"] or config.dataset.name)


def _finish_tracking(follower: Follower, config: RunConfig, directory: RunDirectory, console: Console) -> None:
    failure = follower.finish()
    if failure is None:
        address = _uri(config) if _uri(config).startswith("http") else f"ncexp ui {config.outputs}   # then its page "
        console.print(f"MLflow    {address}{page_of(directory, _uri(config))}", soft_wrap=True)
    else:
        console.print(f"MLflow    not up to date: {failure}. The journal has it all; ", end="", soft_wrap=True)
        console.print(f"`ncexp sync {directory.path}` or the same command sends it.", soft_wrap=True)
