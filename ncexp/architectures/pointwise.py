"""A strided 1×1 convolution that does not meet an open fault of oneDNN, and the memory layout for networks that would.

For a strided 1×1 convolution of fewer than SAFE_CHANNELS input channels, in channels-last float32 on a CPU, oneDNN can
compute the weight's gradient wrongly (https://github.com/uxlfoundation/oneDNN/issues/6035). Stride 1, padding, groups,
bfloat16 and the contiguous layout have other kernels.
"""

from __future__ import annotations

from typing import TypeGuard

import torch
from torch import Tensor, nn
from torch.nn import functional

#: With as many input channels the gradient is right on every CPU: the largest vector block, AVX-512's, is filled.
SAFE_CHANNELS = 16


class StridedPointwise(nn.Conv2d):
    """A 1×1 convolution of stride s as x[:, :, ::s, ::s] and one of stride 1: the same mathematics and parameters.

    inputs (n, in_channels, h, w) → (n, out_channels, ⌈h/s⌉, ⌈w/s⌉).
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int | tuple[int, ...], bias: bool = False) -> None:
        super().__init__(in_channels, out_channels, 1, stride, bias=bias)  # type: ignore[arg-type]  # the stubs' length

    def forward(self, inputs: Tensor) -> Tensor:
        down, right = self.stride
        return functional.conv2d(inputs[:, :, ::down, ::right], self.weight, self.bias)


def replace_strided_pointwise(network: nn.Module) -> None:
    """Put a `StridedPointwise` with the same weight in the place of each of these convolutions; draws no numbers.

    Convolutions of a class of their own, which may compute something else, stay; `memory_format_for` sees them.
    """
    for parent in list(network.modules()):
        for name, module in parent.named_children():
            if _is_affected_kind(module) and type(module) is nn.Conv2d:
                shape = (module.in_channels, module.out_channels, module.stride)
                with torch.device("meta"):  # the weight that it is made with is thrown away
                    replacement = StridedPointwise(*shape, bias=module.bias is not None)
                replacement.weight, replacement.bias = module.weight, module.bias
                setattr(parent, name, replacement)


def memory_format_for(network: nn.Module) -> tuple[torch.memory_format, str]:
    """The layout to train a network in on a CPU, and the sentence for the log: "" for channels-last, which is the rule.

    Contiguous where a strided 1×1 convolution, other than a `StridedPointwise`, has fewer than 16 input channels.
    """
    for name, module in network.named_modules():
        if _is_affected_kind(module) and module.in_channels < SAFE_CHANNELS:
            return torch.contiguous_format, (
                f"The network is trained in the contiguous layout, slower on a CPU than channels-last: {name} is a 1×1 "
                f"convolution of stride {module.stride} with {module.in_channels} input channels, fewer than "
                f"{SAFE_CHANNELS}, for which oneDNN's gradient in channels-last can be wrong (its issue 6035)."
            )
    return torch.channels_last, ""


def _is_affected_kind(module: nn.Module) -> TypeGuard[nn.Conv2d]:
    """Whether it is a convolution of the kind that the fault concerns, whatever its channels."""
    return (
        isinstance(module, nn.Conv2d)
        and not isinstance(module, StridedPointwise)
        and module.kernel_size == (1, 1)
        and module.stride != (1, 1)
        and module.padding in ((0, 0), "valid")
        and module.groups == 1
    )
