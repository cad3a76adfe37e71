"""A network that behaves as a test wants it to, in a package that is not ours; jobs import it by PYTHONPATH."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import time
import warnings
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor, nn


class Paced(nn.Module):
    """One hidden layer. While the file folder/hold exists a training step takes a tenth of a second, later a second.

    behaviour: calm; raise: an exception in the third step, unless folder/cured exists; killed: SIGKILL there;
    diverge: not a number there; talk: says something there in four ways, and has a child read the standard input;
    rank: an exception there in the second of two processes that share the run; fill: fills the disk of folder/outputs
    there, unless folder/cured exists; hungry: takes 2 GB of memory there and waits, unless folder/cured exists.
    """

    def __init__(
        self, input_shape: tuple[int, ...], num_classes: int, *, folder: str, behaviour: str, width: int
    ) -> None:
        super().__init__()
        self.folder, self.behaviour, self.steps = Path(folder), behaviour, 0
        self.body = nn.Sequential(nn.Linear(input_shape[0], width), nn.ReLU())
        self.classifier = nn.Linear(width, num_classes)

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        features = self.body(inputs)
        logits = self.classifier(features)
        if self.training:
            self.steps += 1
            if (self.folder / "hold").exists():
                time.sleep(0.1 if self.steps <= 30 else 1.0)
            if self.steps == 3:
                logits = self._misbehave(logits)
        return logits, features

    def _misbehave(self, logits: Tensor) -> Tensor:
        if self.behaviour == "raise" and not (self.folder / "cured").exists():
            raise RuntimeError("a bug in the third step")
        if self.behaviour == "rank" and os.environ.get("RANK") == "1":
            raise RuntimeError("a bug in the second process")
        if self.behaviour == "killed" and not (self.folder / "cured").exists():
            os.kill(os.getpid(), signal.SIGKILL)
        if self.behaviour == "fill" and not (self.folder / "cured").exists():
            self._fill_disk()
        if self.behaviour == "hungry" and not (self.folder / "cured").exists():
            self.memory = torch.ones(2_000_000_000, dtype=torch.uint8)
            time.sleep(600)
        if self.behaviour == "talk":
            self._talk(f"seed {torch.initial_seed()}")
        return logits * torch.nan if self.behaviour == "diverge" else logits

    def _fill_disk(self) -> None:
        with suppress(OSError), (self.folder / "outputs" / "filler").open("wb", buffering=0) as file:
            while file.write(bytes(4096)):
                pass

    def _talk(self, words: str) -> None:
        print("Python says", words)
        warnings.warn("a warning", stacklevel=1)
        warnings.simplefilter("ignore")  # for itself, it thinks
        ctypes.CDLL(None).printf(b"C says %s\n", words.encode())
        subprocess.run(["echo", "a child says", words], check=True)
        subprocess.run(["cat"], check=True)
