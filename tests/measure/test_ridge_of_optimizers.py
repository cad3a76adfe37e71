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
        "ASGD": {},
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
def test_ridge_is_taken_from_the_optimizers_that_decay_through_the_gradient(name: str) -> None:
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

    layer = nn.Linear(3, 4)
    ridge = ridge_of(Mine(layer.parameters(), lr=0.1, weight_decay=DECAY), layer, 1.0)
    assert (ridge.weight, ridge.bias) == (0, 0)
    assert "Mine is not known to add its decay to the gradient" in ridge.convention


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
