"""Tables as data: what is read, how it is split, and that what cannot be read is refused by file, column and row."""

from __future__ import annotations

import math
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pyarrow
import pyarrow.parquet
import pytest
import torch
from support import slow

from ncexp.datasets import Dataset, table

#: Times the bytes of a table's inputs that reading it may take at once: they are put together, with the labels.
AT_MOST = 4


def written(folder: Path, rows: list[list[Any]], name: str = "t.csv", header: str = "x,y,z,kind") -> str:
    path = folder / name
    path.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n")
    return str(path)


@pytest.fixture
def rows() -> list[list[Any]]:
    """30 rows of "b", 6 of "a", 2 of "c"; the third column never varies."""
    random = np.random.default_rng(0)
    kinds = ["b"] * 30 + ["a"] * 6 + ["c"] * 2
    return [[*random.normal(5, 3, size=2).round(6), 4, kind] for kind in kinds]


def row_numbers(found: Dataset, rows: list[list[Any]]) -> list[list[int]]:
    """Which rows of the file each split has, by their first number."""
    firsts = [row[0] for row in rows]
    return [
        [int(np.abs(np.array(firsts) - float(x)).argmin()) for x in split.inputs[:, 0]]  # type: ignore[attr-defined]
        for split in (found.train, found.test)
    ]


def test_table_is_split_class_by_class_and_nothing_is_lost(tmp_path: Path, rows: list[list[Any]]) -> None:
    found = table.load(path=written(tmp_path, rows), label="kind", standardize="none")
    assert found.facts["classes"] == "a, b, c"
    assert torch.bincount(found.train.labels).tolist() == [5, 24, 1]
    assert torch.bincount(found.test.labels).tolist() == [1, 6, 1]
    train, test = row_numbers(found, rows)
    assert sorted(train + test) == list(range(38))
    assert train == sorted(train)
    for split, numbers in ((found.train, train), (found.test, test)):
        assert [found.facts["classes"].split(", ")[c] for c in split.labels] == [rows[row][-1] for row in numbers]
    other = table.load(path=written(tmp_path, rows), label="kind", standardize="none", subset_seed=1)
    assert row_numbers(other, rows) != [train, test]


def test_table_is_standardised_by_its_training_rows(tmp_path: Path, rows: list[list[Any]]) -> None:
    path = written(tmp_path, rows)
    raw, found = (table.load(path=path, label="kind", standardize=how) for how in ("none", "per_column"))  # type: ignore[arg-type]
    train, test = (split.inputs.double().numpy() for split in (raw.train, raw.test))  # type: ignore[attr-defined]
    for split, numbers in ((found.train, train), (found.test, test)):
        expected = (numbers[:, :2] - train[:, :2].mean(0)) / train[:, :2].std(0)
        assert split.inputs[:, :2].numpy() == pytest.approx(expected, abs=1e-5)  # type: ignore[attr-defined]
        assert not split.inputs[:, 2].any()  # type: ignore[attr-defined]
    assert found.facts["num_constant_columns"] == 1


def test_table_of_parquet_is_that_of_csv(tmp_path: Path, rows: list[list[Any]]) -> None:
    path = written(tmp_path, rows)
    pandas.read_csv(path).to_parquet(tmp_path / "t.parquet")
    one, other = (table.load(path=str(tmp_path / name), label="kind") for name in ("t.csv", "t.parquet"))
    assert torch.equal(one.train.inputs, other.train.inputs)  # type: ignore[attr-defined]
    assert torch.equal(one.test.labels, other.test.labels)


@pytest.mark.parametrize("suffix", ["csv", slow("parquet")])
def test_table_has_as_many_columns_or_rows_as_anybody_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    """100,000 columns were looked for among each other, minutes long; every cell of many rows was an object at once."""
    random = np.random.default_rng(0)
    columns = 100_000 if suffix == "csv" else 20_000  # of which pandas writes Parquet in a second
    wide, tall = random.integers(0, 9, size=(4, columns)), random.integers(0, 9, size=(30_000, 2)) * 1.5
    read = {}
    for name, numbers in (("wide", wide), ("tall", tall)):
        frame = pandas.DataFrame(numbers, columns=[f"x{place}" for place in range(numbers.shape[1])])
        frame["kind"] = np.arange(len(numbers)) % 2
        read[name] = tmp_path / f"{name}.{suffix}"
        frame.to_csv(read[name], index=False) if suffix == "csv" else frame.to_parquet(read[name], index=False)
    assert np.array_equal(table.read_table(str(read["wide"]), "kind").inputs, wide)
    monkeypatch.setattr(table, "_BLOCK", 3000)
    tracemalloc.start()
    found = table.read_table(str(read["tall"]), "kind")
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert np.array_equal(found.inputs, tall)
    assert [found.words[place] for place in found.labels] == [str(row % 2) for row in range(len(tall))]
    assert most < AT_MOST * found.inputs.nbytes, most / found.inputs.nbytes


