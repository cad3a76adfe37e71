"""How a training ends before its last epoch: its numbers left the finite, or it was asked to stop."""

from __future__ import annotations

import signal
import threading
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Diverged(ArithmeticError):
    """A loss, a parameter or a feature became infinite or not a number."""


class Interrupted(Exception):
    """The training was asked to stop; it stands at a step boundary and can be saved."""


class StopRequest:
    """A context manager that catches SIGINT and SIGTERM while a training runs; calling it tells whether one came.

    The signal only raises a flag, which the training reads between two steps.
    A second signal meets the handler that was there before: who asks twice does not want to wait.
    """

    def __init__(self) -> None:
        self._asked = False
        self._previous: dict[int, object] = {}

    def __call__(self) -> bool:
        return self._asked

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():  # elsewhere Python allows no handlers
            self._previous = {number: signal.signal(number, self._ask) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self._asked = True
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self._previous = {}
