"""`ncexp doctor`: a line for each thing that must be so."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from sweeps import Project

from ncexp.cli import doctor
from ncexp.config import ConfigError
from ncexp.launching import slurm
from ncexp.training import Assembly


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """only("dataset") leaves the checks of these names as they are and takes seconds from the others."""

    def keep(*names: str) -> None:
        for name in {"gradients", "tracking", "dataset"} - {*names}:
            monkeypatch.setitem(doctor.CHECKS, name, lambda _: "not checked")

    return keep


@pytest.fixture
def no_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, only: Callable[..., None]) -> list[str]:
    """No command of SLURM is to be found, and what takes seconds is left out; the arguments for a doctor here."""
    only("dataset")
    monkeypatch.setenv("PATH", str(tmp_path))
    return ["--outputs", str(tmp_path / "outputs"), "--dataset", "gaussian_mixture"]


@pytest.mark.parametrize("more", [[], ["--no-job"]])
def test_doctor_without_slurm_prints_that_as_a_fact(
    more: list[str], no_slurm: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert doctor.main([*no_slurm, *more]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"^none here +slurm +no command of SLURM .*hydra/launcher=local", printed)
    assert re.search(r"ok +here +dataset +gaussian_mixture: \d+ training", printed)
    assert [line.split("here")[0].strip() for line in printed.splitlines()] == ["none"] + ["ok"] * 7


def test_doctor_without_the_slurm_that_is_asked_for_fails(
    no_slurm: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert doctor.main([*no_slurm, "--sbatch", "partition=gpu"]) == 1
    printed = capsys.readouterr().out
    assert re.search(r"FAIL here +slurm +scontrol: expected SLURM's commands on this machine, got none", printed)
    assert [line.split("here")[0].strip() for line in printed.splitlines()] == ["FAIL"] * 3 + ["ok"] * 7


def test_doctor_fails_where_slurm_is_there_and_does_not_respond(
    no_slurm: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "scontrol").write_text("#!/bin/sh\necho unreachable >&2\nexit 1\n")
    (tmp_path / "scontrol").chmod(0o755)
    assert doctor.main([*no_slurm, "--no-job"]) == 1
    assert re.search(r"FAIL here +slurm +scontrol: .*\(unreachable\)", capsys.readouterr().out)


@pytest.mark.slow
def test_doctor_prints_what_is_wrong_with_data_and_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], only: Callable[..., None]
) -> None:
    only("dataset", "tracking")
    monkeypatch.setenv("NCEXP_DATA", str(tmp_path / "empty"))
    (tmp_path / "file").touch()
    arguments = ["--no-job", "--outputs", str(tmp_path / "file"), "--dataset", "mnist"]
    assert doctor.main(arguments) == 1
    printed = capsys.readouterr().out
    assert re.search(r"FAIL here +dataset .*ncexp prepare", printed, re.DOTALL)
    assert re.search(r"FAIL here +shared path", printed)


@pytest.mark.slow
def test_doctor_in_a_job_finds_a_disk_that_is_not_shared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], only: Callable[..., None]
) -> None:
    only("dataset")
    assert doctor.main(["--outputs", str(tmp_path), "--inside", "login 1", "--dataset", "gaussian_mixture"]) == 1
    assert "FAIL in a job  shared path" in capsys.readouterr().out


def test_slurm_error_has_what_its_command_printed() -> None:
    with pytest.raises(slurm.SlurmUnavailable, match="false: "):
        slurm.call("false")


def test_doctor_names_the_layer_whose_gradients_are_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], only: Callable[..., None]
) -> None:
    only("gradients")

    def refuse(assembly: Assembly) -> None:
        raise ConfigError("gradient of backbone.3.weight: expected a relative error of at most 0.002")

    monkeypatch.setattr(Assembly, "check_gradients", refuse)
    assert doctor.main(["--no-job", "--outputs", str(tmp_path), "--dataset", "gaussian_mixture"]) == 1
    assert re.search(r"FAIL here +gradients +quick/resnet: gradient of backbone\.3\.weight", capsys.readouterr().out)


@pytest.mark.slow
@pytest.mark.usefixtures("slurm")
def test_doctor_checks_here_and_inside_a_job(project: Project) -> None:
    code, printed = project.run("doctor", "--sbatch", "cpus-per-task=1")
    assert code == 0, printed
    for name in doctor.CHECKS:
        assert re.search(rf"^ok +here +{name}", printed, re.MULTILINE), printed
    for name in doctor.INSIDE:
        assert re.search(rf"^ok +in a job +{name}", printed, re.MULTILINE), printed
