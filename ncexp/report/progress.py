"""What a person sees while a run trains: epoch, loss, errors, NC1, the rate and the time left."""

from __future__ import annotations

from rich.console import Console

from ncexp.record import Progress, Record
from ncexp.record.quantities import NC1, leading


class ProgressLine(Progress):
    """The line of a training of so many epochs, of which `done` are trained."""

    def __init__(self, console: Console, epochs: int, done: int) -> None:
        super().__init__(epochs, "epoch {}/{}", console, done)

    def epoch_done(self, epoch: int, loss: float) -> None:
        """Move the line to `epoch`; loss is the epoch's training loss."""
        self.show(epoch, loss=f"loss {loss:.1e}")

    def evaluated(self, record: Record) -> None:
        """Show the numbers of an evaluated epoch: on the live line, or as a line of its own."""
        numbers = {"train": f"train error {record['train/error']:.2%}", "test": f"test {record['test/error']:.2%}"}
        if (nc1 := leading(NC1).on()) in record:
            numbers["nc1"] = f"NC1 {record[nc1]:.1e}"
        self.show(int(record["epoch"]), line=True, **numbers)
