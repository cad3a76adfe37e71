"""What a choice of architecture amounts to at an input shape: feature width, parameters, floating-point operations."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import yaml
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ncexp.config import Component, ConfigError, nearest
from ncexp.config.composing import config_directory


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
    names = [path.stem for path in (config_directory() / "architecture").glob("*.yaml")]
    return sorted(names, key=lambda name: [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)])


def describe_architectures(
    names: Sequence[str], input_shape: tuple[int, ...], num_classes: int
) -> list[ArchitectureRow]:
    """One row per name in conf/architecture, in the order asked for; nothing is allocated or computed.

    Raises ConfigError for a name that is no choice, the valid ones listed.
    """
    return [_row(name, _shipped(name), input_shape, num_classes) for name in names]


def measure_size(architecture: Component, input_shape: tuple[int, ...], num_classes: int) -> ArchitectureSize:
    """Build the network on the meta device and run it there on one example, in eval mode.

    Raises ValueError where the network refuses the shape.
    """
    with torch.device("meta"):
        network: nn.Module = architecture.build(input_shape=input_shape, num_classes=num_classes)
        network.eval()
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            _, features = network(torch.empty(1, *input_shape))
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return ArchitectureSize(features.shape[1], parameters, counter.get_total_flops())


def _row(name: str, raw: dict[str, Any], input_shape: tuple[int, ...], num_classes: int) -> ArchitectureRow:
    if missing := [option for option, value in raw.items() if value == "???"]:
        return ArchitectureRow(name, None, f"any that architecture.{missing[0]} names")
    architecture = Component.check("architecture", raw)
    try:
        return ArchitectureRow(name, measure_size(architecture, input_shape, num_classes), "")
    except ValueError as refusal:
        return ArchitectureRow(name, None, str(refusal))


def _shipped(name: str) -> dict[str, Any]:
    path = config_directory() / "architecture" / f"{name}.yaml"
    if name not in list_architectures():
        raise ConfigError(f"architecture: no such choice as {name!r}. {nearest(name, list_architectures())}")
    raw: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return raw
