"""Which callables a run's config.yaml may name where somebody else may have written it: `ncexp measure RUN`."""

from __future__ import annotations

import importlib.util
import os
import re
import sysconfig
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ncexp.config.components import ConfigError, locate
from ncexp.config.names import shown

#: By it people name installed packages whose callables they let a config.yaml name: NCEXP_TRUST=my_package,another.
TRUST = "NCEXP_TRUST"
#: Where conf/'s own targets are defined; jobs of a sweep have the package's source alone.
_OURS = re.compile(
    r"ncexp\.(datasets|architectures|training\.(\w*losses|closures|contrastive|optimizers)|measure\.analyses)\.[\w.]+"
)
#: Optimizers, all classes, which do nothing with their options but keep them.
_TORCHS = re.compile(r"torch\.optim\.[A-Z]\w*")
#: The keys whose words are imported and called.
_CALLED = ("_target_", "factory")


def refuse_strange_code(raw: Mapping[str, Any], place: Path) -> None:
    """Raises ConfigError where the configuration at `place` names a callable that nobody chose here.

    With options from the same file, any function of Python or of an installed package does whatever its author likes.
    Taken are ncexp's data sets, networks, losses, optimizers and analyses, and torch's optimizers; functions in folders
    of the user's own, on PYTHONPATH or installed in place; and the packages that NCEXP_TRUST names.
    """
    trusted = {name.strip() for name in os.environ.get(TRUST, "").split(",")}
    for key, called in _called(raw):
        package = str(called).partition(".")[0]
        if not (_is_ours(str(called)) or _TORCHS.fullmatch(str(called)) or package in trusted or _is_own(package)):
            raise ConfigError(
                f"{key}: expected one of ncexp's own or a function in a folder of yours, got {shown(called)}, which "
                f"{place} names. If you trust whoever wrote it, set {TRUST}={package}."
            )


def _called(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in node.items() if isinstance(node, Mapping) else enumerate(node):
        if key in _CALLED and value is not None:
            yield f"{path}{key}", value
        elif isinstance(value, Mapping | list):
            yield from _called(value, f"{path}{key}.")


def _is_ours(target: str) -> bool:
    """Whether it is defined where it says: those modules have imported others' functions, too, which write files."""
    if not _OURS.fullmatch(target):
        return False
    try:
        found = locate("_target_", target)
    except ConfigError:
        return True  # to be refused as one that cannot be imported
    return bool(_OURS.fullmatch(f"{getattr(found, '__module__', '')}.{getattr(found, '__qualname__', '')}"))


def _is_own(package: str) -> bool:
    """Whether it lies in none of the folders into which Python and its packages are installed; importing nothing."""
    if not package.isidentifier():
        return False
    try:
        found = importlib.util.find_spec(package)
    except (ImportError, ValueError):  # of the program itself
        return False
    if found is None:
        return True  # to be refused as one that cannot be imported
    if package == "ncexp" or (found.origin is None and not found.submodule_search_locations):
        return False
    folders = found.submodule_search_locations or [str(found.origin)]
    return found.origin not in ("built-in", "frozen") and not any(map(_is_installed, folders))


def _is_installed(folder: str) -> bool:
    path = Path(folder).resolve()
    libraries = {Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    return any(map(path.is_relative_to, libraries)) or bool({"site-packages", "dist-packages"} & {*path.parts})
