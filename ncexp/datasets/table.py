"""conf/dataset/table: a table of numbers with a column of labels, in a CSV or Parquet file."""

from __future__ import annotations

import dataclasses
import hashlib
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from ncexp.config import Count, Fraction, Seed
from ncexp.datasets.dataset import Dataset, Split, listed
from ncexp.datasets.standardize import fit
from ncexp.datasets.subset import Imbalance, choose, mislabel, training_subset
from ncexp.datasets.table_file import Table, class_names, is_number, like_row_numbers, read_table


def load(
    *,
    path: str,
    label: str,
    test_path: str | None = None,
    test_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.2,
    standardize: Literal["per_column", "none"] = "per_column",
    examples_per_class: Count | None = None,
    label_noise: Fraction = 0.0,
    imbalance: Imbalance = 1.0,
    subset_seed: Seed = 0,
) -> Dataset:
    """The rows of a table: inputs (n, columns) float32, every column but `label` in the file's order.

    A column that nobody named and pandas' index are left out; facts and origin say which, and which columns look like
    row numbers.
    path: .csv or .parquet (`read_table`). Labels are numbers or words; classes are in the order of the numbers,
    else of the alphabet. Where all are numbers, "1", "1.0" and "01" are one class.
    The split: test are the rows of `test_path`, with the same columns; without it, of each class the share
    `test_fraction` of its rows, rounded, at least one and not all (`subset.choose` with `subset_seed`). Of the other
    rows `examples_per_class`, `imbalance` and `label_noise` choose and change the training set as for images.
    standardize: per_column, to mean 0 and standard deviation 1 over the training rows, constant columns to 0.

    Raises ValueError, naming file, column and row, where a file or column is missing or a cell is no finite number,
    where a class has one row only, and where test has a class that training has not, or the other way round.
    """
    tables = [read_table(one, label) for one in (path, test_path) if one is not None]
    names = class_names(word for one in tables for word in one.words)
    tables = [_renamed(one, names) for one in tables]
    if test_path is not None:
        _refuse_other_columns(tables[0], tables[1], test_path)
        train, test = ((one.inputs, one.labels) for one in tables)
    else:
        train, test = _split(tables[0], test_fraction, subset_seed)
    classes = _classes(tables[0].words, tables[-1].words)
    labels, test_labels = (
        torch.tensor([classes[word] for word in one.words])[indices]
        for one, indices in ((tables[0], train[1]), (tables[-1], test[1]))
    )
    kept = training_subset(labels, len(classes), examples_per_class, imbalance, subset_seed)
    inputs, labels = train[0][kept], labels[kept]
    noisy = mislabel(labels, len(classes), label_noise, subset_seed)
    # Rows of numbers are what per_pixel calls images.
    standardization = fit([inputs], "per_pixel" if standardize == "per_column" else "none", unit=1.0)
    facts = {
        "num_constant_columns": standardization.num_constant,
        **_column_facts(tables),
        "num_mislabelled": int((noisy != labels).sum()),
        "classes": listed(list(classes)),
        "content": _fingerprint(path, test_path),
    }
    splits = Split(standardization(inputs), noisy), Split(standardization(test[0]), test_labels)
    return Dataset(*splits, len(classes), facts, _origin(path, facts))


def _column_facts(tables: list[Table]) -> dict[str, str]:
    """Which columns are inputs, and, where there are such, which are left out and which look like row numbers."""
    names = tables[0].names
    inputs = tables[0].inputs if len(tables) == 1 else torch.cat([table.inputs for table in tables])
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


def _refuse_other_columns(one: Table, other: Table, test_path: str) -> None:
    if one.names != other.names:
        differing = sorted({*one.names} ^ {*other.names}) or ["another order"]
        raise ValueError(
            f"dataset.test_path: expected the columns of dataset.path, in its order, got {', '.join(differing[:5])} in "
            f"{test_path}. Correct one of them."
        )


def _renamed(table: Table, names: dict[str, str]) -> Table:
    """The table with the classes' names as words."""
    indices = {name: index for index, name in enumerate(dict.fromkeys(names[word] for word in table.words))}
    labels = torch.tensor([indices[names[word]] for word in table.words])[table.labels]
    return dataclasses.replace(table, labels=labels, words=[*indices])


def _split(table: Table, fraction: float, seed: int) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Inputs and labels of the training rows and of the test rows, both in the file's order."""
    test = _test_rows(table, fraction, seed)
    train = torch.ones(len(table.labels), dtype=torch.bool).index_fill(0, test, False).nonzero().squeeze(1)
    first, second = ((table.inputs[rows], table.labels[rows]) for rows in (train, test))
    return first, second


def _test_rows(table: Table, fraction: float, seed: int) -> Tensor:
    """Rows, ascending, of the test set."""
    counts = torch.bincount(table.labels).tolist()
    if 1 in counts:
        raise ValueError(
            f"dataset.test_fraction: expected two rows of every class at least, one to train and one to test, got one "
            f"of {table.words[counts.index(1)]!r}. Leave it out, or give dataset.test_path."
        )
    return choose(table.labels, [min(max(round(fraction * count), 1), count - 1) for count in counts], seed)


def _classes(words: list[str], test_words: list[str]) -> dict[str, int]:
    """Word → number, in the order of the numbers that the words are, else of the alphabet."""
    found = {*words}
    if found != {*test_words}:
        word = sorted(found ^ {*test_words})[0]
        raise ValueError(
            f"dataset.label: expected the same classes in training and test, got {word!r} in one of them alone. Leave "
            "it out."
        )
    if len(found) < 2:
        raise ValueError(f"dataset.label: expected two classes at least, got {len(found)}. Name the column of labels.")
    numbers = all(is_number(word) for word in found)
    ordered = sorted(found, key=lambda word: (Decimal(word) if numbers else Decimal(0), word))
    return {word: number for number, word in enumerate(ordered)}


def _fingerprint(*paths: str | None) -> str:
    """Sixteen hexadecimal digits for the files' bytes."""
    found = hashlib.sha256()
    for path in paths:
        if path is not None:
            with Path(path).open("rb") as file:
                found.update(hashlib.file_digest(file, "sha256").digest())
    return found.hexdigest()[:16]
