"""L-BFGS and SAM against plain loops; what a repeated evaluation leaves alone; any class by its name; resumption."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from any_optimizer import CLOSED, REFUSED, torchs
from support import TRAINING, Compose
from torch import Tensor, nn
from torch.optim import Optimizer

from ncexp.config import ConfigError, check
from ncexp.datasets import Split
from ncexp.measure import ridge_of
from ncexp.training import Interrupted, Position, Training, assemble, load_resume, objective_of, save_resume
from ncexp.training.closures import LBFGS, SAM, lbfgs
from ncexp.training.losses import CrossEntropy
from ncexp.training.optimizers import adam, constant_schedule, sgd

NUM_CLASSES, NUM_EXAMPLES, BATCH_SIZE = 3, 48, 16
RATE, RHO, DECAY = 0.05, 0.1, 0.02
#: Gradients of a decay by autograd and by hand, after two steps in float64.
SAME = 1e-9
#: What is left of a gradient whose parts are 0.01 and larger, trained to the end in float64.
AT_REST = 1e-6
#: Likewise of torch's L-BFGS, which stops where an iteration lowers the objective by less than 1e-9.
STOPPED = 1e-4


class Noisy(nn.Module):
    """Batch normalisation, whose running statistics count the passes, and dropout, which draws."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.4))
        self.classifier = nn.Linear(8, NUM_CLASSES)

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        features = self.body(inputs)
        return self.classifier(features), features


def data() -> Split:
    inputs = torch.randn(NUM_EXAMPLES, 5, generator=torch.Generator().manual_seed(1))
    return Split(inputs, torch.arange(NUM_EXAMPLES) % NUM_CLASSES)


def training(optimize: Callable[..., Optimizer], seed: int = 0, **options: Any) -> Training:
    torch.manual_seed(seed)
    network = Noisy()
    return Training(
        network=network,
        loss=objective_of(CrossEntropy(NUM_CLASSES)),
        optimizer=optimize(network.parameters()),
        data=data(),
        **{"schedule": constant_schedule(2), "batch_size": BATCH_SIZE, "seed": 0, "position": Position(), **options},
    )


def sam_of(base: Callable[..., Optimizer], **options: Any) -> Callable[..., Optimizer]:
    return lambda parameters: SAM(base(parameters), rho=RHO, **options)


def momentum(parameters: Any) -> Optimizer:
    return torch.optim.SGD(parameters, lr=RATE, momentum=0.9, weight_decay=DECAY)


