"""The pictures of frames.py for the page, as Plotly takes them: what moves has a slider over the epochs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from typing import Any

import numpy
from matplotlib import colormaps
from matplotlib.colors import to_hex

from ncexp.record import SavedRun
from ncexp.report.frames import Array, DepthMap, Frame, depth_maps, frames_of, spectra_of
from ncexp.report.portraits import COSINES, KINDS, norm_of, room_of, shortened
from ncexp.report.style import NEUTRAL, class_colours, mode_colours, scale_colours

Data = dict[str, Any]
BARE: Data = {"zeroline": False, "showgrid": False}
#: In the plane, and in space.
SHOWN = (([0, 1, 2], 2), ([0, 1, 2, 3], 3))
#: Cosines of all epochs together: where classes are many, evenly spaced epochs.
MOST_FIELDS = 200_000
#: Of a step of the slider: without a transition.
AT_ONCE = {"mode": "immediate", "frame": {"duration": 0}, "transition": {"duration": 0}}


def pictures_of(run: SavedRun) -> list[Data]:
    """The title, data, layout and frames of each, as far as snapshots, classes and layers allow; why not, `ncexp
    pictures RUN` says.
    """
    classes, features = (run.facts.get(name, 0) for name in ("num_classes", "num_features"))
    planes = [(chosen, dims) for chosen, dims in SHOWN if len(chosen) <= classes and dims <= features]
    try:
        frames = frames_of(run, *planes)
    except ValueError:
        frames = []
    pictures = [_simplex(frames, place) for place in range(len(planes))] if frames else []
    pictures += [_cosines(run, frames), _spectra(spectra_of(run, frames))] if frames else []
    return pictures + ([_depth(maps)] if (maps := depth_maps(run)) else [])


def _simplex(frames: Sequence[Frame], place: int) -> Data:
    """In space for four classes: then the mouse turns it."""
    first = frames[0].planes[place]
    flat, count = first.corners.shape[1] == 2, len(first.classes)
    tour = [0, 1, 2, 0] if flat else [0, 1, 2, 0, 3, 1, 2, 3]
    simplex = _trace("exact simplex", first.corners[tour], NEUTRAL)
    simplex["line"]["dash"] = "dot"
    kept = any(one.planes[place].examples for one in frames)
    data = [[simplex, *_traces(one, place, kept)] for one in frames]
    room = room_of(frames, place)
    axis = BARE | {"range": [-room, room], "showticklabels": False, "title": {"text": ""}}
    near = {"aspectmode": "cube", "camera": {"eye": {"x": 0.8, "y": 0.8, "z": 0.5}}}
    places: Data = {"xaxis": axis, "yaxis": axis | ({"scaleanchor": "x"} if flat else {})}
    layout = places if flat else {"scene": {**places, "zaxis": axis, **near}}
    moved = [[{name: trace[name] for name in "xyz" if name in trace} for trace in one] for one in data]
    layout |= {"legend": {"x": 1, "xanchor": "right"}}
    return {"title": f"Simplex of classes 0 to {count - 1}", "data": data[-1]} | _played(frames, moved, layout)


def _played(frames: Sequence[Frame], moved: Sequence[Sequence[Data]], layout: Data) -> Data:
    """With the changes of every epoch, two buttons and beside them a slider that begins at the last."""
    steps = [{"label": str(one.epoch), "method": "animate", "args": [[str(one.epoch)], AT_ONCE]} for one in frames]
    words = {"▶": [None, {**AT_ONCE, "frame": {"duration": 200}}], "❚❚": [[None], AT_ONCE]}
    play = [{"label": word, "method": "animate", "args": what} for word, what in words.items()]
    below = {"y": 0, "yanchor": "top", "pad": {"t": 40}}
    buttons = below | {"type": "buttons", "direction": "left", "x": 0, "xanchor": "left", "buttons": play}
    beside = below | {"x": 0.2, "len": 0.8, "currentvalue": {"prefix": "epoch ", "xanchor": "right"}}
    return {
        "frames": [{"name": str(one.epoch), "data": data} for one, data in zip(frames, moved, strict=True)],
        "layout": {
            "sliders": [beside | {"active": len(frames) - 1, "steps": steps}],
            "updatemenus": [buttons | {"showactive": False}],
            "margin": {"l": 10, "r": 10, "t": 40, "b": 10},
            **layout,
        },
    }


def _traces(frame: Frame, place: int, kept: bool) -> Iterator[Data]:
    """Of every class: 2σ, the row of W from the middle, the mean; its examples, where they were kept of some epoch."""
    plane = frame.planes[place]
    examples = plane.examples or [plane.means[:0]] * len(plane.classes)
    for label, colour in zip(plane.classes, class_colours(plane.classes), strict=True):
        mean, row = plane.means[label], plane.rows[label]
        yield _trace(f"2σ of class {label}", mean + plane.outline, colour)
        yield _trace(f"row of W, class {label}", numpy.array([0 * row, row]), colour, width=3)
        yield _trace(f"class {label}", mean[None], colour, size=9)
        if kept:
            yield _trace(f"examples of class {label}", examples[label], colour, size=3)


def _trace(name: str, points: Array, colour: str, width: float = 1.5, size: int = 0) -> Data:
    values = [_numbers(axis, 4) for axis in points.T]
    look = {"mode": "markers", "marker": {"size": size if len(values) == 2 else size / 2, "color": colour}}
    return {
        "type": "scatter" if len(values) == 2 else "scatter3d",
        "name": name,
        "hoverinfo": "name",
        "showlegend": size > 3,
        **dict(zip("xyz", values, strict=False)),
        **(look if size else {"mode": "lines", "line": {"color": colour, "width": width}}),
    }


def _numbers(values: Array, digits: int) -> list[Any]:
    """As JSON has them, of so many significant digits; None for what is undefined."""
    if values.ndim > 1:
        return [_numbers(row, digits) for row in values]
    return [float(f"{one:.{digits}g}") if numpy.isfinite(one) else None for one in values]


def _cosines(run: SavedRun, frames: Sequence[Frame]) -> Data:
    """Three heat maps side by side."""
    most = max(2, MOST_FIELDS // sum(one.size for one in frames[0].cosines))
    kept = [frames[place] for place in numpy.unique(numpy.linspace(0, len(frames) - 1, most).astype(int))]
    norm = norm_of(run)
    colours = [[place, to_hex(colormaps[COSINES](norm(2 * place - 1)))] for place in numpy.linspace(0, 1, 21)]
    moved = [[{"z": _numbers(cosines, 3)} for cosines in frame.cosines] for frame in kept]
    data: list[Data] = []
    axes: Data = {}
    for place, (kind, values) in enumerate(zip(KINDS, moved[-1], strict=True)):
        end, words = str(place + 1) if place else "", kind.replace(", ", ",<br>")
        map_ = {"type": "heatmap", "xaxis": f"x{end}", "yaxis": f"y{end}", "coloraxis": "coloraxis"}
        data.append(map_ | values | {"hovertemplate": "%{y}, %{x}: %{z}<extra></extra>"})
        square = BARE | {"constrain": "domain", "dtick": 1 + len(frames[0].cosines[0]) // 11, "tickfont": {"size": 9}}
        title = {"text": words, "font": {"size": 11}}
        axes[f"xaxis{end}"] = square | {"domain": [place / 3, place / 3 + 0.3], "side": "top", "title": title}
        axes[f"yaxis{end}"] = square | {"anchor": f"x{end}", "scaleanchor": f"x{end}", "autorange": "reversed"}
    bar = {"orientation": "h", "y": 0, "yanchor": "bottom", "thickness": 10, "len": 0.6}
    shared = {"colorscale": colours, "cmin": -1, "cmax": 1, "colorbar": bar}
    name = "Cosines, class by class; white: the exact simplex"
    margin = {"l": 30, "r": 10, "t": 40, "b": 10}
    return {"title": name, "data": data} | _played(kept, moved, axes | {"coloraxis": shared, "margin": margin})


def _spectra(spectra: Sequence[tuple[str, list[int], Array]]) -> Data:
    """Panels side by side, a line each value."""
    data: list[Data] = []
    layout: Data = {}
    faint, hover = (
        {"gridcolor": "rgba(128, 128, 128, 0.25)", "tickfont": {"size": 10}},
        "epoch %{x}: %{y}<extra></extra>",
    )
    look = {
        "type": "scatter",
        "mode": "lines+markers",
        "marker": {"size": 3},
        "showlegend": False,
        "hovertemplate": hover,
    }
    for place, (title, epochs, values) in enumerate(spectra):
        end, start = str(place + 1) if place else "", place / len(spectra)
        for line, colour in zip(values, mode_colours(len(values)), strict=True):
            drawn = {"x": epochs, "y": _numbers(line, 5), "line": {"width": 1, "color": to_hex(colour)}}
            data.append(look | drawn | {"xaxis": f"x{end}", "yaxis": f"y{end}"})
        along = faint | ({"type": "log", "dtick": 1} if epochs[0] else {})
        words = {"text": f"{title}<br>against epoch", "font": {"size": 11}}
        layout[f"xaxis{end}"] = along | {"domain": [start + 0.02, start + 0.9 / len(spectra)], "title": words}
        layout[f"yaxis{end}"] = faint | {"anchor": f"x{end}", "type": "log", "exponentformat": "power"}
    return {"title": "Spectra", "data": data, "layout": layout | {"margin": {"l": 40, "r": 10, "t": 40, "b": 60}}}


def _depth(maps: Sequence[DepthMap]) -> Data:
    """One heat map, and a menu of the numbers; a logarithmic one is coloured by its logarithm. Plotly reads markup in
    words, and names of layers may be anybody's.
    """
    scale = [[place / 9, colour] for place, colour in enumerate(scale_colours(10))]
    data, buttons = [], []
    for place, one in enumerate(maps):
        factor, sign = (100, " %") if one.is_share else (1, "")
        with numpy.errstate(divide="ignore", invalid="ignore"):
            values, bounds = (
                numpy.log10(part) if one.is_log else part for part in (one.values, numpy.array(one.bounds))
            )
        bar = {"title": {"text": "log₁₀" if one.is_log else ""}, "tickformat": "" if one.is_log or not sign else "~%"}
        data.append(
            {
                "type": "heatmap",
                "x": [str(epoch) for epoch in one.epochs],
                "y": [escape(name, quote=False) for name in shortened(one.layers)],
                "z": _numbers(values, 4),
                "zmin": float(bounds[0]),
                "zmax": float(bounds[1]),
                "text": [[f"{factor * value:.4g}{sign}" for value in row] for row in one.values],
                "hovertemplate": "%{y}, epoch %{x}: %{text}<extra></extra>",
                "visible": place == 0,
                "colorscale": scale,
                "colorbar": bar | {"thickness": 12},
            }
        )
        visible = {"visible": [other == place for other in range(len(maps))]}
        buttons.append(
            {"label": escape(f"{one.title}, {one.split}", quote=False), "method": "restyle", "args": [visible]}
        )
    layout = {
        "xaxis": BARE | {"type": "category", "nticks": 10, "tickangle": 0, "title": {"text": "evaluated epoch"}},
        "yaxis": BARE | {"type": "category", "automargin": True},
        "plot_bgcolor": "rgba(128, 128, 128, 0.2)",
        "updatemenus": [{"buttons": buttons, "x": 0, "xanchor": "left", "y": 1.01, "yanchor": "bottom"}],
        "margin": {"l": 10, "r": 10, "t": 80, "b": 50},
    }
    return {"title": "Layers by epoch", "data": data, "layout": layout}
