"""Which code ran, from a clone and from a sweep's frozen copy."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from ncexp.record import provenance


def test_code_state_of_a_clone_is_its_commit_and_diff(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "ncexp"
    package.mkdir()
    source = package / "provenance.py"
    source.write_text("first\n")
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], ["add", "."], [*identity, "commit", "-q", "-m", "begin"]):
        subprocess.run(["git", "-C", str(tmp_path), *command], check=True)
    monkeypatch.setattr(provenance, "PACKAGE", package)
    monkeypatch.setattr(provenance, "__file__", str(source))
    commit, diff = provenance.code_state()
    assert commit.endswith(" begin")
    assert len(commit.split()[0]) == 40
    assert diff == ""
    source.write_text("second\n")
    assert "+second" in provenance.code_state()[1]
    monkeypatch.setattr(provenance, "__file__", str(package / "installed.py"))
    assert provenance.code_state() == ("", "")  # installed inside a clone of something else


def test_code_state_of_a_frozen_copy_is_what_was_frozen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ncexp").mkdir()
    monkeypatch.setattr(provenance, "PACKAGE", tmp_path / "ncexp")
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "ncexp" / "provenance.py"))
    assert provenance.code_state() == ("", "")  # neither a copy nor a clone
    (tmp_path / "clone.commit").write_text("abc then\n")
    (tmp_path / "clone.diff").write_text("a difference")
    assert provenance.code_state() == ("abc then", "a difference")
