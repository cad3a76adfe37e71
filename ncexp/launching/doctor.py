"""`ncexp doctor`: would a sweep run? One line for each thing that must be so, from here and from inside a job."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ncexp.launching import slurm

#: What a job checks anew: it may run on another machine, with another disk and another network.
INSIDE = ("cpus", "gpus", "shared path", "dataset", "tracking", "versions")
Check = Callable[[argparse.Namespace], str]


class Unwell(Exception):
    """A check failed; the message says what was found and what to do."""


def main(arguments: list[str]) -> int:
    """Check here, and with --job OVERRIDE... in a job as well; answers 0, or 1 where something is not well."""
    parser = argparse.ArgumentParser(prog="ncexp doctor", description=__doc__)
    parser.add_argument("--outputs", type=Path, default=Path("outputs"), help="the folder of the runs")
    parser.add_argument("--uri", help="an MLflow tracking URI; default: SQLite under outputs")
    parser.add_argument("--dataset", default="digits", help="a choice of conf/dataset; default: digits")
    parser.add_argument("--no-job", action="store_true", help="check from here only")
    parser.add_argument(
        "--sbatch", metavar="NAME=VALUE", action="append", default=[], help="options of the job: partition=gpu"
    )
    parser.add_argument("--inside", metavar="PATH", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    given.outputs = given.outputs.absolute()
    if given.inside:
        return _tell("in a job", given, INSIDE)
    well = _tell("here", given, tuple(CHECKS))
    if not given.no_job and well == 0:
        return _in_job(given)
    return well


def _tell(where: str, given: argparse.Namespace, names: tuple[str, ...]) -> int:
    code = 0
    for name in names:
        try:
            mark, said = "ok  ", CHECKS[name](given)
        except (Unwell, slurm.SlurmUnavailable) as error:
            mark, said, code = "FAIL", str(error), 1
        print(f"{mark} {where:9} {name:12} {said}", flush=True)
    return code


def _slurm(_: argparse.Namespace) -> str:
    return " ".join(slurm.call("scontrol", "ping").split()) + "; " + slurm.call("sinfo", "--version").strip()


def _setting(name: str) -> str:
    found = re.search(rf"^{name}\s*=\s*(.*)$", slurm.call("scontrol", "show", "config"), re.MULTILINE)
    return found[1].strip() if found else "not said"


def _requeue(_: argparse.Namespace) -> str:
    allowed = _setting("JobRequeue")
    return f"JobRequeue={allowed}" + ("" if allowed == "1" else "; we ask for it job by job, which the site may refuse")


def _limits(_: argparse.Namespace) -> str:
    names = ("MaxArraySize", "MaxJobCount", "KillWait", "AccountingStorageType")
    return ", ".join(f"{name}={_setting(name)}" for name in names)


def _partitions(_: argparse.Namespace) -> str:
    listing = slurm.call("sinfo", "--noheader", "--format=%P up to %l, %c CPUs %G").splitlines()
    if not listing:
        raise Unwell("no partition is open to you. Ask the site which one, and set hydra.launcher.partition.")
    return "; ".join(line.strip() for line in listing)


def _cpus(_: argparse.Namespace) -> str:
    allowed, asked = len(os.sched_getaffinity(0)), os.environ.get("SLURM_CPUS_PER_TASK")
    if asked and int(asked) > allowed:
        raise Unwell(f"{allowed} allowed, {asked} asked for. The step did not inherit them; update ncexp or SLURM.")
    return f"{allowed} allowed" + (f", {asked} asked for" if asked else "")


def _gpus(_: argparse.Namespace) -> str:
    import torch

    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return ", ".join(names) if names else "none; runs train on the CPU (hydra.launcher.gpus_per_node asks for some)"


def _shared_path(given: argparse.Namespace) -> str:
    """From here leave a file for the job to find."""
    note = given.outputs / ".doctor"
    if given.inside:
        if not note.exists() or note.read_text() != given.inside:
            raise Unwell(f"{note} is not what was written where the job was submitted. Keep outputs on a shared disk.")
        return f"{given.outputs} is the same as where the job was submitted"
    try:
        given.outputs.mkdir(parents=True, exist_ok=True)
        note.write_text(_word())
    except OSError as error:
        raise Unwell(f"{given.outputs}: {error}. Choose another with outputs=...") from error
    return f"{given.outputs} can be written"


def _dataset(given: argparse.Namespace) -> str:
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    from ncexp.config import Component, config_directory

    with initialize_config_dir(version_base="1.3", config_dir=str(config_directory())):
        raw: Any = OmegaConf.to_container(compose("config", overrides=[f"dataset={given.dataset}"]), resolve=True)
    try:
        dataset = Component.check("dataset", raw["dataset"], ()).build()
    except ValueError as error:
        raise Unwell(str(error)) from error
    return f"{given.dataset}: {len(dataset.train)} training and {len(dataset.test)} test examples"


def _tracking(given: argparse.Namespace) -> str:
    from ncexp.tracking import not_from_here, prepare, tracking_uri

    uri = tracking_uri(given.uri, given.outputs)
    if reason := not_from_here(uri):
        return f"{uri}: {reason}"
    try:
        prepare(uri, [], given.outputs)
    except Exception as error:
        raise Unwell(f"{uri}: {type(error).__name__}: {error}. Start the server, or correct tracking.uri.") from error
    return f"{uri} answers"


def _versions(_: argparse.Namespace) -> str:
    packages = ("ncexp", "torch", "hydra-core", "submitit", "mlflow")
    return f"{sys.executable}; " + ", ".join(f"{package} {version(package)}" for package in packages)


CHECKS: dict[str, Check] = {
    "slurm": _slurm,
    "requeue": _requeue,
    "limits": _limits,
    "partitions": _partitions,
    "cpus": _cpus,
    "gpus": _gpus,
    "shared path": _shared_path,
    "dataset": _dataset,
    "tracking": _tracking,
    "versions": _versions,
}


def _word() -> str:
    return f"{os.uname().nodename} {os.getpid()}"


def _in_job(given: argparse.Namespace) -> int:
    """Submit a job that makes the INSIDE checks, and print what it found; a job that says nothing is a finding too."""
    log = given.outputs / ".doctor.log"
    log.unlink(missing_ok=True)
    again = [sys.executable, "-m", "ncexp", "doctor", "--inside", _word(), "--outputs", str(given.outputs)]
    again += ["--dataset", given.dataset, *(["--uri", given.uri] if given.uri else [])]
    options = [f"--{option}" for option in ("job-name=ncexp-doctor", "time=10", f"output={log}", *given.sbatch)]
    with slurm.outside_of_any_job():
        said = slurm.call("sbatch", "--parsable", *options, "--wrap", shlex.join(again))
    job = said.strip().partition(";")[0]
    print(f"     in a job  {'':12} job {job} waits; interrupt me if the queue is long", flush=True)
    for state in _states(job):
        print(f"     in a job  {'':12} {state.lower()}", flush=True)
    text = log.read_text() if log.exists() else ""
    print(text, end="")
    if "versions" not in text:
        print(f"FAIL in a job  {'':12} job {job} ended without finishing its checks. Its output is {log}.")
        return 1
    return 1 if "FAIL" in text else 0


def _states(job: str) -> Iterator[str]:
    """The job's states as they change, until it leaves the queue."""
    told = ""
    while (state := slurm.jobs_in_queue().get(job)) is not None:
        if state != told:
            yield state
            told = state
        time.sleep(1)
