"""What runs inside a SLURM job: some runs of a sweep, at once, and what becomes of the job when they stop."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ncexp.interruption import JOB_SIGNALS, StopRequest
from ncexp.launching.pool import work
from ncexp.launching.sweep_directory import Entry, SweepDirectory

#: After SIGTERM: how long a job whose runs have been saved waits for SLURM to end it. Ending by itself, within the
#: grace time of a preemption, would tell SLURM that it was done, and it would not be requeued.
LINGER_S = 300.0


class RunsFailed(RuntimeError):
    """Raised at the job's end, so that SLURM says FAILED."""


class Job:
    """The callable that submitit pickles: ``Job()(sweep folder, numbers)``."""

    def __call__(self, folder: str, numbers: Sequence[int]) -> dict[int, str]:
        """Work on the runs; answers their outcomes by number.

        The warning before a time limit lets each run save itself at its next step boundary; then submitit requeues
        the job, which goes on with them. Raises RunsFailed where a run failed or was stopped.
        """
        requeue: Any = signal.getsignal(signal.SIGUSR2)  # submitit's; called amid a step it would kill the training
        sweep = SweepDirectory(Path(folder))
        entries = [entry for entry in sweep.entries() if entry.num in numbers]
        with StopRequest(JOB_SIGNALS, patient=True) as stop:
            name, rank = self._introduce(entries)
            outcomes = work(sweep, entries, len(entries), stop, name, rank)
            unfinished = len(outcomes) < len(entries) or "interrupted" in outcomes.values()
            if stop() and unfinished and signal.SIGUSR2 not in stop.received:
                _linger()
        if stop() and unfinished and signal.SIGUSR2 in stop.received:
            requeue(signal.SIGUSR2, None)  # comes back only on the other ranks, which must not end the job before it
            _linger()
        if faults := {num: outcome for num, outcome in outcomes.items() if outcome in ("failed", "interrupted")}:
            raise RunsFailed(", ".join(f"run {num} {outcome}" for num, outcome in sorted(faults.items())))
        return outcomes

    def checkpoint(self, folder: str, numbers: Sequence[int]) -> Any:
        """What a requeued job does: the same again, which goes on with what is not finished."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, folder, numbers)

    def _introduce(self, entries: Sequence[Entry]) -> tuple[str, int]:
        """Name the job for people, and tell torch.distributed of the other tasks; answers the job's id and the rank."""
        from submitit import JobEnvironment
        from submitit.helpers import TorchDistributedEnvironment

        environment = JobEnvironment()
        if environment.num_tasks > 1:
            TorchDistributedEnvironment().export(set_cuda_visible_devices=False, overwrite=True)
        if environment.global_rank == 0:
            more = f"+{len(entries) - 1}" if len(entries) > 1 else ""
            rename = ["scontrol", "update", f"JobId={environment.job_id}", f"JobName={entries[0].title}{more}"]
            renamed = subprocess.run(rename, check=False)
            print("job", environment.job_id, "renamed" if renamed.returncode == 0 else "keeps its name", flush=True)
        return environment.job_id, environment.global_rank


def _linger() -> None:
    print(f"saved; waiting at most {LINGER_S:.0f} s for SLURM to end this job", flush=True)
    time.sleep(LINGER_S)
