"""The 18 digits runs of `sweep=quick`: command after command, in one process, and through the local launcher.

    python benchmarks/sweep_throughput.py [--repeats 1] [--json FILE] [--short]

Command after command, as a shell's loop has it: 18 processes, each with all cores. In one process: `ncexp -m` alone.
Local launcher: the same with `hydra/launcher=local`, a run at once for each core. Every contender trains all of it
anew, figures and MLflow's embedded store included.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import tempfile
from functools import partial

import yaml
from timing import interleaved_medians, parser, report

from ncexp.config.composing import config_directory

#: What --short leaves of it.
TWO_RUNS = {"architecture": "mlp", "loss": "mse_mean, cross_entropy"}


def sweep_parameters() -> dict[str, str]:
    """conf/sweep/quick.yaml's: override → values with commas between."""
    content = yaml.safe_load((config_directory() / "sweep" / "quick.yaml").read_text())
    return dict(content["hydra"]["sweeper"]["params"])


def ncexp(*arguments: str) -> None:
    """The command, in a fresh outputs folder."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "ncexp", *arguments, f"outputs={folder}/outputs"]
        subprocess.run(command, cwd=folder, stdout=subprocess.DEVNULL, check=True)


def one_by_one(parameters: dict[str, str], fixed: list[str]) -> None:
    """A command for each combination, all in one outputs folder."""
    with tempfile.TemporaryDirectory() as folder:
        for values in itertools.product(*(choices.split(", ") for choices in parameters.values())):
            overrides = [f"{name}={value}" for name, value in zip(parameters, values, strict=True)]
            command = [sys.executable, "-m", "ncexp", *overrides, *fixed, f"outputs={folder}/outputs"]
            subprocess.run(command, cwd=folder, stdout=subprocess.DEVNULL, check=True)


def main() -> None:
    arguments = parser(__doc__, repeats=1).parse_args()
    parameters = TWO_RUNS if arguments.short else sweep_parameters()
    fixed = ["epochs=2"] if arguments.short else []
    swept = [f"{name}={values.replace(', ', ',')}" for name, values in parameters.items()]
    at_once = len(os.sched_getaffinity(0))
    local = ["hydra/launcher=local", f"hydra.launcher.runs_at_once={at_once}"]
    seconds = interleaved_medians(
        {
            "command after command": partial(one_by_one, parameters, fixed),
            "one process, ncexp -m": partial(ncexp, "-m", *swept, *fixed),
            f"local launcher, {at_once} at once": partial(ncexp, "-m", *swept, *fixed, *local),
        },
        arguments.repeats,
        uncounted=0,  # every process is a new one
    )
    runs = len(list(itertools.product(*(choices.split(",") for choices in parameters.values()))))
    first = next(iter(seconds.values()))
    rows = [
        {"how": how, "runs": runs, "s": value, "runs an hour": runs / value * 3600, "throughput": first / value}
        for how, value in seconds.items()
    ]
    report("A sweep of short runs", rows, arguments.json)


if __name__ == "__main__":
    main()
