"""Hydra finds plugins in this namespace only: the launchers of ncexp.launching, their options, and a quick sweeper."""

from collections.abc import Sequence
from dataclasses import dataclass

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore
from hydra_plugins.hydra_submitit_launcher.config import SlurmQueueConf

from ncexp.launching import launcher


class SlurmLauncher(launcher.SlurmLauncher):
    """hydra/launcher=slurm."""


class LocalLauncher(launcher.LocalLauncher):
    """hydra/launcher=local."""


class Sweeper(BasicSweeper):
    """Hydra's own, less a composition of every run that our launchers do faster and check more of."""

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """Left to the launcher where it is ours."""
        if not isinstance(self.launcher, launcher.SweepLauncher):
            super().validate_batch_is_legal(batch)


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
