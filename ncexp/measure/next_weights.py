"""Which weight reads the features of a probed submodule, found out by running the network on a few examples."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ncexp.measure.probes import Probe

#: What has a weight that a matrix product applies to the last axis; to axis 1.
LINEAR, CONVOLUTIONS = (nn.Linear,), (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def next_weights(network: nn.Module, probes: Mapping[str, Probe], inputs: Any) -> dict[str, Tensor | None]:
    """Probe, in the order in which their modules first end → W (any, P) of the layers that are given its output, or its
    features, as they are; None where nothing of this kind reads it, as before a normalisation.

    A layer is an nn.Linear, or a convolution in one group: (out, in, k, ...) counts as (out · k ..., in), what it takes
    from each channel. Where several layers read one output, as a block and its shortcut do, their rows stand below each
    other in the order in which they run.
    """
    outputs: dict[str, Tensor] = {}
    readers: dict[str, dict[nn.Module, Tensor]] = {}

    def put_out(name: str, module: nn.Module, arguments: Any, output: Any) -> None:
        if isinstance(output, Tensor):
            outputs[name] = output

    def take_in(module: nn.Module, arguments: Any, named: Any) -> None:
        given = arguments[0] if arguments else named.get("input")
        for name, output in outputs.items():
            if (
                isinstance(given, Tensor)
                and (weight := _weight(module, given, output, probes[name].reduce)) is not None
            ):
                readers.setdefault(name, {})[module] = weight

    modules = dict(network.named_modules())
    with ExitStack() as hooked, torch.no_grad():
        for name, probe in probes.items():
            hooked.enter_context(modules[probe.module].register_forward_hook(partial(put_out, name)))
        for module in modules.values():
            if isinstance(module, (*LINEAR, *CONVOLUTIONS)):
                hooked.enter_context(module.register_forward_pre_hook(take_in, with_kwargs=True))
        network(inputs)
    found = {name: [*readers.get(name, {}).values()] for name in outputs}
    return {name: torch.cat(weights).cpu() if weights else None for name, weights in found.items()}


def _weight(module: Any, given: Tensor, output: Tensor, reduce: Callable[[Tensor], Tensor]) -> Tensor | None:
    """W as a matrix of which each column is one of the probe's features; None where it does not read them."""
    features = reduce(output)
    if not _same(given, output) and not _same(given, features):
        return None
    weight: Tensor = module.weight.detach()
    if isinstance(module, CONVOLUTIONS):
        if module.groups > 1:
            return None
        weight = weight.movedim(1, -1).flatten(0, -2)
    return weight if weight.shape[1] == features.shape[1] else None


def _same(one: Tensor, other: Tensor) -> bool:
    return one is other or (one.shape == other.shape and torch.equal(one, other))
