"""What a training leaves on the disk: journals, kept files, the zero-error epoch, no trace of a kill."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from support import Compose, journals, slow, train

from ncexp.config import check
from ncexp.measure import RecordedTraining, evaluator, load_snapshot, recorded_training, train_error_at_most
from ncexp.record import RunDirectory, read_run
from ncexp.training import assemble, load_weights

#: The training error falls to zero somewhere within the epochs.
EASY = [
    "dataset.separation=5.0",
    "optimizer/schedule=constant",
    "optimizer.lr=0.05",
    "batch_size=16",
    "epochs=20",
    "analysis=[]",
]


@pytest.mark.slow
def test_training_leaves_every_epoch_and_every_evaluation(composed: Compose) -> None:
    directory = train(composed())
    assert [record["epoch"] for record in directory.training.read()] == [1, 2, 3, 4, 5, 6]
    assert all(record.keys() == {"epoch", "fit/loss", "fit/error", "fit/lr"} for record in directory.training.read())
    assert list(directory.clock.read()) == [1, 2, 3, 4, 5, 6]
    analyses = {path.stem.rpartition("_")[0] for path in directory.measurements.glob("*.jsonl")}
    assert analyses == {"errors", "collapse", "decisions", "decomposition", "central_path"}
    run = read_run(directory.path)
    assert [record["epoch"] for record in run.records] == [1, 2, 4, 6]
    assert directory.kept_snapshots() == [1, 2, 4, 6]
    assert directory.kept_checkpoints() == [6]
    assert not directory.resume.exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("snapshots", "checkpoints", "kept"),
    [
        ("evaluated", "evaluated", ([1, 2, 4, 6], [1, 2, 4, 6])),
        ("last", "last", ([6], [6])),
        ("[2]", "[2,3]", ([2], [2, 3])),
        ("[]", "[]", ([], [])),
    ],
)
def test_training_keeps_what_was_chosen(
    composed: Compose, snapshots: str, checkpoints: str, kept: tuple[list[int], list[int]]
) -> None:
    directory = train(composed(f"keep.snapshots={snapshots}", f"keep.checkpoints={checkpoints}"))
    assert (directory.kept_snapshots(), directory.kept_checkpoints()) == kept


@pytest.mark.slow
def test_kept_weights_are_those_of_the_snapshot(composed: Compose) -> None:
    directory = train(composed("keep.checkpoints=evaluated"))
    network = assemble(check(composed())).training.network
    for epoch in directory.kept_checkpoints():
        load_weights(directory.checkpoint(epoch), network, directory.key)
        stored = load_snapshot(directory.snapshot(epoch), directory.key).classifier.weight
        assert torch.equal(network.classifier.weight.detach().double(), stored)  # type: ignore[operator]


def test_description_of_what_is_kept_tells_its_size(composed: Compose) -> None:
    config = check(
        composed("keep.checkpoints=[2]", "analysis=[collapse,layers]", "analysis.layers.modules=[backbone.3]")
    )
    told = RecordedTraining(config, RunDirectory(config.directory), assemble(config)).describe_kept()
    assert told.startswith("4 snapshots of ")
    assert "1 checkpoints of" in told
    assert not config.directory.exists()  # nothing is written before the first step


@pytest.mark.slow
@pytest.mark.parametrize("stop_after", [1, slow(2), 3, slow(5)])
def test_training_left_after_an_epoch_and_resumed_leaves_the_same(composed: Compose, stop_after: int) -> None:
    keep = "keep.checkpoints=evaluated"
    undisturbed = train(composed(keep))
    expected = {path.name: path.read_bytes() for path in undisturbed.path.rglob("*.safetensors")}
    bytes_of = journals(undisturbed.path)
    shutil.rmtree(undisturbed.path)
    train(composed(keep), stop_after)
    resumed = train(composed(keep))
    assert journals(resumed.path) == bytes_of
    assert {path.name: path.read_bytes() for path in resumed.path.rglob("*.safetensors")} == expected


def test_run_that_was_left_holds_what_its_checkpoint_holds(composed: Compose) -> None:
    directory = train(composed(), stop_after=3)
    assert [record["epoch"] for record in directory.training.read()] == [1, 2]
    run = read_run(directory.path)
    assert run.state == "killed"
    assert [record["epoch"] for record in run.records] == [1, 2]


@pytest.mark.slow
@pytest.mark.parametrize(("loss", "seed"), [("mse", 0), slow("mse", 1), ("cross_entropy", 0)])
def test_zero_error_epoch_is_exact(composed: Compose, loss: str, seed: int) -> None:
    """Against the same training evaluated after every epoch."""
    choice = [*EASY, f"loss={loss}", f"seed={seed}"]
    exact = read_run(train(composed(*choice, f"evaluate_at={[*range(1, 21)]}")).path)
    shutil.rmtree(exact.path)
    sparse = read_run(train(composed(*choice, "evaluate_at=[20]")).path)
    assert exact.zero_error_epoch is not None
    assert 1 < exact.zero_error_epoch < 20
    assert sparse.zero_error_epoch == exact.zero_error_epoch
    assert [record["epoch"] for record in sparse.records] == [exact.zero_error_epoch, 20]
    of_epoch = {record["epoch"]: record for record in exact.records}
    assert all(record == of_epoch[record["epoch"]] for record in sparse.records)


@pytest.mark.slow
def test_search_for_the_zero_error_epoch_leaves_the_training_alone(
    composed: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    choice = [*[o for o in EASY if "schedule" not in o], "evaluate_at=[20]", "optimizer=adam"]
    searched = train(composed(*choice)).training.path.read_bytes()
    shutil.rmtree(check(composed(*choice)).directory)
    monkeypatch.setattr(recorded_training, "NEAR_ZERO_ERROR", -1.0)
    plain = train(composed(*choice))
    assert read_run(plain.path).records[0]["epoch"] == 20
    assert plain.training.path.read_bytes() == searched


@pytest.mark.slow
def test_zero_error_epoch_is_found_by_few_passes(composed: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    """A "no" ends after the examples that the steps decided wrongly, or soon; only the "yes" takes all of the set."""
    examples, asked, forward = [0], [0], evaluator.forward

    def counting(*arguments: Any) -> Iterator[Any]:
        for batch in forward(*arguments):
            examples[0] += len(batch[2])
            yield batch

    def asking(*arguments: Any) -> bool:
        asked[0] += 1
        return train_error_at_most(*arguments)

    monkeypatch.setattr(evaluator, "forward", counting)
    monkeypatch.setattr(evaluator, "BATCH_SIZE", 8)
    monkeypatch.setattr(recorded_training, "train_error_at_most", asking)
    directory = train(composed(*EASY, "evaluate_at=[20]"))
    assert read_run(directory.path).zero_error_epoch is not None
    assert asked[0] > 2
    evaluated = 2 * (80 + 40)  # at zero error and at the end
    assert examples[0] - evaluated < 80 * asked[0] / 2


@pytest.mark.slow
def test_weights_of_zero_error_and_of_the_end_are_kept_also_after_a_kill(composed: Compose) -> None:
    choice = [*EASY, "keep.checkpoints=zero_error"]
    directory = train(composed(*choice), stop_after=19)
    kept_before = directory.kept_checkpoints()
    train(composed(*choice))
    zero_error = read_run(directory.path).zero_error_epoch
    assert zero_error is not None
    assert zero_error < 19
    assert kept_before == [zero_error]
    assert directory.kept_checkpoints() == [zero_error, 20]
