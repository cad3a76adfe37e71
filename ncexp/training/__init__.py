"""The training: its parts put together from a configuration, the loop over epochs, and the checkpoints."""

# ruff: noqa: F401 (what is imported here is the face of the package)

from ncexp.training.assembly import Assembly, assemble, build_dataset, environment, set_threads
from ncexp.training.checkpoint import Position, load_resume, load_weights, save_resume, save_weights
from ncexp.training.distributed import SINGLE, Processes, join, joined
from ncexp.training.loop import Training
from ncexp.training.losses import Objective, is_mean_of_targets, label_weights, objective_of, refuse_other_than_scalar
from ncexp.training.machine import (
    JOB_SIGNALS,
    Diverged,
    Interrupted,
    StopRequest,
    describe_out_of_memory,
    find_device,
    restore_threads,
)
