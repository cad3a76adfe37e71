"""Overrides → configurations as nested mappings, for a sweep hundreds in seconds.

Hydra takes a tenth of a second to compose one configuration, nearly all of it for the choice of files. Runs of a sweep
that choose the same files differ in values only, so each choice of files is composed once, by Hydra, and the
values are set on copies of it, by Hydra's own function and in Hydra's order.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, InstantiationException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ncexp.config.components import ConfigError, labels_of, nearest
from ncexp.config.installed import choices, config_directory

#: What is raised for a configuration that a person has to correct, by Hydra, by OmegaConf and by the checks.
REFUSALS = (HydraException, OmegaConfBaseException, ValueError)
#: Groups whose files set keys of the whole configuration.
_SELECTORS = ("experiment", "sweep")
#: The overrides that are being composed.
_OVERRIDES: ContextVar[Sequence[str]] = ContextVar("overrides", default=())


@contextmanager
def composing(overrides: Sequence[str]) -> Iterator[None]:
    """Around Hydra's composition of these overrides, of which ${changes:} tells."""
    token = _OVERRIDES.set(overrides)
    try:
        yield
    finally:
        _OVERRIDES.reset(token)


def _changes() -> str:
    """The overrides of network and loss and their options, labels apart, and of an experiment, which may change any.

    A choice may not be read here that itself follows from another one: Hydra knows choices that are written out alone.
    """
    words = [word.lstrip("+~") for word in _OVERRIDES.get()]
    labels = tuple(f"{group}.{label}=" for group in ("architecture", "loss") for label in labels_of(group))
    begin = ("experiment=", "architecture", "loss")
    same = {f"{group}={usual}" for group, usual in _MAIN.items()}
    return "".join(
        f" {word}" for word in words if word.startswith(begin) and not word.startswith(labels) and word not in same
    )


#: ${either:ONE,OTHER,SAME,ELSE} and ${changes:}, with which conf/config.yaml has a choice follow from others.
#: ${usual:GROUP,DATASET}: what is chosen for data whose targets are numbers.
_OF_TARGETS = {"diabetes", "linnerud", "synthetic_regression"}
_USUAL = {"architecture": "mlp", "loss": "squared_error"}
#: Those of the main job, and of all other data.
_MAIN = {"architecture": "resnet", "loss": "mse_mean"}
OmegaConf.register_new_resolver("usual", lambda group, dataset: (_USUAL if dataset in _OF_TARGETS else _MAIN)[group])
OmegaConf.register_new_resolver("either", lambda one, other, same, otherwise: same if one == other else otherwise)
OmegaConf.register_new_resolver("changes", _changes)


def compose_mapping(name: str, overrides: Sequence[str]) -> dict[str, Any]:
    """conf/<name>.yaml with these overrides, as a nested mapping; raises what Hydra raises."""
    where = initialize_config_dir(version_base="1.3", config_dir=str(config_directory()))
    with where, refusals_named(overrides), composing(overrides):
        config = compose(name, overrides=list(overrides))
    return as_mapping(config, overrides)


def as_mapping(config: DictConfig, overrides: Sequence[str]) -> dict[str, Any]:
    """A composed configuration as a nested mapping, interpolations resolved, without Hydra's node and the selectors.

    Raises ConfigError for an experiment or a sweep whose file is not of the package _global_: none of its lines counts.
    """
    content = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    assert isinstance(content, dict)
    for selector in _SELECTORS:
        if content.get(selector):
            chosen = [word for word in overrides if word.startswith(f"{selector}=")]
            raise ConfigError(
                f"{selector}: expected a file that begins with the line '# @package _global_', got "
                f"{' '.join(chosen) or 'one'} without it: its keys would stand under {selector} and be ignored. Add it."
            )
    return {str(key): value for key, value in content.items() if key not in (*_SELECTORS, "hydra")}


@contextmanager
def refusals_named(overrides: Sequence[str]) -> Iterator[None]:
    """Around Hydra's own composition: what it refuses bears the overrides' names.

    For choices that are no names (a number, a list in a list, a path too long for the system) and for elements of
    lists it raises whatever its code runs into.
    """
    try:
        yield
    except (MissingConfigException, ConfigError):
        raise
    except yaml.MarkedYAMLError as error:
        place = error.problem_mark or error.context_mark
        where = f"{place.name}, line {place.line + 1}" if place else "YAML"
        raise ConfigError(f"{where}: expected YAML, got a typo ({error.problem}). Correct it.") from error
    except (*REFUSALS, TypeError, OSError, RecursionError, AssertionError, AttributeError, LookupError) as error:
        if any(override.lstrip("+").startswith("hydra.sweeper.params") for override in overrides):
            raise ConfigError(
                "hydra.sweeper.params: expected the values to sweep over as arguments, got an option of Hydra's own "
                "sweeper. Write them so: ncexp -m seed=1,2."
            ) from error
        reason = explain(error) or type(error).__name__
        if re.match(r"[\w./]+: (expected|no such)", reason):
            raise ConfigError(reason) from error
        given = " ".join(override if len(override) <= 100 else f"{override[:60]}..." for override in overrides)
        raise ConfigError(
            f"{given}: expected overrides that Hydra composes, got one that it does not "
            f"({reason.partition(chr(10))[0]}). Correct it."
        ) from error


