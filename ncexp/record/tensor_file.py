"""Tensors on disk without pickle: safetensors with one header of ours, whole or not there, and checked when read.

The header says what the file is (`kind`), of which format and of which training, and holds a SHA-256 of all of it. A
file that is cut, damaged, of another training or of another version is refused by name, never used and never deleted.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ncexp.config.names import shown
from ncexp.record.files import open_file, parse_json, refuse_odd, write_atomically

if TYPE_CHECKING:
    from torch import Tensor

#: Raised when what a file holds changes its meaning.
FORMAT = 1
#: The one entry of safetensors' own header; more than one would be written in any order.
_ENTRY = "ncexp"
#: Bytes, as safetensors has it.
LONGEST_HEADER = 100_000_000


class UnusableFile(ValueError):
    """A snapshot or checkpoint that cannot be used; the message names the file and says what is wrong with it."""


class DamagedTensors(UnusableFile):
    """One that nobody can use: cut, empty, garbage, or with a changed bit. One of another training may be sound."""


def write_tensors(path: Path, tensors: Mapping[str, Tensor], kind: str, training: str, **header: Any) -> None:
    """Write `tensors` by name, atomically; equal content gives equal bytes.

    kind: "snapshot", "weights", "resume" or "rows"; training: the training key; header: whatever JSON holds.
    """
    from safetensors.torch import save

    alone = _unshared(tensors)
    content = {"kind": kind, "format": FORMAT, "training": training, **header}
    content["sha256"] = _digest(alone, content)
    data = save(alone, metadata={_ENTRY: json.dumps(content, sort_keys=True)})
    write_atomically(path, lambda file: file.write(data))


def _unshared(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """On the CPU, none of which shares memory with another, as safetensors wants it; copied where it has to be."""
    found: dict[str, Tensor] = {}
    taken: set[int] = set()
    for name, tensor in tensors.items():
        here = tensor.detach().cpu().contiguous()
        if here.untyped_storage().data_ptr() in taken:
            here = here.clone()
        taken.add(here.untyped_storage().data_ptr())
        found[name] = here
    return found


def read_header(path: Path, kind: str, training: str) -> dict[str, Any]:
    """The header alone; neither torch nor the tensors are loaded.

    Raises FileNotFoundError; DamagedTensors for a file that is cut or no such file of ours; UnusableFile for one of
    another training.
    """
    try:
        with open_file(path) as file:
            (length,) = struct.unpack("<Q", file.read(8))
            size = os.fstat(file.fileno()).st_size
            if length > min(size, LONGEST_HEADER):
                raise ValueError("its header is cut")
            entries = parse_json(file.read(length))
            header: dict[str, Any] = dict(parse_json(entries.pop("__metadata__")[_ENTRY].encode()))
            refuse_odd(header)
            if 8 + length + max((int(entry["data_offsets"][1]) for entry in entries.values()), default=0) != size:
                raise ValueError("its tensors are cut")
    except FileNotFoundError:
        raise
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError, struct.error):
        raise DamagedTensors(f"{path}: expected a {kind} file, got one that is cut or damaged.") from None
    for name, expected in (("format", FORMAT), ("kind", kind), ("training", training)):
        if header.get(name) != expected:
            found = str(header.get(name))[:60]
            raise UnusableFile(f"{path}: expected a {kind} file with {name} {expected}, got {name} {found}.")
    if not _is_complete(header, kind):
        raise DamagedTensors(f"{path}: expected a {kind} file with its header, got {shown(header)}.")
    return header


def read_tensors(path: Path, kind: str, training: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors by name, on the CPU, and the header. Raises as `read_header`, and where a single bit has changed."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    header = read_header(path, kind, training)
    try:
        # Copies, aligned as torch aligns: the same numbers at another alignment may be summed in another order.
        with open_file(path) as file:
            tensors = {name: tensor.clone() for name, tensor in load(file.read()).items()}
    except (SafetensorError, ValueError, KeyError):  # KeyError: of a kind of number that torch has not
        raise DamagedTensors(f"{path}: expected a {kind} file, got one that is cut or damaged.") from None
    if _digest(tensors, header) != header.get("sha256"):
        raise DamagedTensors(
            f"{path}: expected a {kind} file with the SHA-256 of its header, got other content: it is damaged."
        )
    return tensors, header


def _is_complete(header: Mapping[str, Any], kind: str) -> bool:
    """Whether a header has the entries that readers rely on."""
    epoch, splits = header.get("epoch"), header.get("splits", {})
    if kind == "resume":
        position = header.get("position")
        epoch = position.get("epoch") if isinstance(position, dict) else None
    if kind == "rows":
        return True
    laid_out = isinstance(splits, dict) and all(
        isinstance(split, dict) and isinstance(split.get("layers"), list) and set(map(type, split["layers"])) <= {str}
        for split in splits.values()
    )
    return type(epoch) is int and 0 <= epoch <= 10**9 and laid_out


def _digest(tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> str:
    import torch

    described = {name: value for name, value in header.items() if name != "sha256"}
    digest = hashlib.sha256(json.dumps(described, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
