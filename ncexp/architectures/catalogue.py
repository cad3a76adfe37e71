"""What a choice of architecture amounts to at an input shape: feature width, parameters, floating-point operations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ncexp.architectures.network import answer_of
from ncexp.config import Component
from ncexp.config.installed import read_choice


class ArchitectureSize(NamedTuple):
    """num_features: P; num_parameters: the trained ones; flops: of one forward pass of one example.

    A multiply-add is two operations; counted are convolutions and matrix products, as torch.utils.flop_counter does.
    A training step takes about three times as many an example.
    """

    num_features: int
    num_parameters: int
    flops: int


def describe_architectures(
    names: Sequence[str], input_shape: tuple[int, ...], num_classes: int
) -> dict[str, ArchitectureSize | str]:
    """The size of each of these choices, or in words why it has none: inputs that it does not take, what is left to
    choose; nothing is allocated or computed.

    Raises ConfigError for a name that is no choice, the valid ones listed.
    """
    found: dict[str, ArchitectureSize | str] = {}
    for name in names:
        raw = read_choice("architecture", name)
        if missing := [option for option, value in raw.items() if value == "???"]:
            found[name] = f"any that architecture.{missing[0]} names"
            continue
        try:
            found[name] = measure_size(Component.check("architecture", raw), input_shape, num_classes)
        except ValueError as refused:
            found[name] = str(refused)
    return found


def measure_size(architecture: Component, input_shape: tuple[int, ...], num_classes: int) -> ArchitectureSize:
    """Build the network on the meta device and run it there on one example, in eval mode.

    Raises ValueError where the network refuses the shape.
    """
    with torch.device("meta"):
        network: nn.Module = architecture.build(input_shape=input_shape, num_classes=num_classes)
        with FlopCounterMode(display=False) as counter:
            _, features = answer_of(network, torch.empty(1, *input_shape))
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return ArchitectureSize(features.shape[1], parameters, counter.get_total_flops())
