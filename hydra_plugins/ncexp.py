"""Hydra finds plugins in this namespace only: the launchers of ncexp.launching, their options, and the sweeper."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra_plugins.hydra_submitit_launcher.config import SlurmQueueConf
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


@dataclass
class SlurmOptions(SlurmQueueConf):
    """Every option of Hydra's submitit launcher, and ours; conf/hydra/launcher/slurm.yaml says what they mean."""

    _target_: str = "hydra_plugins.ncexp.SlurmLauncher"
    wait: bool = True
    dry_run: bool = False
    runs_per_task: int = 1
    grace_s: float = 60.0
    poll_s: float = 5.0
    nodelist: str | None = None


@dataclass
class LocalOptions:
    """conf/hydra/launcher/local.yaml says what they mean."""

    _target_: str = "hydra_plugins.ncexp.LocalLauncher"
    runs_at_once: int = 2
    dry_run: bool = False


for name, options in (("ncexp_slurm", SlurmOptions), ("ncexp_local", LocalOptions)):
    ConfigStore.instance().store(group="hydra/launcher", name=name, node=options, provider="ncexp")
