"""Killed at any moment of training and of measuring, or measured beside the training: every journal is the same."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from recorded_loops import measurements, record
from rich.console import Console
from support import PATIENCE_S, SMALL, Compose, journals, train
from tracking_stores import journalled, stored

from ncexp.config import check
from ncexp.config.composing import compose_mapping
from ncexp.main import measure, run
from ncexp.record import RunDirectory, State
from ncexp.record.contents import read_config
from ncexp.tracking import sync_runs

MORE = ["analysis=[robustness,layers]", "analysis.layers.modules=[backbone.1]", "analysis.robustness.num_examples=5"]
ALL = ["analysis=[collapse,decisions,decomposition,central_path,robustness,layers]", *MORE[1:]]
KEPT = ["keep.checkpoints=evaluated", "tracking.enabled=false", "device=cpu"]

#: The command, killed without warning at the n-th call of any function, in Python or in C, after its work has begun.
KILLED = """
import importlib, os, signal, sys
module, path, left = sys.argv.pop(1), sys.argv.pop(1), int(sys.argv.pop(1))
owner = importlib.import_module(module)
*outer, name = path.split(".")
for part in outer:
    owner = getattr(owner, part)
begin = getattr(owner, name)
def count(frame, event, argument):
    global left
    if event in ("call", "c_call"):
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
def begun(*arguments):
    sys.setprofile(count)
    return begin(*arguments)
setattr(owner, name, begun)
if sys.argv[1] == "record":
    from pathlib import Path
    from recorded_loops import measurements, record
    record(Path(sys.argv[2]))
else:
    from ncexp.__main__ import main
    sys.exit(main())
"""
#: What begins the work: module and function. Of a training of SMALL about 100,000 calls follow, of a measuring of it
#: 60,000; before them are some millions, of imports and of composing the configuration.
TRAINING = ("ncexp.measure.recorded_training", "RecordedTraining.resume")
MEASURING = ("ncexp.measure.stored", "evaluate")
#: Of a loop with a Recorder 30,000 follow.
RECORDING = ("ncexp.recorder", "Recorder.evaluate")
#: The command, held in every epoch after the second until a file is there.
HELD = """
import os, sys, time
from ncexp.training import Training
place, original = sys.argv.pop(1), Training.run_epoch
def held(self, should_stop):
    while self.position.epoch > 3 and not os.path.exists(place):
        time.sleep(0.05)
    return original(self, should_stop)
