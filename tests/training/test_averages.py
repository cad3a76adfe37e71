"""Averaged weights against torch's own and NumPy's mean; evaluated and kept in place of the trained ones; resumed."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from any_optimizer import CLOSED, training
from support import TRAINING, Compose, journals, train
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ncexp.config import ConfigError, Steps, check
from ncexp.measure import subject_of
from ncexp.record.quantities import OF_TRAINED, find
from ncexp.training import Interrupted, Training, assemble, load_resume, load_weights, save_resume
from ncexp.training.averages import Averages

DECAY, EPOCHS = 0.9, 4
EMA, SWA = Steps(average="ema", average_decay=DECAY), Steps(average="swa", average_from=0.5)
#: The mean of a few float32 numbers in float32 and in float64.
ROUNDING = 1e-6
QUIET = ["tracking.enabled=false", "analysis=[collapse]", "keep.checkpoints=evaluated"]


def averaged(steps: Steps) -> Training:
    ours = training(steps)
    ours.averages = Averages(ours.network, steps, EPOCHS)
    return ours


def means(ours: Training) -> dict[str, Tensor]:
    assert ours.averages is not None
    with ours.averages.in_place():
        return {name: tensor.clone() for name, tensor in ours.network.state_dict().items()}


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


def test_ema_equals_torchs_own_after_every_step_bit_by_bit() -> None:
    ours, plain = averaged(EMA), training(Steps())
    theirs = AveragedModel(plain.network, multi_avg_fn=get_ema_multi_avg_fn(DECAY))
    running: list[Tensor] = []
    normal: Any = plain.network.body[1]  # type: ignore[index]

    def after_step(*_: Any) -> None:
        theirs.update_parameters(plain.network)
        seen = normal.running_mean.clone()
        running[:] = [seen if not running else running[0].lerp(seen, 1 - DECAY)]

    plain.optimizer.register_step_post_hook(after_step)
    for one in (ours, plain):
        for _ in range(2):
            one.run_epoch(lambda: False)
    found = means(ours)
    for name, parameter in theirs.module.named_parameters():
        assert torch.equal(found[name], parameter.detach()), name
    assert torch.equal(found["body.1.running_mean"], running[0])
    assert int(found["body.1.num_batches_tracked"]) == 6
    assert_same(ours.network.state_dict(), plain.network.state_dict())  # the training never sees the means
    assert not torch.equal(found["classifier.weight"], ours.network.state_dict()["classifier.weight"])


def test_swa_is_the_mean_of_the_weights_after_the_last_epochs() -> None:
    ours, ends = averaged(SWA), list[dict[str, Any]]()
    for epoch in range(1, EPOCHS + 1):
        ours.run_epoch(lambda: False)
        state = {name: tensor.double().numpy().copy() for name, tensor in ours.network.state_dict().items()}
        ends.append(state)
        if epoch <= 2:  # not more than half of the epochs: the weights themselves
            assert_same(means(ours), {**ours.network.state_dict()})
    for name, mean in means(ours).items():
        if mean.is_floating_point():
            expected = np.mean([state[name] for state in ends[2:]], axis=0)
            assert float(np.abs(mean.double().numpy() - expected).max()) < ROUNDING


def test_network_has_its_own_weights_again_after_a_failure() -> None:
    ours = averaged(EMA)
    ours.run_epoch(lambda: False)
    before = {name: tensor.clone() for name, tensor in ours.network.state_dict().items()}
    assert ours.averages is not None
    held = ours.averages.in_place()
    held.__enter__()
    assert not torch.equal(before["classifier.weight"], ours.network.state_dict()["classifier.weight"])
    assert not held.__exit__(RuntimeError, RuntimeError(), None)
    assert_same(before, {**ours.network.state_dict()})


@pytest.mark.parametrize("steps", [EMA, SWA])
@pytest.mark.parametrize("stop", [1, 2, 5, 8, 11])  # of three steps an epoch
def test_averages_resumed_at_any_step_equal_uninterrupted_ones(steps: Steps, stop: int, tmp_path: Path) -> None:
    whole, stopped, resumed, path = averaged(steps), averaged(steps), averaged(steps), tmp_path / "resume"
    for _ in range(EPOCHS):
        whole.run_epoch(lambda: False)
    done = itertools.count(1)
    for _ in range((stop - 1) // 3):
        stopped.run_epoch(lambda: next(done) == stop)
    with pytest.raises(Interrupted):
        stopped.run_epoch(lambda: next(done) == stop)
    assert stopped.averages is not None
    save_resume(path, stopped.network, stopped.optimizer, stopped.position, TRAINING, stopped.averages.tensors())
    resumed.position = load_resume(path, resumed.network, resumed.optimizer, TRAINING, resumed.averages)
    while resumed.position.epoch <= EPOCHS:
        resumed.run_epoch(lambda: False)
    assert_same(means(resumed), means(whole))


def loss_of(network: nn.Module, assembly: Any) -> float:
    data = assembly.dataset.train
    with torch.no_grad():
        return float(assembly.training.loss(network.eval()(data.inputs)[0], data.labels, None))


@pytest.mark.parametrize("choice", ["average=ema", "average=swa"])
def test_run_is_evaluated_on_the_averaged_weights_and_keeps_them(composed: Compose, choice: str) -> None:
    more = ["optimizer.average_decay=0.9"] if "ema" in choice else ["optimizer.average_from=0.0"]
    overrides = [*QUIET, "epochs=3", "evaluate_at=[1,2,3]", "batch_size=80", "optimizer.schedule.decays=0"]
    raw = composed(*overrides, f"optimizer.{choice}", *more)
    directory, config = train(raw), check(raw)
    # By hand: one step an epoch, so that both means are of the weights after epochs 1 to 3.
    twin = assemble(check(composed(*overrides)))
    expected: dict[str, Tensor] = {}
    for epoch in (1, 2, 3):
        twin.training.run_epoch(lambda: False)
        for name, tensor in twin.training.network.state_dict().items():
            share = 1.0 if epoch == 1 else 0.1 if "ema" in choice else 1 / epoch
            whole = share == 1.0 or not tensor.is_floating_point()
            expected[name] = tensor.clone() if whole else expected[name].lerp(tensor, share)
    kept = assemble(config)
    load_weights(directory.checkpoint(3), kept.training.network, config.key)
    assert_same({**kept.training.network.state_dict()}, expected)
    (errors,) = directory.measurements.glob("errors_*.jsonl")
    last = json.loads(errors.read_text().splitlines()[-1])
    assert last["train/loss"] == pytest.approx(loss_of(kept.training.network, kept), rel=ROUNDING)
    assert last["train/loss"] != pytest.approx(loss_of(twin.training.network, twin), rel=100 * ROUNDING)


@pytest.mark.parametrize("choice", ["ema", "swa"])
def test_stopped_run_with_averages_has_the_same_journals_and_weights(composed: Compose, choice: str) -> None:
    options = [*QUIET, f"optimizer.average={choice}", "optimizer.accumulate=2", "optimizer.clip_norm=0.5"]
    whole = train(composed(*options, "outputs=" + str(Path(composed()["outputs"]) / "whole")))
    raw = composed(*options)
    for stop in (2, 5, None):
        stopped = train(raw, stop_after=stop)
    assert journals(stopped.path) == journals(whole.path)
    assert stopped.checkpoint(6).read_bytes() == whole.checkpoint(6).read_bytes()


def test_averages_and_their_options_are_in_the_training_key(composed: Compose) -> None:
    choices = [
        [],
        ["optimizer.average=ema"],
        ["optimizer.average=ema", "optimizer.average_decay=0.9"],
        ["optimizer.average=swa"],
        ["optimizer.average=swa", "optimizer.average_from=0.5"],
    ]
    configs = [check(composed(*one)) for one in choices]
    assert len({config.key for config in configs}) == len(choices)
    assert [check(config.raw).steps for config in configs] == [config.steps for config in configs]
    assert check(composed("optimizer.average=ema", "optimizer.average_decay=0.999")).key == configs[1].key


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["optimizer.average=mean"], "optimizer.average: expected 'ema' or 'swa', got 'mean'"),
        (["optimizer.average=ema", "optimizer.average_decay=1.0"], "optimizer.average_decay: expected a value less"),
        (["optimizer.average=ema", "optimizer.average_decay=0.0"], "optimizer.average_decay: expected a value greater"),
        (["optimizer.average_decay=0.9"], "optimizer.average_decay: expected none without optimizer.average=ema"),
        (["optimizer.average=ema", "optimizer.average_from=0.5"], "optimizer.average_from: expected none without"),
        (["optimizer.average=ema", "regime=on_path"], "optimizer.average: expected none with regime=on_path"),
    ],
)
def test_averages_that_cannot_be_are_refused_by_name(composed: Compose, overrides: list[str], words: str) -> None:
    with pytest.raises(ConfigError) as refused:
        assemble(check(composed(*overrides, base=CLOSED)))
    assert words in str(refused.value)


def test_ridge_says_that_the_weights_are_averages(composed: Compose) -> None:
    plain, ours = (subject_of(assemble(check(composed(*more)))).ridge for more in ([], ["optimizer.average=swa"]))
    assert ours.weight == plain.weight > 0
    assert ours.convention == f"{plain.convention}; it is that of the weights that are averaged"


# Both recorded


def rows(directory: Any, name: str) -> list[dict[str, Any]]:
    (path,) = directory.measurements.glob(f"{name}_*.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_numbers_of_trained_weights_are_those_of_a_plain_run(composed: Compose) -> None:
    both = train(composed(*QUIET, "optimizer.average=ema", "analysis=[collapse,trained_weights]"))
    plain = train(composed(*QUIET))
    for ours, errors, collapse in zip(
        rows(both, "trained_weights"), rows(plain, "errors"), rows(plain, "collapse"), strict=True
    ):
        theirs = errors | collapse
        renamed = {name: f"{name.split('/')[0]}/trained/{name.split('/')[-1]}" for name in theirs if name != "epoch"}
        assert ours == {"epoch": theirs["epoch"], **{renamed[name]: theirs[name] for name in renamed}}
        assert all(find(name) is not None for name in renamed.values())
    averaged = rows(both, "collapse")[-1]
    assert averaged["train/collapse/nc1_trace"] != ours["train/trained/nc1_trace"]
    assert {row.on(split) for row in OF_TRAINED for split in row.splits} == {*ours} - {"epoch"}


def test_trained_weights_of_a_run_without_averages_are_refused(composed: Compose) -> None:
    with pytest.raises(ConfigError, match=r"analysis\.trained_weights\.averages: expected a run that trains with"):
        train(composed(*QUIET, "analysis=[trained_weights]"))
