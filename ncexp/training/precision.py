"""In which arithmetic the network is trained; evaluation is in IEEE single precision.

fp32: IEEE single precision throughout. tf32: the factors in a GPU's convolutions and matrix products are rounded to 10
bits of mantissa; sums are in float32. bf16: forward and backward pass in bfloat16, of 7 bits, where torch.autocast has
it so; the weights, their gradients, the loss and the optimizer are in float32.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

from ncexp.config import Precision


def check_precision(precision: Precision, device: torch.device) -> None:
    """Raises ValueError where the device has no such arithmetic."""
    if precision == "tf32" and (device.type != "cuda" or torch.cuda.get_device_capability(device) < (8, 0)):
        raise ValueError(
            f"precision: expected fp32 or bf16 on {device}, got tf32, which NVIDIA's GPUs have from compute capability "
            "8.0 on. Use precision=fp32, or another device."
        )


@contextmanager
def rounding(precision: Precision) -> Iterator[None]:
    """Within it a GPU's float32 products are those of `precision`; without it, IEEE's (torch's default is tf32)."""
    allow_tf32(precision == "tf32")
    try:
        yield
    finally:
        allow_tf32(False)


def allow_tf32(allowed: bool) -> None:
    """For matrix products and for convolutions, which torch switches apart."""
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """Around a forward pass: bfloat16 where that is asked for."""
    if precision == "bf16":
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return nullcontext()
