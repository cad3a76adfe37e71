"""conf/dataset/table: a table of numbers with a column of labels, or of targets, in a CSV or Parquet file."""

from __future__ import annotations

import codecs
import csv
import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow
import pyarrow.csv
import pyarrow.parquet
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from ncexp.config import ADDED, Count, Fraction, Seed
from ncexp.datasets import Dataset, Split, digest, is_number, listed, number_classes
from ncexp.datasets.holding_out import Classes, HoldOut
from ncexp.datasets.preprocessing import Imbalance, Raw, choose, fit, like_row_numbers, mislabel, training_subset
from ncexp.datasets.regression import split_regression, split_rows

#: Cells that are Python's objects at one time: as such they take ten times the memory of the table.
_BLOCK = 2**20
#: The largest piece of a CSV file that is read at once; no row may be longer.
_MOST_BYTES = 2**30
#: Names of a column that nobody named, mostly a row number: our own where the header is empty; that of pandas' index in
#: Parquet; those that pandas, and R's tibbles, give to an empty header.
_UNNAMED = re.compile(r"\(column \d+\)|__index_level_\d+__|Unnamed: \d+(\.\d+)?|\.\.\.\d+")
#: How R, pandas and NumPy write a missing label into a file; NaN is missing in any spelling.
_MISSING = ("", "NA", "<NA>", "NaT")


def load(
    *,
    path: str,
    label: str | int | None = None,
    target: Annotated[list[str] | None, ADDED] = None,
    test_path: str | None = None,
    test_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.2,
    standardize: Literal["per_column", "none"] = "per_column",
    standardize_targets: Annotated[bool, ADDED] = True,
    examples_per_class: Count | None = None,
    label_noise: Fraction = 0.0,
    imbalance: Imbalance = 1.0,
    hold_out: HoldOut = None,
    subset_seed: Seed = 0,
) -> Dataset:
    """The rows of a table: inputs (n, columns) float32, every column but `label`, or the targets, in the file's order.

    A column that nobody named and pandas' index are left out; facts and origin say which, and which columns look like
    row numbers.
    path: .csv or .parquet (`read_table`); label: the column of labels, by its name. Labels are numbers or words;
    classes are in the order of the numbers, else of the alphabet. Where all are numbers, "1", "1.0" and "01" are one
    class.
    The split: test are the rows of `test_path`, with the same columns; without it, of each class the share
    `test_fraction` of its rows, rounded, at least one and not all (`preprocessing.choose` with `subset_seed`). Of the
    other rows `examples_per_class`, `imbalance` and `label_noise` choose and change the training set as for images.
    standardize: per_column, to mean 0 and standard deviation 1 over the training rows, constant columns to 0.
    hold_out: classes to train without, by their labels (`holding_out`).
    target: in place of label, the columns that a regression predicts, numbers; standardize_targets: the same for these.
    Then the share `test_fraction` of all rows is test, and the options of classes are refused.

    Raises ValueError, naming file, column and row, where a file or column is missing or a cell is no finite number,
    where a class has one row only, where test has a class that training has not, or the other way round, for a class
    held out that does not exist, or one class left.
    """
    if (label is None) == (target is None):
        got = "neither" if label is None else "both"
        raise ValueError(
            "dataset.label: expected a column of labels, or dataset.target=[...] for a regression, got "
            f"{got}. Name one."
        )
    if target is not None:
        if (examples_per_class, label_noise, imbalance) != (None, 0.0, 1.0) or hold_out:
            raise ValueError(
                "dataset.target: expected none of examples_per_class, label_noise, imbalance and hold_out, which are "
                "of classes, beside it. Leave them out."
            )
        return _regression(path, test_path, target, test_fraction, standardize, standardize_targets, subset_seed)
    paths = [one for one in (path, test_path) if one is not None]
    tables = [read_table(one, str(label)) for one in paths]
    _refuse_other_columns(tables, test_path)
    names = _class_names(word for one in tables for word in one.words)
    classes = number_classes("dataset.label", *(map(names.__getitem__, one.words) for one in (tables[0], tables[-1])))
    labels = [torch.tensor([classes[names[word]] for word in one.words])[one.labels] for one in tables]
    rows = [torch.arange(len(one)) for one in labels]
    if test_path is None:
        test = choose(labels[0], _test_counts(labels[0], [*classes], test_fraction), subset_seed)
        rows = [rows[0][~torch.isin(rows[0], test)], test]
    left = Classes.without([*classes], hold_out)
    labels, num_classes = [left.numbers[one] for one in labels], left.num_classes
    kept = rows[0][training_subset(labels[0][rows[0]], num_classes, examples_per_class, imbalance, subset_seed)]
    held = rows[1][left.held_out(labels[-1][rows[1]], None, subset_seed)]
    tested = rows[1][labels[-1][rows[1]] < num_classes]
    inputs, true = tables[0].inputs[kept], labels[0][kept]
    noisy = mislabel(true, num_classes, label_noise, subset_seed)
    # Rows of numbers are what per_pixel calls images.
    standardization = fit([inputs], "per_pixel" if standardize == "per_column" else "none", unit=1.0)
    facts = {
        "num_constant_columns": standardization.num_constant,
        **_column_facts(torch.cat([table.inputs for table in tables]), tables[0].names, tables),
        "num_mislabelled": int((noisy != true).sum()),
        "classes": listed([*classes]),
        "content": digest(*map(_of_bytes, paths)),
        **left.facts,
    }
    raw = Raw(tables[-1].inputs[tested], standardization, 1.0, f"columns {listed(tables[0].names)}")
    train_split, test_split = Split(standardization(inputs), noisy), Split(raw.standardized(), labels[-1][tested])
    held_out = Split(standardization(tables[-1].inputs[held]), labels[-1][held]) if hold_out else None
    return Dataset(train_split, test_split, num_classes, facts, _origin(path, facts), held_out, raw)


