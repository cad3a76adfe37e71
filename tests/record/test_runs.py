"""`ncexp.load`: many runs as frames, and `ncexp export`, which writes the same."""

from __future__ import annotations

import dataclasses
import errno
import math
import os
from pathlib import Path
from typing import BinaryIO

import pandas
import pytest
import yaml
from synthetic_sweep import RATES, write_run

import ncexp
from ncexp.cli.export import main as export
from ncexp.record import Runs, State, load, read_run, select, split_name

OF_A_RUN = ["run", "dataset", "architecture", "loss", "lr", "seed", "state"]
COLUMNS = [*OF_A_RUN, "epoch", "split", "family", "quantity", "value", "doubt"]


def expected_values(path: Path) -> dict[tuple[int, str], float]:
    """(epoch, full name) → value of every number of every journal, read line by line."""
    run = read_run(path)
    return {
        (int(record["epoch"]), name): value
        for record in (*run.training, *run.records)
        for name, value in record.items()
        if name != "epoch"
    }


def test_frame_holds_every_number_of_every_journal_once(tmp_path: Path) -> None:
    paths = [write_run(tmp_path, rate=rate) for rate in RATES[:2]]
    frame = ncexp.load(tmp_path).frame()
    assert list(frame.columns) == COLUMNS
    for path in paths:
        expected = expected_values(path)
        part = frame[frame.run == read_run(path).key]
        found = {(row.epoch, "/".join(filter(None, (row.split, row.family, row.quantity)))): row.value
                 for row in part.itertuples()}  # fmt: skip
        assert len(part) == len(found) == len(expected)
        for place, value in expected.items():
            assert found[place] == value or (math.isnan(value) and math.isnan(found[place]))


def test_frame_is_in_the_order_of_runs_and_epochs_with_the_facts_of_the_run_in_each_row(tmp_path: Path) -> None:
    write_run(tmp_path, rate=0.01, seed=3)
    write_run(tmp_path, rate=0.02, loss="cross_entropy", state=State.DIVERGED)
    runs = load(tmp_path)
    frame = runs.frame()
    assert list(dict.fromkeys(frame.run)) == [run.key for run in runs]
    for run in runs:
        part = frame[frame.run == run.key]
        assert part.epoch.is_monotonic_increasing
        (facts,) = part[OF_A_RUN[1:]].drop_duplicates().to_numpy().tolist()
        assert facts == [*run.cell, run.rate, run.parameters["seed"], str(run.state)]
    assert frame.epoch.dtype.kind == "i"
    assert frame.value.dtype == "float64"


def test_frame_and_table_say_where_the_terms_of_the_loss_do_not_add_up(tmp_path: Path) -> None:
    write_run(tmp_path)
    (run,) = load(tmp_path)
    assert not run.doubts
    last = run.records[-1]
    last |= {"train/mse/loss": 2.7e-10, "train/mse/loss_rounding": 1e-12, "train/mse/identity_residual": 1.6e9}
    doubtful = dataclasses.replace(run)
    frame = Runs([doubtful]).frame()
    of_terms = (frame.epoch == last["epoch"]) & (frame.split == "train") & frame.family.isin(["mse", "path"])
    assert of_terms.any()
    assert set(frame.doubt[of_terms]) == {"the terms of L miss it by 1.6e+09 of it, more than rounding allows"}
    assert set(frame.doubt[~of_terms]) == {""}
    assert "more than rounding allows" in Runs([doubtful]).table().doubt[0]
    last |= {"train/mse/loss_rounding": 1.0}  # within the bound
    assert not dataclasses.replace(run).doubts
    del last["train/mse/loss_rounding"]  # as recorded before there was a bound
    assert dataclasses.replace(run).doubts


def test_frame_of_no_runs_has_the_columns(tmp_path: Path) -> None:
    write_run(tmp_path)
    assert list(load(tmp_path, where={"seed": 9}).frame().columns) == COLUMNS
    assert len(Runs([]).table()) == 0


def test_frame_leaves_out_what_no_checkpoint_covers(tmp_path: Path) -> None:
    """A run that was killed before its first checkpoint: what it wrote may be computed again."""
    write_run(tmp_path, state=State.RUNNING)
    frame = load(tmp_path).frame()
    assert len(frame) == 0
    assert list(frame.columns) == COLUMNS


