"""MLflow brought up to the journals, whatever happened to the runs or to the server meanwhile."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

from ncexp.config.simulation import SIMULATIONS
from ncexp.record import DamagedFile, counted, find_runs, read_run
from ncexp.record.text import say
from ncexp.tracking.address import (
    check_uri,
    experiment_name,
    not_from_here,
    outputs_of,
    refuse_unnamed,
    tracking_uri,
)
from ncexp.tracking.store import Unreachable, describe
from ncexp.tracking.upload import RunUpload


def sync_runs(
    paths: Iterable[Path],
    uri: str | None = None,
    report: Callable[[str], object] = say,
    named: Collection[str | None] = (),
) -> Counter[str]:
    """Send what MLflow lacks of the runs and simulations among and under `paths`; returns how many had which outcome.

    uri: of another store than the one each run was configured with; named: what a run's own configuration may name as
    its store, see `refuse_unnamed`; report: gets a line for each run that was sent or could not be. "not sent" counts
    those that need a repeat. A server that hangs costs 15 s, once.
    Raises ValueError for a folder without any, and for a URI that none can have.
    """
    check_uri(uri)
    silent: set[str] = set()
    return Counter(_send(path, uri, named, silent, report) for path in counted(_find(paths), "runs"))


def _find(folders: Iterable[Path]) -> list[Path]:
    """As `find_runs`, and simulations, which lie a level deeper."""
    found: dict[Path, None] = {}
    for folder in folders:
        levels = (folder.absolute().glob(f"{level}config.yaml") for level in ("", "*/", "*/*/"))
        inside = (path.parent for level in levels for path in level)
        simulations = sorted(path for path in inside if path.parent.name == SIMULATIONS)
        try:
            runs = find_runs([folder])
        except ValueError:
            if not simulations:
                raise
            runs = []
        found.update(dict.fromkeys([*runs, *simulations]))
    return list(found)


def _send(
    path: Path, uri: str | None, named: Collection[str | None], silent: set[str], report: Callable[[str], object]
) -> str:
    """One run; returns what was done, as a word for the count. A silent server is not tried again."""
    try:
        raw = read_run(path).raw
        if "tracking" not in raw:  # of a file that is cut
            raise DamagedFile(f"{path / 'config.yaml'}: expected the entry tracking, got none. Set it aside.")
        if not raw["tracking"]["enabled"] and uri is None:
            return "not tracked (tracking.enabled=false; --uri STORE sends them)"
        store = uri or tracking_uri(raw["tracking"]["uri"], outputs_of(path))
        if uri is None:
            refuse_unnamed(store, outputs_of(path), named)
        if reason := not_from_here(store):
            report(f"{path.name}: not sent: {reason}")
            return "not sent"
        if store in silent:
            return "not sent"
        outcome = RunUpload(path, store, experiment_name(raw)).send()
    except Exception as error:
        report(f"{path.name}: not sent: {describe(error)}")
        if _is_of_the_connection(error):
            silent.add(store)
        return "not sent"
    if outcome == "sent":
        report(f"{path.name}: sent")
    return outcome if outcome != "deleted" else "left alone (deleted in MLflow)"


def _is_of_the_connection(error: BaseException | None) -> bool:
    """Whether the next run would fail alike: the server is not there, or did not respond to a call."""
    from requests import RequestException  # MLflow's own way to its servers

    while error is not None:
        if isinstance(error, Unreachable | RequestException):
            return True
        error = error.__cause__ or error.__context__
    return False
