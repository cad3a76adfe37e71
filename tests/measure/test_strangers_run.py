"""Measuring a run of somebody else: it names no code and no store that nobody chose, and no link is followed."""

from __future__ import annotations

import functools
import re
import socket
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console
from support import Compose, compose, trained

from ncexp.config import ConfigError, check_measurement
from ncexp.config.composing import config_directory
from ncexp.config.trusted_code import refuse_strange_code
from ncexp.launching.task import attempt
from ncexp.measure import measure_stored
from ncexp.record import DamagedFile, State, read_config

ANALYSES = ["analysis=[robustness]", "analysis.robustness.num_examples=5"]


@pytest.fixture
def run(composed: Compose) -> Path:
    """Completed, with the weights of every evaluated epoch."""
    return trained(composed("keep.checkpoints=evaluated")).path


def measure(run: Path, console: Console) -> State:
    raw = compose("measure", [f"run={run}", "device=cpu", *ANALYSES])
    return measure_stored(check_measurement(raw), console, lambda: False)[0]


def rewritten(run: Path, **changed: Any) -> None:
    """Its config.yaml with other entries, by their path with __ for a point."""
    raw = yaml.safe_load((run / "config.yaml").read_text())
    for place, value in changed.items():
        *groups, key = place.split("__")
        functools.reduce(lambda node, group: node[group], groups, raw)[key] = value
    (run / "config.yaml").write_text(yaml.safe_dump(raw))


@pytest.mark.parametrize(
    "changed",
    [
        {"architecture___target_": "os.mkdir", "architecture__path": "VICTIM"},
        {"loss___target_": "ncexp.record.write_text", "loss__path": "VICTIM"},
        {"dataset___target_": "ncexp.datasets.cache.write_atomically", "dataset__path": "VICTIM"},
        {"optimizer__schedule___target_": "torch.hub.set_dir"},
        {"analysis__collapse___target_": "pathlib.Path.touch"},
        {"dataset__factory": "subprocess.run"},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_run_whose_configuration_names_strange_code_is_not_measured(
    run: Path, console: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: dict[str, str]
) -> None:
    (place, target), *others = changed.items()
    rewritten(run, **{place: target}, **{name: str(tmp_path / "victim") for name, _ in others})
    key = place.replace("___target_", "._target_").replace("__", ".")
    with pytest.raises(ConfigError, match=rf"^{key}: expected one of ncexp's own or a function in a folder of yours"):
        measure(run, console)
    assert not (tmp_path / "victim").exists()
    config = read_config(run / "config.yaml")
    monkeypatch.setenv("NCEXP_TRUST", f"another, {target.partition('.')[0]}")
    refuse_strange_code(config, run)  # refuses nothing
    (tmp_path / "own_package.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delenv("NCEXP_TRUST")
    refuse_strange_code({"loss": {"_target_": "own_package.Loss"}}, run)


def test_every_target_of_conf_is_ours() -> None:
    """But for those of simulations, which are no runs that `measure` takes, and of Hydra's plugins."""
    files = [path for path in config_directory().rglob("*.yaml") if not {"simulation", "hydra"} & {*path.parts}]
    texts = [path.read_text() for path in files]
    targets = {target for text in texts for target in re.findall(r"^_target_: (\w\S*)", text, re.MULTILINE)}
    assert len(targets) > 20
    for target in targets:
        refuse_strange_code({"loss": {"_target_": target}}, Path("config.yaml"))


def test_run_that_leads_elsewhere_by_a_link_is_not_measured(run: Path, console: Console, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    (run / "measurements").rename(elsewhere)
    (run / "measurements").symlink_to(elsewhere)
    before = {path.name: path.read_bytes() for path in elsewhere.iterdir()}
    with pytest.raises(DamagedFile, match=rf"measurements: expected a file in .*, got a link to {elsewhere}"):
        measure(run, console)
    assert {path.name: path.read_bytes() for path in elsewhere.iterdir()} == before


def test_measuring_contacts_no_store_that_only_the_run_names(run: Path, console: Console) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        uri = f"http://127.0.0.1:{listener.getsockname()[1]}"
        rewritten(run, tracking__enabled=True, tracking__uri=uri)
        raw = compose("measure", [f"run={run}", "device=cpu", *ANALYSES])
        assert attempt(raw, console) is State.COMPLETED
        with pytest.raises(BlockingIOError):
            listener.accept()
    assert (
        f"MLflow    not up to date: tracking.uri: expected a store that you name, got {uri}" in console.file.getvalue()
    )  # type: ignore[attr-defined]
