"""The training: its parts put together from a configuration, the loop over epochs, and the checkpoints."""

from ncexp.training.assembly import Assembly, assemble, build_dataset, environment, set_threads
from ncexp.training.checkpoint import Position, load_resume, load_weights, save_resume, save_weights
from ncexp.training.distributed import SINGLE, Processes, join, joined
from ncexp.training.interruption import JOB_SIGNALS, Diverged, Interrupted, StopRequest
from ncexp.training.loop import Training
from ncexp.training.losses import Objective, label_weights, objective_of, refuse_other_than_scalar
from ncexp.training.machine import describe_out_of_memory, find_device, restore_threads

__all__ = [
    "JOB_SIGNALS",
    "SINGLE",
    "Assembly",
    "Diverged",
    "Interrupted",
    "Objective",
    "Position",
    "Processes",
    "StopRequest",
    "Training",
    "assemble",
    "build_dataset",
    "describe_out_of_memory",
    "environment",
    "find_device",
    "join",
    "joined",
    "label_weights",
    "load_resume",
    "load_weights",
    "objective_of",
    "refuse_other_than_scalar",
    "restore_threads",
    "save_resume",
    "save_weights",
    "set_threads",
]
