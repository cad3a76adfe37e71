"""What a choice of architecture amounts to at an input shape: feature width, parameters, floating-point operations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ncexp.architectures.network import answer_of
from ncexp.config import Component
from ncexp.config.installed import choices, read_choice


@dataclass(frozen=True)
class ArchitectureSize:
    """num_features: P; num_parameters: the trained ones; flops: of one forward pass of one example.

    A multiply-add is two operations; counted are convolutions and matrix products, as torch.utils.flop_counter does.
    A training step takes about three times as many an example.
    """

    num_features: int
    num_parameters: int
    flops: int


@dataclass(frozen=True)
class ArchitectureRow:
    """One choice: its size, or in words why it has none: inputs that it does not take, or what is left to choose."""

    name: str
    size: ArchitectureSize | None
    refusal: str


def list_architectures() -> list[str]:
    """The names of the shipped choices, by family and depth."""
    return [*choices("architecture")]


def describe_architectures(
    names: Sequence[str], input_shape: tuple[int, ...], num_classes: int
) -> list[ArchitectureRow]:
    """One row per name in conf/architecture, in the order asked for; nothing is allocated or computed.

    Raises ConfigError for a name that is no choice, the valid ones listed.
    """
    rows = []
    for name in names:
        raw = read_choice("architecture", name)
        size, refusal = None, ""
        if missing := [option for option, value in raw.items() if value == "???"]:
            refusal = f"any that architecture.{missing[0]} names"
        else:
            try:
                size = measure_size(Component.check("architecture", raw), input_shape, num_classes)
            except ValueError as refused:
                refusal = str(refused)
        rows.append(ArchitectureRow(name, size, refusal))
    return rows


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
