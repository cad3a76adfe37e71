"""What a report is about: the settings of its runs, and which of them is the best.

Runs that are the same on all axes (`ncexp.report.columns`) differ in their seed alone: they repeat one another. A
report shows settings: the runs by the axes of `by`. Axes that are left out of `by` are free: of every setting only
their best combination is kept (`best`), as a paper keeps the best learning rate, or all runs are pooled (best=none).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal, TypeVar

from ncexp.config import nearest
from ncexp.record import SavedRun, State
from ncexp.record.quantities import QUANTITIES, find
from ncexp.report.columns import EPOCH, ZERO_EPOCH, Column, axes, brief_choice, differing, natural_order, text_of
from ncexp.report.numbers import ERROR, Spread, Value, at_the_end, rank_correlation

Direction = Literal["min", "max"]
#: The papers whose tables and figures a report can have.
Preset = Literal["han2022"]
PRESETS: tuple[Preset, ...] = ("han2022",)
#: Columns of panels that facets make, unless a person asks for more.
MOST_FACETS = 6
#: Panels of a figure whose rows nobody named: more are not looked at, and each takes a tenth of a second.
MOST_IN_A_FIGURE, FEWEST_ROWS = 45, 3
Row = TypeVar("Row")


@dataclass(frozen=True)
class Best:
    """The quantity by which settings are ranked, at the last evaluated epoch, mean over seeds, and in which direction.

    By default the test error. What is chosen among many by a number is better in that number than chance alone gives.
    """

    name: str = ERROR
    direction: Direction = "min"

    @classmethod
    def parse(cls, text: str, known: Iterable[str]) -> Best | None:
        """``train/collapse/cdnv``, ``test/robustness/ratio:max`` or ``none``, which ranks nothing.

        Raises ValueError for a quantity that no run has, and where the direction is not known: numbers that are 0 at
        collapse are better when smaller, others need ``:min`` or ``:max``.
        """
        if text == "none":
            return None
        name, _, direction = text.partition(":")
        if name not in (valid := [*known]):
            raise ValueError(f"best: expected a quantity of the runs or none, got {name!r}. {nearest(name, valid)}")
        row = find(name)
        if not direction and row is not None and (row.at_collapse.startswith("0") or name.endswith("/loss")):
            direction = "min"
        if direction not in ("min", "max"):
            raise ValueError(f"best: expected {name}:min or {name}:max, got {text!r}. Say which is better.")
        return cls(name, "min" if direction == "min" else "max")

    @property
    def column(self) -> Column:
        """Its quantity."""
        return Column(self.name, find(self.name))

    def of(self, runs: Iterable[SavedRun]) -> float:
        """The mean over the runs that have the number; nan without any."""
        return over_seeds(runs, at_the_end(self.name)).mean

    def key(self, value: float) -> tuple[bool, float]:
        """To sort by: the best first, undefined last."""
        return math.isnan(value), value if self.direction == "min" else -value


@dataclass(frozen=True)
class Group:
    """Runs that differ in their seed alone. values: axis → what was chosen."""

    values: dict[str, str]
    runs: list[SavedRun]

    @property
    def completed(self) -> bool:
        """Whether every run did, and has numbers."""
        return all(run.state is State.COMPLETED and run.records for run in self.runs)

    @property
    def ended_badly(self) -> bool:
        """Whether a run diverged or failed, so that the others make no complete group."""
        return any(run.state in (State.DIVERGED, State.FAILED) for run in self.runs)

    @property
    def error(self) -> float:
        """The test error at the last evaluated epoch, the mean over the runs that have one; nan without any."""
        return Best().of(self.runs)


def grouped(runs: Iterable[SavedRun], names: Sequence[str]) -> list[Group]:
    """The runs by what they have on these axes, in order of appearance."""
    found: dict[tuple[str, ...], list[SavedRun]] = {}
    for run in runs:
        found.setdefault(tuple(text_of(run, name) for name in names), []).append(run)
    return [Group(dict(zip(names, values, strict=True)), members) for values, members in found.items()]


def over_seeds(
    runs: Iterable[SavedRun], of: Callable[[SavedRun], float], places: str = ".3g", kind: Spread = "std"
) -> Value:
    """A number of these runs, as far as they have records."""
    return Value.of([of(run) for run in runs if run.records], places, kind)


@dataclass(frozen=True)
class Setting:
    """All runs of one combination of the axes of a report. values: axis → what was chosen; free: the other axes.

    best: None keeps all runs, else those of the best combination of the free axes.
    """

    values: dict[str, str]
    runs: list[SavedRun]
    free: tuple[str, ...] = ()
    best: Best | None = field(default_factory=Best)

    @cached_property
    def options(self) -> list[Group]:
        """Its runs by the free axes, in their natural order, each by seed."""
        by_seed = sorted(self.runs, key=lambda run: -1 if run.seed is None else run.seed)
        return sorted(
            grouped(by_seed, self.free), key=lambda one: [natural_order(text) for text in one.values.values()]
        )

    @cached_property
    def shown(self) -> Group | None:
        """The complete option that is best, of equals the first; where none is complete, the one that leads so far.

        Options of which a run diverged or failed come last; None where no run has a number yet.
        """
        if self.best is None:
            return Group({}, self.runs)
        begun = [one for one in self.options if any(run.records for run in one.runs)]
        order = [(not one.completed, one.ended_badly, *self.best.key(self.best.of(one.runs))) for one in begun]
        return min(zip(order, range(len(begun)), begun, strict=True))[2] if begun else None

    @cached_property
    def kept(self) -> list[SavedRun]:
        """The runs of what is shown that have numbers: one a seed, unless all are pooled."""
        return [] if self.shown is None else [run for run in self.shown.runs if run.records]

    @cached_property
    def done(self) -> list[SavedRun]:
        """Of `kept` those that completed, whose last numbers count; where none did, all, as far as they are."""
        return [run for run in self.kept if run.state is State.COMPLETED] or self.kept

    @property
    def points(self) -> list[SavedRun]:
        """All its runs that completed: where a run is a point, also those that are not the best."""
        return [run for run in self.runs if run.state is State.COMPLETED]

    @property
    def chosen(self) -> dict[str, str]:
        """Free axis → its value in what is shown; empty where nothing is."""
        return {} if self.shown is None else self.shown.values

    @property
    def completed(self) -> bool:
        """Whether every run of what is shown completed, and has numbers."""
        return self.shown is not None and self.shown.completed

    @property
    def label(self) -> str:
        """``loss=mse, lr=0.1``; the last word of each key."""
        return ", ".join(brief_choice(*one) for one in self.values.items()) or "all runs"


@dataclass(frozen=True)
class Asked:
    """What a person asked a report for; None: as it finds best. Names of keys or of quantities."""

    by: tuple[str, ...] | None = None
    x: str | None = None
    y: tuple[str, ...] = ()
    color: str | None = None
    facet: tuple[str, ...] | None = None
    scatter: tuple[str, str] | None = None
    best: str | None = None


@dataclass(frozen=True)
class Layout:
    """What is drawn. x: None draws against the epoch alone; across: the key of a heat map's vertical axis, None for
    curves; y: the numbers that are drawn and stand in tables; color, facet: keys; scatter: two columns, a point a run;
    named: whether a person named the y.
    """

    x: Column | None
    across: Column | None
    y: list[Column]
    color: Column | None
    facet: list[Column]
    scatter: tuple[Column, ...] | None = None
    named: bool = False

    def keys_of(self) -> list[Column]:
        """All that make a difference between two settings."""
        return [one for one in (self.x, self.across, self.color, *self.facet) if one is not None]


@dataclass(frozen=True)
class Study:
    """The runs of a report, their settings and what is drawn of them.

    by: the axes of the settings; free: the axes that are not among them; keys: all that differ, the seed too;
    quantities: the numbers that some run has at its last evaluated epoch, those of the catalogue first.
    """

    runs: list[SavedRun]
    by: list[Column]
    free: list[Column]
    keys: list[Column]
    quantities: list[Column]
    settings: list[Setting]
    best: Best | None
    layout: Layout

    @cached_property
    def ranked(self) -> list[Setting]:
        """The settings, the best first, those that are not complete last; as they stand where nothing ranks them."""
        if (best := self.best) is None:
            return self.settings
        return sorted(self.settings, key=lambda one: (not one.completed, *best.key(best.of(one.done))))

    def drawn(self, columns: int) -> list[Column]:
        """The numbers of the figures: all that a person named, else as many as fit beside so many columns."""
        return self.layout.y if self.layout.named else [*rows_that_fit(self.layout.y, columns)]

    @cached_property
    def correlation(self) -> tuple[float, float, float, int]:
        """Of the scatter's two numbers over all runs that completed and have both, see `rank_correlation`."""
        assert self.layout.scatter is not None
        x, y = self.layout.scatter
        return rank_correlation([[(x.of(run), y.of(run)) for run in one.points] for one in self.settings])

    @cached_property
    def facets(self) -> list[tuple[str, list[Setting]]]:
        """The settings by what stands above each column of panels."""
        return by_values(self.settings, self.layout.facet)


