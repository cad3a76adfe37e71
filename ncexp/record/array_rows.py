"""The rows of a journal as arrays, which become records when they are asked for.

A record of a hundred numbers is a dictionary of 7 kB; as a row of an array it takes 800 bytes. A thousand saved runs
have fifty thousand of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple, overload

if TYPE_CHECKING:
    from numpy import ndarray

Record = dict[str, float]
#: Whole numbers below this are float64 as well.
EXACT = 2**53


class Alike(NamedTuple):
    """Rows with the same names. whole: the places of those whose numbers are whole ones; values (rows, names)."""

    names: tuple[str, ...]
    whole: tuple[int, ...]
    values: ndarray


class ArrayRows(Sequence[Record]):
    """A list of records that holds arrays; equal to the list of the same records.

    kinds: of each row the place in `alike` of those with its names, among which it comes after those before it.
    """

    def __init__(self, alike: Sequence[Alike], kinds: Sequence[int]) -> None:
        self.alike, self.kinds = alike, kinds

    @classmethod
    def of(cls, records: Sequence[Record]) -> ArrayRows | None:
        """None where arrays do not hold them as they are: a number that is whole in some rows and not in others."""
        import numpy

        found: dict[tuple[str, ...], list[Record]] = {}
        for record in records:
            found.setdefault(tuple(record), []).append(record)
        alike = []
        for names, ones in found.items():
            columns = [*zip(*(one.values() for one in ones), strict=True)]
            classes = [{*map(type, column)} for column in columns]
            whole = tuple(place for place, one in enumerate(classes) if one == {int})
            if any(one not in ({int}, {float}) for one in classes):
                return None
            if any(not -EXACT < value < EXACT for place in whole for value in columns[place]):
                return None
            alike.append(Alike(names, whole, numpy.array(columns, "<f8").T.copy()))
        places = {names: place for place, names in enumerate(found)}
        return cls(alike, [places[tuple(record)] for record in records])

    def __len__(self) -> int:
        return len(self.kinds)

    def __iter__(self) -> Iterator[Record]:
        return map(self._record, range(len(self.kinds)))

    @overload
    def __getitem__(self, place: int) -> Record: ...
    @overload
    def __getitem__(self, place: slice) -> list[Record]: ...
    def __getitem__(self, place: int | slice) -> Record | list[Record]:
        if isinstance(place, slice):
            return [self._record(one) for one in range(len(self.kinds))[place]]
        number = range(len(self.kinds))[place]
        return self._last if number == len(self.kinds) - 1 else self._record(number)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and [*self] == [*other]

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr([*self])

    def column(self, name: str) -> list[float]:
        """The values of one quantity over the rows; nan where a row lacks it."""
        values = []
        for names, whole, table in self.alike:
            if name in names:
                place = names.index(name)
                numbers = table[:, place].tolist()
                values.append([*map(int, numbers)] if place in whole else numbers)
            else:
                values.append([math.nan] * len(table))
        if len(values) == 1:
            return values[0]
        left = [iter(one) for one in values]
        return [next(left[kind]) for kind in self.kinds]

    def chosen(self, names: Mapping[int, Sequence[int]], rows: Sequence[int]) -> ArrayRows:
        """Some of the rows, each with some of its numbers: of each kind those at these places."""
        import numpy

        alike, kinds = [], [self.kinds[row] for row in rows]
        for kind, places in names.items():
            within = [self._within[row] for row in rows if self.kinds[row] == kind]
            all_names, whole, table = self.alike[kind]
            kept = tuple(place for place, one in enumerate(places) if one in whole)
            alike.append(Alike(tuple(all_names[one] for one in places), kept, table[numpy.ix_(within, places)]))
        numbered = {kind: place for place, kind in enumerate(names)}
        return ArrayRows(alike, [numbered[kind] for kind in kinds])

    @cached_property
    def _within(self) -> list[int]:
        """The place of each row among those with its names."""
        counts = [0] * len(self.alike)
        found = []
        for kind in self.kinds:
            found.append(counts[kind])
            counts[kind] += 1
        return found

    @cached_property
    def _last(self) -> Record:
        """The last row, which every table asks for, one number at a time."""
        return self._record(len(self.kinds) - 1)

    def _record(self, row: int) -> Record:
        names, whole, table = self.alike[self.kinds[row]]
        values = table[self._within[row]].tolist()
        for place in whole:
            values[place] = int(values[place])
        # The same object, as in what is read from a journal: equal records are equal lists then.
        return {name: value if value == value else math.nan for name, value in zip(names, values, strict=True)}
