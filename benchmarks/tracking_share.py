"""What share of a run goes into tracking: its waits, its uploader's processor time, and its length with and without.

    python benchmarks/tracking_share.py [--repeats 1] [--json FILE] [--short]

trains the main job without tracking, with the embedded store and with a server that does not respond, each in a process
and an outputs folder of its own. The waits are measured in the run: starting the uploader, and the end. Beside the run
the uploader imports MLflow, makes a new store and sends; where the training uses every core that makes it longer, by an
amount that does not grow with the run.
"""

from __future__ import annotations

import json
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def main() -> None:
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(measure(sys.argv[2:])))
        return
    from timing import parser, report  # imports torch, which a measured process does for itself

    arguments = parser(__doc__, repeats=1).parse_args()
    short = ["epochs=3"] if arguments.short else []
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        stores = {
            "none": "tracking.enabled=false",
            "embedded": "tracking.uri=null",
            "dead server": f"tracking.uri=http://127.0.0.1:{listener.getsockname()[1]}",
        }
        measured: dict[str, list[dict[str, float]]] = {title: [] for title in stores}
        for _ in range(arguments.repeats):
            for title, store in stores.items():
                command = [sys.executable, __file__, "--one", store, *short]
                measured[title].append(json.loads(subprocess.check_output(command)))
    rows = [
        {"store": title, **{name: statistics.median(one[name] for one in all_of_it) for name in all_of_it[0]}}
        for title, all_of_it in measured.items()
    ]
    report("A run's time spent on tracking", rows, arguments.json)


def measure(overrides: list[str]) -> dict[str, float]:
    """One run in this process, which imports everything anew, as a command does."""
    from ncexp.__main__ import main as ncexp
    from ncexp.tracking import sync as follower

    waits: dict[str, float] = {}
    for name in ("_start", "_finish"):
        setattr(follower, name, _timed(name, getattr(follower, name), waits))
    with tempfile.TemporaryDirectory() as folder:
        sys.argv = ["ncexp", f"outputs={folder}/outputs", *overrides]
        started = time.perf_counter()
        standard, sys.stdout = sys.stdout, (Path(folder) / "printed").open("w")
        ncexp()
        sys.stdout = standard
        total = time.perf_counter() - started
    processor = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "run, s": total,
        "start, s": waits.get("_start", 0.0),
        "end, s": waits.get("_finish", 0.0),
        "share, %": 100 * sum(waits.values()) / total,
        "uploader's CPU, s": processor.ru_utime + processor.ru_stime,
    }


def _timed(name: str, function: Callable[..., Any], into: dict[str, float]) -> Callable[..., Any]:
    def timed(*arguments: Any) -> Any:
        started = time.perf_counter()
        try:
            return function(*arguments)
        finally:
            into[name] = into.get(name, 0.0) + time.perf_counter() - started

    return timed


if __name__ == "__main__":
    main()
