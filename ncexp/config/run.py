"""The schema of a run: what may be chosen, of which type, within which bounds; checked before anything is built."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from ncexp.config.components import SUPPLIED, Component, ConfigError, Count, Precision, Regime, Seed, digest, validated
from ncexp.config.names import NAME_CONTRACT, Folder, Name, is_name, outputs_fault, shown

#: Which epochs' files are kept: the last one's, those of every evaluated epoch, or those of the epochs named.
Kept = Literal["last", "evaluated"] | list[Count]
#: Of weights also zero_error: the first epoch without training error, and the last.
KeptWeights = Literal["last", "zero_error", "evaluated"] | list[Count]


@dataclass(frozen=True)
class Keep:
    """What stays on the disk of each epoch; see conf/config.yaml for what it costs."""

    snapshots: str | list[int]
    checkpoints: str | list[int]

    def keeps(
        self, kind: Literal["snapshots", "checkpoints"], epoch: int, last: int, zero_error: int | None = None
    ) -> bool:
        """Whether the file of this evaluated epoch is kept; last, zero_error: the run's epochs of these names."""
        chosen = getattr(self, kind)
        if isinstance(chosen, str):
            return chosen == "evaluated" or epoch == last or (chosen == "zero_error" and epoch == zero_error)
        return epoch in chosen


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Everything about one run. What determines its weights is hashed into `key`; the rest is where and how it runs."""

    dataset: Component
    architecture: Component
    loss: Component
    optimizer: Component
    schedule: Component
    #: What is measured while it trains. Not part of the key: any other analysis can be measured later.
    analyses: dict[str, Component]
    #: Seeds the initialisation and the order of the examples.
    seed: int
    epochs: int
    batch_size: int
    #: The arithmetic of the training steps; evaluation is in float32.
    precision: Precision
    #: Whether torch.compile makes a program of the network for the training steps: other roundings, the same sums.
    compile: bool
    #: plain: the last layer is trained; else it is the least-squares one of the features at every step.
    regime: Regime
    #: Epochs after which the network is evaluated, ascending; the last epoch and those kept by name are among them.
    evaluated: list[int]
    keep: Keep
    #: auto (a GPU where there is one), cpu, cuda or cuda:k.
    device: str
    #: Of torch, for a run that begins; auto: see `ncexp.training.set_threads`. Recorded, and restored on resumption.
    threads: int | Literal["auto"]
    #: Folder under which runs and the embedded MLflow store lie.
    outputs: Path
    #: What to do with a run that is there already: failed (train again what failed), all (train anew), none.
    rerun: str
    tracking: dict[str, Any]
    #: The plain nested mapping this was read from, as written to the run's config.yaml.
    raw: dict[str, Any] = field(repr=False, compare=False)

    @property
    def key(self) -> str:
        """The training key: ten hexadecimal digits of the hash of what determines the weights, and of nothing else."""
        return digest(
            {
                "dataset": self.dataset.identity(),
                "architecture": self.architecture.identity(),
                "loss": self.loss.identity(),
                "optimizer": self.optimizer.identity(),
                "schedule": self.schedule.identity(),
                "seed": self.seed,
                "epochs": self.epochs,
                "batch_size": self.batch_size,
                "precision": self.precision,
                "compile": self.compile,
                **({} if self.regime == "plain" else {"regime": self.regime}),  # plain runs keep their older keys
            }
        )

    @property
    def name(self) -> str:
        """Readable words: ``digits-resnet-mse_lr0.05_seed0``, ``digits-resnet-mse_on_path_lr0.05_seed0``."""
        rate = self.optimizer.options.get("lr")
        words = f"{self.dataset.name}-{self.architecture.name}-{self.loss.name}"
        words += "" if self.regime == "plain" else f"_{self.regime}"
        return words + (f"_lr{rate:g}" if isinstance(rate, int | float) else "") + f"_seed{self.seed}"

    @property
    def directory(self) -> Path:
        """Where the run lies: the same configuration always finds the same directory again."""
        return self.outputs / f"{self.name}_{self.key}"


def _device_name(name: str) -> str:
    if not re.fullmatch(r"auto|cpu|cuda(:(0|[1-9][0-9]{0,3}))?", name):
        raise ValueError("auto, cpu, cuda or cuda:k")
    return name


Device = Annotated[str, AfterValidator(_device_name)]


class _Scalars(BaseModel):
    """The keys of the configuration that are no component."""

    model_config = ConfigDict(extra="forbid", strict=True)
    seed: Seed
    epochs: Count
    batch_size: Count
    precision: Precision
    compile: bool
    regime: Regime = "plain"  # which every run was before there was a choice
    evaluate_at: Annotated[list[Count], Field(min_length=1)]
    keep: _Keep
    device: Device
    threads: Count | Literal["auto"]
    outputs: Folder
    rerun: Literal["failed", "all", "none"]
    tracking: Tracking


class _Keep(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    snapshots: Kept
    checkpoints: KeptWeights


class Tracking(BaseModel):
    """uri: an MLflow tracking URI, null: SQLite under `outputs`; experiment: its name, null: the dataset's."""

    model_config = ConfigDict(extra="forbid", strict=True)
    enabled: bool
    uri: str | None
    experiment: Name | None


