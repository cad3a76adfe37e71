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
from ncexp.training.canary import COMPILED_TOLERANCES, TOLERANCES, WrongGradients, check_gradients, relative_errors
from ncexp.training.losses import MSE, CrossEntropy, objective_of

NUM_CLASSES, NUM_EXAMPLES = 10, 16
MSE_LOSS, CROSS_ENTROPY = objective_of(MSE(NUM_CLASSES)), objective_of(CrossEntropy(NUM_CLASSES))
#: How far the healthy stay from a tolerance.
MARGIN = 6
DIGITS, COLOUR = (1, 8, 8), (3, 32, 32)
NETWORKS: dict[str, Callable[[tuple[int, ...]], nn.Module]] = {
    "resnet": lambda shape: resnet(shape, NUM_CLASSES),
    "resnet_narrow": lambda shape: resnet(shape, NUM_CLASSES, width=4),
    "vgg19": lambda shape: vgg(shape, NUM_CLASSES, depth=19, width=8),
    "densenet": lambda shape: densenet(shape, NUM_CLASSES, layers=[2, 2, 2], growth_rate=4),
    "mlp": lambda shape: mlp(shape, NUM_CLASSES, hidden=[256, 256, 64]),
}
PRECISIONS = pytest.mark.parametrize("precision", TOLERANCES)


@pytest.fixture(autouse=True)
def seeded_and_nothing_found_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(canary, "_FOUND_RIGHT", set())
    torch.manual_seed(0)


