"""A run whose spectra lie exactly on a central path, as it is read from its directory."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch

from ncexp.collapse import CentralPath
from ncexp.record import Record, SavedRun, State

C, N, P = 4, 10, 8
FACTS = {"num_classes": C, "num_features": P, "smallest_class": N, "largest_class": N}
NAME = "digits-resnet-mse_lr0.0184202_seed0"


def records_of_path(error_free_from: int = 3, undefined: tuple[int, ...] = ()) -> list[Record]:
    """Ten epochs exactly on a central path, t growing as the cube of the epoch."""
    path = CentralPath(torch.tensor([2.0, 1.0, 0.5]), C, N)
    spectra = path.singular_values(torch.arange(10, dtype=torch.float64) ** 3)
    records: list[Record] = []
    for epoch, row in enumerate(spectra.tolist(), start=1):
        values = [math.nan] * 3 if epoch in undefined else row
        record: Record = {"epoch": epoch, "train/error": 0.0 if epoch >= error_free_from else 0.5}
        record["train/path/rank"] = 5.0
        records.append(record | {f"train/path/snr_{j}": value for j, value in enumerate(values, start=1)})
    return records


def run_with(records: list[Record], **facts: Any) -> SavedRun:
    """A completed run with these records."""
    return SavedRun(
        path=Path(f"{NAME}_0123456789"),
        raw={},
        facts={**FACTS, **facts},
        state=State.COMPLETED,
        message="",
        training=[],
        records=records,
    )
