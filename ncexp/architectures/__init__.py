"""conf/architecture: each choice returns a network whose output is (logits, features)."""

from ncexp.architectures.foreign import ForeignNetwork
from ncexp.architectures.network import (
    Network,
    RenormalizedNetwork,
    departure,
    last_layer,
    name_of,
    refuse_single_examples,
)
from ncexp.architectures.pointwise import memory_format_for

__all__ = [
    "ForeignNetwork",
    "Network",
    "RenormalizedNetwork",
    "departure",
    "last_layer",
    "memory_format_for",
    "name_of",
    "refuse_single_examples",
]
