"""Which files another training left, and of which epochs they are: read in the files, in their names, or asked for."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from ncexp.config import ConfigError
from ncexp.training.foreign_files import choose_epochs, epochs_said, find_files

#: A file's name and its content; the weights in it stand for themselves.
Files = dict[str, dict[str, Any]]


def chosen(folder: Path, files: Files, asked: str | None = None, pattern: str = "") -> tuple[dict[int, str], list[str]]:
    """{epoch: name}, and what is said, of these files in a folder."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        torch.save(content, folder / name)
    found = find_files(str(folder / pattern))
    contents = {path: {} if path.suffix == ".safetensors" else torch.load(path) for path in found}
    says = {path: epochs_said(path, content, asked) for path, content in contents.items()}
    epochs, lines = choose_epochs(says, {path: str(one.get("w", path)) for path, one in contents.items()}, asked)
    return {epoch: str(path.relative_to(folder)) for epoch, path in epochs.items()}, lines


LIGHTNING: Files = {
    "epoch=0-val_loss=0.40.ckpt": {"epoch": 0, "global_step": 14, "w": 1},
    "epoch=1-val_loss=0.35.ckpt": {"epoch": 1, "global_step": 28, "w": 2},
    "last.ckpt": {"epoch": 1, "global_step": 28, "w": 2},
}


def test_epoch_is_the_files_own_entry_and_not_a_number_of_its_name(tmp_path: Path) -> None:
    epochs, lines = chosen(tmp_path, LIGHTNING)
    assert epochs == {0: "epoch=0-val_loss=0.40.ckpt", 1: "epoch=1-val_loss=0.35.ckpt"}
    assert lines == [
        "2 files, epochs 0 to 1: the entry epoch of each file",
        "last.ckpt left out: its weights are those of epoch 1",
    ]
    assert list(chosen(tmp_path, {}, "global_step")[0]) == [14, 28]
    assert list(chosen(tmp_path, {}, r"val_loss=0\.(\d+)")[0]) == [35, 40]


@pytest.mark.parametrize(
    ("files", "epochs", "said"),
    [
        (["epoch=4-val_loss=0.40.pt", "epoch=5-val_loss=0.39.pt"], [4, 5], "epoch in each name"),
        (["epoch=9-step=140.pt"], [9], "epoch in each name"),
        (["r18_ep12_3fa9.pth", "r18_ep3_77c1.pth"], [3, 12], "epoch in each name"),
        (["2026-11-29_Epoch_07.bin"], [7], "epoch in each name"),
        (["step_20_loss_3.pt", "step_100_loss_3.pt"], [20, 100], "step in each name"),
        (["checkpoint-5/model.pt", "checkpoint-10/model.pt"], [5, 10], "checkpoint- in each name"),
        (["Epoch_5/model.pt", "epoch_10/model.pt"], [5, 10], "epoch in each name"),
    ],
)
def test_epoch_without_entry_is_the_number_after_its_word(
    files: list[str], epochs: list[int], said: str, tmp_path: Path
) -> None:
    found, lines = chosen(tmp_path, {name: {} for name in files})
    assert list(found) == epochs
    assert lines[0].endswith(f": {said}")


def test_step_is_taken_where_a_file_has_no_epoch(tmp_path: Path) -> None:
    assert list(chosen(tmp_path, {"a.pt": {"step": torch.tensor(7)}, "b.pt": {"step": 9.0}})[0]) == [7, 9]


def test_folder_of_a_trainer_has_its_epochs_in_the_state(tmp_path: Path) -> None:
    for step in (5, 10):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        for name in ("model.safetensors", "optimizer.pt", "training_args.bin"):
            (folder / name).touch()
        (folder / "trainer_state.json").write_text(json.dumps({"epoch": step / 5, "global_step": step}))
    assert chosen(tmp_path, {})[0] == {1: "checkpoint-5/model.safetensors", 2: "checkpoint-10/model.safetensors"}
    (tmp_path / "checkpoint-5/trainer_state.json").write_text(json.dumps({"epoch": 0.4, "global_step": 5}))
    assert list(chosen(tmp_path, {})[0]) == [5, 10]


@pytest.mark.parametrize(
    ("files", "asked", "message"),
    [
        (
            {"resnet_10.pt": {}},
            None,
            r"got none of .*resnet_10.pt. Say where it is, checkpoint.epoch='resnet_(\d+)'",
        ),
        ({"20261129.pt": {}}, None, "expected an epoch in each file .* got none of .*20261129.pt"),
        ({"deadbeef12.pt": {}}, None, "expected an epoch in each file .* got none of .*deadbeef12.pt"),
        ({**LIGHTNING, "best.ckpt": {"w": 9}}, None, "expected an epoch in each file .* got none of .*best.ckpt"),
        (
            {"a.pt": {"epoch": 1, "global_step": 3}, "b.pt": {"epoch": 1, "global_step": 6}},
            None,
            "expected one file an epoch, got .*a.pt and .*b.pt for epoch 1 .*checkpoint.epoch=global_step",
        ),
        ({"a_1.pt": {}}, r"step_(\d+)", r"expected step_(\d+) to find a whole number in .*a_1.pt, got none"),
        ({"a_x.pt": {}}, r"a_(\w)", "to find a whole number in .*a_x.pt, got none"),
        ({"a_1.pt": {"epoch": 1}}, "step", "expected step to be an entry with a whole number in .*a_1.pt, got none"),
    ],
)
def test_files_without_clear_epochs_are_refused(files: Files, asked: str | None, message: str, tmp_path: Path) -> None:
    pattern = ".*".join(map(re.escape, message.split(".*")))
    with pytest.raises(ConfigError, match=pattern):
        chosen(tmp_path, files, asked)


@pytest.mark.parametrize(
    ("files", "pattern", "message"),
    [
        ([], "*", "checkpoints: expected files .* got none for"),
        (["notes_2.txt"], "*", "checkpoints: expected files .* got .*notes_2.txt"),
        (["notes_2.txt"], "", "checkpoints: expected files .* got none for"),
        (["a/model-00001-of-00002.safetensors"], "", "got .*a/model-00001-of-00002.safetensors, one part of several"),
        (["epoch_1/.metadata"], "", "got .*epoch_1, a distributed checkpoint. .*dcp_to_torch_save"),
    ],
)
def test_what_is_no_file_of_weights_is_refused(files: list[str], pattern: str, message: str, tmp_path: Path) -> None:
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(ConfigError, match=message):
        find_files(str(tmp_path / pattern))


def test_file_whose_name_is_a_pattern_is_that_file(tmp_path: Path) -> None:
    (tmp_path / "epoch[1]?(best).pt").touch()
    assert find_files(str(tmp_path / "epoch[1]?(best).pt")) == [tmp_path / "epoch[1]?(best).pt"]


@pytest.mark.parametrize("build", [os.mkfifo, Path.mkdir])
def test_checkpoint_that_is_no_file_is_refused(tmp_path: Path, build: Any) -> None:
    """A pipe was waited for without end."""
    build(tmp_path / "epoch_1.pt")
    with pytest.raises(ConfigError, match=r"checkpoints: expected files"):
        find_files(f"{tmp_path}/*")
