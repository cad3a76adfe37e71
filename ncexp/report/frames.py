"""What pictures of a run show: of each snapshot planes of class means, cosines and spectra; and layers by epoch.

The plane of K classes: F (K, 2) has the rows (cos 2πc/K, sin 2πc/K), a regular K-gon. It is the orthogonal projection
of an exact simplex of K corners on one of its planes; of three classes it is the simplex itself. Q (P, 2), with
orthonormal columns, turns the class means M (K, P), about their mean, towards F: the polar factor of MᵀF (Procrustes'
problem). A feature h is drawn at s Qᵀ(h − m), m the mean of these class means, s such that ‖sM‖_F is that of the
simplex; the rows of W likewise, about their mean and in units of their own size, as NC3 compares them. With a third
column, for four classes or more, F is a tetrahedron, or such a projection in space.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy

from ncexp.measure import Snapshot, load_snapshot
from ncexp.record import RunDirectory, SavedRun, column
from ncexp.record.quantities import find
from ncexp.record.runs import split_name
from ncexp.report.style import SAME

Array = numpy.ndarray
#: Classes that are drawn unless others are named; classes of a matrix of cosines; values of a spectrum.
DRAWN, MOST_CLASSES, MOST_VALUES = 3, 100, 64
SPECTRA, WITHIN = ("singular values of the class means", "singular values of W"), "train/spectra/within_"
#: Families in which the last layer's features have a number that `layers` has.
OF_LAST_LAYER = ("collapse", "decisions")
#: Their row; no module is called so.
LAST = "last features"


@dataclass(frozen=True, eq=False)
class Plane:
    """D numbers a point: means, rows and corners of the simplex (K, D); outline (T, D) of 2σ of Σ_W about 0; examples:
    of each class those that were kept, (m, D).
    """

    classes: list[int]
    corners: Array
    means: Array
    rows: Array
    outline: Array
    examples: list[Array]


@dataclass(frozen=True, eq=False)
class Frame:
    """One epoch. cosines (C, C), of the first MOST_CLASSES: among class means, among rows of W, of rows of W (down) and
    class means (across). spectra: σ_j of the centred class means, and of W; at most MOST_VALUES, evenly spaced.
    """

    epoch: int
    planes: list[Plane]
    cosines: list[Array]
    spectra: list[Array]


@dataclass(frozen=True, eq=False)
class DepthMap:
    """A number of layers on one split: values (layers, epochs), the first layer first, after the last one the features
    that the last layer reads where they have the number.
    """

    title: str
    split: str
    layers: list[str]
    epochs: list[int]
    values: Array
    is_log: bool
    is_share: bool

    @property
    def bounds(self) -> tuple[float, float]:
        """Of the colours: least and largest value that can be drawn; wider where rounding alone sets values apart."""
        drawn = self.values[numpy.isfinite(self.values) & ((self.values > 0) | (not self.is_log))]
        low, high = (float(drawn.min()), float(drawn.max())) if drawn.size else (1.0, 1.0)
        if high - low > SAME * max(high, 0 if self.is_log else 1):
            return low, high
        return (low / 2, 2 * high) if self.is_log else (low - 0.5, high + 0.5)


def chosen_classes(text: str | None, run: SavedRun) -> list[int]:
    """The classes that ``0,1,2`` or ``all`` names; without a text the first three.

    Raises ValueError for what is no class, for fewer than three, and for a run that has fewer, or too few features.
    """
    count, features = (run.facts.get(name, 0) for name in ("num_classes", "num_features"))
    if count < DRAWN or features < 2:
        raise ValueError(
            f"simplex: expected a run of three or more classes and two or more features, got {count} and {features}. "
            "The other pictures need no simplex."
        )
    words = [*map(str, range(count if text == "all" else DRAWN))] if text in (None, "all") else str(text).split(",")
    chosen = [int(word) for word in words if word.strip().isdecimal() and int(word) < count]
    if len({*chosen}) < max(DRAWN, len(words)):
        raise ValueError(
            f"classes: expected all, or three or more different ones of 0 to {count - 1}, got {text}. As in "
            "classes=0,1,2."
        )
    return chosen


def corners_of(count: int, dims: int) -> Array:
    """F, (count, dims), from the Fourier directions; the third makes a tetrahedron of four classes."""
    angle = 2 * numpy.pi * numpy.arange(count) / count
    third = numpy.cos(2 * angle) * (0.5**0.5 if count == 4 else 1)
    return numpy.stack([numpy.cos(angle), numpy.sin(angle), third][:dims], 1)


def frames_of(run: SavedRun, *planes: tuple[Sequence[int], int]) -> list[Frame]:
    """A frame of every epoch whose snapshot was kept, of train features. planes: classes, and numbers a point.

    Raises ValueError where no snapshot was kept, for a regression, and for numbers that are not finite; UnusableFile
    for a snapshot that cannot be read.
    """
    if run.is_regression:
        raise ValueError("simplex: expected a run of classes, got a regression, whose targets have no class means.")
    directory = RunDirectory(run.path)
    snapshots = (load_snapshot(directory.snapshot(epoch), directory.key) for epoch in directory.kept_snapshots())
    if frames := [_frame(one, planes) for one in snapshots]:
        return frames
    raise ValueError("snapshots: expected some, got none. Train with keep.snapshots=evaluated.")


def _frame(snapshot: Snapshot, planes: Sequence[tuple[Sequence[int], int]]) -> Frame:
    means = snapshot.splits["train"].of_classes.class_means.numpy()
    means, rows = means - means.mean(0), snapshot.classifier.weight.double().numpy()
    with numpy.errstate(invalid="ignore"):  # one that is 0 has no direction
        units = [one / numpy.linalg.norm(one, axis=1, keepdims=True) for one in (means, rows)]
    first, second = (one[:MOST_CLASSES] for one in units)
    return Frame(
        epoch=snapshot.epoch,
        planes=[_plane(snapshot, list(classes), dims) for classes, dims in planes],
        cosines=[first @ first.T, second @ second.T, second @ first.T],
        spectra=[_spectrum(means, len(means) - 1), _spectrum(rows, len(rows))],
    )


def _spectrum(matrix: Array, rank: int) -> Array:
    values = numpy.linalg.svd(matrix, compute_uv=False)[:rank]
    return values[numpy.linspace(0, len(values) - 1, min(len(values), MOST_VALUES)).round().astype(int)]


def spectra_of(run: SavedRun, frames: Sequence[Frame]) -> list[tuple[str, list[int], Array]]:
    """Title, epochs, values (modes, epochs): of the frames and, where analysis=spectra was measured, of Σ_W."""
    epochs = [frame.epoch for frame in frames]
    both = [numpy.array([frame.spectra[place] for frame in frames]).T for place in (0, 1)]
    found = [(title, epochs, values) for title, values in zip(SPECTRA, both, strict=True)]
    records = [record for record in run.records if f"{WITHIN}1" in record]
    modes = sorted(int(name.removeprefix(WITHIN)) for name in records[-1] if name.startswith(WITHIN)) if records else []
    values = numpy.array([column(records, f"{WITHIN}{mode}") for mode in modes])
    return found + ([("eigenvalues of Σ_W", [int(one["epoch"]) for one in records], values)] if modes else [])


def _plane(snapshot: Snapshot, chosen: list[int], dims: int) -> Plane:
    split = snapshot.splits["train"]
    means, rows = (one[chosen].double().numpy() for one in (split.of_classes.class_means, snapshot.classifier.weight))
    corners, center = corners_of(len(chosen), dims), means.mean(0)
    left, _, right = numpy.linalg.svd((means - center).T @ corners, full_matrices=False)
    basis, size = left @ right, _size(means)
    directions, variances, _ = numpy.linalg.svd(basis.T @ split.of_classes.within_class_covariance.numpy() @ basis)
    turn = numpy.append(numpy.linspace(0, 2 * numpy.pi, 33), numpy.nan)  # which parts the circles of three planes
    circle = numpy.stack([numpy.cos(turn), numpy.sin(turn), 0 * turn][:dims], 1)
    circles = [numpy.roll(circle, shift, 1) for shift in range(1 if dims == 2 else 3)]
    kept = {part: tensor.double().numpy() for part, tensor in split.examples.items()}
    return Plane(
        classes=chosen,
        corners=corners,
        means=(means - center) @ basis * size,
        rows=(rows - rows.mean(0)) @ basis * _size(rows),
        outline=2 * size * numpy.concatenate(circles) * variances**0.5 @ directions.T,
        examples=[(kept["features"][kept["labels"] == one] - center) @ basis * size for one in chosen] if kept else [],
    )


def _size(points: Array) -> float:
    """s of the K points (K, P): ‖s(points − mean)‖_F is that of a simplex whose shadow has radius 1."""
    count, norm = len(points), numpy.linalg.norm(points - points.mean(0))
    return float(((count - 1) * count / 2) ** 0.5 / norm) if norm else float("nan")


def depth_maps(run: SavedRun) -> list[DepthMap]:
    """Every number of layers, of train and of test; none where no layer was measured."""
    found: dict[tuple[str, str, str], dict[str, str]] = {}
    for name in dict.fromkeys(name for record in run.records for name in record):
        split, family, quantity = split_name(name)
        analysis, _, module = family.partition("/")
        if analysis.partition(".")[0] == "layers":
            found.setdefault((split, analysis, quantity), {})[module] = name
    return [_map(run, *key, names) for key, names in found.items()]


def _map(run: SavedRun, split: str, analysis: str, quantity: str, names: dict[str, str]) -> DepthMap:
    row = find(next(iter(names.values())))
    last = [f"{split}/{family}/{quantity}" for family in OF_LAST_LAYER]
    records = [record for record in run.records if not record.keys().isdisjoint(names.values())]
    rows = names | {LAST: name for name in last if any(name in record for record in records)}  # noqa: B035 (one at most)
    return DepthMap(
        title=(row.short if row else quantity) + analysis.removeprefix("layers").replace(".", ", layers."),
        split=split,
        layers=[*rows],
        epochs=[int(record["epoch"]) for record in records],
        values=numpy.array([column(records, name) for name in rows.values()]),
        is_log=row is not None and row.is_log,
        is_share=row is not None and row.is_share,
    )
