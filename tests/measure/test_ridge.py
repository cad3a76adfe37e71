"""λ against the objective that is really trained, and against what torch's own optimizers do with their decay."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from own_loops import half_mse, loaders
from own_loops import network as own_network
from support import required
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

import ncexp
from ncexp.collapse import class_statistics, least_squares_classifier
from ncexp.config import ConfigError
from ncexp.measure import Ridge, ridge_of
from ncexp.record import read_json, read_run
from ncexp.training.losses import MSE
from ncexp.training.optimizers import adam, adamw, muon, sgd, sign

DECAY, STEPS = 0.3, 3
BETAS = {"lr": 0.1, "betas": [0.9, 0.99]}
#: Sums in another order, over three steps in float64.
SAME = 1e-12
#: The gradient at the optimum against the gradient at 0, in float64.
STATIONARY = 1e-10
#: What a training has left of the gradient of loss and decay together: λ, of size 0.03 and more, is told to as much.
TRAINED_TO = 1e-4


def pair(ridge: Ridge) -> tuple[float, float]:
    return ridge.weight, ridge.bias


@pytest.mark.parametrize("scale", [1.0, "2/C", 7.0])
def test_ridge_makes_the_trained_objective_stationary(scale: float) -> None:
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(60, 4, generator=generator, dtype=torch.float64).relu() + 0.3
    labels = torch.arange(60) % 7 % 3  # unbalanced
    layer, loss, decay = nn.Linear(4, 3).double(), MSE(3, scale=scale), 0.02
    ridge = ridge_of(sgd(layer.parameters(), lr=0.1, weight_decay=decay), layer, loss.half_mse_scale)
    best = least_squares_classifier(class_statistics(features, labels, 3), pair(ridge))
    sizes = []
    for weight, bias in ((0 * best.weight, 0 * best.bias), (best.weight, best.bias)):
        with torch.no_grad():
            layer.weight.copy_(weight), layer.bias.copy_(bias)
        # What coupled weight decay descends.
        objective = loss(layer(features), labels) + decay / 2 * sum(p.square().sum() for p in layer.parameters())
        slopes = torch.autograd.grad(objective, [*layer.parameters()])
        sizes.append(float(sum(slope.square().sum() for slope in slopes)) ** 0.5)
    assert sizes[1] < STATIONARY * sizes[0]


#: All of torch's that take a decay, with what each needs beside it; a name that this torch lacks is left out.
TORCH: dict[str, dict[str, Any]] = {
    **{name: {} for name in ("Adam", "AdamW", "NAdam", "RAdam", "Adamax", "Adagrad", "Adadelta", "RMSprop")},
    "SGD": {"momentum": 0.9},
    "ASGD": {"lambd": 0.0},  # a second decay, of which the heads below that are trained have some
    **{name: {} for name in ("Muon", "Adafactor") if hasattr(torch.optim, name)},
}


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
        assert pair(ridge) == (0, 0)
        assert f"decoupled from the gradient ({name})" in ridge.convention


class Mine(SGD):
    """Whatever its step does with the decay, no list says it."""

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        super().step(closure)


def switched(kind: Any) -> Any:
    return lambda p: kind(p, weight_decay=DECAY, decoupled_weight_decay=True)


@pytest.mark.parametrize(
    ("make", "expected", "words"),
    [
        (lambda p: adam(p, **BETAS, weight_decay=0.4), (0.2, 0.2), "λ = weight decay / s = 0.2, as the loss is"),
        (lambda p: sign(p, lr=0.1, weight_decay=0.4), (0.2, 0.2), ""),
        (lambda p: sgd(p, lr=0.1, weight_decay=0.4, decoupled=0.25), (0.15, 0.15), "decay of 0.1 acts beside it"),
        (lambda p: sign(p, lr=0.1, weight_decay=0.4, decoupled=1.0), (0, 0), "decoupled"),
        (lambda p: SGD([{"params": [p[0]], "weight_decay": 0.4}, {"params": [p[1]]}], lr=0.1), (0.2, 0.0), "bias 0"),
        (lambda p: adamw(p, **BETAS, weight_decay=0.4), (0, 0), "decoupled"),
        (lambda p: muon(p, **BETAS, weight_decay=0.4), (0, 0), "decoupled"),
        *((switched(kind), (0, 0), "decoupled") for kind in (torch.optim.NAdam, torch.optim.RAdam, torch.optim.Adam)),
        (lambda p: Mine(p, lr=0.1, weight_decay=DECAY), (0, 0), "Mine is not known to add its decay to the gradient"),
    ],
)
def test_ridge_is_that_of_the_coupled_decay_and_says_so(make: Any, expected: Any, words: str) -> None:
    layer = nn.Linear(3, 4)
    ridge = ridge_of(make([*layer.parameters()]), layer, 2.0)
    assert pair(ridge) == pytest.approx(expected)
    assert words in ridge.convention
    assert "not a multiple of the MSE" in ridge_of(make([*layer.parameters()]), layer, None).convention


class Renamed(SGD):
    """Its step is SGD's."""