@pytest.mark.parametrize("header", ["", "Unnamed: 0", "Unnamed: 0.1", "...1"])
def test_table_column_that_nobody_named_is_no_input(tmp_path: Path, rows: list[list[Any]], header: str) -> None:
    """What pandas, R and their rereadings call the row number: beside sorted classes it says the class."""
    plain = table.load(path=written(tmp_path, rows), label="kind")
    numbered = [[number, *row, ""] for number, row in enumerate(rows)]
    found = table.load(path=written(tmp_path, numbered, "n.csv", f"{header},x,y,z,kind, "), label="kind")
    assert torch.equal(found.train.inputs, plain.train.inputs)  # type: ignore[attr-defined]
    assert found.facts["columns"] == "x, y, z"
    left_out = [header or "(column 1)", "(column 6)"]
    assert found.facts["columns_left_out"] == ", ".join(left_out)
    assert all(name in found.origin for name in left_out)
    assert "columns_left_out" not in plain.facts


@pytest.mark.parametrize("name", [None, "row", "kind"])
def test_table_of_parquet_takes_no_pandas_index_as_input(tmp_path: Path, name: str | None) -> None:
    """An index that is no plain range is a column of the file, under its name or `__index_level_0__`."""
    frame = pandas.DataFrame({"x": [3.0, 1, 2, 5, 4, 6], "kind": list("ababab")})[["x", "kind"]]
    if name == "kind":  # the labels may be the index
        frame = frame.set_index("kind")
    else:
        frame.index = pandas.Index([9, 7, 3, 4, 1, 0], name=name)
    frame.to_parquet(tmp_path / "t.parquet")
    found = table.load(path=str(tmp_path / "t.parquet"), label="kind", standardize="none")
    assert found.input_shape == (1,)
    assert found.facts["columns"] == "x"
    assert found.facts.get("columns_left_out") == {None: "__index_level_0__", "row": "row", "kind": None}[name]


