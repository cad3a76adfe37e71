"""A file of a table → numbers and labels: CSV, or Parquet where pyarrow is installed."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ncexp.datasets.dataset import is_number

#: The header and, for each column, its cells: text from CSV, what the file holds from Parquet.
Columns = dict[str, Sequence[Any]]
#: What a column is called that nobody named, a row number mostly: by us, where the header is empty; pandas' index in
#: Parquet; an empty header as pandas, and as R's tibbles, read it and write it again.
_UNNAMED = re.compile(r"\(column \d+\)|__index_level_\d+__|Unnamed: \d+(\.\d+)?|\.\.\.\d+")
#: No label, as R, pandas and NumPy write it into a file; NaN is one in any spelling.
_MISSING = ("", "NA", "<NA>", "NaT")
#: Of fewer rows, chance brings a column into order.
_FEWEST_ORDERED = 10


@dataclass(frozen=True, eq=False)
class Table:
    """names: of the columns of inputs, in the file's order; inputs: (n, columns) float64; labels: as text.

    left_out: the columns that are neither: those that nobody named, and pandas' index.
    """

    names: list[str]
    inputs: Tensor
    labels: list[str]
    left_out: list[str]


def read_table(path: str, label: str) -> Table:
    """The table in a .csv (a header; cells may be quoted) or .parquet file; `label`: the labels' column.

    CSV is in UTF-8, or in UTF-16 with its mark. Cells are parted by commas, semicolons or tabs: whichever of them the
    header has most of.

    A column without a name, and pandas' index, is no input, but may be the labels.
    Raises ValueError, naming file, column and row, where the file or the column is not there, a cell is no finite
    number or a label is missing.
    """
    columns, index = _read(Path(path))
    if label not in columns:
        raise ValueError(
            f"dataset.label: expected a column of {path}, got {label!r}. Valid: {', '.join(list(columns)[:20])}."
        )
    if len(columns[label]) == 0:
        raise ValueError(f"{path}: expected rows below the header, got none. Check the file.")
    left_out = [name for name in columns if name != label and (name in index or _UNNAMED.fullmatch(name))]
    numbers = {name: _numbers(path, name, cells) for name, cells in columns.items() if name not in (label, *left_out)}
    if not numbers:
        raise ValueError(
            f"{path}: expected a column of inputs beside {label!r}, got {', '.join(left_out)}. Name the columns."
        )
    inputs = torch.from_numpy(np.stack([*numbers.values()], axis=1))
    return Table([*numbers], inputs, _words(path, columns[label]), left_out)


def like_row_numbers(inputs: Tensor) -> list[int]:
    """The columns of inputs (n, columns) that may be a row number or an id: in order, or a shuffled range.

    Strictly ascending or descending; or whole numbers, each once, of a range that is less than twice as long as they
    are many. Of fewer than ten rows, none.
    """
    if len(inputs) < _FEWEST_ORDERED:
        return []
    steps, sorted_steps = inputs.diff(dim=0), inputs.sort(dim=0).values.diff(dim=0)
    ordered = (steps > 0).all(0) | (steps < 0).all(0)
    whole = (inputs == inputs.round()).all(0) & (sorted_steps > 0).all(0)
    return (ordered | whole & (sorted_steps.sum(0) < 2 * len(inputs))).nonzero().flatten().tolist()


def _read(path: Path) -> tuple[Columns, list[str]]:
    """The columns, and which of them are pandas' index."""
    if not path.is_file():
        raise ValueError(f"dataset.path: expected a file, got {path}, which is not there. Check the path.")
    if path.suffix == ".csv":
        return _read_csv(path), []
    if path.suffix == ".parquet":
        return _read_parquet(path)
    raise ValueError(f"dataset.path: expected a file .csv or .parquet, got {path}. Write the table as one of them.")