class Wrapped(Optimizer):
    """As training frameworks wrap the optimizer that they are given."""

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer = optimizer
        self.step, self.zero_grad = optimizer.step, optimizer.zero_grad  # type: ignore[method-assign]


def old_weight_norm(layer: nn.Linear) -> nn.Linear:
    with pytest.warns(FutureWarning):
        return nn.utils.weight_norm(layer)


def decayed(**by_end: float) -> Any:
    """SGD whose decay is chosen by how the parameters' names end; others have none."""

    def make(layer: nn.Linear) -> Optimizer:
        decays = {
            one: next((d for end, d in by_end.items() if n.endswith(end)), 0) for n, one in layer.named_parameters()
        }
        return SGD([{"params": [one], "weight_decay": decay} for one, decay in decays.items()], lr=0.3)

    return make


NORMED = nn.utils.parametrizations.weight_norm
TRAINED: dict[str, tuple[Any, Any]] = {
    "subclass": (lambda one: one, lambda one: Renamed(one.parameters(), lr=0.3, weight_decay=DECAY)),
    "wrapped": (lambda one: one, lambda one: Wrapped(Wrapped(SGD(one.parameters(), 0.3, weight_decay=DECAY)))),
    "asgd": (lambda one: one, lambda one: torch.optim.ASGD(one.parameters(), lr=0.7, weight_decay=0.05, lambd=0.02)),
    "asgd, lambd alone": (lambda one: one, lambda one: torch.optim.ASGD(one.parameters(), lr=0.7, lambd=0.02)),
    "weight norm": (NORMED, decayed(original0=0.02, bias=0.01)),
    # Only a little: as v shrinks its steps turn it further, until they leap over the minimum.
    "weight norm, both decayed": (NORMED, decayed(original0=0.02, original1=0.001)),
    "weight norm of the whole": (lambda one: NORMED(one, dim=None), decayed(original0=0.02)),
    "weight norm, old": (old_weight_norm, decayed(weight_g=0.02)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINED)
def test_ridge_is_that_at_which_the_trained_head_is_stationary(name: str) -> None:
    """A head is trained to the end; λ is read off the gradient of the loss alone, which is −s λ W there."""
    change, optimizer_of = TRAINED[name]
    torch.manual_seed(0)
    labels = torch.arange(60) % 3
    features = torch.randn(3, 5, dtype=torch.float64)[labels] + torch.randn(60, 5, dtype=torch.float64)
    targets, layer, scale = nn.functional.one_hot(labels).double(), change(nn.Linear(5, 3)).double(), 2 / 3
    optimizer = optimizer_of(layer)
    for _ in range(500):
        optimizer.zero_grad()
        nn.functional.mse_loss(layer(features), targets).backward()
        optimizer.step()
    weight, bias = (one.detach().clone().requires_grad_() for one in (layer.weight, layer.bias))
    loss = nn.functional.mse_loss(features @ weight.T + bias, targets)
    for part, found in zip((weight, bias), pair(ridge_of(optimizer, layer, scale)), strict=True):
        (gradient,) = torch.autograd.grad(loss, part, retain_graph=True)
        expected = float((-(gradient * part).sum() / part.square().sum()).detach()) / scale
        assert float((gradient + expected * scale * part).detach().norm()) < TRAINED_TO
        assert found == pytest.approx(expected, abs=TRAINED_TO)


@pytest.mark.parametrize(
    ("case", "moves", "words"),
    [("frozen", False, "is not trained"), ("frozen, gradient 0", True, ""), ("not reached", False, "no gradient, as")],
)
def test_ridge_of_a_head_that_is_not_trained_is_what_decays_it(case: str, moves: bool, words: str) -> None:
    """torch decays a parameter whose gradient is zero, and leaves one alone that has none."""
    layer, body = nn.Linear(3, 4), nn.Linear(3, 3)
    layer.requires_grad_(case == "not reached")
    before = layer.weight.detach().clone()
    optimizer = SGD([*body.parameters(), *layer.parameters()], lr=0.1, weight_decay=DECAY)
    nn.functional.linear(body(torch.ones(2, 3)), layer.weight.detach(), layer.bias.detach()).sum().backward()
    if moves:
        layer.weight.grad, layer.bias.grad = torch.zeros(4, 3), torch.zeros(4)
    optimizer.step()
    ridge = ridge_of(optimizer, layer, 1.0)
    assert moves is not torch.equal(layer.weight, before)
    assert pair(ridge) == ((DECAY, DECAY) if moves else (0, 0))
    assert words in ridge.convention


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (nn.utils.parametrizations.spectral_norm, "is made by _SpectralNorm"),
        (nn.utils.parametrizations.orthogonal, "is made by _Orthogonal"),
        (nn.utils.spectral_norm, "is computed from other parameters"),
        (lambda layer: nn.Linear(3, 4), "is not held by the optimizer"),
    ],
)
def test_ridge_is_zero_where_the_decay_is_not_of_the_weight_and_says_why(make: Any, words: str) -> None:
    layer = nn.Linear(3, 4)
    evaluated = make(layer)
    ridge = ridge_of(SGD(layer.parameters(), lr=0.1, weight_decay=DECAY), evaluated, 1.0)
    assert ridge.weight == 0
    assert f"the last layer's weight {words}" in ridge.convention


