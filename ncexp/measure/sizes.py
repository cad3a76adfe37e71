"""What a run keeps on the disk, in bytes, printed before its first step."""

from __future__ import annotations

from collections.abc import Sequence

from ncexp.config import RunConfig
from ncexp.measure.evaluator import Subject
from ncexp.measure.snapshot import snapshot_bytes


def describe_kept(config: RunConfig, widths: Sequence[int], subject: Subject) -> str:
    """How many snapshots and weights are kept, and what each costs; widths: P of the features and of probed layers."""
    snapshots = _count(config, config.keep.snapshots)
    weights = _count(config, config.keep.checkpoints)
    per_snapshot = snapshot_bytes(subject.dataset.num_classes, list(widths))
    per_weights = sum(tensor.numel() * tensor.element_size() for tensor in subject.network.state_dict().values())
    total = snapshots * per_snapshot + weights * per_weights
    return (
        f"{snapshots} snapshots of {_size(per_snapshot)}, {weights} checkpoints of {_size(per_weights)}: "
        f"{_size(total)} in all"
    )


def _count(config: RunConfig, kept: str | list[int]) -> int:
    if isinstance(kept, str):
        return {"evaluated": len(config.evaluated), "zero_error": 2, "last": 1}[kept]
    return len(set(kept))


def _size(count: float) -> str:
    """``2.1 MB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"
