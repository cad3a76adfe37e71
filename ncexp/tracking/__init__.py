"""MLflow, brought up to the journals; the only package that imports mlflow."""

from ncexp.tracking.address import check_uri, not_from_here, tracking_uri
from ncexp.tracking.memory import mark_superseded, page_of
from ncexp.tracking.store import prepare
from ncexp.tracking.sync import sync_runs
from ncexp.tracking.upload import RunUpload
from ncexp.tracking.uploader import Uploader, finish_tracking, start_uploader, uploader_of

__all__ = [
    "RunUpload",
    "Uploader",
    "check_uri",
    "finish_tracking",
    "mark_superseded",
    "not_from_here",
    "page_of",
    "prepare",
    "start_uploader",
    "sync_runs",
    "tracking_uri",
    "uploader_of",
]
