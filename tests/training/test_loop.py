"""The training loop against a plain one: the same numbers, order and rates; nothing waited for, nothing that grows."""

from __future__ import annotations

import gc
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from support import TRAINING, measured, slow, subject_of
from torch import Tensor, nn

from ncexp.architectures.resnet import resnet
from ncexp.config import ConfigError, check
from ncexp.datasets import Split
from ncexp.measure import evaluate
from ncexp.training import (
    Diverged,
    Interrupted,
    Position,
    Training,
    assemble,
    load_resume,
    loop,
    objective_of,
    save_resume,
)
from ncexp.training.losses import MSE, CrossEntropy
from ncexp.training.optimizers import constant_schedule

NUM_CLASSES, NUM_EXAMPLES, BATCH_SIZE, RATE = 3, 50, 16, 0.05
#: float32 sums of a small network in another order, two epochs long; the same with products of 8 significant bits.
ROUNDING, BFLOAT16 = 1e-4, 5e-2


def examples(device: str = "cpu") -> Split:
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(NUM_EXAMPLES, 1, 8, 8, generator=generator)
    return Split(images.to(device), (torch.arange(NUM_EXAMPLES) % NUM_CLASSES).to(device))


def training(data: Split, layout: torch.memory_format = torch.channels_last, **options: Any) -> Training:
    torch.manual_seed(0)
    network: nn.Module = resnet((1, 8, 8), NUM_CLASSES, width=4).to(data.labels.device, memory_format=layout)  # type: ignore[call-overload]
    parts: dict[str, Any] = {"loss": MSE(NUM_CLASSES), "seed": 0, "batch_size": BATCH_SIZE} | options
    parts = {"schedule": constant_schedule(2), **parts, "loss": objective_of(parts["loss"])}
    optimizer = torch.optim.SGD(network.parameters(), lr=RATE, momentum=0.9, weight_decay=5e-4)
    return Training(network, optimizer=optimizer, data=data, position=Position(), **parts)


def plain_losses(of: Training, epochs: int) -> list[float]:
    """Mean loss of each epoch, by the loop that everybody would write, on a network of its own that `of` never sees."""
    twin = training(of.data)  # type: ignore[arg-type]
    network, optimizer, means = twin.network, twin.optimizer, []
    for epoch in range(1, epochs + 1):
        total = 0.0
        for chosen in of._order(epoch).split(BATCH_SIZE):
            logits, features = network(of.data.inputs[chosen])  # type: ignore[attr-defined]
            loss = of.loss(logits, of.data.labels[chosen], features)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(chosen)
        means.append(total / NUM_EXAMPLES)
    return means


def losses(of: Training, epochs: int = 2) -> list[float]:
    return [of.run_epoch(lambda: False)["fit/loss"] for _ in range(epochs)]


def test_run_epoch_equals_the_plain_loop_bit_by_bit() -> None:
    ours = training(examples())
    assert losses(ours) == plain_losses(ours, 2)


def test_run_epoch_counts_and_names_the_wrong_decisions_of_the_steps() -> None:
    ours, wrong = training(examples()), list[int]()
    forward, order = ours.network.forward, ours._order(1).split(BATCH_SIZE)

    def counted(inputs: Tensor) -> Any:
        logits, features = forward(inputs)
        chosen = next(batches)
        wrong.extend(int(i) for row, i in zip(logits, chosen, strict=True) if row.argmax() != i % NUM_CLASSES)
        return logits, features

    batches = iter(order)
    ours.network.forward = counted  # type: ignore[method-assign]
    assert ours.run_epoch(lambda: False)["fit/error"] == len(wrong) / NUM_EXAMPLES > 0
    assert ours.wrong.tolist() == wrong


@pytest.mark.parametrize(
    ("options", "tolerance"),
    [
        ({"layout": torch.contiguous_format}, ROUNDING),
        ({"precision": "bf16"}, BFLOAT16),
        slow({"compiled": True}, ROUNDING),  # compiles C++ for half a minute
    ],
)
def test_run_epoch_other_ways_give_the_same_losses_to_rounding(options: dict[str, Any], tolerance: float) -> None:
    ours, other = losses(training(examples())), losses(training(examples(), **options))
    assert other == pytest.approx(ours, rel=tolerance)
    assert other != ours  # it is another way


