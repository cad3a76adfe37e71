"""What long work says of itself."""

from __future__ import annotations

import io
import re
import sys

import pytest

from ncexp.record import console as progress
from ncexp.record import counted, format_time

#: One line up, and nothing is left there.
TAKEN_AWAY = "\x1b[1A\x1b[2K"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def seconds(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The clock, which a test sets."""
    now = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


@pytest.mark.parametrize(
    ("each", "said"),
    [
        (0.1, []),
        (20.0, ["1 of 10 runs  20 s each  3:00 left", "3 of 10 runs  20 s each  2:20 left"]),  # each half minute
    ],
)
def test_counted_gives_every_item_and_says_now_and_then_how_far_it_is(
    each: float, said: list[str], seconds: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    done = []
    for item in counted(list(range(10)), "runs"):
        seconds[0] += each
        done.append(item)
    assert done == list(range(10))
    printed, lines = capsys.readouterr()
    assert (printed, lines.splitlines()[:2], len(lines.splitlines())) == ("", said, 5 if said else 0)


@pytest.mark.parametrize("left_after", [10, 2])
def test_counted_on_a_terminal_is_one_line_that_is_taken_away(
    left_after: int, seconds: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    items = counted(list(range(10)), "runs")
    for _ in range(left_after):
        next(items)
        seconds[0] += 4
    items.close() if left_after < 10 else list(items)  # type: ignore[attr-defined]
    said = terminal.getvalue()
    assert said.endswith(TAKEN_AWAY)
    shown = [line for line in re.split(r"\x1b\[[0-9?]*[a-zA-Z]|[\r\n]", said) if line]
    assert shown[0] == "1 of 10 runs  4 s each  0:36 left"
    assert shown[-1] == ("10 of 10 runs  4 s each  0:00 left" if left_after == 10 else shown[0])
    assert max(map(len, shown)) < 60


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.4, "0:00"), (59.6, "1:00"), (3599, "59:59"), (3600, "1:00:00"), (86400 * 2 + 3, "2 days 0:00:03")],
)
def test_format_time(value: float, text: str) -> None:
    assert format_time(value) == text