def _regression(
    path: str,
    test_path: str | None,
    target: list[str],
    test_fraction: float,
    standardize: Literal["per_column", "none"],
    standardize_targets: bool,
    seed: int,
) -> Dataset:
    paths = [one for one in (path, test_path) if one is not None]
    tables = [_columns(one, target, "dataset.target") for one in paths]
    _refuse_other_columns(tables, test_path)
    files = [Path(one).expanduser() for one in paths]
    inputs = torch.cat([_matrix(file, table, table.names) for file, table in zip(files, tables, strict=True)])
    targets = torch.cat([_matrix(file, table, target) for file, table in zip(files, tables, strict=True)])
    count = len(tables[0].columns[target[0]])
    rows = (torch.arange(count), torch.arange(count, len(inputs)))
    facts = {**_column_facts(inputs, tables[0].names, tables), "content": digest(*map(_of_bytes, paths))}
    return split_regression(
        inputs,
        targets,
        target,
        rows if test_path is not None else split_rows(count, test_fraction, seed),
        standardize,
        standardize_targets,
        facts,
        _origin(path, facts),
    )


def _test_counts(labels: Tensor, classes: list[str], fraction: float) -> list[int]:
    """How many rows of each class are test."""
    counts = torch.bincount(labels).tolist()
    if 1 in counts:
        raise ValueError(
            f"dataset.test_fraction: expected two rows of every class at least, one to train and one to test, got one "
            f"of {classes[counts.index(1)]!r}. Leave it out, or give dataset.test_path."
        )
    return [min(max(round(fraction * count), 1), count - 1) for count in counts]


def _refuse_other_columns(tables: Sequence[Columns | Table], test_path: str | None) -> None:
    if tables[0].names != tables[-1].names:
        differing = sorted({*tables[0].names} ^ {*tables[-1].names}) or ["another order"]
        raise ValueError(
            f"dataset.test_path: expected the columns of dataset.path, in its order, got {', '.join(differing[:5])} in "
            f"{test_path}. Correct one of them."
        )


def _column_facts(inputs: Tensor, names: list[str], tables: Sequence[Columns | Table]) -> dict[str, str]:
    """Which columns are inputs, and, where there are such, which are left out and which look like row numbers."""
    numbered = like_row_numbers(inputs)
    columns = {
        "columns": names,
        "columns_left_out": [*dict.fromkeys(name for table in tables for name in table.left_out)],
        "columns_like_row_numbers": [names[place] for place in numbered],
    }
    return {fact: listed(given) for fact, given in columns.items() if given}


