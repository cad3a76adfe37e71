"""A training with augmentation: what it is resumed, evaluated and summed up as."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from augmented import AUGMENTED, STEPS
from support import Compose, train

from ncexp.config import check, stored_run
from ncexp.measure.snapshot import load_snapshot
from ncexp.record import read_run
from ncexp.training import Interrupted, assemble, build_dataset, load_weights


def test_training_stopped_at_any_step_goes_on_to_the_same_bytes(composed: Compose, tmp_path: Path) -> None:
    expected = train(composed(base=AUGMENTED))
    training = assemble(check(composed(base=AUGMENTED))).training
    left = [3, 1, 6, 2]

    def stop() -> bool:
        left[0] -= 1
        return left[0] == 0

    while True:
        try:
            training.run_epoch(stop)
        except Interrupted:
            state, position = training.network.state_dict(), training.position
            optimizer = training.optimizer.state_dict()
            training = assemble(check(composed(base=AUGMENTED))).training
            training.network.load_state_dict(state)
            training.optimizer.load_state_dict(optimizer)
            training.position = position
            left = left[1:] or [0]
        if training.position.epoch > 4:
            break
    kept = assemble(check(composed(base=AUGMENTED))).training.network
    load_weights(expected.checkpoint(4), kept, expected.key)
    for name, value in training.network.state_dict().items():
        assert torch.equal(value, kept.state_dict()[name]), name


def test_evaluated_images_are_plain(composed: Compose) -> None:
    directory = train(composed(base=AUGMENTED))
    config = stored_run(read_run(directory.path).raw)
    data, network = build_dataset(config), assemble(config, trains=False).training.network.eval()
    load_weights(directory.checkpoint(4), network, directory.key)
    for name, split in load_snapshot(directory.snapshot(4), directory.key).splits.items():
        examples = data.splits[name]
        with torch.no_grad():
            logits, features = network(examples.inputs)
        assert split.error == float((logits.argmax(1) != examples.labels).double().mean())
        means = torch.stack([features[examples.labels == label].double().mean(0) for label in range(10)])
        # features of float32 passes of other batch sizes
        torch.testing.assert_close(split.of_classes.class_means, means, rtol=1e-5, atol=1e-6)


def test_fit_is_of_soft_labels_and_of_the_class_of_the_larger_part(composed: Compose) -> None:
    whole = [*STEPS, "batch_size=120", "architecture.batch_norm=false", "dataset.augment=[{mixup:{alpha:5.0}}]"]
    training = assemble(check(composed(base=whole))).training
    assert training.augmentation is not None
    ((inputs, soft),) = training.augmentation.batches(1, 120, training._order(1))
    with torch.no_grad():
        logits = training.network(inputs)[0]
    summary = training.run_epoch(lambda: False)
    assert float(soft.max(1).values.min()) < 0.9
    # sums of 1200 float32 terms
    assert summary["fit/loss"] == pytest.approx(float((logits - soft).double().square().sum()) / 240, rel=1e-5)
    assert summary["fit/error"] == float((logits.argmax(1) != soft.argmax(1)).double().mean())


def test_zero_error_epoch_is_that_of_the_plain_images(composed: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    """Found whatever the running error is, which is of other images: here of some that are cut out wholly."""
    few = [one for one in STEPS if not one.startswith(("optimizer", "evaluate_at", "epochs"))]
    few += ["dataset.examples_per_class=3", "batch_size=30", "optimizer=adam", "optimizer.lr=0.02", "epochs=60"]
    few += ["architecture.hidden=[64,32]", "architecture.batch_norm=false", "dataset.augment=[{cutout:{length:8}}]"]
    monkeypatch.setattr("ncexp.measure.recorded_training.NEAR_ZERO_ERROR", 0.01)

    def zero_error(folder: str, evaluated: list[int]) -> int:
        raw = composed(f"evaluate_at={evaluated}", base=few)
        run = read_run(train({**raw, "outputs": f"{raw['outputs']}/{folder}"}).path)
        return min(int(record["epoch"]) for record in run.records if record.get("train/error") == 0)

    assert zero_error("last", [60]) == zero_error("all", [*range(1, 61)]) < 60
