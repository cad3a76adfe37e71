"""The check of gradients: healthy networks pass by a margin, broken layers are named, nothing is left changed."""

from __future__ import annotations

import contextlib
import copy
import math
import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from rich.console import Console
from support import Compose, slow
from torch import Tensor, nn

from ncexp.architectures.densenet import densenet
from ncexp.architectures.mlp import mlp
from ncexp.architectures.resnet import resnet
from ncexp.architectures.unconstrained_features import unconstrained_features
from ncexp.architectures.vgg import vgg
from ncexp.config import ConfigError, RunConfig, check
from ncexp.main import run
from ncexp.training import assemble, canary
from ncexp.training.canary import (
    COMPILED_TOLERANCES,
    TOLERANCES,
    WrongGradients,
    check_gradients,
    relative_errors,
)
from ncexp.training.losses import MSE, CrossEntropy, objective_of

NUM_CLASSES, NUM_EXAMPLES = 10, 16
MSE_LOSS, CROSS_ENTROPY = objective_of(MSE(NUM_CLASSES)), objective_of(CrossEntropy(NUM_CLASSES))
#: How far the healthy stay from a tolerance, and the broken beyond it.
MARGIN = 6
DIGITS, COLOUR = (1, 8, 8), (3, 32, 32)
NETWORKS: dict[str, Callable[[tuple[int, ...]], nn.Module]] = {
    "resnet": lambda shape: resnet(shape, NUM_CLASSES),
    "resnet_narrow": lambda shape: resnet(shape, NUM_CLASSES, width=4),
    "vgg19": lambda shape: vgg(shape, NUM_CLASSES, depth=19, width=8),
    "densenet": lambda shape: densenet(shape, NUM_CLASSES, layers=[2, 2, 2], growth_rate=4),
    "mlp": lambda shape: mlp(shape, NUM_CLASSES, hidden=[256, 256, 64]),
}


@pytest.fixture(autouse=True)
def nothing_found_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(canary, "_FOUND_RIGHT", set())


