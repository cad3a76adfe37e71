"""What long work says of itself."""

from __future__ import annotations

import io
import re

import pytest

from ncexp.record import counted, format_time, progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def seconds(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The clock, which a test sets."""
    now = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def work(seconds: list[float], each: float, count: int = 10) -> list[int]:
    done = []
    for item in counted(list(range(count)), "runs"):
        seconds[0] += each
        done.append(item)
    return done


def test_counted_gives_every_item_and_is_quiet_where_the_work_is_short(
    seconds: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    assert work(seconds, 0.1) == list(range(10))
    assert capsys.readouterr() == ("", "")


def test_counted_says_now_and_then_how_many_the_rate_and_the_time_left(
    seconds: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    work(seconds, 20.0)
    printed, said = capsys.readouterr()
    assert printed == ""
    lines = said.splitlines()
    assert lines[0] == "1 of 10 runs, 20 s each, 3:00 left"
    assert lines[1] == "3 of 10 runs, 20 s each, 2:20 left"  # the second came within half a minute
    assert len(lines) == 5


def test_counted_on_a_terminal_is_one_line_that_is_taken_away(
    seconds: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(progress.sys, "stderr", terminal)
    work(seconds, 4.0)
    said = terminal.getvalue()
    assert "\n" not in said
    assert said.endswith("\x1b[K")
    shown = [line for line in re.split(r"\r\x1b\[K", said) if line]
    assert shown[0] == "1 of 10 runs, 4 s each, 0:36 left"
    assert shown[-1] == "10 of 10 runs, 4 s each, 0:00 left"
    assert max(map(len, shown)) < 60


def test_counted_that_is_left_early_takes_the_line_away(seconds: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(progress.sys, "stderr", terminal)
    items = counted([1, 2, 3], "runs")
    next(items)
    seconds[0] += 5
    next(items)
    items.close()  # type: ignore[attr-defined]
    assert terminal.getvalue().endswith("\x1b[K")


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.4, "0:00"), (59.6, "1:00"), (3599, "59:59"), (3600, "1:00:00"), (86400 * 2 + 3, "2 days 0:00:03")],
)
def test_format_time(value: float, text: str) -> None:
    assert format_time(value) == text
