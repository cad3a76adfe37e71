"""A loop of one's own, recorded: `ncexp.Recorder`. The evaluation, the analyses and what is written are those of ncexp.

with ncexp.Recorder("outputs/mine", num_classes=10, classifier="fc", loss="mse_mean", weight_decay=5e-4) as recorder:
    for epoch in range(1, 101):
        train(model, train_loader)
        recorder.evaluate(epoch, model, train_loader, test_loader)
"""

from __future__ import annotations

import traceback
import warnings
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from numbers import Integral
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml
from torch import nn
from torch.optim import Optimizer

from ncexp.config import check_analyses
from ncexp.config.components import digest
from ncexp.measure import EpochEvaluator, Ridge, Subject, TappedNetwork, load_data, load_snapshot, ridge_for, ridge_of
from ncexp.measure.evaluator import buffers_kept, seed_of, undisturbed
from ncexp.measure.loaders import LoadedExamples, one_loader
from ncexp.measure.own_loop import (
    MARK,
    Loss,
    choose_analyses,
    choose_loss,
    describe,
    describe_optimizer,
    facts_of,
    refuse_another,
)
from ncexp.measure.tapped import plainly, take_first_buffers
from ncexp.record import Record, RunDirectory, State, read_json, write_json, write_text
from ncexp.record.provenance import code_state
from ncexp.report import draw_run
from ncexp.training import SINGLE, Diverged, environment, joined, objective_of, refuse_other_than_scalar

#: What is measured unless something else is asked for: what `ncexp` itself measures.
ANALYSES = ("collapse", "decisions", "decomposition", "central_path")


