"""Pictures of a run from its snapshots: class means that become a simplex, cosines, spectra; and layers by epoch.

The plane of K classes: F (K, 2) has the rows (cos 2πc/K, sin 2πc/K), a regular K-gon. It is the orthogonal projection
of an exact simplex of K corners on one of its planes; of three classes it is the simplex itself. Q (P, 2), with
orthonormal columns, turns the class means M (K, P), about their mean, towards F: the polar factor of MᵀF (Procrustes'
problem). A feature h is drawn at s Qᵀ(h − m), m the mean of these class means, s such that ‖sM‖_F is that of the
simplex; the rows of W likewise, about their mean and in units of their own size, as NC3 compares them. With a third
column, for four classes or more, F is a tetrahedron, or such a projection in space.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize, to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from PIL import Image

from ncexp.measure import Snapshot, load_snapshot
from ncexp.record import RunDirectory, SavedRun, column
from ncexp.record.files import replace_file
from ncexp.record.quantities import find
from ncexp.report.style import SCALE, finish, label_ticks, lay_out, mode_colours, save, set_log

Array = numpy.ndarray
#: Classes that are drawn unless others are named; epochs in a row of panels; classes of a matrix of cosines.
DRAWN, PANELS, MOST_CLASSES = 3, 4, 100
#: Of a GIF: evenly spaced ones of more epochs.
MOST_PAGES = 50
#: Half the side of a panel, in radii of the simplex: what spreads further is cut.
MOST_ROOM = 2.6
#: Of a step of the slider: without a transition.
AT_ONCE = {"mode": "immediate", "frame": {"duration": 0}, "transition": {"duration": 0}}
ARROW = {"arrowstyle": "->", "linewidth": 1.4, "shrinkA": 0, "shrinkB": 0}
KINDS = ("among class means", "among rows of W", "rows of W, class means")
ABOUT = (
    "Dots: class means. Arrows: rows of W. Dotted: the exact simplex. Ellipses: 2σ of Σ_W in this plane, one for all "
    "classes.\nEvery epoch is scaled to the size of its class means, and the rows of W to their own."
)


@dataclass(frozen=True, eq=False)
class Frame:
    """One epoch. D numbers a point: means, rows and corners of the simplex (K, D); outline (T, D) of 2σ about 0;
    examples: of each class those that were kept, (m, D). cosines: C×C of each of KINDS, of the first MOST_CLASSES;
    spectra: σ_j of the centred class means and of W.
    """

    epoch: int
    classes: list[int]
    corners: Array
    means: Array
    rows: Array
    outline: Array
    examples: list[Array]
    cosines: list[Array]
    spectra: tuple[Array, Array]


def chosen_classes(text: str | None, count: int) -> list[int]:
    """The classes that ``0,1,2`` or ``all`` names, of `count`; without a text the first three.

    Raises ValueError for fewer than three, or for what is no class.
    """
    if count < DRAWN:
        raise ValueError(f"classes: expected a run of at least three classes, got {count}. Two make no simplex to see.")
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


def frames_of(run: SavedRun, classes: str | None = None, dims: int | None = None) -> list[Frame]:
    """A frame of every epoch whose snapshot was kept, of train features; dims: 2, or as many as there are up to 3.

    Raises ValueError where no snapshot was kept, classes are none, or features have fewer than D numbers or change
    their number; UnusableFile for a snapshot that cannot be read.
    """
    directory = RunDirectory(run.path)
    frames: list[Frame] = []
    width = None
    for epoch in directory.kept_snapshots():
        snapshot = load_snapshot(directory.snapshot(epoch), directory.key)
        total, found = snapshot.splits["train"].of_classes.class_means.shape
        chosen = chosen_classes(classes, total)
        drawn = dims or min(len(chosen) - 1, 3)
        if found < drawn or found != (width or found):
            wanted = f"{drawn} or more numbers" if found < drawn else f"{width} numbers, as at the first epoch"
            raise ValueError(f"features: expected {wanted}, got {found} at epoch {epoch} of {run.path}.")
        width = found
        frames.append(_frame(snapshot, chosen, drawn))
    if not frames:
        raise ValueError(f"{run.path}: expected snapshots, got none. Train with keep.snapshots=evaluated.")
    return frames


def _frame(snapshot: Snapshot, chosen: list[int], dims: int) -> Frame:
    split = snapshot.splits["train"]
    means, rows = split.of_classes.class_means.numpy(), snapshot.classifier.weight.double().numpy()
    corners = corners_of(len(chosen), dims)
    center = means[chosen].mean(0)
    left, _, right = numpy.linalg.svd((means[chosen] - center).T @ corners, full_matrices=False)
    basis = left @ right
    size = _size(means[chosen])
    directions, variances, _ = numpy.linalg.svd(basis.T @ split.of_classes.within_class_covariance.numpy() @ basis)
    turn = numpy.append(numpy.linspace(0, 2 * numpy.pi, 33), numpy.nan)  # which parts the circles of three planes
    circle = numpy.stack([numpy.cos(turn), numpy.sin(turn), 0 * turn][:dims], 1)
    circles = [numpy.roll(circle, shift, 1) for shift in range(1 if dims == 2 else 3)]
    kept = {part: tensor.double().numpy() for part, tensor in split.examples.items()}
    return Frame(
        epoch=snapshot.epoch,
        classes=chosen,
        corners=corners,
        means=(means[chosen] - center) @ basis * size,
        rows=(rows[chosen] - rows[chosen].mean(0)) @ basis * _size(rows[chosen]),
        outline=2 * size * numpy.concatenate(circles) * variances**0.5 @ directions.T,
        examples=[(kept["features"][kept["labels"] == one] - center) @ basis * size for one in chosen] if kept else [],
        cosines=_cosines(means, rows),
        spectra=(_singular(means - means.mean(0))[: len(means) - 1], _singular(rows)),
    )


def _singular(matrix: Array) -> Array:
    return numpy.linalg.svd(matrix, compute_uv=False)


def _size(points: Array) -> float:
    """s of the K points (K, P): ‖s(points − mean)‖_F is that of a simplex whose shadow has radius 1."""
    count, norm = len(points), numpy.linalg.norm(points - points.mean(0))
    return float(((count - 1) * count / 2) ** 0.5 / norm) if norm else float("nan")


def _cosines(means: Array, rows: Array) -> list[Array]:
    """As NC2 and NC3 have them: class means about their mean, rows of W as they are; nan where one is 0."""
    with numpy.errstate(invalid="ignore"):
        units = [one / numpy.linalg.norm(one, axis=1, keepdims=True) for one in (means - means.mean(0), rows)]
    first, second = (one[:MOST_CLASSES] for one in units)
    return [first @ first.T, second @ second.T, second @ first.T]


def draw_pictures(
    run: SavedRun, directory: Path, classes: str | None = None, epochs: Sequence[int] = (), animated: bool = False
) -> list[Path]:
    """simplex, cosines, spectra and, where layers were measured, depth, as PNG and PDF; simplex.gif where `animated`.

    epochs: of simplex and cosines; PANELS from the first to the last unless they are named. Raises as `frames_of`, and
    for an epoch without a snapshot.
    """
    figures = {} if (depth := depth_figure(run)) is None else {"depth": depth}
    frames = frames_of(run, classes, 2)
    known = [frame.epoch for frame in frames]
    if missing := [epoch for epoch in epochs if epoch not in known]:
        raise ValueError(f"epochs: expected some of {', '.join(map(str, known))}, got {missing[0]}.")
    steps = numpy.geomspace(max(known[0], 1), max(known[-1], 1), PANELS)
    wanted = epochs or [min(known, key=lambda epoch: abs(epoch - step)) for step in steps]
    chosen = [frames[known.index(epoch)] for epoch in dict.fromkeys(wanted)]
    figures |= {"simplex": simplex_figure(chosen), "cosines": cosines_figure(chosen), "spectra": spectra_figure(frames)}
    directory.mkdir(exist_ok=True)
    drawn = [save(one, directory / f"{name}.png", directory / f"{name}.pdf") for name, one in figures.items()]
    return [*drawn, _save_animation(frames, directory / "simplex.gif")] if animated else drawn


def simplex_figure(frames: Sequence[Frame]) -> Figure:
    """A panel an epoch: the plane of the chosen classes."""
    size = (3 * len(frames) + 1, 3.8)
    figure, grid = pyplot.subplots(1, len(frames), figsize=size, layout="constrained", squeeze=False)
    for axes, frame in zip(grid[0], frames, strict=True):
        draw_simplex(axes, frame, _room(frames))
    handles = [Line2D([], [], marker="o", linestyle="", color=c, label=str(k)) for k, c in _colours(frames[0].classes)]
    figure.legend(handles=handles[:10], title="class", loc="outside right center", frameon=False, handletextpad=0)
    figure.suptitle(ABOUT, fontsize=9)
    return figure


def draw_simplex(axes: Axes, frame: Frame, room: float) -> None:
    """One epoch, up to `room` to every side. The first line is the exact simplex; then come those of every class: its
    examples, where there are any, and its mean. Ellipses are patches, rows of W annotations.
    """
    closed = [*range(len(frame.corners)), 0]
    axes.plot(*frame.corners[closed].T, ":", color="black", linewidth=1)
    for place, (_, colour) in enumerate(_colours(frame.classes)):
        mean, row = frame.means[place], frame.rows[place]
        axes.fill(*(mean + frame.outline[:-1]).T, facecolor=(colour, 0.2), edgecolor=colour, linewidth=0.8)
        if frame.examples:
            axes.plot(*frame.examples[place].T, ".", color=colour, markersize=3, alpha=0.6)
        axes.plot(*mean, "o", color=colour, markersize=6)
        axes.annotate("", row, (0, 0), arrowprops=ARROW | {"color": colour})
    axes.set(xlim=(-room, room), ylim=(-room, room), aspect="equal", xticks=[], yticks=[])
    axes.set_title(f"epoch {frame.epoch}")


def _room(frames: Sequence[Frame]) -> float:
    """Half the side of a panel that shows all of these epochs, as far as MOST_ROOM."""
    drawn = [part.ravel() for one in frames for part in (one.means[:, None] + one.outline, one.rows)]
    far = abs(numpy.concatenate([part[numpy.isfinite(part)] for part in drawn]))
    return float(min(1.05 * far.max(initial=1.2), MOST_ROOM))


def _colours(classes: Sequence[int]) -> list[tuple[int, str]]:
    """Each class with its colour, the same whichever others are drawn, where ten suffice; else around the polygon."""
    if max(classes) < 10:
        return [(one, to_hex(pyplot.get_cmap("tab10")(one))) for one in classes]
    return [(one, to_hex(pyplot.get_cmap("hsv")(k / len(classes)))) for k, one in enumerate(classes)]


def cosines_figure(frames: Sequence[Frame]) -> Figure:
    """A row of each of KINDS, a column an epoch."""
    size = (2.3 * len(frames) + 1, 7.2)
    figure, grid = pyplot.subplots(len(KINDS), len(frames), figsize=size, layout="constrained", squeeze=False)
    for down, kind in enumerate(KINDS):
        for axes, frame in zip(grid[down], frames, strict=True):
            image = axes.imshow(frame.cosines[down], cmap="RdBu", vmin=-1, vmax=1, interpolation="nearest")
            axes.set(xticks=[], yticks=[])
            if down == 0:
                axes.set_title(f"epoch {frame.epoch}")
        grid[down, 0].set_ylabel(kind)
    bar = figure.colorbar(image, ax=grid, shrink=0.6)
    angle = -1 / len(frames[0].spectra[0])
    bar.set_ticks([-1, angle, 0.5, 1], labels=["−1", f"{angle:.2g}: simplex".replace("-", "−"), "0.5", "1"])
    figure.suptitle("Cosines, class by class; an exact simplex has 1 and −1/(C−1)")
    return figure


def spectra_figure(frames: Sequence[Frame]) -> Figure:
    """σ_j of the centred class means and of W against epoch, a line a mode."""
    figure, grid = pyplot.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
    titles = ("singular values of the class means", "singular values of W")
    for axes, title, values in zip(grid, titles, zip(*(one.spectra for one in frames), strict=True), strict=True):
        for mode, colour in zip(numpy.array(values).T, mode_colours(len(values[0])), strict=True):
            axes.plot([one.epoch for one in frames], mode, ".-", color=colour, linewidth=0.8, markersize=4)
        set_log(axes)
        axes.set(title=title, xlabel="epoch", xscale="log" if frames[0].epoch else "linear")
        for axis in (axes.xaxis, axes.yaxis):
            label_ticks(axis)
        finish(axes)
    return figure


def depth_figure(run: SavedRun) -> Figure | None:
    """Depth × epoch: a panel each number of layers on train features, a row a layer, the last layer's features at the
    top; None where no layer was measured.
    """
    layers: dict[str, list[str]] = {}
    for name in dict.fromkeys(name for record in run.records for name in record):
        if name.startswith("train/layers/"):
            _, _, module, quantity = name.split("/", 3)
            layers.setdefault(quantity, []).append(module)
    if not layers:
        return None
    down = -(-len(layers) // PANELS)
    size = (4 * PANELS, 2.8 * down)
    figure, grid = pyplot.subplots(down, PANELS, figsize=size, layout="constrained", sharex=True, squeeze=False)
    for axes in grid.flat[len(layers) :]:
        axes.set_axis_off()
    for axes, (quantity, modules) in zip(grid.flat, layers.items(), strict=False):
        _draw_depth(axes, run, quantity, modules)
    figure.supxlabel("evaluated epoch")
    return figure


def _draw_depth(axes: Axes, run: SavedRun, quantity: str, modules: list[str]) -> None:
    row = find(f"train/layers/{modules[0]}/{quantity}")
    names = {module: f"train/layers/{module}/{quantity}" for module in modules}
    if (last := f"train/collapse/{quantity}") in run.records[-1]:
        names["features"] = last
    values = numpy.array([column(run.records, name) for name in names.values()])
    drawable = values[numpy.isfinite(values) & ((values > 0) | (row is None or not row.is_log))]
    logarithmic = row is not None and row.is_log and drawable.size > 0
    low, high = (drawable.min(), drawable.max()) if drawable.size else (0, 1)
    norm = (LogNorm if logarithmic else Normalize)(low, high)
    axes.set_facecolor("0.9")
    image = axes.imshow(values, cmap=SCALE, norm=norm, aspect="auto", origin="lower", interpolation="nearest")
    epochs = column(run.records, "epoch")
    places = numpy.unique(numpy.linspace(0, len(epochs) - 1, 5).round().astype(int))
    axes.set_xticks(places, [f"{epochs[place]:.0f}" for place in places])
    axes.set_yticks(range(len(names)), names, parse_math=False)
    axes.set_title(row.label.partition(":")[0] if row else quantity, fontsize="medium")
    figure = axes.get_figure(root=True)
    assert figure is not None
    label_ticks(figure.colorbar(image, ax=axes).ax.yaxis)


def _save_animation(frames: Sequence[Frame], path: Path) -> Path:
    """A GIF that is played again and again: the plane, and beside it the cosines among all class means."""
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(7.2, 3.9), layout="constrained")
    figure.suptitle("class means (dots), classifier (arrows), 2σ of the features, exact simplex (dotted)", fontsize=10)
    pages, room = [], _room(frames)
    for frame in (frames[place] for place in numpy.unique(numpy.linspace(0, len(frames) - 1, MOST_PAGES).astype(int))):
        for axes in (left, right):
            axes.clear()
        draw_simplex(left, frame, room)
        right.imshow(frame.cosines[0], cmap="RdBu", vmin=-1, vmax=1, interpolation="nearest")
        right.set(title="cosines among class means", xticks=[], yticks=[])
        lay_out(figure)
        with io.BytesIO() as page:
            figure.savefig(page, dpi=90)
            pages.append(Image.open(page).convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE))
    pyplot.close(figure)
    times = [200] * (len(pages) - 1) + [2000]
    how = {"save_all": True, "append_images": pages[1:], "duration": times, "loop": 0, "optimize": True}
    replace_file(path, lambda file: pages[0].save(file, "GIF", **how))
    return path


def animation(frames: Sequence[Frame]) -> dict[str, Any]:
    """The same for Plotly: data, layout and frames, with a slider; in space for four classes or more."""
    flat = frames[0].corners.shape[1] == 2
    tour = [*range(count := len(frames[0].classes)), 0]
    simplex = _trace("exact simplex", frames[0].corners[[0, 1, 2, 0, 3, 1, 2, 3] if count == 4 else tour], "#888888")
    simplex["line"]["dash"] = "dot"
    steps = [{"label": str(one.epoch), "method": "animate", "args": [[str(one.epoch)], AT_ONCE]} for one in frames]
    words = {"play": [None, {**AT_ONCE, "frame": {"duration": 200}}], "pause": [[None], AT_ONCE]}
    play = [{"label": word, "method": "animate", "args": what} for word, what in words.items()]
    room = [-_room(frames), _room(frames)]
    axis = {"range": room, "showticklabels": False, "zeroline": False, "showgrid": False, "title": {"text": ""}}
    near = {"aspectmode": "cube", "camera": {"eye": {"x": 0.8, "y": 0.8, "z": 0.5}}}
    places = {"xaxis": axis, "yaxis": axis | ({"scaleanchor": "x"} if flat else {})}
    return {
        "data": [simplex, *_traces(frames[-1])],
        "frames": [{"name": str(one.epoch), "data": [simplex, *_traces(one)]} for one in frames],
        "layout": {
            **(places if flat else {"scene": {**places, "zaxis": axis, **near}}),
            "sliders": [{"active": len(frames) - 1, "currentvalue": {"prefix": "epoch "}, "steps": steps}],
            "updatemenus": [
                {"type": "buttons", "direction": "left", "x": 0, "xanchor": "left", "y": 1, "buttons": play}
            ],
            "legend": {"x": 1, "xanchor": "right"},
            "margin": {"l": 10, "r": 10, "t": 40, "b": 10},
        },
    }


def _traces(frame: Frame) -> Iterator[dict[str, Any]]:
    """Of every class: 2σ, the row of W from the middle, the mean; and its examples, where they were kept."""
    for place, (label, colour) in enumerate(_colours(frame.classes)):
        mean, row = frame.means[place], frame.rows[place]
        yield _trace(f"2σ of class {label}", mean + frame.outline, colour)
        yield _trace(f"row of W, class {label}", numpy.array([0 * row, row]), colour, width=3)
        yield _trace(f"class {label}", mean[None], colour, size=9)
        if frame.examples:
            yield _trace(f"examples of class {label}", frame.examples[place], colour, size=3)


def _trace(name: str, points: Array, colour: str, width: float = 1.5, size: int = 0) -> dict[str, Any]:
    values = [[None if numpy.isnan(one) else round(float(one), 4) for one in axis] for axis in points.T]
    look = {"mode": "markers", "marker": {"size": size if len(values) == 2 else size / 2, "color": colour}}
    return {
        "type": "scatter" if len(values) == 2 else "scatter3d",
        "name": name,
        "hoverinfo": "name",
        "showlegend": size > 3,
        **dict(zip("xyz", values, strict=False)),
        **(look if size else {"mode": "lines", "line": {"color": colour, "width": width}}),
    }
