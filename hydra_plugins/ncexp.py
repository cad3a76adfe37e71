"""Hydra finds plugins in this namespace only: the launchers and sweepers of ncexp.launching, and their options."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra_plugins.hydra_submitit_launcher.config import SlurmQueueConf
from omegaconf import DictConfig, OmegaConf

from ncexp.config import ConfigError
from ncexp.config.composing import Composer
from ncexp.launching import launcher


class SlurmLauncher(launcher.SlurmLauncher):
    """hydra/launcher=slurm."""


class LocalLauncher(launcher.LocalLauncher):
    """hydra/launcher=local."""


class Sweeper(BasicSweeper):
    """Hydra's combinations of overrides, all handed to one of our launchers at once, whose results go to the task.

    grids: several sets of combinations, each with those of `params` and of the command, for a sweep that is no product.
    """

    def __init__(self, params: Any = None, grids: Sequence[Mapping[str, Any]] | None = None) -> None:
        super().__init__(max_batch_size=None, params=params)
        self._grids = grids or [{}]

    def setup(self, *, hydra_context: Any, task_function: Any, config: DictConfig) -> None:
        """What Hydra hands over before `sweep`."""
        super().setup(hydra_context=hydra_context, task_function=task_function, config=config)
        self._task = task_function
        choice = config.hydra.runtime.choices["hydra/launcher"]
        if choice == "basic":
            self.launcher = launcher.InTurnLauncher()
            self.launcher.setup(hydra_context=hydra_context, task_function=task_function, config=config)
        elif not isinstance(self.launcher, launcher.CheckedLauncher):
            raise ConfigError(f"hydra/launcher: expected slurm, local or basic, got {choice}. Choose one of them.")

    def sweep(self, arguments: list[str]) -> None:
        """Carry out every combination. Raises ConfigError for what only a search can."""
        assert isinstance(self.launcher, launcher.CheckedLauncher)
        combinations: list[list[str]] = []
        for grid in self._grids:
            if not isinstance(grid, Mapping):
                raise ConfigError(
                    f'hydra.sweeper.grids: expected a list of {{KEY: "VALUE, VALUE"}}, got {grid!r} in it.'
                )
            overrides = self.overrides_of(arguments, grid)
            if intervals := [one for one in overrides if one.is_interval_sweep()]:
                key, words = intervals[0].get_key_element(), intervals[0].get_value_string()
                raise ConfigError(
                    f"{key}: expected values, as in {key}=1,2, got {words}. For a search add hydra/sweeper=optuna."
                )
            combinations += self.split_arguments(overrides, None)[0]
        sweep, asked = self.launcher.prepare(combinations)
        if now := self.launcher.carry_out(sweep, asked, range(len(asked))):
            self.launcher.conclude(sweep, asked, now)
            self._task.finished(now.states.values())

    def overrides_of(self, arguments: list[str], grid: Mapping[str, Any] | None = None) -> list[Override]:
        """The words of hydra.sweeper.params, those of a grid, then those of the command."""
        assert self.hydra_context is not None
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        of_grid = [f"{key}={values}" for key, values in (grid or {}).items()]
        return parser.parse_overrides([*self._parse_config(), *of_grid, *arguments])


class OptunaSweeper(Sweeper):
    """hydra/sweeper=optuna."""

    def __init__(self, params: Any = None, **options: Any) -> None:
        super().__init__(params, options.pop("grids", None))
        self._options: Any = OmegaConf.to_container(OmegaConf.create(options), resolve=True)

    def sweep(self, arguments: list[str]) -> None:
        """Search; the task function gets the states of what is left."""
        if self._grids != [{}]:
            raise ConfigError(
                f"hydra.sweeper.grids: expected none in a search, got {len(self._grids)}. Choose another sweep=, or "
                "leave out hydra/sweeper=optuna."
            )
        try:
            from ncexp.launching.search import Search
        except ImportError as error:
            if error.name != "optuna":
                raise
            raise ConfigError(
                "hydra/sweeper=optuna: expected Optuna, got none. pip install 'ncexp[optuna]' installs it."
            ) from error
        assert isinstance(self.launcher, launcher.CheckedLauncher)
        assert self.hydra_context is not None
        assert self.config is not None
        composer = Composer(self.hydra_context.config_loader, self.config)
        overrides = self.overrides_of(arguments)
        self._task.finished(Search(self.launcher, composer, overrides, self._options).run())


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


@dataclass
class SweeperOptions:
    """conf/hydra/sweeper/ncexp.yaml says what they mean."""

    _target_: str = "hydra_plugins.ncexp.Sweeper"
    params: dict[str, str] | None = None
    grids: Any = None


ConfigStore.instance().store(group="hydra/sweeper", name="ncexp_grids", node=SweeperOptions, provider="ncexp")
for name, options in (("ncexp_slurm", SlurmOptions), ("ncexp_local", LocalOptions)):
    ConfigStore.instance().store(group="hydra/launcher", name=name, node=options, provider="ncexp")
