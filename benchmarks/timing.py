"""What every benchmark shares: its options, interleaved repeats, medians, and the machine in words."""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch


def parser(doc: str | None, repeats: int | None = None) -> argparse.ArgumentParser:
    """--json, --short and, where something is repeated, --repeats; the module's docstring as help."""
    options = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    if repeats is not None:
        options.add_argument("--repeats", type=int, default=repeats, help=f"rounds that are counted; {repeats}")
    options.add_argument("--json", type=Path, help="write the table there as well")
    options.add_argument(
        "--short", action=_Short, nargs=0, default=False, help="once, and so little that it only shows that it runs"
    )
    return options


class _Short(argparse.Action):
    """--short, with which nothing is repeated."""

    def __call__(
        self, parser: Any, namespace: argparse.Namespace, values: Any, option_string: str | None = None
    ) -> None:
        namespace.short = True
        namespace.repeats = 1


def interleaved_medians(
    contenders: Mapping[str, Callable[[], object]], repeats: int, uncounted: int | None = None
) -> dict[str, float]:
    """Median seconds of each contender over `repeats` rounds A B C A B C ..., after `uncounted` rounds.

    Interleaved, because the machine's speed drifts: a ratio of two medians of one call compares like with like. One
    round is uncounted where several are counted, and none where a single one only shows that all of it runs.
    """
    uncounted = int(repeats > 1) if uncounted is None else uncounted
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for round_number in range(uncounted + repeats):
        for name, contender in contenders.items():
            began = time.perf_counter()
            contender()
            if torch.cuda.is_initialized():
                torch.cuda.synchronize()
            if round_number >= uncounted:
                seconds[name].append(time.perf_counter() - began)
    return {name: statistics.median(values) for name, values in seconds.items()}


def device() -> torch.device:
    """The GPU, where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def bf16_pays() -> bool:
    """Has the device instructions for bf16? A processor without them takes minutes for what takes seconds in fp32."""
    return device().type == "cuda" or "bf16" in Path("/proc/cpuinfo").read_text()


def machine() -> str:
    """Processor, threads and versions, as a line under a table."""
    name = torch.cuda.get_device_name() if device().type == "cuda" else _processor()
    return f"{name}, {torch.get_num_threads()} threads, Python {platform.python_version()}, torch {torch.__version__}"


def _processor() -> str:
    described = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return described[0].partition(": ")[2] if described else platform.machine()


def report(title: str, rows: list[dict[str, object]], json_path: Path | None) -> None:
    """Print `rows` as a Markdown table and, where asked, write them as JSON with the machine."""
    names = list(rows[0])
    print(f"{title}\n\n| {' | '.join(names)} |\n|{'---|' * len(names)}")
    for row in rows:
        print("| " + " | ".join(f"{v:.4g}" if isinstance(v, float) else str(v) for v in row.values()) + " |")
    print(f"\n{machine()}")
    if json_path:
        json_path.write_text(json.dumps({"title": title, "machine": machine(), "rows": rows}, indent=2) + "\n")
