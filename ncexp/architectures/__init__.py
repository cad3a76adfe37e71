"""conf/architecture: each choice answers a network whose forward gives (logits, features)."""

from ncexp.architectures.network import Network, last_layer

__all__ = ["Network", "last_layer"]
