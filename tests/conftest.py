"""What the tests share: a composed configuration, small enough to train in a second."""

from __future__ import annotations

import atexit
import gc
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

# Before torch is imported, here and in every process that a test starts: tests run in parallel, and threads of several
# processes on the same processors wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

# What takes seconds to import is imported by the fixtures: the process that only hands out the tests needs none of it.
if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.console import Console
    from support import Compose

# Importing makes millions of objects that stay. Looking for garbage among them took a third of the collection's time,
# and seconds of a test in whose time it fell.
gc.disable()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """A slow test's processes, and those of its fixtures, begin with their libraries imported, but for `cold` ones."""
    if item.get_closest_marker("slow") is None or item.get_closest_marker("cold"):
        return (yield)
    import warm

    with warm.processes():
        return (yield)


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()
    atexit.register(gc.unfreeze)  # else libraries that count their objects at the end report them all as leaked


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    return tmp_path / "outputs"


@pytest.fixture
def composed(outputs: Path) -> Compose:
    """compose("loss=cross_entropy", ...) → the plain configuration of a small run under a temporary outputs folder."""
    from support import SMALL, compose

    def build(*overrides: str, base: list[str] = SMALL) -> dict[str, Any]:
        return compose("config", [*base, f"outputs={outputs}", *overrides])

    return build


@pytest.fixture
def console() -> Console:
    """A console whose output is read with `console.file.getvalue()`."""
    from rich.console import Console

    return Console(file=io.StringIO(), width=120, highlight=False)


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of this process end without figures: those of one take two seconds."""
    for place in ("ncexp.report.run.draw_run", "ncexp.recorder.draw_run"):
        monkeypatch.setattr(place, lambda directory: [])


@pytest.fixture
def no_rendering(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are made, and their files are written, empty: to render one takes half a second."""
    from matplotlib import pyplot

    def write_empty(figure: Figure, path: Path, *others: Path) -> Path:
        for target in (path, *others):
            target.touch()
        pyplot.close(figure)
        return path

    for place in ("ncexp.report.figures.save", "ncexp.report.portraits.save", "ncexp.report.style.save"):
        monkeypatch.setattr(place, write_empty)
