"""The schema of a run: what may be chosen, of which type, within which bounds; checked before anything is built.

A *component* is one choice of a group (``conf/loss/mse.yaml``): a readable ``name``, the ``_target_`` that is called,
and the target's own options. Its schema is the target's signature, annotations included, so a network from somebody
else's package is checked exactly as ours are.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import inspect
import json
import re
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, create_model

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
#: See `ncexp.precision`, which imports torch.
Precision = Literal["fp32", "tf32", "bf16"]

#: Marks an option that does not determine the result and so stays out of the key: `Annotated[int, INCIDENTAL]`.
INCIDENTAL = "incidental"

#: What the framework itself hands to the target of each group; everything else comes from the configuration.
SUPPLIED: dict[str, tuple[str, ...]] = {
    "dataset": (),
    "architecture": ("input_shape", "num_classes"),
    "loss": ("num_classes",),
    "optimizer": ("parameters",),
    "optimizer.schedule": ("epochs",),
    "analysis": (),
}


class ConfigError(ValueError):
    """A configuration that cannot be run; the message lists every fault and what would be right."""


def config_directory() -> Path:
    """The folder of the shipped choices: in the wheel beside this file, in a clone at the repository's top."""
    installed = Path(__file__).parent / "conf"
    return installed if installed.is_dir() else Path(__file__).parents[1] / "conf"


def nearest(word: str, choices: list[str]) -> str:
    """The sentence that ends a complaint about an unknown word: the valid ones and the nearest."""
    close = difflib.get_close_matches(word, choices, n=1, cutoff=0.5)
    hint = f" Did you mean {close[0]}?" if close else ""
    return f"Valid: {', '.join(sorted(choices))}.{hint}"


