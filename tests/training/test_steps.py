"""Clipping and accumulation against plain loops; what of them is in the key, and what is refused."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from any_optimizer import BATCH_SIZE, CLOSED, NUM_EXAMPLES, RATE, Network, data, training
from support import TRAINING, Compose
from torch import Tensor, nn

from ncexp.config import ConfigError, Steps, check
from ncexp.measure import subject_of
from ncexp.training import Interrupted, assemble, load_resume, save_resume
from ncexp.training.optimizers import linear_schedule, warmup_cosine_schedule

CLIP = 0.2
#: Sums of float32 in another order, three steps long, against weights of size 0.1 to 1.
ROUNDING = 1e-5


def by_plain_loop(order: Tensor, parts: int, clip: float | None, normalised: bool = True) -> tuple[nn.Module, float]:
    """One epoch as everybody would write it: the network, and the mean of the losses that the steps met."""
    torch.manual_seed(0)
    network, split, total = Network(normalised), data(), 0.0
    optimizer = torch.optim.SGD(network.parameters(), lr=RATE, momentum=0.9, weight_decay=0.01)
    for chosen in order.split(BATCH_SIZE):
        optimizer.zero_grad()
        for part in chosen.split(BATCH_SIZE // parts):
            loss = nn.functional.cross_entropy(network(split.inputs[part])[0], split.labels[part])
            (loss * (len(part) / len(chosen))).backward()
            total += loss.item() * len(part)
        if clip is not None:
            norm = torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None]).norm()
            for p in network.parameters():
                p.grad = p.grad * min(1.0, clip / float(norm))  # type: ignore[operator]
        optimizer.step()
    return network, total / NUM_EXAMPLES


def difference(one: nn.Module, other: nn.Module) -> float:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return max(float((a - b).abs().max()) for a, b in pairs)


@pytest.mark.parametrize("parts", [2, 4])
def test_accumulated_step_equals_a_plain_loop_over_parts_bit_by_bit(parts: int) -> None:
    ours = training(Steps(accumulate=parts))
    order = ours._order(1)
    found = ours.run_epoch(lambda: False)
    expected, loss = by_plain_loop(order, parts, None)
    assert difference(ours.network, expected) == 0.0
    assert found["fit/loss"] == pytest.approx(loss, rel=ROUNDING)


def test_accumulated_step_is_that_of_the_whole_batch_to_rounding() -> None:
    """Without batch norm; with it each part is standardised by itself, and the weights are others."""
    whole, parted = training(Steps(), normalised=False), training(Steps(accumulate=4), normalised=False)
    records = [ours.run_epoch(lambda: False) for ours in (whole, parted)]
    assert 0 < difference(whole.network, parted.network) < ROUNDING
    assert records[0] == pytest.approx(records[1], rel=ROUNDING)
    assert torch.equal(whole.wrong, parted.wrong)
    whole, parted = training(Steps()), training(Steps(accumulate=4))
    for ours in (whole, parted):
        ours.run_epoch(lambda: False)
    assert difference(whole.network, parted.network) > 100 * ROUNDING


@pytest.mark.parametrize("parts", [1, 4])
def test_clipped_step_equals_a_plain_loop_that_scales_the_gradient(parts: int) -> None:
    ours, norms = training(Steps(clip_norm=CLIP, accumulate=parts)), list[float]()

    def note(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        grads = [p.grad.flatten() for group in optimizer.param_groups for p in group["params"]]
        norms.append(float(torch.cat(grads).norm()))

    ours.optimizer.register_step_pre_hook(note)
    expected, _ = by_plain_loop(ours._order(1), parts, CLIP)
    ours.run_epoch(lambda: False)
    assert difference(ours.network, expected) < ROUNDING  # torch divides by the norm plus 1e-6
    assert max(norms) == pytest.approx(CLIP, rel=1e-4)
    assert difference(ours.network, by_plain_loop(ours._order(1), parts, None)[0]) > 100 * ROUNDING


def test_clipping_above_every_norm_changes_no_bit() -> None:
    plain, clipped = training(Steps()), training(Steps(clip_norm=1e6))
    for ours in (plain, clipped):
        ours.run_epoch(lambda: False)
    assert difference(plain.network, clipped.network) == 0.0


def key(composed: Compose, *overrides: str) -> str:
    return check(composed(*overrides)).key


def test_steps_are_in_the_training_key_and_at_their_defaults_not(composed: Compose) -> None:
    raw = composed()
    without = {name: value for name, value in raw["optimizer"].items() if name not in ("clip_norm", "accumulate")}
    assert {"clip_norm", "accumulate"} < {*raw["optimizer"]}
    assert check({**raw, "optimizer": without}).key == key(composed)
    others = [["optimizer.clip_norm=1.0"], ["optimizer.clip_norm=2.0"], ["optimizer.accumulate=2"]]
    assert len({key(composed), *(key(composed, *one) for one in others)}) == 4


def test_config_of_a_run_holds_the_steps_that_were_chosen_and_reads_back(composed: Compose) -> None:
    config = check(composed("optimizer.clip_norm=1.0", "optimizer.accumulate=4"))
    assert config.steps == Steps(clip_norm=1.0, accumulate=4)
    assert (config.raw["optimizer"]["clip_norm"], config.raw["optimizer"]["accumulate"]) == (1.0, 4)
    assert check(config.raw).key == config.key
    assert not {"clip_norm", "accumulate"} & {*check(composed()).raw["optimizer"]}


def test_option_of_these_names_stays_the_optimizers_own(composed: Compose) -> None:
    raw = composed("optimizer.clip_norm=2.0")
    raw["optimizer"] = {**raw["optimizer"], "_target_": f"{__name__}.with_its_own", "name": "own"}
    for name in ("momentum", "weight_decay", "decoupled", "decay_of"):
        del raw["optimizer"][name]
    config = check(raw)
    assert (config.optimizer.options["clip_norm"], config.steps) == (2.0, Steps())


def with_its_own(parameters: Any, *, lr: float, clip_norm: float) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=lr * clip_norm)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["optimizer.clip_norm=0"], "optimizer.clip_norm: expected a value greater than 0, got 0"),
        (["optimizer.clip_norm=-1.0"], "optimizer.clip_norm: expected a value greater than 0, got -1.0"),
        (["optimizer.accumulate=0"], "optimizer.accumulate: expected a value greater than or equal to 1, got 0"),
        (["optimizer.accumulate=5"], "optimizer.accumulate: expected a divisor of batch_size=32, got 5"),
        (["optimizer.accumulate=2", "regime=on_path"], "optimizer.accumulate: expected 1 with regime=on_path"),
        (["optimizer.accumulate=2", "optimizer=lbfgs"], "optimizer.accumulate: expected none but the default with"),
        (["optimizer.clip_norm=1.0", "optimizer=lbfgs"], "optimizer.clip_norm: expected none but the default with"),
        (["optimizer.accumulate=32"], "batch_size: expected batches of two examples at least"),
    ],
)
def test_steps_that_cannot_be_are_refused_by_name(composed: Compose, overrides: list[str], words: str) -> None:
    with pytest.raises(ConfigError) as refused:
        assemble(check(composed(*overrides, base=[*CLOSED, "architecture.batch_norm=true"])))
    assert words in str(refused.value)


def test_accumulation_of_a_loss_that_is_no_mean_is_refused(composed: Compose) -> None:
    raw = composed("optimizer.accumulate=2")
    raw["loss"] = {"name": "own", "_target_": f"{__name__}.weighted"}
    with pytest.raises(ConfigError, match=r"loss: expected a mean over the examples, .* with optimizer.accumulate"):
        assemble(check(raw))


def weighted(num_classes: int) -> Callable[..., Tensor]:
    weights = torch.arange(1.0, num_classes + 1)
    return lambda logits, labels: nn.functional.cross_entropy(logits, labels, weight=weights)


def test_ridge_says_that_gradients_are_clipped_before_the_decay(composed: Compose) -> None:
    found = [subject_of(assemble(check(composed(*more)))).ridge for more in ([], ["optimizer.clip_norm=1.0"])]
    assert dataclasses.replace(found[1], convention="") == dataclasses.replace(found[0], convention="")
    assert found[1].convention == f"{found[0].convention}; a gradient that is clipped is, before the decay joins it"


# Schedules

SCHEDULES = {
    "linear": (linear_schedule(4, last=0.1), [1, 0.775, 0.55, 0.325]),
    # A quarter of four epochs up, then half a cosine over three.
    "warmup_cosine": (
        warmup_cosine_schedule(4, warmup=0.25, begin=0.2, last=0.1),
        [0.2, 1, 0.1 + 0.9 * (1 + math.cos(math.pi / 3)) / 2, 0.1 + 0.9 * (1 + math.cos(2 * math.pi / 3)) / 2],
    ),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedule_has_the_stated_factors_and_meets_its_end(name: str) -> None:
    schedule, expected = SCHEDULES[name]
    assert [schedule(epoch) for epoch in (1, 2, 3, 4)] == pytest.approx(expected, rel=1e-12)
    assert schedule(5) == pytest.approx(0.1)
    assert schedule(1.5) == pytest.approx(0.6 if name == "warmup_cosine" else 1 - 0.9 / 8)
    assert schedule.per_step  # type: ignore[attr-defined]


def test_warmup_of_no_share_is_a_cosine_alone() -> None:
    schedule = warmup_cosine_schedule(10, warmup=0.0)
    assert [schedule(epoch) for epoch in (1, 6, 11)] == pytest.approx([1, 0.5, 0])


@pytest.mark.parametrize("name", ["linear", "warmup_cosine"])
def test_schedule_is_a_choice_and_its_rates_are_those_of_torchs_own(composed: Compose, name: str) -> None:
    """torch's LambdaLR, stepped after every batch, by the formula of the number of steps done."""
    config = check(composed(f"optimizer/schedule={name}", "optimizer.lr=0.1", "epochs=2", base=CLOSED))
    ours, rates = assemble(config).training, list[float]()
    ours.optimizer.register_step_pre_hook(lambda chosen, *_: rates.append(chosen.param_groups[0]["lr"]))
    for _ in range(2):
        ours.run_epoch(lambda: False)
    total = len(rates)

    def factor(step: int) -> float:
        done = step / total
        if name == "linear":
            return 1 - done
        if done < 0.05:
            return 0.01 + 0.99 * done / 0.05
        return 0.5 * (1 + math.cos(math.pi * (done - 0.05) / 0.95))

    theirs = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    scheduler, expected = torch.optim.lr_scheduler.LambdaLR(theirs, factor), list[float]()
    for _ in range(total):
        expected.append(theirs.param_groups[0]["lr"])
        theirs.step()
        scheduler.step()
    assert rates == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("schedule", [linear_schedule(2), warmup_cosine_schedule(2, warmup=0.6)])
def test_resumed_with_clipping_parts_and_schedule_equals_uninterrupted(schedule: Any, tmp_path: Path) -> None:
    steps, path = Steps(clip_norm=CLIP, accumulate=4), tmp_path / "resume"
    whole, stopped, resumed = (training(steps, schedule=schedule) for _ in range(3))
    record = whole.run_epoch(lambda: False)
    with pytest.raises(Interrupted):
        stopped.run_epoch(lambda: stopped.position.step == 1)
    save_resume(path, stopped.network, stopped.optimizer, stopped.position, TRAINING)
    resumed.position = load_resume(path, resumed.network, resumed.optimizer, TRAINING)
    assert resumed.run_epoch(lambda: False) == record
    assert difference(whole.network, resumed.network) == 0.0
