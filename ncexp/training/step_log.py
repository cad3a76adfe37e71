"""What the steps of an epoch met, kept where they were computed: the host reads it once, and waits for it once."""

from __future__ import annotations

import math

import torch
from torch import Tensor


class StepLog:
    """The losses of `num_steps` steps, and which of `num_examples` examples were decided wrongly, on `device`.

    Reading a number off a GPU after each step would leave it idle until the host has queued the next one. So the log
    stays on the device until `read`; meanwhile `seems_finite` goes by the latest loss that has arrived by itself.
    """

    def __init__(self, num_steps: int, num_examples: int, device: torch.device) -> None:
        self._losses = torch.zeros(num_steps, dtype=torch.float64, device=device)
        self._wrong = torch.zeros(num_examples, dtype=torch.bool, device=device)
        self._counts: list[int] = []
        self.num_seen = 0
        self._latest: _Arriving | None = None
        self._finite = True

    def add(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """One step: its mean loss, a scalar, its logits (m, C) and labels (m,)."""
        slot, last = self._losses[len(self._counts)], self.num_seen + len(labels)
        slot.copy_(loss.detach())
        torch.ne(logits.argmax(1), labels, out=self._wrong[self.num_seen : last])
        self._counts.append(len(labels))
        self.num_seen = last
        if self.seems_finite() and (self._latest is None or self._latest.has_arrived()):
            self._latest = _Arriving(slot)

    def seems_finite(self) -> bool:
        """Was every loss that has arrived a finite number? Never waits; on a CPU all have."""
        if self._latest is not None and self._latest.has_arrived():
            self._finite = self._finite and math.isfinite(self._latest.number())
        return self._finite

    def wrong(self) -> Tensor:
        """(num_seen,) bool: which of the examples, in the order of the steps, were decided wrongly."""
        return self._wrong[: self.num_seen]

    def read(self) -> list[float]:
        """Each step's loss · examples and, last, the number of wrong decisions; waits for the device."""
        losses = self._losses[: len(self._counts)].tolist()
        return [*(loss * count for loss, count in zip(losses, self._counts, strict=True)), float(self._wrong.sum())]


class _Arriving:
    """A number on its way to the host beside the device's other work; from a CPU it has none to go."""

    def __init__(self, scalar: Tensor) -> None:
        self._copy = scalar.to("cpu", non_blocking=True)  # into pinned memory: else the host would wait for it
        self._event: torch.cuda.Event | None = None
        if scalar.is_cuda:
            self._event = torch.cuda.Event()
            self._event.record(torch.cuda.current_stream(scalar.device))  # that of the copy

    def has_arrived(self) -> bool:
        return self._event is None or bool(self._event.query())

    def number(self) -> float:
        return float(self._copy)
