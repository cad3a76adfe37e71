"""Types and helpers that several tests import."""

from __future__ import annotations

import importlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from torch import Tensor

from ncexp.collapse import LinearClassifier, class_statistics
from ncexp.config import RunConfig, check
from ncexp.config.composing import Composer, config_directory
from ncexp.measure import (
    RecordedTraining,
    Ridge,
    Snapshot,
    build_analyses,
    check_probes,
    evaluate,
    run_analysis,
    subject_of,
    with_errors,
)
from ncexp.measure.evaluation import probes_of
from ncexp.measure.snapshot import SplitSnapshot, as_stored
from ncexp.record import Record, RunDirectory, State, write_json, write_text
from ncexp.training import Assembly, assemble

#: compose("loss=cross_entropy", ...) → the plain configuration of a small run, see conftest.composed.
Compose = Callable[..., dict[str, Any]]

#: Four classes of twenty examples.
SMALL_DATA = [
    "dataset=gaussian_mixture",
    "dataset.num_classes=4",
    "dataset.num_features=6",
    "dataset.examples_per_class=20",
    "dataset.test_examples_per_class=10",
]

#: A run that trains in a second.
SMALL = [
    *SMALL_DATA,
    "architecture=mlp",
    "architecture.hidden=[16,8]",
    "loss=mse",
    "optimizer=sgd_digits",
    "optimizer.lr=0.018420157",
    "epochs=6",
    "batch_size=32",
    "evaluate_at=[1,2,4]",
]

#: How long another process is waited for. What is waited for takes seconds; on a machine with nine processes for every
#: core it takes a minute or more, and a test must not tell a busy machine from a defect by the clock.
PATIENCE_S = 1500

#: A training key, where a file wants one and no run is there.
TRAINING = "0123456789"


def compose(name: str, overrides: Sequence[str]) -> dict[str, Any]:
    """What `compose_mapping` returns, as a sweep composes its runs: Hydra is asked once for each choice of files.

    tests/launching/test_composition.py compares the two.
    """
    return _composer(name).compose(overrides)


@cache
def _composer(name: str) -> Composer:
    with initialize_config_dir(version_base="1.3", config_dir=str(config_directory())):
        loader = GlobalHydra.instance().config_loader()
        return Composer(loader, loader.load_configuration(name, [], run_mode=RunMode.MULTIRUN))


def measured(assembly: Assembly, config: RunConfig, epoch: int = 1) -> Record:
    """Every number of one evaluation with the analyses of `config`; nothing is written."""
    subject, analyses = subject_of(assembly), build_analyses(with_errors(config.analyses))
    check_probes(analyses, subject)
    snapshot = evaluate(subject, epoch, probes_of(analyses))
    record: Record = {}
    for analysis in analyses.values():
        record |= run_analysis(analysis, snapshot, subject)
    return record


def snapshot_of(
    splits: Mapping[str, tuple[Tensor, Tensor]],
    classifier: LinearClassifier,
    ridge: Ridge,
    layers: Mapping[str, Tensor] | None = None,
    epoch: int = 1,
) -> Snapshot:
    """The snapshot of features (n, P) and labels (n,) by split; layers: outputs (n, P') of the first split's probes,
    by name, taken for every split. Loss and error are some numbers.
    """

    def split(features: Tensor, labels: Tensor) -> SplitSnapshot:
        num_classes = classifier.num_classes
        probed = {
            name: as_stored(class_statistics(outputs[: len(labels)], labels, num_classes))
            for name, outputs in (layers or {}).items()
        }
        return SplitSnapshot(as_stored(class_statistics(features, labels, num_classes)), 0.1 + 0.2, 1 / 3, probed)

    return Snapshot(epoch, {name: split(*examples) for name, examples in splits.items()}, classifier, ridge)


def journals(run: Path) -> dict[str, bytes]:
    """The bytes of every journal of a run, by its path in the run's directory."""
    paths = [run / "training.jsonl", *sorted((run / "measurements").glob("*.jsonl"))]
    return {str(path.relative_to(run)): path.read_bytes() for path in paths}


def train(raw: dict[str, Any], stop_after: int | None = None) -> RunDirectory:
    """Train the run of a composed configuration, without figures and MLflow, as `ncexp.main.run` does.

    stop_after: leave it after this epoch as a process that was killed leaves it.
    """
    config = check(raw)
    directory = RunDirectory(config.directory)
    with directory.locked():
        training = RecordedTraining(config, directory, assemble(config))
        write_text(directory.config, yaml.safe_dump(dict(config.raw), sort_keys=False))
        write_json(directory.facts, training.facts())
        directory.set_status(State.RUNNING)
        training.resume()
        for summary, _ in training.epochs(lambda: False):
            if summary["epoch"] == stop_after:
                return directory
        directory.set_status(State.COMPLETED, epoch=training.epoch, record=training.finish())
        directory.remove_resume_files()
    return directory


_trained: dict[str, RunDirectory] = {}
_templates = tempfile.TemporaryDirectory(prefix="ncexp_tests_")


def trained(raw: dict[str, Any], stop_after: int | None = None) -> RunDirectory:
    """As `train`, for tests of what comes after a training: each is trained once and copied to where `raw` has it."""
    template = f"{stop_after} {yaml.safe_dump({**raw, 'outputs': ''})}"
    if template not in _trained:
        place = str(Path(_templates.name) / str(len(_trained)))
        _trained[template] = train({**raw, "outputs": place}, stop_after)
    config = check(raw)
    directory = RunDirectory(config.directory)
    shutil.copytree(_trained[template].path, directory.path)
    write_text(directory.config, yaml.safe_dump(dict(config.raw), sort_keys=False))
    return directory


def slow(*values: object) -> Any:
    """A case that runs with the slow tests."""
    return pytest.param(*values, marks=pytest.mark.slow)


def required(name: str) -> Any:
    """A library that ncexp does without. Where it is missing a test is skipped; in CI, which must have it, it fails."""
    return importlib.import_module(name) if os.environ.get("CI") else pytest.importorskip(name)


#: float32 gradients summed in another order, six epochs long; what is itself a rounding error is compared with 0.
CLOSE, ROUNDING = 1e-5, 1e-9


def assert_same_record(one: Path, other: Path) -> None:
    records = [[json.loads(line) for line in path.read_text().splitlines()] for path in (one, other)]
    assert len(records[0]) == len(records[1]) > 0
    for ours, theirs in zip(*records, strict=True):
        assert ours.keys() == theirs.keys()
        for name, value in ours.items():
            same = value == theirs[name] or math.isclose(value, theirs[name], rel_tol=CLOSE, abs_tol=ROUNDING)
            assert same, f"{name} in epoch {ours['epoch']}: {value} and {theirs[name]}"
