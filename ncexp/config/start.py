"""What the choice of a network has beside the options of its target: weights to start from, and what is frozen."""

from __future__ import annotations

import hashlib
import inspect
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, PlainValidator

from ncexp.config.components import Component, ConfigError, locate, read_part
from ncexp.config.names import shown

#: The word of `architecture.freeze` for everything but the last layer.
BACKBONE = "backbone"
KEYS = ("weights", "weights_sha256", "freeze")


@dataclass(frozen=True)
class Start:
    """weights: the file of a training's first weights, None: the network's own initialisation; sha256: of its bytes;
    freeze: patterns of the names of parameters that are not trained, or BACKBONE alone.
    """

    weights: Path | None = None
    sha256: str = ""
    freeze: tuple[str, ...] = ()

    def identity(self) -> dict[str, Any]:
        """Its part in the training key: the file's bytes, not its place; empty where all is as it was before."""
        given = {"weights_sha256": self.sha256, "freeze": list(self.freeze)}
        return {name: value for name, value in given.items() if value}

    def written(self) -> dict[str, Any]:
        """The keys as config.yaml has them; those that say nothing are left out."""
        freeze = BACKBONE if self.freeze == (BACKBONE,) else list(self.freeze)
        weights = str(self.weights) if self.weights else ""
        given = {"weights": weights, "weights_sha256": self.sha256, "freeze": freeze}
        return {name: value for name, value in given.items() if value}


def divide(raw: Any, group: str = "architecture", names: tuple[str, ...] = KEYS) -> tuple[Any, dict[str, Any]]:
    """A choice of this group → (what is its target's, what is for `Start`, or whatever has keys of these names).

    A parameter of these names that the function has itself, or that of `factory`, stays its own; a null there is
    conf/config.yaml's, and left out unless it is that function's default.
    """
    if not isinstance(raw, Mapping) or not (found := [name for name in names if name in raw]):
        return raw, {}
    own = _parameters(f"{group}._target_", raw.get("_target_"))
    if "factory" in raw and any(raw[name] is not None for name in found):
        own |= _parameters(f"{group}.factory", raw["factory"])
    empty = (inspect.Parameter.empty, None)
    mine = {name: raw[name] for name in found if name not in own}
    absent = {name for name in found if name in own and raw[name] is None and own[name].default not in empty}
    return {key: value for key, value in raw.items() if key not in (*mine, *absent)}, mine


def _parameters(key: str, target: Any) -> dict[str, inspect.Parameter]:
    try:
        return dict(inspect.signature(locate(key, target)).parameters)
    except (ValueError, TypeError):
        return {}  # whoever calls it says what is wrong


def start_of(raw: Any) -> Start:
    """The `Start` of a choice of architecture. Reads the file where its SHA-256 is not stated.

    Raises ConfigError for values of another kind, and where there is no such file.
    """
    _, given = divide(raw)
    return read_part("architecture", _checked, given) if given else Start()


def file_digest(path: Path) -> str:
    """SHA-256 of the bytes of a file; those of one that does not change are read once in this process."""
    there = path.stat()
    return _digest(path, there.st_ino, there.st_size, there.st_mtime_ns)


@cache
def _digest(path: Path, *_: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def refuse_no_file(path: Path) -> None:
    """Raises ConfigError where there is no file at this path."""
    if not path.is_file():
        raise ConfigError(
            f"architecture.weights: expected a file, got {path}, which is {'none' if path.exists() else 'not there'}. "
            "Nothing is downloaded: make it by torch.save(model.state_dict(), ...). A training that has begun from it "
            "goes on without it, by the architecture.weights_sha256 of its config.yaml."
        )


def _file(text: Any) -> Path:
    if not isinstance(text, str) or not text or not text.isprintable():
        raise ValueError("a file's name")
    return Path(os.path.expanduser(text)).absolute()


def _sha256(text: str) -> str:
    if not re.fullmatch("[0-9a-f]{64}", text):
        raise ValueError("64 hexadecimal digits, a file's SHA-256")
    return text


def _patterns(given: Any) -> tuple[str, ...]:
    found = [given] if isinstance(given, str) else given
    if not isinstance(found, list) or not found or not all(isinstance(one, str) and one for one in found):
        raise ValueError(f"{BACKBONE}, a pattern of parameters' names, or a list of them")
    if BACKBONE in found and len(found) > 1:
        raise ValueError(f"{BACKBONE} alone, which is everything but the last layer, or patterns without it")
    return tuple(sorted({*found}))


def _checked(
    *,
    weights: Annotated[Path, PlainValidator(_file)] | None = None,
    weights_sha256: Annotated[str, AfterValidator(_sha256)] | None = None,
    freeze: Annotated[tuple[str, ...], PlainValidator(_patterns)] | None = None,
) -> Start:
    if weights is None and weights_sha256 is not None:
        raise ConfigError(
            f"architecture.weights_sha256: expected none without architecture.weights, got {shown(weights_sha256)}. "
            "Name the file."
        )
    if weights is not None and weights_sha256 is None:
        refuse_no_file(weights)
        try:
            weights_sha256 = file_digest(weights)
        except OSError as error:
            raise ConfigError(
                f"architecture.weights: expected a file that can be read, got {weights} ({error.strerror}). Have it "
                "readable."
            ) from error
    return Start(weights, weights_sha256 or "", freeze or ())


def apart(raw: Any) -> Component:
    """The choice of a network without what `Start` reads of it."""
    return Component.check("architecture", divide(raw)[0])