def _origin(path: str, facts: dict[str, Any]) -> str:
    said = f"{path}, the columns {facts['columns']}"
    if left_out := facts.get("columns_left_out"):
        said += f"; left out, as pandas' index or without a name: {left_out}"
    if numbered := facts.get("columns_like_row_numbers"):
        said += f"; WARNING: {numbered} may be a row number or an id, which says the class where rows are sorted"
    return said


def _of_bytes(path: str) -> bytes:
    with Path(path).expanduser().open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _class_names(words: Iterable[str]) -> dict[str, str]:
    """Label → the name of its class. "1", "1.0", "01" are one class where all labels are numbers: the shortest of them.

    Raises ValueError where one number is written in two ways and other labels are words.
    """
    found = {*words}
    by_number: defaultdict[Decimal, list[str]] = defaultdict(list)
    for word in sorted(filter(is_number, found), key=lambda word: (len(word), word)):
        by_number[Decimal(word)].append(word)
    twice = next((same for same in by_number.values() if len(same) > 1), None)
    if twice is not None and not all(map(is_number, found)):
        raise ValueError(
            f"dataset.label: expected one way to write a label, got {' and '.join(map(repr, sorted(twice)))} beside "
            "words. Write one class in one way."
        )
    return {word: word for word in found} | {word: same[0] for same in by_number.values() for word in same}


# A file


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
    """The table in a .csv (a header; cells may be quoted) or .parquet file; `label`: the labels' column.

    CSV is in UTF-8, or in UTF-16 with its mark. Cells are parted by commas, semicolons or tabs: whichever of them the
    header has most of.

    A column without a name, and pandas' index, is no input, but may be the labels.
    Raises ValueError, naming file, column and row, where the file or the column is not there, a cell is no finite
    number or a label is missing.
    """
    found = _columns(path, [label], "dataset.label")
    file = Path(path).expanduser()
    indices: dict[str, int] = {}
    labels = [indices.setdefault(word, len(indices)) for word in _words(file, found.columns[label])]
    return Table(found.names, _matrix(file, found, found.names), torch.tensor(labels), [*indices], found.left_out)


@dataclass(frozen=True, eq=False)
class Columns:
    """names: of the columns of inputs, in the file's order; columns: by name, those of inputs and of what is asked for;
    left_out: as of a `Table`.
    """

    names: list[str]
    columns: dict[str, Any]
    left_out: list[str]


def _matrix(file: Path, found: Columns, names: list[str]) -> Tensor:
    """(n, columns) float64."""
    return torch.from_numpy(np.stack([_numbers(file, name, found.columns[name]) for name in names], axis=1))


def _columns(path: str, asked: list[str], key: str) -> Columns:
    """The columns of a file; asked: of labels or targets, key: of the configuration by which they were asked for."""
    file = Path(path).expanduser()
    if not file.is_file():
        raise ValueError(f"dataset.path: expected a file, got {file}, which is not there. Check the path.")
    if file.suffix not in (".csv", ".parquet"):
        raise ValueError(f"dataset.path: expected a file .csv or .parquet, got {file}. Write the table as one of them.")
    header, index, rows = _read_csv(file) if file.suffix == ".csv" else _read_parquet(file)
    if len({*asked}) < len(asked) or not asked:
        raise ValueError(f"{key}: expected columns of {file}, each once, got {asked}. Correct it.")
    if strange := [name for name in asked if name not in header]:
        raise ValueError(f"{key}: expected a column of {file}, got {strange[0]!r}. Valid: {', '.join(header[:20])}.")
    left_out = [name for name in header if name not in asked and (name in index or _UNNAMED.fullmatch(name))]
    no_inputs = {*asked, *left_out}
    names = [name for name in header if name not in no_inputs]
    if not names:
        besides = " and ".join(map(repr, asked))
        raise ValueError(
            f"{file}: expected a column of inputs beside {besides}, got {', '.join(left_out)}. Name the columns."
        )
    if len(rows) == 0:
        raise ValueError(f"{file}: expected rows below the header, got none. Check the file.")
    return Columns(names, dict(zip(header, rows.columns, strict=True)), left_out)


