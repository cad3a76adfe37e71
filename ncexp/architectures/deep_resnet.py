"""The deep residual networks of He et al. 2016, Table 1, on torchvision's: 18, 34, 50, 101, 152 layers."""

from __future__ import annotations

from typing import Literal

from torch import nn
from torchvision.models import resnet as torchvision_resnet

from ncexp.architectures.network import Classifier, Network, Stem, first_convolution, image_shape
from ncexp.architectures.pointwise import replace_strided_pointwise


def deep_resnet(
    input_shape: tuple[int, ...],
    num_classes: int,
    *,
    depth: Literal[18, 34, 50, 101, 152],
    stem: Stem = "small",
    classifier: Classifier = "linear",
) -> Network:
    """torchvision's network up to its global average: features (n, 512), (n, 2048) from 50 layers on; non-negative.

    stem small: the first convolution is 3×3 with stride 1 and the max-pool is left out (HPD22, PHD20, and the authors'
    notebook); imagenet: as published. Convolutions start from He's normal distribution (fan out), batch norms at 1 and
    0, all from torch's global generator.
    Raises ValueError for inputs that are not images.
    """
    channels, _, _ = image_shape(input_shape, smallest=1)
    backbone = getattr(torchvision_resnet, f"resnet{depth}")()
    num_features = backbone.fc.in_features
    backbone.conv1 = first_convolution(channels, backbone.conv1.out_channels, stem, "fan_out")
    if stem == "small":
        backbone.maxpool = nn.Identity()
    backbone.fc = nn.Identity()
    replace_strided_pointwise(backbone)
    return Network(backbone, num_features, num_classes, classifier)
