"""Which runs a command means: by folders, sweeps, names, keys, beginnings of either, and globs."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from ncexp.config import nearest
from ncexp.config.components import closest
from ncexp.config.measurement import SIMULATIONS
from ncexp.record.files import DamagedFile
from ncexp.record.run_directory import name_and_key

#: How many runs a refusal lists.
MOST_LISTED = 20


def find_runs(folders: Iterable[Path], simulations: bool = False) -> list[Path]:
    """The run directories among and under `folders`, sorted, each once.

    simulations: those among them, too; else only where their folder is named.
    Raises ValueError for a folder without any.
    """
    found: dict[Path, None] = {}
    for folder in folders:
        # Not deeper than a sweep's folder in an outputs folder: MLflow's copies of the runs lie further down.
        here: list[Path] = []
        for level in ("config.yaml", "*/config.yaml", "*/*/config.yaml"):
            apart = {path: SIMULATIONS in path.relative_to(folder).parts for path in sorted(folder.glob(level))}
            here += [path for path, is_simulation in apart.items() if (simulations if is_simulation else not here)]
            if here and not simulations:
                break
        if not here:
            raise ValueError(
                f"{folder}: expected run directories, got none. Name the folder that holds the runs: outputs=FOLDER."
            )
        found.update(dict.fromkeys(path.parent.resolve() for path in here))  # a sweep's folder has links
    return list(found)


def named_runs(words: Sequence[str], outputs: Path) -> list[Path]:
    """The run directories that words of a command line mean, each once. Raises as `named_folders` and `find_runs`."""
    return find_runs(named_folders(words, outputs))


def named_folders(words: Sequence[str], outputs: Path) -> list[Path]:
    """What each word means: a folder, as it is; a sweep of `outputs` by its name; else run directories in `outputs`.

    Those are the one of this name (with the key or without) or this key; all whose name or key a glob matches
    (``digits-mlp*``); or the only one whose name or key begins so.
    Raises ValueError for a word that means no run, and for a beginning that several have.
    """
    found: list[Path] = []
    known: list[Path] = []
    for word in words:
        folders = [folder for folder in (Path(word), outputs / "sweeps" / word) if os.path.isdir(folder)]
        if not folders:
            try:
                known = known or find_runs([outputs])
            except ValueError as error:
                raise ValueError(f"{word}: expected a folder, or a run of one, got neither. {error}") from None
        found += folders[:1] or _meant(word, known, outputs)
    return found


def _meant(word: str, known: Sequence[Path], outputs: Path) -> list[Path]:
    """The runs that a word means that is no folder's."""
    if any(sign in word for sign in "*?["):
        if globbed := [run for run in known if any(fnmatchcase(name, word) for name in _names(run))]:
            return globbed
    else:
        exact = [run for run in known if word in _names(run)]
        begun = [run for run in known if any(name.startswith(word) for name in _names(run))]
        if len(meant := exact or begun) == 1:
            return meant
        if meant:
            raise ValueError(
                f"{word}: expected one run, got {len(meant)}:\n{_listed(meant)}\n"
                f"Give more of the name, or the key at its end; '{word}*' means all of them. `ncexp runs '{word}*'` "
                "shows what each came to."
            )
    names = [run.name for run in known]
    hint = nearest(word, names) if len(names) <= MOST_LISTED else f"`ncexp runs` lists the {len(names)} that there are."
    near = closest(word, names) if len(names) > MOST_LISTED else ""
    raise ValueError(
        f"{word}: expected a run under {outputs}, got none of this name or key. {hint}"
        + (f" Did you mean {near}?" if near else "")
    )


def _names(run: Path) -> tuple[str, str, str]:
    """What it may be called: its directory's name, that without the key, the key; of a damaged identity the name."""
    try:
        return (run.name, *name_and_key(run))
    except DamagedFile:
        return run.name, run.name, run.name


def _listed(runs: Sequence[Path]) -> str:
    """A line each, at most MOST_LISTED."""
    lines = [f"  {run.name if run.name.isprintable() else repr(run.name)}" for run in runs[:MOST_LISTED]]
    return "\n".join([*lines, *([f"  ... and {len(runs) - MOST_LISTED} more"] if len(runs) > MOST_LISTED else [])])
