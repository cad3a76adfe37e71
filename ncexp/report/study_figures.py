"""The figures of a study: numbers at the end against a key, or as heat maps; against the epoch; one against another."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ncexp.measure import Comparison, compare_with_path
from ncexp.record.quantities import BOTH, DECOMPOSITION, TRAIN, Quantity, panels
from ncexp.report.columns import ZERO_EPOCH, Column, brief, brief_choice, tick
from ncexp.report.curves import (
    Curve,
    curves_of,
    draw_curve,
    draw_residuals,
    draw_spectra,
    draw_zero_error,
    spectrum_handles,
    spectrum_series,
)
from ncexp.report.heat_maps import heat_facets, heat_figure
from ncexp.report.panels import Panel, draw_panels, wrapped
from ncexp.report.study import Setting, Study, by_values, over_seeds, rows_that_fit
from ncexp.report.style import (
    RED,
    TRAIN_LINE,
    axis_label,
    group_colours,
    key_colours,
    label_ticks,
    scale_axis,
    set_log,
)

#: Settings that have a panel of their own, the best ones; curves in one panel.
MOST_PANELS, MOST_CURVES = 12, 60
#: Panels with more settings have no lines at zero error.
MOST_ZERO = 4
#: Values of a key that are ticks of its axis.
MOST_TICKS = 6
NOTHING = "nothing to draw"
Draw = Callable[[float | None], Figure]


def figures_of(study: Study) -> Iterator[tuple[str, str, Draw]]:
    """(name, caption, what draws it, of a width in inches)."""
    layout = study.layout
    if layout.scatter:
        x, y = layout.scatter
        yield "scatter", f"{y.label} against {x.label}: a point a run that completed.", partial(scatter_figure, study)
    if not any(setting.kept for setting in study.settings):
        return
    if layout.x and layout.across:
        caption = f"At the end, over {layout.x.label} and {layout.across.label}: means over the runs of each setting."
        columns = len(heat_facets(study))
        words = _of_how_many(study, study.drawn(columns), study.layout.y)
        yield "heat_maps", caption + words, partial(heat_figure, study)
    elif layout.x:
        points = "mean and standard error over the runs of each setting" if layout.x.is_key else "a point a run"
        caption = f"At the end, against {layout.x.label}: {points}."
        words = _of_how_many(study, study.drawn(len(study.facets)), study.layout.y)
        yield "at_the_end", caption + words, partial(final_figure, study)
    shown = study.ranked[:MOST_CURVES]
    few = "" if len(shown) == len(study.settings) else f" The {MOST_CURVES} best of {len(study.settings)} settings."
    bands = "Against the epoch: mean over seeds and one standard deviation."
    if rows := _curve_rows(study):
        words = _of_how_many(study, rows_that_fit(rows, len(study.facets)), rows)
        yield "epochs", bands + few + words, partial(epochs_figure, study)
    best = [setting for setting in study.ranked if setting.kept][:MOST_PANELS]
    few = "" if len(best) == len(study.settings) else f" The {len(best)} best of {len(study.settings)} settings."
    recorded = {name for setting in best for run in setting.kept for name in run.records[-1]}
    if panels()[DECOMPOSITION][0].on() in recorded:
        yield "decomposition", f"The MSE loss on train features and its parts.{few}", partial(terms_figure, study, best)
    fits = [found for setting in best if any(found := _compared(setting))]
    if fits:
        caption = f"SNR spectra: points measured, lines the closed form fitted from zero error on.{few}"
        yield "spectra", caption, partial(spectra_figure, best)
    if any(one.fit is not None for found in fits for one in found):
        caption = f"How far the closed form misses the spectrum, in percent of an ω.{few}"
        yield "path_fit", caption, partial(path_fit_figure, study, best)


def _of_how_many(study: Study, rows: Sequence[object], every: Sequence[object]) -> str:
    """Where there is room for some numbers alone, how many these are, and how to see others."""
    if study.layout.named or len(rows) == len(every):
        return ""
    return f" The first {len(rows)} of {len(every)} numbers; y= names others."


def colours_of(study: Study) -> dict[str, str]:
    """Value of the color's key → colour; empty where there is no such key."""
    column = study.layout.color
    return {} if column is None else key_colours(column.texts, column.numeric)


