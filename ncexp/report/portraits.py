"""Pictures of one run: class means that become a simplex, cosines, spectra, and layers by epoch; see frames.py."""

from __future__ import annotations

import io
import os.path
from collections.abc import Sequence
from pathlib import Path

import numpy
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize, TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from PIL import Image

from ncexp.record import SavedRun
from ncexp.record.files import replace_file
from ncexp.report.curves import draw_zero_error
from ncexp.report.figures import shown_name, zero_error_note
from ncexp.report.frames import LAST, Array, DepthMap, Frame, Plane, chosen_classes, depth_maps, frames_of, spectra_of
from ncexp.report.style import SCALE, class_colours, finish, label_ticks, lay_out, mode_colours, save, set_log

#: Panels in a row; classes and layers that are named; letters of a layer's name.
PANELS, MOST_NAMED, MOST_LETTERS = 4, 20, 16
#: Of a GIF: evenly spaced ones of more epochs.
MOST_PAGES = 50
#: Half the side of a panel, in radii of the simplex: what spreads further is cut.
MOST_ROOM = 2.6
#: Of cosines: blue is alike, red opposite, and white what the exact simplex has.
COSINES = "RdBu"
ARROW = {"arrowstyle": "->", "linewidth": 1.4, "shrinkA": 0, "shrinkB": 0}
KINDS = ("among class means", "among rows of W", "rows of W (down), class means (across)")
ABOUT = (
    "Large dots: class means. Arrows: rows of W. Ellipses: 2σ of Σ_W in this plane, one for all classes. Dotted: the "
    "exact simplex.\nEvery epoch is scaled to the size of its class means, and the rows of W to their own."
)


def draw_pictures(
    run: SavedRun, directory: Path, classes: str | None = None, epochs: Sequence[int] = (), animated: bool = False
) -> tuple[list[Path], list[str]]:
    """depth and depth_test where layers were measured, simplex, cosines, spectra: PNG and PDF; simplex.gif where
    `animated`. Returns the PNG and GIF, and why others could not be drawn.

    epochs: of simplex and cosines; PANELS from the first to the last unless they are named.
    Raises ValueError for `classes` and `epochs` that the run does not have.
    """
    maps, planes, frames, lacking = depth_maps(run), [], [], []
    try:
        planes = [(chosen_classes(classes, run), 2)]
    except ValueError as error:
        if classes is not None:
            raise
        lacking.append(str(error))
    try:
        frames = frames_of(run, *planes)
    except ValueError as error:
        lacking = [str(error)]  # then there is no simplex either
    figures = {name: depth_figure(run, of) for name, split in (("depth", "train"), ("depth_test", "test"))
               if (of := [one for one in maps if one.split == split])}  # fmt: skip
    if frames:
        chosen = _chosen_epochs(frames, epochs)
        figures |= {"simplex": simplex_figure(run, chosen)} if planes else {}
        figures |= {"cosines": cosines_figure(run, chosen), "spectra": spectra_figure(run, frames)}
    directory.mkdir(exist_ok=True)
    drawn = [save(one, directory / f"{name}.png", directory / f"{name}.pdf") for name, one in figures.items()]
    if animated and frames and planes:
        drawn.append(_save_animation(run, frames, directory / "simplex.gif"))
    return drawn, lacking


def _chosen_epochs(frames: Sequence[Frame], epochs: Sequence[int]) -> list[Frame]:
    known = [frame.epoch for frame in frames]
    if missing := [epoch for epoch in epochs if epoch not in known]:
        raise ValueError(f"epochs: expected some of {', '.join(map(str, known))}, got {missing[0]}.")
    steps = numpy.geomspace(max(known[0], 1), max(known[-1], 1), PANELS) if len(known) > PANELS else known
    wanted = epochs or [min(known, key=lambda epoch: abs(epoch - step)) for step in steps]
    return [frames[known.index(epoch)] for epoch in dict.fromkeys(wanted)]


def simplex_figure(run: SavedRun, frames: Sequence[Frame]) -> Figure:
    """A panel an epoch: the plane of the chosen classes."""
    size = (3 * len(frames) + 1, 4.1)
    figure, grid = pyplot.subplots(1, len(frames), figsize=size, layout="constrained", squeeze=False)
    for axes, frame in zip(grid[0], frames, strict=True):
        draw_simplex(axes, frame, room_of(frames))
    classes = frames[0].planes[0].classes
    places = numpy.unique(numpy.linspace(0, len(classes) - 1, 10).round().astype(int))
    dots = [
        Line2D([], [], marker="o", linestyle="", color=class_colours(classes)[place], label=str(classes[place]))
        for place in places
    ]
    title = "class" if len(dots) == len(classes) else "class,\nin order"
    figure.legend(handles=dots, title=title, loc="outside right center", frameon=False, handletextpad=0)
    figure.suptitle(f"{shown_name(run)}\n{ABOUT}", fontsize=9)
    return figure


