"""The schema of a run: what may be chosen, of which type, within which bounds; checked before anything is built."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AliasPath, Field, PlainValidator

from ncexp.config import augment
from ncexp.config.augment import Augment, augment_of
from ncexp.config.components import Component, ConfigError, Count, Precision, Regime, Seed, choice, digest, part, read
from ncexp.config.names import NAME_CONTRACT, Folder, Name, is_name, shown
from ncexp.config.start import Head, Start, apart, divide, head_of, start_of
from ncexp.config.steps import Steps, divided, optimizer_of, refuse_uneven, steps_of

#: Which epochs' files are kept: the last one's, those of every evaluated epoch, or those of the epochs named.
Kept = Literal["last", "evaluated"] | list[Count]
#: Of weights also zero_error: the first epoch without training error, and the last.
KeptWeights = Literal["last", "zero_error", "evaluated"] | list[Count]


@dataclass(frozen=True)
class Keep:
    """What stays on the disk of each epoch; see conf/config.yaml for what it costs."""

    snapshots: Kept
    checkpoints: KeptWeights

    def keeps(
        self, kind: Literal["snapshots", "checkpoints"], epoch: int, last: int, zero_error: int | None = None
    ) -> bool:
        """Whether the file of this evaluated epoch is kept; last, zero_error: the run's epochs of these names."""
        chosen = getattr(self, kind)
        if isinstance(chosen, str):
            return chosen == "evaluated" or epoch == last or (chosen == "zero_error" and epoch == zero_error)
        return epoch in chosen


def _tracking(*, enabled: bool, uri: str | None, experiment: Name | None) -> dict[str, Any]:
    """uri: an MLflow tracking URI, null: SQLite under `outputs`; experiment: its name, null: the dataset's."""
    return {"enabled": enabled, "uri": uri, "experiment": experiment}


def _trial(*, study: Folder, number: int, pruner: str) -> dict[str, Any]:
    """study: the journal file of the search that asked for this run; number: which trial it is there."""
    return {"study": study, "number": number, "pruner": pruner}


def _device(name: str) -> str:
    if not re.fullmatch(r"auto|cpu|cuda(:(0|[1-9][0-9]{0,3}))?", name):
        raise ValueError("auto, cpu, cuda or cuda:k")
    return name


def check_analyses(raw: Any) -> dict[str, Component]:
    """The group `analysis` → a component for each; None: for none. Raises ConfigError as `check` does."""
    if not isinstance(raw, Mapping | None):
        raise ConfigError(f"analysis: expected choices, got {shown(raw)}. As in analysis=[collapse,robustness].")
    for name in raw or {}:
        if not is_name(name):  # their journals bear it
            raise ConfigError(f"analysis: expected names of {NAME_CONTRACT}, got {shown(name)}. Choose another.")
    return {name: Component.check(f"analysis.{name}", analysis) for name, analysis in (raw or {}).items()}


#: The analysis that `evaluate_augmented` adds.
AUGMENTED = "augmented"

