"""Choices that Hydra would drop without a word: files outside their package, sweeps of sweeps, sweeps of nothing."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from ncexp.cli.hydra_task import compose_and_work
from ncexp.config import ConfigError

SMALL = ["dataset=gaussian_mixture", "architecture=mlp", "epochs=1", "tracking.enabled=false"]


@pytest.fixture
def refusal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """refusal("-m", ...) → why `ncexp -m ...` is refused, in a folder where nothing comes to be."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["ncexp"])
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    for group in ("experiment", "experiment/deep", "sweep"):
        (tmp_path / "choices" / group).mkdir(parents=True, exist_ok=True)
        (tmp_path / "choices" / group / "mine.yaml").write_text("seed: 9\nno_such_key: 1\n")

    def refused(*arguments: str) -> str:
        with pytest.raises(ConfigError) as caught:
            compose_and_work("config", ["--config-dir", "choices", *arguments, *SMALL])
        assert [path.name for path in tmp_path.iterdir()] == ["choices"]
        return str(caught.value)

    return refused


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "chosen"),
    [([], "experiment=deep/mine"), (["-m", "loss=mse,focal"], "experiment=mine"), ([], "sweep=mine")],
)
def test_file_without_its_package_is_refused_by_name(refusal, mode: list[str], chosen: str) -> None:
    group = chosen.partition("=")[0]
    expected = f"{group}: expected a file that begins with the line '# @package _global_', got {chosen} without it"
    assert expected in refusal(*mode, chosen)


@pytest.mark.slow
@pytest.mark.parametrize(
    "launcher", [[], ["hydra/launcher=local", "hydra.launcher.dry_run=true"]], ids=["turn", "local"]
)
def test_sweep_that_would_train_something_else_is_refused(refusal, launcher: list[str]) -> None:
    assert "sweep: expected one sweep a command, got" in refusal("-m", "sweep=quick,learning_rates", *launcher)
    assert "sweep: expected one sweep a command, got" in refusal("-m", "sweep=glob(quick*)", *launcher)
    none = refusal("-m", "experiment=glob(quick/*)", *launcher)
    assert "experiment=glob(quick/*)" in none
    assert "expected a sweep of one run at least, got none" in none
