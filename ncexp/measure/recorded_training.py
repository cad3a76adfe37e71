"""The training of one run with all that goes on the disk: its epochs, some of them evaluated, and its checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ncexp.config import ConfigError, RunConfig
from ncexp.measure.evaluator import Subject, seed_of, train_error_at_most, undisturbed
from ncexp.measure.measuring import Measuring
from ncexp.measure.resumption import Resumption, prepare_resumption
from ncexp.measure.ridge import Ridge, ridge_facts, ridge_of
from ncexp.measure.sizes import describe_kept
from ncexp.measure.stored import restore_missing
from ncexp.record import ZERO_ERROR, Record, RunDirectory, zero_error_epoch
from ncexp.record.inventory import (
    FOLDERS,
    Inventory,
    Kind,
    describe_missing,
    encode_inventory,
    missing_from,
)
from ncexp.training import Assembly, Interrupted, Position, load_resume, save_resume, save_weights
from ncexp.training.regimes import PathRegime, refuse_small_batches, smallest_batch

#: Running errors up to this one say that the zero-error epoch may be near.
NEAR_ZERO_ERROR = 0.2


class RecordedTraining:
    """Trains, evaluates and writes. Of several processes all train and evaluate, and the first writes."""

    def __init__(self, config: RunConfig, directory: RunDirectory, assembly: Assembly) -> None:
        self._config, self._directory, self._assembly = config, directory, assembly
        self._training = assembly.training
        self._first = self._training.processes.first
        ridge = ridge_of(self._training.optimizer, assembly.classifier, assembly.half_mse_scale)
        self._subject = Subject(
            self._training.network, self._training.loss, assembly.dataset, ridge, self._training.processes
        )
        self._follow_path(ridge)
        self._measuring = Measuring(
            directory, config.analyses, self._subject, lambda epoch: self._keeps("snapshots", epoch)
        )
        #: The first evaluated epoch without training error; of several processes the first knows which it is, of a
        #: resumed run the others that there is one.
        self._zero_error: int | None = None
        #: What the record holds, by what this and earlier processes wrote.
        self._noted: Inventory = {}
        #: Sentences for people: what `resume` found wrong, and what it did about it.
        self.findings: list[str] = []

    @property
    def epoch(self) -> int:
        """The epochs that are trained."""
        return self._training.position.epoch - 1

    def facts(self) -> dict[str, Any]:
        """The content of facts.json: the family, sizes, λ with its convention, and to whose features W_LS is fitted."""
        family = {"family": self._config.architecture.family}
        facts = family | self._assembly.facts() | ridge_facts(self._subject.ridge)
        return facts if self._training.path is None else facts | {"path_statistics": self._path_statistics()}

    def describe_kept(self) -> str:
        """What will stay on the disk, and how many bytes it takes."""
        kept = describe_kept(self._config, self._measuring.widths(), self._subject)
        return f"{kept}; while it trains also the last two checkpoints to resume from"

    def resume(self) -> Position | None:
        """Go on from the last good checkpoint; None where there is none. What was written after it is dropped, and what
        the journals lack before it is measured again, as far as snapshots and weights allow; `findings` says so.

        Raises UnusableFile, with what to do, where no checkpoint can be used.
        """
        directory, training = self._directory, self._training
        found = prepare_resumption(directory, self._config.epochs) if self._first else Resumption()
        self.findings, self._noted = found.sentences, found.noted
        # Whatever the first found, all go on from; and only once the files are as it leaves them.
        epoch = int(training.processes.sum([found.epoch if self._first else 0])[0])
        training.position = Position(epoch)
        checkpoint = next(filter(Path.exists, (directory.resume, directory.resume_before)), None)
        if checkpoint is not None:
            training.position = load_resume(checkpoint, training.network, training.optimizer, directory.key)
        if self._first:
            self._restore()
        reached = zero_error_epoch(self._measuring.errors()) if self._first else None
        self._zero_error = reached or (0 if training.processes.any(reached is not None) else None)
        return training.position if checkpoint is not None or epoch > 1 else None

    def lost(self) -> str:
        """What the record had and has no more, in words; empty where it is whole. Of several processes only the first
        knows.
        """
        if not self._first:
            return ""
        there = self._directory.inventory()
        kept = {
            place: {epoch for epoch in epochs if place not in FOLDERS or self._keeps(place, epoch)}
            for place, epochs in self._noted.items()
        }
        return describe_missing(missing_from(there, kept))

    def record(self) -> dict[str, str]:
        """What the record holds, as status.json notes it at the end."""
        return encode_inventory(self._noted)

    def _restore(self) -> None:
        """Measure and write again what the record lacks and other files of it allow."""
        if not (lost := self.lost()):
            return
        self.findings.append(f"found that {lost}")
        with undisturbed(self._training.network, 0):
            self.findings += restore_missing(self._config, missing_from(self._directory.inventory(), self._noted))
        still = self.lost()
        self.findings.append(f"lost: {still}" if still else "all of it is measured again")

    def epochs(self, should_stop: Callable[[], bool]) -> Iterator[tuple[Record, Record | None]]:
        """Train the epochs that are left; yields of each the training's numbers and, if it was evaluated, all others.

        Raises Diverged; Interrupted once `should_stop()`, after the checkpoint to go on from is written.
        """
        training = self._training
        while training.position.epoch <= self._config.epochs:
            epoch = training.position.epoch
            try:
                summary: Record = {"epoch": epoch, **training.run_epoch(should_stop)}
            except Interrupted:
                self._save_resume()
                raise
            if self._first:
                self._directory.clock.note(epoch)
                self._directory.training.append(summary)
                self._note(self._directory.training.path.name, epoch)
            evaluated = self._evaluate(epoch) if self._is_evaluated(epoch, summary["fit/error"]) else None
            yield summary, evaluated

    def _is_evaluated(self, epoch: int, running_error: float) -> bool:
        """Whether this epoch is evaluated: one of those chosen, or that of zero error.

        The zero-error epoch is exact: once the error over an epoch's steps is at most NEAR_ZERO_ERROR, the training set
        is evaluated after every epoch, the examples that the steps decided wrongly first, until more than 0.1 % of all
        are found wrong (nearly at once, but for the epochs right before) or none is left.
        """
        if epoch in self._config.evaluated:
            return True
        if self._zero_error is not None or running_error > NEAR_ZERO_ERROR:
            return False
        self._settle(epoch)
        return train_error_at_most(self._subject, ZERO_ERROR, self._training.wrong)

    def _evaluate(self, epoch: int) -> Record:
        """Journals, kept files, checkpoint, in this order: what the checkpoint covers is never computed again."""
        self._settle(epoch)
        record = self._measuring.epoch(epoch)
        for place in self._measuring.places():
            self._note(place, epoch)
        if self._zero_error is None and record["train/error"] <= ZERO_ERROR:
            self._zero_error = epoch
        if self._first and self._keeps("checkpoints", epoch):
            save_weights(self._directory.checkpoint(epoch), self._training.network, self._directory.key, epoch)
        for place in FOLDERS:
            if self._keeps(place, epoch):
                self._note(place, epoch)
        self._save_resume()
        return record

    def _follow_path(self, ridge: Ridge) -> None:
        """Put the last layer on the central path, in a regime that has it there. Raises ConfigError for a batch that is
        too small for it.
        """
        config, assembly = self._config, self._assembly
        if config.regime == "plain":
            return
        assert assembly.half_mse_scale is not None
        smallest = smallest_batch(len(self._training.data), config.batch_size)
        if ridge.weight == 0:
            try:
                refuse_small_batches(config.regime, assembly.classifier, smallest)
            except ValueError as error:
                raise ConfigError(f"{error} Here {ridge.convention}.") from error
        ridges, training = (ridge.weight, ridge.bias), self._training
        training.path = PathRegime(config.regime, training.network, ridges, assembly.half_mse_scale, training.data)

    def _path_statistics(self) -> str:
        """In words, for facts.json: what a step's last layer is exact for."""
        num_train, batch = len(self._training.data), self._training.batch_size
        whole = "all training examples" if batch == num_train else f"the step's batch of {batch} examples"
        return f"{self._config.regime}: W_LS of {whole}; of all training examples when evaluated"

    def _settle(self, epoch: int) -> None:
        """Have the network that is evaluated on the central path; leaves no trace in the training."""
        if self._training.path is not None:
            with undisturbed(self._training.network, seed_of(epoch)):
                self._training.path.settle()

    def _save_resume(self) -> None:
        """The one before stays: of two files one may be damaged."""
        if self._first:
            self._directory.training.sync()
            training, path = self._training, self._directory.resume
            if path.exists():
                path.replace(self._directory.resume_before)
            key, record = self._directory.key, self.record()
            save_resume(path, training.network, training.optimizer, training.position, key, record=record)

    def _note(self, place: str, epoch: int) -> None:
        self._noted.setdefault(place, set()).add(epoch)

    def _keeps(self, kind: Kind, epoch: int) -> bool:
        return self._config.keep.keeps(kind, epoch, self._config.epochs, self._zero_error)