def quoted(value: str) -> str:
    """A word as Hydra's grammar wants it where it may hold anything: ``'a path, with a comma'``."""
    # A backslash counts as one that escapes only before a quote, and as OmegaConf's before ${.
    escaped = re.sub(r"(\\*)('|$)", lambda match: match[1] * 2 + match[2].replace("'", r"\'"), value)
    return "'" + escaped.replace("${", r"\${") + "'"


def explain(error: Exception) -> str:
    """The message for a person; for an unknown choice or key, unlike Hydra's, with the valid ones and the nearest."""
    if isinstance(error, MissingConfigException):
        group, _, choice = str(error.missing_cfg_file).rpartition("/")
        if (top := group.partition("/")[0]) in _SELECTORS:  # whose choices lie in folders: han2022/cifar10_resnet
            group, choice = top, str(error.missing_cfg_file).removeprefix(f"{top}/")
        ours = choices(group)
        # Of a choice in a list, as those of `analysis` are, Hydra does not say what there is.
        options = {*(error.options or []), *ours} if group in _SELECTORS else error.options or ours
        return f"{group}: no such choice, {choice!r}. {nearest(choice, options)}"
    if missing := re.search(r"Missing mandatory value: ([\w.]+)", str(error)):
        # OmegaConf's sentence may name the last part alone; of an interpolation its key is another.
        name = missing[1] if "." in missing[1] else getattr(error, "full_key", None) or missing[1]
        return f"{name}: expected a value, got none. Set {name}=..."
    if several := re.match("Ambiguous value for argument '([^=]+)=(.+)'", str(error)):
        name, values = several.groups()
        return (
            f"{name}: expected one value, got {values}. To train one run of each: ncexp -m {name}={values}. "
            f"As a list it is {name}=[{values}]."
        )
    if unsaid := re.match("You must specify '([^']+)'", str(error)):
        return "{0}: expected a choice, got none. `ncexp list {0}` shows what there is.".format(unsaid[1])
    if isinstance(error, InstantiationException) and error.__cause__ is not None:
        return str(error.__cause__)
    cause: BaseException | None = error
    while cause is not None:
        parent, key = getattr(cause, "parent_node", None), getattr(cause, "key", None)
        if isinstance(parent, DictConfig) and key is not None and key not in parent:
            where = getattr(cause, "full_key", key)
            keys: Any = OmegaConf.to_container(parent) if where == key else {}
            deeper = [path for path in _paths(keys) if path.endswith(f".{key}") and not path.startswith("hydra.")]
            hint = f" Did you mean {' or '.join(deeper)}?" if deeper else ""
            return f"{where}: no such key.{hint or ' ' + nearest(str(key), [str(name) for name in parent])}"
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, OmegaConfBaseException) and "raised while resolving interpolation" in str(error):
        return f"{error.full_key}: expected a value, got ${{...}}, which has none in this command. Write the value."
    if isinstance(error, OmegaConfBaseException) and error.full_key:
        return f"{error.full_key}: expected a value, got none ({str(error).partition(chr(10))[0]}). Set it."
    return str(error)


def _paths(keys: Mapping[Any, Any], above: str = "") -> Iterator[str]:
    """Every key, with those above it: ``optimizer.lr``."""
    for key, value in keys.items():
        yield f"{above}{key}"
        if isinstance(value, Mapping):
            yield from _paths(value, f"{above}{key}.")


class Composer:
    """Composes the runs of one sweep; `loader` and `master` are what Hydra hands to a launcher."""

    def __init__(self, loader: Any, master: DictConfig) -> None:
        self._loader = loader
        self._master = master
        self._parser = OverridesParser.create(config_loader=loader)
        self._composed: dict[tuple[str, ...], DictConfig] = {}

    def compose(self, overrides: Sequence[str]) -> dict[str, Any]:
        """The configuration of one run as a nested mapping.

        Raises ConfigError, or Hydra's MissingConfigException, for overrides that Hydra would refuse.
        """
        with refusals_named(overrides), composing(overrides):
            parsed = self._parser.parse_overrides(list(overrides))
            groups = self._loader.repository
            files = [one for one in parsed if one.is_hydra_override() or groups.group_exists(one.key_or_group)]
            config = copy.deepcopy(self._base(tuple(str(one.input_line) for one in files)))
            ConfigLoaderImpl._apply_overrides_to_config([one for one in parsed if one not in files], config)
        return as_mapping(config, overrides)

    def _base(self, files: tuple[str, ...]) -> DictConfig:
        key = (*files, _changes())
        if key not in self._composed:
            composed = self._loader.load_sweep_config(self._master, list(files))
            ours = OmegaConf.masked_copy(composed, [key for key in composed if key != "hydra"])
            OmegaConf.set_struct(ours, True)
            self._composed[key] = ours
        return self._composed[key]