class Recorder:
    """Evaluates the network of somebody's own loop, and keeps a run directory like any other.

    directory: of this run; a loop that was stopped goes on in the one that it began. num_classes: C. classifier: the
    last nn.Linear, or its name in model.named_modules(). loss: "mse" (½ the sum over classes, mean over examples),
    "mse_mean" (torch.nn.MSELoss on one-hot targets), "cross_entropy", another name in conf/loss, or a callable (logits,
    labels) → the mean loss, from which λ follows if it has the attribute `half_mse_scale`. optimizer: the loop's, from
    which the decay of the last layer is read, and whether it acts through the gradient. Without it, weight_decay: of
    the last layer's weight and bias, a pair where they differ; decoupled_weight_decay: whether it acts beside the
    gradient, as that of AdamW, Muon and Adafactor does: then λ = 0. analyses: names in conf/analysis, or a mapping of
    names to options. dataset, architecture, lr, seed: what tables call the run; None: the names of the classes, and a
    rate and seed that are not known.

    Of several processes (torch.distributed) each makes a Recorder and calls it alike; the first writes. The directory
    is made, and held, at the first evaluation.

    Raises ConfigError for an option that is refused, and where the directory is of a run with other ones; Busy where
    another process records there.
    """

    def __init__(
        self,
        directory: str | PathLike[str],
        *,
        num_classes: int,
        classifier: nn.Linear | str,
        loss: str | Loss = "cross_entropy",
        optimizer: Optimizer | None = None,
        weight_decay: float | tuple[float, float] = 0.0,
        decoupled_weight_decay: bool = False,
        analyses: Sequence[str] | Mapping[str, Mapping[str, Any]] = ANALYSES,
        dataset: str | None = None,
        architecture: str | None = None,
        lr: float | None = None,
        seed: int | None = None,
    ) -> None:
        self._directory, self._num_classes = RunDirectory(Path(directory)), int(num_classes)
        self._classifier, seed = classifier, None if seed is None else int(seed)
        self._names = (dataset, architecture)
        pair = weight_decay if isinstance(weight_decay, tuple) else (weight_decay, weight_decay)
        self._decay = (float(pair[0]), float(pair[1]))  # whatever kind of number it is
        self._optimizer, self._decoupled = optimizer, decoupled_weight_decay
        chosen, self._loss = choose_loss(loss, self._num_classes)
        analysis = choose_analyses(analyses)
        self._components = check_analyses(analysis)
        stated = describe_optimizer(optimizer, self._decay, decoupled_weight_decay, lr)
        self._raw: dict[str, Any] = {"loss": chosen, "optimizer": stated, "seed": seed, "analysis": analysis}
        self._processes, self._lock = SINGLE, ExitStack()
        self._begun = self._closed = False
        self._ridge_noted: Ridge | None = None
        self._evaluated: set[int] = set()
        refuse_another(self._directory, self._raw)
        self._directory.refuse_if_held()

    def evaluate(
        self, epoch: int, model: nn.Module, train_loader: Iterable[Any], test_loader: Iterable[Any] | None = None
    ) -> Record:
        """Evaluate the model as it stands after `epoch` epochs; returns all numbers by name.

        The model's output is the logits (n, C), has them as `.logits`, or is a tuple that begins with them. The loaders
        yield (inputs, labels), or mappings with an entry "labels"; how they are read stands in `ncexp.measure.loaders`.
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
            subject = self._subject(network, train_loader, test_loader)
            if self._processes.first and not self._begun:
                self._begin(network, subject.splits["train"])
            take_first_buffers(network, self._processes)
            evaluator = EpochEvaluator(self._directory, self._components, subject)
            record = evaluator.write(epoch, keeps_snapshot=True, replace=True)
        if epoch in self._evaluated:
            again = f"epoch: expected one that this Recorder has not evaluated, got {epoch} again. It is replaced."
            warnings.warn(again, stacklevel=2)
        self._evaluated.add(epoch)
        if self._processes.first:
            self._note_facts(epoch, subject)
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
        self, network: TappedNetwork, train_loader: Iterable[Any], test_loader: Iterable[Any] | None
    ) -> Subject:
        last = network.classifier
        if last.out_features != self._num_classes:
            raise ValueError(
                f"num_classes: expected {last.out_features}, the outputs of the classifier, got {self._num_classes}. "
                "Correct it, or name another layer."
            )
        data = load_data(train_loader, test_loader, self._num_classes, last.weight.device, self._processes)
        objective = objective_of(self._loss)
        refuse_other_than_scalar(objective, last.weight)
        return Subject(network, objective, data, self._ridge(last), self._processes, shared_out=True)

    def _ridge(self, last: nn.Linear) -> Ridge:
        scale = getattr(self._loss, "half_mse_scale", None)
        if self._optimizer is not None:
            return ridge_of(self._optimizer, last, scale)
        return ridge_for(last, self._decay, self._decoupled, scale)

    def _note_facts(self, epoch: int, subject: Subject) -> None:
        """facts.json, where λ is not yet known or has changed; a warning where it is 0 with a multiple of the MSE."""
        ridge = subject.ridge
        if ridge == self._ridge_noted:
            return
        snapshot = load_snapshot(self._directory.snapshot(epoch), self._directory.key)
        facts = facts_of(snapshot, subject.network, subject.splits, read_json(self._directory.facts))
        write_json(self._directory.facts, facts)
        told = [] if self._ridge_noted else [split for split in subject.splits if f"read_{split}" in facts]
        for split in told:
            warnings.warn(
                f"{split}_loader: expected each example of its dataset once, got {facts[f'read_{split}']}. What it "
                "yields is measured; pass a loader of all to measure that.",
                stacklevel=3,
            )
        self._ridge_noted = ridge
        scale = getattr(self._loss, "half_mse_scale", None)
        asked = self._optimizer is not None or (self._decay[0] > 0 and not self._decoupled)
        if asked and ridge.weight == 0 and scale is not None:
            warnings.warn(f"{self._directory.path.name}: {ridge.convention}", stacklevel=3)

    def _begin(self, network: TappedNetwork, examples: object) -> None:
        """Hold the directory, and write what is known before the first number."""
        directory, (dataset, architecture) = self._directory, self._names
        assert isinstance(examples, LoadedExamples)
        raw = describe((dataset, examples), (architecture, network), self._num_classes) | self._raw
        refuse_another(directory, raw)
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
