"""The central path in the record: numbers of the features themselves, a live self-check, and no run dies of it."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from rich.console import Console
from support import Compose

from ncexp.analyses.central_path import recorded_modes
from ncexp.assembly import assemble
from ncexp.collapse import class_statistics, least_squares_classifier, snr_singular_values
from ncexp.config import check
from ncexp.main import run
from ncexp.run_directory import RunDirectory

#: The same float32 features in batches of another size.
ROUNDING = 1e-9
LOSSES = ("path/loss_ls", "path/loss_nc1", "path/loss_nc23", "path/identity_residual")


def test_path_analysis_measures_the_train_features(composed: Compose) -> None:
    assembly = assemble(check(composed("analysis=[mse_decomposition,central_path]")))
    record = assembly.look()
    data, network = assembly.dataset.train, assembly.training.network
    with torch.no_grad():
        logits, features = network(next(data.batches(len(data)))[0])
    statistics = class_statistics(features, data.labels, 4)
    spectrum = snr_singular_values(statistics)
    assert [record[f"path/snr_{j}"] for j in (1, 2, 3)] == pytest.approx(spectrum.tolist(), rel=ROUNDING)
    assert record["path/snr_ratio"] == pytest.approx(float(spectrum[0] / spectrum[2]), rel=ROUNDING)
    assert record["path/rank"] == 8
    assert record["path/perp_share"] == pytest.approx(record["mse/loss_ls_perp"] / record["mse/loss"], rel=ROUNDING)
    best = least_squares_classifier(statistics, (assembly.ridge.weight, assembly.ridge.bias))
    differently = (best(features).argmax(1) != logits.argmax(1)).double().mean()
    assert record["path/decision_mismatch"] == pytest.approx(float(differently))
    assert record["path/decision_mismatch"] > 0
    assert not any(name.startswith("path/test") for name in record)


def test_path_closed_form_agrees_with_the_measured_losses_to_rounding(composed: Compose, console: Console) -> None:
    for loss in ("mse", "cross_entropy"):
        raw = composed(f"loss={loss}", "tracking.enabled=false")
        run(raw, console)
        for record in RunDirectory(check(raw).directory).journal.read():
            assert record["path/identity_residual"] < ROUNDING
            assert record["path/loss_ls"] == pytest.approx(record["path/loss_nc1"] + record["path/loss_nc23"])
            if loss == "cross_entropy":  # there λ = 0 in mse/ as well
                assert record["path/loss_nc1"] == pytest.approx(record["mse/loss_nc1"], rel=ROUNDING)


def test_path_closed_form_is_undefined_for_unequal_classes(composed: Compose) -> None:
    record = assemble(check(composed("dataset.imbalance=4.0", "batch_size=8"))).look()
    assert all(math.isnan(record[name]) for name in LOSSES)
    assert record["path/snr_3"] > 0


def test_path_without_a_spectrum_is_recorded_as_undefined_and_the_run_goes_on(
    composed: Compose, console: Console
) -> None:
    """Eight examples of four classes in eight units: Σ_W of rank 4 at most."""
    raw = composed("dataset.examples_per_class=2", "batch_size=8", "tracking.enabled=false")
    assert run(raw, console) == "completed"
    for record in RunDirectory(check(raw).directory).journal.read():
        assert math.isnan(record["path/snr_1"])
        assert math.isnan(record["path/loss_ls"])
        assert record["path/rank"] <= 4
        assert 0 <= record["path/perp_share"] <= 1


def test_path_takes_a_layer_without_bias(composed: Compose) -> None:
    assembly = assemble(check(composed()))
    assembly.training.network.classifier.bias = None  # type: ignore[assignment]
    assert assembly.look()["path/identity_residual"] < ROUNDING


def test_recorded_modes_are_all_or_evenly_spaced_with_both_ends() -> None:
    assert recorded_modes(9, 9) == list(range(1, 10))
    assert recorded_modes(3, 9) == [1, 2, 3]
    assert recorded_modes(99, 1) == [1]
    for count in range(10, 400):
        modes = recorded_modes(count, 9)
        assert (modes[0], modes[-1], len(set(modes))) == (1, count, 9)
        steps = [b - a for a, b in pairwise(modes)]
        assert max(steps) - min(steps) <= 1


def test_path_of_many_classes_keeps_the_mode_numbers(composed: Compose) -> None:
    overrides = ["dataset.num_classes=14", "dataset.num_features=16", "architecture.hidden=[32,20]"]
    record = assemble(check(composed(*overrides))).look()
    assert [name for name in record if name.startswith("path/snr_") and name != "path/snr_ratio"] == [
        f"path/snr_{j}" for j in recorded_modes(13, 9)
    ]
    assert record["path/snr_ratio"] == pytest.approx(record["path/snr_1"] / record["path/snr_13"])
    assert record["path/identity_residual"] < ROUNDING


def test_record_of_the_main_job_has_less_than_eighty_quantities(composed: Compose) -> None:
    """MLflow's chart page is unreadable beyond; fit/ has three more that a look does not know."""
    assert len(assemble(check(composed(base=[]))).look()) + 3 < 80
