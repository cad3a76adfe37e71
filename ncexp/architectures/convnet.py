"""Strided convolutions, then fully connected layers: the smallest network of images that two cores train in full."""

from __future__ import annotations

from torch import nn

from ncexp.architectures.mlp import Widths
from ncexp.architectures.network import Classifier, Network, image_shape


def convnet(
    input_shape: tuple[int, ...],
    num_classes: int,
    *,
    channels: Widths,
    hidden: Widths,
    batch_norm: bool = False,
    classifier: Classifier = "linear",
) -> Network:
    """For every number in `channels` Conv of stride 2 → (BatchNorm) → ReLU, flatten, then Linear → (BatchNorm) → ReLU
    for every width in `hidden`; features (n, hidden[-1]), non-negative.

    The first convolution is 5×5, the others 3×3; each pads so that a side of s pixels becomes ⌈s/2⌉. LeCun et al. 1998
    (LeNet-5) with strides in place of pooling and ReLU in place of tanh. Weights at torch's default initialisation.
    Raises ValueError for inputs that are not images.
    """
    image_channels, height, width = image_shape(input_shape, smallest=1)
    layers: list[nn.Module] = []
    before = image_channels
    for place, out in enumerate(channels):
        size = 3 if place else 5
        layers.append(nn.Conv2d(before, out, size, stride=2, padding=size // 2, bias=not batch_norm))
        layers += [nn.BatchNorm2d(out), nn.ReLU()] if batch_norm else [nn.ReLU()]
        before, height, width = out, (height + 1) // 2, (width + 1) // 2
    layers.append(nn.Flatten())
    before *= height * width
    for out in hidden:
        layers.append(nn.Linear(before, out, bias=not batch_norm))
        layers += [nn.BatchNorm1d(out), nn.ReLU()] if batch_norm else [nn.ReLU()]
        before = out
    return Network(nn.Sequential(*layers), before, num_classes, classifier)