def test_table_column_like_a_row_number_is_warned_of(tmp_path: Path) -> None:
    """In order, or whole numbers of nearly one range, each once; not numbers that repeat or leave gaps."""
    random = np.random.default_rng(0)
    order, gaps = random.permutation(40), random.choice(1000, 40, replace=False)
    rows = [
        [n, -(n**2), order[n] + 5, gaps[n], n // 2, random.normal(), "ab"[n % 2]]  # two files cut the ids in two
        for n in range(40)
    ]
    header = "up,down,id,gaps,pairs,noise,kind"
    for train in (written(tmp_path, rows, "t.csv", header), written(tmp_path, rows[:20], "u.csv", header)):
        test = None if train.endswith("t.csv") else written(tmp_path, rows[20:], "v.csv", header)
        found = table.load(path=train, test_path=test, label="kind")
        assert found.facts["columns_like_row_numbers"] == "up, down, id"
        assert "up, down, id" in found.origin
        assert found.input_shape == (6,)


def test_table_labels_of_one_number_are_one_class(tmp_path: Path) -> None:
    """ "1", "1.0", "01" and "1e0"; numbers that differ beyond the digits of float64 are two classes."""
    words = ["1", "1.0", "01", "1e0", " 1", "10", "10.0", "-0", "0", "0.50", ".5"]
    big = ["9007199254740992", "9007199254740993"]
    rows = [[place, place**2, 0, word] for place, word in enumerate([*words, *big])]
    test = [[0, 0, 0, word] for word in ("1.00", "1e1", "0.0", "0.5", *(f"{one}.0" for one in big))]
    paths = written(tmp_path, rows), written(tmp_path, test, "u.csv")
    found = table.load(path=paths[0], test_path=paths[1], label="kind")
    assert found.num_classes == 6
    assert found.train.labels.tolist() == [2, 2, 2, 2, 2, 3, 3, 0, 0, 1, 1, 4, 5]
    assert found.test.labels.tolist() == [2, 3, 0, 1, 4, 5]
    assert found.facts["classes"] == f"0, .5, 1, 10, {big[0]}, {big[1]}"


def test_table_of_floats_has_the_classes_of_its_integers(tmp_path: Path) -> None:
    """pandas makes a column of whole numbers float once a value was missing."""
    frame = pandas.DataFrame({"x": range(8), "y": [1.5] * 8, "kind": [3, 20, 3, 20] * 2})
    frame.to_parquet(tmp_path / "t.parquet")
    frame.astype({"kind": float}).to_parquet(tmp_path / "f.parquet")
    found = table.load(path=str(tmp_path / "t.parquet"), test_path=str(tmp_path / "f.parquet"), label="kind")
    assert found.facts["classes"] == "3, 20"
    assert torch.equal(found.train.labels, found.test.labels)
    for missing, said in ((math.nan, "nan"), (None, "None")):
        labels = pyarrow.array([3.0, missing, 3, 20], from_pandas=False)
        pyarrow.parquet.write_table(pyarrow.table({"x": range(4), "kind": labels}), tmp_path / "m.parquet")
        with pytest.raises(ValueError, match=rf"expected a label in every row, got {said} in row 2"):
            table.load(path=str(tmp_path / "m.parquet"), label="kind")


@pytest.mark.parametrize(
    ("encoding", "separator"), [("utf-16", ","), ("utf-8-sig", ";"), ("utf-16", ";"), ("utf-8", "\t")]
)
def test_table_in_other_separators_and_encodings_is_the_same(
    encoding: str, separator: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "".join(f"{row},{row % 3 / 2},{row % 2}\n" for row in range(20))
    (tmp_path / "plain.csv").write_text(f"höhe,b,3\n{text}")
    other = tmp_path / "other (1)?%25.csv"
    other.write_text(f"höhe,b,3\n{text}".replace(",", separator), encoding=encoding)
    monkeypatch.setenv("HOME", str(tmp_path))
    expected, found = (table.load(path=path, label=label) for path, label in [(str(tmp_path / "plain.csv"), "3"),
                                                                              ("~/other (1)?%25.csv", 3)])  # fmt: skip
    assert torch.equal(found.train.inputs, expected.train.inputs)
    assert torch.equal(found.test.labels, expected.test.labels)
    assert found.facts["columns"] == "höhe, b"


def test_table_may_be_long_tailed_and_mislabelled(tmp_path: Path) -> None:
    rows = [[number, number % 7, 0, number % 3] for number in range(300)]
    options: dict[str, Any] = {"label": "kind", "examples_per_class": 64, "imbalance": 16.0}
    clean, found = (table.load(path=written(tmp_path, rows), **options, label_noise=noise) for noise in (0.0, 0.1))
    assert found.facts["num_mislabelled"] == round(0.1 * (64 + 16 + 4)) == len(found.train) // 10
    assert torch.bincount(clean.train.labels).tolist() == [64, 16, 4]
    assert len(found.test) == 60


@pytest.mark.parametrize(
    ("text", "label", "message"),
    [
        ("x,kind\n1,a\n,b\n2,a\n3,b\n", "kind", r"expected finite numbers in column 'x', got '' in row 2"),
        ("x,kind\n1,a\nnan,b\n2,a\n3,b\n", "kind", r"got 'nan' in row 2"),
        ("x,kind\n1,a\n2,\n2,a\n3,b\n", "kind", r"expected a label in every row, got '' in row 2"),
        ("x,kind\n1,a\n2,NaN\n2,a\n3,b\n", "kind", r"expected a label in every row, got 'NaN' in row 2"),
        ("x,kind\n1,a\n2,NA\n2,a\n3,b\n", "kind", r"expected a label in every row, got 'NA' in row 2"),
        ("x,kind\n1,a\n2,1\n2,a\n3,01\n", "kind", r"expected one way to write a label, got '01' and '1'"),
        ("x,kind\n1,a\n2,b,3\n", "kind", r"expected 2 cells in every row, as in the header, got 3 in row 2"),
        ('x,kind\n\n"1\n",a\n2\n', "kind", r"expected 2 cells in every row, as in the header, got 1 in row 2"),
        ("x,x,kind\n1,2,a\n", "kind", r"each name once, got 'x' twice"),
        ("x,kind\n1,a\n2,b\n3,b\n", "kind", r"expected two rows of every class at least, .* got one of 'a'"),
        ("x,kind\n1,a\n2,a\n", "kind", r"expected two classes at least, got 1"),
        ("x,kind\n1,a\n2,a\n", "sort", r"dataset.label: expected a column of .*, got 'sort'\. Valid: x, kind"),
        ("x,kind\n", "kind", r"expected rows below the header, got none"),
        ("", "kind", r"expected a header"),
        ("x;kind\n1,5;a\n2,5;b\n", "kind", r"got '1,5' in row 1. Write it with a point: sed 's/,/./g' OLD > NEW"),
        ("höhe,kind\n1,a\n2,b\n", "kind", r"expected a CSV file in UTF-8, got other .* iconv -f latin1 -t utf-8 OLD"),
        ("x,kind\n1,a\n2,ä\n", "kind", r"expected a CSV file in UTF-8, got other .* iconv -f latin1 -t utf-8 OLD"),
    ],
)
def test_table_that_cannot_be_read_is_refused(tmp_path: Path, text: str, label: str, message: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(ValueError, match=message):
        table.load(path=str(path), label=label)


def test_table_that_is_no_table_is_refused(tmp_path: Path, rows: list[list[Any]]) -> None:
    path = written(tmp_path, rows)
    with pytest.raises(ValueError, match=r"expected a file, got .*, which is not there"):
        table.load(path=str(tmp_path / "missing.csv"), label="kind")
    (tmp_path / "t.xlsx").write_text("")
    with pytest.raises(ValueError, match=r"expected a file \.csv or \.parquet"):
        table.load(path=str(tmp_path / "t.xlsx"), label="kind")
    other = written(tmp_path, rows, "u.csv", header="x,y,w,kind")
    with pytest.raises(ValueError, match=r"expected the columns of dataset\.path, in its order, got w, z"):
        table.load(path=path, test_path=other, label="kind")
    fewer = written(tmp_path, rows[:36], "v.csv")
    with pytest.raises(ValueError, match="expected the same classes in training and test, got 'c'"):
        table.load(path=path, test_path=fewer, label="kind")
