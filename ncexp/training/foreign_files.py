"""Which files another training saved, and of which epochs they are: the one place where an epoch is read."""

from __future__ import annotations

import glob
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from ncexp.config import ConfigError

SAFETENSORS = ".safetensors"
SUFFIXES = (".pt", ".pth", ".ckpt", ".bin", ".pth.tar", SAFETENSORS)
#: The weights in a folder of Hugging Face's Trainer, beside which the other files are no weights.
HUGGING_FACE = ("model.safetensors", "pytorch_model.bin")
#: What Hugging Face's Trainer writes beside them: an epoch, a step.
STATE = "trainer_state.json"
#: Where an epoch is read from, in this order: entries of the file; in its name, or as all of its folder's name, a word
#: and a number.
ENTRY, NAME = "the entry {} of each file", "{} in each name"
SOURCES = (
    (ENTRY, "epoch", ""),
    (NAME, "epoch", r"(?<![a-z])ep(?:och)?[-_=. ]?(\d+)"),
    (ENTRY, "global_step", ""),
    (ENTRY, "step", ""),
    (NAME, "step", r"(?<![a-z])(?:global_)?step[-_=. ]?(\d+)"),
    (NAME, "checkpoint-", r"^checkpoint-(\d+)$"),  # Hugging Face's folders, by the step
)


def find_files(pattern: str) -> list[Path]:
    """The files that a path, a folder or a pattern of either means; of a folder, those of weights in it and below.

    Raises ConfigError where there is none, or one of another kind.
    """
    given = os.path.expanduser(pattern)
    paths = [Path(path) for path in ([given] if os.path.exists(given) else sorted(glob.glob(given, recursive=True)))]
    found = [file for path in paths for file in (_in_folder(path) if path.is_dir() else [path])]
    if not found:
        raise ConfigError(
            f"checkpoints: expected files {' '.join(SUFFIXES)}, got none for {pattern!r} from {Path.cwd()}. Check the "
            "pattern."
        )
    for path in found:
        fault = ""
        if not path.is_file():  # a pipe would be waited for without end
            fault = f"files, got {path}, which is none. Narrow the pattern."
        elif not path.name.endswith(SUFFIXES):
            fault = f"files {' '.join(SUFFIXES)}, got {path}. Narrow the pattern."
        elif re.search(r"-\d{5}-of-\d{5}\.", path.name):
            whole = "model.save_pretrained(folder, max_shard_size='1TB')"
            fault = f"whole files, got {path}, one part of several. Make one of them: {whole}."
        if fault:
            raise ConfigError(f"checkpoints: expected {fault}")
    return list(dict.fromkeys(found))


def _in_folder(folder: Path) -> list[Path]:
    """Raises ConfigError for a folder that is one checkpoint in torch's distributed format."""
    inside = sorted(folder.iterdir())
    if (folder / ".metadata").is_file():
        raise ConfigError(
            f"checkpoints: expected files, got {folder}, a distributed checkpoint. Make a file of it: "
            "torch.distributed.checkpoint.format_utils.dcp_to_torch_save(folder, 'epoch_1.pt')."
        )
    whole = [path for path in inside if path.name in HUGGING_FACE][:1]
    files = whole or [path for path in inside if path.is_file() and path.name.endswith(SUFFIXES)]
    return files + [file for path in inside if path.is_dir() and not path.is_symlink() for file in _in_folder(path)]


