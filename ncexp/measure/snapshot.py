"""What an evaluated epoch leaves behind: the statistics of every split, the classifier, λ; float64, no pickle.

Everything that needs statistics alone is computed from a snapshot, in the training as well as years later: on the CPU,
from the same bytes, so with the same result.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ncexp.collapse import ClassStatistics, LinearClassifier, LinearMap, SNRSpectrum, TargetStatistics, snr_spectrum
from ncexp.collapse.checks import check_layer
from ncexp.measure.probes import Probe
from ncexp.measure.ridge import Ridge
from ncexp.record.tensor_file import DamagedTensors, read_tensors, write_tensors

Statistics = ClassStatistics | TargetStatistics
#: What is kept of single examples.
EXAMPLES = ("features", "labels")


@dataclass(frozen=True, eq=False)
class MeasuredClasses:
    """classes: which of the V outputs are measured, (K,) int64, ascending; outputs: V; min_examples: how many examples
    each of them has in every split, at least.
    """

    classes: Tensor
    outputs: int
    min_examples: int


@dataclass(frozen=True, eq=False)
class SplitSnapshot:
    """One split. statistics: of classes, or of targets; loss: the training loss without decay; error: the share of
    examples decided wrongly, of targets the share of their variance that is not explained; layers: the
    statistics of probed submodules, by name; probed: which submodules each probe stood for, by its name; features
    (n, P) and labels (n,): those of the measured classes, if the pass kept them, on its device. They are not stored.
    examples: features (m, P) and labels (m,) of single examples, where `Portrait` kept them. share: of all examples,
    those of measured classes.
    """

    statistics: Statistics
    loss: float
    error: float
    layers: dict[str, ClassStatistics]
    probed: dict[str, list[str]] = field(default_factory=dict)
    features: Tensor | None = None
    examples: dict[str, Tensor] = field(default_factory=dict)
    share: float = 1.0
    labels: Tensor | None = None

    @cached_property
    def spectrum(self) -> SNRSpectrum:
        """The SNR spectrum of the split, computed once for all analyses."""
        return snr_spectrum(self.of_classes)

    @property
    def of_targets(self) -> TargetStatistics:
        """The statistics, of targets."""
        assert isinstance(self.statistics, TargetStatistics)
        return self.statistics

    @property
    def of_classes(self) -> ClassStatistics:
        """The statistics, of classes. Raises ValueError where they are of targets."""
        if not isinstance(self.statistics, ClassStatistics):
            raise ValueError("expected the statistics of classes, got those of targets.")
        return self.statistics


@dataclass(frozen=True, eq=False)
class Snapshot:
    """One epoch: its splits, train first; the last layer; λ of the decomposition. All tensors are on the CPU.

    measured: where not all outputs are; the classes of the splits, and the rows of the layer, are these then.
    target_scales: of a regression, the unit of each target (`Targets.scales`).
    """

    epoch: int
    splits: dict[str, SplitSnapshot]
    classifier: LinearClassifier | LinearMap
    ridge: Ridge
    measured: MeasuredClasses | None = None
    target_scales: list[float] | None = None

    def has(self, probes: Mapping[str, Probe]) -> bool:
        """Whether the statistics of all these probes are in it."""
        parts = [{"layers": split.layers, "probed": split.probed} for split in self.splits.values()]
        return all(probe.modules_in(part) is not None for probe in probes.values() for part in parts)

    def save(self, path: Path, training: str) -> None:
        """Write it, atomically; training: the training key."""
        tensors, splits = {"classifier/weight": self.classifier.weight}, {}
        if self.classifier.bias is not None:
            tensors["classifier/bias"] = self.classifier.bias
        for name, split in self.splits.items():
            tensors |= _packed(f"{name}/features", split.statistics)
            tensors |= {f"{name}/examples/{part}": tensor for part, tensor in split.examples.items()}
            for place, statistics in enumerate(split.layers.values()):
                tensors |= _packed(f"{name}/layers/{place}", statistics)
            splits[name] = {"loss": split.loss, "error": split.error, "layers": list(split.layers)}
            if split.probed:
                splits[name]["probed"] = split.probed
            if self.measured is not None:
                splits[name]["share"] = split.share
        header = {"epoch": self.epoch, "ridge": asdict(self.ridge), "splits": splits, "order": list(splits)}
        if self.measured is not None:
            tensors["classes"] = self.measured.classes
            header["measured"] = {"outputs": self.measured.outputs, "min_examples": self.measured.min_examples}
        if self.target_scales is not None:
            header["target_scales"] = self.target_scales
        write_tensors(path, tensors, "snapshot", training, **header)


def load_snapshot(path: Path, training: str) -> Snapshot:
    """Read what `Snapshot.save` wrote. Raises FileNotFoundError, and UnusableFile for any other content."""
    tensors, header = read_tensors(path, "snapshot", training)
    try:
        return _from_parts(tensors, header)
    except (LookupError, TypeError, ValueError, RuntimeError) as error:  # whose checksum is that of what it holds
        raise DamagedTensors(f"{path}: expected the parts of a snapshot, got others ({error}).") from None


def _from_parts(tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> Snapshot:
    splits = {}
    scales = header.get("target_scales")
    kind = ClassStatistics if scales is None else TargetStatistics
    for name in header["order"]:
        noted = header["splits"][name]
        layers = {layer: _unpacked(f"{name}/layers/{place}", tensors) for place, layer in enumerate(noted["layers"])}
        loss, error = float(noted["loss"]), float(noted["error"])
        examples = {part: tensors[one] for part in EXAMPLES if (one := f"{name}/examples/{part}") in tensors}
        splits[name] = SplitSnapshot(
            _unpacked(f"{name}/features", tensors, kind),
            *(loss, error, layers, noted.get("probed", {})),
            examples=examples,
            share=float(noted.get("share", 1.0)),
        )
    layer = tensors["classifier/weight"], tensors.get("classifier/bias")
    classifier = LinearClassifier(*layer) if scales is None else LinearMap(*layer)
    for split in splits.values():
        check_layer(class_means_of(split.statistics), classifier.weight)
    splits, noted = {"train": splits["train"], **splits}, header.get("measured")
    measured = None if noted is None else MeasuredClasses(tensors["classes"], **noted)
    return Snapshot(header["epoch"], splits, classifier, Ridge(**header["ridge"]), measured, scales)


def with_known_layers(names: Iterable[str]) -> dict[str, str]:
    """Names of layers in a snapshot of version 0.4 or before → what they are called today.

    Its ``average`` kept axis 1 of every output, which of a transformer are the tokens: that is ``spatial_mean``.
    """
    return {
        name: f"{name.removesuffix('average')}spatial_mean" if name.endswith(" average") else name for name in names
    }


def class_means_of(statistics: Statistics) -> Tensor:
    """(C, P): the class means; of targets, whose last layer has this shape as well, C_yh."""
    return statistics.class_means if isinstance(statistics, ClassStatistics) else statistics.cross_covariance


def as_stored(statistics: Any) -> Any:
    """The statistics as a snapshot has them: on the CPU, covariances symmetric to the last bit."""
    return _unpacked("", {name: tensor.cpu() for name, tensor in _packed("", statistics).items()}, type(statistics))


def snapshot_bytes(num_classes: int, widths: list[int]) -> int:
    """The size of a snapshot with two splits of features and probed layers of these widths P, to a few hundred bytes.

    2 Σ_P [P(P+1)/2 + C P + 2 C] numbers of eight bytes, the classifier's C (P + 1) of the first, and their names.
    """
    of_splits = 2 * sum(p * (p + 1) // 2 + num_classes * p + 2 * num_classes for p in widths)
    names = 600 + 950 * len(widths)  # as measured: the header of the file grows with its tensors
    return 8 * (of_splits + num_classes * (widths[0] + 1)) + names


#: Of the fields of statistics those of which the upper triangle is stored.
SYMMETRIC = ("within_class_covariance", "feature_covariance", "target_covariance")


def _packed(prefix: str, statistics: Statistics) -> dict[str, Tensor]:
    """The fields by name, numbers as tensors of no dimension; of the symmetric ones the upper triangle."""
    values = {f"{prefix}/{field.name}": getattr(statistics, field.name) for field in fields(statistics)}
    tensors = {
        name: torch.as_tensor(value, dtype=torch.float64 if isinstance(value, float) else None)
        for name, value in values.items()
    }
    for name in SYMMETRIC:
        if (whole := tensors.get(place := f"{prefix}/{name}")) is not None:
            rows, columns = torch.triu_indices(*whole.shape)
            tensors[place] = whole[rows, columns]
    return tensors


def _unpacked(prefix: str, tensors: Mapping[str, Tensor], kind: type[Any] = ClassStatistics) -> Any:
    stored = {field.name: tensors[f"{prefix}/{field.name}"] for field in fields(kind)}
    found: dict[str, Any] = {name: value if value.dim() else value.item() for name, value in stored.items()}
    for name in SYMMETRIC:
        if (half := found.get(name)) is not None:
            width = (math.isqrt(8 * len(half) + 1) - 1) // 2
            rows, columns = torch.triu_indices(width, width)
            found[name] = half.new_zeros(width, width)
            found[name][rows, columns] = half
            found[name][columns, rows] = half
    return kind(**found)