def _read_csv(path: Path) -> tuple[list[str], set[str], pyarrow.Table]:
    """The header, no index, and the rows, every cell as text."""
    with path.open("rb") as file:
        mark = file.read(2)
    encoding = "utf-16" if mark in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"
    wrong: list[Any] = []

    def refuse(row: Any) -> str:
        wrong.append(row)
        return "error"

    try:
        with path.open(newline="", encoding=encoding) as text:
            first = text.readline()
            text.seek(0)
            separator = max(",;\t", key=first.count)
            header = _header(path, next(filter(None, csv.reader(text, delimiter=separator)), []))
        table = pyarrow.csv.read_csv(
            path,
            pyarrow.csv.ReadOptions(
                use_threads=False,  # else rows have no numbers
                block_size=min(path.stat().st_size, _MOST_BYTES),
                autogenerate_column_names=True,
                encoding=encoding.removesuffix("-sig"),
            ),
            pyarrow.csv.ParseOptions(delimiter=separator, newlines_in_values=True, invalid_row_handler=refuse),
            pyarrow.csv.ConvertOptions(column_types={f"f{place}": pyarrow.string() for place in range(len(header))}),
        )
    except (UnicodeDecodeError, pyarrow.ArrowInvalid) as error:
        if wrong:
            raise ValueError(
                f"{path}: expected {len(header)} cells in every row, as in the header, got {wrong[0].actual_columns} "
                f"in row {wrong[0].number - 1}. Correct it."
            ) from None
        raise ValueError(
            f"{path}: expected a CSV file in UTF-8, got other bytes ({error}). Write it anew: iconv -f latin1 -t utf-8 "
            "OLD > NEW, where it is in Latin-1."
        ) from None
    return header, set(), table.slice(1)


def _read_parquet(path: Path) -> tuple[list[str], set[str], pyarrow.Table]:
    """The header, which of its columns are pandas' index, and the rows."""
    try:
        table = pyarrow.parquet.read_table(path)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: expected a Parquet file, got another ({error}). Write it again.") from None
    # A plain range is described there by a mapping, and is no column.
    index = {name for name in (table.schema.pandas_metadata or {}).get("index_columns", []) if isinstance(name, str)}
    return _header(path, table.column_names), index, table


def _header(path: Path, given: list[str]) -> list[str]:
    """The names of the columns; those that are empty say their place."""
    header = [name if name.strip() else f"(column {place})" for place, name in enumerate(given, start=1)]
    twice = [name for name, count in Counter(header).items() if count > 1]
    if len(header) < 2 or twice:
        got = f"{twice[0]!r} twice" if twice else f"{len(header)} columns"
        raise ValueError(
            f"{path}: expected a header with a column of labels and others, each name once, got {got}. Correct it."
        )
    return header


def _cells(column: pyarrow.ChunkedArray) -> Iterator[Any]:
    for first in range(0, len(column), _BLOCK):
        yield from column.slice(first, _BLOCK).to_pylist()


def _numbers(path: Path, name: str, column: pyarrow.ChunkedArray) -> NDArray[np.float64]:
    is_numeric = pyarrow.types.is_integer(column.type) or pyarrow.types.is_floating(column.type)
    try:
        found = column.to_numpy() if is_numeric else np.fromiter(map(float, _cells(column)), np.float64, len(column))
        if np.isfinite(found).all():
            return found.astype(np.float64)
    except (TypeError, ValueError):
        pass
    row, cell = next((row, cell) for row, cell in enumerate(_cells(column), start=1) if not is_number(cell))
    repair = (
        "Write it with a point: sed 's/,/./g' OLD > NEW"
        if is_number(str(cell).replace(",", ".", 1))
        else "Leave the row or the column out, or fill it"
    )
    raise ValueError(f"{path}: expected finite numbers in column {name!r}, got {cell!r} in row {row}. {repair}.")


def _words(path: Path, column: pyarrow.ChunkedArray) -> Iterator[str]:
    """Without space around them."""
    for row, cell in enumerate(_cells(column), start=1):
        word = "" if cell is None else str(cell).strip()
        if word in _MISSING or word.lower() == "nan":
            raise ValueError(
                f"{path}: expected a label in every row, got {cell!r} in row {row}. Fill it, leave the row out, or "
                "give a class of that name another one."
            )
        yield word