# Of recorded loops: from the optimizer itself, or from what is said of it.


def recorder(directory: Path, optimizer: Any = None, analyses: Any = (), **options: Any) -> ncexp.Recorder:
    options = {"num_classes": 4, "classifier": "last", "loss": "mse", **options}
    return ncexp.Recorder(directory, optimizer=optimizer, analyses=analyses, **options)


def facts(directory: Path) -> dict[str, Any]:
    return read_json(directory / "facts.json") or {}


def test_recorder_refuses_a_decay_beside_the_optimizer(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="weight_decay: expected none beside optimizer"):
        recorder(tmp_path, SGD(own_network().parameters(), lr=0.1), weight_decay=0.1)


@pytest.mark.slow
def test_ridge_of_each_epoch_is_in_its_row_and_the_facts_follow(tmp_path: Path) -> None:
    """λ as the loop's own objective has it: its decay part is λ/2 ‖W̃‖²."""
    model, (train_loader, _), found = own_network(), loaders(), []
    optimizer = SGD(model.parameters(), lr=0.1, weight_decay=0.02)
    size = float(sum(one.detach().double().square().sum() for one in model.last.parameters()))  # type: ignore[union-attr]
    with recorder(tmp_path, optimizer, ["decomposition"]) as recording:
        for epoch, decay in ((1, 0.02), (2, 0.02), (3, 0.2)):
            optimizer.param_groups[0]["weight_decay"] = decay
            record = recording.evaluate(epoch, model, train_loader)
            found.append((record["train/mse/ridge_weight"], record["train/mse/ridge_bias"]))
            assert record["train/mse/loss_decay"] == pytest.approx(decay / 2 * size)
            assert facts(tmp_path)["ridge_weight"] == decay
    assert found == [(0.02, 0.02), (0.02, 0.02), (0.2, 0.2)]
    assert "at epoch 3: it has changed" in facts(tmp_path)["ridge_convention"]


def frozen(layer: nn.Linear) -> None:
    layer.requires_grad_(False)


@pytest.mark.parametrize(
    ("change", "stated", "words"),
    [
        (lambda layer: None, torch.optim.AdamW, r"λ = 0: the weight decay is decoupled from the gradient \(AdamW\)"),
        (frozen, SGD, "the last layer's weight is not trained"),
        (frozen, None, "the last layer's weight is not trained"),
        (nn.utils.parametrizations.spectral_norm, None, "the last layer's weight is made by _SpectralNorm"),
    ],
)
def test_ridge_of_zero_is_warned_of_at_once_with_its_reason(
    tmp_path: Path, change: Any, stated: Any, words: str
) -> None:
    model, (train_loader, _) = own_network().eval(), loaders()
    change(model.last)
    optimizer = stated(model.parameters(), lr=0.1, weight_decay=0.2) if stated else None
    recording = recorder(tmp_path, optimizer, ["decomposition"], **({} if stated else {"weight_decay": 0.2}))
    with pytest.warns(UserWarning, match=f"{tmp_path.name}: .*{words}"):
        record = recording.evaluate(1, model, train_loader)
    assert facts(tmp_path)["ridge_weight"] == 0
    if change is frozen:  # the plain mean of the paper's loss, of float32 logits
        inputs, labels = train_loader.dataset.tensors  # type: ignore[attr-defined]
        expected = float(half_mse(model(inputs).detach().double(), labels))
        assert record["train/mse/loss"] == pytest.approx(expected, rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["plain", "lightning", "accelerate"])
def test_recorder_reads_the_decay_also_within_a_frameworks_wrapper(tmp_path: Path, kind: str) -> None:
    model, (train_loader, _) = own_network(), loaders()
    optimizer: Any = SGD(model.parameters(), lr=0.1, weight_decay=0.01)
    if kind == "lightning":
        optimizer = required("lightning.pytorch.core.optimizer").LightningOptimizer(optimizer)
    elif kind == "accelerate":
        optimizer = required("accelerate").Accelerator(cpu=True).prepare(optimizer)
    assert (type(optimizer) is SGD) == (kind == "plain")
    recorder(tmp_path, optimizer).evaluate(1, model, train_loader)
    noted, options = facts(tmp_path), read_run(tmp_path).raw["optimizer"]
    assert (noted["ridge_weight"], noted["ridge_bias"]) == (0.01, 0.01)
    assert (options["class"], options["lr"], options["weight_decay"]) == ("torch.optim.sgd.SGD", 0.1, 0.01)
