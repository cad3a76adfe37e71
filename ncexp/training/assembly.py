"""configuration → dataset → network → objective: everything a training is made of, built before anything is written."""

from __future__ import annotations

import platform
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal

import torch
from torch import nn

from ncexp.architectures import (
    ForeignNetwork,
    RenormalizedNetwork,
    answer_of,
    last_layer,
    memory_format_for,
    refuse_single_examples,
)
from ncexp.config import ConfigError, RunConfig
from ncexp.datasets import Dataset, check_data
from ncexp.datasets.augmentation import Augmentation
from ncexp.datasets.labelling import OF_EXAMPLES, class_counts
from ncexp.record import RunDirectory
from ncexp.training import machine
from ncexp.training.averages import Averages
from ncexp.training.canary import WrongGradients, check_gradients
from ncexp.training.checkpoint import Position
from ncexp.training.closures import LBFGS
from ncexp.training.distributed import SINGLE, Processes
from ncexp.training.loop import Training
from ncexp.training.losses import (
    objective_of,
)
from ncexp.training.machine import (
    allow_tf32,
    check_precision,
    check_threads,
    find_device,
    keep_freed_memory,
    restore_threads,
    seed_everything,
    seeded,
)
from ncexp.training.operations import Operations
from ncexp.training.optimizers import Parameters
from ncexp.training.parts import build_loss, build_network, build_optimizer
from ncexp.training.start import freeze, is_needed, load_start

#: Enough for batch norm; a small network takes 0.1 s for them.
CHECKED_EXAMPLES = 16
#: Floating-point operations of a training step below which `auto` is one thread on a CPU. Such a step is hundreds of
#: operations of microseconds each, after each of which threads wait for each other: little is won on an idle machine,
#: and where others work too, every wait is for a thread that does not run (docs/performance.md).
SMALL_STEP = 2e9


@dataclass
class Assembly:
    """The parts of one run, put together; criterion: the loss as it was built, which `training.loss` calls."""

    dataset: Dataset
    training: Training
    criterion: object
    device: torch.device
    #: A sentence for the run's log, where the memory layout is not the usual one; else "".
    layout: str = ""
    #: Likewise, of a training that begins with weights from a file.
    start: str = ""

    @property
    def half_mse_scale(self) -> float | None:
        """The loss's own; None where it is no multiple of the MSE."""
        scale: float | None = getattr(self.criterion, "half_mse_scale", None)
        return scale

    @property
    def no_ridge(self) -> str:
        """The loss's own reason why no λ follows from it; "" for none."""
        return str(getattr(self.criterion, "no_ridge", ""))

    @property
    def foreign(self) -> str:
        """A sentence for the run's log about a network that is not ours; else ""."""
        network = self.training.network
        return network.describe() if isinstance(network, ForeignNetwork) else ""

    @property
    def classifier(self) -> nn.Linear:
        """The last layer."""
        layer = self.training.network.classifier
        assert isinstance(layer, nn.Linear)
        return layer

    @property
    def frozen(self) -> str:
        """A sentence for the run's log about what is not trained; else ""."""
        return frozen.describe() if (frozen := self.training.frozen) else ""

    @property
    def lags(self) -> str:
        """A sentence for the run's log where what is evaluated will not be what is trained; else ""."""
        norms = [one for one in self.training.network.modules() if getattr(one, "running_mean", None) is not None]
        if not norms or not isinstance(self.training.optimizer, LBFGS | torch.optim.LBFGS):
            return ""
        return (
            "batch norm's running statistics move by a part an evaluation, and L-BFGS takes few and long steps: "
            "evaluated errors may be those of another network. Choose one without batch norm, as architecture=mlp "
            "architecture.batch_norm=false"
        )

    def check_gradients(self) -> None:
        """Refuse gradients that a wrong kernel makes, on a CPU, once in this process for each network shape.

        Raises ConfigError, naming the layer; see `ncexp.training.canary`.
        """
        training = self.training
        if self.device.type != "cpu" or training.processes.size > 1:
            return
        # torch.compile makes a program for each size of batch: the check must not cost one of its own.
        count = training.batch_size if training.compiled else CHECKED_EXAMPLES
        inputs, labels = next(training.data.batches(count))
        try:
            given = (training.network, training.forward, training.loss, inputs, labels)
            check_gradients(*given, precision=training.precision, compiled=training.compiled)
        except WrongGradients as error:
            raise ConfigError(str(error)) from error

    def facts(self) -> dict[str, Any]:
        """What follows from the configuration and is worth reading beside it: sizes."""
        network, labelling = self.training.network, self.dataset.labelling
        splits, outputs = self.dataset.splits, self.dataset.num_classes
        left_out: dict[str, Any] = {}
        if targets := self.dataset.targets:
            count: dict[str, Any] = {"num_targets": outputs}
            of_labels: dict[str, Any] = {"targets": targets.names, "target_scales": targets.scales}
        else:
            counts = [class_counts(name, split.labels, outputs) for name, split in splits.items()]
            measured = labelling.measured(counts)
            sizes = counts[0] if measured is None else counts[0][measured]
            left_out = {} if measured is None else labelling.facts(len(measured), outputs)
            count = {"num_classes": len(sizes)}
            of_labels = {"smallest_class": int(sizes.min()), "largest_class": int(sizes.max())}
        return {
            **count,
            "num_train": len(self.dataset.train),
            "num_test": len(self.dataset.test),
            "input_shape": list(self.dataset.input_shape),
            **of_labels,
            "num_features": self.classifier.in_features,
            "num_parameters": sum(p.numel() for p in network.parameters()),
            **({"num_frozen": frozen.size} if (frozen := self.training.frozen) else {}),
            **(network.facts if isinstance(network, ForeignNetwork) else {}),
            **self.dataset.facts,
            **left_out,
        }