@dataclass(frozen=True, kw_only=True)
class Component:
    """One choice of a group, checked against the signature of its target.

    group: where it stands in the configuration (``optimizer.schedule``); name: what directories and tables call it;
    target: the callable, as ``package.module.callable``; options: the target's options with its defaults filled in;
    incidental: those of them that do not determine the result, such as the folder the data lie in.
    """

    group: str
    name: str
    target: str
    options: dict[str, Any]
    incidental: frozenset[str] = frozenset()

    @classmethod
    def check(cls, group: str, raw: Any, supplied: tuple[str, ...]) -> Component:
        """Refuse, with every fault in one ConfigError, a choice that its target would not take."""
        if not isinstance(raw, Mapping):
            how = f"{group.replace('.', '/')}={raw}" if isinstance(raw, str) else "a file of the group"
            raise ConfigError(f"{group}: expected a choice with _target_ and name, got {raw!r}. Choose it by {how}.")
        options = {key: value for key, value in raw.items() if key not in ("_target_", "name")}
        target = raw.get("_target_")
        if not isinstance(target, str):
            raise ConfigError(f"{group}._target_: expected package.module.callable, got {target!r}.")
        name = raw.get("name")
        if not isinstance(name, str) or not name:
            raise ConfigError(
                f"{group}.name: expected a word for directories and tables, got {name!r}. Add name: to it."
            )
        model = _signature_model(group, _locate(group, target), supplied)
        incidental = frozenset(option for option, field in model.model_fields.items() if INCIDENTAL in field.metadata)
        options = _validated(group, model, options)
        return cls(group=group, name=name, target=target, options=options, incidental=incidental)

    def build(self, **supplied: Any) -> Any:
        """Call the target with the options and with what the framework supplies."""
        return _locate(self.group, self.target)(**supplied, **self.options)

    def identity(self) -> dict[str, Any]:
        """What determines the result: the target and its options; the name is only a label."""
        decisive = {option: value for option, value in self.options.items() if option not in self.incidental}
        return {"_target_": self.target, **decisive}


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Everything about one run. What determines its result is hashed into `key`; the rest is where and how it runs."""

    dataset: Component
    architecture: Component
    loss: Component
    optimizer: Component
    schedule: Component
    analyses: dict[str, Component]
    #: Seeds the initialisation and the order of the examples.
    seed: int
    epochs: int
    batch_size: int
    #: The arithmetic of the training steps; looks are in float32.
    precision: Precision
    #: Whether torch.compile makes a program of the network for the training steps: other roundings, the same sums.
    compile: bool
    #: Epochs after which the features are looked at; those beyond `epochs` drop out, the last one is always there.
    analysis_epochs: list[int]
    #: auto (a GPU where there is one), cpu, cuda or cuda:k.
    device: str
    #: Folder under which runs and the embedded MLflow store lie.
    outputs: Path
    #: What to do with a run that is there already: failed (train again what failed), all (train anew), none.
    rerun: str
    tracking: dict[str, Any]
    #: The plain nested mapping this was read from, as written to the run's config.yaml.
    raw: dict[str, Any] = field(repr=False, compare=False)

    @property
    def key(self) -> str:
        """Ten hexadecimal digits of the hash of what determines the result: not paths, device, tracking or labels."""
        identity = {
            "dataset": self.dataset.identity(),
            "architecture": self.architecture.identity(),
            "loss": self.loss.identity(),
            "optimizer": self.optimizer.identity(),
            "schedule": self.schedule.identity(),
            "analyses": {name: analysis.identity() for name, analysis in self.analyses.items()},
            "seed": self.seed,
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "precision": self.precision,
            "compile": self.compile,
            "analysis_epochs": self.analysis_epochs,
        }
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:10]

    @property
    def name(self) -> str:
        """Readable words: ``digits-resnet-mse_lr0.05_seed0``."""
        rate = self.optimizer.options.get("lr")
        words = f"{self.dataset.name}-{self.architecture.name}-{self.loss.name}"
        return words + (f"_lr{rate:g}" if isinstance(rate, int | float) else "") + f"_seed{self.seed}"

    @property
    def directory(self) -> Path:
        """Where the run lies: the same configuration always finds the same directory again."""
        return self.outputs / f"{self.name}_{self.key}"


def _device_name(name: str) -> str:
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", name):
        raise ValueError("auto, cpu, cuda or cuda:k")
    return name


class _Scalars(BaseModel):
    """The keys of the configuration that are no component."""

    model_config = ConfigDict(extra="forbid", strict=True)
    seed: Annotated[int, Field(ge=0)]
    epochs: Count
    batch_size: Count
    precision: Precision
    compile: bool
    analysis_epochs: Annotated[list[Count], Field(min_length=1)]
    device: Annotated[str, AfterValidator(_device_name)]
    outputs: Annotated[str, Field(min_length=1)]
    rerun: Literal["failed", "all", "none"]
    tracking: _Tracking


class _Tracking(BaseModel):
    """uri: an MLflow tracking URI, null: SQLite under `outputs`; experiment: its name, null: the dataset's."""

    model_config = ConfigDict(extra="forbid", strict=True)
    enabled: bool
    uri: str | None
    experiment: str | None


