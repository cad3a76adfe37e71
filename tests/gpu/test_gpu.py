"""On a GPU: the CPU's numbers to rounding, the same bytes every time, steps that wait for nothing, resumption."""

from __future__ import annotations

import math
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from support import Compose, journals, measured

from ncexp.collapse import class_statistics
from ncexp.config import check
from ncexp.main import run
from ncexp.record import RunDirectory
from ncexp.training import assemble, load_weights, save_weights
from ncexp.training.loop import StepLog

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")]

GPU = "cuda"
#: A small convolutional network on 1400 images: batch norm, channels-last convolutions, a short last batch.
DIGITS = ["dataset=digits", "architecture=resnet", "optimizer=sgd_digits", "epochs=2", "evaluate_at=[1]"]
EVERYTHING = "analysis=[collapse,decisions,decomposition,central_path,layers,robustness]"
#: float32 features, summed in another order by every convolution, and what the least-squares problem makes of them.
FEATURES = {"rel": 2e-3, "abs": 1e-6}
#: The same example at a decision boundary may fall to either side: shares may differ by two of 360.
DECISIONS = {"abs": 2 / 360}
#: float64 sums of the same numbers in another order.
ROUNDING = {"rtol": 1e-12, "atol": 1e-13}


def test_class_statistics_are_the_cpus_to_rounding() -> None:
    generator = torch.Generator().manual_seed(0)
    features, labels = torch.randn(9000, 40, generator=generator), torch.randint(7, (9000,), generator=generator)
    on_cpu, on_gpu = (class_statistics(features.to(d), labels.to(d), 7).to("cpu") for d in ("cpu", GPU))
    torch.testing.assert_close(on_gpu.class_means, on_cpu.class_means, **ROUNDING)
    torch.testing.assert_close(on_gpu.within_class_covariance, on_cpu.within_class_covariance, **ROUNDING)


def test_class_statistics_are_the_same_bytes_every_time() -> None:
    generator = torch.Generator().manual_seed(0)
    features, labels = torch.randn(9000, 40, generator=generator), torch.randint(7, (9000,), generator=generator)
    found = [class_statistics(features.to(GPU), labels.to(GPU), 7) for _ in range(5)]
    assert all(one.class_means.equal(found[0].class_means) for one in found)
    assert all(one.within_class_variances.equal(found[0].within_class_variances) for one in found)


def test_every_quantity_of_a_checkpoint_is_the_cpus(composed: Compose, tmp_path: Path) -> None:
    records = {}
    for device in (GPU, "cpu"):
        config = check(composed(f"device={device}", EVERYTHING, "analysis.layers.modules=[backbone.0]", base=DIGITS))
        assembly = assemble(config)
        if device == GPU:
            for _ in range(2):
                assembly.training.run_epoch(lambda: False)
            save_weights(tmp_path / "weights", assembly.training.network, config.key, 2)
        load_weights(tmp_path / "weights", assembly.training.network, config.key)
        records[device] = measured(assembly, config)
    assert records[GPU].keys() == records["cpu"].keys()
    different = {
        name: (value, records["cpu"][name])
        for name, value in records[GPU].items()
        if value != pytest.approx(records["cpu"][name], nan_ok=True, **_tolerance(name))
    }
    assert not different


def _tolerance(name: str) -> dict[str, float]:
    return DECISIONS if name.endswith(("error", "mismatch", "not_crossed")) else FEATURES


