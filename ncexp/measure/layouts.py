"""Which axis of a module's output has its units: read from what the modules are, while a batch runs through them.

An output has its units on axis 1 (``channels``: (n, channels, positions...)) or on the last axis (``tokens``:
(n, positions..., width)). The number of axes does not tell. The rule, module by module:

1. A layer of `KNOWN` says it by what it is; a layer norm by the axis that has its width.
2. An activation or dropout has the layout of what it is given; so has a module that returns what one of its modules
   returned, as nn.Sequential does.
3. Any other module: the tensors of known layout that it is given, or that its modules return, and whose positions are
   those of its output, or as many for as many units. If they have one layout it is that; if none or two it is unknown.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils.weak import WeakIdKeyDictionary

#: features: (n, P), one way to read it; batch_second: (tokens, n, width), as of attention with batch_first=False.
Layout = Literal["channels", "tokens", "features", "batch_second", "unknown"]
#: Subclasses too: what these take and return is part of what they are.
KNOWN: dict[Layout, tuple[type[nn.Module], ...]] = {
    "channels": (
        nn.modules.conv._ConvNd,
        nn.modules.batchnorm._NormBase,
        nn.GroupNorm,
        nn.modules.pooling._MaxPoolNd,
        nn.modules.pooling._AvgPoolNd,
        nn.modules.pooling._AdaptiveAvgPoolNd,
        nn.modules.pooling._AdaptiveMaxPoolNd,
    ),
    "tokens": (nn.Linear, nn.Embedding),
}
#: Of these the layout depends on batch_first.
SEQUENCES = (nn.MultiheadAttention, nn.RNNBase)
#: The modules of these files act on each number alone.
POINTWISE = ("torch.nn.modules.activation", "torch.nn.modules.dropout", "torch.nn.modules.linear")  # Identity

CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def positions(shape: torch.Size, layout: Layout) -> tuple[int, ...]:
    """The sizes of the axes that are neither batch nor units."""
    return tuple(shape[2:] if layout == "channels" else shape[1:-1])


def units(shape: torch.Size, layout: Layout) -> int:
    """The size of the axis of units."""
    return shape[1] if layout == "channels" else shape[-1]


def tensor_of(module: nn.Module, output: Any) -> Tensor:
    """The one tensor of an output: itself, ``last_hidden_state`` of a mapping, the only one of a tuple or mapping.

    Attention returns its weights too, and a recurrent layer its state: of these it is the first. Raises ValueError
    where it is not clear which one is meant.
    """
    if isinstance(output, Tensor):
        return output
    found = [*output.values()] if isinstance(output, Mapping) else [*output] if isinstance(output, tuple | list) else []
    if isinstance(output, Mapping) and isinstance(output.get("last_hidden_state"), Tensor):
        return output["last_hidden_state"]
    if isinstance(module, SEQUENCES) and isinstance(found[0], Tensor):
        return found[0]
    tensors = [one for one in found if isinstance(one, Tensor) and one.is_floating_point()]
    if len(tensors) == 1 and not any(_holds_tensors(one) for one in found if one is not tensors[0]):
        return tensors[0]
    shapes = ", ".join(str(tuple(one.shape)) for one in tensors) or "none"
    raise ValueError(f"expected one tensor of numbers, got a {type(output).__name__} with {shapes}")


def _holds_tensors(one: Any) -> bool:
    parts = [*one.values()] if isinstance(one, Mapping) else [*one] if isinstance(one, tuple | list) else []
    return any(isinstance(part, Tensor) or _holds_tensors(part) for part in parts)


class Layouts:
    """Watches all modules of a network during one pass; afterwards `of` says the layout of each module's output."""

    def __init__(self) -> None:
        self._tensors: Any = WeakIdKeyDictionary()
        self._evidence: list[list[tuple[torch.Size, Layout]]] = []
        self._found: dict[nn.Module, Layout] = {}

    @contextmanager
    def watching(self) -> Iterator[None]:
        """For the length of one forward pass."""
        with ExitStack() as hooks:
            for handle in (register_module_forward_pre_hook(self._enter), register_module_forward_hook(self._leave)):
                hooks.callback(handle.remove)
            yield

    def of(self, module: nn.Module) -> Layout:
        """The layout of its output in the pass that was watched; unknown where it did not run."""
        return self._found.get(module, "unknown")

    def _enter(self, module: nn.Module, given: Any) -> None:
        inputs = [one for one in given if isinstance(one, Tensor)]
        self._evidence.append([(one.shape, self._tensors[one]) for one in inputs[:1] if one in self._tensors])

    def _leave(self, module: nn.Module, given: Any, output: Any) -> None:
        evidence = self._evidence.pop() if self._evidence else []
        try:
            tensor = tensor_of(module, output)
        except ValueError:
            tensor = None
        if tensor is not None:
            layout = self._layout(module, given, tensor, evidence)
            self._found[module] = layout
            if layout != "unknown":
                self._tensors[tensor] = layout
                evidence.append((tensor.shape, layout))
        if self._evidence:
            self._evidence[-1].extend(evidence)

    def _layout(
        self, module: nn.Module, given: Any, output: Tensor, evidence: list[tuple[torch.Size, Layout]]
    ) -> Layout:
        if isinstance(module, SEQUENCES):
            return "tokens" if module.batch_first else "batch_second"
        if output.dim() == 2:
            return "features"
        for layout, kinds in KNOWN.items():
            if isinstance(module, kinds):
                return layout
        width = getattr(module, "normalized_shape", None)
        if width is not None:  # a LayerNorm2d of timm or torchvision is an nn.LayerNorm, of axis 1
            return _axis_of(output, width[-1], len(width), type(module).forward is nn.LayerNorm.forward)
        if type(module).__module__ in POINTWISE and given and isinstance(given[0], Tensor):
            return self._tensors.get(given[0], "unknown")
        if output in self._tensors:
            return self._tensors[output]
        return _by_evidence(output, evidence)