def choose_epochs(
    found: Mapping[Path, Mapping[str, int]], digests: Mapping[Path, str], asked: str | None
) -> tuple[dict[int, Path], list[str]]:
    """Epoch → file, ascending; and in words where all epochs were read, and which files are left out.

    found: of each file what `epochs_said` says. asked: `checkpoint.epoch`; None: the first of SOURCES that each file
    has. A file without, or one more of an epoch, is left out where its weights are those of one that has an epoch, as
    those of Lightning's last.ckpt are.

    Raises ConfigError where a file has no epoch, or two of one epoch hold other weights.
    """
    sources = [asked] if asked else [said.format(word) for said, word, _ in SOURCES]
    for source in sources:
        having = {path: one[source] for path, one in found.items() if source in one}
        known = {digests[path] for path in having}
        if having and all(path in having or digests[path] in known for path in found):
            break
    else:
        best = max(sources, key=lambda source: sum(source in one for one in found.values()))
        raise _without_epoch(next(path for path, one in found.items() if best not in one), asked)
    chosen: dict[int, Path] = {}
    for path, epoch in having.items():
        other = chosen.setdefault(epoch, path)
        if digests[other] != digests[path]:
            raise ConfigError(
                f"checkpoints: expected one file an epoch, got {other} and {path} for epoch {epoch} ({source}). Narrow "
                f"the pattern, or say where the epoch is: {_proposals(found[path], path, source)}."
            )
    epochs = sorted(chosen)
    chosen = {epoch: chosen[epoch] for epoch in epochs}
    several = f"{len(epochs)} files, epochs {epochs[0]} to {epochs[-1]}" if epochs[1:] else f"1 file, epoch {epochs[0]}"
    of = {digests[path]: epoch for epoch, path in chosen.items()}
    left = (path for path in found if path not in chosen.values())
    lines = [f"{path.name} left out: its weights are those of epoch {of[digests[path]]}" for path in left]
    return chosen, [f"{several}: {source}", *lines]


def _proposals(said_there: Mapping[str, int], path: Path, source: str) -> str:
    """Ways to say where the epoch of this file is, other than `source`, to be typed as they are."""
    entries = [word for said, word, _ in SOURCES if said is ENTRY and said.format(word) in said_there]
    ways = [word for word in entries if ENTRY.format(word) != source]
    numbers = re.findall(r"([^\d/]*)\d+", path.name)
    ways += [f"'{re.escape(before)}(\\d+)'" for before in numbers[-1:] if before]
    return " or ".join(f"checkpoint.epoch={way}" for way in ways) or r"checkpoint.epoch='step_(\d+)'"


def _without_epoch(path: Path, asked: str | None) -> ConfigError:
    if asked:
        what = "find a whole number in" if "(" in asked else "be an entry with a whole number in"
        return ConfigError(f"checkpoint.epoch: expected {asked} to {what} {path}, got none. Change it.")
    return ConfigError(
        "checkpoints: expected an epoch in each file (an entry epoch or global_step) or in its name (epoch, ep or step "
        f"and a number), got none of {path}. Say where it is, {_proposals({}, path, '')}, or "
        "narrow the pattern."
    )


def epochs_said(path: Path, content: Any, asked: str | None) -> dict[str, int]:
    """What a file says of its epoch: by the source of SOURCES, or by the one that is asked for."""
    state = path.parent / STATE
    said = json.loads(state.read_text(encoding="utf-8")) if path.name in HUGGING_FACE and state.is_file() else content
    ways = [(asked, asked, asked if "(" in asked else "")] if asked else SOURCES
    found = {}
    for kind, word, pattern in ways:
        number = _in_name(path, pattern) if pattern else _whole_number(entry(said, word))
        if number is not None:
            found[asked or kind.format(word)] = number
    return found


def _in_name(path: Path, pattern: str) -> int | None:
    match = re.search(pattern, path.name, re.IGNORECASE) or re.fullmatch(pattern, path.parent.name, re.IGNORECASE)
    return int(match[1]) if match and (match[1] or "").isdecimal() else None


def entry(content: Any, key: str) -> Any:
    """What stands under this key of nested mappings, dots descend; None where there is nothing."""
    for part in key.split("."):
        content = content.get(part) if isinstance(content, Mapping) else None
    return content


def _whole_number(content: Any) -> int | None:
    is_number = isinstance(content, np.generic) or (isinstance(content, Tensor) and content.numel() == 1)
    number = content.item() if is_number else content
    if isinstance(number, bool) or not isinstance(number, int | float) or number < 0 or number % 1 != 0:
        return None
    return int(number)
