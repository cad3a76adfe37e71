"""`ncexp doctor`: a line for each thing, well or not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ncexp.launching import doctor, slurm

from .conftest import Project


def test_doctor_without_slurm_says_so_and_checks_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert doctor.main(["--outputs", str(tmp_path / "outputs"), "--dataset", "gaussian_mixture"]) == 1
    said = capsys.readouterr().out
    assert re.search(r"FAIL here +slurm +scontrol: expected SLURM's commands on this machine, got none", said)
    assert re.search(r"ok +here +dataset +gaussian_mixture: \d+ training", said)
    assert [line.split("here")[0].strip() for line in said.splitlines()] == ["FAIL"] * 4 + ["ok"] * 6


def test_doctor_says_what_is_wrong_with_data_and_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NCEXP_DATA", str(tmp_path / "empty"))
    (tmp_path / "file").touch()
    arguments = ["--no-job", "--outputs", str(tmp_path / "file"), "--dataset", "mnist"]
    assert doctor.main(arguments) == 1
    said = capsys.readouterr().out
    assert re.search(r"FAIL here +dataset .*ncexp prepare", said, re.DOTALL)
    assert re.search(r"FAIL here +shared path", said)


def test_doctor_in_a_job_finds_a_disk_that_is_not_shared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor.main(["--outputs", str(tmp_path), "--inside", "login 1", "--dataset", "gaussian_mixture"]) == 1
    assert "FAIL in a job  shared path" in capsys.readouterr().out


def test_slurm_says_what_its_command_complained_of() -> None:
    with pytest.raises(slurm.SlurmUnavailable, match="false: "):
        slurm.call("false")


@pytest.mark.slow
@pytest.mark.usefixtures("slurm")
def test_doctor_looks_here_and_inside_a_job(project: Project) -> None:
    code, said = project.run("doctor", "--sbatch", "cpus-per-task=1")
    assert code == 0, said
    for name in doctor.CHECKS:
        assert re.search(rf"^ok +here +{name}", said, re.MULTILINE), said
    for name in doctor.INSIDE:
        assert re.search(rf"^ok +in a job +{name}", said, re.MULTILINE), said
