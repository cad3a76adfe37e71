"""How a training ends before its last epoch: its numbers left the finite, or it was asked to stop."""

from __future__ import annotations

import signal
import threading
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
#: Those that reach a run in a job: SLURM sends SIGUSR2 as the warning before a time limit, SIGTERM before it kills.
JOB_SIGNALS = (*SIGNALS, signal.SIGUSR2)


class Diverged(ArithmeticError):
    """A loss, a parameter or a feature became infinite or not a number."""


class Interrupted(Exception):
    """The training was asked to stop; it stands at a step boundary and can be saved."""


class StopRequest:
    """A context manager that catches signals while a training runs; calling it returns whether one came.

    A signal only raises a flag, which the training reads between two steps. `received` lists those that came.
    A second signal meets the handler that was there before: who asks twice does not want to wait. Where `patient`, it
    does not: clusters send several, and send the one that cannot be caught when they mean it.
    """

    def __init__(self, signals: tuple[signal.Signals, ...] = SIGNALS, patient: bool = False) -> None:
        self._signals = signals
        self._patient = patient
        self._previous: dict[int, object] = {}
        self.received: list[int] = []

    def __call__(self) -> bool:
        return bool(self.received)

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():  # elsewhere Python allows no handlers
            self._previous = {number: signal.signal(number, self._ask) for number in self._signals}
            signal.pthread_sigmask(signal.SIG_UNBLOCK, self._signals)  # a parent may have held them back until now
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.received.append(number)
        if not self._patient:
            self._restore()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self._previous = {}
