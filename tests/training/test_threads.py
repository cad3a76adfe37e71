"""threads: which number a run computes with, and that a resumed one keeps it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from support import compose
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ncexp.config import ConfigError, check
from ncexp.record import RunDirectory, write_json
from ncexp.training import assemble, machine, restore_threads, set_threads
from ncexp.training.operations import Operations


@pytest.fixture(autouse=True)
def _threads_as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def two_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda pid: {0, 1})
    monkeypatch.setattr(machine, "DEFAULT_THREADS", 2)


@pytest.mark.slow
@pytest.mark.usefixtures("two_processors")
@pytest.mark.parametrize(("architecture", "expected"), [("resnet", 1), ("resnet18", 2)])
def test_auto_is_one_thread_for_a_small_network_only(tmp_path: Path, architecture: str, expected: int) -> None:
    config = check(compose("config", [f"architecture={architecture}", "device=cpu", f"outputs={tmp_path}"]))
    training = assemble(config).training
    assert set_threads("auto", training, RunDirectory(tmp_path)) == str(expected)
    assert torch.get_num_threads() == expected
    assert training.network.training


class Attends(nn.Module):
    """Convolution, attention, a product of batches."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv1d(8, 16, 3, groups=2)
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)

    def forward(self, inputs: Tensor) -> Tensor:
        tokens = self.convolution(inputs).mT
        weighted, _ = self.attention(tokens, tokens, tokens)
        fast, _ = self.attention(tokens, tokens, tokens, need_weights=False)
        return torch.einsum("bti,bui->btu", weighted, fast)


@pytest.mark.parametrize("grad", [True, False])
def test_operations_are_those_that_torch_counts(grad: bool) -> None:
    model, inputs = Attends(), torch.randn(4, 8, 12)
    with torch.set_grad_enabled(grad), Operations() as ours, FlopCounterMode(display=False) as theirs:
        model(inputs)
    assert ours.total == theirs.get_total_flops() > 0


@pytest.mark.usefixtures("two_processors")
def test_a_run_that_has_begun_keeps_its_number(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    write_json(directory.environment, {"threads": 2})
    training = assemble(check(compose("config", ["device=cpu"]))).training
    torch.set_num_threads(1)
    assert set_threads(1, training, directory) == "2, as it began"
    assert torch.get_num_threads() == 2
    torch.set_num_threads(1)
    restore_threads(directory)
    assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("two_processors")
def test_a_machine_with_fewer_processors_is_said(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    write_json(directory.environment, {"threads": 16})
    assert "the run began with 16, which this machine lacks" in restore_threads(directory)


@pytest.mark.usefixtures("two_processors")
def test_more_threads_than_processors_are_refused() -> None:
    with pytest.raises(ConfigError, match="threads: expected at most the 2 processors of this machine, got 3"):
        assemble(check(compose("config", ["device=cpu", "threads=3"])))


def test_threads_are_not_in_the_key() -> None:
    one, two = (check(compose("config", [f"threads={count}"])) for count in (1, 2))
    assert one.key == two.key
