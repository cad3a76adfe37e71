"""Which weight reads the features of a probed submodule, found out by running the network on a few examples."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ncexp.measure.layouts import eager, tensor_of
from ncexp.measure.probes import Probe, Probes

#: What has a weight that a matrix product applies to the last axis; to axis 1.
LINEAR, CONVOLUTIONS = (nn.Linear,), (nn.Conv1d, nn.Conv2d, nn.Conv3d)
#: Of a mean; a batch norm as it is made changes its input by more, 42 of float32.
ROUNDINGS = 8


def next_weights(network: nn.Module, probes: Mapping[str, Probe], inputs: Any, count: int) -> dict[str, Tensor | None]:
    """Submodule, in the order in which they end → W (any, P) of the layers that are given its output, or its features,
    as they are; None where nothing of this kind reads it, as before a normalisation. inputs: of `count` examples.

    A layer is an nn.Linear, or a convolution in one group: (out, in, k, ...) counts as (out · k ..., in), what it takes
    from each channel. Where several layers read one output, as a block and its shortcut do, their rows stand below each
    other in the order in which they run.
    """
    watched = Probes(network, probes, 1)
    with watched.watching(), torch.no_grad():
        network(inputs)
        watched.features(count)
    reductions = {place: watched.reductions[name] for name, place in watched.places.items()}
    #: What each submodule put out, and how often that had been changed in place.
    outputs: dict[str, tuple[Tensor, int]] = {}
    readers: dict[str, dict[nn.Module, Tensor]] = {}

    def put_out(place: str, module: nn.Module, arguments: Any, output: Any) -> None:
        tensor = tensor_of(module, output)
        outputs[place] = tensor, tensor._version

    def take_in(module: nn.Module, arguments: Any, named: Any) -> None:
        given = arguments[0] if arguments else named.get("input")
        if not isinstance(given, Tensor):
            return
        for place, (output, version) in outputs.items():
            if output._version == version:
                weight = _weight(module, given, output, reductions[place](output, None))
                if weight is not None:
                    readers.setdefault(place, {})[module] = weight

    modules = dict(network.named_modules())
    with ExitStack() as hooked, eager(), torch.no_grad():
        for place in reductions:
            hooked.enter_context(modules[place].register_forward_hook(partial(put_out, place)))
        for module in modules.values():
            if isinstance(module, (*LINEAR, *CONVOLUTIONS)):
                hooked.enter_context(module.register_forward_pre_hook(take_in, with_kwargs=True))
        network(inputs)
    found = {place: [*readers.get(place, {}).values()] for place in reductions}
    return {place: torch.cat(weights).cpu() if weights else None for place, weights in found.items()}


def _weight(module: Any, given: Tensor, output: Tensor, features: Tensor) -> Tensor | None:
    """W as a matrix of which each column is one of the features; None where it does not read them."""
    if not _same(given, output) and not _same(given, features):
        return None
    weight: Tensor = module.weight.detach()
    if isinstance(module, CONVOLUTIONS):
        if module.groups > 1:
            return None
        weight = weight.movedim(1, -1).flatten(0, -2)
    return weight if weight.shape[1] == features.shape[-1] else None


def _same(one: Tensor, other: Tensor) -> bool:
    """Whether they are one up to the rounding of a mean, which a network may take in another order."""
    if one is other:
        return True
    rounding = ROUNDINGS * torch.finfo(one.dtype).eps
    return one.shape == other.shape and bool(((one - other).abs() <= rounding * other.abs().max()).all())
