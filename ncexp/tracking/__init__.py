"""MLflow as a mirror of the journal; the only package that imports mlflow."""

from ncexp.tracking.follower import Follower, start_follower
from ncexp.tracking.mirror import Mirror, mark_superseded, page_of
from ncexp.tracking.store import not_from_here, prepare, tracking_uri

__all__ = [
    "Follower",
    "Mirror",
    "mark_superseded",
    "not_from_here",
    "page_of",
    "prepare",
    "start_follower",
    "tracking_uri",
]