def check(raw: Mapping[str, Any]) -> RunConfig:
    """The plain nested mapping of a composed configuration → a RunConfig.

    Raises ConfigError: unknown or missing keys (valid ones listed), wrong types, values out of bounds, targets that
    cannot be imported or are not callable. All faults of the first faulty part are in the one message.
    """
    groups = {"dataset", "architecture", "loss", "optimizer"}
    if missing := sorted(groups - raw.keys()):
        raise ConfigError(
            f"configuration: expected the groups {', '.join(sorted(groups))}, got none for {', '.join(missing)}."
        )
    groups.add("analysis")  # may be empty: then only loss and error are recorded
    scalars = validated("", _Scalars, {key: value for key, value in raw.items() if key not in groups}, groups)
    if (scalars["precision"], scalars["device"]) == ("tf32", "cpu"):
        raise ConfigError("precision: expected fp32 or bf16 with device=cpu, got tf32, which only GPUs have.")
    optimizer, schedule = raw["optimizer"], None
    if isinstance(optimizer, Mapping):
        optimizer = dict(optimizer)
        schedule = optimizer.pop("schedule", None)
    keep, evaluated = _keep_and_evaluated(scalars.pop("keep"), scalars.pop("evaluate_at"), scalars["epochs"])
    config = RunConfig(
        dataset=Component.check("dataset", raw["dataset"], SUPPLIED["dataset"]),
        architecture=Component.check("architecture", raw["architecture"], SUPPLIED["architecture"]),
        loss=Component.check("loss", raw["loss"], SUPPLIED["loss"]),
        optimizer=Component.check("optimizer", optimizer, SUPPLIED["optimizer"]),
        schedule=Component.check("optimizer.schedule", schedule, SUPPLIED["optimizer.schedule"]),
        analyses=check_analyses(raw.get("analysis")),
        evaluated=evaluated,
        keep=keep,
        outputs=Path(scalars.pop("outputs")).absolute(),
        raw=dict(raw),
        **scalars,
    )
    rate = config.optimizer.options.get("lr")
    if isinstance(rate, bool) or not isinstance(rate, int | float | None):  # runs are found, named and compared by it
        raise ConfigError(f"optimizer.lr: expected a number, got {shown(rate)}. Give another option another name.")
    return config


def check_analyses(raw: Mapping[str, Any] | None) -> dict[str, Component]:
    """The group `analysis` → a component for each. Raises ConfigError as `check` does."""
    if not isinstance(raw, Mapping | None):
        raise ConfigError(f"analysis: expected choices, got {shown(raw)}. As in analysis=[collapse,robustness].")
    for name in raw or {}:
        if not is_name(name):  # their journals bear it
            raise ConfigError(f"analysis: expected names of {NAME_CONTRACT}, got {shown(name)}. Choose another.")
    return {
        name: Component.check(f"analysis.{name}", analysis, SUPPLIED["analysis"])
        for name, analysis in (raw or {}).items()
    }


def check_outputs(outputs: Path) -> None:
    """Raises ConfigError, before anything is written, where no file could be made in that folder."""
    if fault := outputs_fault(outputs):
        raise ConfigError(f"outputs: expected a folder that takes files, got {str(outputs)!r} ({fault}). Name another.")


def _keep_and_evaluated(keep: dict[str, Any], evaluate_at: list[int], epochs: int) -> tuple[Keep, list[int]]:
    """What is kept, and the evaluated epochs: an epoch whose files are kept is evaluated."""
    named: set[int] = set()
    for kind, chosen in keep.items():
        if isinstance(chosen, list):
            if late := [epoch for epoch in chosen if epoch > epochs]:
                raise ConfigError(f"keep.{kind}: expected epochs of at most {epochs}, got {late[0]}. Name others.")
            named.update(chosen)
    return Keep(**keep), sorted({*(epoch for epoch in evaluate_at if epoch <= epochs), epochs, *named})