# What several configurations have.
Device = Annotated[str, AfterValidator(_device)]
Threads = Count | Literal["auto"]
Tracking = Annotated[dict[str, Any], part("tracking", _tracking)]
Direction = Literal["minimize", "maximize"]
#: May be missing: then only loss and error are recorded.
Analyses = Annotated[
    dict[str, Component], Field(alias="analysis", default_factory=dict), PlainValidator(check_analyses)
]


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Everything about one run. What determines its weights is hashed into `key`; the rest is where and how it runs."""

    dataset: Annotated[Component, PlainValidator(augment.apart)]
    architecture: Annotated[Component, PlainValidator(apart)]
    loss: Annotated[Component, choice("loss")]
    optimizer: Annotated[Component, PlainValidator(optimizer_of)]
    schedule: Annotated[
        Component, Field(validation_alias=AliasPath("optimizer", "schedule")), choice("optimizer.schedule")
    ]
    #: What is measured while it trains. Not part of the key: any other analysis can be measured later.
    analyses: Analyses
    #: Seeds the initialisation and the order of the examples.
    seed: Seed
    epochs: Count
    batch_size: Count
    #: The arithmetic of the training steps; evaluation is in float32.
    precision: Precision
    #: Whether torch.compile makes a program of the network for the training steps: other roundings, the same sums.
    compile: bool
    #: plain: the last layer is trained; else it is the least-squares one of the features at every step.
    regime: Regime = "plain"  # which every run was before there was a choice
    #: Which weights the training begins with, and which of them it leaves as they are.
    start: Annotated[Start, Field(validation_alias=AliasPath("architecture")), PlainValidator(start_of)]
    #: What the last layer is.
    head: Annotated[Head, Field(validation_alias=AliasPath("architecture")), PlainValidator(head_of)]
    #: What the steps make of the images they train on; what is evaluated stays as it is.
    augment: Annotated[Augment, Field(validation_alias=AliasPath("dataset")), PlainValidator(augment_of)]
    #: How a step is made of an optimizer, and which weights are kept of it.
    steps: Annotated[Steps, Field(validation_alias=AliasPath("optimizer")), PlainValidator(steps_of)]
    #: Epochs after which the network is evaluated, ascending; `check` adds the last epoch and those kept by number.
    evaluated: Annotated[list[Count], Field(alias="evaluate_at", min_length=1)]
    keep: Annotated[Keep, part("keep", Keep)]
    #: Draws of each training image that are evaluated as well, changed as the steps change them: one more analysis.
    evaluate_augmented: Annotated[int, Field(ge=0, lt=2**31)] = 0
    #: auto (a GPU where there is one), cpu, cuda or cuda:k.
    device: Device
    #: Of torch, for a run that begins; auto: see `ncexp.training.set_threads`. Recorded, and restored on resumption.
    threads: Threads
    #: Folder under which runs and the embedded MLflow store lie.
    outputs: Folder
    #: What to do with a run that is there already: failed (train again what failed), all (train anew), none.
    rerun: Literal["failed", "all", "none"]
    tracking: Tracking
    #: What a search looks for, and in which direction; see `ncexp.record.objective`. Not part of the key.
    objective: str | Annotated[list[str], Field(min_length=1)] | None = None
    direction: Direction | list[Direction] | None = None
    #: Set by a search that ends bad trials early. Not part of the key.
    trial: Annotated[dict[str, Any] | None, part("trial", _trial)] = None
    #: The nested mapping this was read from, as written to the run's config.yaml.
    raw: dict[str, Any] = field(repr=False, compare=False)

    @property
    def key(self) -> str:
        """The training key: ten hexadecimal digits of the hash of what determines the weights, and of nothing else."""
        parts = ("dataset", "architecture", "loss", "optimizer", "schedule")
        chosen = {name: getattr(self, name).identity() for name in parts}
        values = {name: getattr(self, name) for name in ("seed", "epochs", "batch_size", "precision", "compile")}
        regime = {} if self.regime == "plain" else {"regime": self.regime}  # without it as before there was a choice
        start = {"start": begun} if (begun := self.start.identity()) else {}  # likewise
        head = {"head": last} if (last := self.head.identity()) else {}
        steps = {"steps": given} if (given := self.steps.identity()) else {}
        return digest({**chosen, **values, **regime, **start, **head, **steps, **self.augment.written()})

    @property
    def name(self) -> str:
        """Readable words: ``digits-resnet-mse_lr0.05_seed0``, ``digits-resnet-mse_on_path_lr0.05_seed0``."""
        rate = self.optimizer.options.get("lr")
        words = f"{self.dataset.name}-{self.architecture.name}-{self.loss.name}"
        words += "" if self.head.kind == "linear" else f"_{self.head.kind}"
        words += "" if self.regime == "plain" else f"_{self.regime}"
        return words + (f"_lr{rate:g}" if isinstance(rate, int | float) else "") + f"_seed{self.seed}"

    @property
    def directory(self) -> Path:
        """Where the run lies: the same configuration always finds the same directory again."""
        return self.outputs / f"{self.name}_{self.key}"


def check(raw: Mapping[str, Any]) -> RunConfig:
    """The nested mapping of a composed configuration → a RunConfig.

    Raises ConfigError, with a line for each fault: unknown or missing keys (valid ones listed), wrong types, values out
    of bounds, targets that cannot be imported or are not callable.
    """
    if isinstance(draws := raw.get("evaluate_augmented"), int) and draws > 0:
        given = raw.get("analysis")
        chosen = {"name": AUGMENTED, "_target_": "ncexp.measure.analyses.Augmented", "draws": draws}
        raw = {**raw, "analysis": {**(given if isinstance(given, Mapping) else {}), AUGMENTED: chosen}}
    config = read(RunConfig, raw)
    # With the file's digest and whole path: a job, or a resumption, would not know which file was meant.
    begun = {**divide(raw["architecture"])[0], **config.start.written(), **config.head.identity()}
    data = {**divide(raw["dataset"], "dataset", (augment.KEY,))[0], **config.augment.written()}
    optimizer = {**divided(raw["optimizer"])[0], **config.steps.identity(), "schedule": raw["optimizer"]["schedule"]}
    raw = {**config.raw, "dataset": data, "architecture": begun, "optimizer": optimizer}
    refuse_uneven(config.steps, config.batch_size)
    if (config.precision, config.device) == ("tf32", "cpu"):
        raise ConfigError("precision: expected fp32 or bf16 with device=cpu, got tf32, which only GPUs have.")
    rate = config.optimizer.options.get("lr")
    if isinstance(rate, bool) or not isinstance(rate, int | float | None):  # runs are found, named and compared by it
        raise ConfigError(f"optimizer.lr: expected a number, got {shown(rate)}. Give another option another name.")
    last = config.epochs
    evaluated = {epoch for epoch in config.evaluated if epoch <= last} | {last}
    for kind, chosen in vars(config.keep).items():
        if isinstance(chosen, list):  # an epoch whose files are kept is evaluated
            if late := [epoch for epoch in chosen if epoch > last]:
                raise ConfigError(f"keep.{kind}: expected epochs of at most {last}, got {late[0]}. Name others.")
            evaluated.update(chosen)
    return replace(config, evaluated=sorted(evaluated), raw=raw)


def check_outputs(outputs: Path) -> None:
    """Raises ConfigError where no file can be made in this folder, or in the nearest one above that is there.

    A pseudo file system such as /proc says only on trial that it takes no files. Nothing is left behind.
    """
    fault = ""
    there = next(folder for folder in (outputs, *outputs.parents) if os.path.lexists(folder))
    # SQLAlchemy 2.1 reads %25 in the address of an SQLite file as %, 2.0 as it stands; both take ? for its end.
    if sign := re.search(r"\?|%[0-9A-Fa-f]{2}", str(outputs)):
        fault = f"in the address of MLflow's store there {sign[0]} means something else"
    elif not there.is_dir():
        fault = f"{there} is no folder"
    else:
        try:
            tempfile.TemporaryFile(dir=there).close()
        except OSError as error:
            fault = f"{there}: {error.strerror}"
    if fault:
        raise ConfigError(f"outputs: expected a folder that takes files, got {str(outputs)!r} ({fault}). Name another.")
