"""Update rules and decay, against torch's own optimizers and against hand arithmetic; schedules."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ncexp.training.optimizers import (
    Parameters,
    adam,
    adamw,
    constant_schedule,
    cosine_schedule,
    groups,
    muon,
    sgd,
    sign,
    step_schedule,
)

#: The same sums in another order: float64 over some tens of steps.
SAME = 1e-12


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 5), nn.LayerNorm(5), nn.ReLU(), nn.Linear(5, 4)).double()


def steps(make: Callable[[Parameters], Optimizer], count: int = 20) -> list[Tensor]:
    """The parameters after some steps of cross-entropy, whose rate halves midway."""
    model = network()
    optimizer = make(Parameters(model))
    generator = torch.Generator().manual_seed(1)
    inputs, labels = torch.randn(12, 3, generator=generator, dtype=torch.float64), torch.arange(12) % 4
    for step in range(count):
        if step == count // 2:
            for group in optimizer.param_groups:
                group["lr"] /= 2
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), labels).backward()
        optimizer.step()
    return [parameter.detach() for parameter in model.parameters()]


def difference(one: Sequence[Tensor], other: Sequence[Tensor]) -> float:
    return max(float((a - b).abs().max()) for a, b in zip(one, other, strict=True))


BETAS = {"lr": 0.01, "betas": [0.9, 0.99]}
HEAVY, LIGHT = {"lr": 0.1, "momentum": 0.9}, {"lr": 0.1, "momentum": 0.0}


@pytest.mark.parametrize(
    ("ours", "torchs", "options", "more"),
    [
        (adam, torch.optim.Adam, BETAS, {}),
        (adamw, torch.optim.AdamW, BETAS, {}),
        (adam, torch.optim.AdamW, BETAS, {"decoupled": 1.0}),
        (sgd, torch.optim.SGD, HEAVY, {}),
        (sgd, torch.optim.SGD, LIGHT, {"decoupled": 1.0}),  # without momentum both parts do the same
    ],
)
def test_decay_at_both_ends_is_torchs(ours: Any, torchs: Any, options: Any, more: Any) -> None:
    found = steps(lambda p: ours(p, **options, **more, weight_decay=0.3))
    assert difference(found, steps(lambda p: torchs(p, **options, weight_decay=0.3))) < SAME
    assert difference(found, steps(lambda p: torchs([*p][:-1], **options, weight_decay=0.3))) > 1e-3


@pytest.mark.parametrize(
    ("ours", "torchs", "options"),
    [(sgd, torch.optim.SGD, HEAVY), (adam, torch.optim.Adam, BETAS), (adamw, torch.optim.AdamW, BETAS)],
)
def test_update_rules_give_torchs_bytes(ours: Any, torchs: Any, options: Any) -> None:
    """Without torch's wrappers, as training has them: float32, fused; the state goes from either to the other."""
    ends = []
    for first, then in ((ours, torchs), (torchs, ours), (torchs, torchs)):
        model, state = network().float(), None
        for make in (first, then):
            fused = {"fused": True} if make is torchs else {}
            optimizer = make([*model.parameters()], **options, weight_decay=0.3, **fused)
            if state is not None:
                optimizer.load_state_dict(state)
            for step in range(5):
                optimizer.zero_grad()
                model(torch.linspace(-1, 1, 12 + 3 * step).view(-1, 3)).square().sum().backward()
                optimizer.step()
                assert not next(model.parameters()).grad_fn
            state = optimizer.state_dict()
        ends.append(torch.cat([one.detach().flatten() for one in model.parameters()]))
    assert torch.equal(ends[0], ends[2])
    assert torch.equal(ends[1], ends[2])


def test_decay_of_a_mixture_is_both_parts() -> None:
    """Three steps by hand: θ shrinks by its decoupled part, then the coupled one joins the gradient."""
    parameter = nn.Parameter(torch.tensor([2.0, -1.0], dtype=torch.float64))
    optimizer = sgd([parameter], lr=0.1, momentum=0.9, weight_decay=0.5, decoupled=0.4)
    expected, velocity = parameter.detach().clone(), torch.zeros(2, dtype=torch.float64)
    for gradient in ([1.0, 2.0], [-3.0, 0.5], [0.0, 0.0]):
        parameter.grad = torch.tensor(gradient, dtype=torch.float64)
        optimizer.step()
        expected = (1 - 0.1 * 0.2) * expected
        velocity = 0.9 * velocity + torch.tensor(gradient, dtype=torch.float64) + 0.3 * expected
        expected = expected - 0.1 * velocity
    assert difference([parameter.detach()], [expected]) < SAME


