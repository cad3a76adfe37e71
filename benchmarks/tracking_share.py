"""What share of a run's time goes into tracking: the run's own waits, and the processor time of its follower.

    python benchmarks/tracking_share.py [overrides of ncexp ...]

trains one run with the embedded store and one with a server that does not answer, each in a fresh outputs folder. The
waits are measured in the run: starting the follower, telling it of every look, and the end. The follower's processor
time is an upper bound on what it can take from a training that uses every core.
"""

from __future__ import annotations

import resource
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def main() -> None:
    """Measure in a process for each store, so that each imports MLflow anew, as a command does."""
    if sys.argv[1:2] == ["--one"]:
        measure(sys.argv[2], sys.argv[3:])
        return
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        dead = f"tracking.uri=http://127.0.0.1:{listener.getsockname()[1]}"
        for title, store in (("embedded store", "tracking.uri=null"), ("dead server", dead)):
            subprocess.run([sys.executable, __file__, "--one", title, store, *sys.argv[1:]], check=True)


def measure(title: str, overrides: list[str]) -> None:
    """One run in this process; prints one line."""
    from ncexp.__main__ import main as ncexp
    from ncexp.tracking import follower

    waits: dict[str, float] = {}
    for name in ("__init__", "notify", "finish"):
        setattr(follower.Follower, name, _timed(name, getattr(follower.Follower, name), waits))
    with tempfile.TemporaryDirectory() as folder:
        sys.argv = ["ncexp", f"outputs={folder}/outputs", *overrides]
        started = time.perf_counter()
        standard, sys.stdout = sys.stdout, (Path(folder) / "said").open("w")
        ncexp()
        sys.stdout = standard
        total = time.perf_counter() - started
        for process in follower._running.values():
            assert process.stdin is not None
            process.stdin.close()
            process.wait()
    processor = resource.getrusage(resource.RUSAGE_CHILDREN)
    busy = processor.ru_utime + processor.ru_stime
    parts = ", ".join(f"{name.strip('_')} {seconds:.3f} s" for name, seconds in waits.items())
    share = sum(waits.values()) / total
    print(f"{title}: run {total:.1f} s; waits {parts}: {share:.2%} of it; follower's CPU {busy:.1f} s")


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