def final_figure(study: Study, width: float | None = None) -> Figure:
    """A row a number, a column a facet; lines join settings that differ in x alone. A cross: a run did not complete."""
    x = study.layout.x
    assert x is not None

    def draw(axes: Axes, settings: Sequence[Setting], y: Column) -> None:
        if not x.is_key:
            _draw_points(axes, study, settings, x, y)
            return
        for line in _lines(settings, x.name):
            values = [over_seeds(setting.done, y.of, kind="se") for setting in line]
            places, means = [_place(x, setting) for setting in line], [value.mean for value in values]
            spreads = [0.0 if math.isnan(value.spread) else value.spread for value in values]
            style: dict[str, Any] = {"color": _colour(study, line[0]), "markersize": 6}
            joined = ".-" if x.numeric and len(line) > 1 else "."
            if any(spreads):
                axes.errorbar(places, means, spreads, fmt=joined, linewidth=1, elinewidth=1, capsize=2, **style)
            else:
                axes.plot(places, means, joined, linewidth=1, **style)
            begun = [place for place, setting in enumerate(line) if not setting.completed]
            if begun:
                axes.plot([places[one] for one in begun], [means[one] for one in begun], "x", **style)

    return _by_facet(study, study.drawn(len(study.facets)), draw, x, width)


def epochs_figure(study: Study, width: float | None = None) -> Figure:
    """A row a panel of the catalogue, or each number that was asked for; a column a facet; a curve a setting."""
    shown = {id(setting) for setting in study.ranked[:MOST_CURVES]}
    rows = _curve_rows(study)
    rows = rows if study.layout.named else [*rows_that_fit(rows, len(study.facets))]

    def draw(axes: Axes, settings: Sequence[Setting], curves: Sequence[Curve]) -> None:
        drawn = [setting for setting in settings if id(setting) in shown]
        for setting in drawn:
            for curve in curves:
                draw_curve(axes, setting.kept, replace(curve, colour=_colour(study, setting)))
            if len(drawn) <= MOST_ZERO:
                draw_zero_error(axes, setting.kept, named=len(drawn) == 1)
        _say_where_empty(axes)

    facets = study.facets
    panels_of = [
        [
            Panel(partial(draw, settings=settings, curves=curves), partial(_scale_curve, row=row))
            for _, settings in facets
        ]
        for _, curves, row in rows
    ]
    names = [name for name, _, _ in rows]
    zero = any(len(settings) <= MOST_ZERO for _, settings in facets)
    handles = [*_handles(study), *_line_handles(rows), *([_zero_handle()] if zero else [])]
    if len(facets) == 1:
        return wrapped(names, [one for (one,) in panels_of], handles, width)
    return draw_panels(names, [words for words, _ in facets], panels_of, handles, width)


def terms_figure(study: Study, settings: Sequence[Setting], width: float | None = None) -> Figure:
    """HPD22 Figure 2, a panel a setting: L, L_NC1, L_NC2/3 and L_LS⊥."""
    rows = panels()[DECOMPOSITION]
    curves = curves_of(rows, TRAIN, "black")

    def draw(axes: Axes, setting: Setting) -> None:
        for curve in curves:
            draw_curve(axes, setting.kept, curve)
        draw_zero_error(axes, setting.kept)

    drawn = [Panel(partial(draw, setting=one), partial(scale_axis, row=rows[0])) for one in settings]
    handles = [*(curve.handle for curve in curves), _zero_handle()]
    label = axis_label(rows[0], [run for setting in settings for run in setting.kept])
    return wrapped([one.label for one in settings], drawn, handles, width, label=label)


