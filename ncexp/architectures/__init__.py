"""conf/architecture: each choice returns a network whose output is (logits, features)."""

from ncexp.architectures.foreign import ForeignNetwork
from ncexp.architectures.network import (
    LAST_LAYER_TOLERANCE,
    Network,
    RenormalizedNetwork,
    last_layer,
    refuse_single_examples,
)
from ncexp.architectures.pointwise import memory_format_for

__all__ = [
    "LAST_LAYER_TOLERANCE",
    "ForeignNetwork",
    "Network",
    "RenormalizedNetwork",
    "last_layer",
    "memory_format_for",
    "refuse_single_examples",
]
