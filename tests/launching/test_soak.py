"""A sweep whose processes are killed at random, again and again, and that is only ever repeated, loses nothing.

pytest -m slow tests/launching/test_soak.py                                     a minute in all
NCEXP_SOAK_MINUTES=10 pytest -m slow -s -n 0 tests/launching/test_soak.py       ten minutes in all
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest
from support import journals
from sweeps import Project, processes, until
from tracking_stores import journalled, statuses, stored

pytestmark = [pytest.mark.slow]

#: How long processes are killed, over both launchers; the sweep that is begun by then is brought to its end.
MINUTES = float(os.environ.get("NCEXP_SOAK_MINUTES", "1"))
#: Longest pause before the next attempt at a kill. A command takes some seconds to begin its runs.
PAUSE_S = 8.0
#: How often each kind is chosen: a launcher that never comes to its runs would be all that dies.
WEIGHTS = {"worker": 2, "uploader": 2, "job": 2, "launcher": 1}
#: Commands without a kill that a sweep may take to its end: runs that were killed end one of them as failed.
REPEATS = 5
#: Some ten seconds a run, longer where tests run beside it.
SWEEP = ["seed=1,2,3", "epochs=400", f"evaluate_at={[1, *range(20, 400, 20)]}", "analysis=[collapse,decomposition]"]


class Soak:
    """One sweep after another, disturbed until the time is over."""

    def __init__(self, project: Project, launcher: str, until: float) -> None:
        self.project, self.launcher, self.until = project, launcher, until
        self.rng = random.Random(launcher)
        self.killed: Counter[str] = Counter()
        self.commands = self.sweeps = 0

    def sweep(self) -> Path:
        """Repeat one command, and nothing else, until it succeeds; returns its outputs."""
        self.sweeps += 1
        outputs = self.project.folder / f"{self.launcher}_{self.sweeps}"
        words = self.project.sweep_arguments(*SWEEP, f"outputs={outputs}", launcher=self.launcher, tracking=True)
        left = REPEATS
        while True:
            self.commands += 1
            log = self.project.folder / f"command_{self.commands}.log"
            disturbed = time.monotonic() < self.until
            code = self._carry_out(words, log)
            if code == 0:
                return outputs
            left -= not disturbed
            assert left > 0, log.read_text()

    def _carry_out(self, words: list[str], log: Path) -> int:
        with log.open("w") as file:
            process = self.project.start(*words, stdout=file)
        while process.poll() is None:
            try:
                process.wait(timeout=self.rng.uniform(0.2, PAUSE_S))
            except subprocess.TimeoutExpired:
                if time.monotonic() < self.until:
                    self._kill_one()
        return process.returncode

    def _kill_one(self) -> None:
        """Of a random kind a random one, if there is one, without warning."""
        (kind,) = self.rng.choices([*WEIGHTS], [*WEIGHTS.values()])
        if numbers := sorted(number for found, number in processes(self.project.folder) if found == kind):
            with suppress(ProcessLookupError):  # it ended meanwhile
                os.kill(self.rng.choice(numbers), signal.SIGKILL)
                self.killed[kind] += 1


@pytest.mark.parametrize("launcher", ["local", "slurm"])
def test_random_kills_leave_every_journal_and_stored_value_as_undisturbed(
    project: Project, launcher: str, request: pytest.FixtureRequest
) -> None:
    if launcher == "slurm":
        request.getfixturevalue("slurm")
    project.succeed(*SWEEP, "outputs=undisturbed", launcher="local")
    expected = {path.parent.name: journals(path.parent) for path in project.folder.glob("undisturbed/*/config.yaml")}
    assert len(expected) == 3
    soak = Soak(project, launcher, time.monotonic() + 60 * MINUTES / 2)
    while soak.sweeps == 0 or time.monotonic() < soak.until:
        outputs = soak.sweep()
        until(lambda: not processes(project.folder), "the end of every process")
        runs = sorted(path.parent for path in outputs.glob("*/config.yaml"))
        assert {run.name: journals(run) for run in runs} == expected
        database = outputs / "mlflow.db"
        assert stored(database) == journalled(runs)
        assert statuses(database) == [("FINISHED", "completed")] * len(runs)
    killed = ", ".join(f"{count} {kind}s" for kind, count in sorted(soak.killed.items()))
    print(f"\n{launcher}: {soak.sweeps} sweeps, {soak.commands} commands; killed: {killed}")
