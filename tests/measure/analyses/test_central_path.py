"""The central path in the record: numbers of the features themselves, a live self-check, and no run dies of it."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from support import Compose, measured, subject_of

from ncexp.collapse import class_statistics, least_squares_classifier, snr_singular_values
from ncexp.config import check
from ncexp.measure.analyses.from_statistics import recorded_modes
from ncexp.record import Record
from ncexp.training import assemble

#: The same float32 features in batches of another size.
ROUNDING = 1e-9
LOSSES = ("loss_ls", "loss_nc1", "loss_nc23", "identity_residual")


def trained(composed: Compose, *overrides: str, epochs: int = 0, base: list[str] | None = None) -> Record:
    """What is measured after some epochs."""
    config = check(composed(*overrides) if base is None else composed(*overrides, base=base))
    assembly = assemble(config)
    for _ in range(epochs):
        assembly.training.run_epoch(lambda: False)
    return measured(assembly, config)


def test_path_analysis_measures_the_train_features(composed: Compose) -> None:
    config = check(composed())
    assembly = assemble(config)
    record = measured(assembly, config)
    data, network = assembly.dataset.train, assembly.training.network
    with torch.no_grad():
        logits, features = network(next(data.batches(len(data)))[0])
    statistics = class_statistics(features, data.labels, 4)
    spectrum = snr_singular_values(statistics)
    assert [record[f"train/path/snr_{j}"] for j in (1, 2, 3)] == pytest.approx(spectrum.tolist(), rel=ROUNDING)
    assert record["train/path/snr_ratio"] == pytest.approx(float(spectrum[0] / spectrum[2]), rel=ROUNDING)
    assert record["train/path/rank"] == 8
    share = record["train/mse/loss_ls_perp"] / record["train/mse/loss"]
    assert record["train/path/perp_share"] == pytest.approx(share, rel=ROUNDING)
    ridge = subject_of(assembly).ridge
    best = least_squares_classifier(statistics, (ridge.weight, ridge.bias))
    differently = (best(features).argmax(1) != logits.argmax(1)).double().mean()
    assert record["train/path/decision_mismatch"] == pytest.approx(float(differently))
    assert record["train/path/decision_mismatch"] > 0
    of_test = [name for name in record if name.startswith("test/path/")]
    assert of_test == ["test/path/decision_mismatch"]  # of the least-squares layer of the TRAIN features


@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
@pytest.mark.parametrize("epochs", [0, 1, 6])
def test_path_closed_form_agrees_with_the_measured_losses_to_rounding(
    composed: Compose, loss: str, epochs: int
) -> None:
    record = trained(composed, f"loss={loss}", epochs=epochs)
    assert record["train/path/identity_residual"] < ROUNDING
    parts = record["train/path/loss_nc1"] + record["train/path/loss_nc23"]
    assert record["train/path/loss_ls"] == pytest.approx(parts)
    if loss == "cross_entropy":  # there λ = 0 in mse/ as well
        assert record["train/path/loss_nc1"] == pytest.approx(record["train/mse/loss_nc1"], rel=ROUNDING)


def test_path_closed_form_is_undefined_for_unequal_classes(composed: Compose) -> None:
    record = trained(composed, "dataset.imbalance=4.0", "batch_size=8")
    assert all(math.isnan(record[f"train/path/{name}"]) for name in LOSSES)
    assert record["train/path/snr_3"] > 0


@pytest.mark.parametrize("epochs", [0, 3])
def test_path_without_a_spectrum_is_undefined_and_no_error(composed: Compose, epochs: int) -> None:
    """Eight examples of four classes in eight units: Σ_W of rank 4 at most."""
    record = trained(composed, "dataset.examples_per_class=2", "batch_size=8", epochs=epochs)
    assert math.isnan(record["train/path/snr_1"])
    assert math.isnan(record["train/path/loss_ls"])
    assert record["train/path/rank"] <= 4
    assert 0 <= record["train/path/perp_share"] <= 1


def test_path_takes_a_layer_without_bias(composed: Compose) -> None:
    config = check(composed())
    assembly = assemble(config)
    assembly.training.network.classifier.bias = None  # type: ignore[assignment]
    assert measured(assembly, config)["train/path/identity_residual"] < ROUNDING


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
    record = trained(composed, "dataset.num_classes=14", "dataset.num_features=16", "architecture.hidden=[32,20]")
    spectrum = [name for name in record if name.startswith("train/path/snr_") and name[-1].isdigit()]
    assert spectrum == [f"train/path/snr_{j}" for j in recorded_modes(13, 9)]
    ratio = record["train/path/snr_1"] / record["train/path/snr_13"]
    assert record["train/path/snr_ratio"] == pytest.approx(ratio)
    assert record["train/path/identity_residual"] < ROUNDING


def test_record_of_the_main_job_is_of_a_size_that_a_page_can_show(composed: Compose) -> None:
    """MLflow's chart page is unreadable far beyond; fit/ has three more that an evaluation does not know."""
    record = trained(composed, base=[])
    assert len(record.keys() - {"epoch"}) + 3 <= 110
