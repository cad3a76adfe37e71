"""The second verb: a network, or what a run kept, and data → one evaluation pass → a snapshot → analyses → records."""

# ruff: noqa: F401 (what is imported here is the face of the package)

from ncexp.measure.evaluation import (
    Analysis,
    EpochEvaluator,
    Evaluation,
    Needs,
    build_analyses,
    check_probes,
    run_analysis,
    with_errors,
)
from ncexp.measure.evaluator import Subject, evaluate, forward, subject_of, train_error_at_most
from ncexp.measure.foreign import ForeignTraining
from ncexp.measure.loaders import LoadedData, LoadedExamples
from ncexp.measure.path_fit import Comparison, compare_with_path
from ncexp.measure.probes import Probe
from ncexp.measure.recorded_training import RecordedTraining
from ncexp.measure.ridge import Ridge, ridge_for, ridge_of
from ncexp.measure.snapshot import Snapshot, load_snapshot, snapshot_bytes
from ncexp.measure.stored import measure_stored, missing_epochs
from ncexp.measure.tapped import TappedNetwork
