"""What a person sees while a run trains: one live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time

from rich.console import Console
from rich.progress import Progress, TextColumn, TimeRemainingColumn

from ncexp.journal import Record


class ProgressLine:
    """Epoch, loss, errors, NC1 and the time left; a context manager around the training."""

    def __init__(self, console: Console, epochs: int, done: int) -> None:
        self._console = console
        self._epochs = epochs
        self._first: tuple[int, float] | None = None
        self._numbers = ""
        self._live = Progress(
            TextColumn("epoch {task.completed:.0f}/{task.total:.0f}"),
            TextColumn("{task.description}"),
            TimeRemainingColumn(compact=True),
            TextColumn("left"),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._live.add_task("", total=epochs, completed=done)

    def __enter__(self) -> ProgressLine:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def epoch_done(self, epoch: int, loss: float) -> None:
        """Move the live line to `epoch`; loss is the epoch's training loss."""
        if self._first is None:  # the first epoch pays for warming up; the time left is reckoned from its end
            self._first = (epoch, time.monotonic())
        self._live.update(self._task, completed=epoch, description=f"loss {loss:.1e} {self._numbers}")

    def looked(self, record: Record) -> None:
        """Show the numbers of an analysis epoch: on the live line, or as a line of its own."""
        nc1 = f" NC1 {record['train/nc1_trace']:.1e}" if "train/nc1_trace" in record else ""
        self._numbers = f"train error {record['train/error']:.2%} test {record['test/error']:.2%}{nc1}"
        if not self._console.is_terminal:
            epoch = int(record["epoch"])
            line = f"epoch {epoch}/{self._epochs}  loss {record['fit/loss']:.1e}  {self._numbers}  {self._left(epoch)}"
            self._console.print(line, soft_wrap=True)

    def _left(self, epoch: int) -> str:
        assert self._first is not None
        first, began = self._first
        if epoch == first:
            return ""
        return f"{(time.monotonic() - began) / (epoch - first) * (self._epochs - epoch):.0f} s left"
