"""A strided 1×1 convolution that does not meet an open fault of oneDNN, and the memory layout for networks that would.

https://github.com/uxlfoundation/oneDNN/issues/6035: for channels-last float32 inputs of fewer channels than the vector
block, the weight gradient of a strided 1×1 convolution is computed in a workspace that is too small. oneDNN writes
beyond its end: a crash, a hang, or wrong gradients without a word.

Measured with torch 2.15 on a CPU with AVX-512, 60 passes a process on 2 to 128 images of 8 to 224 pixels a side. Held
to AVX2: 1 to 7 channels crashed, nearly always and at every size; from 8 on all was right. With AVX-512: 1 to 15
channels crashed, on 112 pixels and more (up to 8 channels also on 56), while smaller images came out right by luck;
from 16 on all was right. A stride in one direction alone crashes as well. Stride 1, padding, groups, bfloat16 and the
contiguous layout, for which oneDNN has other kernels, were right.
"""

from __future__ import annotations

from typing import TypeGuard

import torch
from torch import Tensor, nn
from torch.nn import functional

#: The channels of the largest vector block, AVX-512's; AVX2's is 8. With as many, the workspace is large enough.
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
    """Whether it is a convolution that oneDNN computes in the workspace that may be too small."""
    return (
        isinstance(module, nn.Conv2d)
        and not isinstance(module, StridedPointwise)
        and module.kernel_size == (1, 1)
        and module.stride != (1, 1)
        and module.padding in ((0, 0), "valid")
        and module.groups == 1
    )
