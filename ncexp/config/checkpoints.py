"""The schema of `ncexp measure checkpoints=...`: the files of another training, and what that training was."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from ncexp.config.components import ConfigError, Seed, digest, part, read
from ncexp.config.names import shown
from ncexp.config.run import Keep, Kept, RunConfig, check
from ncexp.config.start import divide

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
        rate = "" if self.rate is None else f"_lr{self.rate:g}"
        seed = "" if self.seed is None else f"_seed{self.seed}"
        return f"{self.run.dataset.name}-{self.run.architecture.name}-{self.run.loss.name}{rate}{seed}_checkpoints"

    @property
    def key(self) -> str:
        """Ten hexadecimal digits of the hash of what determines the numbers of a file, but for the file."""
        parts = (self.run.dataset, self.run.architecture, self.run.loss, self.run.optimizer)
        prefix = [] if self.prefix is None else [{"prefix": self.prefix}]  # earlier runs keep their keys
        frozen = [begun] if (begun := {**self.run.start.identity(), **self.run.head.identity()}) else []  # likewise
        return digest([*(part.identity() for part in parts), self.state, self.seed, *prefix, *frozen])


def _entry_or_pattern(place: str) -> str:
    try:
        groups = re.compile(place).groups
    except re.error as error:
        raise ValueError(f"an entry of the file, or a regular expression ({error})") from None
    if groups != 1 and not re.fullmatch(r"[\w.]+", place):
        raise ValueError(r"an entry of the file, as global_step, or a regular expression with one group, as step_(\d+)")
    return place


def _places(
    *,
    key: Annotated[str, Field(min_length=1)] | None,
    prefix: str | None = None,
    epoch: Annotated[str, AfterValidator(_entry_or_pattern)] | None,
) -> tuple[str | None, str | None, str | None]:
    return key, prefix, epoch


@dataclass(frozen=True)
class _KeepOfFiles(Keep):
    checkpoints: Kept


def check_checkpoints(raw: Mapping[str, Any]) -> CheckpointsConfig:
    """The nested mapping of a composed configuration → a CheckpointsConfig. Raises ConfigError as `check` does."""
    return read(_described, raw)


def _described(
    *,
    checkpoints: Annotated[str, Field(min_length=1)],
    checkpoint: Annotated[Any, part("checkpoint", _places)],
    seed: Seed | None,
    keep: Annotated[Keep, part("keep", _KeepOfFiles)],
    rerun: Literal["missing", "all"],
    optimizer: dict[str, Any],
    raw: Mapping[str, Any],
    # As those of a run, which checks them.
    dataset: Any,
    architecture: Any,
    loss: Any,
    analysis: Any = None,
    device: Any,
    threads: Any,
    outputs: Any,
    tracking: Any,
) -> CheckpointsConfig:
    optimizer = {name: value for name, value in optimizer.items() if name != "schedule"}
    if optimizer.get("weight_decay", 0.0) is None:  # what is not said is not assumed: λ follows from it
        raise ConfigError(
            "optimizer.weight_decay: expected that of the training that left the checkpoints, got none. Set it, 0.0 "
            "for a training without."
        )
    if (weights := divide(architecture)[1].get("weights")) is not None:
        raise ConfigError(
            f"architecture.weights: expected none beside checkpoints=..., whose files are the weights, got "
            f"{shown(weights)}. Leave it out."
        )
    rate = optimizer.get("lr")
    run = check(
        {
            "dataset": dataset,
            "architecture": architecture,
            "loss": loss,
            "optimizer": {**optimizer, "lr": 1.0 if rate is None else rate, "schedule": _NO_SCHEDULE},
            "analysis": analysis,
            **_NO_TRAINING,
            "seed": seed or 0,
            "keep": {"snapshots": "evaluated", "checkpoints": "evaluated"},
            "device": device,
            "threads": threads,
            "outputs": outputs,
            "rerun": "all" if rerun == "all" else "failed",
            "tracking": tracking,
        }
    )
    state, prefix, epoch = checkpoint
    # What is known of that training, and nothing else.
    run = replace(run, keep=keep, raw={**raw, "optimizer": optimizer})
    return CheckpointsConfig(
        pattern=checkpoints, state=state, prefix=prefix, epoch=epoch, rate=rate, seed=seed, run=run
    )


def stored_run(raw: Mapping[str, Any]) -> RunConfig:
    """The config.yaml of a run directory → what its data and its network are built from. Raises ConfigError."""
    return check_checkpoints(raw).run if "checkpoints" in raw else check(raw)
