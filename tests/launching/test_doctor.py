"""`ncexp doctor`: a line for each thing that must be so."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from sweeps import Project

from ncexp.cli import doctor
from ncexp.config import ConfigError
from ncexp.training import Assembly


@pytest.fixture
def consult(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """consult("--no-job", checks=["dataset"]) → exit code and words; other slow checks are left out."""

    def call(*words: str, checks: Sequence[str] = ("dataset",)) -> tuple[int, str]:
        for name in {"gradients", "tracking", "dataset"} - {*checks}:
            monkeypatch.setitem(doctor.CHECKS, name, lambda _: "not checked")
        code = doctor.main(["--outputs", str(tmp_path / "outputs"), "--dataset", "gaussian_mixture", *words])
        return code, capsys.readouterr().out

    return call


@pytest.fixture
def no_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No command of SLURM is to be found."""
    monkeypatch.setenv("PATH", str(tmp_path))


def marks(printed: str) -> list[str]:
    return [line.split("here")[0].strip() for line in printed.splitlines()]


@pytest.mark.parametrize("more", [[], ["--no-job"]])
@pytest.mark.usefixtures("no_slurm")
def test_doctor_without_slurm_prints_that_as_a_fact(more: list[str], consult: Any) -> None:
    code, printed = consult(*more)
    assert (code, marks(printed)) == (0, ["none"] + ["ok"] * 7)
    assert re.search(r"^none here +slurm +no command of SLURM .*hydra/launcher=local", printed)
    assert re.search(r"ok +here +dataset +gaussian_mixture: \d+ training", printed)


@pytest.mark.usefixtures("no_slurm")
def test_doctor_without_the_slurm_that_is_asked_for_fails(consult: Any) -> None:
    code, printed = consult("--sbatch", "partition=gpu")
    assert (code, marks(printed)) == (1, ["FAIL"] * 3 + ["ok"] * 7)
    assert re.search(r"FAIL here +slurm +scontrol: expected SLURM's commands on this machine, got none", printed)


@pytest.mark.usefixtures("no_slurm")
def test_doctor_fails_where_slurm_is_there_and_does_not_respond(consult: Any, tmp_path: Path) -> None:
    (tmp_path / "scontrol").write_text("#!/bin/sh\necho unreachable >&2\nexit 1\n")
    (tmp_path / "scontrol").chmod(0o755)
    code, printed = consult("--no-job")
    assert (code, bool(re.search(r"FAIL here +slurm +scontrol: .*\(unreachable\)", printed))) == (1, True)


@pytest.mark.slow
def test_doctor_prints_what_is_wrong_with_data_and_disk(
    consult: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NCEXP_DATA", str(tmp_path / "empty"))
    (tmp_path / "outputs").touch()
    code, printed = consult("--no-job", "--dataset", "mnist", checks=["dataset", "tracking"])
    assert code == 1
    assert re.search(r"FAIL here +dataset .*ncexp prepare", printed, re.DOTALL)
    assert re.search(r"FAIL here +shared path", printed)


@pytest.mark.slow
def test_doctor_in_a_job_finds_a_disk_that_is_not_shared(consult: Any) -> None:
    code, printed = consult("--inside", "login 1")
    assert (code, "FAIL in a job  shared path" in printed) == (1, True)


def test_doctor_names_the_layer_whose_gradients_are_wrong(consult: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(assembly: Assembly) -> None:
        raise ConfigError("gradient of backbone.3.weight: expected a relative error of at most 0.002")

    monkeypatch.setattr(Assembly, "check_gradients", refuse)
    code, printed = consult("--no-job", checks=["gradients"])
    assert code == 1
    assert re.search(r"FAIL here +gradients +quick/resnet: gradient of backbone\.3\.weight", printed)


@pytest.mark.slow
@pytest.mark.usefixtures("slurm")
def test_doctor_checks_here_and_inside_a_job(project: Project) -> None:
    code, printed = project.run("doctor", "--sbatch", "cpus-per-task=1")
    assert code == 0, printed
    for name in doctor.CHECKS:
        assert re.search(rf"^ok +here +{name}", printed, re.MULTILINE), printed
    for name in doctor.INSIDE:
        assert re.search(rf"^ok +in a job +{name}", printed, re.MULTILINE), printed
