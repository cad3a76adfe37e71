"""What a person sees of a sweep: counts while its jobs are waited for, a table of its tasks, and what to do next."""

from __future__ import annotations

import os
import re
import shlex
import time
from collections import Counter
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path

from rich.console import Console

from ncexp.launching.states import Standing, fault_of, in_trouble, job_of, look
from ncexp.launching.sweep_directory import Entry, SweepDirectory, last_lines
from ncexp.record import DamagedFile, RunDirectory, State, format_counts, read_json

#: What SLURM says of a job that it ends, the sentence with numbers first, and what would help.
_ENDED_BY_SLURM = {
    r"memory limit \(": "hydra.launcher.mem_gb",
    r"memory limit|oom.?kill|out of memory": "hydra.launcher.mem_gb",
    r"due to time limit": "hydra.launcher.timeout_min",
}
#: A controller that does not respond may be restarting: it is waited for this many times longer than a result.
CONTROLLER_PATIENCE = 10
#: The words of the command that this process carries out, as they were typed; none in a process of a job.
TYPED: list[str] = []
#: After which states the same command does something: it goes on, or does again what failed.
LEFT = (State.FAILED, State.INTERRUPTED, State.KILLED, State.LOST, State.NEW)
#: Where commands look for runs by themselves.
DEFAULT = Path("outputs")


def wait(sweep: SweepDirectory, console: Console, poll_s: float, grace_s: float) -> Standing:
    """Wait until no task is queued or running; returns how they stand then.

    A task whose job has left the queue without a result is waited for `grace_s` more seconds, in which a file system
    may still bring its status; then it is lost. Nothing is waited for without end but what SLURM itself keeps.
    """
    entries = sweep.entries()
    printed, quiet_since = "", time.monotonic()
    while True:
        now = look(entries)
        text = "; ".join([format_counts(now.states.values()), *sorted(set(now.reasons.values()))])
        if text != printed:
            console.print(f"{time.strftime('%H:%M:%S')}  {text}", soft_wrap=True, markup=False)
            printed = text
        settled = {State.FAILED, State.PRUNED, State.DAMAGED, State.NEW}
        unsettled = {state for state in now.states.values() if not state.final} - settled
        if any(state.active for state in unsettled):
            quiet_since = time.monotonic()
        patience = grace_s * (CONTROLLER_PATIENCE if State.UNKNOWN in unsettled else 1)
        if not unsettled or time.monotonic() - quiet_since >= patience:
            return now
        time.sleep(poll_s)


def labels(entries: Sequence[Entry]) -> list[str]:
    """What tells each task from the others: the overrides that not all have; of a measuring, or without any, its name.

    >>> labels([Entry(num=0, name="a", key="0", directory="a", run="a", overrides=["epochs=9", "seed=1"]),
    ...         Entry(num=1, name="a", key="1", directory="b", run="b", overrides=["epochs=9", "seed=2"])])
    ['seed=1', 'seed=2']
    """
    common = set.intersection(*(set(entry.overrides) for entry in entries)) if entries else set()
    own = [[word for word in entry.overrides if word not in common] for entry in entries]
    trained = all(entry.directory == entry.run for entry in entries)
    return [" ".join(words) if trained and words else one.name for one, words in zip(entries, own, strict=True)]


def print_table(
    console: Console, title: str, sweep: SweepDirectory, entries: Sequence[Entry], now: Standing, every: bool = False
) -> None:
    """A line for each task that is running or in trouble (each, where `every`): its state, its last trained epoch, why
    it stands so, and its log where there is one; then why jobs wait; then the title and the counts.
    """
    names = labels(entries)
    shown = [one for one in zip(entries, names, strict=True) if every or now.states[one[0].num].exit_code != 0]
    width = max((len(name) for _, name in shown), default=0)
    for entry, name in shown:
        state, (epoch, fault) = now.states[entry.num], _trained(entry)
        why = " ".join((fault or now.reasons.get(entry.num) or _why(sweep, entry, state)).split())
        line = f"{entry.num:03d}  {name:{width}}  {state:11}  {epoch:10}  {why}"
        console.print(line.rstrip(), soft_wrap=True, markup=False)
        if state.exit_code != 0 and (log := sweep.log_of(entry)):
            console.print(f"     log {log}", soft_wrap=True, markup=False)
    for reason, count in Counter(now.reasons.values()).most_common():
        console.print(f"{count} queued: {reason}", soft_wrap=True, markup=False)
    console.print(f"{title}: {format_counts(now.states.values())}", soft_wrap=True, markup=False)


