"""`ncexp ui` on a port that is taken: another server's pages are not shown as ours."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from commands import ui

from ncexp.tracking.address import UI_ADDRESS, UI_HOST


def test_ui_refuses_a_port_on_which_something_listens(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mlflow.db").touch()
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert ui([str(tmp_path), "--port", str(port)]) == 2
    assert f"ncexp: --port: expected a free one, got {port}" in capsys.readouterr().err


def test_ui_address_is_none_under_which_mlflow_opens_its_assistant() -> None:
    assert UI_ADDRESS.split(":") == ["http", f"//{UI_HOST}", "5000"]
    assert UI_HOST not in ("localhost", "127.0.0.1", "::1")
    assert UI_HOST.endswith(".localhost")  # RFC 6761: this machine, for browsers
