"""A file of a table → numbers and labels: CSV, or Parquet where pyarrow is installed."""

from __future__ import annotations

import csv
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

#: Some rows: for each column its cells; text from CSV, what the file holds from Parquet.
Block = dict[str, Sequence[Any]]
#: About how many cells there are in a block: as Python's objects they take ten times the memory of the table.
_BLOCK = 2**20
#: What a column is called that nobody named, a row number mostly: by us, where the header is empty; pandas' index in
#: Parquet; an empty header as pandas, and as R's tibbles, read it and write it again.
_UNNAMED = re.compile(r"\(column \d+\)|__index_level_\d+__|Unnamed: \d+(\.\d+)?|\.\.\.\d+")
#: No label, as R, pandas and NumPy write it into a file; NaN is one in any spelling.
_MISSING = ("", "NA", "<NA>", "NaT")
#: Of fewer rows, chance brings a column into order.
_FEWEST_ORDERED = 10


@dataclass(frozen=True, eq=False)
class Table:
    """names: of the columns of inputs, in the file's order; inputs: (n, columns) float64; labels: (n,), in words.

    words: the labels as text, each once, by the numbers of `labels`; left_out: the columns that are neither: those
    that nobody named, and pandas' index.
    """

    names: list[str]
    inputs: Tensor
    labels: Tensor
    words: list[str]
    left_out: list[str]


def read_table(path: str, label: str) -> Table:
    """The table in a .csv (commas, a header, UTF-8; cells may be quoted) or .parquet file; `label`: the labels' column.

    A column without a name, and pandas' index, is no input, but may be the labels.
    Raises ValueError, naming file, column and row, where the file or the column is not there, a cell is no finite
    number or a label is missing.
    """
    header, index, blocks = _open(Path(path))
    if label not in header:
        raise ValueError(f"dataset.label: expected a column of {path}, got {label!r}. Valid: {', '.join(header[:20])}.")
    left_out = [name for name in header if name != label and (name in index or _UNNAMED.fullmatch(name))]
    no_inputs = {label, *left_out}
    names = [name for name in header if name not in no_inputs]
    if not names:
        raise ValueError(
            f"{path}: expected a column of inputs beside {label!r}, got {', '.join(left_out)}. Name the columns."
        )
    inputs, labels = [], []
    indices: dict[str, int] = {}
    row = 1
    for block in blocks:
        inputs.append(np.stack([_numbers(path, name, block[name], row) for name in names], axis=1))
        labels.append([indices.setdefault(word, len(indices)) for word in _words(path, block[label], row)])
        row += len(labels[-1])
    if not inputs:
        raise ValueError(f"{path}: expected rows below the header, got none. Check the file.")
    rows = torch.from_numpy(np.concatenate(inputs))
    return Table(names, rows, torch.cat([torch.tensor(some) for some in labels]), [*indices], left_out)


