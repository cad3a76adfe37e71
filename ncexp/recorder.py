"""A loop of one's own, recorded: `ncexp.Recorder`. The evaluation, the analyses and what is written are those of ncexp.

with ncexp.Recorder("outputs/mine", num_classes=10, classifier="fc", loss="mse_mean", weight_decay=5e-4) as recorder:
    for epoch in range(1, 101):
        train(model, train_loader)
        recorder.evaluate(epoch, model, train_loader, test_loader)
"""

from __future__ import annotations

import traceback
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from numbers import Integral
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import yaml
from torch import Tensor, nn
from torch.optim import Optimizer

from ncexp.config import Component, ConfigError, check_analyses
from ncexp.config.components import digest
from ncexp.config.installed import read_choice
from ncexp.datasets import Targets
from ncexp.datasets.labelling import IGNORED, OF_EXAMPLES, Labelling
from ncexp.measure import EpochEvaluator, LoadedData, LoadedExamples, Ridge, Snapshot, Subject, TappedNetwork
from ncexp.measure.evaluator import buffers_kept, seed_of, undisturbed
from ncexp.measure.loaders import one_loader
from ncexp.measure.ridge import describe_optimizer, ridge_facts, ridge_for, ridge_of
from ncexp.measure.stored import MARK
from ncexp.measure.tapped import plainly, take_first_buffers
from ncexp.record import Record, RunDirectory, State, read_config, read_json, write_json, write_text
from ncexp.record.provenance import code_state
from ncexp.report import draw_run
from ncexp.training import SINGLE, Diverged, environment, joined, objective_of, refuse_other_than_scalar
from ncexp.training.losses import refuse_other_task

Loss = Callable[..., Tensor]
#: What is measured unless something else is asked for: what `ncexp` itself measures.
ANALYSES = ("collapse", "decisions", "decomposition", "central_path")


