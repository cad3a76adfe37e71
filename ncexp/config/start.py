"""What the choice of a network has beside its target's options: a head, weights to start from, what is frozen."""

from __future__ import annotations

import hashlib
import inspect
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, PlainValidator

from ncexp.config.components import Component, ConfigError, Positive, locate, read_part
from ncexp.config.names import shown

#: The word of `architecture.freeze` for everything but the last layer.
BACKBONE = "backbone"
KEYS = ("weights", "weights_sha256", "freeze")
#: The last layer of any network; see `ncexp.architectures.heads`.
HeadKind = Literal["linear", "no_bias", "normalized", "etf_fixed", "hyperspherical"]
HEAD_KEYS = ("head", "temperature")
#: T of the heads that have one, where none is stated, and where a learned one begins.
USUAL_TEMPERATURE = {"normalized": 1.0, "hyperspherical": 0.05}


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


@dataclass(frozen=True)
class Head:
    """kind: of the last layer; temperature: T of a normalised one, a number or "learned"; None of the others."""

    kind: HeadKind = "linear"
    temperature: float | Literal["learned"] | None = None

    def identity(self) -> dict[str, Any]:
        """Its part in the training key, and in config.yaml; empty of a linear one, which every run had before."""
        given = {"head": self.kind, "temperature": self.temperature}
        return {name: value for name, value in given.items() if value is not None and self.kind != "linear"}


def divide(
    raw: Any, group: str = "architecture", keys: tuple[str, ...] = (*KEYS, *HEAD_KEYS)
) -> tuple[Any, dict[str, Any]]:
    """A choice of this group → (what is its target's, what these keys of ours have).

    A parameter of these names that the function has itself, or that of `factory`, stays its own; a null there is
    conf/config.yaml's, and left out unless it is that function's default. A kind of `Head` is for `Head` even so where
    the function says by a Literal that it does not take it, as that of VGGs.
    """
    if not isinstance(raw, Mapping) or not (found := [name for name in keys if name in raw]):
        return raw, {}
    own = _parameters(f"{group}._target_", raw.get("_target_"))
    if "factory" in raw and any(raw[name] is not None for name in found):
        own |= _parameters(f"{group}.factory", raw["factory"])
    if "head" in own and raw.get("head") in get_args(HeadKind) and _refuses(own["head"], raw["head"]):
        del own["head"]
    empty = (inspect.Parameter.empty, None)
    mine = {name: raw[name] for name in found if name not in own}
    absent = {name for name in found if name in own and raw[name] is None and own[name].default not in empty}
    return {key: value for key, value in raw.items() if key not in (*mine, *absent)}, mine


def _parameters(key: str, target: Any) -> dict[str, inspect.Parameter]:
    try:
        signature = inspect.signature(locate(key, target))
    except (ValueError, TypeError):
        return {}  # whoever calls it says what is wrong
    with suppress(NameError, AttributeError, SyntaxError, TypeError):  # names that are there for a type checker alone
        signature = inspect.signature(locate(key, target), eval_str=True)
    return dict(signature.parameters)


def _refuses(parameter: inspect.Parameter, word: str) -> bool:
    choices = get_args(parameter.annotation)
    return bool(choices) and all(isinstance(one, str) for one in choices) and word not in choices


def start_of(raw: Any) -> Start:
    """The `Start` of a choice of architecture. Reads the file where its SHA-256 is not stated.

    Raises ConfigError for values of another kind, and where there is no such file.
    """
    given = {name: value for name, value in divide(raw)[1].items() if name in KEYS}
    return read_part("architecture", _checked, given) if given else Start()


def head_of(raw: Any) -> Head:
    """The `Head` of a choice of architecture. Raises ConfigError for other kinds, and a temperature of one without."""
    given = {name: value for name, value in divide(raw)[1].items() if name in HEAD_KEYS}
    return read_part("architecture", _checked_head, given) if given else Head()


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


def _checked_head(*, head: HeadKind | None = None, temperature: Positive | Literal["learned"] | None = None) -> Head:
    kind: HeadKind = head or "linear"
    if kind not in USUAL_TEMPERATURE and temperature is not None:
        raise ConfigError(
            f"architecture.temperature: expected none with head={kind}, whose logits have none, got "
            f"{shown(temperature)}. Choose head={' or '.join(USUAL_TEMPERATURE)}."
        )
    return Head(kind, USUAL_TEMPERATURE.get(kind) if temperature is None else temperature)


def apart(raw: Any) -> Component:
    """The choice of a network without what `Start` and `Head` read of it."""
    return Component.check("architecture", divide(raw)[0])