def by_values(settings: Iterable[Setting], columns: Sequence[Column]) -> list[tuple[str, list[Setting]]]:
    """The settings by their values of these keys, which stand above."""
    found: dict[str, list[Setting]] = {}
    for setting in settings:
        texts = [(one, setting.values[one.name]) for one in columns]
        words = [brief_choice(one.name, text, one.words[text]) for one, text in texts]
        found.setdefault(", ".join(words), []).append(setting)
    return [*found.items()]


def rows_that_fit(rows: Sequence[Row], columns: int) -> Sequence[Row]:
    """The first rows of a figure with so many columns: MOST_IN_A_FIGURE panels in all, or FEWEST_ROWS rows."""
    return rows[: max(FEWEST_ROWS, MOST_IN_A_FIGURE // columns)]


def study_of(runs: Iterable[SavedRun], asked: Asked | None = None) -> Study:
    """A study of these trainings; simulations are left out.

    What is not asked for is chosen from the axes, see `_layout`. Raises ValueError where there is no run, where two
    have one key, and for names that no run has (the nearest is named).
    """
    asked = asked or Asked()
    found = [run for run in runs if not run.is_simulation]
    check_runs(found)
    keys = {name: _key_column(found, name) for name in _key_names(found)}
    numbers = {one.name: one for one in _quantities(found)}
    axis_names = axes(found)
    by = [keys[name] for name in axis_names] if asked.by is None else [_named("by", one, keys) for one in asked.by]
    layout = _layout(asked, by, keys, {**keys, **numbers})
    by = [*dict.fromkeys([*by, *(one for one in layout.keys_of() if one.is_key)])]
    names, free = [column.name for column in by], tuple(name for name in axis_names if keys[name] not in by)
    best = (Best() if ERROR in numbers else None) if asked.best is None else Best.parse(asked.best, numbers)
    groups = sorted(grouped(found, names), key=lambda one: [natural_order(text) for text in one.values.values()])
    return Study(
        found,
        by,
        [keys[name] for name in free],
        [keys[name] for name in dict.fromkeys([*axis_names, *names, *differing(found)])],
        [*numbers.values()],
        [Setting(one.values, one.runs, free, best) for one in groups],
        best,
        layout if layout.y else replace(layout, y=_default_y(numbers, best)),
    )


def _layout(asked: Asked, by: Sequence[Column], keys: Mapping[str, Column], every: Mapping[str, Column]) -> Layout:
    """What is asked for, and what is not chosen from the axes `by`.

    Of those that are numbers the one with the most values is x, and a second one makes a heat map. What the data and
    the network are stands above panels, since their numbers do not share one; of the others the first is the color, and
    the next are facets, too, as long as there are at most MOST_FACETS columns.
    """
    x = None if asked.x in (None, EPOCH) else _named("x", asked.x, every)
    color = None if asked.color is None else _named("color", asked.color, keys)
    facet = None if asked.facet is None else [_named("facet", name, keys) for name in asked.facet]
    across, y = _of_y([_named("y", name, every) for name in asked.y])
    drawn = [one for one in (x, color, across, *(facet or [])) if one is not None]
    if facet is None:
        facet = [one for one in by if one.name.split(".")[0] in ("dataset", "architecture") and one not in drawn]
        facet = [one for one in facet if not one.numeric or one.name == "dataset"]
    left = [one for one in by if one not in (*drawn, *facet)]
    if asked.x is None:
        scales = sorted((one for one in left if one.ordered and len(one.texts) > 1), key=lambda one: -len(one.texts))
        x = next(iter(scales), None)
        if len(scales) > 1 and color is None and not asked.y:
            across = scales[1]
    left = [one for one in left if one not in (x, across)]
    color = color or (left.pop(0) if left else None)
    for one in left if asked.facet is None else []:
        if math.prod(len(column.texts) for column in [*facet, one]) <= MOST_FACETS:
            facet.append(one)
    if across is not None and (x is None or not x.is_key or x is across):
        raise ValueError(
            f"y: expected quantities, got the key {across.name}, which makes a heat map over x= another key. Name one."
        )
    scatter = None if asked.scatter is None else tuple(_named("scatter", name, every) for name in asked.scatter)
    if words := [one.name for one in scatter or () if not one.ordered]:
        raise ValueError(f"scatter: expected two numbers, got {words[0]}, whose values are words. As color= it shows.")
    return Layout(x, across, y, color, facet, scatter, bool(y))


def _of_y(columns: Sequence[Column]) -> tuple[Column | None, list[Column]]:
    """The key among them, which makes a heat map, and the quantities. Raises ValueError where there are two keys."""
    keys, numbers = ([one for one in columns if one.is_key is wanted] for wanted in (True, False))
    if len(keys) > 1:
        raise ValueError(f"y: expected one key at most, got {keys[0].name} and {keys[1].name}. Leave one out.")
    return (keys[0] if keys else None), numbers


def check_runs(runs: Sequence[SavedRun]) -> None:
    """Raises ValueError where there is none, and where two have one key."""
    if not runs:
        raise ValueError("runs: expected some to report on, got none. Name the folder of trainings, or check --where.")
    seen: dict[str, SavedRun] = {}
    for run in runs:
        if (other := seen.setdefault(run.key, run)) is not run:
            raise ValueError(f"{run.path}: expected one run of key {run.key}, got also {other.path}. Name one of them.")


def _key_names(runs: Sequence[SavedRun]) -> list[str]:
    return [*dict.fromkeys(name for run in runs for name in run.parameters)]


def _key_column(runs: Sequence[SavedRun], name: str) -> Column:
    texts = sorted({text_of(run, name) for run in runs}, key=natural_order)
    return Column(name, None, tuple(texts))


def _quantities(runs: Sequence[SavedRun]) -> list[Column]:
    """The numbers that some run has at its last evaluated epoch: those of the catalogue, in its order, then others."""
    there = dict.fromkeys(name for run in runs if run.records for name in run.records[-1] if name != EPOCH)
    catalogue = [row.on(split) for row in QUANTITIES for split in row.splits]
    known = [name for name in catalogue if name in there]
    others = [name for name in there if name not in {*known}]
    return [*(Column(name, find(name)) for name in [*known, *others]), Column(ZERO_EPOCH)]


def _named(option: str, name: str, among: Mapping[str, Column]) -> Column:
    name = "lr" if name == "optimizer.lr" else name
    if name not in among:
        kind = "a key of the runs" if option in ("by", "color", "facet") else "a key or quantity of the runs"
        kind = "a quantity of the runs" if option == "y" else kind
        raise ValueError(f"{option}: expected {kind}, got {name!r}. {nearest(name, [*among])}")
    return among[name]


def _default_y(numbers: Mapping[str, Column], best: Best | None) -> list[Column]:
    """Test error, what ranks, and what the catalogue gives a sweep's results, as far as some run has them."""
    chosen = [ERROR, *([best.name] if best else []), *(row.on(split) for row in QUANTITIES for split in row.report)]
    return [numbers[name] for name in dict.fromkeys(chosen) if name in numbers]
