"""Overrides → configurations, hundreds in seconds.

Hydra takes a tenth of a second to compose one configuration, nearly all of it for the choice of files. Runs of a sweep
that choose the same files differ in plain values only, so each choice of files is composed once, by Hydra, and the
values are set on copies of it, by Hydra's own function and in Hydra's order.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf


def plain(config: DictConfig) -> dict[str, Any]:
    """A composed configuration as a plain mapping, interpolations resolved, without Hydra's node and the selectors."""
    content = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    assert isinstance(content, dict)
    return {str(key): value for key, value in content.items() if key not in ("experiment", "sweep", "hydra")}


class Composer:
    """Composes the runs of one sweep; `loader` and `master` are what Hydra hands to a launcher."""

    def __init__(self, loader: Any, master: DictConfig) -> None:
        self._loader = loader
        self._master = master
        self._parser = OverridesParser.create(config_loader=loader)
        self._composed: dict[tuple[str, ...], DictConfig] = {}

    def compose(self, overrides: Sequence[str]) -> dict[str, Any]:
        """The plain configuration of one run; raises what Hydra raises for overrides that it would refuse."""
        files, values = [], []
        for override in self._parser.parse_overrides(list(overrides)):
            if self._chooses_files(override):
                files.append(str(override.input_line))
            else:
                values.append(override)
        config = copy.deepcopy(self._base(tuple(files)))
        ConfigLoaderImpl._apply_overrides_to_config(values, config)
        return plain(config)

    def _base(self, files: tuple[str, ...]) -> DictConfig:
        if files not in self._composed:
            composed = self._loader.load_sweep_config(self._master, list(files))
            ours = OmegaConf.masked_copy(composed, [key for key in composed if key != "hydra"])
            OmegaConf.set_struct(ours, True)
            self._composed[files] = ours
        return self._composed[files]

    def _chooses_files(self, override: Override) -> bool:
        return override.is_hydra_override() or self._loader.repository.group_exists(override.key_or_group)
