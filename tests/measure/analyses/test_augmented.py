"""Training images changed as the steps change them, as a split of their own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from augmented import AUGMENTED, STEPS
from rich.console import Console
from support import Compose, measured, subject_of, train

import ncexp
from ncexp.config import ConfigError, check
from ncexp.config.composing import compose_mapping
from ncexp.main import measure
from ncexp.record.quantities import find
from ncexp.training import assemble

DRAWN = [*STEPS, "dataset.augment=[{crop:{padding:2}},flip,noise]"]


def test_numbers_are_those_of_a_loop_over_draws(composed: Compose) -> None:
    config = check(composed("evaluate_augmented=3", base=DRAWN))
    assembly = assemble(config)
    record = measured(assembly, config, epoch=2)
    subject = subject_of(assembly)
    assert subject.augmentation is not None
    network, labels = subject.network.eval(), assembly.dataset.train.labels
    decided, features = [], []
    with torch.no_grad():
        plain = network(next(assembly.dataset.train.batches(120))[0])[1].double().numpy()
        for draw in range(3):
            inputs = subject.augmentation.inputs(f"evaluated/2/{draw}", torch.arange(120))
            logits, found = network(inputs)
            decided.append(logits)
            features.append(found.double().numpy())
    logits, found, targets = torch.cat(decided), np.concatenate(features), labels.repeat(3)
    one_hot = torch.eye(10)[targets]
    assert record["train_augmented/error"] == float((logits.argmax(1) != targets).double().mean())
    # float32 sums of 3600 terms in another order, and of batches of another size
    expected = float((logits - one_hot).double().square().sum(1).mean()) / 2
    assert record["train_augmented/loss"] == pytest.approx(expected, rel=1e-5)
    assert record["train_augmented/loss"] != pytest.approx(record["train/loss"], rel=1e-3)
    means = np.stack([found[targets.numpy() == c].mean(0) for c in range(10)])
    within = np.stack([found[targets.numpy() == c] - means[c] for c in range(10)])
    ratio = np.square(within).sum(2).mean() / np.square(means - means.mean(0)).sum(1).mean()
    assert record["train_augmented/collapse/nc1_ratio"] == pytest.approx(ratio, rel=1e-5)
    centres = np.stack([plain[labels.numpy() == c].mean(0) for c in range(10)])
    nearest = np.linalg.norm(found[:, None] - centres, axis=2).argmin(1)
    mismatch = (nearest != logits.argmax(1).numpy()).mean()
    assert record["train_augmented/collapse/nearest_class_center_mismatch"] == pytest.approx(mismatch, abs=1e-12)
    assert "train_augmented/collapse/equinorm_classifier" not in record


def test_mixtures_are_left_out(composed: Compose) -> None:
    asked = (["evaluate_augmented=1", f"dataset.augment={one}"] for one in ("[flip]", "[flip,mixup]"))
    configs = [check(composed(*words, base=STEPS)) for words in asked]
    one, other = (measured(assemble(config), config) for config in configs)
    assert one["train_augmented/loss"] == other["train_augmented/loss"]


@pytest.mark.parametrize(("words", "got"), [([], "none"), (["dataset.augment=[mixup,cutmix]"], "mixtures alone")])
def test_data_that_are_not_changed_are_refused(composed: Compose, words: list[str], got: str) -> None:
    config = check(composed("evaluate_augmented=1", *words, base=STEPS))
    with pytest.raises(ConfigError, match=f"analysis.augmented.draws: expected images that .* got {got}"):
        measured(assemble(config), config)


def test_other_numbers_and_the_key_are_the_same_with_it(composed: Compose) -> None:
    plain = train(composed(base=AUGMENTED))
    asked = composed("evaluate_augmented=1", "outputs=other", base=AUGMENTED)
    asked["outputs"] = str(plain.path.parent.parent / "other")
    more = train(asked)
    assert more.path.name == plain.path.name
    for journal in [plain.training, *plain.journals()]:
        assert (more.path / journal.path.relative_to(plain.path)).read_bytes() == journal.path.read_bytes()
    assert more.checkpoint(4).read_bytes() == plain.checkpoint(4).read_bytes()


def test_stored_run_is_measured_to_the_same_rows(composed: Compose, console: Console) -> None:
    raw = composed("evaluate_augmented=2", base=DRAWN)
    directory = train(raw)
    (journal,) = directory.measurements.glob("augmented_*.jsonl")
    expected = journal.read_bytes()
    journal.unlink()

    words = [f"run={directory.path}", "device=cpu", "analysis=augmented", "analysis.augmented.draws=2"]
    assert measure(compose_mapping("measure", words), console) == "completed"
    assert journal.read_bytes() == expected


def test_rows_have_a_split_of_their_own_and_a_place_in_the_catalogue(composed: Compose) -> None:
    directory = train(composed("evaluate_augmented=1", base=DRAWN))
    frame = ncexp.load(directory.path).frame()
    there = frame[frame["split"] == "train_augmented"]
    assert {"error", "loss", "nc1_trace", "nearest_class_center_mismatch"} <= {*there["quantity"]}
    (run,) = ncexp.load(directory.path)
    for name in (one for record in run.records for one in record if "augmented" in one):
        assert find(name) is not None
