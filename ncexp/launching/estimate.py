"""What a sweep will take, said before it is submitted: jobs, arrays, and a time where there is one to go by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from statistics import mean
from typing import Any

from ncexp.launching.plan import Plan
from ncexp.launching.submission import Chunk


def tell_estimate(plan: Plan, chunks: Sequence[Chunk], options: Mapping[str, Any]) -> str:
    """Two lines: how the runs are divided; the longest it can take, and what it should by the runs that are done."""
    jobs = sum(len(chunk.jobs) for chunk in chunks)
    if not jobs:
        return "nothing to submit"
    waves = max(_waves(chunks, index) for index in range(len(chunks)))
    at_once = min(jobs, sum(chunk.at_once for chunk in chunks if chunk.after is None))
    runs, largest = len(chunks[0].jobs[0]), len(chunks[0].jobs)
    said = f"{jobs} jobs of at most {runs} runs, in {len(chunks)} arrays of at most {largest}, {at_once} at once"
    if limit := options.get("timeout_min"):
        said += f"\nat most {waves * limit / 60:.1f} h once they start, if each takes its limit of {limit} min"
    if durations := _durations(plan):
        expected = waves * mean(durations) / 3600
        said += f"\nabout {expected:.1f} h, by the {len(durations)} runs that are completed"
    return said


def _waves(chunks: Sequence[Chunk], index: int) -> int:
    """How many jobs follow one another until this chunk, and those it waits for, are through."""
    chunk = chunks[index]
    own = -(-len(chunk.jobs) // chunk.at_once)
    return own if chunk.after is None else own + _waves(chunks, chunk.after)


def _durations(plan: Plan) -> list[float]:
    """Seconds from the start to the end of the completed runs; of one that was interrupted with the pause."""
    told = [entry.run.status() or {} for entry in plan.entries if plan.states[entry.num] == "completed"]
    return [(_time(status["updated"]) - _time(status["started"])).total_seconds() for status in told]


def _time(text: str) -> datetime:
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%S%z")
