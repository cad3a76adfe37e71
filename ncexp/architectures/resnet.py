"""The residual network for small images of He et al. 2016, section 4.2: three stages, 6 k + 2 layers."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from ncexp.architectures.network import Classifier, Network, image_shape
from ncexp.architectures.pointwise import StridedPointwise
from ncexp.config import Width


def resnet(
    input_shape: tuple[int, ...],
    num_classes: int,
    *,
    depth: Annotated[int, Field(ge=8, le=1202)] = 8,
    width: Width = 16,
    classifier: Classifier = "linear",
) -> Network:
    """Stem 3×3 stride 1 without max-pool, three stages, global average: features (n, 4·width), non-negative.

    A stage has (depth − 2)/6 basic blocks; the stages have width, 2·width and 4·width channels, the second and third
    halve the image. Convolutions start from He's normal distribution (fan out), batch norms at 1 and 0, the classifier
    at torch's default.
    Raises ValueError for a depth that is not 6 k + 2 and for inputs that are not images.
    """
    if (depth - 2) % 6:
        below = depth - (depth - 2) % 6
        raise ValueError(f"architecture.depth: expected 6 k + 2, got {depth}. The nearest are {below} and {below + 6}.")
    image_channels, _, _ = image_shape(input_shape, smallest=1)
    stages: list[nn.Module] = [_convolution(image_channels, width, stride=1), nn.BatchNorm2d(width), nn.ReLU()]
    channels = width
    for stage in range(3):
        for block in range((depth - 2) // 6):
            out = width * 2**stage
            stages.append(BasicBlock(channels, out, stride=2 if stage > 0 and block == 0 else 1))
            channels = out
    backbone = nn.Sequential(*stages, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    initialize_convolutions(backbone)
    return Network(backbone, channels, num_classes, classifier)


class BasicBlock(nn.Module):
    """relu(bn(conv(relu(bn(conv(x))))) + shortcut(x)), the shortcut a 1×1 convolution where the shape changes."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            _convolution(channels, out, stride),
            nn.BatchNorm2d(out),
            nn.ReLU(),
            _convolution(out, out, 1),
            nn.BatchNorm2d(out),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels != out:
            self.shortcut = nn.Sequential(StridedPointwise(channels, out, stride), nn.BatchNorm2d(out))

    def forward(self, inputs: Tensor) -> Tensor:
        return functional.relu(self.residual(inputs) + self.shortcut(inputs))


def initialize_convolutions(network: nn.Module) -> None:
    """He's normal distribution, fan out, gain of ReLU, for every convolution; from torch's global generator."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def _convolution(channels: int, out: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(channels, out, 3, stride, padding=1, bias=False)
