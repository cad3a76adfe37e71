"""The networks of Simonyan and Zisserman 2015, Table 1, with batch norm and without dropout: 11, 13, 16, 19 layers."""

from __future__ import annotations

from typing import Literal

from torch import nn
from torchvision.models import vgg as torchvision_vgg

from ncexp.architectures.network import Classifier, Network, image_shape
from ncexp.architectures.resnet import initialize_convolutions
from ncexp.config import Width

#: torchvision's letters for the columns of the paper's table, whose first convolution has 64 channels.
_COLUMNS = {11: "A", 13: "B", 16: "D", 19: "E"}
_PUBLISHED_WIDTH = 64
_HIDDEN = 4096


def vgg(
    input_shape: tuple[int, ...],
    num_classes: int,
    *,
    depth: Literal[11, 13, 16, 19],
    width: Width = _PUBLISHED_WIDTH,
    head: Literal["average", "fully_connected"] = "average",
    classifier: Classifier = "linear",
) -> Network:
    """torchvision's convolutions, each followed by batch norm and ReLU, then the head.

    width: channels of the first convolution, from which the others follow up to 8·width. A max-pool that would meet an
    image of a single pixel is left out: the fifth below 32 pixels, the fourth below 16.
    head average: global average, features (n, 8·width), non-negative. fully_connected: as published, the average in
    7×7 cells and twice Linear → ReLU of 4096, each with a batch norm where the paper has its dropout; features
    (n, 4096). Convolutions start from He's normal distribution (fan out), biases at 0, batch norms at 1 and 0, linear
    layers at torch's default, all from torch's global generator.
    Raises ValueError for inputs that are not images.
    """
    channels, height, width_of_image = image_shape(input_shape, smallest=1)
    layers = _layers(depth, width, min(height, width_of_image))
    convolutions = torchvision_vgg.make_layers(layers, batch_norm=True)
    first = convolutions[0]
    convolutions[0] = nn.Conv2d(channels, width, first.kernel_size, first.stride, first.padding)
    initialize_convolutions(convolutions)
    out = 8 * width
    if head == "average":
        return Network(
            nn.Sequential(*convolutions, nn.AdaptiveAvgPool2d(1), nn.Flatten()), out, num_classes, classifier
        )
    hidden = [
        *(nn.Linear(49 * out, _HIDDEN), nn.ReLU(inplace=True), nn.BatchNorm1d(_HIDDEN)),
        *(nn.Linear(_HIDDEN, _HIDDEN), nn.ReLU(inplace=True), nn.BatchNorm1d(_HIDDEN)),
    ]
    backbone = nn.Sequential(*convolutions, nn.AdaptiveAvgPool2d(7), nn.Flatten(), *hidden)
    return Network(backbone, _HIDDEN, num_classes, classifier)


def _layers(depth: int, width: int, size: int) -> list[str | int]:
    """torchvision's list of channels and max-pools ("M"), for the first width and without pools of a single pixel."""
    layers: list[str | int] = []
    for layer in torchvision_vgg.cfgs[_COLUMNS[depth]]:
        if layer == "M":
            if size > 1:
                layers.append("M")
            size //= 2
        else:
            layers.append(layer * width // _PUBLISHED_WIDTH)
    return layers