def spectra_figure(settings: Sequence[Setting], width: float | None = None) -> Figure:
    """ω_j, a panel a setting: measured, and as lines the closed form of the central path laid along."""

    def draw(axes: Axes, setting: Setting) -> None:
        draw_spectra(axes, *spectrum_series(_compared(setting)))
        draw_zero_error(axes, setting.kept)

    drawn = [Panel(partial(draw, setting=one), _log_scale) for one in settings]
    modes = max((found[0].modes for one in settings if (found := _compared(one))), key=len)
    handles = [*spectrum_handles(modes), _zero_handle()]
    label = "ω: class means in units of\nthe noise within classes"
    return wrapped([one.label for one in settings], drawn, handles, width, label=label)


def path_fit_figure(study: Study, settings: Sequence[Setting], width: float | None = None) -> Figure:
    """By what factor the closed form misses the ω_j: root mean square over modes of log residuals; a column a facet."""

    def draw(axes: Axes, settings: Sequence[Setting]) -> None:
        for setting in settings:
            draw_residuals(axes, _compared(setting), _colour(study, setting))
        _say_where_empty(axes)

    def scale(axes: Axes) -> None:
        axes.set_ylim(bottom=0)
        label_ticks(axes.yaxis, share=True)

    facets = by_values(settings, study.layout.facet)
    drawn = [[Panel(partial(draw, settings=members), scale) for _, members in facets]]
    label = "closed form's miss: rms over j of\nlog (measured ω_j / theory)"
    return draw_panels([""], [words for words, _ in facets], drawn, _handles(study), width, label=label)


def scatter_figure(study: Study, width: float | None = None) -> Figure:
    """A point a run; above it the rank correlation and its interval, see `rank_correlation`."""
    assert study.layout.scatter is not None
    x, y = study.layout.scatter

    def draw(axes: Axes) -> str:
        _draw_points(axes, study, study.settings, x, y)
        _scale_x(axes, x)
        return correlation_in_words(study)

    wide = 4.6 if width is None else width
    return draw_panels(
        [y.label], [""], [[Panel(draw, partial(_scale, column=y))]], _handles(study), wide, of_axis=x.label
    )


def correlation_in_words(study: Study) -> str:
    """``Spearman's ρ 0.87, 95 % interval 0.61 to 0.95, of 18 runs``."""
    rho, low, high, count = study.correlation
    if math.isnan(rho):
        return f"{count} runs have both numbers: no rank correlation"
    interval = "" if math.isnan(low) else f", 95 % interval {low:.2f} to {high:.2f}"
    return f"Spearman's ρ {rho:.2f}{interval}, of {count} runs"


def _by_facet(
    study: Study, numbers: Sequence[Column], draw: Callable[..., None], x: Column, width: float | None
) -> Figure:
    """A row a number, a column a facet; of one facet the panels stand in lines."""

    def draw_one(axes: Axes, settings: Sequence[Setting], y: Column) -> None:
        draw(axes, settings, y)
        _say_where_empty(axes)
        _scale_x(axes, x)

    drawn = [
        [Panel(partial(draw_one, settings=settings, y=y), partial(_scale, column=y)) for _, settings in study.facets]
        for y in numbers
    ]
    names, handles = [y.label for y in numbers], _handles(study)
    if len(study.facets) == 1:
        return wrapped(names, [one for (one,) in drawn], handles, width, of_axis=x.label)
    return draw_panels(names, [words for words, _ in study.facets], drawn, handles, width, of_axis=x.label)


def _lines(settings: Sequence[Setting], x: str) -> list[list[Setting]]:
    """The settings that have numbers and differ in x alone."""
    found: dict[tuple[str, ...], list[Setting]] = {}
    for setting in settings:
        if setting.kept:
            found.setdefault(tuple(text for name, text in setting.values.items() if name != x), []).append(setting)
    return [*found.values()]


def _draw_points(axes: Axes, study: Study, settings: Sequence[Setting], x: Column, y: Column) -> None:
    for setting in settings:
        xs, ys = ([column.of(run) for run in setting.points] for column in (x, y))
        axes.plot(xs, ys, ".", color=_colour(study, setting), markersize=6)