def state(network: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


# SAM


@pytest.mark.parametrize("adaptive", [False, True])
def test_sam_equals_a_plain_loop_of_two_passes_bit_by_bit(adaptive: bool) -> None:
    ours = training(sam_of(momentum, adaptive=adaptive))
    torch.manual_seed(0)
    network, split, total = Noisy(), data(), 0.0
    base, loss_of = momentum(network.parameters()), nn.CrossEntropyLoss()
    for chosen in ours._order(1).split(BATCH_SIZE):
        begun = torch.get_rng_state()
        base.zero_grad()
        loss = loss_of(network(split.inputs[chosen])[0], split.labels[chosen])
        loss.backward()
        total += loss.item() * len(chosen)
        after, seen = torch.get_rng_state(), [buffer.clone() for buffer in network.buffers()]
        before = [parameter.detach().clone() for parameter in network.parameters()]
        with torch.no_grad():
            sizes = [p.abs() if adaptive else torch.ones_like(p) for p in before]
            scaled = [size * p.grad for size, p in zip(sizes, network.parameters(), strict=True)]
            norm = torch.stack([one.norm() for one in scaled]).norm()
            for size, one, p in zip(sizes, scaled, network.parameters(), strict=True):
                p += size * one * (RHO / norm)
        torch.set_rng_state(begun)
        base.zero_grad()
        loss_of(network(split.inputs[chosen])[0], split.labels[chosen]).backward()
        with torch.no_grad():
            for p, value in zip(network.parameters(), before, strict=True):
                p.copy_(value)
            for buffer, value in zip(network.buffers(), seen, strict=True):
                buffer.copy_(value)
        torch.set_rng_state(after)
        base.step()
    expected, generator = state(network), torch.get_rng_state()
    ours = training(sam_of(momentum, adaptive=adaptive))
    assert ours.run_epoch(lambda: False)["fit/loss"] == total / NUM_EXAMPLES
    assert_same(state(ours.network), expected)
    assert torch.equal(torch.get_rng_state(), generator)


def test_sam_shift_has_the_length_rho_and_points_uphill() -> None:
    layer = nn.Linear(4, 3).double()
    inputs, seen = torch.randn(10, 4, dtype=torch.float64), list[tuple[float, list[Tensor]]]()

    def closure() -> Tensor:
        layer.zero_grad()
        loss = layer(inputs).square().mean()
        loss.backward()
        seen.append((loss.item(), [parameter.detach().clone() for parameter in layer.parameters()]))
        return loss.detach()

    SAM(torch.optim.SGD(layer.parameters(), lr=RATE), rho=RHO).step(closure)
    (low, start), (high, there) = seen
    assert math.sqrt(sum(float((a - b).square().sum()) for a, b in zip(start, there, strict=True))) == pytest.approx(
        RHO
    )
    assert high > low


def test_sam_without_a_gradient_stays_where_it_is() -> None:
    weight = nn.Parameter(torch.ones(2))

    def closure() -> Tensor:
        weight.grad = torch.zeros(2)
        return torch.zeros(())

    SAM(torch.optim.SGD([weight], lr=RATE), rho=RHO).step(closure)
    assert weight.tolist() == [1, 1]


@pytest.mark.slow
def test_sam_rests_where_the_raised_gradient_meets_the_decay_at_theta() -> None:
    """A last layer is trained to the end: ∇L(θ + ε) + s λ θ = 0 there with the λ that is derived, ∇L(θ) + s λ θ not."""
    torch.manual_seed(0)
    labels = torch.arange(60) % 3
    features = torch.randn(3, 5, dtype=torch.float64)[labels] + torch.randn(60, 5, dtype=torch.float64)
    targets, layer, scale = nn.functional.one_hot(labels).double(), nn.Linear(5, 3).double(), 2 / 3
    # With a larger ρ against the decay there is no such place: it circles.
    optimizer = SAM(sgd(layer.parameters(), lr=0.1, momentum=0.0, weight_decay=0.3), rho=1e-3)
    found: list[list[Tensor]] = []

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(layer(features), targets)
        loss.backward()
        found.append([parameter.grad.clone() for parameter in layer.parameters() if parameter.grad is not None])
        return loss.detach()

    for _ in range(2000):
        found.clear()
        before = [parameter.detach().clone() for parameter in layer.parameters()]
        optimizer.step(closure)
    ridge = ridge_of(optimizer, layer, scale)
    assert "SAM's, at θ + ε with ρ = 0.001" in ridge.convention
    decay = [scale * lam * p for lam, p in zip((ridge.weight, ridge.bias), before, strict=True)]
    left = [max(float((g + d).abs().max()) for g, d in zip(gradients, decay, strict=True)) for gradients in found]
    assert left[1] < AT_REST
    assert left[0] > 100 * AT_REST


# L-BFGS


def plain_lbfgs(decay: float, steps: int) -> tuple[list[float], dict[str, Tensor]]:
    """Whole-data steps of torch's L-BFGS, the decay written into the loss; float64."""
    torch.manual_seed(0)
    network, split, losses = nn.Linear(5, NUM_CLASSES).double(), data(), list[float]()
    optimizer = torch.optim.LBFGS(network.parameters(), max_iter=5, history_size=4, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(network(split.inputs.double()), split.labels)
        losses.append(loss.item())
        if decay:
            loss = loss + decay / 2 * torch.stack([p.square().sum() for p in network.parameters()]).sum()
        loss.backward()
        return loss

    firsts = []
    for _ in range(steps):
        losses.clear()
        optimizer.step(closure)
        firsts.append(losses[0])
    return firsts, state(network)


class Linear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.classifier = nn.Linear(5, NUM_CLASSES).double()

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        return self.classifier(inputs.double()), inputs.double()


@pytest.mark.parametrize("decay", [0.0, DECAY])
def test_lbfgs_equals_the_plain_loop_of_torchs_own(decay: float) -> None:
    torch.manual_seed(0)
    network = Linear()
    ours = Training(
        network=network,
        loss=objective_of(CrossEntropy(NUM_CLASSES)),
        optimizer=lbfgs(network.parameters(), max_iter=5, history_size=4, weight_decay=decay),
        schedule=constant_schedule(2),
        data=data(),
        batch_size=NUM_EXAMPLES,
        seed=0,
        position=Position(),
    )
    ours._order = lambda epoch: torch.arange(NUM_EXAMPLES)  # type: ignore[method-assign]
    losses, expected = plain_lbfgs(decay, 2)
    found = [ours.run_epoch(lambda: False)["fit/loss"] for _ in range(2)]
    tolerance = SAME if decay else 0.0  # without it every operation is the same
    assert found == pytest.approx(losses, rel=SAME)
    for name, tensor in network.classifier.state_dict().items():
        assert float((tensor - expected[name]).abs().max()) <= tolerance


def test_lbfgs_moves_running_statistics_as_torchs_own_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bit by bit, batch norm's statistics too; without dropout, whose masks a plain loop draws anew."""
    monkeypatch.setattr(nn.Dropout, "forward", lambda self, inputs: inputs)
    ours = training(lambda parameters: lbfgs(parameters, max_iter=5, weight_decay=0.0), batch_size=NUM_EXAMPLES)
    torch.manual_seed(0)
    network, split = Noisy(), data()
    optimizer = torch.optim.LBFGS(network.parameters(), max_iter=5, history_size=10, line_search_fn="strong_wolfe")
    order = ours._order(1)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(network(split.inputs[order])[0], split.labels[order])
        loss.backward()
        return loss

    optimizer.step(closure)  # type: ignore[arg-type]
    ours.run_epoch(lambda: False)
    assert_same(state(ours.network), state(network))
    assert int(network.body[1].num_batches_tracked) > 3


def test_lbfgs_decays_by_name_and_leaves_what_has_no_gradient() -> None:
    moved, still = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    optimizer = LBFGS([{"params": [moved], "weight_decay": 1.0}, {"params": [still], "weight_decay": 1.0}], lr=1.0)

    def closure() -> Tensor:
        moved.grad = torch.zeros(2)
        return torch.zeros(())

    optimizer.step(closure)
    assert moved.abs().max() < 1
    assert still.tolist() == [1, 1]


@pytest.mark.slow
def test_lbfgs_rests_where_the_derived_ridge_is_stationary() -> None:
    torch.manual_seed(0)
    labels = torch.arange(60) % 3
    features = torch.randn(3, 5, dtype=torch.float64)[labels] + torch.randn(60, 5, dtype=torch.float64)
    targets, layer, scale = nn.functional.one_hot(labels).double(), nn.Linear(5, 3).double(), 2 / 3
    optimizer = lbfgs(layer.parameters(), weight_decay=DECAY)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(layer(features), targets)
        loss.backward()
        return loss.detach()

    for _ in range(5):
        optimizer.step(closure)  # type: ignore[arg-type]
    ridge = ridge_of(optimizer, layer, scale)
    assert (ridge.weight, ridge.bias) == pytest.approx((DECAY / scale, DECAY / scale))
    loss = nn.functional.mse_loss(layer(features), targets)
    for lam, parameter in zip((ridge.weight, ridge.bias), layer.parameters(), strict=True):
        (gradient,) = torch.autograd.grad(loss, parameter, retain_graph=True)
        assert float((gradient + scale * lam * parameter).detach().abs().max()) < STOPPED


# What repeated evaluations leave alone


@pytest.mark.parametrize("sam", [True, False])
def test_batch_norm_counts_sams_first_evaluation_and_all_of_lbfgs(sam: bool) -> None:
    ours, drawn = training(sam_of(momentum) if sam else lbfgs), list[Tensor]()
    ours.network.body[3].register_forward_hook(lambda *call: drawn.append((call[2] != 0) | (call[1][0] == 0)))  # type: ignore[index, union-attr]
    ours.run_epoch(lambda: False)
    steps = NUM_EXAMPLES // BATCH_SIZE
    counted = int(ours.network.body[1].num_batches_tracked)  # type: ignore[index, union-attr, arg-type]
    assert counted == (math.ceil(NUM_EXAMPLES / BATCH_SIZE) if sam else len(drawn))
    assert len(drawn) > (1 if sam else 2) * steps  # it did evaluate several times
    assert ours.position == Position(epoch=2)


def test_dropout_of_a_step_is_the_same_in_every_evaluation() -> None:
    ours, inputs, masks = training(sam_of(momentum)), torch.ones(BATCH_SIZE, 8), list[Tensor]()
    dropout = nn.Dropout(0.4)
    ours.network.register_forward_hook(lambda *call: masks.append(dropout(inputs)))
    ours.run_epoch(lambda: False)
    assert len(masks) == 2 * NUM_EXAMPLES // BATCH_SIZE
    for first, second in zip(masks[::2], masks[1::2], strict=True):
        assert torch.equal(first, second)
    assert not torch.equal(masks[0], masks[2])


# Resumption

RESUMED: dict[str, Callable[..., Optimizer]] = {
    "lbfgs": lambda p: lbfgs(p, max_iter=4, history_size=12, weight_decay=DECAY),
    "sam of sgd": sam_of(momentum),
    "asam of adam": sam_of(lambda p: adam(p, lr=RATE, betas=[0.9, 0.99], weight_decay=DECAY), adaptive=True),
    **{name: getattr(torch.optim, name) for name in torchs() if name not in REFUSED},
}


@pytest.mark.parametrize("name", RESUMED)
def test_resumed_within_an_epoch_equals_uninterrupted_by_every_bit(name: str, tmp_path: Path) -> None:
    whole, path = training(RESUMED[name]), tmp_path / "resume.safetensors"
    records = [whole.run_epoch(lambda: False) for _ in range(2)]
    expected, generator = state(whole.network), torch.get_rng_state()
    stopped = training(RESUMED[name])
    stopped.run_epoch(lambda: False)
    with pytest.raises(Interrupted):
        stopped.run_epoch(lambda: True)
    save_resume(path, stopped.network, stopped.optimizer, stopped.position, TRAINING)
    resumed = training(RESUMED[name], seed=7)
    resumed.position = load_resume(path, resumed.network, resumed.optimizer, TRAINING)
    assert (resumed.position.epoch, resumed.position.step) == (2, 1)
    assert resumed.run_epoch(lambda: False) == records[1]
    assert_same(state(resumed.network), expected)
    assert torch.equal(torch.get_rng_state(), generator)


# Refusals


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["optimizer=lbfgs", "precision=bf16"], "precision: expected none but the default with optimizer=lbfgs"),
        (["optimizer=lbfgs", "regime=on_path"], "regime: expected none but the default with optimizer=lbfgs"),
        (["optimizer=sam", "regime=on_path"], "regime: expected none but the default with optimizer=sam"),
        (["optimizer=sam", "optimizer.base.lr=0.5"], "optimizer.base.lr: expected optimizer.lr, 0.0940151, got 0.5"),
        (["optimizer=sam", "optimizer.rho=0.0"], "optimizer.rho: expected a value greater than 0"),
        (["optimizer=sam", "+optimizer.base.betas=[0.9,0.9]"], "optimizer.base.betas: no such key. Valid: "),
        (["optimizer=sam", "optimizer@optimizer.base=lbfgs"], "optimizer.base: expected an optimizer of one gradient"),
    ],
)
def test_what_a_closure_cannot_have_is_refused_by_name(composed: Compose, overrides: list[str], words: str) -> None:
    with pytest.raises(ConfigError) as refused:
        assemble(check(composed(*overrides, base=CLOSED)))
    assert words in str(refused.value)


