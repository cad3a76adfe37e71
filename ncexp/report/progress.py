"""What a person sees while a run trains: one live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping

from rich.console import Console
from rich.progress import Progress, ProgressColumn, Task
from rich.text import Text

from ncexp.record import Record, format_rate, format_time
from ncexp.record.quantities import NC1, leading

#: The parts of the line in reading order, and the order in which they get room.
READING = ("epoch", "loss", "train", "test", "nc1", "rate", "left")
IMPORTANCE = ("epoch", "left", "rate", "loss", "nc1", "test", "train")


class ProgressLine:
    """Epoch, loss, errors, NC1, the rate and the time left; a context manager around the training."""

    def __init__(self, console: Console, epochs: int, done: int) -> None:
        self._console = console
        self._epochs = epochs
        self._first: tuple[int, float] | None = None
        self._parts = {"epoch": f"epoch {done}/{epochs}"}
        # A dumb terminal cannot go back to the line's beginning.
        self._is_live = console.is_terminal and not console.is_dumb_terminal
        self._live = Progress(_Line(self._parts, console), console=console, disable=not self._is_live)
        self._live.add_task("")

    def __enter__(self) -> ProgressLine:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def epoch_done(self, epoch: int, loss: float) -> None:
        """Move the live line to `epoch`; loss is the epoch's training loss."""
        if self._first is None:  # the first epoch pays for warming up; the time left is reckoned from its end
            self._first = (epoch, time.monotonic())
        self._parts |= {"epoch": f"epoch {epoch}/{self._epochs}", "loss": f"loss {loss:.1e}"}
        first, began = self._first
        if epoch > first:
            each = (time.monotonic() - began) / (epoch - first)
            self._parts |= {"rate": format_rate(each), "left": f"{format_time(each * (self._epochs - epoch))} left"}

    def evaluated(self, record: Record) -> None:
        """Show the numbers of an evaluated epoch: on the live line, or as a line of its own."""
        self._parts |= {"train": f"train error {record['train/error']:.2%}", "test": f"test {record['test/error']:.2%}"}
        if (nc1 := leading(NC1).on()) in record:
            self._parts["nc1"] = f"NC1 {record[nc1]:.1e}"
        if not self._is_live:
            self._console.print(fitting(self._parts, None), soft_wrap=True, markup=False)


def fitting(parts: Mapping[str, str], width: int | None) -> str:
    """The parts of the line that there is room for in `width` columns, in reading order; None: all.

    >>> fitting({"epoch": "epoch 9/350", "left": "0:12 left", "loss": "loss 1.0e-03", "rate": "3.1 s each"}, 40)
    'epoch 9/350  3.1 s each  0:12 left'
    """
    chosen: list[str] = []
    for name in IMPORTANCE:
        longer = [parts[one] for one in READING if one in (*chosen, name) and one in parts]
        if name in parts and (width is None or len("  ".join(longer)) <= width):
            chosen.append(name)
    return "  ".join(parts[name] for name in READING if name in chosen)


class _Line(ProgressColumn):
    """The whole line, as wide as the terminal is now."""

    def __init__(self, parts: Mapping[str, str], console: Console) -> None:
        self._parts, self._console = parts, console
        super().__init__()

    def render(self, task: Task) -> Text:
        del task
        return Text(fitting(self._parts, self._console.width), no_wrap=True)