def environment(device: torch.device, processes: Processes) -> dict[str, Any]:
    """Where a run is trained: what may change between a start and a resumption."""
    versions = {}
    for package in ("ncexp", "torch", "torchvision", "hydra-core", "mlflow"):
        with suppress(PackageNotFoundError):  # without tracking, a run does without mlflow
            versions[package] = version(package)
    return {
        "host": platform.node(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "processes": processes.size,
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        **versions,
    }


def build_dataset(config: RunConfig) -> Dataset:
    """The data alone, on the CPU. Raises ConfigError where they are not there, or an option is refused."""
    try:
        dataset = check_data(config.dataset.build_a(Dataset))
    except ValueError as error:
        raise ConfigError(str(error)) from error
    return dataset


def assemble(
    config: RunConfig, dataset: Dataset | None = None, processes: Processes = SINGLE, *, trains: bool = True
) -> Assembly:
    """Build every part from its component.

    The random generators are seeded before the data are built and again after it: a data set's own function may seed
    them otherwise, and the initialisation must follow from `config.seed` alone.

    dataset: what `build_dataset` returned for the same choice, if it has been called. processes: those that share the
    run; all build the same parts. trains: whether training steps will follow; then the batches are checked as well.

    Raises ConfigError for what only the parts together can tell: a batch larger than the data, a device that is not
    there, a value that a component refuses, a network whose output is not (logits, features).
    """
    device = find_device(config.device)
    allow_tf32(False)
    seed_everything(config.seed)
    torch.backends.cudnn.deterministic = True  # the same seed gives the same journal
    dataset = build_dataset(config) if dataset is None else dataset
    seed_everything(config.seed)
    if device.type == "cpu":
        keep_freed_memory()  # from here on: what the decoding of the data took goes back
    try:
        return _put_together(config, dataset, device, processes, trains)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _put_together(
    config: RunConfig, dataset: Dataset, device: torch.device, processes: Processes, trains: bool
) -> Assembly:
    check_precision(config.precision, device)
    check_threads(config.threads)
    if config.batch_size > len(dataset.train):
        raise ValueError(
            f"batch_size: expected at most the {len(dataset.train)} training examples, got {config.batch_size}."
        )
    if trains and dataset.labelling != OF_EXAMPLES:
        raise ValueError(
            "dataset: expected labels (n,) of which every class occurs, to train on, got labels of tokens or of "
            "occurring classes. They are measured: ncexp measure checkpoints=..., or ncexp.Recorder in your own loop."
        )
    processes.refuse_unequal(len(dataset.train), config.batch_size)
    dataset = dataset.to(device)
    network = build_network(config, dataset)
    if trains and torch.initial_seed() != config.seed:
        raise ValueError(
            f"architecture: expected a network that begins as seed={config.seed} has it, got one of "
            f"{config.architecture.name}, which seeds torch with {torch.initial_seed()} itself: every seed would be "
            "one training. Take torch.manual_seed out of it."
        )
    layout, sentence = memory_format_for(network) if device.type == "cpu" else (torch.channels_last, "")
    network = network.to(device, memory_format=layout)  # channels-last is twice as fast on a CPU's convolutions
    inputs = next(dataset.train.batches(CHECKED_EXAMPLES))[0]
    classifier = last_layer(network, inputs, trains=trains)
    start = _load_start(config, network, classifier) if trains else ""
    frozen = freeze(config.start, network, classifier, config.regime)
    part = config.batch_size // config.steps.accumulate  # of a batch, computed at once
    if trains and (len(dataset.train) - 1) % part == 0 and processes.size == 1:
        still = frozen.modules if frozen else ()
        refuse_single_examples(network, inputs, part, len(dataset.train), but=still)
    loss = build_loss(config, dataset, classifier, processes, trains)
    if config.regime == "renormalized":
        network = RenormalizedNetwork(network, classifier)
    augmentation, views = None, getattr(loss, "views", 1)
    if config.augment.chosen:
        augmentation = Augmentation.of(config.augment, dataset, config.seed, views)
    parameters = Parameters(network, frozen.tensors() if frozen else ())
    training = Training(
        network=network,
        loss=objective_of(loss),
        optimizer=build_optimizer(config, parameters, processes),
        schedule=config.schedule.build_a(Callable, epochs=config.epochs),
        data=dataset.train,
        batch_size=config.batch_size,
        seed=config.seed,
        position=Position(),
        precision=config.precision,
        compiled=config.compile,
        processes=processes,
        frozen=frozen,
        augmentation=augmentation,
        steps=config.steps,
        averages=Averages(network, config.steps, config.epochs) if trains and config.steps.average else None,
    )
    return Assembly(dataset, training, loss, device, sentence, start)


def _load_start(config: RunConfig, network: nn.Module, classifier: nn.Linear) -> str:
    """What `load_start` returns; "" for a training that begins with the network's own weights, or goes on."""
    if not is_needed(config.start, RunDirectory(config.directory), anew=config.rerun == "all"):
        return ""
    with seeded(config.seed):  # a reader of files may draw numbers, which the training must not feel
        return load_start(config.start, network, classifier)


def set_threads(asked: int | Literal["auto"], training: Training, directory: RunDirectory) -> str:
    """Set torch's number of threads for a run; returns a sentence for its log.

    A run that has begun, on whatever machine, goes on with the number that it began with. Else asked; "auto" is one for
    a step of fewer than SMALL_STEP operations on a CPU, and what torch chose otherwise.
    """
    if begun := restore_threads(directory):
        return begun
    if asked == "auto":
        asked = machine.DEFAULT_THREADS
        if training.data.labels.device.type == "cpu":
            inputs, labels = next(training.data.batches(2))
            with Operations() as counter:
                answer_of(training.network, inputs)
            if 3 * training.batch_size * counter.total / len(labels) < SMALL_STEP:
                asked = 1
    torch.set_num_threads(asked)
    return f"{torch.get_num_threads()}"