def test_run_killed_and_started_again_ends_the_same(composed: Compose, console: Console, tmp_path: Path) -> None:
    choices = [*DIGITS, "epochs=40", f"device={GPU}", "evaluate_at=[1,5,40]", "tracking.enabled=false"]
    undisturbed = composed(f"outputs={tmp_path / 'undisturbed'}", base=choices)
    run(undisturbed, console)
    raw = composed(base=choices)
    directory = RunDirectory(check(raw).directory)
    command = [sys.executable, "-m", "ncexp", *choices, f"outputs={raw['outputs']}"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not directory.resume.exists():
        assert process.poll() is None, "the run ended before its first checkpoint"
        time.sleep(0.01)
    process.kill()
    assert process.wait() < 0
    assert run(raw, console) == "completed"
    assert "resumed" in console.file.getvalue()  # type: ignore[attr-defined]
    assert journals(directory.path) == journals(check(undisturbed).directory)


#: Relative difference of the mean loss over 11 steps that the order of sums (fp32), factors of 11 bits (tf32) and
#: of 8 bits (bf16) may make.
OF_PRECISION = {"fp32": 1e-3, "tf32": 2e-2, "bf16": 1e-1}


def first_losses(raw: dict[str, Any]) -> float:
    return assemble(check(raw)).training.run_epoch(lambda: False)["fit/loss"]


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_training_on_a_gpu_gives_the_cpus_losses_to_rounding(composed: Compose, precision: str) -> None:
    on_cpu = first_losses(composed("device=cpu", base=DIGITS))
    on_gpu = first_losses(composed(f"device={GPU}", f"precision={precision}", base=DIGITS))
    assert on_gpu == pytest.approx(on_cpu, rel=OF_PRECISION[precision])


def test_order_of_the_examples_is_the_cpus(composed: Compose) -> None:
    on_cpu, on_gpu = (assemble(check(composed(f"device={device}"))).training._order(3) for device in ("cpu", GPU))
    assert on_gpu.device.type == GPU
    assert on_gpu.cpu().equal(on_cpu)


@pytest.mark.parametrize(
    "choices",
    [
        [],
        ["precision=tf32"],
        ["precision=bf16"],
        ["loss=cross_entropy"],
        ["loss=rescaled_mse", "loss.target=1", "loss.weight=2"],
        ["architecture=resnet18", "architecture.stem=imagenet"],  # its max-pool's windows overlap
        ["architecture=densenet40"],
    ],
)
def test_same_seed_gives_same_bytes(composed: Compose, console: Console, tmp_path: Path, choices: list[str]) -> None:
    found = []
    for place in ("a", "b"):
        raw = composed(f"outputs={tmp_path / place}", f"device={GPU}", "tracking.enabled=false", *choices, base=DIGITS)
        assert run(raw, console) == "completed"
        found.append(journals(check(raw).directory))
    assert found[0] == found[1]


def test_step_waits_for_nothing(composed: Compose) -> None:
    training = assemble(check(composed(f"device={GPU}", base=DIGITS))).training
    training.run_epoch(lambda: False)  # cuDNN and the optimizer have made what they make once
    log = StepLog(100, len(training.data), torch.device(GPU))
    batches = list(training.data.batches(training.batch_size, training._order(2)))
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for inputs, labels in batches:
            training._step(inputs, labels, log)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert all(math.isfinite(loss) for loss in log.read())


def test_run_that_diverges_stops_and_names_its_step(composed: Compose, console: Console) -> None:
    raw = composed(
        f"device={GPU}",
        "tracking.enabled=false",
        "optimizer.lr=1e6",
        "optimizer/schedule=constant",
        "epochs=50",
        "architecture.batch_norm=false",
    )
    assert run(raw, console) == "diverged"
    status = RunDirectory(check(raw).directory).status()
    assert status is not None
    assert re.search(r"the loss is (nan|-?inf) in epoch \d+, step \d+$", status["message"])


def test_run_out_of_memory_is_failed_and_says_what_to_reduce(
    composed: Compose, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    def step(*_: Any) -> None:
        torch.empty(2**46, dtype=torch.uint8, device=GPU)

    raw = composed(f"device={GPU}", "tracking.enabled=false")
    monkeypatch.setattr("ncexp.training.loop.Training._step", step)
    with pytest.raises(torch.OutOfMemoryError):
        run(raw, console)
    status = RunDirectory(check(raw).directory).status()
    assert status is not None
    assert "Reduce batch_size" in status["message"]
