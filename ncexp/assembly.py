"""configuration → dataset → network → objective: everything a training is made of, built before anything is written."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

import torch
from torch import nn

from ncexp.analyses import Look, Probes, take_look
from ncexp.analyses.probes import Reduction
from ncexp.architectures import last_layer
from ncexp.checkpoint import Position
from ncexp.config import ConfigError, RunConfig
from ncexp.datasets import Dataset
from ncexp.distributed import SINGLE, Processes
from ncexp.journal import Record
from ncexp.memory import keep_freed_memory
from ncexp.precision import allow_tf32, check_precision
from ncexp.ridge import Ridge, ridge_of
from ncexp.training import Training

Analysis = Callable[[Look], Iterator[tuple[str, float]]]


@dataclass
class Assembly:
    """The parts of one run, put together."""

    dataset: Dataset
    training: Training
    ridge: Ridge
    analyses: list[Analysis]
    device: torch.device

    def look(self) -> Record:
        """Loss, error and every analysis of train and test features, by name; the network is left in eval mode."""
        record: Record = {}
        class_means = None
        epoch = self.training.position.epoch - 1  # of the epoch under way nothing is trained yet
        for split, data in (("train", self.dataset.train), ("test", self.dataset.test)):
            network, loss = self.training.network, self.training.loss
            num_classes = self.dataset.num_classes
            probes = Probes(network, _probed(self.analyses), num_classes)
            look = take_look(
                split, epoch, network, data, loss, self.ridge, num_classes, probes, class_means, self.training.processes
            )
            class_means = look.class_means
            record[f"{split}/loss"], record[f"{split}/error"] = look.loss, look.error
            for analysis in self.analyses:
                record.update(analysis(look))
        return record

    def facts(self) -> dict[str, Any]:
        """What follows from the configuration and is worth reading beside it: sizes, and λ with its convention."""
        classifier = self.training.network.classifier
        assert isinstance(classifier, nn.Linear)
        sizes = torch.bincount(self.dataset.train.labels, minlength=self.dataset.num_classes)
        return {
            "num_classes": self.dataset.num_classes,
            "num_train": len(self.dataset.train),
            "num_test": len(self.dataset.test),
            "smallest_class": int(sizes.min()),
            "largest_class": int(sizes.max()),
            "num_features": classifier.in_features,
            "num_parameters": sum(p.numel() for p in self.training.network.parameters()),
            **self.dataset.facts,
            **{f"ridge_{name}": value for name, value in asdict(self.ridge).items()},
        }

    def environment(self) -> dict[str, Any]:
        """Where it runs: what may change between a start and a resumption."""
        return {
            "host": platform.node(),
            "device": torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "cpu",
            "processes": self.training.processes.size,
            "threads": torch.get_num_threads(),
            "python": platform.python_version(),
            **{package: version(package) for package in ("ncexp", "torch", "torchvision", "hydra-core", "mlflow")},
        }


def build_dataset(config: RunConfig) -> Dataset:
    """The data alone, on the CPU. Raises ConfigError where they are not there, or an option is refused."""
    try:
        dataset: Dataset = config.dataset.build()
    except ValueError as error:
        raise ConfigError(str(error)) from error
    return dataset


def assemble(config: RunConfig, dataset: Dataset | None = None, processes: Processes = SINGLE) -> Assembly:
    """Build every part from its component; seeds torch's generators first, so the initialisation is the seed's.

    dataset: what `build_dataset` answered for the same choice, if it is there already; processes: those that share the
    run; their parts begin alike.

    Raises ConfigError for what only the parts together can tell: a batch larger than the data, a device that is not
    there, a value that a component refuses, a network that does not answer as it must.
    """
    device = _device(config.device)
    allow_tf32(False)
    torch.manual_seed(config.seed)
    torch.backends.cudnn.deterministic = True  # the same seed gives the same journal
    dataset = build_dataset(config) if dataset is None else dataset
    if device.type == "cpu":
        keep_freed_memory()  # from here on: what the decoding of the data took goes back
    try:
        check_precision(config.precision, device)
        if config.batch_size > len(dataset.train):
            raise ValueError(
                f"batch_size: expected at most the {len(dataset.train)} training examples, got {config.batch_size}."
            )
        processes.refuse_unequal(len(dataset.train), config.batch_size)
        dataset = dataset.to(device)
        network = config.architecture.build(input_shape=dataset.input_shape, num_classes=dataset.num_classes)
        network = network.to(device, memory_format=torch.channels_last)  # twice as fast on a CPU's convolutions
        classifier = last_layer(network, next(dataset.train.batches(2))[0])
        loss = config.loss.build(num_classes=dataset.num_classes)
        optimizer = config.optimizer.build(parameters=network.parameters())
        training = Training(
            network=network,
            loss=loss,
            optimizer=optimizer,
            schedule=config.schedule.build(epochs=config.epochs),
            data=dataset.train,
            batch_size=config.batch_size,
            seed=config.seed,
            position=Position(),
            precision=config.precision,
            compiled=config.compile,
            processes=processes,
        )
        analyses = [analysis.build() for analysis in config.analyses.values()]
        Probes(network, _probed(analyses), dataset.num_classes)  # refuses names of no submodule now, not after an epoch
    except ValueError as error:
        raise ConfigError(str(error)) from error
    ridge = ridge_of(optimizer, classifier, getattr(loss, "half_mse_scale", None))
    return Assembly(dataset, training, ridge, analyses, device)


def _probed(analyses: list[Analysis]) -> dict[str, Reduction]:
    """The submodules that the analyses want watched: those of each that has `probes`."""
    return {name: reduce for analysis in analyses for name, reduce in getattr(analysis, "probes", {}).items()}


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"device: expected one of {torch.cuda.device_count()} GPUs seen here, got {name}. Use device=cpu."
        )
    return device
