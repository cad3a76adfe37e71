"""`ncexp ui`: MLflow's UI on this machine, and the links that land where training runs are compared."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from ncexp.cli.words import add_outputs, command_parser
from ncexp.record.text import say

HELP = """\
Start MLflow's UI on the store of an outputs folder, on this machine alone
(127.0.0.1), and print for each experiment the links to the charts of its runs:
each run by itself, and runs grouped by loss and rate. Meanwhile figures that
runs of a folder lack are drawn, and sent there. Ctrl-C stops it. Of a server's
URI only the links are printed. From elsewhere:
ssh -L 5000:127.0.0.1:5000 THIS_MACHINE.
"""


def main(arguments: list[str]) -> int:
    """Serve until stopped; returns 0, or 1 where the server does not come up. Raises ValueError for nothing to show."""
    parser = command_parser("ui", HELP)
    parser.add_argument("where", metavar="OUTPUTS|URI", nargs="?")
    add_outputs(parser)
    parser.add_argument("--port", type=int, help="default: 5000, as in the addresses that runs print")
    chosen = parser.parse_args(arguments)
    where = chosen.where or str(chosen.outputs)
    from ncexp.tracking.address import SQLITE, UI_PORT, check_uri, tracking_uri

    uri = where if "://" in where else tracking_uri(None, Path(where))
    check_uri(uri)
    if uri.startswith(SQLITE) and not Path(uri.removeprefix(SQLITE)).exists():
        raise ValueError(f"expected an MLflow store, got no {uri}. Train something, or `ncexp sync`.")
    if not uri.startswith("http"):
        return _serve(uri, chosen.port or UI_PORT, None if "://" in where else where)
    try:
        print_links(uri, uri.rstrip("/"))
    except ConnectionError as error:
        raise ValueError(str(error)) from error
    return 0


def print_links(uri: str, address: str) -> None:
    """A line an experiment and view; the views are put there first."""
    from ncexp.tracking.store import connect
    from ncexp.tracking.view import VIEWS, link, publish_views

    client = connect(uri)
    for experiment in client.search_experiments(order_by=["name"]):
        if client.search_runs([experiment.experiment_id], "tags.identity LIKE '%'", max_results=1):
            publish_views(client, uri, experiment.experiment_id)
            for view in VIEWS:
                what = f"{experiment.name}, {view.replace('_', ' ')}"
                say(f"{what:28s} {address}/{link(experiment.experiment_id, view)}")


def _refuse_taken(port: int) -> None:
    """Raises ValueError for a port on which something listens: its pages would be taken for ours."""
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind(("127.0.0.1", port))
        except (OSError, OverflowError) as error:
            raise ValueError(f"--port: expected a free one, got {port} ({error}). Name another.") from error


def _serve(uri: str, port: int, outputs: str | None) -> int:
    """Serve until Ctrl-C; outputs: the folder whose runs' missing figures are drawn meanwhile."""
    from ncexp.tracking.address import UI_HOST, responds
    from ncexp.tracking.store import CLIENT_SETTINGS

    _refuse_taken(port)
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri]
    command += ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    shown = f"http://{UI_HOST}:{port}"
    command += ["--allowed-hosts", ",".join(f"{host}:*" for host in ("127.0.0.1", "localhost", UI_HOST))]
    command += ["--cors-allowed-origins", shown]
    # The UI's server leaves alone what it does not need here.
    environment = {**os.environ, **CLIENT_SETTINGS, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    # A group of its own, so that one signal stops the server with its workers and nothing else.
    server = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, process_group=0)
    drawing: subprocess.Popen[bytes] | None = None
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        while server.poll() is None and not responds(address):
            time.sleep(0.3)
        if server.poll() is None:
            print_links(uri, shown)
            drawing = _draw(outputs) if outputs else None
            say(f"A browser that does not find {UI_HOST} finds 127.0.0.1. Ctrl-C stops it.")
        return 1 if server.wait() else 0
    except KeyboardInterrupt:
        return 0
    finally:
        if drawing is not None:
            drawing.terminate()
            drawing.wait()
        if server.poll() is None:
            os.killpg(server.pid, signal.SIGTERM)
            server.wait()


def _draw(outputs: str) -> subprocess.Popen[bytes]:
    """A process of the lowest priority that draws what is missing of the runs in `outputs`, and sends it."""
    command = [sys.executable, "-m", "ncexp", "pictures", "--missing", "--sync", outputs]
    nothing = subprocess.DEVNULL
    process = subprocess.Popen(command, process_group=0, stdin=nothing, stdout=nothing, stderr=nothing)
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, process.pid, 19)
    return process
