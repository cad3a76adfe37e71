"""The live line of a training: what of it is seen at which width, on a terminal and through a pipe."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest
from rich.console import Console

from ncexp.record import console as progress
from ncexp.report import ProgressLine

EPOCHS = 350
RECORD = {"epoch": 299, "fit/loss": 1e-3, "train/error": 0.5, "test/error": 1 / 3, "train/collapse/nc1_trace": 1e-2}
#: What a terminal is told: cursor, colour, clear.
CONTROLS = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


def shown(monkeypatch: pytest.MonkeyPatch, **options: Any) -> str:
    """All that a training writes which evaluates at epoch 299 and is at 310 after four seconds."""
    clock = iter([100.0, 100.0, 100.0, *[104.0] * 9])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    console = Console(file=io.StringIO(), **options)
    with ProgressLine(console, EPOCHS, 298) as line:
        line.epoch_done(299, 1e-3)
        line.evaluated(RECORD)
        line.epoch_done(310, 1.2e-3)
        line.evaluated(RECORD | {"epoch": 310})
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text


@pytest.mark.parametrize("width", [20, 40, 60, 80, 200])
@pytest.mark.parametrize("colour", [True, False], ids=["colour", "NO_COLOR"])
def test_live_line_keeps_total_rate_and_time_left_at_any_width(
    width: int, colour: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = {} if colour else {"NO_COLOR": "1"}
    text = shown(monkeypatch, force_terminal=True, width=width, _environ=environment)
    last = [line for line in CONTROLS.sub("", text).replace("\r", "\n").splitlines() if line.strip()][-1]
    assert "…" not in last
    assert len(last.rstrip()) <= width
    assert "epoch 310/350" in last
    assert ("0:15 left" in last) == (width > 20)  # 40 epochs of 4 s / 11
    assert ("2.75 a second" in last) == (width >= 40)
    assert ("NC1 1.0e-02" in last, "test 33.33%" in last) == (width >= 80, width >= 80)
    assert ("train error 50.00%" in last) == (width == 200)


@pytest.mark.parametrize("options", [{}, {"force_terminal": True, "_environ": {"TERM": "dumb"}}], ids=["pipe", "dumb"])
def test_pipe_gets_a_whole_line_for_each_evaluation_without_controls(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """So does a terminal that cannot go back, as within Emacs."""
    first, last = shown(monkeypatch, width=60, **options).splitlines()
    assert first == "epoch 299/350  loss 1.0e-03  train error 50.00%  test 33.33%  NC1 1.0e-02"
    assert last == first.replace("299/", "310/").replace("1.0e-03", "1.2e-03") + "  2.75 a second  0:15 left"
