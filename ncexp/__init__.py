"""Neural collapse under MSE loss: train, measure, decompose, compare with the central path.

    ncexp.load("outputs").frame()     saved runs as data frames
    ncexp.Recorder(...)               a loop of one's own, recorded
    ncexp.__version__

Nothing is imported before it is used: `import ncexp` is instant.
"""

from __future__ import annotations

from importlib import import_module, metadata
from typing import Any

#: Public name → the module that defines it.
_PUBLIC = {"load": "ncexp.record", "Recorder": "ncexp.recorder"}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return metadata.version("ncexp")
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'ncexp' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC, "__version__"])
