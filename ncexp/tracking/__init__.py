"""MLflow, brought up to the journals; the only package that imports mlflow."""

from ncexp.tracking.address import check_uri, may_write, tracking_uri
from ncexp.tracking.follower import follow
from ncexp.tracking.store import prepare
from ncexp.tracking.sync import follow_runs, sync_runs

__all__ = ["check_uri", "follow", "follow_runs", "may_write", "prepare", "sync_runs", "tracking_uri"]
