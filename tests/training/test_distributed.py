"""One run on two processes, by torchrun and gloo on this machine: the record of a single process, and one writer."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from augmented import AUGMENTED
from support import CLOSE, SMALL, assert_same_record, journals
from torch import nn

from ncexp.training import Processes

OVERRIDES = [
    *SMALL,
    "loss=mse",
    "optimizer.lr=0.02",
    "architecture.batch_norm=false",
    "batch_size=30",
    "device=cpu",
    "tracking.enabled=false",
]


def run(
    folder: Path, outputs: str, processes: int, *overrides: str, base: list[str] = OVERRIDES
) -> subprocess.CompletedProcess[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    meet = ["--nproc-per-node", str(processes), "--master-addr", "127.0.0.1", "--master-port", str(port)]
    torchrun = [sys.executable, "-m", "torch.distributed.run", *meet, "-m", "ncexp"]
    command = torchrun if processes > 1 else [sys.executable, "-m", "ncexp"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    arguments = [*command, *base, f"outputs={outputs}", *overrides]
    return subprocess.run(arguments, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_two_processes_write_the_record_of_one(tmp_path: Path) -> None:
    for outputs, processes in (("one", 1), ("two", 2)):
        done = run(tmp_path, outputs, processes)
        assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("completed: ") == 1  # the second process keeps quiet
    (one,), (two,) = tmp_path.glob("one/*_*"), tmp_path.glob("two/*_*")
    assert one.name == two.name
    names = list(journals(one))
    assert list(journals(two)) == names
    assert len(names) == 1 + 5  # the training, errors and four analyses
    for name in names:
        assert_same_record(one / name, two / name)
    assert json.loads((two / "environment.json").read_text())["processes"] == 2


@pytest.mark.slow
def test_two_processes_with_a_frozen_backbone_write_the_record_of_one(tmp_path: Path) -> None:
    torch.manual_seed(3)
    body = nn.Sequential(nn.Flatten(), nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 8), nn.ReLU())
    torch.save(nn.Sequential(OrderedDict(backbone=body, classifier=nn.Linear(8, 9))).state_dict(), tmp_path / "a.pt")
    for outputs, processes in (("one", 1), ("two", 2)):
        done = run(tmp_path, outputs, processes, "architecture.weights=a.pt", "architecture.freeze=backbone")
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.count("the last layer is new: 9 → 4 classes") == 1
    (one,), (two,) = tmp_path.glob("one/*_*"), tmp_path.glob("two/*_*")
    assert one.name == two.name
    for name in journals(one):
        assert_same_record(one / name, two / name)


@pytest.mark.slow
def test_two_processes_with_augmentation_write_the_record_of_one(tmp_path: Path) -> None:
    """Of a network that has learnt little the collapse is ill-conditioned: losses and errors are compared."""
    base = [*AUGMENTED, "architecture.batch_norm=false", "evaluate_augmented=1", "analysis=[]"]
    for outputs, processes in (("one", 1), ("two", 2)):
        done = run(tmp_path, outputs, processes, base=base)
        assert done.returncode == 0, done.stdout + done.stderr
    (one,), (two,) = tmp_path.glob("one/*_*"), tmp_path.glob("two/*_*")
    assert one.name == two.name
    for name in ("training.jsonl", *(str(path.relative_to(one)) for path in one.glob("measurements/errors_*.jsonl"))):
        assert_same_record(one / name, two / name)
    of_changed = [next(path.glob("measurements/augmented_*.jsonl")).read_text().splitlines() for path in (one, two)]
    for lines in zip(*of_changed, strict=True):
        ours, theirs = map(json.loads, lines)
        assert ours["train_augmented/error"] == theirs["train_augmented/error"]
        assert ours["train_augmented/loss"] == pytest.approx(theirs["train_augmented/loss"], rel=CLOSE)


@pytest.mark.slow
def test_two_processes_refuse_what_they_cannot_share(tmp_path: Path) -> None:
    done = run(tmp_path, "two", 2, "batch_size=31")
    assert done.returncode != 0
    assert "batch_size: expected a multiple of the 2 processes, got 31" in done.stderr


def test_shares_of_a_batch_are_the_batch() -> None:
    order = torch.randperm(70, generator=torch.Generator().manual_seed(0))
    shares = [Processes(rank, 3).share(order, 30).split(10) for rank in range(3)]
    for number, batch in enumerate(order.split(30)):
        parts = [share[number] for share in shares]
        assert sorted(torch.cat(parts).tolist()) == sorted(batch.tolist())
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize(
    ("batch_size", "num_examples", "message"),
    [(31, 80, "a multiple of the 2 processes, got 31"), (20, 81, "a last batch of at least 2 examples")],
)
def test_processes_refuse_batches_that_leave_one_without_examples(
    batch_size: int, num_examples: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Processes(0, 2).refuse_unequal(num_examples, batch_size)


def test_processes_refuse_batch_normalisation_without_gpus() -> None:
    network = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    with pytest.raises(ValueError, match="no batch normalisation"):
        Processes(0, 2).wrap(network)
