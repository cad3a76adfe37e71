"""A run of which there are snapshots of features that were drawn, as pictures are made of."""

from __future__ import annotations

from pathlib import Path

import torch
from support import snapshot_of
from synthetic_sweep import write_run

from ncexp.collapse import LinearClassifier
from ncexp.measure import Ridge, Snapshot
from ncexp.record import RunDirectory, SavedRun, read_run, write_json

CLASSES, WIDTH, EXAMPLES = 5, 7, 30


def snapshot(epoch: int, classes: int = CLASSES, width: int = WIDTH) -> Snapshot:
    """Of train features, with the first three of every class kept; the same at every call."""
    torch.manual_seed(epoch)
    labels = torch.arange(classes).repeat(EXAMPLES)
    features = 3 * torch.randn(classes, width).double()[labels] + torch.randn(len(labels), width) * torch.rand(width)
    classifier = LinearClassifier(torch.randn(classes, width), torch.randn(classes))
    made = snapshot_of({"train": (features, labels)}, classifier, Ridge("none", 0.0, 0.0), epoch=epoch)
    first = torch.arange(3 * classes)
    made.splits["train"].examples.update(features=features[first].float(), labels=labels[first])
    return made


def run_of(folder: Path, *snapshots: Snapshot, classes: int = CLASSES, width: int = WIDTH) -> SavedRun:
    """A run with these snapshots, of so many classes and features."""
    directory = RunDirectory(write_run(folder))
    facts = read_run(directory.path).facts
    write_json(directory.facts, facts | {"num_classes": classes, "num_features": width})
    for one in snapshots:
        one.save(directory.snapshot(one.epoch), directory.key)
    return read_run(directory.path)
