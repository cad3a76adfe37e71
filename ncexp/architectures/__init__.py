"""conf/architecture: each choice returns a network whose output is (logits, features)."""

# ruff: noqa: F401 (what is imported here is the face of the package)

from ncexp.architectures.by_name import ForeignNetwork
from ncexp.architectures.heads import put_head
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