def like_row_numbers(inputs: Tensor) -> list[int]:
    """The columns of inputs (n, columns) that may be a row number or an id: in order, or a shuffled range.

    Strictly ascending or descending; or whole numbers, each once, of a range that is less than twice as long as they
    are many. Of fewer than ten rows, none.
    """
    if len(inputs) < _FEWEST_ORDERED:
        return []
    numbered = [_is_numbered(some) for some in inputs.split(max(1, _BLOCK // len(inputs)), dim=1)]
    return torch.cat(numbered).nonzero().flatten().tolist()


def _is_numbered(inputs: Tensor) -> Tensor:
    steps, sorted_steps = inputs.diff(dim=0), inputs.sort(dim=0).values.diff(dim=0)
    ordered = (steps > 0).all(0) | (steps < 0).all(0)
    whole = (inputs == inputs.round()).all(0) & (sorted_steps > 0).all(0)
    return ordered | whole & (sorted_steps.sum(0) < 2 * len(inputs))


def _open(path: Path) -> tuple[list[str], set[str], Iterator[Block]]:
    """The header, which of its columns are pandas' index, and the rows."""
    if not path.is_file():
        raise ValueError(f"dataset.path: expected a file, got {path}, which is not there. Check the path.")
    if path.suffix == ".csv":
        header, blocks = _read_csv(path)
        return header, set(), blocks
    if path.suffix == ".parquet":
        return _read_parquet(path)
    raise ValueError(f"dataset.path: expected a file .csv or .parquet, got {path}. Write the table as one of them.")


def _read_csv(path: Path) -> tuple[list[str], Iterator[Block]]:
    rows = _rows(path)
    header = _named(next(rows, []))
    _refuse_header(path, header)
    return header, _csv_blocks(path, header, rows)


def _rows(path: Path) -> Iterator[list[str]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        yield from filter(None, csv.reader(file))


def _csv_blocks(path: Path, header: list[str], rows: Iterator[list[str]]) -> Iterator[Block]:
    read = 0
    while block := [*islice(rows, max(1, _BLOCK // len(header)))]:
        for number, row in enumerate(block, start=read + 1):
            if len(row) != len(header):
                raise ValueError(
                    f"{path}: expected {len(header)} cells in every row, as in the header, got {len(row)} in row "
                    f"{number}. Correct it."
                )
        read += len(block)
        yield dict(zip(header, zip(*block, strict=True), strict=True))


def _read_parquet(path: Path) -> tuple[list[str], set[str], Iterator[Block]]:
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
    index = {name for name in (table.schema.pandas_metadata or {}).get("index_columns", []) if isinstance(name, str)}
    size = max(1, _BLOCK // len(header))
    return (
        header,
        index,
        (
            {name: _cells(column) for name, column in zip(header, table.slice(first, size).columns, strict=True)}
            for first in range(0, len(table), size)
        ),
    )


def _cells(column: Any) -> Sequence[Any]:
    """An Arrow column as NumPy's where that holds the same numbers; times would become numbers, and nothing NaN."""
    plain = column.null_count == 0 and str(column.type).startswith(("int", "uint", "float", "double"))
    return column.to_numpy() if plain else column.to_pylist()


def _named(header: Sequence[str]) -> list[str]:
    return [name if name.strip() else f"(column {place})" for place, name in enumerate(header, start=1)]


def _refuse_header(path: Path, header: Sequence[str]) -> None:
    counts = Counter(header)
    twice = next((name for name in header if counts[name] > 1), None)
    if len(header) < 2 or twice is not None:
        got = f"{twice!r} twice" if twice is not None else f"{len(header)} columns"
        raise ValueError(
            f"{path}: expected a header with a column of labels and others, each name once, got {got}. Correct it."
        )


def _numbers(path: str, name: str, cells: Sequence[Any], first: int) -> NDArray[np.float64]:
    """first: the row of the first cell."""
    try:
        found = np.array(cells if isinstance(cells, np.ndarray) else [float(cell) for cell in cells], dtype=np.float64)
        if np.isfinite(found).all():
            return found
    except (TypeError, ValueError):
        pass
    row, cell = next((row, cell) for row, cell in enumerate(_plain(cells), start=first) if not is_number(cell))
    raise ValueError(
        f"{path}: expected finite numbers in column {name!r}, got {cell!r} in row {row}. Leave the row or the column "
        "out, or fill it."
    )


def _plain(cells: Sequence[Any]) -> Sequence[Any]:
    return cells.tolist() if isinstance(cells, np.ndarray) else cells


def is_number(cell: Any) -> bool:
    """Whether a cell is a finite number, or reads as one."""
    try:
        return math.isfinite(float(cell))
    except (TypeError, ValueError):
        return False


def _words(path: str, cells: Sequence[Any], first: int) -> list[str]:
    """Without space around them; first: the row of the first cell."""
    cells = _plain(cells)
    words = ["" if cell is None else str(cell).strip() for cell in cells]
    for row, (word, cell) in enumerate(zip(words, cells, strict=True), start=first):
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
