"""The densely connected networks (DenseNet-BC) of Huang et al. 2017 on torchvision's blocks, without dropout."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import nn
from torchvision.models import DenseNet

from ncexp.architectures.network import Classifier, Network, Stem, first_convolution, image_shape
from ncexp.config import Width

Layers = Annotated[list[Annotated[int, Field(ge=1, le=1000)]], Field(min_length=1, max_length=10)]


def densenet(
    input_shape: tuple[int, ...],
    num_classes: int,
    *,
    layers: Layers,
    growth_rate: Width = 12,
    stem: Stem = "small",
    classifier: Classifier = "linear",
) -> Network:
    """torchvision's network up to its global average, non-negative features (n, P).

    layers: dense layers in each block, every one a bottleneck of two convolutions, so that the depth is
    2·sum(layers) + len(layers) + 1; between two blocks channels and sides are halved. growth_rate: k, the channels
    that a layer adds to the 2k of the stem.
    stem small: one 3×3 convolution (Huang et al., section 3, for CIFAR and SVHN); imagenet: 7×7 with stride 2, batch
    norm, ReLU, max-pool. Convolutions start from He's normal distribution (fan in), batch norms at 1 and 0, all from
    torch's global generator.
    Raises ValueError for inputs that are not images, or too small for that many halvings.
    """
    halved = 2 ** (len(layers) - 1)
    channels, _, _ = image_shape(input_shape, smallest=halved if stem == "small" else 4 * halved - 3)
    network = DenseNet(growth_rate, tuple(layers), num_init_features=2 * growth_rate, num_classes=num_classes)
    network.features.conv0 = first_convolution(channels, 2 * growth_rate, stem, "fan_in")
    if stem == "small":  # the first dense layer begins with a batch norm of its own
        del network.features.norm0, network.features.relu0, network.features.pool0
    backbone = nn.Sequential(network.features, nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return Network(backbone, network.classifier.in_features, num_classes, classifier)
