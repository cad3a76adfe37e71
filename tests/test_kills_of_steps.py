"""kill -9 at random steps of a training with changed images, parts, clipping and averaged weights: the same bytes."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from augmented import AUGMENTED
from support import Compose, journals, train

from ncexp.config import check
from ncexp.record import RunDirectory, State

EPOCHS, KILLS = 24, 20
#: Four steps an epoch, and each epoch is committed.
CHOSEN = [
    *(one for one in AUGMENTED if not one.startswith(("batch_size", "epochs", "evaluate_at", "keep"))),
    "batch_size=32",
    "optimizer.accumulate=4",
    "optimizer.average=ema",
    "optimizer.average_decay=0.9",
    "optimizer.clip_norm=0.5",
    "optimizer/schedule=warmup_cosine",
    f"epochs={EPOCHS}",
    f"evaluate_at=[{','.join(map(str, range(1, EPOCHS + 1)))}]",
    "keep.checkpoints=[12,24]",
    "analysis=[collapse]",
]
#: The command, killed without warning after its n-th step.
KILLED = """
import os, signal, sys
from ncexp.training import Training
left, original = int(sys.argv.pop(1)), Training._step
def step(self, *given):
    global left
    left -= 1
    original(self, *given)
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
Training._step = step
from ncexp.__main__ import main
sys.exit(main())
"""


@pytest.mark.slow
def test_twenty_kills_at_random_steps_leave_every_byte(composed: Compose, tmp_path: Path) -> None:
    undisturbed = train(composed(f"outputs={tmp_path / 'undisturbed'}", base=CHOSEN))
    raw = composed(base=CHOSEN)
    directory, rng = RunDirectory(check(raw).directory), random.Random(0)
    command = [*CHOSEN, f"outputs={raw['outputs']}"]
    for _ in range(KILLS):
        killed = _start(command, rng.randrange(1, 7))  # of four steps an epoch: some starts get no further
        assert killed.returncode == -signal.SIGKILL, killed.stdout + killed.stderr
    assert directory.resume.exists()
    done = _start(command, 0)
    assert done.returncode == 0, done.stdout + done.stderr
    assert directory.state() is State.COMPLETED
    assert journals(directory.path) == journals(undisturbed.path)
    for epoch in (12, 24):
        assert directory.checkpoint(epoch).read_bytes() == undisturbed.checkpoint(epoch).read_bytes()
        assert directory.snapshot(epoch).read_bytes() == undisturbed.snapshot(epoch).read_bytes()


def _start(command: list[str], steps: int) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-c", KILLED, str(steps), *command]
    return subprocess.run(line, capture_output=True, text=True, check=False, env=dict(os.environ))