def test_bf16_keeps_weights_gradients_losses_and_evaluations_in_float32(composed: Any) -> None:
    assembly = assemble(check(composed("precision=bf16")))
    loss, taken = assembly.training.loss, set()

    def noted(logits: Tensor, labels: Tensor, features: Tensor, layer: Any) -> Tensor:
        taken.update({logits.dtype, features.dtype, layer.weight.dtype})
        return loss(logits, labels, features, layer)

    assembly.training.loss = noted  # type: ignore[assignment]
    assembly.training.run_epoch(lambda: False)
    assert taken == {torch.float32}
    parameters = list(assembly.training.network.parameters())
    assert {p.dtype for p in parameters} == {p.grad.dtype for p in parameters if p.grad is not None} == {torch.float32}
    seen: set[torch.dtype] = set()
    assembly.training.network.classifier.register_forward_hook(lambda *call: seen.add(call[2].dtype))  # type: ignore[operator,union-attr]
    evaluate(subject_of(assembly), 1, {})
    assert seen == {torch.float32}
    assembly.training.run_epoch(lambda: False)
    assert torch.bfloat16 in seen


def test_precision_tf32_is_refused_where_there_is_none(composed: Any) -> None:
    with pytest.raises(ConfigError, match="expected fp32 or bf16 with device=cpu, got tf32"):
        check(composed("precision=tf32", "device=cpu"))
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="expected fp32 or bf16 on cpu, got tf32"):
            assemble(check(composed("precision=tf32")))


@pytest.mark.parametrize("name", ["cudnn", "cuda.matmul"])
def test_precision_fp32_switches_off_what_torch_switches_on(composed: Any, name: str) -> None:
    backend = torch.backends.cudnn if name == "cudnn" else torch.backends.cuda.matmul
    backend.allow_tf32 = True
    assemble(check(composed()))
    assert not backend.allow_tf32


class Late:
    """What `_Arriving` is on a GPU: a number that arrives some polls later."""

    polls = 4

    def __init__(self, scalar: Tensor) -> None:
        self.scalar = scalar

    def has_arrived(self) -> bool:
        self.polls -= 1
        return self.polls < 0

    def number(self) -> float:
        return float(self.scalar)


class Never(Late):
    polls = 10**9


