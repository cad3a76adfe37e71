"""Which optimizers add their decay to the gradient: found by what torch's own do, against what λ takes them for."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ncexp.measure import ridge_of
from ncexp.training.optimizers import adam, muon, sgd, sign

DECAY, STEPS = 0.3, 3
#: All of torch's that take a decay, with what each needs beside it; a name that this torch lacks is left out.
TORCH: dict[str, dict[str, Any]] = {
    name: options
    for name, options in {
        "SGD": {"momentum": 0.9},
        "Adam": {},
        "AdamW": {},
        "NAdam": {},
        "RAdam": {},
        "Adamax": {},
        "Adagrad": {},
        "Adadelta": {},
        "RMSprop": {},
        "ASGD": {"lambd": 0.0},  # a second decay, of which the heads below that are trained have some
        "Muon": {},
        "Adafactor": {},
    }.items()
    if hasattr(torch.optim, name)
}
#: Sums in another order, over three steps in float64.
SAME = 1e-12


def after(kind: type[Optimizer], options: dict[str, Any], *, by_hand: bool) -> Tensor:
    """Parameters after some steps with a decay: the optimizer's own, or added to the gradient by hand."""
    generator = torch.Generator().manual_seed(0)
    parameter = nn.Parameter(torch.randn(4, 3, generator=generator, dtype=torch.float64))
    optimizer = kind([parameter], lr=0.1, weight_decay=0.0 if by_hand else DECAY, **options)
    for _ in range(STEPS):
        gradient = torch.randn(4, 3, generator=generator, dtype=torch.float64)
        parameter.grad = gradient + DECAY * parameter.detach() if by_hand else gradient
        optimizer.step()
    return parameter.detach()


@pytest.mark.parametrize("name", TORCH)
def test_ridge_is_taken_from_optimizers_that_decay_through_the_gradient(name: str) -> None:
    kind, options = getattr(torch.optim, name), TORCH[name]
    difference = (after(kind, options, by_hand=True) - after(kind, options, by_hand=False)).abs().max()
    layer = nn.Linear(3, 4, bias=False)
    ridge = ridge_of(kind(layer.parameters(), lr=0.1, weight_decay=DECAY, **options), layer, 2.0)
    if difference < SAME:
        assert ridge.weight == pytest.approx(DECAY / 2)
    else:
        assert (ridge.weight, ridge.bias) == (0, 0)
        assert name in ridge.convention
        assert "decoupled" in ridge.convention


@pytest.mark.parametrize("name", ["NAdam", "RAdam", "Adam"])
def test_ridge_is_zero_where_torchs_own_switch_decouples(name: str) -> None:
    layer = nn.Linear(3, 4)
    optimizer = getattr(torch.optim, name)(layer.parameters(), weight_decay=DECAY, decoupled_weight_decay=True)
    assert ridge_of(optimizer, layer, 1.0).weight == 0
    assert "decoupled" in ridge_of(optimizer, layer, 1.0).convention


def test_ridge_is_zero_for_an_optimizer_that_nobody_knows() -> None:
    class Mine(torch.optim.SGD):
        """Whatever its step does with the decay, no list says it."""

        def step(self, closure: Any = None) -> None:  # type: ignore[override]
            super().step(closure)

    layer = nn.Linear(3, 4)
    ridge = ridge_of(Mine(layer.parameters(), lr=0.1, weight_decay=DECAY), layer, 1.0)
    assert (ridge.weight, ridge.bias) == (0, 0)
    assert "Mine is not known to add its decay to the gradient" in ridge.convention


class Renamed(torch.optim.SGD):
    """Its step is SGD's."""


class Wrapped(Optimizer):
    """As training frameworks wrap the optimizer that they are given."""

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer = optimizer

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        self.optimizer.step(closure)

    def zero_grad(self, set_to_none: bool = True) -> None:
        self.optimizer.zero_grad(set_to_none)


def old_weight_norm(layer: nn.Linear) -> nn.Linear:
    with pytest.warns(FutureWarning):
        return nn.utils.weight_norm(layer)


def decayed(layer: nn.Linear, **by_end: float) -> list[dict[str, Any]]:
    """The groups of an optimizer by how the parameters' names end; others have no decay."""
    named = layer.named_parameters()
    return [
        {"params": [one], "weight_decay": next((d for end, d in by_end.items() if name.endswith(end)), 0.0)}
        for name, one in named
    ]


