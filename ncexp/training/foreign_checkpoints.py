"""What another training saved: which files, of which epochs, and in each the weights under the network's own names.

Files are read without pickle's objects: torch.load(weights_only=True), or safetensors. Whatever is assumed about a file
is said in `notes`; what does not fit the network is refused by name.
"""

from __future__ import annotations

import glob
import hashlib
import os
import pickle
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ncexp.config import ConfigError
from ncexp.record.tensor_file import UnusableFile

SAFETENSORS = ".safetensors"
SUFFIXES = (".pt", ".pth", ".ckpt", ".bin", SAFETENSORS)
#: What DataParallel, training classes with an attribute `model`, and torch.compile put before every name.
PREFIXES = ("module.", "model.", "_orig_mod.")
#: Names that a message lists.
LISTED = 5


@dataclass(frozen=True, eq=False)
class ForeignWeights:
    """tensors: by the network's names; notes: how they were found, for people."""

    tensors: dict[str, Tensor]
    notes: tuple[str, ...]

    @property
    def digest(self) -> str:
        """SHA-256 of names and values: the same for the same weights, whatever file they are in."""
        found = hashlib.sha256()
        for name in sorted(self.tensors):
            tensor = self.tensors[name]
            found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            found.update(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        return found.hexdigest()


def find_checkpoints(pattern: str, epoch: str | None) -> dict[int, Path]:
    """Epoch → file, ascending, of the files that a pattern of paths means.

    epoch: a regular expression with one group, searched in the file's name; None: the last number in it.
    Raises ConfigError where there is no file, one of another kind, one without an epoch, or two of one epoch.
    """
    paths = [Path(path) for path in sorted(glob.glob(os.path.expanduser(pattern), recursive=True))]
    if not paths:
        raise ConfigError(
            f"checkpoints: expected files, got none for {pattern!r} from {Path.cwd()}. Check the pattern."
        )
    found: dict[int, Path] = {}
    for path in paths:
        if not path.is_file():
            raise ConfigError(f"checkpoints: expected files, got {path}, which is none. Narrow the pattern.")
        if path.suffix not in SUFFIXES:
            raise ConfigError(f"checkpoints: expected files {' '.join(SUFFIXES)}, got {path}. Narrow the pattern.")
        number = _epoch_of(path, epoch)
        if number in found:
            raise ConfigError(
                f"checkpoints: expected one file an epoch, got {found[number]} and {path} for epoch {number}. Narrow "
                r"the pattern, or say where the epoch is: checkpoint.epoch='step_(\d+)'."
            )
        found[number] = path
    return {number: found[number] for number in sorted(found)}


def read_foreign_weights(path: Path, network: nn.Module, key: str | None) -> ForeignWeights:
    """The weights in a file, as `network` names them; the network is left as it is.

    key: where in the file they are, its parts separated by dots; None: the only place with tensors by name.
    Raises UnusableFile, naming the file, where it is damaged or holds other objects, where the place is not there or
    not unique, and where names or shapes are not the network's.
    """
    expected = network.state_dict()
    place, tensors = _pick(path, _load(path), key, expected)
    prefix, tensors = _without_prefix(tensors, expected)
    if faults := _faults(tensors, expected):
        raise UnusableFile(
            f"{path}: expected the weights of this network, got {'; '.join(faults)}. Choose the architecture that was "
            "trained, or say by checkpoint.key where in the file its weights are."
        )
    notes = [f"found under {place}"] if place else []
    notes += [f"names without their prefix {prefix}"] if prefix else []
    kinds = {(tensor.dtype, expected[name].dtype) for name, tensor in tensors.items()}
    notes += sorted(f"saved as {saved}, measured as {own}" for saved, own in kinds if saved != own)
    return ForeignWeights(tensors, tuple(notes))


def _epoch_of(path: Path, pattern: str | None) -> int:
    if pattern is None:
        numbers = re.findall(r"\d+", path.stem)
        if numbers:
            return int(numbers[-1])
        raise ConfigError(
            f"checkpoints: expected a number, the epoch, in each name, got {path}. Rename it, or narrow the pattern."
        )
    match = re.search(pattern, path.name)
    if match is None or not (match[1] or "").isdecimal():
        got = "no match" if match is None else repr(match[1])
        raise ConfigError(
            f"checkpoint.epoch: expected {pattern} to find a whole number in {path}, got {got}. Change it."
        )
    return int(match[1])


def _load(path: Path) -> Any:
    try:
        if path.suffix == SAFETENSORS:
            from safetensors.torch import load_file

            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        cause = re.search(r"(GLOBAL|Unsupported \w+) [\w.]+", str(error))
        raise UnusableFile(
            f"{path}: expected tensors in dictionaries, got other objects of Python ({cause[0] if cause else error}), "
            "which are never loaded. Save the weights alone: torch.save(model.state_dict(), path)."
        ) from None
    except Exception as error:  # what torch and safetensors raise for damaged files is of many kinds
        first = str(error).partition("\n")[0]
        raise UnusableFile(
            f"{path}: expected a file of weights, got one that is cut, damaged or of another kind "
            f"({type(error).__name__}: {first}). Save it again, or narrow the pattern."
        ) from None


def _pick(path: Path, content: Any, key: str | None, expected: Mapping[str, Tensor]) -> tuple[str, dict[str, Tensor]]:
    """(the place in words, "" for the top; the tensors there)."""
    if key is not None:
        found = _descend(path, content, key)
        if not _is_state(found):
            raise UnusableFile(
                f"{path}: expected tensors by name under {key}, got {type(found).__name__}. {_keys(found)}"
            )
        return "", dict(found)  # as asked: nothing to say
    if _is_state(content):
        return "", dict(content)
    places = dict(_states(content, ()))
    if len(places) > 1:  # random generators and averages may be there too
        fitting = {
            place: state for place, state in places.items() if _overlap(_without_prefix(state, expected)[1], expected)
        }
        places = fitting or places
    if len(places) != 1:
        got = f"{len(places)}: {', '.join(places)}" if places else "none"
        raise UnusableFile(
            f"{path}: expected one place with tensors by name, got {got}. {_keys(content)} Say checkpoint.key=..."
        )
    return next(iter(places.items()))


def _descend(path: Path, content: Any, key: str) -> Any:
    for part in key.split("."):
        if not isinstance(content, Mapping) or part not in content:
            raise UnusableFile(f"{path}: expected {key}, got no {part!r} on the way there. {_keys(content)}")
        content = content[part]
    return content


def _states(content: Any, way: tuple[str, ...]) -> Iterable[tuple[str, dict[str, Tensor]]]:
    """Every place in nested dictionaries that holds tensors by name, and nothing else."""
    if isinstance(content, Mapping):
        for name, value in content.items():
            if isinstance(name, str) and _is_state(value):
                yield ".".join((*way, name)), dict(value)
            elif isinstance(name, str):
                yield from _states(value, (*way, name))


def _is_state(content: Any) -> bool:
    if not isinstance(content, Mapping) or not content:
        return False
    return all(isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items())


def _keys(content: Any) -> str:
    return f"There: {', '.join(map(str, content))}." if isinstance(content, Mapping) else ""


def _without_prefix(tensors: dict[str, Tensor], expected: Mapping[str, Tensor]) -> tuple[str, dict[str, Tensor]]:
    """The prefix of all names, of as many parts as it takes, without which most of them are the network's."""
    best, removed = ("", tensors), ""
    while prefix := next((one for one in PREFIXES if all(name.startswith(one) for name in tensors)), ""):
        removed += prefix
        tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
        if _overlap(tensors, expected) > _overlap(best[1], expected):
            best = removed, tensors
    return best


def _overlap(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> int:
    return len(tensors.keys() & expected.keys())


def _faults(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> list[str]:
    """In words: names that are missing, with the nearest there is; that are too many; shapes that differ."""
    unexpected = [name for name in tensors if name not in expected]
    missing = []
    for name in expected:
        if name not in tensors:
            near = get_close_matches(name, unexpected, n=1, cutoff=0.5)
            missing.append(f"{name} (nearest in the file: {near[0]})" if near else name)
    shapes = [
        f"{name} {tuple(tensor.shape)} instead of {tuple(expected[name].shape)}"
        for name, tensor in tensors.items()
        if name in expected and tensor.shape != expected[name].shape
    ]
    packed = [name for name, tensor in tensors.items() if tensor.layout != torch.strided or tensor.is_quantized]
    kinds = {
        "missing": missing,
        "unexpected": unexpected,
        "of another shape": shapes,
        "sparse or quantized": packed,
    }
    return [f"{len(names)} {kind}: {_listed(names)}" for kind, names in kinds.items() if names]


def _listed(names: list[str]) -> str:
    more = [f"{len(names) - LISTED} more"] if len(names) > LISTED else []
    return ", ".join([*names[:LISTED], *more])