def check(raw: Mapping[str, Any]) -> RunConfig:
    """The plain nested mapping of a composed configuration → a RunConfig.

    Raises ConfigError: unknown or missing keys (valid ones listed), wrong types, values out of bounds, targets that
    cannot be imported or are not callable. All faults of the first faulty part are in the one message.
    """
    if "simulation" in raw:
        raise ConfigError("simulation: expected a training, got a simulation. Run it by itself, not in a sweep.")
    groups = {"dataset", "architecture", "loss", "optimizer"}
    if missing := sorted(groups - raw.keys()):
        raise ConfigError(
            f"configuration: expected the groups {', '.join(sorted(groups))}, got none for {', '.join(missing)}."
        )
    groups.add("analysis")  # may be empty: then only loss and error are recorded
    scalars = _validated("", _Scalars, {key: value for key, value in raw.items() if key not in groups}, groups)
    if (scalars["precision"], scalars["device"]) == ("tf32", "cpu"):
        raise ConfigError("precision: expected fp32 or bf16 with device=cpu, got tf32, which only GPUs have.")
    optimizer = dict(raw["optimizer"])
    schedule = optimizer.pop("schedule", None)
    epochs = scalars["epochs"]
    return RunConfig(
        dataset=Component.check("dataset", raw["dataset"], SUPPLIED["dataset"]),
        architecture=Component.check("architecture", raw["architecture"], SUPPLIED["architecture"]),
        loss=Component.check("loss", raw["loss"], SUPPLIED["loss"]),
        optimizer=Component.check("optimizer", optimizer, SUPPLIED["optimizer"]),
        schedule=Component.check("optimizer.schedule", schedule, SUPPLIED["optimizer.schedule"]),
        analyses={
            name: Component.check(f"analysis.{name}", analysis, SUPPLIED["analysis"])
            for name, analysis in raw.get("analysis", {}).items()
        },
        analysis_epochs=sorted({*(e for e in scalars.pop("analysis_epochs") if e <= epochs), epochs}),
        outputs=Path(scalars.pop("outputs")).absolute(),
        raw=dict(raw),
        **scalars,
    )


def _locate(group: str, target: str) -> Callable[..., Any]:
    """Import ``package.module.callable``; the message keeps the cause that the import gave."""
    module_name, _, attribute = target.rpartition(".")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        raise ConfigError(
            f"{group}._target_: expected an importable package.module.callable, got {target!r} "
            f"({type(error).__name__}: {error}). Check the spelling and that the package is installed."
        ) from error
    found = getattr(module, attribute, None)
    if not callable(found):
        names = [n for n, value in vars(module).items() if getattr(value, "__module__", "") == module_name]
        raise ConfigError(f"{group}._target_: expected a callable, got {target!r}. {nearest(attribute, names)}")
    return found


def _signature_model(group: str, target: Callable[..., Any], supplied: tuple[str, ...]) -> type[BaseModel]:
    """A strict model of the options that `target` takes, read off its signature."""
    parameters = inspect.signature(target, eval_str=True).parameters
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    if not takes_any and (missing := [name for name in supplied if name not in parameters]):
        raise ConfigError(
            f"{group}._target_: expected a callable that takes {', '.join(supplied)}; "
            f"{getattr(target, '__qualname__', target)} lacks {', '.join(missing)}. Add the parameter to its signature."
        )
    fields: dict[str, Any] = {
        p.name: (Any if p.annotation is p.empty else p.annotation, ... if p.default is p.empty else p.default)
        for p in parameters.values()
        if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL) and p.name not in supplied
    }
    rules = ConfigDict(
        extra="allow" if takes_any else "forbid", strict=True, arbitrary_types_allowed=True, protected_namespaces=()
    )
    return create_model("Options", __config__=rules, **fields)


def _validated(
    group: str, model: type[BaseModel], values: dict[str, Any], siblings: Set[str] = frozenset()
) -> dict[str, Any]:
    """The values with the model's defaults, or one ConfigError with a line per fault."""
    try:
        return model.model_validate(values).model_dump()
    except ValidationError as error:
        valid = sorted({*model.model_fields, *siblings})
        raise ConfigError("\n".join(_fault(group, fault, valid) for fault in error.errors())) from None


def _fault(group: str, fault: Any, valid: list[str]) -> str:
    # Of a union pydantic reports each member under a tag of its own (`literal['2/C']`): no part of the key's name.
    path = [str(part) for part in fault["loc"] if str(part).replace("_", "").isalnum()]
    where = ".".join(filter(None, [group, *path]))
    if fault["type"] == "extra_forbidden":
        return f"{where}: no such key. {nearest(path[-1], valid)}"
    if fault["type"] == "missing":
        return f"{where}: expected a value, got none. Set {where}=..."
    contract = fault["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
    contract = f"a value {contract}" if contract.startswith(("greater", "less")) else contract
    return f"{where}: expected {contract}, got {fault['input']!r}."