def examples(shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    return torch.randn(NUM_EXAMPLES, *shape), torch.arange(NUM_EXAMPLES) % NUM_CLASSES


def as_trained(network: nn.Module, precision: str) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    def forward(inputs: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            logits, features = network(inputs)
        return logits, features

    return forward


def errors_of(network: nn.Module, inputs: Tensor, labels: Tensor, precision: str, compiled: bool = False) -> Any:
    return relative_errors(network, as_trained(network, precision), MSE_LOSS, inputs, labels, compiled=compiled)


def check_of(network: nn.Module, inputs: Tensor, labels: Tensor, precision: str, loss: Any = MSE_LOSS) -> None:
    check_gradients(network, as_trained(network, precision), loss, inputs, labels, precision=precision)


def channels_last(network: nn.Module) -> Any:
    return network.to(memory_format=torch.channels_last)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("shape", [DIGITS, slow(COLOUR)], ids=["digits", "colour"])
@PRECISIONS
def test_relative_errors_of_healthy_networks_stay_far_below_the_tolerance(
    name: str, shape: tuple[int, ...], precision: str
) -> None:
    for seed in range(3 if shape == DIGITS else 1):
        torch.manual_seed(seed)
        network = channels_last(NETWORKS[name](shape))
        errors = errors_of(network, *examples(shape), precision)
        assert max(errors.values()) <= TOLERANCES[precision] / MARGIN
        assert sum(key.startswith("gradient") for key in errors) == len([*network.parameters()])


@pytest.mark.slow
def test_relative_errors_stay_as_small_once_the_loss_is_zero() -> None:
    network, (inputs, labels) = channels_last(resnet(DIGITS, NUM_CLASSES, width=8)), examples(DIGITS)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
    for _ in range(400):
        loss = MSE(NUM_CLASSES)(network(inputs)[0], labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 1e-9
    for compiled, tolerances in ((False, TOLERANCES), (True, COMPILED_TOLERANCES)):
        for precision, tolerance in tolerances.items():
            assert max(errors_of(network, inputs, labels, precision, compiled).values()) <= tolerance / MARGIN


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


@PRECISIONS
def test_check_gradients_does_not_judge_the_rounding_of_large_inputs(precision: str) -> None:
    """10⁶ ± 1 behind a batch norm: float32 rounds the inputs themselves by a sixteenth of what varies."""
    network, (inputs, labels) = mlp((64,), NUM_CLASSES, hidden=[64, 32]), examples((64,))
    assert max(errors_of(network, inputs + 1e6, labels, precision).values()) > TOLERANCES[precision]
    check_of(network, inputs + 1e6, labels, precision)
    with pytest.raises(WrongGradients, match=r"gradient of backbone\.4\.weight"):
        check_of(broken_network("weight", -1.0), examples(DIGITS)[0] + 1e6, labels, precision)


class Normalised(nn.Module):
    """Batch norm of a linear layer of what `first` makes of the inputs."""

    def __init__(self, first: nn.Module, last: nn.Module) -> None:
        super().__init__()
        self.body = nn.Sequential(first, nn.Flatten(), nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU(), last)
        self.classifier = nn.Linear(64, NUM_CLASSES)

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        features = self.body(inputs)
        return self.classifier(features), features


@PRECISIONS
@pytest.mark.parametrize(("weight", "bias"), [(0.0, 1.0), (0.0, 1e6), (1.0, 1e6), (1e6, 1.0), (1e19, 1.0), (1e30, 0.0)])
def test_check_gradients_leaves_features_apart_by_rounding_alone(precision: str, weight: float, bias: float) -> None:
    """Constant, far from 0, or beyond float32 in a sum of squares, whatever the inputs are: by the weights."""
    network: Any = Normalised(nn.Identity(), nn.Linear(64, 64))
    with torch.no_grad():
        network.body[2].weight.mul_(weight)
        network.body[2].bias.fill_(bias)
    check_of(network, *examples((64,)), precision)


@PRECISIONS
@pytest.mark.parametrize("distinct", [1, 2, 16])
def test_check_gradients_does_not_judge_inputs_that_are_all_the_same(precision: str, distinct: int) -> None:
    """Whole numbers: no others can be tried in their place."""
    inputs, labels = torch.randint(50, (distinct, 4)).repeat(NUM_EXAMPLES // distinct, 1), examples((1,))[1]
    check_of(Normalised(nn.Embedding(50, 16), nn.Linear(64, 64)), inputs, labels, precision)
    network = Normalised(nn.Embedding(50, 16), BrokenLinear("weight", -1.0))
    with contextlib.nullcontext() if distinct == 1 else pytest.raises(WrongGradients, match=r"body\.5\.weight"):
        check_of(network, inputs, labels, precision)


@pytest.mark.parametrize(
    ("where", "named"),
    [
        ("weight", "gradient of backbone.4.weight"),
        ("input", "gradient of backbone.2.bias"),
        ("output", "output of backbone.4"),
    ],
)
@pytest.mark.parametrize("factor", [0.0, -1.0, 600.0])
@PRECISIONS
def test_check_gradients_names_the_broken_layer(where: str, named: str, factor: float, precision: str) -> None:
    with pytest.raises(WrongGradients, match="ONEDNN_MAX_CPU_ISA") as refusal:
        check_of(broken_network(where, factor), *examples(DIGITS), precision, CROSS_ENTROPY)
    assert str(refusal.value).startswith(f"{named}: expected a relative error of at most {TOLERANCES[precision]:g}")
    assert ("precision=fp32" in str(refusal.value)) == (precision == "bf16")


@pytest.mark.slow
@PRECISIONS
def test_check_gradients_passes_a_compiled_network_not_a_broken_one(precision: str) -> None:
    networks = {channels_last(resnet(DIGITS, NUM_CLASSES)): True, broken_network("weight", 1e3): False}
    for network, right in networks.items():
        forward = torch.compile(as_trained(network, precision), backend="aot_eager")
        refused = pytest.raises(WrongGradients, match=r"gradient of backbone\.4\.weight.*compile=false")
        with contextlib.nullcontext() if right else refused:
            check_gradients(network, forward, MSE_LOSS, *examples(DIGITS), precision=precision, compiled=True)


def impossible_loss(logits: Tensor, labels: Tensor, features: Tensor) -> Tensor:
    raise ZeroDivisionError


@PRECISIONS
@pytest.mark.parametrize("fails", [False, True])
def test_check_gradients_leaves_everything_as_found_bit_for_bit(precision: str, fails: bool) -> None:
    network: Any = resnet(DIGITS, NUM_CLASSES)
    network.backbone.insert(4, nn.Dropout(0.5))
    network, (inputs, labels) = channels_last(network), examples(DIGITS)
    MSE(NUM_CLASSES)(network(inputs)[0], labels).backward()  # gradients and running statistics that are not the first
    network.backbone[1].eval()
    network.classifier.bias.grad = None

    def tensors() -> list[Tensor | None]:
        parameters = [*network.parameters()]
        return [*parameters, *network.buffers(), *(one.grad for one in parameters), torch.get_rng_state()]

    def others() -> list[Any]:
        return [random.getstate(), *((m.training, {**m._forward_hooks}) for m in network.modules())]

    same, found, before = tensors()[:-1], copy.deepcopy(tensors()), others()
    with pytest.raises(ZeroDivisionError) if fails else contextlib.nullcontext():
        check_of(network, inputs, labels, precision, objective_of(impossible_loss) if fails else MSE_LOSS)
    assert all(one is other for one, other in zip(tensors()[:-1], same, strict=True))
    for one, other in zip(tensors(), found, strict=True):
        assert one is other is None or torch.equal(one, other)  # type: ignore[arg-type]
    assert others() == before


def test_check_gradients_passes_float64_zero_gradients_and_infinite_losses() -> None:
    features = unconstrained_features((20,), NUM_CLASSES, num_features=3)
    check_gradients(features, features, MSE_LOSS, torch.eye(20).double(), torch.arange(20) // 2, precision="fp32")
    network, (inputs, labels) = channels_last(resnet(DIGITS, NUM_CLASSES)), examples(DIGITS)
    nn.init.zeros_(network.backbone[3].residual[4].weight)
    check_of(network, inputs, labels, "fp32")
    check_of(mlp(DIGITS, NUM_CLASSES, hidden=[8]), inputs * math.nan, labels, "fp32")
    with pytest.raises(ValueError, match="precision: expected one of fp32, bf16, got tf32"):
        check_of(network, inputs, labels, "tf32")


def test_gradient_check_runs_once_for_each_shape_precision_and_compilation() -> None:
    calls = []
    narrow, wide = (resnet(DIGITS, NUM_CLASSES, width=width) for width in (4, 8))
    inputs, labels = examples(DIGITS)
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

        def forward(given: Tensor, network: nn.Module = network) -> Any:
            calls.append(1)
            return network(given)

        check_gradients(network, forward, MSE_LOSS, some, labels[: len(some)], **options)
        assert len(calls) == expected
    broken = broken_network("weight", 0.0)
    for _ in range(2):  # what was wrong is looked at again
        with pytest.raises(WrongGradients):
            check_gradients(broken, broken, MSE_LOSS, inputs, labels, **plain)


def test_run_with_wrong_gradients_is_refused_before_anything_is_written(
    composed: Compose, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    def with_a_broken_layer(config: RunConfig, **given: Any) -> Any:
        assembly = assemble(config, **given)
        assembly.training.network.backbone.append(BrokenLinear("weight", -1.0))  # type: ignore[operator, union-attr]
        return assembly

    monkeypatch.setattr("ncexp.main.assemble", with_a_broken_layer)
    raw = composed("architecture=mlp", "architecture.hidden=[64]")
    with pytest.raises(ConfigError, match=r"gradient of backbone\.\d\.weight: expected a relative error"):
        run(raw, console)
    assert not check(raw).outputs.exists()
