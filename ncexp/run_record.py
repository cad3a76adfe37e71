"""A run as others read it: what it was to be, what became of it, what it measured; from its directory alone.

Nothing is imported that the run imported: a record of somebody else's network is read without their package.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from ncexp.config import nearest
from ncexp.files import read_json
from ncexp.journal import Record
from ncexp.run_directory import SIMULATIONS, RunDirectory

#: YAML's safe loader in C, ten times as fast, where the library has it.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
#: Groups of the configuration of which a run has exactly one choice.
COMPONENTS = ("dataset", "architecture", "loss", "optimizer")


@dataclass(frozen=True)
class RunRecord:
    """One run directory, read.

    raw: config.yaml; facts: sizes and λ; state: as `RunDirectory.actual_state`; message: why it ended so; records: the
    journal, one mapping per analysis epoch.
    """

    path: Path
    raw: dict[str, Any]
    facts: dict[str, Any]
    state: str
    message: str
    records: list[Record]

    @property
    def name(self) -> str:
        """Readable words, as the directory's without the key."""
        return self.path.name.rpartition("_")[0]

    @property
    def key(self) -> str:
        """The hash of what determines the result."""
        return self.path.name.rpartition("_")[2]

    @property
    def sweeps(self) -> list[str]:
        """The sweeps beside this run that asked for it."""
        return sorted(link.parents[1].name for link in self.path.parent.glob(f"sweeps/*/runs/*_{self.key}"))

    @cached_property
    def choices(self) -> dict[str, Any]:
        """What was asked for: the choice of every group, its options by path, lr, seed, epochs and the like."""
        return _choices(self.raw)

    @cached_property
    def parameters(self) -> dict[str, Any]:
        """What people filter and group by: the choices, and what followed from them: sizes and λ."""
        return {**self.choices, **self.facts}

    @property
    def rate(self) -> float:
        """The learning rate."""
        return float(self.parameters["lr"])

    @property
    def cell(self) -> tuple[str, str, str]:
        """(dataset, architecture, loss): where the run stands in the paper's grid."""
        chosen = self.parameters
        return str(chosen["dataset"]), str(chosen["architecture"]), str(chosen["loss"])


def read_run(path: Path) -> RunRecord:
    """Read one run directory. Raises ValueError where there is no config.yaml."""
    directory = RunDirectory(path)
    if not directory.config.exists():
        raise ValueError(f"{path}: expected a run directory, got one without config.yaml. Name the folder of a run.")
    return RunRecord(
        path=path,
        raw=yaml.load(directory.config.read_text(), _LOADER),
        facts=read_json(directory.facts) or {},
        state=directory.actual_state() or "pending",
        message=str((directory.status() or {}).get("message", "")),
        records=directory.journal.read(),
    )


def find_runs(folders: Iterable[Path]) -> list[Path]:
    """The run directories among and under `folders`, sorted, each once. Raises ValueError for a folder without any."""
    found: dict[Path, None] = {}
    for folder in folders:
        # Not deeper than a sweep's folder in an outputs folder: MLflow's copies of the records lie further down.
        levels = ("config.yaml", "*/config.yaml", "*/*/config.yaml")
        found_here = ([p.parent for p in folder.glob(level) if p.parent.parent.name != SIMULATIONS] for level in levels)
        here = next(filter(None, map(sorted, found_here)), [])
        if not here:
            raise ValueError(f"{folder}: expected run directories, got none. Name the folder that holds the runs.")
        found.update(dict.fromkeys(path.resolve() for path in here))  # a sweep's folder has links
    return list(found)


def pick_run(name: str, folder: Path) -> Path:
    """A run by its path, its directory's name, its key, or a beginning of either that only one run has.

    Raises ValueError where no run or more than one is meant.
    """
    if (Path(name) / "config.yaml").exists():
        return Path(name)
    runs = find_runs([folder])
    meant = [run for run in runs if run.name == name] or [
        run for run in runs if run.name.startswith(name) or run.name.rpartition("_")[2].startswith(name)
    ]
    if len(meant) == 1:
        return meant[0]
    if meant:
        listed = ", ".join(run.name for run in meant)
        raise ValueError(f"{name}: expected one run, got {len(meant)}: {listed}. Give more of the name, or the key.")
    raise ValueError(f"{name}: expected a run under {folder}. {nearest(name, [run.name for run in runs])}")


def _choices(raw: Mapping[str, Any]) -> dict[str, Any]:
    """``dataset: digits``, ``dataset.test_fraction: 0.2``, ..., ``lr``, ``seed``; nested options by their path."""
    flat: dict[str, Any] = {}
    for group in COMPONENTS:
        _flatten(group, raw[group], flat)
    flat["lr"] = raw["optimizer"].get("lr")
    flat["analysis"] = ", ".join(sorted(raw.get("analysis") or {}))
    # Runs from before there was a choice of arithmetic have no such keys.
    return flat | {name: raw[name] for name in ("seed", "epochs", "batch_size", "precision", "compile") if name in raw}


def _flatten(prefix: str, value: Any, into: dict[str, Any]) -> None:
    if isinstance(value, Mapping) and "_target_" in value:
        into[prefix] = value["name"]
        for name, option in value.items():
            if name not in ("_target_", "name"):
                _flatten(f"{prefix}.{name}", option, into)
    else:
        into[prefix] = value