def _read_csv(path: Path) -> Columns:
    content = path.read_bytes()
    encoding = "utf-16" if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}: expected a CSV file in UTF-8, got other bytes ({error}). Write it anew: iconv -f latin1 -t utf-8 "
            "OLD > NEW, where it is in Latin-1."
        ) from None
    first = text.partition("\n")[0]
    header, *rows = [row for row in csv.reader(io.StringIO(text), delimiter=max(",;\t", key=first.count)) if row] or [
        []
    ]
    header = _named(header)
    _refuse_header(path, header)
    for number, row in enumerate(rows, start=1):
        if len(row) != len(header):
            raise ValueError(
                f"{path}: expected {len(header)} cells in every row, as in the header, got {len(row)} in row {number}. "
                "Correct it."
            )
    return dict(zip(header, zip(*rows, strict=True), strict=True)) if rows else dict.fromkeys(header, ())


def _read_parquet(path: Path) -> tuple[Columns, list[str]]:
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise ValueError(
            f"{path}: expected pyarrow, which reads .parquet, got none ({error}). Install it (pip install pyarrow), or "
            "write the table as .csv."
        ) from None
    try:
        table = parquet.read_table(path)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: expected a Parquet file, got another ({error}). Write it again.") from None
    header = _named(table.column_names)
    _refuse_header(path, header)
    # A plain range is described there by a mapping, and is no column.
    index = [name for name in (table.schema.pandas_metadata or {}).get("index_columns", []) if isinstance(name, str)]
    return {name: cells.to_pylist() for name, cells in zip(header, table.columns, strict=True)}, index


def _named(header: Sequence[str]) -> list[str]:
    return [name if name.strip() else f"(column {place})" for place, name in enumerate(header, start=1)]


def _refuse_header(path: Path, header: Sequence[str]) -> None:
    twice = next((name for name in header if list(header).count(name) > 1), None)
    if len(header) < 2 or twice is not None:
        got = f"{twice!r} twice" if twice is not None else f"{len(header)} columns"
        raise ValueError(
            f"{path}: expected a header with a column of labels and others, each name once, got {got}. Correct it."
        )


def _numbers(path: str, name: str, cells: Sequence[Any]) -> NDArray[np.float64]:
    try:
        found = np.array([float(cell) for cell in cells], dtype=np.float64)
        if np.isfinite(found).all():
            return found
    except (TypeError, ValueError):
        pass
    row = next(number for number, cell in enumerate(cells, start=1) if not is_number(cell))
    with_comma = is_number(str(cells[row - 1]).replace(",", ".", 1))
    repair = (
        "Write it with a point: sed 's/,/./g' OLD > NEW"
        if with_comma
        else "Leave the row or the column out, or fill it"
    )
    raise ValueError(
        f"{path}: expected finite numbers in column {name!r}, got {cells[row - 1]!r} in row {row}. {repair}."
    )


def _words(path: str, cells: Sequence[Any]) -> list[str]:
    """Without space around them."""
    words = ["" if cell is None else str(cell).strip() for cell in cells]
    for row, (word, cell) in enumerate(zip(words, cells, strict=True), start=1):
        if word in _MISSING or word.lower() == "nan":
            raise ValueError(
                f"{path}: expected a label in every row, got {cell!r} in row {row}. Fill it, leave the row out, or "
                "give a class of that name another one."
            )
    return words


def class_names(words: Iterable[str]) -> dict[str, str]:
    """Label → the name of its class. "1", "1.0", "01" are one class where all labels are numbers: the shortest of them.

    Raises ValueError where one number is written in two ways and other labels are words.
    """
    found = {*words}
    by_number: defaultdict[Decimal, list[str]] = defaultdict(list)
    for word in sorted(found, key=lambda word: (len(word), word)):
        if is_number(word):
            by_number[Decimal(word)].append(word)
    twice = next((same for same in by_number.values() if len(same) > 1), None)
    if twice is not None and not all(map(is_number, found)):
        raise ValueError(
            f"dataset.label: expected one way to write a label, got {' and '.join(map(repr, sorted(twice)))} beside "
            "words. Write one class in one way."
        )
    return {word: word for word in found} | {word: same[0] for same in by_number.values() for word in same}
