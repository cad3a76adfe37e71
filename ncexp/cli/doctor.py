"""`ncexp doctor`: would a sweep run? One line for each thing that must be so, from here and from inside a job."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import sys
import time
from collections.abc import Iterator
from importlib.metadata import version

from ncexp.cli.words import add_outputs
from ncexp.config import ConfigError, check, check_outputs
from ncexp.config.augment import apart
from ncexp.config.composing import REFUSALS, compose_mapping, explain
from ncexp.launching import slurm
from ncexp.record.text import say

#: What a job checks anew: it may run on another machine, with another disk and another network.
INSIDE = ("cpus", "gpus", "gradients", "shared path", "dataset", "tracking", "versions")
#: What is asked of SLURM.
OF_SLURM = ("slurm", "limits", "partitions")


def main(arguments: list[str]) -> int:
    """Check here and, where there is SLURM, in a job as well; returns 0, or 1 where a check failed.

    That a machine has no SLURM is a fault only where options of a job are given.
    """
    parser = argparse.ArgumentParser(prog="ncexp doctor", description=__doc__)
    add_outputs(parser)
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
        return _print_checks("in a job", given, INSIDE)
    if given.sbatch or slurm.is_installed():
        code = _print_checks("here", given, tuple(CHECKS))
        return code if code or given.no_job else _in_job(given)
    say(f"none here      {'slurm':12} no command of SLURM on this machine; sweeps run here: hydra/launcher=local")
    return _print_checks("here", given, tuple(name for name in CHECKS if name not in OF_SLURM))


def _print_checks(where: str, given: argparse.Namespace, names: tuple[str, ...]) -> int:
    code = 0
    for name in names:
        try:
            mark, finding = "ok  ", CHECKS[name](given)
        except (*REFUSALS, OSError, slurm.SlurmUnavailable) as error:
            mark, finding, code = "FAIL", explain(error), 1
        say(f"{mark} {where:9} {name:12} {finding}")
    return code


def _slurm(_: argparse.Namespace) -> str:
    return " ".join(slurm.call("scontrol", "ping").split()) + "; " + slurm.call("sinfo", "--version").strip()


def _limits(_: argparse.Namespace) -> str:
    names = ("JobRequeue", "MaxArraySize", "MaxJobCount", "KillWait", "AccountingStorageType")
    settings = dict(re.findall(r"^(\w+)\s*=\s*(.*?) *$", slurm.call("scontrol", "show", "config"), re.MULTILINE))
    refused = settings.get("JobRequeue") == "0"
    note = "; requeueing is asked for job by job, which the site may refuse" if refused else ""
    return ", ".join(f"{name}={settings.get(name, 'not given')}" for name in names) + note


def _partitions(_: argparse.Namespace) -> str:
    listing = slurm.call("sinfo", "--noheader", "--format=%P up to %l, %c CPUs %G").splitlines()
    if not listing:
        raise ConfigError("no partition is open to you. Ask the site which one, and set hydra.launcher.partition.")
    return "; ".join(line.strip() for line in listing)


def _cpus(_: argparse.Namespace) -> str:
    allowed, asked = len(os.sched_getaffinity(0)), os.environ.get("SLURM_CPUS_PER_TASK")
    if asked and int(asked) > allowed:
        raise ConfigError(
            f"{allowed} allowed, {asked} asked for. The step did not inherit them; update ncexp or SLURM."
        )
    return f"{allowed} allowed" + (f", {asked} asked for" if asked else "")


def _gpus(_: argparse.Namespace) -> str:
    import torch

    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return ", ".join(names) if names else "none; runs train on the CPU (hydra.launcher.gpus_per_node asks for some)"


def _gradients(_: argparse.Namespace) -> str:
    """Of small networks with the kinds of layers that the paper's have, against float64, on this processor."""
    from ncexp.training import assemble

    names = ("quick/resnet", "quick/vgg", "quick/densenet")
    for name in names:
        for precision in ("fp32", "bf16"):
            chosen = [f"experiment={name}", "device=cpu", f"precision={precision}"]
            try:
                assemble(check(compose_mapping("config", chosen))).check_gradients()
            except ConfigError as error:
                raise ConfigError(f"{name}: {error}") from error
    return f"right on the CPU, in fp32 and bf16: {', '.join(names)}"


