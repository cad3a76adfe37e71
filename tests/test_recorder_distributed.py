"""A loop of one's own on two processes: one writer, each example once, and the training as it was."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from own_loops import NUM_CLASSES, examples, network
from torch.utils.data import DataLoader

import ncexp
from ncexp.record import State, read_run

SCRIPT = Path(__file__).parent / "helpers" / "own_loop_on_two.py"
#: float32 features in other batches, sums of two processes.
ROUNDING = 1e-5


def run(folder: Path, loaders: str) -> Path:
    folder.mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    meet = ["--nproc-per-node", "2", "--master-addr", "127.0.0.1", "--master-port", str(port)]
    command = [sys.executable, "-m", "torch.distributed.run", *meet, str(SCRIPT), str(folder), loaders]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
def test_two_processes_record_what_one_would_and_train_as_without(tmp_path: Path) -> None:
    without = run(tmp_path / "without", "shared")
    for loaders in ("shared", "complete"):
        folder = run(tmp_path / loaders, loaders)
        for rank in (0, 1):
            weights = [torch.load(one / f"weights_{rank}.pt") for one in (without, folder)]
            assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
        first, second = (torch.load(folder / f"found_2_{rank}.pt") for rank in (0, 1))
        assert first == pytest.approx(second, nan_ok=True, abs=0, rel=0)
        saved = read_run(folder / "mine")
        assert (saved.state, [one["epoch"] for one in saved.records]) == (State.COMPLETED, [1, 2])
        assert saved.facts["num_train"] == 91  # odd: a DistributedSampler repeats one, a Recorder does not
        model = network()
        model.load_state_dict(torch.load(folder / "weights_0.pt"))  # the first one's batch statistics count
        alone = ncexp.Recorder(
            folder / "alone", num_classes=NUM_CLASSES, classifier="last", loss="mse", weight_decay=0.0
        ).evaluate(2, model, DataLoader(examples(91), batch_size=8))
        for name, value in alone.items():
            if "rounding" not in name and "residual" not in name:
                assert first[name] == pytest.approx(value, rel=ROUNDING, abs=ROUNDING, nan_ok=True), (loaders, name)