@pytest.mark.slow
@pytest.mark.parametrize("loss", [MSE(NUM_CLASSES), CrossEntropy(NUM_CLASSES)])
def test_step_reads_no_number_from_the_device(loss: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The meta device has shapes and no numbers: whatever wants to read one fails."""
    monkeypatch.setattr(loop, "_Arriving", Never)
    ours = training(examples("meta"), loss=loss)
    log = loop.StepLog(4, NUM_EXAMPLES, torch.device("meta"))
    for inputs, labels in ours.data.batches(BATCH_SIZE, torch.arange(NUM_EXAMPLES, device="meta")):
        ours._step(inputs, labels, log)
    assert ours.position.step == 4
    with pytest.raises(Exception, match="meta"):
        log.read()


def broken_at(step: int) -> Any:
    """A loss that is infinite at the step-th call, and not a number after it."""
    factors = iter([1.0] * (step - 1) + [math.inf])
    return lambda logits, labels: logits.sum() * next(factors, math.nan)


@pytest.mark.parametrize(
    ("arrival", "step", "steps"), [(None, 2, [2]), (Late, 1, range(2, NUM_EXAMPLES // 5)), (Never, 1, [10])]
)
def test_non_finite_loss_stops_the_epoch_once_it_is_known_and_is_named(
    arrival: Any, step: int, steps: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    if arrival:
        monkeypatch.setattr(loop, "_Arriving", arrival)
    ours = training(examples(), loss=broken_at(step), batch_size=5)
    with pytest.raises(Diverged, match=rf"the loss is -?inf in epoch 1, step {step}$"):
        ours.run_epoch(lambda: False)
    assert ours.position.step in steps
    with pytest.raises(Diverged, match=r"step 1$"):  # also where the epoch is left
        training(examples(), loss=broken_at(1)).run_epoch(lambda: True)


def test_stopped_and_resumed_epoch_equals_a_whole_one() -> None:
    whole, ours = training(examples()), training(examples())
    for _ in range(NUM_EXAMPLES // BATCH_SIZE):
        with pytest.raises(Interrupted):
            ours.run_epoch(lambda: True)
    assert ours.run_epoch(lambda: False) == whole.run_epoch(lambda: False)


@pytest.mark.slow
def test_memory_does_not_grow_with_epochs(composed: Any) -> None:
    def held() -> int:
        gc.collect()
        tensors = [o for o in gc.get_objects() if issubclass(type(o), Tensor)]
        return sum(o.untyped_storage().nbytes() for o in tensors if o is not assembly.training.wrong)  # it shrinks

    config = check(composed())
    assembly = assemble(config)
    for epoch in range(7):
        assembly.training.run_epoch(lambda: False)
        measured(assembly, config)
        if epoch == 1:
            after_two = held()
    assert held() == after_two


# The order of the examples, and the learning rates.


def test_order_is_a_permutation_that_seed_and_epoch_determine() -> None:
    first, other_seed = (training(examples(), seed=seed) for seed in (0, 1))
    order = first._order(1)
    assert order.sort().values.tolist() == list(range(NUM_EXAMPLES))
    assert order.equal(first._order(1))
    assert not order.equal(first._order(2))
    assert not order.equal(other_seed._order(1))


def test_order_is_drawn_on_the_cpu_for_data_on_any_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each device has a generator of its own kind: a run resumed on another one would meet some examples twice."""
    drawn, randperm, ours = [], torch.randperm, training(examples())
    expected = ours._order(1)
    ours.data = ours.data.to(torch.device("meta"))  # has shapes and no numbers, and no generator
    monkeypatch.setattr(torch, "randperm", lambda *given, **more: drawn.append(randperm(*given, **more)) or drawn[-1])
    assert ours._order(1).device.type == "meta"
    assert drawn[0].equal(expected)


def warm_up(epochs: float) -> float:
    return epochs / 4


warm_up.per_step = True  # type: ignore[attr-defined]


def with_rates() -> tuple[Training, list[float]]:
    """A training whose rate changes at every step, and the rates of its steps."""
    ours, rates = training(examples(), schedule=warm_up), list[float]()
    ours.optimizer.register_step_pre_hook(lambda chosen, *_: rates.append(chosen.param_groups[0]["lr"]))
    return ours, rates


def test_per_step_schedule_is_called_with_the_epochs_done_plus_one() -> None:
    ours, rates = with_rates()
    summaries = [ours.run_epoch(lambda: False) for _ in range(2)]
    steps = math.ceil(NUM_EXAMPLES / BATCH_SIZE)
    assert rates == pytest.approx([RATE * (1 + step / steps) / 4 for step in range(2 * steps)], rel=1e-15)
    assert [summary["fit/lr"] for summary in summaries] == [rates[0], rates[steps]]  # of the epoch's first step


def test_per_step_rates_of_a_resumed_epoch_are_as_uninterrupted(tmp_path: Path) -> None:
    (whole, expected), (stopped, first), (resumed, rest) = with_rates(), with_rates(), with_rates()
    whole.run_epoch(lambda: False)
    with pytest.raises(Interrupted):
        stopped.run_epoch(lambda: len(first) == 2)
    save_resume(tmp_path / "resume", stopped.network, stopped.optimizer, stopped.position, TRAINING)
    resumed.position = load_resume(tmp_path / "resume", resumed.network, resumed.optimizer, TRAINING)
    resumed.run_epoch(lambda: False)
    assert first + rest == expected
    assert torch.equal(resumed.network.classifier.weight, whole.network.classifier.weight)  # type: ignore[arg-type, union-attr]
