"""What docs/security.md says: what never runs code, who may read what a run writes, and whom a run contacts."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import SMALL, Compose, train

from ncexp.cli import export, report, status
from ncexp.record import contents, load

PACKAGE = Path(__file__).parents[1] / "ncexp"
SOURCES = sorted(PACKAGE.rglob("*.py"))
#: What turns data into code. `torch.load` is looked at by itself.
FORBIDDEN = {"eval", "exec", "pickle.load", "pickle.loads", "os.system", "yaml.unsafe_load"}
#: CIFAR is published as pickles. They are loaded only if their MD5 is the published one: test_official_files.py.
ALLOWED = {("datasets/official_formats.py", "pickle.loads")}

#: Python notes here whom any process of ours connects to, by whatever library: sitecustomize is imported at its start.
WATCH = """
import os, sys
def note(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto"):
        with open(os.environ["CONTACTED"], "a") as file:
            print(event, arguments, file=file)
sys.addaudithook(note)
"""


def _calls(tree: ast.AST) -> list[ast.Call]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.Call)]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_nothing_that_was_read_is_run(path: Path) -> None:
    for call in _calls(ast.parse(path.read_text())):
        name, options = ast.unparse(call.func), {word.arg: ast.unparse(word.value) for word in call.keywords}
        if (str(path.relative_to(PACKAGE)), name) not in ALLOWED:
            assert name not in FORBIDDEN, f"line {call.lineno}: {name}"
        assert options.get("shell", "False") == "False", f"line {call.lineno}: a shell"
        if name == "yaml.load":
            assert ast.unparse(call.args[1]) == "_Loader", f"line {call.lineno}: YAML may name code"
        if name == "torch.load":
            assert options.get("weights_only") == "True", f"line {call.lineno}: a pickle is unpickled"


def test_yaml_of_runs_names_no_code() -> None:
    with pytest.raises(yaml.YAMLError, match="python/object"):
        yaml.load("!!python/object/apply:os.getpid []", contents._Loader)


@pytest.mark.slow
@pytest.mark.usefixtures("no_rendering")
def test_reading_a_run_runs_nothing_that_it_names(
    composed: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = train(composed("tracking.enabled=false", "device=cpu"))
    (tmp_path / "foreign.py").write_text("from pathlib import Path\nPath(__file__).with_name('imported').touch()\n")
    monkeypatch.syspath_prepend(tmp_path)
    raw: dict[str, Any] = yaml.safe_load(directory.config.read_text())
    for group in ("dataset", "architecture", "loss", "optimizer"):
        raw[group]["_target_"] = "foreign.Anything"
    directory.config.write_text(yaml.safe_dump(raw))
    outputs = directory.path.parent
    assert len(load(outputs).frame()) > 0
    assert report.main([str(outputs), "--to", str(tmp_path / "report")]) == 0
    assert export.main([str(outputs), "--to", str(tmp_path / "all.csv")]) == 0
    assert status.main(["--outputs", str(outputs)]) == 0
    assert not (tmp_path / "imported").exists()


@pytest.mark.slow
def test_files_have_the_modes_that_the_umask_allows(composed: Compose) -> None:
    before = os.umask(0o077)
    try:
        directory = train(composed("tracking.enabled=false", "device=cpu"))
    finally:
        os.umask(before)
    written = [path for path in directory.path.rglob("*") if path.stat().st_mode & 0o077]
    assert not written


@pytest.mark.slow
@pytest.mark.cold
def test_a_run_contacts_nobody(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(WATCH)
    contacted = tmp_path / "contacted"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "CONTACTED": str(contacted)}
    witness = [sys.executable, "-c", "import socket; socket.getaddrinfo('127.0.0.1', 9)"]
    subprocess.run(witness, env=environment, check=True)
    assert "127.0.0.1" in contacted.read_text()  # it does see
    contacted.unlink()
    command = [sys.executable, "-m", "ncexp", *SMALL, "device=cpu"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "outputs" / "mlflow.db").exists()
    assert not contacted.exists() or contacted.read_text() == ""
