"""Memory that is not there: the message says what to reduce."""

from __future__ import annotations

from importlib import metadata
from typing import Any

import pytest
import torch
from rich.console import Console
from support import Compose

from ncexp.config import check
from ncexp.main import run
from ncexp.record import RunDirectory
from ncexp.training import SINGLE, environment
from ncexp.training.machine import describe_out_of_memory

#: More bytes than any machine has.
ABSURD = 2**60


def error_of_the_processors_memory() -> RuntimeError:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(ABSURD, dtype=torch.uint8)
    return caught.value


@pytest.mark.parametrize(
    "error",
    [
        error_of_the_processors_memory(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nMore."),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("CUDA error: out of memory"),
        MemoryError(),
    ],
)
def test_out_of_memory_is_recognised_in_every_form_it_takes(error: Exception) -> None:
    described = describe_out_of_memory(error, batch_size=128)
    assert described is not None
    assert "got none left at 128 examples. Reduce batch_size" in described
    assert "\n" not in described


@pytest.mark.parametrize("error", [ValueError("memory"), RuntimeError("shapes differ"), KeyboardInterrupt()])
def test_other_errors_are_not_out_of_memory(error: BaseException) -> None:
    assert describe_out_of_memory(error, batch_size=128) is None


def test_run_out_of_memory_is_failed_and_says_what_to_reduce(
    composed: Compose, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    def step(*_: Any) -> None:
        torch.empty(ABSURD, dtype=torch.uint8)

    raw = composed("tracking.enabled=false")
    monkeypatch.setattr("ncexp.training.loop.Training._step", step)
    with pytest.raises(RuntimeError, match="can't allocate memory"):
        run(raw, console)
    status = RunDirectory(check(raw).directory).status()
    assert status is not None
    assert status["state"] == "failed"
    assert "got none left at 32 examples. Reduce batch_size" in status["message"]
    assert "Reduce batch_size" in console.file.getvalue()  # type: ignore[attr-defined]


def test_environment_leaves_out_what_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    found = metadata.version

    def version(package: str) -> str:
        if package == "mlflow":
            raise metadata.PackageNotFoundError(package)
        return found(package)

    complete = environment(torch.device("cpu"), SINGLE)
    monkeypatch.setattr("ncexp.training.assembly.version", version)
    assert environment(torch.device("cpu"), SINGLE) == {n: value for n, value in complete.items() if n != "mlflow"}
    assert "mlflow" in complete