Training.run_epoch = held
from ncexp.__main__ import main
sys.exit(main())
"""


def kill_and_finish(begin: tuple[str, str], command: list[str], moments: list[int]) -> None:
    """Start a command again and again, killed after so many calls each time, and at last to its end."""
    for moment in moments:
        killed = _start(begin, command, moment)
        assert killed.returncode == -signal.SIGKILL, killed.stdout + killed.stderr
    done = _start(begin, command, 0)
    assert done.returncode == 0, done.stdout + done.stderr


def _start(begin: tuple[str, str], command: list[str], calls: int) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-c", KILLED, *begin, str(calls), *command]
    helpers = {"PYTHONPATH": str(Path(__file__).parent / "helpers")}
    return subprocess.run(line, capture_output=True, text=True, check=False, env=os.environ | helpers)


@pytest.mark.slow
def test_kills_of_a_training_whose_file_is_deleted_leave_its_journals(composed: Compose, tmp_path: Path) -> None:
    """Started from weights, in part frozen; the file goes with the first kill that leaves a checkpoint."""
    source = train(composed(*KEPT, "seed=5", f"outputs={tmp_path / 'source'}"))
    weights = Path(shutil.copy(source.checkpoint(6), tmp_path / "a.safetensors"))
    begin = [*KEPT, f"architecture.weights={weights}", "architecture.freeze=[backbone.1.*,backbone.2.*]"]
    expected = journals(undisturbed := train(composed(*begin, f"outputs={tmp_path / 'undisturbed'}")).path)
    raw = composed(*begin)
    directory = RunDirectory(check(raw).directory)
    command = [*SMALL, *begin, f"outputs={raw['outputs']}"]
    for moment in range(8_000, 60_000, 4_000):
        assert _start(TRAINING, command, moment).returncode == -signal.SIGKILL
        if directory.resume.exists():
            break
    weights.unlink()
    gone = _start(TRAINING, command, 0)
    assert gone.returncode != 0
    assert "architecture.weights_sha256 of its config.yaml" in gone.stderr
    digest = read_config(directory.config)["architecture"]["weights_sha256"]
    kill_and_finish(TRAINING, [*command, f"architecture.weights_sha256={digest}"], [2_000, 6_000])
    assert journals(directory.path) == expected
    assert directory.checkpoint(6).read_bytes() == RunDirectory(undisturbed).checkpoint(6).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_thirty_kills_leave_journals_as_undisturbed_and_once_in_mlflow(
    composed: Compose, seed: int, tmp_path: Path
) -> None:
    """Five of a training, five of a measuring and five of a loop with a Recorder, with each of two seeds."""
    rng = random.Random(seed)
    expected = journals(train(composed(*KEPT, *ALL, f"outputs={tmp_path / 'undisturbed'}")).path)
    raw = composed(*KEPT)
    path = check(raw).directory
    command = [*SMALL, *KEPT, f"outputs={raw['outputs']}"]
    kill_and_finish(TRAINING, command, [rng.randrange(1, 30_000) for _ in range(5)])
    command = ["measure", str(path), *MORE, "device=cpu"]
    kill_and_finish(MEASURING, command, [rng.randrange(1, 20_000) for _ in range(5)])
    assert journals(path) == expected
    assert RunDirectory(path).state() is State.COMPLETED
    loop = tmp_path / "loop"
    kill_and_finish(RECORDING, ["record", str(loop)], [rng.randrange(1, 10_000) for _ in range(5)])
    for one, other in zip(measurements(loop / "mine"), measurements(record(tmp_path).path), strict=True):
        assert (one.name, one.read_bytes()) == (other.name, other.read_bytes())
    store = tmp_path / "mlflow.db"
    for _ in range(2):
        sync_runs([path, loop / "mine"], f"sqlite:///{store}")
    (loop / "mine" / "training.jsonl").touch()  # a loop has no rows of its training; its key is no part of its name
    expected_points = journalled([path, loop / "mine"]).values()
    assert sorted(stored(store).values(), key=len) == sorted(expected_points, key=len)


@pytest.mark.slow
def test_measuring_beside_a_training_that_goes_on(composed: Compose, console: Console, tmp_path: Path) -> None:
    expected = journals(train(composed(*KEPT, *ALL, f"outputs={tmp_path / 'undisturbed'}")).path)
    raw, go = composed(*KEPT), tmp_path / "go"
    directory = RunDirectory(check(raw).directory)
    command = [sys.executable, "-c", HELD, str(go), *SMALL, *KEPT, f"outputs={raw['outputs']}"]
    training = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        while len(directory.training.epochs()) < 2:  # epoch 3 is trained, 4 is held
            assert training.poll() is None
            time.sleep(0.05)
        asked = compose_mapping("measure", [f"run={directory.path}", "device=cpu", *MORE])
        assert measure(asked, console) == "completed"
        (beside,) = directory.measurements.glob("robustness_*.jsonl")
        assert [line[:11] for line in beside.read_text().splitlines()] == ['{"epoch": 1', '{"epoch": 2']
        assert directory.actual_state() is State.RUNNING
        go.touch()
        assert training.wait(timeout=PATIENCE_S) == 0
    finally:
        training.kill()
        training.wait()
    assert measure(asked, console) == "completed"
    assert journals(directory.path) == expected
    assert run(raw, console) == "completed"
    assert journals(directory.path) == expected