def test_table_has_a_row_a_run_with_the_numbers_of_the_last_epoch(tmp_path: Path) -> None:
    for rate in RATES[:2]:
        write_run(tmp_path, rate=rate)
    runs = load(tmp_path)
    table = runs.table()
    assert list(table.run) == [run.key for run in runs]
    assert list(table["train/collapse/nc1_trace"]) == [run.records[-1]["train/collapse/nc1_trace"] for run in runs]
    assert list(table.zero_error_epoch) == [run.zero_error_epoch for run in runs]
    assert list(table["dataset.folder"]) == ["data", "data"]


def test_load_takes_one_folder_or_several(tmp_path: Path) -> None:
    for name in "ab":
        write_run(tmp_path / name, seed=ord(name))
    assert len(load([tmp_path / "a", str(tmp_path / "b")])) == 2
    assert len(load(str(tmp_path / "a"))) == 1
    with pytest.raises(ValueError, match="expected run directories, got none"):
        load(tmp_path / "c")


def test_load_reads_a_simulation_where_its_folder_is_named(tmp_path: Path) -> None:
    write_run(tmp_path)
    simulation = tmp_path / "simulations" / "central_path_seed3_0123456789"
    write_run(tmp_path / "simulations").rename(simulation)
    choice = {"name": "central_path", "_target_": "ncexp.simulations.central_path.random_features"}
    (simulation / "config.yaml").write_text(yaml.safe_dump({"simulation": choice, "seed": 3}))
    assert [run.is_simulation for run in load(tmp_path)] == [False]
    for folder in (simulation, simulation.parent):
        first = load(folder).frame().iloc[0]
        assert list(first[["run", "dataset", "architecture", "loss", "seed"]]) == [
            "0123456789",
            "",
            "central_path",
            "",
            3,
        ]
        assert math.isnan(first.lr)


def test_select_compares_as_text_and_names_the_nearest_parameter(tmp_path: Path) -> None:
    for seed in range(3):
        write_run(tmp_path, seed=seed)
    runs = load(tmp_path)
    assert [run.parameters["seed"] for run in select(runs, {"seed": "1", "dataset": "digits"})] == [1]
    with pytest.raises(ValueError, match=r"where: expected a parameter of the runs, got 'sed'. .* Did you mean seed\?"):
        select(runs, {"sed": 1})


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("test/error", ("test", "", "error")),
        ("train/collapse/nc1_trace", ("train", "collapse", "nc1_trace")),
        ("train/layers/backbone.3/nc1_ratio", ("train", "layers/backbone.3", "nc1_ratio")),
    ],
)
def test_split_name_into_split_family_and_quantity(name: str, parts: tuple[str, str, str]) -> None:
    assert split_name(name) == parts


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_export_writes_the_frame(tmp_path: Path, suffix: str) -> None:
    for rate in RATES[:2]:
        write_run(tmp_path, rate=rate)
    target = tmp_path / f"all{suffix}"
    assert export([str(tmp_path), "--to", str(target)]) == 0
    read = pandas.read_csv(target, dtype={"run": str}) if suffix == ".csv" else pandas.read_parquet(target)
    expected = load(tmp_path).frame()
    assert list(read.columns) == COLUMNS
    for column in COLUMNS:
        missing = "" if column in ("split", "family", "quantity", "doubt") else math.nan
        values = read[column].astype(object).where(read[column].notna(), missing)
        pandas.testing.assert_series_equal(values, expected[column].astype(object), check_dtype=False)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_export_that_ends_early_leaves_the_earlier_file(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It wrote in place: a kill, or a full disk, destroyed a good file."""
    write_run(tmp_path)
    target = tmp_path / f"all{suffix}"
    target.write_bytes(b"earlier")

    def disk_full(frame: object, file: BinaryIO, **_: object) -> None:
        file.write(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(f"pandas.DataFrame.to_{suffix[1:]}", disk_full)
    assert export([str(tmp_path), "--to", str(target)]) == 2
    assert "--to: expected a file that can be written, got [Errno 28] No space left" in capsys.readouterr().err
    assert target.read_bytes() == b"earlier"


def test_export_refuses_other_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path)
    assert export([str(tmp_path), "--to", "all.xlsx"]) == 2
    assert "expected a file in .csv or .parquet, got all.xlsx" in capsys.readouterr().err
