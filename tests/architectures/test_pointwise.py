"""Strided 1×1 convolutions: replaced, with the same numbers as torch's in float64; the others get another layout."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import resnet as torchvision_resnet

from ncexp.architectures.deep_resnet import deep_resnet
from ncexp.architectures.densenet import densenet
from ncexp.architectures.mlp import mlp
from ncexp.architectures.pointwise import StridedPointwise, memory_format_for, replace_strided_pointwise
from ncexp.architectures.resnet import resnet
from ncexp.architectures.vgg import vgg

#: float64 sums of at most a few thousand terms in another order, relative to the largest.
TOLERANCE = 1e-12
#: The same through the layers of a deep network with batch norms of few values.
DEEP_TOLERANCE = 1e-9


def flops(network: nn.Module, inputs: Tensor) -> int:
    with FlopCounterMode(display=False) as counter:
        network(inputs)
    return counter.get_total_flops()


def gradients(module: nn.Module, inputs: Tensor) -> list[Tensor]:
    output = module(inputs)
    output = output[0] if isinstance(output, tuple) else output
    cotangent = torch.linspace(-1, 1, output.numel(), dtype=output.dtype).reshape(output.shape)
    return [output, *torch.autograd.grad((output * cotangent).sum(), [inputs, *module.parameters()])]


@pytest.mark.parametrize("stride", [1, 2, 3, (1, 2)])
@pytest.mark.parametrize("side", [1, 7, 8])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_strided_pointwise_equals_the_strided_convolution(stride: Any, side: int, layout: torch.memory_format) -> None:
    torch.manual_seed(0)
    plain, ours = nn.Conv2d(4, 6, 1, stride, bias=False).double(), StridedPointwise(4, 6, stride).double()
    ours.load_state_dict(plain.state_dict())
    inputs = torch.randn(5, 4, side, side, dtype=torch.float64, requires_grad=True)
    reordered = inputs.detach().to(memory_format=layout).requires_grad_()
    for expected, got in zip(
        gradients(plain, inputs), gradients(ours.to(memory_format=layout), reordered), strict=True
    ):
        assert (expected - got).abs().max() <= TOLERANCE * expected.abs().max()


@pytest.mark.parametrize(
    "network",
    [
        resnet((1, 8, 8), 10, width=4),
        deep_resnet((1, 8, 8), 10, depth=50),
        densenet((1, 8, 8), 10, layers=[2, 2, 2], growth_rate=4),
        vgg((1, 8, 8), 10, depth=11, width=8),
        mlp((1, 8, 8), 10, hidden=[4]),
        nn.Conv2d(16, 8, 1, 2),
        nn.Conv2d(15, 8, 1),
        nn.Conv2d(8, 8, 1, 2, groups=2),
        nn.Conv2d(15, 8, 3, 2),
    ],
)
def test_memory_format_is_channels_last_for_ours_and_for_what_is_right(network: nn.Module) -> None:
    assert memory_format_for(network) == (torch.channels_last, "")


@pytest.mark.parametrize("stride", [2, (1, 2)])
def test_memory_format_is_contiguous_for_a_narrow_strided_pointwise(stride: Any) -> None:
    layout, sentence = memory_format_for(nn.Sequential(nn.ReLU(), nn.Sequential(nn.Conv2d(15, 8, 1, stride))))
    assert layout == torch.contiguous_format
    assert "1.0 is a 1×1 convolution" in sentence
    assert "15 input channels" in sentence


def test_replacement_keeps_weight_and_bias_and_leaves_other_classes_alone() -> None:
    class Normalised(nn.Conv2d):
        """As weight-standardised networks have them."""

        def forward(self, inputs: Tensor) -> Tensor:
            return nn.functional.conv2d(inputs, self.weight - self.weight.mean(), self.bias, self.stride)

    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(4, 6, 1, 2), Normalised(6, 5, 1, 2)).double()
    inputs = torch.randn(3, 4, 8, 8, dtype=torch.float64)
    expected, parameters, generator = network(inputs), dict(network.named_parameters()), torch.get_rng_state()
    replace_strided_pointwise(network)
    assert [type(layer) for layer in network] == [StridedPointwise, Normalised]
    assert all(network.get_parameter(name) is parameter for name, parameter in parameters.items())
    assert torch.equal(torch.get_rng_state(), generator)
    assert (network(inputs) - expected).abs().max() <= TOLERANCE * expected.abs().max()
    assert memory_format_for(network)[0] is torch.contiguous_format


@pytest.mark.slow
@pytest.mark.parametrize("depth", [18, 50])
def test_deep_resnet_is_torchvisions_but_for_the_class_of_its_shortcuts(depth: int) -> None:
    torch.manual_seed(0)
    ours = deep_resnet((3, 32, 32), 10, depth=depth, stem="imagenet").backbone  # type: ignore[arg-type]
    replaced = [name for name, module in ours.named_modules() if isinstance(module, StridedPointwise)]
    assert replaced == [f"layer{stage}.0.downsample.0" for stage in (2, 3, 4)]
    theirs = getattr(torchvision_resnet, f"resnet{depth}")()
    theirs.fc = nn.Identity()
    theirs.load_state_dict(ours.state_dict())
    inputs = torch.randn(2, 3, 32, 32, dtype=torch.float64, requires_grad=True)
    assert flops(theirs.double(), inputs) == flops(ours.double(), inputs)
    theirs.load_state_dict(ours.state_dict())  # the running statistics, too
    for want, got in zip(gradients(theirs, inputs), gradients(ours, inputs), strict=True):
        assert (want - got).abs().max() <= DEEP_TOLERANCE * want.abs().max()
