"""A tiny LightningModule on the digits, recorded: the numbers of a Recorder in a plain loop, the training untouched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from support import required

import ncexp
from ncexp.architectures import ForeignNetwork
from ncexp.record import State, read_run
from ncexp.training.foreign_checkpoints import read_foreign_weights
from ncexp.training.foreign_files import choose_epochs, find_files

pytestmark = [pytest.mark.usefixtures("no_figures"), pytest.mark.filterwarnings("ignore::UserWarning")]


@pytest.fixture(scope="module")
def digits() -> Any:
    """The module lightning_digits; takes seconds to import, and Lightning may be missing."""
    required("lightning.pytorch")
    return required("lightning_digits")


def recorder(folder: Path) -> ncexp.Recorder:
    return ncexp.Recorder(folder, num_classes=10, classifier="fc", loss="cross_entropy", analyses=["collapse"])


@pytest.mark.slow
def test_lightning_training_is_recorded_and_left_alone(digits: Any, tmp_path: Path) -> None:
    from ncexp.integrations.lightning import RecorderCallback

    _, without = digits.fit(tmp_path)
    with recorder(tmp_path / "mine") as recording:
        trainer, module = digits.fit(tmp_path, RecorderCallback(recording, evaluate_at=[1, 3]))
    assert all(torch.equal(value, module.state_dict()[name]) for name, value in without.state_dict().items())
    run = read_run(tmp_path / "mine")
    assert (run.state, [one["epoch"] for one in run.records]) == (State.COMPLETED, [1, 3])
    assert (run.facts["num_train"], run.facts["num_test"]) == (200, 300)
    alone = recorder(tmp_path / "alone").evaluate(3, module, *digits.loaders())
    assert {name: value for name, value in run.records[-1].items() if "fit" not in name} == alone
    name = "train/collapse/nc1_trace"
    assert float(trainer.callback_metrics[name]) == pytest.approx(alone[name], rel=1e-6)


@pytest.mark.slow
def test_lightning_training_that_fails_is_interrupted(digits: Any, tmp_path: Path) -> None:
    from ncexp.integrations.lightning import RecorderCallback

    def failing() -> None:
        with recorder(tmp_path / "mine") as recording:
            digits.fit(tmp_path, RecorderCallback(recording), fail=True)

    with pytest.raises(RuntimeError, match="out of luck"):
        failing()
    run = read_run(tmp_path / "mine")
    assert (run.state, run.message, len(run.records)) == (State.INTERRUPTED, "RuntimeError: out of luck", 1)


@pytest.mark.slow
def test_folder_of_lightning_is_read_as_it_is(digits: Any, tmp_path: Path) -> None:
    from lightning.pytorch.callbacks import ModelCheckpoint

    saving = ModelCheckpoint(tmp_path / "ckpts", "{epoch}-{accuracy:.2f}", save_top_k=-1, save_last=True)
    _, module = digits.fit(tmp_path, saving, enable_checkpointing=True)
    network = ForeignNetwork(digits.Digits(), "theirs", (1, 8, 8), 10)
    read = {path: read_foreign_weights(path, network) for path in find_files(str(tmp_path / "ckpts"))}
    files, lines = choose_epochs(
        {path: one.epochs for path, one in read.items()}, {path: one.digest for path, one in read.items()}, None
    )
    assert [(epoch, path.name.partition("-")[0]) for epoch, path in files.items()] == [
        (epoch, f"epoch={epoch}") for epoch in range(3)
    ]
    assert lines == [
        "3 files, epochs 0 to 2: the entry epoch of each file",
        "last.ckpt left out: its weights are those of epoch 2",
    ]
    assert all(torch.equal(read[files[2]].tensors[name], one) for name, one in module.state_dict().items())
