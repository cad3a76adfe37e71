"""What a loop that is not ours says of itself: its configuration, its facts, and whether it is the one on record."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from ncexp.config import Component, ConfigError
from ncexp.config.installed import read_choice
from ncexp.measure.loaders import LoadedExamples
from ncexp.measure.ridge import innermost, ridge_facts
from ncexp.measure.snapshot import Snapshot
from ncexp.measure.tapped import TappedNetwork
from ncexp.record import RunDirectory, read_config
from ncexp.training.optimizers import DECOUPLED

#: The entry of config.yaml by which a run is known as that of a loop of one's own.
MARK = "recorder"
Loss = Callable[..., Tensor]
#: What a group of an optimizer may say of its decay: torch's names, and that of `ncexp.training.optimizers`.
DECAYS = ("weight_decay", "decoupled_weight_decay", DECOUPLED, "lambd")


def choose_loss(loss: str | Loss, num_classes: int) -> tuple[dict[str, Any], Loss]:
    """The entry of config.yaml and the callable, of a name in conf/loss or of a callable (logits, labels)."""
    if isinstance(loss, str):
        raw = read_choice("loss", loss)
        return raw, Component.check("loss", raw).build(num_classes=num_classes)
    if isinstance(loss, nn.MSELoss):
        raise ConfigError(
            "loss: expected a callable (logits, labels), got torch.nn.MSELoss, which takes one-hot targets. "
            'Use loss="mse_mean", the same on one-hot targets, or "mse", half the sum over the classes.'
        )
    return _described(getattr(loss, "__name__", type(loss).__name__), loss), loss


def choose_analyses(analyses: Sequence[str] | Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The group `analysis` of config.yaml; an entry with a _target_ of its own is one that conf/analysis lacks."""
    chosen = analyses if isinstance(analyses, Mapping) else {name: {} for name in analyses}
    return {
        name: {"name": name, **options} if "_target_" in options else read_choice("analysis", name, **options)
        for name, options in chosen.items()
    }


def describe(
    dataset: tuple[str | None, LoadedExamples], architecture: tuple[str | None, TappedNetwork], num_classes: int
) -> dict[str, Any]:
    """The entries of config.yaml for (name or None, training examples) and (name or None, network): without a name,
    the class's; and the shapes by which another dataset or network of this name is told apart.
    """
    examples, network = dataset[1], architecture[1]
    data, model = getattr(examples.given, "dataset", examples.given), network.model
    shapes = {"num_classes": num_classes, **examples.shapes}
    return {
        "dataset": _described(dataset[0] or type(data).__name__, data) | shapes,
        "architecture": _described(architecture[0] or type(model).__name__, model)
        | {
            "num_features": network.classifier.in_features,
            "num_parameters": sum(parameter.numel() for parameter in model.parameters()),
        },
    }


def describe_optimizer(
    optimizer: Optimizer | None, weight_decay: tuple[float, float], decoupled: bool, lr: float | None
) -> dict[str, Any]:
    """The entry of config.yaml: the optimizer's class, rate and decay as it stands, or the numbers stated instead.

    Of a scheduled rate it is the one that the schedule began with, as far as torch notes it (`initial_lr`). Where the
    groups of an optimizer differ, a list has the value of each.
    Raises ConfigError where a decay is stated beside the optimizer, and for what is none.
    """
    described: dict[str, Any] = {"name": "own", "_target_": "ncexp.Recorder", "lr": None if lr is None else float(lr)}
    if optimizer is None:
        return described | {"weight_decay": _shared(weight_decay), "decoupled_weight_decay": decoupled}
    if not getattr(innermost(optimizer), "param_groups", None):
        raise ConfigError(
            f"optimizer: expected a torch.optim.Optimizer with parameters, got {type(optimizer).__name__}. Pass that "
            "of the loop, or state weight_decay instead."
        )
    if decoupled or weight_decay != (0.0, 0.0):
        raise ConfigError(
            f"weight_decay: expected none beside optimizer, whose own is read, got {weight_decay}, decoupled: "
            f"{decoupled}. Leave one of them out."
        )
    kind, groups = type(innermost(optimizer)), innermost(optimizer).param_groups
    found = [group.get("initial_lr", group.get("lr")) for group in groups]
    rates = [None if rate is None else float(rate) for rate in found]
    described |= {"lr": rates[0]} if lr is None and len({*rates}) == 1 else {}
    described |= {} if {*rates} == {described["lr"]} else {"rates": rates}
    decays = {name: [float(group.get(name) or 0) for group in groups] for name in DECAYS}
    decays = {name: values for name, values in decays.items() if any(values) or name == "weight_decay"}
    return {**described, "class": f"{kind.__module__}.{kind.__qualname__}"} | {
        name: _shared(values) for name, values in decays.items()
    }


def facts_of(
    snapshot: Snapshot, network: nn.Module, splits: Mapping[str, Any], before: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The content of facts.json: sizes, and λ with its convention; before: what it was at another epoch; splits: the
    data, of which `read_train` says how what was read differs from the dataset, where it is known to.

    Where λ has changed since, it is that of this epoch, and the convention says so.
    """
    ridge = ridge_facts(snapshot.ridge)
    if before and any(before[name] != ridge[name] for name in ("ridge_weight", "ridge_bias")):
        ridge["ridge_convention"] += f"; at epoch {snapshot.epoch}: it has changed, mse/ridge_weight has that of each"
    statistics = {name: split.statistics for name, split in snapshot.splits.items()}
    counts = statistics["train"].counts
    loaded = {name: getattr(data, "incomplete", "") for name, data in splits.items()}
    return {
        "num_classes": statistics["train"].num_classes,
        **{f"num_{name}": of_split.num_examples for name, of_split in statistics.items()},
        **{f"read_{name}": words for name, words in loaded.items() if words},
        "smallest_class": int(counts.min()),
        "largest_class": int(counts.max()),
        "num_features": statistics["train"].num_features,
        "num_parameters": sum(parameter.numel() for parameter in network.parameters()),
        **ridge,
    }


def refuse_another(directory: RunDirectory, raw: Mapping[str, Any]) -> None:
    """Raises ConfigError where the directory is of a training of ours, or of a loop with other options than `raw`, as
    far as these are known: dataset and architecture are at the first evaluation.
    """
    if not directory.config.exists():
        return
    noted = read_config(directory.config)
    if MARK not in noted:
        raise ConfigError(
            f"directory: expected a new one, or that of a Recorder, got {directory.path}, a training of ncexp's. "
            "Name another one."
        )
    for name in ("loss", "optimizer", "seed", "dataset", "architecture"):
        if name in raw and noted[name] != raw[name]:
            raise ConfigError(
                f"{name}: expected {noted[name]}, as {directory.path} was begun with, got {raw[name]}. "
                "Name another directory for another run."
            )


def _shared(values: Sequence[float]) -> float | list[float]:
    """The value that all have, or those of each."""
    numbers = [float(value) for value in values]
    return numbers[0] if len({*numbers}) == 1 else numbers


def _described(name: str, one: Any) -> dict[str, Any]:
    kind = one if hasattr(one, "__qualname__") else type(one)
    return {"name": name, "_target_": f"{kind.__module__}.{kind.__qualname__}"}
