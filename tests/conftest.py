"""What the tests share: a composed configuration, small enough to train in a second."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Before torch is imported, here and in every process that a test starts: tests run in parallel, and threads of several
# processes on the same processors wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from rich.console import Console
from support import SMALL, Compose, compose
from xdist.scheduler import LoadScopeScheduling

#: Files whose slow tests one process runs: they share a cluster of two processors, or a run that takes minutes, or
#: start many processes, which would keep the servers of another test from responding in time.
TOGETHER = {
    **dict.fromkeys(("test_slurm", "test_slurm_faults", "test_soak", "test_measuring", "test_doctor"), "cluster"),
    "test_uploader": "servers",
    "test_main_job": "main job",
}


class Groups(LoadScopeScheduling):
    """Which tests one process runs: the quick ones of a file, which share what it makes; the slow ones of TOGETHER.

    Not by pytest-xdist's own marks: with pytest 9.2 it loses them, and every test was a group.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        if "not slow" in self.config.option.markexpr:
            return file
        return TOGETHER.get(Path(file).stem, nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Groups:
    return Groups(config, log)


@pytest.fixture(scope="session", autouse=True)
def uploader_closed() -> Iterator[None]:
    """What sends the numbers of runs that this process trains ends when its pipe is closed."""
    yield
    if module := sys.modules.get("ncexp.tracking.uploader"):  # imported where a test tracks a run
        for process in module._running.values():
            process.communicate()


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    return tmp_path / "outputs"


@pytest.fixture
def composed(outputs: Path) -> Compose:
    """compose("loss=cross_entropy", ...) → the plain configuration of a small run under a temporary outputs folder."""

    def build(*overrides: str, base: list[str] = SMALL) -> dict[str, Any]:
        return compose("config", [*base, f"outputs={outputs}", *overrides])

    return build


@pytest.fixture
def console() -> Console:
    """A console whose output is read with `console.file.getvalue()`."""
    return Console(file=io.StringIO(), width=120, highlight=False)
