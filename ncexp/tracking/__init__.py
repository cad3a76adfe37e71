"""MLflow, brought up to the journals; the only package that imports mlflow."""

# ruff: noqa: F401 (what is imported here is the face of the package)

from ncexp.tracking.address import check_uri, may_write, tracking_uri
from ncexp.tracking.store import prepare
from ncexp.tracking.sync import follow, follow_runs, sync_runs