def draw_simplex(axes: Axes, frame: Frame, room: float) -> None:
    """One epoch, up to `room` to every side. The first line is the exact simplex; then come those of every class: its
    examples, where there are any, and its mean. Ellipses are patches, rows of W annotations.
    """
    plane = frame.planes[0]
    closed, fill = [*range(len(plane.corners)), 0], 0.2 if len(plane.classes) <= 10 else 0
    axes.plot(*plane.corners[closed].T, ":", color="black", linewidth=1)
    for place, colour in enumerate(class_colours(plane.classes)):
        mean, row = plane.means[place], plane.rows[place]
        axes.fill(*(mean + plane.outline[:-1]).T, facecolor=(colour, fill), edgecolor=colour, linewidth=0.8)
        if plane.examples:
            axes.plot(*plane.examples[place].T, ".", color=colour, markersize=3, alpha=0.6)
        axes.plot(*mean, "o", color=colour, markersize=6)
        axes.annotate("", row, (0, 0), arrowprops=ARROW | {"color": colour})
    axes.set(xlim=(-room, room), ylim=(-room, room), aspect="equal", xticks=[], yticks=[])
    axes.set_title(f"epoch {frame.epoch}")


def room_of(frames: Sequence[Frame], place: int = 0) -> float:
    """Half the side of a panel that shows all of these epochs, as far as MOST_ROOM."""
    planes: list[Plane] = [frame.planes[place] for frame in frames]
    drawn = [part.ravel() for one in planes for part in (one.means[:, None] + one.outline, one.rows)]
    far = abs(numpy.concatenate([part[numpy.isfinite(part)] for part in drawn]))
    return float(min(1.05 * far.max(initial=1.2), MOST_ROOM))


def norm_of(run: SavedRun) -> TwoSlopeNorm:
    """Of cosines: −1/(C − 1) in the middle; of two classes 0, as −1 is the end."""
    classes = run.facts["num_classes"]
    return TwoSlopeNorm(-1 / (classes - 1) if classes > 2 else 0, -1, 1)


def cosines_figure(run: SavedRun, frames: Sequence[Frame]) -> Figure:
    """A row of each of KINDS, a column an epoch."""
    size = (2.3 * len(frames) + 1, 7.6)
    figure, grid = pyplot.subplots(len(KINDS), len(frames), figsize=size, layout="compressed", squeeze=False)
    norm = norm_of(run)
    for down, kind in enumerate(KINDS):
        for axes, frame in zip(grid[down], frames, strict=True):
            image = draw_cosines(axes, frame.cosines[down], norm, first=axes is grid[down, 0])
            axes.set_title(f"epoch {frame.epoch}" if down == 0 else "")
        grid[down, 0].set_ylabel(kind, fontsize="small")
    bar = figure.colorbar(image, ax=grid, shrink=0.6)
    bar.set_ticks([-1, norm.vcenter, 1], labels=["−1", f"{norm.vcenter:.2g}".replace("-", "−"), "1"])
    figure.suptitle(
        f"{shown_name(run)}\ncosines, class by class; white: −1/(C−1), as in the exact simplex", fontsize=10
    )
    return figure


def draw_cosines(axes: Axes, cosines: Array, norm: Normalize, first: bool) -> AxesImage:
    """Class by class; the classes are named where there is room, and down at the `first` of a row."""
    named = range(len(cosines) if len(cosines) <= MOST_NAMED else 0)
    axes.set_xticks(named, map(str, named), fontsize="xx-small")
    axes.set_yticks(named[: None if first else 0], map(str, named[: None if first else 0]), fontsize="xx-small")
    axes.tick_params(length=0, pad=1)
    return axes.imshow(cosines, cmap=COSINES, norm=norm, interpolation="nearest")


