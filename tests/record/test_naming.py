"""Which runs a command's words mean."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ncexp.record import named_folders, named_runs
from ncexp.record.naming import MOST_LISTED

NAMES = [
    "digits-mlp-mse_lr0.1_seed1_0123456789",
    "digits-mlp-mse_lr0.1_seed10_1123456789",
    "digits-vgg-mse_lr0.1_seed1_abcdef0123",
]


def make(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.yaml").touch()
    return folder


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    sweep = tmp_path / "outputs" / "sweeps" / "two_01234567" / "runs"
    sweep.mkdir(parents=True)
    for num, name in enumerate(NAMES):
        make(tmp_path / "outputs" / name)
        if num < 2:
            (sweep / f"{num:03d}_{name}").symlink_to(f"../../../{name}")
    return tmp_path / "outputs"


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        (NAMES[0], [0]),  # a name with its key
        ("digits-mlp-mse_lr0.1_seed1", [0]),  # without it, though another begins so
        ("1123456789", [1]),  # a key
        ("abc", [2]),  # the beginning of one
        ("digits-v", [2]),  # of a name
        ("digits-mlp*", [0, 1]),
        ("*seed1_*", [0, 2]),
        ("[01]123456789", [0, 1]),  # keys
        ("two_01234567", [0, 1]),  # a sweep
    ],
)
def test_word_means_runs(outputs: Path, word: str, meant: list[int]) -> None:
    assert {path.name for path in named_runs([word], outputs)} == {NAMES[place] for place in meant}


def test_folders_stay_folders_and_runs_are_named_once(outputs: Path) -> None:
    assert named_folders([str(outputs), "digits-v"], outputs) == [outputs, outputs / NAMES[2]]
    assert named_runs(["digits-v", "abc", str(outputs / NAMES[2]), "*vgg*"], outputs) == [outputs / NAMES[2]]
    assert named_folders([], outputs) == []


def test_beginning_of_several_lists_them_and_says_how_to_choose(outputs: Path) -> None:
    with pytest.raises(ValueError, match="digits-m: expected one run, got 2:") as caught:
        named_runs(["digits-m"], outputs)
    first, *listed, last = str(caught.value).splitlines()
    assert {line.strip() for line in listed} == {*NAMES[:2]}
    assert first == "digits-m: expected one run, got 2:"
    assert "'digits-m*' means all of them. `ncexp runs 'digits-m*'` shows what each came to" in last


def test_very_many_are_not_all_listed(outputs: Path) -> None:
    for seed in range(100, 100 + MOST_LISTED):
        make(outputs / f"digits-mlp-mse_lr0.1_seed{seed}_{seed:010d}")
    with pytest.raises(ValueError, match=f"got {MOST_LISTED + 2}:") as caught:
        named_runs(["digits-m"], outputs)
    assert len(str(caught.value).splitlines()) == MOST_LISTED + 3
    assert "  ... and 2 more\n" in str(caught.value)
    words = r"^((?!seed100).)*`ncexp runs` lists the 23 that there are\. Did you mean digits-vgg((?!seed100).)*$"
    with pytest.raises(ValueError, match=words):
        named_runs(["digits-vgk-mse_lr0.1_seed1"], outputs)


@pytest.mark.parametrize("word", ["svhn", "svhn*", "x" * 300])
def test_word_that_means_no_run_is_refused(outputs: Path, word: str) -> None:
    words = r"expected a run under .*outputs, got none of this name or key\. Valid: digits"
    with pytest.raises(ValueError, match=words):
        named_runs([word], outputs)
    words = "expected a folder, or a run of one, got neither. .*expected run directories, got none.*outputs=FOLDER"
    with pytest.raises(ValueError, match=f"^{re.escape(word)}: {words}"):  # where there is no run at all
        named_runs([word], outputs / "sweeps")


def test_damaged_identity_hides_no_other_run(outputs: Path) -> None:
    odd = make(outputs / "my loop")
    (odd / "identity.json").write_text("{")
    assert named_runs(["abc"], outputs) == [outputs / NAMES[2]]
    assert named_runs(["my l"], outputs) == [odd]
