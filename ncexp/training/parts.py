"""A run's network, loss and optimizer, each built from its choice and held against the other parts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ncexp.architectures import put_head
from ncexp.config import ConfigError, RunConfig
from ncexp.datasets import Dataset
from ncexp.datasets.labelling import OF_EXAMPLES, class_counts
from ncexp.training.class_losses import tell_class_counts
from ncexp.training.closures import refuse_repeated
from ncexp.training.distributed import Processes
from ncexp.training.losses import (
    Objective,
    is_mean_of_targets,
    label_weights,
    objective_of,
    refuse_other_task,
    refuse_other_than_scalar,
    refuse_soft_labels,
)
from ncexp.training.machine import is_out_of_memory
from ncexp.training.margin_losses import refuse_other_head
from ncexp.training.optimizers import Parameters
from ncexp.training.regimes import refuse_regime, smallest_batch


def build_network(config: RunConfig, dataset: Dataset) -> Any:
    """Raises ValueError where the machine has not the memory for the parameters."""
    try:
        network = config.architecture.build_a(
            nn.Module, input_shape=dataset.input_shape, num_classes=dataset.num_classes
        )
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise ValueError(
            f"architecture: expected parameters that fit into memory, got {config.architecture.options} for inputs "
            f"{dataset.input_shape} ({str(error).partition(chr(10))[0]}). Reduce its width, or the inputs."
        ) from error
    if dataset.targets is not None and config.head.kind not in ("linear", "no_bias"):
        raise ValueError(
            f"architecture.head: expected linear or no_bias with targets, got {config.head.kind}, whose rows stand for "
            "classes. Choose one of these."
        )
    put_head(network, config.head)
    return network


def build_loss(
    config: RunConfig, dataset: Dataset, classifier: nn.Linear, processes: Processes, trains: bool
) -> Callable[..., Tensor]:
    """Raises ValueError for a loss that does not go with the data, the last layer, or how its batches are taken."""
    loss: Callable[..., Tensor] = config.loss.build_a(Callable, num_classes=dataset.num_classes)
    of_targets = dataset.targets is not None
    refuse_other_task(loss, config.loss.name, of_targets)
    if not of_targets and dataset.labelling == OF_EXAMPLES:
        tell_class_counts(loss, class_counts("train", dataset.train.labels, dataset.num_classes))
    refuse_other_head(loss, config.loss.name, classifier)
    refuse_other_than_scalar(objective_of(loss), classifier.weight, of_targets)
    if of_targets and classifier.in_features < dataset.num_classes:
        raise ValueError(
            f"architecture: expected at least as many features as the {dataset.num_classes} targets, got "
            f"{classifier.in_features}. Widen the layer before the last."
        )
    if trains and (processes.size > 1 or config.steps.accumulate > 1):
        _refuse_parts(config, processes)
        _refuse_other_than_mean(objective_of(loss), classifier.weight, of_targets, processes)
    if config.regime != "plain":
        smallest = smallest_batch(len(dataset.train), config.batch_size)
        scale = getattr(loss, "half_mse_scale", None)
        refuse_regime(config.regime, scale, classifier, smallest, processes.size, of_targets)
    if (views := getattr(loss, "views", 1)) > 1 and not config.augment.chosen:
        raise ValueError(
            f"loss.views: expected 1 without dataset.augment, as all views of an image would be alike, got {views}. "
            "Say dataset.augment=[crop,flip], or another."
        )
    if config.augment.mixes:
        refuse_soft_labels(loss, config.loss.name, config.regime)
    return loss


def build_optimizer(config: RunConfig, parameters: Parameters, processes: Processes) -> Optimizer:
    """Raises ValueError, with the reason, for an optimizer that cannot train this network, or not so."""
    choice = config.optimizer
    if config.regime != "plain" and config.steps.average:
        raise ValueError(
            f"optimizer.average: expected none with regime={config.regime}, whose last layer is computed, got "
            f"{config.steps.average}. Leave it out."
        )
    try:
        made: Optimizer = choice.build_a(Optimizer, parameters=parameters)
    except (ValueError, TypeError) as error:
        if isinstance(error, ConfigError) or choice.target.startswith("ncexp."):
            raise
        raise ValueError(
            f"optimizer._target_: expected an optimizer that takes these options and every parameter of the network, "
            f"got {choice.target} ({error}). Change its options, or choose another."
        ) from error
    if isinstance(made, torch.optim.SparseAdam):
        raise ValueError(
            "optimizer._target_: expected an optimizer of dense gradients, which every network here has, got "
            "SparseAdam. Set optimizer=adam."
        )
    refuse_repeated(
        made,
        choice.name,
        {
            "precision": "bf16" if config.precision == "bf16" else None,
            "processes": processes.size if processes.size > 1 else None,
            "regime": None if config.regime == "plain" else config.regime,
            **{f"optimizer.{name}": config.steps.identity().get(name) for name in ("clip_norm", "accumulate")},
        },
    )
    return made


def _refuse_other_than_mean(loss: Objective, weight: Tensor, of_targets: bool, processes: Processes) -> None:
    """Raises ValueError for a loss whose gradients, averaged over the parts of a batch, are not the batch's."""
    weights = None if of_targets else label_weights(loss, weight)
    alike = is_mean_of_targets(loss, weight) if of_targets else weights is not None and bool((weights == 1).all())
    if not alike:
        where, instead = f"on {processes.size} processes", "Train on one"
        if processes.size == 1:
            where, instead = "with optimizer.accumulate", "Leave that out"
        raise ValueError(
            f"loss: expected a mean over the examples, each counted alike, {where}, got another. {instead}."
        )


def _refuse_parts(config: RunConfig, processes: Processes) -> None:
    """Raises ValueError where a batch is to be computed in parts that have to be together."""
    parts = config.steps.accumulate
    if parts > 1 and processes.size > 1:
        raise ValueError(
            f"optimizer.accumulate: expected 1 on {processes.size} processes, whose last batches may have other "
            f"numbers of parts, got {parts}. Leave it out, or train on one."
        )
    if parts > 1 and config.regime != "plain":
        raise ValueError(
            f"optimizer.accumulate: expected 1 with regime={config.regime}, whose last layer is that of a whole batch, "
            f"got {parts}. Leave it out."
        )