def spectra_figure(run: SavedRun, frames: Sequence[Frame]) -> Figure:
    """A panel each of `spectra_of`, against epoch, a line each value."""
    spectra = spectra_of(run, frames)
    figure, grid = pyplot.subplots(1, len(spectra), figsize=(4.5 * len(spectra), 4.4), layout="constrained")
    for axes, (title, epochs, values) in zip(grid, spectra, strict=True):
        for line, colour in zip(values, mode_colours(len(values)), strict=True):
            axes.plot(epochs, line, ".-", color=colour, linewidth=0.8, markersize=4)
        set_log(axes)
        axes.set(title=title, xlabel="epoch", xscale="log" if epochs[0] else "linear")
        for axis in (axes.xaxis, axes.yaxis):
            label_ticks(axis)
        draw_zero_error(axes, [run])
        finish(axes)
    figure.suptitle(f"{shown_name(run)}     {zero_error_note(run)}", fontsize=10)
    return figure


def depth_figure(run: SavedRun, maps: Sequence[DepthMap]) -> Figure:
    """Depth × epoch: a panel each number, a row a layer, the last layer's features at the top. Grey is undefined."""
    down, high = -(-len(maps) // PANELS), max(len(one.layers) for one in maps)
    size = (4 * PANELS, 0.6 + down * max(2.6, 0.12 * high))
    figure, grid = pyplot.subplots(down, PANELS, figsize=size, layout="constrained", squeeze=False)
    for axes in grid.flat[len(maps) :]:
        axes.set_axis_off()
    for place, (axes, one) in enumerate(zip(grid.flat, maps, strict=False)):
        _draw_depth(axes, one, named=place % PANELS == 0 or one.layers != maps[place - 1].layers)
    what = f"{maps[0].split} features, by layer (the first at the bottom) and evaluated epoch"
    figure.suptitle(f"{shown_name(run)}\n{what}", fontsize=10)
    return figure


def _draw_depth(axes: Axes, one: DepthMap, named: bool) -> None:
    norm = (LogNorm if one.is_log else Normalize)(*one.bounds)
    axes.set_facecolor("0.9")
    image = axes.imshow(one.values, cmap=SCALE, norm=norm, aspect="auto", origin="lower", interpolation="nearest")
    epochs = numpy.unique(numpy.linspace(0, len(one.epochs) - 1, 5).round().astype(int))
    axes.set_xticks(epochs, [str(one.epochs[place]) for place in epochs])
    layers = range(0, len(one.layers), -(-len(one.layers) // MOST_NAMED))
    names = [shortened(one.layers)[place] for place in layers]
    axes.set_yticks(layers, names if named else [""] * len(names), parse_math=False, fontsize="small")
    axes.set_title(one.title, fontsize="medium", parse_math=False)
    figure = axes.get_figure(root=True)
    assert figure is not None
    label_ticks(figure.colorbar(image, ax=axes).ax.yaxis, one.is_share)


def shortened(layers: list[str]) -> list[str]:
    """Names of layers; where one is long, all without the parts with which all begin."""
    modules = [name for name in layers if name != LAST]
    begun = os.path.commonprefix(modules).rpartition(".")[0]  # noqa: RUF071 (dots, no slashes)
    return (
        layers
        if max(map(len, modules)) <= MOST_LETTERS or not begun
        else [name if name == LAST else f"…{name.removeprefix(begun)}" for name in layers]
    )


def _save_animation(run: SavedRun, frames: Sequence[Frame], path: Path) -> Path:
    """A GIF that is played again and again: the plane, and beside it the cosines among all class means."""
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(7.2, 3.9), layout=ConstrainedLayoutEngine(h_pad=0.06))
    figure.suptitle("class means (dots), classifier (arrows), 2σ of the features, exact simplex (dotted)", fontsize=10)
    pages, room, norm = [], room_of(frames), norm_of(run)
    for frame in (frames[place] for place in numpy.unique(numpy.linspace(0, len(frames) - 1, MOST_PAGES).astype(int))):
        for axes in (left, right):
            axes.clear()
        draw_simplex(left, frame, room)
        draw_cosines(right, frame.cosines[0], norm, first=True)
        right.set_title("cosines of class means")
        lay_out(figure)
        with io.BytesIO() as page:
            figure.savefig(page, dpi=90)
            pages.append(Image.open(page).convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE))
    pyplot.close(figure)
    times = [200] * (len(pages) - 1) + [2000]
    how = {"save_all": True, "append_images": pages[1:], "duration": times, "loop": 0, "optimize": True}
    replace_file(path, lambda file: pages[0].save(file, "GIF", **how))
    return path
