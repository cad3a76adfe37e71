"""The schema of `ncexp measure checkpoints=...`: the files of another training, and what that training was."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from ncexp.config.components import ConfigError, Count, digest, validated
from ncexp.config.run import Device, Keep, Kept, RunConfig, Tracking, check

#: What the network and the data are put together with where nothing is trained; none of it changes a number.
_NO_TRAINING = {"epochs": 1, "batch_size": 1, "precision": "fp32", "compile": False, "evaluate_at": [1]}
_NO_SCHEDULE = {"name": "constant", "_target_": "ncexp.training.optimizers.constant_schedule"}


@dataclass(frozen=True, kw_only=True)
class CheckpointsConfig:
    """Files of another training and what is to be measured on them.

    pattern: of their paths; state: where in a file the weights are, as `checkpoint.key`; prefix: of their names;
    epoch: where in a file or its name the epoch is; each None: found out. rate, seed: of that training, None where they
    are not known.
    run: data, network, loss and optimizer as a run has them, with analyses, device and the like.
    """

    pattern: str
    state: str | None
    prefix: str | None
    epoch: str | None
    rate: float | None
    seed: int | None
    run: RunConfig

    @property
    def name(self) -> str:
        """Readable words: ``cifar10-torchvision_resnet18-mse_checkpoints``; rate and seed where they are known."""
        run = self.run
        known = (f"_lr{self.rate:g}" if self.rate is not None else "") + (
            f"_seed{self.seed}" if self.seed is not None else ""
        )
        return f"{run.dataset.name}-{run.architecture.name}-{run.loss.name}{known}_checkpoints"

    @property
    def key(self) -> str:
        """Ten hexadecimal digits of the hash of what determines the numbers of a file, but for the file."""
        parts = (self.run.dataset, self.run.architecture, self.run.loss, self.run.optimizer)
        prefix = [] if self.prefix is None else [{"prefix": self.prefix}]  # earlier runs keep their keys
        return digest([*(part.identity() for part in parts), self.state, self.seed, *prefix])


class _Checkpoint(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    key: Annotated[str, Field(min_length=1)] | None
    prefix: str | None = None
    epoch: Annotated[str, AfterValidator(lambda place: _entry_or_pattern(place))] | None


class _Keep(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    snapshots: Kept
    checkpoints: Kept


class _Scalars(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    checkpoints: Annotated[str, Field(min_length=1)]
    checkpoint: _Checkpoint
    seed: Annotated[int, Field(ge=0)] | None
    keep: _Keep
    device: Device
    threads: Count | Literal["auto"]
    outputs: Annotated[str, Field(min_length=1)]
    rerun: Literal["missing", "all"]
    tracking: Tracking


def check_checkpoints(raw: Mapping[str, Any]) -> CheckpointsConfig:
    """The plain mapping of a composed configuration → a CheckpointsConfig. Raises ConfigError as `check` does."""
    groups = {"dataset", "architecture", "loss", "optimizer", "analysis"}
    scalars = validated("", _Scalars, {key: value for key, value in raw.items() if key not in groups}, groups)
    parts = {name: raw[name] for name in groups if name in raw}
    optimizer = {name: value for name, value in raw.get("optimizer", {}).items() if name != "schedule"}
    if optimizer.get("weight_decay", 0.0) is None:  # what is not said is not assumed: λ follows from it
        raise ConfigError(
            "optimizer.weight_decay: expected that of the training that left the checkpoints, got none. Set it, 0.0 "
            "for a training without."
        )
    rate = optimizer.get("lr")
    described = {**parts, "optimizer": optimizer}  # what is known of that training, and nothing else
    steps = {**optimizer, "lr": 1.0 if rate is None else rate, "schedule": _NO_SCHEDULE}
    place = {name: scalars[name] for name in ("device", "threads", "outputs", "tracking")}
    run = check(
        {
            **parts,
            **_NO_TRAINING,
            **place,
            "optimizer": steps,
            "seed": scalars["seed"] or 0,
            "keep": {"snapshots": "evaluated", "checkpoints": "evaluated"},
            "rerun": "all" if scalars["rerun"] == "all" else "failed",
        }
    )
    return CheckpointsConfig(
        pattern=scalars["checkpoints"],
        state=scalars["checkpoint"]["key"],
        prefix=scalars["checkpoint"]["prefix"],
        epoch=scalars["checkpoint"]["epoch"],
        rate=rate,
        seed=scalars["seed"],
        run=replace(run, keep=Keep(**scalars["keep"]), raw={**raw, **described}),
    )


def stored_run(raw: Mapping[str, Any]) -> RunConfig:
    """The config.yaml of a run directory → what its data and its network are built from. Raises ConfigError."""
    return check_checkpoints(raw).run if "checkpoints" in raw else check(raw)


def _entry_or_pattern(place: str) -> str:
    try:
        groups = re.compile(place).groups
    except re.error as error:
        raise ValueError(f"an entry of the file, or a regular expression ({error})") from None
    if groups != 1 and not re.fullmatch(r"[\w.]+", place):
        raise ValueError(r"an entry of the file, as global_step, or a regular expression with one group, as step_(\d+)")
    return place
