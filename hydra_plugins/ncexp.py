"""Hydra finds plugins in this namespace only: the launchers of ncexp.launching, and the sweeper."""

from collections.abc import Sequence
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig

from ncexp.config import ConfigError
from ncexp.launching import launcher


class SlurmLauncher(launcher.SlurmLauncher):
    """hydra/launcher=slurm."""


class LocalLauncher(launcher.LocalLauncher):
    """hydra/launcher=local."""


class Sweeper(BasicSweeper):
    """Hydra's combinations of overrides, all handed to one of our launchers at once, whose results go to the task."""

    def setup(self, *, hydra_context: Any, task_function: Any, config: DictConfig) -> None:
        """What Hydra hands over before `sweep`."""
        super().setup(hydra_context=hydra_context, task_function=task_function, config=config)
        self._task = task_function
        self._task.composed = True
        choice = config.hydra.runtime.choices["hydra/launcher"]
        if choice == "basic":
            self.launcher = launcher.InTurnLauncher()
            self.launcher.setup(hydra_context=hydra_context, task_function=task_function, config=config)
        elif not isinstance(self.launcher, launcher.CheckedLauncher):
            raise ConfigError(f"hydra/launcher: expected slurm, local or basic, got {choice}. Choose one of them.")

    def sweep(self, arguments: list[str]) -> Sequence[Any]:
        """Carry out every combination; returns the results, and hands their states to the task function."""
        assert self.hydra_context is not None
        assert self.launcher is not None
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        overrides = parser.parse_overrides([*self._parse_config(), *arguments])
        (combinations,) = self.split_arguments(overrides, None)
        results = self.launcher.launch(combinations, initial_job_idx=0)
        self._task.finished([result.return_value for result in results])
        return results