def _curve_rows(study: Study) -> list[tuple[str, list[Curve], Quantity | None]]:
    """(name, curves, the row that scales it, if there is one) of each panel against the epoch."""
    kept = [run for setting in study.settings for run in setting.kept]
    recorded = {name for run in kept for name in run.records[-1]}
    if study.layout.named:
        named = [y for y in study.layout.y if y.name != ZERO_EPOCH]
        return [(y.label, [Curve(y.name, "", "grey", TRAIN_LINE)], y.row) for y in named]
    found: list[tuple[str, list[Curve], Quantity | None]] = []
    for name, rows_ in panels().items():
        curves = curves_of(rows_, BOTH if len(rows_) == 1 else TRAIN, "grey")
        if name != DECOMPOSITION and recorded & {curve.name for curve in curves}:
            found.append((name, curves, rows_[0]))
    return found


def _compared(setting: Setting) -> list[Comparison]:
    return [found for run in setting.kept if (found := compare_with_path(run)) is not None]


def _colour(study: Study, setting: Setting) -> str:
    column = study.layout.color
    colours = colours_of(study)
    return colours[setting.values[column.name]] if column is not None and colours else group_colours([""])[""]


def _place(x: Column, setting: Setting) -> float:
    text = setting.values[x.name]
    return float(text) if x.numeric else x.texts.index(text)


def _scale_curve(axes: Axes, row: Quantity | None) -> None:
    """As the catalogue has it; a number that is not in it, as it comes."""
    if row is not None:
        scale_axis(axes, row)


def _scale(axes: Axes, column: Column) -> None:
    if column.row is not None:
        scale_percent = column.row.is_share
        if column.log:
            set_log(axes)
        label_ticks(axes.yaxis)
        if scale_percent and not column.log:
            axes.set_ylim(bottom=0)
    elif column.log:
        set_log(axes)


def _scale_x(axes: Axes, x: Column) -> None:
    if x.is_key and not x.numeric:
        axes.set_xticks(
            range(len(x.texts)), [tick(text) for text in x.texts], rotation=30, ha="right", parse_math=False
        )
    elif x.log and math.isfinite(axes.dataLim.minposx):
        axes.set_xscale("log")
        label_ticks(axes.xaxis)
    if x.is_key and x.numeric and len(x.texts) <= MOST_TICKS and _are_apart([*map(float, x.texts)], x.log):
        axes.set_xticks([*map(float, x.texts)], [brief(text) for text in x.texts])


def _are_apart(values: Sequence[float], logarithmic: bool) -> bool:
    """Whether each of them can be named on an axis: no two are nearer than a seventh of the whole."""
    places = numpy.sort(numpy.log(values) if logarithmic else numpy.asarray(values))
    return len(values) > 1 and bool(numpy.diff(places).min() >= numpy.ptp(places) / 7)


def _log_scale(axes: Axes) -> None:
    set_log(axes)
    label_ticks(axes.yaxis)


def _say_where_empty(axes: Axes) -> None:
    """Words in place of curves that are undefined throughout."""
    drawn = [line.get_ydata() for line in axes.lines]
    if not any(numpy.isfinite(numpy.asarray(values, float)).any() for values in drawn):
        axes.text(
            0.5, 0.5, NOTHING, transform=axes.transAxes, ha="center", va="center", fontsize="x-small", color="0.4"
        )


def _handles(study: Study) -> list[Line2D]:
    column = study.layout.color
    name = "" if column is None else column.name
    return [Line2D([], [], color=shade, label=brief_choice(name, text)) for text, shade in colours_of(study).items()]


def _line_handles(rows: Sequence[tuple[str, list[Curve], Quantity | None]]) -> list[Line2D]:
    """What the styles of lines stand for, each once."""
    named: Mapping[str, Curve] = {curve.label: curve for _, curves, _ in rows for curve in curves if curve.label}
    return [replace(curve, colour="grey").handle for curve in named.values()]


def _zero_handle() -> Line2D:
    return Line2D([], [], color=RED, label="zero error")
