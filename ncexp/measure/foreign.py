"""The checkpoints of another training as a run: each file is evaluated as an epoch of our own training would be."""

from __future__ import annotations

import glob
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ncexp.config import CheckpointsConfig, ConfigError
from ncexp.config.components import digest
from ncexp.measure.evaluation import EpochEvaluator, Kind, kept_files
from ncexp.measure.evaluator import BATCH_SIZE, subject_of
from ncexp.measure.ridge import ridge_facts
from ncexp.record import Record, RunDirectory, read_origin, write_json
from ncexp.record.rows import count_rows
from ncexp.record.tensor_file import UnusableFile
from ncexp.training import Assembly, Diverged, assemble, save_weights
from ncexp.training.foreign_checkpoints import ForeignWeights, read_foreign_weights
from ncexp.training.foreign_files import choose_epochs, find_files


class ForeignTraining:
    """Another training, of which files are there: reads and checks them all, then evaluates one after the other.

    Raises ConfigError where there are no files, their epochs are unclear, or one does not fit the network.
    """

    def __init__(self, config: CheckpointsConfig) -> None:
        self._config = config
        paths = find_files(config.pattern)
        self.assembly: Assembly = assemble(config.run, trains=False)
        # What the number of threads is chosen for: there are no steps, only evaluation.
        self.assembly.training.batch_size = min(BATCH_SIZE, len(self.assembly.dataset.train))
        says, notes, digests = {}, {}, {}
        try:
            for path in paths:
                says[path], notes[path], digests[path] = self._look(path)
        except UnusableFile as error:
            raise ConfigError(str(error)) from error
        self.files, self._found = choose_epochs(says, digests, config.epoch)
        self.run = replace(config.run, evaluated=list(self.files))
        self._notes = {epoch: notes[path] for epoch, path in self.files.items()}
        self._digests = {epoch: digests[path] for epoch, path in self.files.items()}
        self.directory = _directory(config, self._digests)
        self._subject = subject_of(self.assembly)
        self._evaluator = EpochEvaluator(self.directory, self.run.analyses, self._subject)

    @property
    def epoch(self) -> int:
        """The last epoch that is measured; 0 before the first."""
        return max(set(self.files) - set(self.missing()), default=0)

    def facts(self) -> dict[str, Any]:
        """The content of facts.json: the family, sizes, λ with its convention, and where the files were."""
        ridge = {"family": self.run.architecture.family} | ridge_facts(self._subject.ridge)
        return self.assembly.facts() | ridge | {"checkpoints": self._config.pattern}

    def describe_kept(self) -> str:
        """What will stay on the disk, and how many bytes it takes."""
        return self._evaluator.describe_kept(self.run)

    def finish(self) -> dict[str, int]:
        """How many rows each journal has, as status.json notes it at the end."""
        return count_rows(self.directory)

    def describe_files(self) -> list[str]:
        """How many there are, where their epochs and their weights were found, and which hold the same weights."""
        epochs, lines = list(self.files), [*self._found]
        for notes in dict.fromkeys(self._notes.values()):
            alike = [str(epoch) for epoch in epochs if self._notes[epoch] == notes]
            of_some = "" if len(alike) == len(epochs) else f" in epochs {', '.join(alike)}"
            lines += [f"{note}{of_some}" for note in notes]
        same: dict[str, list[str]] = defaultdict(list)
        for epoch, found in self._digests.items():
            same[found].append(f"epoch {epoch} ({self.files[epoch].name})")
        return lines + [f"{' and '.join(names)} hold the same weights" for names in same.values() if names[1:]]

    def missing(self) -> list[int]:
        """The epochs at which an analysis has no numbers yet, or a file that is to be kept is not there."""
        done = set.intersection(*(journal.epochs() for journal in self._evaluator.journals.values()))
        lacks = {epoch for epoch in self.files if any(not path.exists() for path in self._kept_files(epoch).values())}
        return [epoch for epoch in self.files if epoch not in done or epoch in lacks]

    def note_origin(self) -> None:
        """Write which files this run is of; those of earlier commands stay. The journal of the training has no line."""
        self.directory.training.path.touch()
        noted = read_origin(self.directory.origin).get("files", {})
        here = {
            str(epoch): {"path": str(path.absolute()), "sha256": self._digests[epoch], "notes": self._notes[epoch]}
            for epoch, path in self.files.items()
        }
        files = noted | here
        content = {
            "configuration": self._config.key,
            "files": {epoch: files[epoch] for epoch in sorted(files, key=int)},
        }
        write_json(self.directory.origin, content)

    def measure(self, epoch: int) -> Record:
        """Evaluate one file into the journals; returns its numbers.

        Raises Diverged where a feature is not finite, UnusableFile where the file is another than before; it is named.
        """
        network, weights = self.assembly.training.network, self._read(self.files[epoch])
        if weights.digest != self._digests[epoch]:
            raise UnusableFile(f"{self.files[epoch]}: expected the weights that it held a moment ago, got others.")
        network.load_state_dict(weights.tensors)
        kept = self._kept_files(epoch)
        try:
            _, record = self._evaluator.write(epoch, "snapshots" in kept)
        except Diverged as reason:
            raise Diverged(f"{self.files[epoch]}: {reason}") from None
        if "checkpoints" in kept:
            save_weights(kept["checkpoints"], network, self.directory.key, epoch)
        self.directory.clock.note(epoch)
        return record

    def _read(self, path: Path) -> ForeignWeights:
        config = self._config
        return read_foreign_weights(path, self.assembly.training.network, config.state, config.prefix, config.epoch)

    def _look(self, path: Path) -> tuple[dict[str, int], tuple[str, ...], str]:
        """What is kept of a file: not its weights, so that those of one file alone are in memory."""
        weights = self._read(path)
        return weights.epochs, weights.notes, weights.digest

    def _kept_files(self, epoch: int) -> dict[Kind, Path]:
        return kept_files(self.directory, self.run.keep, epoch, max(self.files))


def _directory(config: CheckpointsConfig, digests: Mapping[int, str]) -> RunDirectory:
    """The run of the same configuration that these files are of, perhaps with others; else a new one.

    Files are of a run where those of its epochs hold the same weights. So files that a training adds later go to the
    run of the earlier ones, and other weights make another run.
    """
    outputs = config.run.outputs
    for place in sorted(outputs.glob(f"{glob.escape(config.name)}_*/origin.json")):
        origin = read_origin(place)
        noted = {int(epoch): file["sha256"] for epoch, file in origin.get("files", {}).items()}
        common = noted.keys() & digests.keys()
        if origin.get("configuration") == config.key and common and all(noted[e] == digests[e] for e in common):
            return RunDirectory(place.parent)
    return RunDirectory(outputs / f"{config.name}_{digest([config.key, sorted(digests.items())])}")
