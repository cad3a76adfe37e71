"""`ncexp ui`: MLflow's UI on this machine, and the link that lands where training runs are compared."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from ncexp.tracking.store import CLIENT_SETTINGS, SQLITE, answers, connect, tracking_uri
from ncexp.tracking.view import VIEWS, link, publish_views

HELP = """\
Start MLflow's UI on the store of an outputs folder, on this machine alone (127.0.0.1), and print for each experiment
the links to its runs' charts: each run by itself, and runs grouped by loss. Ctrl-C stops it. Of a server's URI only the
links are printed. From elsewhere: ssh -L 5000:127.0.0.1:5000 THIS_MACHINE.
"""
#: The UI's server leaves alone what it does not need here.
SERVER_SETTINGS = {**CLIENT_SETTINGS, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}


def main(arguments: list[str]) -> int:
    """Serve until stopped; answers 0, 1 where the server does not come up, 2 where there is nothing to show."""
    parser = argparse.ArgumentParser(
        prog="ncexp ui", description=HELP, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("where", metavar="OUTPUTS|URI", nargs="?", default="outputs")
    parser.add_argument("--port", type=int, default=5000)
    chosen = parser.parse_args(arguments)
    uri = chosen.where if "://" in chosen.where else tracking_uri(None, Path(chosen.where))
    if uri.startswith(SQLITE) and not Path(uri.removeprefix(SQLITE)).exists():
        print(f"ncexp ui: expected an MLflow store, got no {uri}. Train something, or `ncexp sync`.", file=sys.stderr)
        return 2
    if uri.startswith("http"):
        print_links(uri, uri.rstrip("/"))
        return 0
    return _serve(uri, chosen.port)


def print_links(uri: str, address: str) -> None:
    """A line an experiment and view; the views are put there first."""
    client = connect(uri)
    for experiment in client.search_experiments(order_by=["name"]):
        if client.search_runs([experiment.experiment_id], "tags.key LIKE '%'", max_results=1):
            publish_views(client, uri, experiment.experiment_id)
            for view in VIEWS:
                what = f"{experiment.name}, {view.replace('_', ' ')}"
                print(f"{what:28s} {address}/{link(experiment.experiment_id, view)}", flush=True)


def _serve(uri: str, port: int) -> int:
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri]
    command += ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    environment = {**os.environ, **SERVER_SETTINGS}
    # A group of its own, so that one signal stops the server with its workers and nothing else.
    server = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, process_group=0)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        while server.poll() is None and not answers(address):
            time.sleep(0.3)
        if server.poll() is None:
            print_links(uri, address)
            print("Ctrl-C stops it.", flush=True)
        return 1 if server.wait() else 0
    except KeyboardInterrupt:
        return 0
    finally:
        if server.poll() is None:
            os.killpg(server.pid, signal.SIGTERM)
            server.wait()
