"""Hydra composes, ncexp runs: the bridge between the two, and what a person is told when a configuration is refused."""

from __future__ import annotations

import os
import sys

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, InstantiationException, MissingConfigException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console

from ncexp.config import ConfigError, config_directory, nearest
from ncexp.launching import launcher
from ncexp.launching.composition import plain
from ncexp.launching.slurm import SlurmUnavailable
from ncexp.run_directory import EXIT, Busy
from ncexp.tracking import start_follower


def launch() -> int:
    """Run what sys.argv asks for; answers the exit code: 0 only where every run is completed."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra hands its exceptions to us instead of printing a part of them
    outcomes: list[str] = []

    @hydra.main(version_base="1.3", config_path=str(config_directory()), config_name="config")
    def task(config: DictConfig) -> None:
        outcomes.append(_refused_launcher() or _run_and_tell(config))

    try:
        task()
    except (HydraException, OmegaConfBaseException, ValueError) as error:  # of the composing: a run's are told above
        _complain(_explain(error))
        return EXIT["refused"]
    except SlurmUnavailable as error:
        _complain(str(error))
        return EXIT["failed"]
    except KeyboardInterrupt:
        return EXIT["interrupted"]
    outcomes += launcher.last_states.values()
    return max((EXIT[outcome] for outcome in outcomes), default=0)


def _refused_launcher() -> str | None:
    """Hydra heeds a launcher only in a sweep; without one the run would silently be trained here."""
    configuration = HydraConfig.get()
    if configuration.mode == RunMode.MULTIRUN or "ncexp" not in configuration.launcher._target_:
        return None
    choice = configuration.runtime.choices["hydra/launcher"]
    _complain(f"hydra/launcher: expected a sweep, of one run at least, got {choice!r} without one. Add -m.")
    return "refused"


def _run_and_tell(config: DictConfig) -> str:
    """One run; its failure is told here and does not stop the runs after it."""
    first = os.environ.get("RANK", "0") == "0"  # of several processes one speaks
    if first and "simulation" not in config and OmegaConf.select(config, "tracking.enabled"):
        start_follower(OmegaConf.select(config, "tracking.uri"))  # MLflow takes seconds to import, as torch does
    from ncexp.main import run  # only where a run is wanted

    console = Console(highlight=False, quiet=not first)
    try:
        return run(plain(config), console)
    except ConfigError as error:
        _complain(str(error))
        return "refused"
    except Busy as error:
        _complain(str(error))
        return "busy"
    except Exception:
        Console(highlight=False).print_exception()
        return "failed"


def _complain(message: str) -> None:
    print(f"ncexp: {message}", file=sys.stderr)


def _explain(error: Exception) -> str:
    """Hydra's and OmegaConf's message; for an unknown choice or key the valid ones and the nearest."""
    if isinstance(error, MissingConfigException) and error.options is not None:
        group, _, choice = str(error.missing_cfg_file).rpartition("/")
        return f"{group}: no such choice, {choice!r}. {nearest(choice, list(error.options))}"
    if isinstance(error, InstantiationException) and error.__cause__ is not None:
        return str(error.__cause__)
    cause: BaseException | None = error
    while cause is not None:
        parent, key = getattr(cause, "parent_node", None), getattr(cause, "key", None)
        if isinstance(parent, DictConfig) and key is not None and key not in parent:
            where = getattr(cause, "full_key", key)
            return f"{where}: no such key. {nearest(str(key), [str(name) for name in parent])}"
        cause = cause.__cause__ or cause.__context__
    return str(error)
