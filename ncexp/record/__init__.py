"""What lies on the disk: a run's directory, its journals, states and snapshots' files, and a run as others read it."""

# ruff: noqa: F401 (what is imported here is the face of the package)

from ncexp.config import FAMILIES
from ncexp.record.console import Progress, counted, format_rate, format_time
from ncexp.record.contents import read_config, read_environment, read_origin
from ncexp.record.files import (
    DamagedFile,
    UnusableFolder,
    acquire,
    read_json,
    remove_unfinished,
    set_aside,
    write_json,
    write_text,
)
from ncexp.record.journal import Clock, Journal, Record, column
from ncexp.record.naming import find_runs, named_folders, named_runs
from ncexp.record.run_directory import JOB_VARIABLE, Busy, RunDirectory, TaskDirectory
from ncexp.record.runs import Runs, load, read_all, select, split_name
from ncexp.record.saved_run import ZERO_ERROR, SavedRun, read_run, zero_error_epoch
from ncexp.record.states import State, exit_code, format_counts
