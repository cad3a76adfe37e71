"""The weights in a file that another training saved, under the network's own names.

Files are read without running what is in them: safetensors, or torch.load(weights_only=True) with a few classes of
plain data. Whatever is assumed about a file is said in `notes`; what does not fit the network is refused by name.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import pathlib
import pickle
import re
import shlex
import types
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ncexp.datasets import listed
from ncexp.record.tensor_file import UnusableFile
from ncexp.training.foreign_files import HUGGING_FACE, SAFETENSORS, entry, epochs_said

#: Names that a message lists.
LISTED = 5
#: What to do where a file has several places or networks, {} being its keys; where weights do not fit: by whether files
#: are measured, which has keys for it.
_WAYS = {True: "Say {}.", False: "Save the one that is meant in a file of its own."}
_OTHERWISE = {
    True: "say by checkpoint.key where in the file its weights are, by checkpoint.prefix what stands before "
    "their names",
    False: "save these alone, tensors by the names of its state dict",
}
_NUMPY: list[Any] = [np.float64(0).__reduce__()[0], np.zeros(1).__reduce__()[0]]
#: Plain data that trainings save beside the weights; none of these classes runs what a file says.
_DATA_CLASSES: list[Any] = [
    argparse.Namespace,
    types.SimpleNamespace,
    datetime.date,
    datetime.datetime,
    datetime.timedelta,
    *((kind, f"{module}.{kind.__name__}") for kind in (pathlib.PosixPath, pathlib.PurePosixPath)
      for module in ("pathlib", "pathlib._local")),
    *((make, f"numpy.{core}.multiarray.{make.__name__}") for make in _NUMPY for core in ("core", "_core")),
    np.ndarray,
    np.dtype,
    *{type(np.dtype(code)) for code in "?bhilqBHILQefd"},
]  # fmt: skip


@dataclass(frozen=True, eq=False)
class ForeignWeights:
    """tensors: by the network's names; notes: how they were found, for people; epochs: what it says, by the source."""

    tensors: dict[str, Tensor]
    notes: tuple[str, ...]
    epochs: dict[str, int]

    @property
    def digest(self) -> str:
        """SHA-256 of names and values: the same for the same weights, whatever file they are in."""
        found = hashlib.sha256()
        for name in sorted(self.tensors):
            tensor = self.tensors[name]
            found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            found.update(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        return found.hexdigest()


def read_foreign_weights(
    path: Path,
    network: nn.Module,
    key: str | None = None,
    prefix: str | None = None,
    epoch: str | None = None,
    *,
    starts: nn.Linear | None = None,
) -> ForeignWeights:
    """The weights in a file, as `network` names them; the network is left as it is.

    key: where in the file they are, its parts separated by dots; None: the only place with tensors by name.
    prefix: what stands before each name of the network; None: found out. epoch: as `checkpoint.epoch`.
    starts: the last layer of a network that is to be trained from them: where the file's is for another number of
    classes, the network's own is taken.
    Raises UnusableFile, naming the file, where it is damaged or holds other objects, where the place is not there or
    not unique, and where names or shapes are not the network's.
    """
    expected, content = network.state_dict(), _load(path)
    place, tensors = _pick(path, content, key, expected, _WAYS[starts is None])
    if path.name in HUGGING_FACE:
        tensors = _as_transformers_reads(tensors, network)
    (before, added), said = _prefix(path, tensors, expected, prefix, _WAYS[starts is None])
    inner = {name: added + name.removeprefix(before) for name in tensors if name.startswith(before)}
    found = {own: tensors[name] for name, own in inner.items() if own in expected}
    others = [name for name in tensors if inner.get(name) not in expected]
    notes = ([f"found under {place}"] if place else []) + said
    if starts is not None and starts.bias is None:
        plain = {own: name for name, own in inner.items() if name in others}
        notes += _without_bias(found, plain, tensors, expected, _names_of(starts, network))
        others = [name for name in others if name in plain.values() or name not in inner]
    notes += _fill(found, expected)
    notes += _new_rows(found, expected, _names_of(starts, network)) if starts is not None else []
    if faults := _faults(found, expected, others, inner):
        raise UnusableFile(
            f"{path}: expected the weights of this network, got {'; '.join(faults)}. Choose the architecture that was "
            f"trained, or {_OTHERWISE[starts is None]}."
        )
    notes += [f"left out, as no part of the network: {listed(others, LISTED)}"] if others else []
    kinds = {(tensor.dtype, expected[name].dtype) for name, tensor in found.items()}
    used = "measured" if starts is None else "trained"
    notes += sorted(f"saved as {saved}, {used} as {own}" for saved, own in kinds if saved != own)
    return ForeignWeights(found, tuple(notes), epochs_said(path, content, epoch))


def _load(path: Path) -> Any:
    try:
        if path.suffix == SAFETENSORS:
            from safetensors.torch import load_file

            return load_file(path)
        with torch.serialization.safe_globals(_DATA_CLASSES):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        cause = re.search(r"(GLOBAL|Unsupported \w+) [\w.]+", str(error))
        raise UnusableFile(
            f"{path}: expected tensors and plain data, got other objects of Python "
            f"({cause[0] if cause else str(error).partition(chr(10))[0]}), which are never loaded. If you trust it, "
            f"make a file without: {_cleaning(path)}"
        ) from None
    except Exception as error:  # what torch and safetensors raise for damaged files is of many kinds
        first = str(error).partition("\n")[0]
        if "TorchScript" in first:
            raise UnusableFile(
                f"{path}: expected a file of weights, got a TorchScript program, which is never loaded. Save its "
                "weights: torch.save(torch.jit.load(path).state_dict(), 'epoch_1.pt')."
            ) from None
        raise UnusableFile(
            f"{path}: expected a file of weights, got one that is cut, damaged or of another kind "
            f"({type(error).__name__}: {first}). Save it again, or narrow the pattern."
        ) from None


def _cleaning(path: Path) -> str:
    """The command that keeps of a file what is needed here; it runs what the file says, so it is the user's to type."""
    clean = path.with_name(f"{path.name.removesuffix('.tar').rpartition('.')[0]}_clean.pt")
    code = (
        f"import torch; c = torch.load({str(path)!r}, weights_only=False); "
        "d = {k: getattr(v, 'state_dict', lambda: v)() for k, v in c.items()} if hasattr(c, 'items') else "
        "c.state_dict(); "
        "k = ('epoch', 'global_step', 'step', 'model', 'state_dict', 'model_state_dict'); "
        f"torch.save({{n: d[n] for n in k if n in d}} or d, {str(clean)!r})"
    )
    return f"python -c {shlex.quote(code)}"


def _pick(
    path: Path, content: Any, key: str | None, expected: Mapping[str, Tensor], say: str
) -> tuple[str, dict[str, Tensor]]:
    """(the place in words, "" for the top or the one that was asked for; the tensors there)."""
    found = content if key is None else entry(content, key)
    if _is_state(found):
        return "", dict(found)
    if key is not None:
        got = "nothing" if found is None else type(found).__name__
        keys = _keys(found if isinstance(found, Mapping) else content)
        raise UnusableFile(f"{path}: expected tensors by name under {key}, got {got}. {keys}")
    places = dict(_states(content, ()))
    if len(places) > 1:  # random generators and averages may be there too
        met = {place: max(_met(state, expected).values(), default=0) for place, state in places.items()}
        places = {place: state for place, state in places.items() if met[place] == max(met.values())}
    if len(places) != 1:
        got = f"{len(places)}: {', '.join(places)}" if places else "none"
        ways = " or ".join(f"checkpoint.key={place}" for place in places) or "checkpoint.key=..."
        raise UnusableFile(
            f"{path}: expected one place with tensors by name, got {got}. {_keys(content)} {say.format(ways)}"
        )
    return next(iter(places.items()))


def _as_transformers_reads(tensors: dict[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """Under the names of Transformers' model in the network, if there is one: it saves many under others (5.24, a ViT).

    Its own loader renames them. What that does not find is not there, and what it does not use stays as it is.
    """
    model: Any = next((one for one in network.modules() if hasattr(one, "from_pretrained")), None)
    if model is None:
        return tensors
    loaded, found = type(model).from_pretrained(
        None, config=model.config, state_dict=tensors, output_loading_info=True, ignore_mismatched_sizes=True
    )
    read = {name: tensor for name, tensor in loaded.state_dict().items() if name not in found["missing_keys"]}
    read |= {name: torch.empty(shape) for name, shape, _ in found["mismatched_keys"]}  # whose shape is what is compared
    return read | {name: tensors[name] for name in found["unexpected_keys"] if name in tensors}


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


def _met(tensors: Iterable[str], expected: Mapping[str, Tensor]) -> Counter[tuple[str, str]]:
    """How many names of the network there are, by (prefix of the file's names, prefix of the network's names)."""
    names = dict.fromkeys(tensors)
    without = [(before, "") for name in names for before, rest in _cuts(name) if rest in expected]
    added = [("", before) for name in expected for before, rest in _cuts(name) if before and rest in names]
    return Counter(without + added)


def _cuts(name: str) -> Iterator[tuple[str, str]]:
    """``a.b`` → ("", "a.b"), ("a.", "b")."""
    parts = name.split(".")
    yield from (("".join(f"{part}." for part in parts[:count]), ".".join(parts[count:])) for count in range(len(parts)))


def _prefix(
    path: Path, tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor], asked: str | None, say: str
) -> tuple[tuple[str, str], list[str]]:
    """(what stands before the file's names, what before the network's), and in words; the pair that meets most names.

    asked: `checkpoint.prefix`, with or without its last dot.
    """
    if asked is not None:
        return (asked if asked.endswith(".") or not asked else f"{asked}.", ""), []
    met = _met(tensors, expected)
    best = [pair for pair, count in met.items() if count == max(met.values())]
    if not best or ("", "") in best:
        return ("", ""), []
    if len(best) > 1:
        ways = " or ".join(f"checkpoint.prefix={before}" for before, _ in best)
        raise UnusableFile(f"{path}: expected the weights of one network, got those of {len(best)}. {say.format(ways)}")
    before, added = best[0]
    said = f"names without their prefix {before}" if before else f"names with the prefix {added} before them"
    return best[0], [said]


def _fill(found: dict[str, Tensor], expected: Mapping[str, Tensor]) -> list[str]:
    """Add what is missing and changes nothing or stands there under another name; in words what that is."""
    missing = [name for name in expected if name not in found]
    counters = [name for name in missing if name.endswith(".num_batches_tracked")]
    found |= {name: expected[name].clone() for name in counters}  # which no evaluation reads
    of = {(expected[name].data_ptr(), expected[name].shape): name for name in found if expected[name].numel()}
    keys = {name: (expected[name].data_ptr(), expected[name].shape) for name in missing if name not in found}
    tied = {name: of[key] for name, key in keys.items() if key in of}
    found |= {name: found[other] for name, other in tied.items()}
    notes = [f"without num_batches_tracked of {len(counters)} layers, which evaluation does not read"] * bool(counters)
    return notes + [f"{name} is {other}, one tensor of the network" for name, other in tied.items()]


def _names_of(layer: nn.Module, network: nn.Module) -> list[str]:
    """What the network's state dict calls the layer's parameters and buffers."""
    own = [*layer.state_dict(keep_vars=True).values()]
    return [name for name, one in network.state_dict(keep_vars=True).items() if any(one is tensor for tensor in own)]


def _without_bias(
    found: dict[str, Tensor],
    plain: dict[str, str],
    tensors: Mapping[str, Tensor],
    expected: Mapping[str, Tensor],
    last: list[str],
) -> list[str]:
    """Take a plain last layer's rows for one of a head without bias, and leave its bias; in words what was left.

    plain: the file's names of what is none of the network's, by how the network would call it; what was used is taken
    out.
    """
    rows = next(name for name in last if not name.endswith("log_scale"))
    stem = rows.partition(".parametrizations.")[0].removesuffix(".weight")
    if f"{stem}.weight" in plain:
        found |= {name: expected[name].clone() for name in last if name not in found}
        found[rows] = tensors[plain.pop(f"{stem}.weight")]
    bias = plain.pop(f"{stem}.bias", None)
    return [f"left out, as the head has no bias: {bias}"] if bias else []


def _new_rows(found: dict[str, Tensor], expected: Mapping[str, Tensor], last: list[str]) -> list[str]:
    """Leave the network's own last layer, said in words, where that in the file differs from it in its rows alone."""
    alike = all(name in found and found[name].shape[1:] == expected[name].shape[1:] for name in last)
    rows = {(*found[name].shape[:1], *expected[name].shape[:1]) for name in last} if alike else set()
    if len(rows) != 1 or len(pair := rows.pop()) != 2 or pair[0] == pair[1]:
        return []
    found |= {name: expected[name].clone() for name in last}
    return [f"the last layer is new: {pair[0]} → {pair[1]} classes"]


def _faults(
    found: Mapping[str, Tensor], expected: Mapping[str, Tensor], others: list[str], inner: Mapping[str, str]
) -> list[str]:
    """In words: names that are missing, with the nearest there is; that are too many; shapes that differ.

    others: the file's names that are none of the network's; inner: how those behind the prefix would be called in it.
    Too many are those of a part of the network; others belong to something beside it where the network is whole.
    """
    near = {name: get_close_matches(name, others, n=1, cutoff=0.5) for name in expected if name not in found}
    missing = [f"{name} (nearest in the file: {one[0]})" if one else name for name, one in near.items()]
    parts = {name.partition(".")[0] for name in expected}
    part_of = {name: own.partition(".")[0] for name, own in inner.items()}
    unexpected = [name for name in others if missing or (part := part_of.get(name, "")) in parts or part.isdecimal()]
    shapes = [
        f"{name} {tuple(tensor.shape)} instead of {tuple(expected[name].shape)}"
        for name, tensor in found.items()
        if tensor.shape != expected[name].shape
    ]
    packed = [name for name, tensor in found.items() if tensor.layout != torch.strided or tensor.is_quantized]
    kinds = {"missing": missing, "unexpected": unexpected, "of another shape": shapes, "sparse or quantized": packed}
    return [f"{len(names)} {kind}: {listed(names, LISTED)}" for kind, names in kinds.items() if names]