def _shared_path(given: argparse.Namespace) -> str:
    """From here leave a file for the job to find."""
    note = given.outputs / ".doctor"
    if given.inside:
        if not note.exists() or note.read_text(encoding="utf-8") != given.inside:
            raise ConfigError(
                f"{note} is not what was written where the job was submitted. Keep outputs on a shared disk."
            )
        return f"{given.outputs} is the same as where the job was submitted"
    check_outputs(given.outputs)
    given.outputs.mkdir(parents=True, exist_ok=True)
    note.write_text(_this_process(), encoding="utf-8")
    return f"{given.outputs} can be written"


def _dataset(given: argparse.Namespace) -> str:
    dataset = apart(compose_mapping("config", [f"dataset={given.dataset}"])["dataset"]).build()
    return f"{given.dataset}: {len(dataset.train)} training and {len(dataset.test)} test examples"


def _tracking(given: argparse.Namespace) -> str:
    from ncexp.tracking import prepare, tracking_uri
    from ncexp.tracking.address import NOT_FROM_JOBS, may_write

    uri = tracking_uri(given.uri, given.outputs)
    if not may_write(uri):
        return f"{uri}: {NOT_FROM_JOBS}"
    try:
        prepare(uri, [], given.outputs)
    except Exception as error:
        raise ConfigError(
            f"{uri}: {type(error).__name__}: {error}. Start the server, or correct tracking.uri."
        ) from error
    return f"{uri} responds"


def _versions(_: argparse.Namespace) -> str:
    packages = ("ncexp", "torch", "hydra-core", "submitit", "mlflow")
    return f"{sys.executable}; " + ", ".join(f"{package} {version(package)}" for package in packages)


_ALL = (_slurm, _limits, _partitions, _cpus, _gpus, _gradients, _shared_path, _dataset, _tracking, _versions)
CHECKS = {check.__name__[1:].replace("_", " "): check for check in _ALL}


def _this_process() -> str:
    return f"{os.uname().nodename} {os.getpid()}"


def _in_job(given: argparse.Namespace) -> int:
    """Submit a job that makes the INSIDE checks, and print what it found; no output is a finding too."""
    log = given.outputs / ".doctor.log"
    log.unlink(missing_ok=True)
    again = [sys.executable, "-m", "ncexp", "doctor", "--inside", _this_process(), "--outputs", str(given.outputs)]
    again += ["--dataset", given.dataset, *(["--uri", given.uri] if given.uri else [])]
    options = [f"--{option}" for option in ("job-name=ncexp-doctor", "time=10", f"output={log}", *given.sbatch)]
    with slurm.outside_of_any_job():
        printed = slurm.call("sbatch", "--parsable", *options, "--wrap", shlex.join(again))
    job = printed.strip().partition(";")[0]
    say(f"     in a job  {'':12} job {job} waits; interrupt me if the queue is long")
    for state in _states(job):
        say(f"     in a job  {'':12} {state}")
    text = log.read_text(encoding="utf-8") if log.exists() else ""
    say(text, end="")
    if "versions" not in text:
        output = f"Its output is {log}" if log.exists() else f"Its node could not write {log}"
        say(f"FAIL in a job  {'':12} job {job} ended without finishing its checks. {output}.")
        return 1
    return 1 if "FAIL" in text else 0


def _states(job: str) -> Iterator[str]:
    """The job's states, and why it waits, as they change, until it leaves the queue."""
    shown = ""
    while (found := slurm.jobs_in_queue().get(job)) is not None:
        said = f"{found.state.lower()} {found.reason}".strip()
        if said != shown:
            yield said
            shown = said
        time.sleep(1)
