"""Tensors on disk: the same bits back, the same bytes for the same content, and nothing that is not what it says."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from support import TRAINING

from ncexp.record import tensor_file
from ncexp.record.tensor_file import UnusableFile, read_header, read_tensors, write_tensors

TENSORS = {
    "weight": torch.arange(12, dtype=torch.float64).reshape(3, 4).T / 7,  # not contiguous
    "state": torch.tensor([1, 255, 0], dtype=torch.uint8),
    "count": torch.tensor(3),
    "empty": torch.zeros(0, 4),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "snapshots" / "epoch_0003.safetensors"
    write_tensors(path, TENSORS, "snapshot", TRAINING, epoch=3, loss=0.1 + 0.2, words={"b": [1], "a": None})
    return path


def test_tensors_come_back_bit_for_bit_with_their_header(path: Path) -> None:
    tensors, header = read_tensors(path, "snapshot", TRAINING)
    assert tensors.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert (tensors[name].dtype, tensors[name].tolist()) == (tensor.dtype, tensor.tolist())
    assert (header["epoch"], header["loss"], header["words"]) == (3, 0.1 + 0.2, {"b": [1], "a": None})
    assert read_header(path, "snapshot", TRAINING) == header


def test_tensors_that_share_memory_come_back_each_whole(tmp_path: Path) -> None:
    whole = torch.arange(6.0)
    given = {"tied": whole, "again": whole, "part": whole[2:5], "row": whole.reshape(2, 3)[1]}
    write_tensors(tmp_path / "file", given, "snapshot", TRAINING, epoch=3)
    tensors, _ = read_tensors(tmp_path / "file", "snapshot", TRAINING)
    assert {name: one.tolist() for name, one in tensors.items()} == {name: one.tolist() for name, one in given.items()}


def test_file_is_safetensors_without_pickle(path: Path) -> None:
    assert load_file(path).keys() == TENSORS.keys()


def test_equal_content_gives_equal_bytes_whatever_the_order(path: Path) -> None:
    again, backwards = path.with_name("again"), dict(reversed(TENSORS.items()))
    write_tensors(again, backwards, "snapshot", TRAINING, words={"a": None, "b": [1]}, loss=0.1 + 0.2, epoch=3)
    assert again.read_bytes() == path.read_bytes()


def refused(path: Path, kind: str = "snapshot", training: str = TRAINING) -> str:
    """What is said of the file, which is named and stays as it is."""
    before = path.read_bytes()
    with pytest.raises(UnusableFile, match=str(path)) as caught:
        read_tensors(path, kind, training)
    assert path.read_bytes() == before
    return str(caught.value)


@pytest.mark.slow
def test_every_cut_is_refused(path: Path) -> None:
    data = path.read_bytes()
    for length in range(len(data)):
        path.write_bytes(data[:length])
        assert "cut or damaged" in refused(path)


@pytest.mark.slow
def test_every_flipped_bit_is_refused(path: Path) -> None:
    data = path.read_bytes()
    for place in range(len(data)):
        path.write_bytes(data[:place] + bytes([data[place] ^ 1 << place % 8]) + data[place + 1 :])
        assert "expected a snapshot" in refused(path)


def test_file_of_another_kind_training_or_format_is_refused_by_name(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "with kind weights, got kind snapshot" in refused(path, kind="weights")
    assert f"with training abcdefabcd, got training {TRAINING}" in refused(path, training="abcdefabcd")
    monkeypatch.setattr(tensor_file, "FORMAT", tensor_file.FORMAT + 1)
    assert f"with format {tensor_file.FORMAT}, got format {tensor_file.FORMAT - 1}" in refused(path)


def with_header(header: Any) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text


#: What a file may hold that is none of ours.
STRANGE = {
    "empty": b"",
    "pickle": b"\x80\x04K\x01.",
    "a list": with_header([]),
    "no metadata": with_header({}),
    "somebody else's": with_header({"__metadata__": {"format": "pt"}}),
    "no JSON": with_header({"__metadata__": {"ncexp": "not JSON"}}),
    "no mapping": with_header({"__metadata__": {"ncexp": "3"}}),
}


@pytest.mark.parametrize("data", STRANGE.values(), ids=STRANGE)
def test_what_is_no_file_of_ours_is_refused(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    refused(path)
    with pytest.raises(FileNotFoundError):
        read_tensors(path.with_name("none"), "snapshot", TRAINING)


def test_what_cannot_be_written_leaves_the_old_file(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(TypeError):
        write_tensors(path, TENSORS, "snapshot", TRAINING, epoch={1, 2})
    assert path.read_bytes() == before
    assert [*path.parent.iterdir()] == [path]