def examples(shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    return torch.randn(NUM_EXAMPLES, *shape), torch.arange(NUM_EXAMPLES) % NUM_CLASSES


def as_trained(network: nn.Module, precision: str) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    def forward(inputs: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            logits, features = network(inputs)
        return logits, features

    return forward


def channels_last(network: nn.Module) -> Any:
    return network.to(memory_format=torch.channels_last)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("shape", [DIGITS, slow(COLOUR)], ids=["digits", "colour"])
@pytest.mark.parametrize("precision", TOLERANCES)
def test_relative_errors_of_healthy_networks_stay_far_below_the_tolerance(
    name: str, shape: tuple[int, ...], precision: str
) -> None:
    for seed in range(3 if shape == DIGITS else 1):
        torch.manual_seed(seed)
        network = channels_last(NETWORKS[name](shape))
        inputs, labels = examples(shape)
        errors = relative_errors(network, as_trained(network, precision), MSE_LOSS, inputs, labels, compiled=False)
        assert max(errors.values()) <= TOLERANCES[precision] / MARGIN
        assert sum(key.startswith("gradient") for key in errors) == len([*network.parameters()])


@pytest.fixture(scope="module")
def trained() -> tuple[Any, Tensor, Tensor]:
    """A network whose loss is as good as zero, and its examples."""
    torch.manual_seed(0)
    network = channels_last(resnet(DIGITS, NUM_CLASSES, width=8))
    inputs, labels = examples(DIGITS)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
    for _ in range(400):
        loss = MSE(NUM_CLASSES)(network(inputs)[0], labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 1e-9
    return network, inputs, labels


@pytest.mark.slow
@pytest.mark.parametrize("precision", TOLERANCES)
@pytest.mark.parametrize(("compiled", "tolerances"), [(False, TOLERANCES), (True, COMPILED_TOLERANCES)])
def test_relative_errors_stay_as_small_once_the_loss_is_zero(
    trained: Any, precision: str, compiled: bool, tolerances: dict[str, float]
) -> None:
    network, inputs, labels = trained
    forward = as_trained(network, precision)
    errors = relative_errors(network, forward, MSE_LOSS, inputs, labels, compiled=compiled)
    assert max(errors.values()) <= tolerances[precision] / MARGIN


class Broken(torch.autograd.Function):
    """inputs @ weightᵀ, whose gradients or values are off by a factor, though not in float64: a kernel's fault."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, where: str, factor: float) -> Tensor:
        ctx.save_for_backward(inputs, weight)
        ctx.factors = [factor if where == part and weight.dtype != torch.float64 else 1 for part in ("input", "weight")]
        return inputs @ weight.T * (factor if where == "output" and weight.dtype != torch.float64 else 1)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (gradient,), (inputs, weight) = gradients, ctx.saved_tensors
        return gradient @ weight * ctx.factors[0], gradient.T @ inputs * ctx.factors[1], None, None


class BrokenLinear(nn.Linear):
    def __init__(self, where: str, factor: float) -> None:
        super().__init__(64, 64)
        self.where, self.factor = where, factor

    def forward(self, inputs: Tensor) -> Tensor:
        with torch.autocast("cpu", enabled=False):
            return Broken.apply(inputs.to(self.weight.dtype), self.weight, self.where, self.factor) + self.bias


def broken_network(where: str, factor: float) -> Any:
    network: Any = mlp(DIGITS, NUM_CLASSES, hidden=[64, 64, 64])
    network.backbone[4] = BrokenLinear(where, factor)
    return network


@pytest.mark.parametrize("precision", TOLERANCES)
def test_check_gradients_does_not_judge_the_rounding_of_large_inputs(precision: str) -> None:
    """10⁶ ± 1 behind a batch norm: float32 rounds the inputs themselves by a sixteenth of what varies."""
    torch.manual_seed(0)
    network = mlp((64,), NUM_CLASSES, hidden=[64, 32])
    forward, (inputs, labels) = as_trained(network, precision), examples((64,))
    large = inputs + 1e6
    errors = relative_errors(network, forward, MSE_LOSS, large, labels, compiled=False)
    assert max(errors.values()) > TOLERANCES[precision]
    check_gradients(network, forward, MSE_LOSS, large, labels, precision=precision)
    broken = broken_network("weight", -1.0)
    with pytest.raises(WrongGradients, match=r"gradient of backbone\.4\.weight"):
        check_gradients(
            broken, as_trained(broken, precision), MSE_LOSS, examples(DIGITS)[0] + 1e6, labels, precision=precision
        )


class Normalised(nn.Module):
    """Batch norm of a linear layer of what `first` makes of the inputs."""

    def __init__(self, first: nn.Module, last: nn.Module) -> None:
        super().__init__()
        self.body = nn.Sequential(first, nn.Flatten(), nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU(), last)
        self.classifier = nn.Linear(64, NUM_CLASSES)

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        features = self.body(inputs)
        return self.classifier(features), features


@pytest.mark.parametrize("precision", TOLERANCES)
@pytest.mark.parametrize(
    ("weight", "bias"),
    [(0.0, 1.0), (0.0, 1e6), (1.0, 1e6), (1e6, 1.0), (1e19, 1.0), (1e30, 0.0)],
)
def test_check_gradients_leaves_features_apart_by_rounding_alone(precision: str, weight: float, bias: float) -> None:
    """Constant, far from 0, or beyond float32 in a sum of squares, whatever the inputs are: by the weights."""
    torch.manual_seed(0)
    network: Any = Normalised(nn.Identity(), nn.Linear(64, 64))
    with torch.no_grad():
        network.body[2].weight.mul_(weight)
        network.body[2].bias.fill_(bias)
    inputs, labels = examples((64,))
    check_gradients(network, as_trained(network, precision), MSE_LOSS, inputs, labels, precision=precision)


@pytest.mark.parametrize("precision", TOLERANCES)
@pytest.mark.parametrize("distinct", [1, 2, 16])
def test_check_gradients_does_not_judge_inputs_that_are_all_the_same(precision: str, distinct: int) -> None:
    """Whole numbers: no others can be tried in their place."""
    torch.manual_seed(0)
    inputs, labels = torch.randint(50, (distinct, 4)).repeat(NUM_EXAMPLES // distinct, 1), examples((1,))[1]
    network = Normalised(nn.Embedding(50, 16), nn.Linear(64, 64))
    check_gradients(network, as_trained(network, precision), MSE_LOSS, inputs, labels, precision=precision)
    network = Normalised(nn.Embedding(50, 16), BrokenLinear("weight", -1.0))
    with contextlib.nullcontext() if distinct == 1 else pytest.raises(WrongGradients, match=r"body\.5\.weight"):
        check_gradients(network, as_trained(network, precision), MSE_LOSS, inputs, labels, precision=precision)


@pytest.mark.parametrize(
    ("where", "named"),
    [
        ("weight", "gradient of backbone.4.weight"),
        ("input", "gradient of backbone.2.bias"),
        ("output", "output of backbone.4"),
    ],
)
@pytest.mark.parametrize("factor", [0.0, -1.0, 600.0])
@pytest.mark.parametrize("precision", TOLERANCES)
def test_check_gradients_names_the_broken_layer(where: str, named: str, factor: float, precision: str) -> None:
    torch.manual_seed(0)
    network = broken_network(where, factor)
    inputs, labels = examples(DIGITS)
    with pytest.raises(WrongGradients, match="ONEDNN_MAX_CPU_ISA") as refusal:
        check_gradients(network, as_trained(network, precision), CROSS_ENTROPY, inputs, labels, precision=precision)
    assert str(refusal.value).startswith(f"{named}: expected a relative error of at most {TOLERANCES[precision]:g}")
    assert ("precision=fp32" in str(refusal.value)) == (precision == "bf16")


@pytest.mark.slow
@pytest.mark.parametrize("precision", TOLERANCES)
def test_check_gradients_passes_a_compiled_network_not_a_broken_one(precision: str) -> None:
    torch.manual_seed(0)
    inputs, labels = examples(DIGITS)
    for network, right in (
        (channels_last(resnet(DIGITS, NUM_CLASSES)), True),
        (broken_network("weight", 1e3), False),
    ):
        forward = torch.compile(as_trained(network, precision), backend="aot_eager")
        refused = pytest.raises(WrongGradients, match=r"gradient of backbone\.4\.weight.*compile=false")
        with contextlib.nullcontext() if right else refused:
            check_gradients(network, forward, MSE_LOSS, inputs, labels, precision=precision, compiled=True)


def with_dropout() -> Any:
    network: Any = resnet(DIGITS, NUM_CLASSES)
    network.backbone.insert(4, nn.Dropout(0.5))
    network.backbone.insert(2, nn.Dropout2d(0.5))
    return channels_last(network)


def impossible_loss(logits: Tensor, labels: Tensor, features: Tensor) -> Tensor:
    raise ZeroDivisionError


@pytest.mark.parametrize("precision", TOLERANCES)
@pytest.mark.parametrize("fails", [False, True])
def test_check_gradients_leaves_everything_as_found_bit_for_bit(precision: str, fails: bool) -> None:
    torch.manual_seed(0)
    network = with_dropout()
    inputs, labels = examples(DIGITS)
    MSE(NUM_CLASSES)(network(inputs)[0], labels).backward()  # gradients and running statistics that are not the first
    network.backbone[1].eval()
    network.classifier.bias.grad = None
    tensors = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    found = {name: value.detach().clone() for name, value in tensors.items()}
    gradients = {name: (p.grad, copy.deepcopy(p.grad)) for name, p in network.named_parameters()}
    modes = [module.training for module in network.modules()]
    generators = torch.get_rng_state(), random.getstate()
    loss = impossible_loss if fails else MSE_LOSS
    with pytest.raises(ZeroDivisionError) if fails else contextlib.nullcontext():
        check_gradients(network, as_trained(network, precision), loss, inputs, labels, precision=precision)
    for name, value in {**dict(network.named_parameters()), **dict(network.named_buffers())}.items():
        assert value is tensors[name]
        assert torch.equal(value, found[name])
    for name, parameter in network.named_parameters():
        same, value = gradients[name]
        assert parameter.grad is same
        assert same is value is None or torch.equal(same, value)
    assert [module.training for module in network.modules()] == modes
    assert torch.equal(torch.get_rng_state(), generators[0])
    assert random.getstate() == generators[1]
    assert not any(module._forward_hooks for module in network.modules())


def test_check_gradients_passes_float64_networks_and_zero_gradients() -> None:
    torch.manual_seed(0)
    features = unconstrained_features((20,), NUM_CLASSES, num_features=3)
    rows, labels = torch.eye(20).double(), torch.arange(20) // 2
    check_gradients(features, features, MSE_LOSS, rows, labels, precision="fp32")
    network = channels_last(resnet(DIGITS, NUM_CLASSES))
    nn.init.zeros_(network.backbone[3].residual[4].weight)
    check_gradients(network, network, MSE_LOSS, *examples(DIGITS), precision="fp32")


def test_check_gradients_leaves_infinite_losses_and_other_precisions() -> None:
    network = mlp(DIGITS, NUM_CLASSES, hidden=[8])
    inputs, labels = examples(DIGITS)
    check_gradients(network, network, MSE_LOSS, inputs * math.nan, labels, precision="fp32")
    with pytest.raises(ValueError, match="precision: expected one of fp32, bf16, got tf32"):
        check_gradients(network, network, MSE_LOSS, inputs, labels, precision="tf32")


def test_gradient_check_runs_once_for_each_shape_precision_and_compilation() -> None:
    torch.manual_seed(0)
    calls = []
    narrow, wide = (resnet(DIGITS, NUM_CLASSES, width=width) for width in (4, 8))
    inputs, labels = examples(DIGITS)

    def run(network: nn.Module, inputs: Tensor, **options: Any) -> None:
        def forward(inputs: Tensor) -> Any:
            calls.append(1)
            return network(inputs)

        check_gradients(network, forward, MSE_LOSS, inputs, labels[: len(inputs)], **options)

    plain: dict[str, Any] = {"precision": "fp32", "compiled": False}
    for expected, network, some, options in [
        (1, narrow, inputs, plain),
        (1, resnet(DIGITS, NUM_CLASSES, width=4), inputs, plain),
        (2, wide, inputs, plain),
        (3, narrow, inputs[:8], plain),
        (4, narrow, inputs, plain | {"compiled": True}),
        (5, narrow, inputs, plain | {"precision": "bf16"}),
        (6, channels_last(copy.deepcopy(narrow)), inputs, plain),
    ]:
        run(network, some, **options)
        assert len(calls) == expected
    for _ in range(2):  # what was wrong is looked at again
        broken = broken_network("weight", 0.0)
        with pytest.raises(WrongGradients):
            check_gradients(broken, broken, MSE_LOSS, inputs, labels, **plain)


def test_run_with_wrong_gradients_is_refused_before_anything_is_written(
    composed: Compose, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = assemble

    def with_a_broken_layer(config: RunConfig, **given: Any) -> Any:
        assembly = built(config, **given)
        assembly.training.network.backbone.append(BrokenLinear("weight", -1.0))
        return assembly

    monkeypatch.setattr("ncexp.main.assemble", with_a_broken_layer)
    raw = composed("architecture=mlp", "architecture.hidden=[64]")
    with pytest.raises(ConfigError, match=r"gradient of backbone\.\d\.weight: expected a relative error"):
        run(raw, console)
    assert not check(raw).outputs.exists()
