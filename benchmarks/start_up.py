"""From the command to its first training step, and `import ncexp.collapse`, against importing torch; `ncexp --help`.

    python benchmarks/start_up.py [--repeats 7] [--json FILE] [--short]

Whole processes, from their start to their end. The first step is that of the main job, tracking in the embedded store
included; it ends the process by way of an optimizer of ours, the one in this file.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

#: The uploader of a run that was killed imports MLflow, uploads and ends: not at the next contender's cost.
PAUSE_S = 10.0
#: `optimizer._target_` of the measured run.
ENDS_AT_FIRST_STEP = "start_up.sgd_that_ends_the_process"


def sgd_that_ends_the_process(
    parameters: Iterable[Any],
    *,
    lr: float,
    momentum: float,
    weight_decay: float,
    decoupled: float = 0.0,
    decay_of: dict[str, float] | None = None,
) -> Any:
    """ncexp's SGD; the process ends, at once, after its first step."""
    from ncexp.training.optimizers import sgd

    optimizer = sgd(
        parameters, lr=lr, momentum=momentum, weight_decay=weight_decay, decoupled=decoupled, decay_of=decay_of
    )
    optimizer.register_step_post_hook(lambda *_: os._exit(0))
    return optimizer


def run(folder: str, *arguments: str) -> None:
    """A Python process that can import this file."""
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, *arguments]
    environment = {**os.environ, "PYTHONPATH": path.rstrip(os.pathsep)}
    subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, check=True)


def collapse_beyond_torch(folder: str, repeats: int) -> float:
    """Median seconds of processor time that `import ncexp.collapse` takes in a process that has imported torch."""
    code = "import time, torch; t = time.process_time(); import ncexp.collapse; print(time.process_time() - t)"
    command = [sys.executable, "-c", code]
    printed = [subprocess.run(command, cwd=folder, check=True, capture_output=True).stdout for _ in range(repeats)]
    return statistics.median(map(float, printed))


def main() -> None:
    from timing import interleaved_medians, parser, report  # imports torch, which the measured processes do themselves

    arguments = parser(__doc__, repeats=7).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        first_step = ["-m", "ncexp", f"optimizer._target_={ENDS_AT_FIRST_STEP}", "rerun=all"]
        seconds = interleaved_medians(
            {
                "import torch": partial(run, folder, "-c", "import torch"),
                "import torch, make an optimizer": partial(
                    run, folder, "-c", "import torch; torch.optim.SGD(torch.nn.Linear(1, 1).parameters(), lr=1.0)"
                ),
                "ncexp, to the first step": partial(run, folder, *first_step),
                "pause": partial(time.sleep, 0.0 if arguments.short else PAUSE_S),
                "ncexp --help": partial(run, folder, "-m", "ncexp", "--help"),
            },
            arguments.repeats,
        )
        collapse = collapse_beyond_torch(folder, arguments.repeats)
    del seconds["pause"]
    alone = seconds["import torch"]
    rows = [{"process": name, "s": value, "beyond import torch, s": value - alone} for name, value in seconds.items()]
    report("Start-up", rows, arguments.json)
    print(f"\nimport ncexp.collapse, beyond import torch: {collapse:.3f} s of processor time")


if __name__ == "__main__":
    main()
