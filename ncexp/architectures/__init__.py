"""conf/architecture: each choice returns a network whose output is (logits, features)."""

from ncexp.architectures.by_name import ForeignNetwork
from ncexp.architectures.network import (
    Network,
    RenormalizedNetwork,
    answer_of,
    departure,
    last_layer,
    logits_of,
    name_of,
    pooled,
    refuse_single_examples,
)
from ncexp.architectures.pointwise import memory_format_for

__all__ = [
    "ForeignNetwork",
    "Network",
    "RenormalizedNetwork",
    "answer_of",
    "departure",
    "last_layer",
    "logits_of",
    "memory_format_for",
    "name_of",
    "pooled",
    "refuse_single_examples",
]