def _trained(entry: Entry) -> tuple[str, str]:
    """The last epoch in a training's journal, in words, empty before the first; and what is wrong with the journal."""
    try:
        epochs = RunDirectory(Path(entry.run)).training.epochs() if entry.directory == entry.run else ()
    except ValueError as error:
        return "", str(error)
    return (f"epoch {max(epochs)}" if epochs else ""), ""


def _why(sweep: SweepDirectory, entry: Entry, state: State) -> str:
    """What the task said last, or what can be said of one that said nothing."""
    if state in (State.LOST, State.KILLED) and (words := _words_of_slurm(sweep.job_log(entry))):
        return words
    if state is State.LOST:
        causes = "node failure, kill -9, the time limit before it had saved itself, or cancelled before it began"
        return f"job {job_of(entry.task)} left without a result: {causes}"
    if state is State.KILLED:
        return "its process ended without a word: kill -9, out of memory, or a disk too full for its status"
    return (fault_of(entry.task) or str(entry.task.noted().get("message", ""))) if in_trouble(state) else ""


def _words_of_slurm(log: Path) -> str:
    """Why SLURM ended a job, in its own words, and what would help; empty where it did not say so in the job's log."""
    try:
        lines = last_lines(log, 100)
    except (FileNotFoundError, DamagedFile):
        return ""
    said = [line for line in lines if re.match(r"(slurmstepd(-\S+)?|srun): ", line)]  # -NODE, of SLURM 22
    for words, advice in _ENDED_BY_SLURM.items():
        for line in reversed(said):
            if re.search(words, line, re.IGNORECASE):
                return f"{line.partition('error: ')[2] or line}: raise {advice}"
    return ""


def print_end(
    console: Console,
    states: Collection[State],
    outputs: Path = DEFAULT,
    trained: Path | None = None,
    runs: Sequence[Path] = (),
) -> None:
    """The last lines of a command: what its runs came to together, and the commands that people want next.

    trained: a run's directory, the folder of a sweep, or, of a sweep without one, outputs; None where nothing was.
    """
    if runs:
        from ncexp.report import report_runs  # torch takes seconds

        report_runs(runs, console)
    if TYPED and any(state in LEFT for state in states):
        console.print(f"again     {shlex.join(['ncexp', *TYPED])}  # does what is left", soft_wrap=True, markup=False)
    if trained is None or State.COMPLETED not in states:
        return
    place, measured = _typed(outputs), _typed(trained)
    if outputs == DEFAULT.absolute() and trained.parent == outputs:
        measured = trained.name.rpartition("_")[2]  # the key: a run there is found by it
    further = "norms" if any(map(_predicts_targets, (trained, *runs))) else "robustness"
    commands = {
        f"ncexp ui {place}": "its curves in the browser",
        f"ncexp measure {measured} analysis={further}": "one more analysis; nothing is trained",
        **({f"ncexp pictures --missing {measured}": "the figures of each of its runs"} if runs else {}),
        f"ncexp report {place if trained.parent == outputs else measured}": "tables, figures and a page of many runs",
    }
    width = max(map(len, commands))
    for head, (command, meaning) in zip(("next", "", "", ""), commands.items(), strict=False):
        console.print(f"{head:9} {command:{width}}  # {meaning}", soft_wrap=True, markup=False)


def _predicts_targets(run: Path) -> bool:
    """Whether it is a regression, which has no decisions to be robust; a damaged file is named by whoever reads it."""
    with suppress(DamagedFile):
        return "num_targets" in (read_json(run / "facts.json") or {})
    return False


def _typed(path: Path) -> str:
    """As a person would type it here: from the present folder on where it lies below, in quotes where it needs them."""
    here = Path.cwd()
    return shlex.quote(os.path.relpath(path, here) if path.is_relative_to(here) else str(path))
