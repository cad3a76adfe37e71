"""What every benchmark shares: interleaved repeats, medians, and the machine in words."""

from __future__ import annotations

import json
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch


def interleaved_medians(contenders: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median seconds of each contender over `repeats` rounds A B C A B C ..., after one round that is not counted.

    Interleaved, because the machine's speed drifts: a ratio of two medians of one call compares like with like.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for round_number in range(repeats + 1):
        for name, contender in contenders.items():
            began = time.perf_counter()
            contender()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if round_number:
                seconds[name].append(time.perf_counter() - began)
    return {name: statistics.median(values) for name, values in seconds.items()}


def machine() -> str:
    """Processor, threads and versions, as a line under a table."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine()
    return f"{device}, {torch.get_num_threads()} threads, Python {platform.python_version()}, torch {torch.__version__}"


def report(title: str, rows: list[dict[str, object]], json_path: Path | None) -> None:
    """Print `rows` as a Markdown table and, where asked, write them as JSON with the machine."""
    names = list(rows[0])
    print(f"{title}\n\n| {' | '.join(names)} |\n|{'---|' * len(names)}")
    for row in rows:
        print("| " + " | ".join(f"{v:.4g}" if isinstance(v, float) else str(v) for v in row.values()) + " |")
    print(f"\n{machine()}")
    if json_path:
        json_path.write_text(json.dumps({"title": title, "machine": machine(), "rows": rows}, indent=2) + "\n")
