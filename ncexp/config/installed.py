"""What is installed beside the code: conf/ with its choices, reference/, docs/ and launch/."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from ncexp.config.components import ConfigError, nearest

#: The groups of choices in conf/ that a command may change.
GROUPS = (
    "dataset", "architecture", "loss", "optimizer", "optimizer/schedule", "analysis", "experiment", "sweep",
    "simulation",
)  # fmt: skip


def home() -> Path:
    """The folder of conf/, docs/, launch/ and reference/: in the wheel the package, in a clone the repository's top."""
    package = Path(__file__).parents[1]
    return package if (package / "conf").is_dir() else package.parent


def config_directory() -> Path:
    """The folder of the choices."""
    return home() / "conf"


def choices(group: str, *others: Path) -> dict[str, Path]:
    """The files of a group by the choices' names, in the order of the letters and numbers in them.

    others: further folders of choices. Experiments lie in folders: ``han2022/cifar10_resnet``.
    """
    folders = [root / group for root in (config_directory(), *others)]
    pattern = "**/*.yaml" if group == "experiment" else "*.yaml"
    found = {str(path.relative_to(folder).with_suffix("")): path for folder in folders for path in folder.glob(pattern)}
    return {name: found[name] for name in sorted(found, key=_letters_and_numbers)}


def _letters_and_numbers(name: str) -> list[str | int]:
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def read_choice(group: str, name: str, **options: Any) -> dict[str, Any]:
    """conf/<group>/<name>.yaml as a nested mapping, for callers that have no command line; options: set in it.

    Raises ConfigError for a choice that is not there.
    """
    files = choices(group)
    if name not in files:
        raise ConfigError(f"{group}: no such choice, {name!r}. {nearest(name, files)}")
    return {**yaml.safe_load(files[name].read_text(encoding="utf-8")), **options}
