"""Measuring on a GPU: every quantity of a checkpoint as on the CPU; a killed run ends as an undisturbed one."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from rich.console import Console
from support import Compose, journals, measured

from ncexp.collapse import class_statistics
from ncexp.config import check
from ncexp.main import run
from ncexp.record import RunDirectory
from ncexp.training import assemble, load_weights, save_weights

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")]

GPU = "cuda"
DIGITS = ["dataset=digits", "architecture=resnet", "optimizer=sgd_digits", "epochs=3", "evaluate_at=[1]"]
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
