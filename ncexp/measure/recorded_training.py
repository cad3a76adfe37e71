"""The training of one run with all that goes on the disk: its epochs, some of them evaluated, and its checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from ncexp.config import ConfigError, RunConfig
from ncexp.measure.evaluation import EpochEvaluator, Kind, all_numbers, kept_files
from ncexp.measure.evaluator import seed_of, subject_of, train_error_at_most, undisturbed
from ncexp.measure.ridge import Ridge, ridge_facts
from ncexp.measure.snapshot import Snapshot
from ncexp.record import ZERO_ERROR, Record, RunDirectory, set_aside, zero_error_epoch
from ncexp.record.rows import PREFIX, TrainingRows
from ncexp.record.tensor_file import DamagedTensors, UnusableFile, read_tensors
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
        self._subject = subject_of(assembly)
        self._follow_path(self._subject.ridge)
        self._evaluator = EpochEvaluator(directory, config.analyses, self._subject)
        journals = self._evaluator.journals.items()
        self._places = {name: str(one.path.relative_to(directory.path)) for name, one in journals}
        self._rows = TrainingRows(directory)
        #: The first evaluated epoch without training error; 0 on ranks other than 0 where it was before a resumption.
        self._zero_error: int | None = None
        #: Sentences for people: what `resume` found wrong, and what it did about it.
        self.findings: list[str] = []

    @property
    def epoch(self) -> int:
        """The epochs that are trained."""
        return self._training.position.epoch - 1

    def facts(self) -> dict[str, Any]:
        """The content of facts.json: the family, sizes, λ with its convention, and to whose features W_LS is fitted."""
        family = {"family": self._config.architecture.family}
        facts = family | self._assembly.facts() | ridge_facts(self._subject.ridge) | self._evaluator.facts()
        return facts if self._training.path is None else facts | {"path_statistics": self._path_statistics()}

    def describe_kept(self) -> str:
        """What will stay on the disk, and how many bytes it takes."""
        kept = self._evaluator.describe_kept(self._config)
        return f"{kept}; while it trains also the last two checkpoints to resume from"

    def resume(self) -> Position | None:
        """Go on from the last good checkpoint, and write the journals from it; None where there is none. `findings`
        names the files that cannot be used.

        Raises UnusableFile, with what to do, where no checkpoint can be used.
        """
        directory, training = self._directory, self._training
        epoch = self._restore_rows() if self._first else 0
        # All go on from what rank 0 found, and only once the files are as it leaves them.
        training.position = Position(int(training.processes.sum([epoch])[0]))
        checkpoint = next(filter(Path.exists, (directory.resume, directory.resume_before)), None)
        if checkpoint is not None:
            given = (training.network, training.optimizer, directory.key, training.averages)
            training.position = load_resume(checkpoint, *given)
        if self._first:
            self._write_journals()
        reached = zero_error_epoch(self._rows.records(self._places["errors"])) if self._first else None
        self._zero_error = reached or (0 if training.processes.any(reached is not None) else None)
        if checkpoint is not None and training.position.step == 0:
            self._complete_files(self.epoch)
        return training.position if training.position.epoch > 1 or training.position.step else None

    def lost(self) -> str:
        """Which journals have lost rows for good, in words; empty where none has. Of several processes rank 0 knows."""
        return self._rows.lacking()

    def finish(self) -> dict[str, int]:
        """Have every journal on the disk, so that the file to resume from is needed no more; of rank 0.

        Returns how many rows each journal has had, as status.json notes it at the end.
        """
        self._write_journals(last=True)
        return self._rows.counted

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
                self._commit()
                raise
            if self._first:
                self._directory.clock.note(epoch)
                self._rows.add(self._directory.training.path.name, summary)
            evaluated = self._evaluate(epoch) if self._is_evaluated(epoch, summary.get("fit/error")) else None
            yield summary, evaluated

    def _is_evaluated(self, epoch: int, running_error: float | None) -> bool:
        """Whether this epoch is evaluated: one of those chosen, or that of zero error.

        The zero-error epoch is exact: once the error over an epoch's steps is at most NEAR_ZERO_ERROR, the training set
        is evaluated after every epoch, the examples that the steps decided wrongly first, until more than 0.1 % of all
        are found wrong (nearly at once, but for the epochs right before) or none is left. Of targets, which have no
        running error, it is the first of those chosen. With augmentation, whose running error is of other images, it is
        tried from the first epoch on.
        """
        if epoch in self._config.evaluated:
            return True
        if self._zero_error is not None or running_error is None:
            return False
        if running_error > NEAR_ZERO_ERROR and self._training.augmentation is None:  # else it is of other images
            return False
        with self._evaluated_weights(epoch):
            return train_error_at_most(self._subject, ZERO_ERROR, self._training.wrong)

    def _evaluate(self, epoch: int) -> Record:
        """All numbers of the epoch; then the commit, and the files that are kept of it."""
        with self._evaluated_weights(epoch):
            snapshot, rows = self._evaluator.evaluate(epoch)
        record = all_numbers(rows)
        if self._zero_error is None and record["train/error"] <= ZERO_ERROR:
            self._zero_error = epoch
        for name, row in rows.items() if self._first else ():
            self._rows.add(self._places[name], row)
        self._commit()
        with self._evaluated_weights(epoch, settled=True):
            self._save_files(epoch, snapshot)
        return record

    def _commit(self) -> None:
        """The file to resume from, with all rows, then the journals. The file before stays: one may be damaged."""
        if self._first:
            training, path, rows = self._training, self._directory.resume, self._rows.tensors()
            more = rows if training.averages is None else rows | training.averages.tensors()
            if path.exists():
                path.replace(self._directory.resume_before)
            key, counted = self._directory.key, self._rows.counted
            save_resume(path, training.network, training.optimizer, training.position, key, more, rows=counted)
            self._write_journals()

    def _write_journals(self, last: bool = False) -> None:
        if any(place in self._rows.counted for place in self._places.values()):
            self._evaluator.begin_journals()
        self._rows.write_journals(last)

    def _kept_files(self, epoch: int) -> dict[Kind, Path]:
        last, zero_error = self._config.epochs, self._zero_error
        return kept_files(self._directory, self._config.keep, epoch, last, zero_error) if self._first else {}

    def _save_files(self, epoch: int, snapshot: Snapshot) -> None:
        for kind, path in self._kept_files(epoch).items():
            if kind == "snapshots":
                snapshot.save(path, self._directory.key)
            else:
                save_weights(path, self._training.network, self._directory.key, epoch)

    def _complete_files(self, epoch: int) -> None:
        """Write what is kept of the epoch that was committed last, where a kill came before it was written."""
        lacks = any(not path.exists() for path in self._kept_files(epoch).values())
        evaluated = lacks and any(row["epoch"] == epoch for row in self._rows.records(self._places["errors"]))
        if self._training.processes.any(evaluated):
            with self._evaluated_weights(epoch):
                self._save_files(epoch, self._evaluator.evaluate(epoch)[0])

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

    @contextmanager
    def _evaluated_weights(self, epoch: int, settled: bool = False) -> Iterator[None]:
        """Within it the network is the one that is evaluated and kept: of averaged weights, or on the central path.

        Leaves no trace in the training. settled: it is on the path already.
        """
        training = self._training
        if training.path is not None and not settled:
            with undisturbed(training.network, seed_of(epoch)):
                training.path.settle()
        with nullcontext() if training.averages is None else training.averages.in_place():
            yield

    def _restore_rows(self) -> int:
        """Take up the rows up to the newest good checkpoint; returns the epoch that is trained next.

        A file that cannot be used is set aside, under another name; `findings` name it. Raises UnusableFile where there
        were checkpoints and none is good, or one is of another training.
        """
        directory, places = self._directory, [self._directory.training.path.name, *self._places.values()]
        for path in filter(Path.exists, (directory.resume, directory.resume_before)):
            try:
                tensors, header = read_tensors(path, "resume", directory.key)
            except DamagedTensors as error:
                self.findings.append(f"{error} It is {set_aside(path).name} now.")
            except UnusableFile as error:
                raise UnusableFile(f"{error} Set it aside: the same command goes on from what else is there.") from None
            else:
                epoch = int(header["position"]["epoch"])
                tail = {name: one for name, one in tensors.items() if name.startswith(PREFIX)}
                self.findings += self._rows.restore(places, epoch - 1, tail, header.get("rows", {}))
                return epoch
        if self.findings:
            raise UnusableFile(
                f"{' '.join(self.findings)} No checkpoint is left, and kept weights are without the optimizer's state. "
                f"`ncexp measure {directory.path}` measures what is there; the same command again trains from the "
                "first epoch."
            )
        # It has not begun; or it had ended, and lost its status; or its checkpoint was lost.
        epochs, journals = self._config.epochs, [directory.training, *directory.journals()]
        try:
            ended = {*range(1, epochs + 1)} <= directory.training.epochs()
        except ValueError:
            ended = False
        if ended:
            self.findings = self._rows.restore(places, epochs, {}, {})
            return epochs + 1
        if asides := ", ".join(set_aside(one.path).name for one in journals if one.path.exists()):
            self.findings = [f"no checkpoint to go on from: it begins anew; set aside: {asides}"]
        return 1