def _axis_of(output: Tensor, width: int, axes: int, as_torch: bool) -> Layout:
    if axes > 1:
        return "unknown"
    first, last = output.shape[1] == width, output.shape[-1] == width
    if as_torch or (last and not first):
        return "tokens"
    return "channels" if first and not last else "unknown"


def _by_evidence(output: Tensor, evidence: list[tuple[torch.Size, Layout]]) -> Layout:
    same = [(shape, kind) for shape, kind in evidence if len(shape) == output.dim() and shape[0] == output.shape[0]]
    if any(kind == "batch_second" for _, kind in evidence):
        return "unknown"
    fitting = {kind for shape, kind in same if positions(shape, kind) == positions(output.shape, kind)}
    fitting |= {  # positions in rows and columns there, in a line here, or the reverse
        kind
        for shape, kind in evidence
        if (shape[0], units(shape, kind), shape.numel()) == (output.shape[0], units(output.shape, kind), output.numel())
    }
    if output.shape[1] == output.shape[-1]:  # where an axis could be either, all of them must have one layout
        fitting |= {kind for shape, kind in same}
    return fitting.pop() if len(fitting) == 1 else "unknown"


def eager() -> Any:
    """Within it nothing runs as torch.compile's program, which would not meet a hook."""
    stack = ExitStack()
    if "torch._dynamo" in sys.modules:  # which takes seconds to import: nothing is compiled without it
        stack.enter_context(torch.compiler.set_stance("force_eager"))
    return stack


def blocks_of(network: nn.Module) -> list[str]:
    """The names of the network's blocks, in order.

    Names are those of network.named_modules(), which of a tapped model are the model's. A block is an element of an
    nn.Sequential, nn.ModuleList or nn.ModuleDict that has parameters and modules of its own, and is none of these
    three itself. An element is a stage, which is opened, where one of these three directly in it has such elements
    only, all of one class.
    """
    return [name for name, _ in _blocks(next(network.named_modules())[1], "")]


def _blocks(module: nn.Module, prefix: str) -> Iterator[tuple[str, nn.Module]]:
    for name, child in module.named_children():
        if not any(True for _ in child.parameters()) or not any(True for _ in child.children()):
            continue
        place = f"{prefix}{name}"
        if isinstance(module, CONTAINERS) and not isinstance(child, CONTAINERS) and not _is_stage(child):
            yield place, child
        else:
            yield from _blocks(child, f"{place}.")


def _is_stage(module: nn.Module) -> bool:
    for child in module.children():
        elements = [*child.children()] if isinstance(child, CONTAINERS) else []
        kinds = {type(one) for one in elements}
        if len(kinds) == 1 and all([*one.children()] for one in elements) and not isinstance(elements[0], CONTAINERS):
            return True
    return False
