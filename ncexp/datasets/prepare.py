"""Bring a dataset to where runs find it: `ncexp prepare dataset=...`, where there is a network; runs never download."""

from __future__ import annotations

import importlib
from typing import Any

from ncexp.config import Component
from ncexp.datasets.dataset import Dataset


def prepare(dataset: Component) -> dict[str, Any]:
    """Download, check, decode and keep what `dataset.build()` will read; returns what there is to print, by name.

    A module of datasets may hold a function `prepare` beside its loader that takes the loader's options and returns
    such a mapping: it does the work. Where there is none the data need no preparation, and the loader is run to see
    that it can. The result always has num_train and num_test; root, where files are involved.

    Raises ValueError, saying which file, where it was searched and what to do, where the data are not to be had.
    Safe to run in several processes at once, and again.
    """
    module = importlib.import_module(dataset.target.rpartition(".")[0])
    if hasattr(module, "prepare"):
        result: dict[str, Any] = module.prepare(**dataset.options)
        return result
    built: Dataset = dataset.build()
    return {"num_train": len(built.train), "num_test": len(built.test), **built.facts}