def test_sam_in_bf16_is_allowed(composed: Compose) -> None:
    ours = assemble(check(composed("optimizer=sam", "precision=bf16", base=CLOSED))).training
    assert math.isfinite(ours.run_epoch(lambda: False)["fit/loss"])


def test_sam_options_of_the_base_are_in_the_training_key(composed: Compose) -> None:
    keys = [check(composed("optimizer=sam", *more, base=CLOSED)).key for more in ([], ["optimizer.base.momentum=0.0"])]
    assert keys[0] != keys[1]
    optimizer = assemble(
        check(composed("optimizer=sam", "optimizer.base.momentum=0.0", base=CLOSED))
    ).training.optimizer
    assert isinstance(optimizer, SAM)
    assert optimizer.optimizer.param_groups[0]["momentum"] == 0.0


@pytest.mark.parametrize(
    ("optimizer", "batch_norm", "said"), [("lbfgs", True, True), ("lbfgs", False, False), ("sgd", True, False)]
)
def test_lagging_batch_norm_is_said_of_lbfgs_alone(
    composed: Compose, optimizer: str, batch_norm: bool, said: bool
) -> None:
    choices = [f"optimizer={optimizer}", f"architecture.batch_norm={str(batch_norm).lower()}"]
    assembly = assemble(check(composed("architecture=mlp", *choices, base=CLOSED)))
    assert ("without batch norm" in assembly.lags) == said