class Recorder:
    """Evaluates the network of somebody's own loop, and keeps a run directory like any other.

    directory: of this run; a loop that was stopped goes on in the one that it began. num_classes: C; targets: in its
    place, the names of what a regression predicts, with loss="squared_error", the default then. classifier: the last
    nn.Linear, or its name in model.named_modules(). loss: "mse" (½ the sum over classes, mean over examples),
    "mse_mean" (torch.nn.MSELoss on one-hot targets), "cross_entropy", another name in conf/loss, or a callable (logits,
    labels) → the mean loss, from which λ follows if it has the attribute `half_mse_scale`. optimizer: the loop's, from
    which the decay of the last layer is read, and whether it acts through the gradient. Without it, weight_decay: of
    the last layer's weight and bias, a pair where they differ; decoupled_weight_decay: whether it acts beside the
    gradient, as that of AdamW, Muon and Adafactor does: then λ = 0. analyses: names in conf/analysis, or a mapping of
    names to options. classes, min_examples, ignore_index, shift_labels: as of `ncexp.datasets.labelling.Labelling`, for
    a model of tokens and for classes that do not all occur (docs/language_models.md). dataset, architecture, lr, seed:
    what tables call the run; None: the names of the classes, and a rate and seed that are not known.

    Of several processes (torch.distributed) each makes a Recorder and calls it alike; the first writes. The directory
    is made, and held, at the first evaluation.

    Raises ConfigError for an option that is refused, and where the directory is of a run with other ones; Busy where
    another process records there.
    """

    def __init__(
        self,
        directory: str | PathLike[str],
        *,
        num_classes: int | None = None,
        targets: Sequence[str] | None = None,
        classifier: nn.Linear | str,
        loss: str | Loss | None = None,
        optimizer: Optimizer | None = None,
        weight_decay: float | tuple[float, float] = 0.0,
        decoupled_weight_decay: bool = False,
        analyses: Sequence[str] | Mapping[str, Mapping[str, Any]] = ANALYSES,
        classes: Literal["all", "occurring"] = "all",
        min_examples: int = 1,
        ignore_index: int = IGNORED,
        shift_labels: bool | None = None,
        dataset: str | None = None,
        architecture: str | None = None,
        lr: float | None = None,
        seed: int | None = None,
    ) -> None:
        if (num_classes is None) == (targets is None):
            got = "neither" if num_classes is None else "both"
            raise ConfigError(f"num_classes: expected C, or targets, the names of those of a regression, got {got}.")
        self._targets = None if targets is None else Targets([*targets], [1.0] * len(targets))
        outputs = num_classes if self._targets is None else len(self._targets.names)
        self._directory, self._num_classes = RunDirectory(Path(directory)), int(outputs or 0)
        self._classifier, seed = classifier, None if seed is None else int(seed)
        self._names = (dataset, architecture)
        try:
            self._labelling = Labelling(
                classes=classes, min_examples=min_examples, ignore_index=ignore_index, shift_labels=shift_labels
            )
        except ValueError as error:
            raise ConfigError(str(error)) from error
        pair = weight_decay if isinstance(weight_decay, tuple) else (weight_decay, weight_decay)
        self._decay = (float(pair[0]), float(pair[1]))  # whatever kind of number it is
        self._optimizer, self._decoupled = optimizer, decoupled_weight_decay
        usual = "cross_entropy" if self._targets is None else "squared_error"
        chosen, self._loss = _choose_loss(usual if loss is None else loss, self._num_classes, self._targets is not None)
        asked = analyses if isinstance(analyses, Mapping) else {name: {} for name in analyses}
        analysis = {  # an entry with a _target_ of its own is one that conf/analysis lacks
            name: {"name": name, **options} if "_target_" in options else read_choice("analysis", name, **options)
            for name, options in asked.items()
        }
        self._components = check_analyses(analysis)
        stated = describe_optimizer(optimizer, self._decay, decoupled_weight_decay, lr)
        self._raw: dict[str, Any] = {"loss": chosen, "optimizer": stated, "seed": seed, "analysis": analysis}
        self._processes, self._lock = SINGLE, ExitStack()
        self._begun = self._closed = False
        self._ridge_noted: Ridge | None = None
        self._evaluated: set[int] = set()
        _refuse_another(self._directory, self._raw)
        self._directory.refuse_if_held()

    def evaluate(
        self,
        epoch: int,
        model: nn.Module,
        train_loader: Iterable[Any],
        test_loader: Iterable[Any] | None = None,
        outside: Mapping[str, Iterable[Any]] | None = None,
    ) -> Record:
        """Evaluate the model as it stands after `epoch` epochs; returns all numbers by name.

        The model's output is the logits (n, C), of tokens (n, tokens, V), has them as `.logits`, or is a tuple that
        begins with them. The loaders yield (inputs, labels), or mappings with an entry "labels"; how they are read
        stands in `ncexp.measure.loaders`.
        outside: for the analysis of this name, whose `datasets` name them: loaders of other data, prepared as train's.
        Modes of modules, gradients, hooks, buffers and random generators are afterwards as they were. The numbers of an
        epoch that is on record already are replaced; those of other epochs stay.

        Raises ValueError where the logits are not classifier(features), and for batches of another form; Diverged where
        a feature is not finite.
        """
        if self._closed or not isinstance(epoch, Integral) or epoch < 0:
            got = "a Recorder that is closed" if self._closed else repr(epoch)
            raise ValueError(f"epoch: expected the number of epochs trained, of an open Recorder, got {got}.")
        epoch = int(epoch)  # of NumPy it may be
        train_loader = one_loader("train_loader", train_loader)
        test_loader = None if test_loader is None else one_loader("test_loader", test_loader)
        self._processes = joined()  # only now: a launcher may start them after the Recorder was made
        network = TappedNetwork(model, self._classifier)
        with plainly(network), undisturbed(network, seed_of(epoch)), buffers_kept(network):
            network.eval()  # before anything is read: spectral_norm's weight moves with each reading in train mode
            subject = self._subject(network, train_loader, test_loader, outside or {})
            if self._processes.first and not self._begun:
                self._begin(network, subject.splits["train"])
            take_first_buffers(network, self._processes)
            evaluator = EpochEvaluator(self._directory, self._components, subject)
            snapshot, record = evaluator.write(epoch, keeps_snapshot=True, replace=True)
        if epoch in self._evaluated:
            again = f"epoch: expected one that this Recorder has not evaluated, got {epoch} again. It is replaced."
            warnings.warn(again, stacklevel=2)
        self._evaluated.add(epoch)
        if self._processes.first:
            self._note_facts(snapshot, subject)
            self._directory.clock.note(epoch)
            self._directory.set_status(State.RUNNING, epoch=epoch)
        return record

    def close(self) -> None:
        """End the record as completed and draw its figures; nothing more where it has ended."""
        self._end(State.COMPLETED, "")

    def __enter__(self) -> Recorder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
            return
        if self._begun:
            with self._directory.log.open("a", encoding="utf-8") as log:
                log.writelines(traceback.format_exception(error))
        state = State.DIVERGED if isinstance(error, Diverged) else State.INTERRUPTED
        self._end(state, f"{type(error).__name__}: {error}")

    def _subject(
        self,
        network: TappedNetwork,
        train_loader: Iterable[Any],
        test_loader: Iterable[Any] | None,
        outside: Mapping[str, Iterable[Any]],
    ) -> Subject:
        last = network.classifier
        if last.out_features != self._num_classes:
            name = "num_classes" if self._targets is None else "targets"
            raise ValueError(
                f"{name}: expected {last.out_features}, the outputs of the classifier, got {self._num_classes}. "
                "Correct it, or name another layer."
            )
        given = {"train": train_loader} if test_loader is None else {"train": train_loader, "test": test_loader}
        device, processes = last.weight.device, self._processes
        width = None if self._targets is None else self._num_classes
        splits = {
            split: LoadedExamples(split, one, device, processes, self._labelling, width) for split, one in given.items()
        }
        objective = objective_of(self._loss)
        refuse_other_than_scalar(objective, last.weight, self._targets is not None)
        scale = getattr(self._loss, "half_mse_scale", None)
        if self._optimizer is None:
            ridge = ridge_for(last, self._decay, self._decoupled, scale)
        else:
            ridge = ridge_of(self._optimizer, last, scale, getattr(self._loss, "no_ridge", ""))
        if outside and "outside" not in self._components:
            raise ValueError(
                f"outside: expected the analysis of this name with it, got analyses {', '.join(self._components)}."
                ' Add "outside": {"datasets": [...]} to analyses.'
            )
        others = {name: LoadedExamples(name, one_loader(name, one), device, processes) for name, one in outside.items()}
        data = LoadedData({**splits}, self._num_classes, {**others}, self._targets, self._labelling)
        return Subject(network, objective, data, ridge, processes, shared_out=True)

    def _note_facts(self, snapshot: Snapshot, subject: Subject) -> None:
        """facts.json, where λ is not yet known or has changed; a warning where it is 0 with a multiple of the MSE."""
        ridge, noted = subject.ridge, self._ridge_noted
        if ridge == noted:
            return
        facts = _facts_of(snapshot, subject, read_json(self._directory.facts))
        write_json(self._directory.facts, facts)
        for split in subject.splits:
            if noted is None and f"read_{split}" in facts:
                warnings.warn(
                    f"{split}_loader: expected each example of its dataset once, got {facts[f'read_{split}']}. What it "
                    "yields is measured; pass a loader of all to measure that.",
                    stacklevel=3,
                )
        self._ridge_noted = ridge
        asked = self._optimizer is not None or (self._decay[0] > 0 and not self._decoupled)
        if asked and ridge.weight == 0 and getattr(self._loss, "half_mse_scale", None) is not None:
            warnings.warn(f"{self._directory.path.name}: {ridge.convention}", stacklevel=3)

    def _begin(self, network: TappedNetwork, examples: object) -> None:
        """Hold the directory, and write what is known before the first number."""
        directory, (dataset, architecture) = self._directory, self._names
        assert isinstance(examples, LoadedExamples)
        data, model = getattr(examples.given, "dataset", examples.given), network.model
        targets = self._targets
        outputs = {"num_classes": self._num_classes} if targets is None else {"targets": targets.names}
        chosen, usual = asdict(self._labelling), asdict(OF_EXAMPLES)
        labelled = {name: value for name, value in chosen.items() if value != usual[name]}  # earlier runs go on
        described = {**_described(dataset, data), **outputs, **examples.shapes, **labelled}
        raw = {
            "dataset": described,
            "architecture": {
                **_described(architecture, model),
                "num_features": network.classifier.in_features,
                "num_parameters": sum(parameter.numel() for parameter in model.parameters()),
            },
            **self._raw,
        }
        _refuse_another(directory, raw)
        self._lock.enter_context(directory.locked())
        directory.identity(digest({name: raw[name] for name in ("loss", "optimizer", "dataset", "architecture")}))
        write_json(directory.origin, {"loop": "recorded by ncexp.Recorder"})
        raw |= {MARK: {"classifier": network.classifier_name}}
        raw |= {"tracking": {"enabled": True, "uri": None, "experiment": None}}
        write_text(directory.config, yaml.safe_dump(raw, sort_keys=False, allow_unicode=True))
        commit, difference = code_state()
        here = environment(network.classifier.weight.device, self._processes)
        write_json(directory.environment, here | {"commit": commit})
        write_text(directory.code_diff, difference)
        directory.set_status(State.RUNNING)
        self._begun = True

    def _end(self, state: State, message: str) -> None:
        if self._begun:
            epochs = self._directory.kept_snapshots()
            words = message or f"{len(epochs)} evaluated epochs"
            self._directory.set_status(state, message=words, **({"epoch": epochs[-1]} if epochs else {}))
            draw_run(self._directory)
        self._begun, self._closed = False, True
        self._lock.close()


