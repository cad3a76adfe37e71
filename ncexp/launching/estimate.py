"""What a sweep will take, printed before it is submitted: jobs, arrays, and a time where there is one to go by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from statistics import mean
from typing import Any

from ncexp.launching.plan import Plan
from ncexp.launching.submission import Chunk
from ncexp.record import State


def describe_estimate(plan: Plan, chunks: Sequence[Chunk], options: Mapping[str, Any]) -> str:
    """Two lines: how the tasks are divided; the longest it can take, and what it should by those that are done."""
    jobs = sum(len(chunk.jobs) for chunk in chunks)
    if not jobs:
        return "nothing to submit"
    waves = max(_waves(chunks, index) for index in range(len(chunks)))
    at_once = min(jobs, sum(chunk.at_once for chunk in chunks if chunk.after is None))
    runs, largest = len(chunks[0].jobs[0]), len(chunks[0].jobs)
    text = f"{jobs} jobs of at most {runs} runs, in {len(chunks)} arrays of at most {largest}, {at_once} at once"
    if limit := options.get("timeout_min"):
        text += f"\nat most {waves * limit / 60:.1f} h once they start, if each takes its limit of {limit} min"
    if durations := _durations(plan):
        expected = waves * mean(durations) / 3600
        text += f"\nabout {expected:.1f} h, by the {len(durations)} runs that are completed"
    return text


def _waves(chunks: Sequence[Chunk], index: int) -> int:
    """How many jobs follow one another until this chunk, and those it waits for, are through."""
    chunk = chunks[index]
    own = -(-len(chunk.jobs) // chunk.at_once)
    return own if chunk.after is None else own + _waves(chunks, chunk.after)


def _durations(plan: Plan) -> list[float]:
    """Seconds from the start to the end of the completed tasks; of one that was interrupted with the pause."""
    done = [entry.task.status() or {} for entry in plan.entries if plan.states[entry.num] is State.COMPLETED]
    durations = [(_time(status["updated"]) - _time(status["started"])).total_seconds() for status in done]
    return [duration for duration in durations if duration > 0]  # a measuring has a status only at its end


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