def test_decay_of_names_is_the_first_pattern_that_fits() -> None:
    parameters = Parameters(network())
    found = groups(parameters, 0.1, {"*.bias": 0.0, "3.*": 0.2, "1.*": 0.0}, decoupled=0.5)
    by_parameter = {id(p): (part["weight_decay"], part["decoupled_decay"]) for part in found for p in part["params"]}
    halves = {name: by_parameter[id(p)][0] for name, p in zip(parameters.names, parameters, strict=True)}
    assert halves == {"0.weight": 0.05, "0.bias": 0.0, "1.weight": 0.0, "1.bias": 0.0, "3.weight": 0.1, "3.bias": 0.0}
    assert all(coupled == decoupled for coupled, decoupled in by_parameter.values())
    assert len(found) == 3


def test_decay_of_one_number_leaves_one_group_as_it_was() -> None:
    (group,) = groups(Parameters(network()), 0.1, {})
    assert (group["weight_decay"], len(group["params"]), "decoupled_decay" in group) == (0.1, 6, False)


def test_decay_of_a_name_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match=r"optimizer.decay_of: expected patterns .* got 2\.\*\. The nearest name: "):
        groups(Parameters(network()), 0.1, {"2.*": 0.0})
    with pytest.raises(ValueError, match="expected parameters with names"):
        groups([*network().parameters()], 0.1, {"*": 0.0})


@pytest.mark.parametrize("momentum", [0.0, 0.8])
def test_sign_descent_moves_every_entry_by_the_rate(momentum: float) -> None:
    parameter = nn.Parameter(torch.tensor([2.0, -1.0, 0.0], dtype=torch.float64))
    optimizer = sign([parameter], lr=0.1, momentum=momentum, weight_decay=0.5)
    expected, mean = parameter.detach().clone(), torch.zeros(3, dtype=torch.float64)
    for gradient in ([-0.9, 2.0, 0.0], [4.0, 0.7, 0.0]):
        parameter.grad = torch.tensor(gradient, dtype=torch.float64)
        optimizer.step()
        mean = momentum * mean + (1 - momentum) * (torch.tensor(gradient, dtype=torch.float64) + 0.5 * expected)
        expected = expected - 0.1 * mean.sign()
    assert difference([parameter.detach()], [expected]) < SAME
    assert float(parameter.detach()[2]) == 0


NEEDS_MUON = pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="this torch has no Muon")


def give_gradients(parameters: list[nn.Parameter], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in parameters:
        parameter.grad = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)


@NEEDS_MUON
def test_muon_is_torchs_on_matrices_and_adamw_on_the_rest() -> None:
    mine, torchs = Parameters(network()), Parameters(network())
    together = muon(mine, **BETAS, weight_decay=0.3, decay_of={"*.bias": 0.0})
    matrices = [one for one in torchs if one.ndim == 2]
    biases = [one for name, one in zip(torchs.names, torchs, strict=True) if name.endswith("bias")]
    gains = [one for name, one in zip(torchs.names, torchs, strict=True) if name == "1.weight"]
    apart = [
        torch.optim.Muon(matrices, lr=0.01, weight_decay=0.3, momentum=0.95, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(gains, **BETAS, weight_decay=0.3),
        torch.optim.AdamW(biases, **BETAS, weight_decay=0.0),
    ]
    for step in range(4):
        for group in (group for one in (together, *apart) for group in one.param_groups):
            group["lr"] = 0.01 / (step + 1)
        give_gradients(mine, step)
        give_gradients(torchs, step)
        for one in (together, *apart):
            one.step()
    found = [parameter.detach() for parameter in mine]
    assert difference(found, [parameter.detach() for parameter in torchs]) < SAME
    assert difference(found, [parameter.detach() for parameter in network().parameters()]) > 1e-3


@NEEDS_MUON
def test_muon_goes_on_from_its_state() -> None:
    first, second = Parameters(network()), Parameters(network())
    begun, resumed = (muon(parameters, **BETAS, weight_decay=0.3) for parameters in (first, second))
    give_gradients(first, 0)
    begun.step()
    for one, other in zip(first, second, strict=True):
        other.data.copy_(one.data)
    resumed.load_state_dict(copy.deepcopy(begun.state_dict()))
    for optimizer, parameters in ((begun, first), (resumed, second)):
        give_gradients(parameters, 1)
        optimizer.step()
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


def test_schedules_begin_at_one_and_fall_where_they_should() -> None:
    step, cosine = step_schedule(350, decays=2, factor=0.1), cosine_schedule(100)
    assert [epoch for epoch in range(1, 350) if step(epoch + 1) < step(epoch)] == [116, 233]
    assert (step(1), cosine(1)) == (1, 1)
    assert step(350) == pytest.approx(0.01)
    assert cosine(51) == pytest.approx(0.5)
    assert 0 < cosine(100) < 0.001
    without = step_schedule(10, decays=0)
    assert [without(e) for e in range(1, 11)] == [constant_schedule(10)(e) for e in range(1, 11)] == [1.0] * 10