def _choose_loss(loss: str | Loss, num_classes: int, of_targets: bool) -> tuple[dict[str, Any], Loss]:
    """The entry of config.yaml and the callable, of a name in conf/loss or of a callable (logits, labels)."""
    if isinstance(loss, str):
        raw = read_choice("loss", loss)
        built = Component.check("loss", raw).build(num_classes=num_classes)
        try:
            refuse_other_task(built, loss, of_targets)
        except ValueError as error:
            raise ConfigError(str(error)) from None
        return raw, built
    if isinstance(loss, nn.MSELoss) and not of_targets:
        raise ConfigError(
            "loss: expected a callable (logits, labels), got torch.nn.MSELoss, which takes one-hot targets. "
            'Use loss="mse_mean", the same on one-hot targets, or "mse", half the sum over the classes.'
        )
    return _described(getattr(loss, "__name__", None), loss), loss


def _facts_of(snapshot: Snapshot, subject: Subject, before: Mapping[str, Any] | None) -> dict[str, Any]:
    """The content of facts.json: sizes, λ with its convention, and how what was read differs from a dataset.

    before: what it was at another epoch. Where λ has changed since, it is that of this epoch, and the convention says
    so.
    """
    ridge = ridge_facts(snapshot.ridge)
    if before and any(before[name] != ridge[name] for name in ("ridge_weight", "ridge_bias")):
        ridge["ridge_convention"] += f"; at epoch {snapshot.epoch}: it has changed, mse/ridge_weight has that of each"
    train, targets = snapshot.splits["train"].statistics, subject.dataset.targets
    if targets is not None:
        of_labels: dict[str, Any] = {"num_targets": len(targets.names), "targets": targets.names}
        of_labels["target_scales"] = targets.scales
    else:
        counts = snapshot.splits["train"].of_classes.counts
        of_labels = {
            "num_classes": len(counts),
            "smallest_class": int(counts.min()),
            "largest_class": int(counts.max()),
        }
    read = {name: getattr(data, "incomplete", "") for name, data in subject.splits.items()}
    labelling = subject.dataset.labelling
    return {
        **of_labels,
        **{f"num_{name}": split.statistics.num_examples for name, split in snapshot.splits.items()},
        **{f"read_{name}": words for name, words in read.items() if words},
        "num_features": train.num_features,
        "num_parameters": sum(parameter.numel() for parameter in subject.network.parameters()),
        **ridge,
        **({} if (of := snapshot.measured) is None else labelling.facts(len(of.classes), of.outputs)),
    }


def _refuse_another(directory: RunDirectory, raw: Mapping[str, Any]) -> None:
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


def _described(name: str | None, one: Any) -> dict[str, Any]:
    """name: None for that of its class."""
    kind = one if hasattr(one, "__qualname__") else type(one)
    return {"name": name or type(one).__name__, "_target_": f"{kind.__module__}.{kind.__qualname__}"}