NORMED = nn.utils.parametrizations.weight_norm
TRAINED: dict[str, tuple[Any, Any]] = {
    "subclass": (nn.Linear, lambda one: Renamed(one.parameters(), lr=0.3, weight_decay=DECAY)),
    "wrapped": (nn.Linear, lambda one: Wrapped(Wrapped(torch.optim.SGD(one.parameters(), 0.3, weight_decay=DECAY)))),
    "asgd": (nn.Linear, lambda one: torch.optim.ASGD(one.parameters(), lr=0.7, weight_decay=0.05, lambd=0.02)),
    "asgd, lambd alone": (nn.Linear, lambda one: torch.optim.ASGD(one.parameters(), lr=0.7, lambd=0.02)),
    "weight norm": (
        lambda *sizes: NORMED(nn.Linear(*sizes)),
        lambda one: torch.optim.SGD(decayed(one, original0=0.02, bias=0.01), lr=0.3),
    ),
    "weight norm, both decayed": (
        lambda *sizes: NORMED(nn.Linear(*sizes)),
        # Only a little: as v shrinks its steps turn it further, until they leap over the minimum.
        lambda one: torch.optim.SGD(decayed(one, original0=0.02, original1=0.001), lr=0.3),
    ),
    "weight norm of the whole": (
        lambda *sizes: NORMED(nn.Linear(*sizes), dim=None),
        lambda one: torch.optim.SGD(decayed(one, original0=0.02), lr=0.3),
    ),
    "weight norm, old": (
        lambda *sizes: old_weight_norm(nn.Linear(*sizes)),
        lambda one: torch.optim.SGD(decayed(one, weight_g=0.02), lr=0.3),
    ),
}
#: What the training has left of the gradient of loss and decay together: λ, of size 0.03 and more, is told to as much.
STATIONARY = 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINED)
def test_ridge_is_that_at_which_the_trained_head_is_stationary(name: str) -> None:
    """A head is trained to the end; λ is read off the gradient of the loss alone, which is −s λ W there."""
    make, optimizer_of = TRAINED[name]
    torch.manual_seed(0)
    labels = torch.arange(60) % 3
    features = torch.randn(3, 5, dtype=torch.float64)[labels] + torch.randn(60, 5, dtype=torch.float64)
    targets, layer, scale = nn.functional.one_hot(labels).double(), make(5, 3).double(), 2 / 3
    optimizer = optimizer_of(layer)
    for _ in range(500):
        optimizer.zero_grad()
        nn.functional.mse_loss(layer(features), targets).backward()
        optimizer.step()
    weight, bias = (one.detach().clone().requires_grad_() for one in (layer.weight, layer.bias))
    loss = nn.functional.mse_loss(features @ weight.T + bias, targets)
    ridge = ridge_of(optimizer, layer, scale)
    for part, found in zip((weight, bias), (ridge.weight, ridge.bias), strict=True):
        (gradient,) = torch.autograd.grad(loss, part, retain_graph=True)
        expected = float((-(gradient * part).sum() / part.square().sum()).detach()) / scale
        assert float((gradient + expected * scale * part).detach().norm()) < STATIONARY
        assert found == pytest.approx(expected, abs=STATIONARY)


@pytest.mark.parametrize("gradient", ["none", "zero"])
def test_ridge_of_a_head_that_is_not_trained_is_what_decays_it(gradient: str) -> None:
    """torch decays a parameter whose gradient is zero, and leaves one alone that has none."""
    layer, body = nn.Linear(3, 4), nn.Linear(3, 3)
    layer.requires_grad_(False)
    before = layer.weight.clone()
    optimizer = torch.optim.SGD([*body.parameters(), *layer.parameters()], lr=0.1, weight_decay=DECAY)
    layer(body(torch.ones(2, 3))).sum().backward()
    if gradient == "zero":
        layer.weight.grad, layer.bias.grad = torch.zeros(4, 3), torch.zeros(4)
    optimizer.step()
    ridge = ridge_of(optimizer, layer, 1.0)
    moved = not torch.equal(layer.weight, before)
    assert moved == (gradient == "zero")
    assert (ridge.weight, ridge.bias) == ((DECAY, DECAY) if moved else (0, 0))
    assert moved or "the last layer's weight is not trained" in ridge.convention


def test_ridge_of_a_head_that_the_loss_does_not_reach_is_zero() -> None:
    layer, body = nn.Linear(3, 4), nn.Linear(3, 3)
    before = layer.weight.detach().clone()
    optimizer = torch.optim.SGD([*body.parameters(), *layer.parameters()], lr=0.1, weight_decay=DECAY)
    nn.functional.linear(body(torch.ones(2, 3)), layer.weight.detach(), layer.bias).sum().backward()
    optimizer.step()
    ridge = ridge_of(optimizer, layer, 1.0)
    assert torch.equal(layer.weight, before)
    assert (ridge.weight, ridge.bias) == (0, DECAY)
    assert "the last layer's weight is given no gradient" in ridge.convention


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda layer: nn.utils.parametrizations.spectral_norm(layer), "is made by _SpectralNorm"),
        (lambda layer: nn.utils.parametrizations.orthogonal(layer), "is made by _Orthogonal"),
        (lambda layer: nn.utils.spectral_norm(layer), "is computed from other parameters"),
        (lambda layer: nn.Linear(3, 4), "is not held by the optimizer"),
    ],
)
def test_ridge_is_zero_where_the_decay_is_not_of_the_weight_and_says_why(make: Any, words: str) -> None:
    layer = nn.Linear(3, 4)
    evaluated = make(layer)
    ridge = ridge_of(torch.optim.SGD(layer.parameters(), lr=0.1, weight_decay=DECAY), evaluated, 1.0)
    assert ridge.weight == 0
    assert words in ridge.convention


def test_ridge_is_that_of_the_coupled_part_of_a_mixture() -> None:
    layer = nn.Linear(3, 4)
    mixed = sgd(layer.parameters(), lr=0.1, weight_decay=0.4, decoupled=0.25)
    ridge = ridge_of(mixed, layer, 2.0)
    assert (ridge.weight, ridge.bias) == (pytest.approx(0.15), pytest.approx(0.15))
    assert "0.1 acts beside" in ridge.convention
    alone = sign(layer.parameters(), lr=0.1, weight_decay=0.4, decoupled=1.0)
    assert ridge_of(alone, layer, 2.0).weight == 0
    assert "decoupled" in ridge_of(alone, layer, 2.0).convention
    assert ridge_of(sign(layer.parameters(), lr=0.1, weight_decay=0.4), layer, 2.0).weight == pytest.approx(0.2)
    assert ridge_of(adam(layer.parameters(), lr=0.1, betas=[0.9, 0.9], weight_decay=0.4), layer, 2.0).weight == 0.2


def test_ridge_of_muon_is_zero() -> None:
    layer = nn.Linear(3, 4)
    ridge = ridge_of(muon(layer.parameters(), lr=0.1, betas=[0.9, 0.99], weight_decay=0.1), layer, 1.0)
    assert (ridge.weight, ridge.bias) == (0, 0)
    assert "decoupled" in ridge.convention
