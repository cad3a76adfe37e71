"""What comes from outside and becomes part of a path: one rule for names, one for folders, one for the outputs."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeGuard

from pydantic import AfterValidator, PlainValidator

#: Longest name in characters. A run's folder bears three names, and so does the link to it in a sweep: with names of
#: this length it has fewer than the 255 bytes that file systems allow.
LONGEST_NAME = 64
NAME_CONTRACT = f"1 to {LONGEST_NAME} letters, digits and . _ + - of ASCII, the first a letter or a digit"
_NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._+-]{{0,{LONGEST_NAME - 1}}}")
#: The rows of HPD22's figures, in the printed order.
FAMILIES = ("VGG", "ResNet", "DenseNet")
#: Bytes: of one part of a path, and of a folder, which leaves room for what lies in it below the system's 4096.
_LONGEST_PART, _LONGEST_FOLDER = 255, 3400


def is_name(text: Any) -> TypeGuard[str]:
    """Whether it is one word for directories, tables and MLflow: NAME_CONTRACT."""
    return isinstance(text, str) and _NAME.fullmatch(text) is not None


def is_file_name(text: str) -> bool:
    """Whether a directory somebody else named may be made here: one part of a path, and printable."""
    return text not in ("", ".", "..") and "/" not in text and text.isprintable() and _fits(text)


def family_of(choice: Mapping[str, Any]) -> Any:
    """The family that a choice of architecture states, or else the letters with which its name begins.

    The name is the model's for torchvision and timm, and the function's for a network of one's own: ``ResNet`` of
    ``resnet18``, ``vit`` of ``vit_b_16``.

    >>> family_of({"name": "torchvision_vgg11_bn", "model": "vgg11_bn", "family": None})
    'VGG'
    """
    if choice.get("family") is not None:
        return choice["family"]
    name = str(choice.get("model") or choice["name"]).rpartition(".")[2]
    letters = re.match("[A-Za-z]*", name)
    assert letters is not None
    printed = {family.lower(): family for family in FAMILIES}
    return printed.get(letters[0].lower(), letters[0] or choice["name"])


def shown(value: Any) -> str:
    """A value as a complaint shows it: its repr, cut where it is long."""
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:60]}... ({len(text)} characters)"


def _name(text: str) -> str:
    if not is_name(text):
        raise ValueError(NAME_CONTRACT)
    return text


def _folder(text: Any) -> Path:
    whole = Path(os.path.expanduser(text)).absolute() if isinstance(text, str) and text.isprintable() else None
    if not text or whole is None or not all(map(_fits, whole.parts)) or len(os.fsencode(whole)) > _LONGEST_FOLDER:
        raise ValueError(
            f"a folder's name without control characters, of at most {_LONGEST_FOLDER} bytes, {_LONGEST_PART} a part"
        )
    return whole


def _fits(part: str) -> bool:
    return len(os.fsencode(part)) <= _LONGEST_PART


Name = Annotated[str, AfterValidator(_name)]
#: In a configuration a word, in what is read from it an absolute path.
Folder = Annotated[Path, PlainValidator(_folder)]
