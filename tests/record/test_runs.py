"""`ncexp.load`: many runs as frames, and `ncexp export`, which writes the same."""

from __future__ import annotations

import dataclasses
import errno
import io
import math
import os
import shutil
import warnings
from pathlib import Path
from typing import BinaryIO

import pandas
import pytest
import yaml
from commands import export
from synthetic_sweep import EPOCHS, RATES, write_run

import ncexp
from ncexp.record import Runs, State, load, read_run, select, split_name
from ncexp.record.quantities import QUANTITIES
from ncexp.record.runs import ERRORS, NONE

OF_A_RUN = ["run", "dataset", "architecture", "loss", "lr", "seed", "state"]
COLUMNS = [*OF_A_RUN, "epoch", "split", "family", "quantity", "value", "doubt"]


def test_frame_holds_every_number_of_every_journal_once(tmp_path: Path) -> None:
    paths = [write_run(tmp_path, rate=rate) for rate in RATES[:2]]
    frame = ncexp.load(tmp_path).frame()
    assert list(frame.columns) == COLUMNS
    for path in paths:
        run = read_run(path)
        expected = {
            (int(record["epoch"]), *split_name(name)): value
            for record in (*run.training, *run.records)
            for name, value in record.items()
            if name != "epoch"
        }
        part = frame[frame.run == run.key]
        found = {(row.epoch, row.split, row.family, row.quantity): row.value for row in part.itertuples()}
        assert len(part) == len(found)
        assert found == pytest.approx(expected, rel=0, abs=0, nan_ok=True)


def test_frame_is_in_the_order_of_runs_and_epochs_with_facts_in_each_row(tmp_path: Path) -> None:
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
    last = {**run.records[-1], "train/mse/loss": 2.7e-10, "train/mse/loss_rounding": 1e-12}
    last |= {"train/mse/identity_residual": 1.6e9}
    run = dataclasses.replace(run, records=[*run.records[:-1], last])
    doubtful = dataclasses.replace(run)
    frame = Runs([doubtful]).frame()
    of_terms = (frame.epoch == last["epoch"]) & (frame.split == "train") & frame.family.isin(["mse", "path"])
    assert of_terms.any()
    assert set(frame.doubt[of_terms]) == {"the terms of L miss it by 1.6e+09 of it, more than rounding allows"}
    assert set(frame.doubt[~of_terms]) == {"none"}
    assert "more than rounding allows" in Runs([doubtful]).table().doubt[0]
    last |= {"train/mse/loss_rounding": 1.0}  # within the bound
    assert not dataclasses.replace(run).doubts
    del last["train/mse/loss_rounding"]  # as recorded before there was a bound
    assert dataclasses.replace(run).doubts


def test_frame_of_no_runs_has_the_columns(tmp_path: Path) -> None:
    write_run(tmp_path)
    assert list(load(tmp_path, where={"seed": 9}).frame().columns) == COLUMNS
    assert Runs([]).frame(common_epochs=True).empty
    assert len(Runs([]).table()) == 0


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
    assert [len(load(paths)) for paths in ([tmp_path / "a", str(tmp_path / "b")], str(tmp_path / "a"))] == [2, 1]
    with pytest.raises(ValueError, match="expected run directories, got none"):
        load(tmp_path / "c")


def test_load_reads_a_simulation_where_its_folder_is_named(tmp_path: Path) -> None:
    write_run(tmp_path)
    simulation = tmp_path / "simulations" / "central_path_seed3_0123456789"
    write_run(tmp_path / "simulations").rename(simulation)
    choice = {"name": "central_path", "_target_": "ncexp.simulations.central_path.random_features"}
    (simulation / "config.yaml").write_text(yaml.safe_dump({"simulation": choice, "seed": 3}))
    assert [run.is_simulation for run in load(tmp_path)] == [False]
    shutil.copytree(simulation.parent, tmp_path / "alone" / "simulations")
    with pytest.raises(ValueError, match="expected run directories, got none"):
        load(tmp_path / "alone")
    for folder in (simulation, simulation.parent):
        first = load(folder).frame().iloc[0]
        facts = first[["run", "dataset", "architecture", "loss", "seed"]]
        assert [*facts] == ["0123456789", "none", "central_path", "none", 3]
        assert math.isnan(first.lr)


def test_select_compares_as_text_and_names_the_nearest_parameter(tmp_path: Path) -> None:
    for seed in range(3):
        write_run(tmp_path, seed=seed)
    runs = load(tmp_path)
    assert [run.parameters["seed"] for run in select(runs, {"seed": "1", "dataset": "digits"})] == [1]
    assert select(runs, {"state": "completed"}) == list(runs)
    assert select(runs, {"state": State.DIVERGED}) == []
    with pytest.raises(ValueError, match=r"where: expected a parameter of the runs, got 'sed'. .* Did you mean seed\?"):
        select(runs, {"sed": 1})


def test_split_name_into_split_family_and_quantity() -> None:
    assert split_name("test/error") == ("test", "errors", "error")
    assert split_name("error") == ("none", "errors", "error")
    assert split_name("train/layers/backbone.3/nc1_ratio") == ("train", "layers/backbone.3", "nc1_ratio")


@pytest.mark.parametrize("doubtful", [False, True])
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_export_read_with_pandas_defaults_is_the_frame(
    tmp_path: Path, suffix: str, doubtful: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also its group-by and pivot by every key: an empty name, or nan for a rate, dropped whole families and runs."""
    for rate in RATES[:2]:
        write_run(tmp_path, rate=rate)
    config = write_run(tmp_path, loss="cross_entropy") / "config.yaml"
    raw = yaml.safe_load(config.read_text())
    del raw["seed"], raw["optimizer"]["lr"]  # as of another's training
    config.write_text(yaml.safe_dump(raw))
    if doubtful:
        monkeypatch.setattr("ncexp.record.saved_run.doubtful_splits", lambda record: {"train": "a = b, or not"})
    target = tmp_path / f"all{suffix}"
    assert export([str(tmp_path), "--to", str(target)]) == 0
    read = pandas.read_csv(target) if suffix == ".csv" else pandas.read_parquet(target)
    expected = load(tmp_path).frame()
    assert list(read.columns) == COLUMNS
    for column in COLUMNS:
        values = read[column].astype(object).where(read[column].notna(), math.nan)
        wanted = expected[column].astype(object).where(expected[column].notna(), math.nan)
        pandas.testing.assert_series_equal(values, wanted, check_dtype=False)
    words = ["run", "dataset", "architecture", "loss", "state", "split", "family", "quantity", "doubt"]
    assert read[words].notna().all(axis=None)
    names = read.groupby(["split", "family", "quantity"], observed=True).size()
    assert {("train", "errors", "error"), ("test", "errors", "loss"), ("fit", "errors", "lr")} <= {*names.index}
    keys = ["dataset", "architecture", "loss", "lr", "epoch", *words[-4:]]
    assert len(read.groupby(keys, observed=True, dropna=False).value.mean().unstack(keys[:4]).columns) == 3
    assert read.pivot_table(index="epoch", columns=words, values="value", observed=True).shape[0] == 350


def test_names_of_all_choices_and_numbers_survive_pandas() -> None:
    names = {part for row in QUANTITIES for part in split_name(f"train/{row.name}")} | {*State, NONE, ERRORS}
    names |= {path.stem for path in (Path(__file__).parents[2] / "conf").rglob("*.yaml")}
    read = pandas.read_csv(io.StringIO("name\n" + "\n".join(sorted(names))))
    assert read.name.tolist() == sorted(names)


def test_common_epochs_are_those_of_all_runs_so_that_no_mean_jumps(tmp_path: Path) -> None:
    """Each run was also evaluated at its own zero-error epoch: there, a mean over runs was one over some of them."""
    for rate in RATES[1:4]:
        write_run(tmp_path, rate=rate)
    runs = load(tmp_path)
    zeros = {run.zero_error_epoch for run in runs}
    assert len(zeros) == 3
    name = "split == 'train' and family == 'collapse' and quantity == 'nc1_trace'"
    with_all, common = (frame.query(name).reset_index() for frame in (runs.frame(), runs.frame(common_epochs=True)))
    assert zeros <= {*with_all.epoch}
    assert (common.groupby("epoch").run.nunique() == 3).all()
    expected = with_all[with_all.epoch.isin(EPOCHS)].reset_index()
    pandas.testing.assert_frame_equal(common[COLUMNS], expected[COLUMNS])


def test_common_epochs_hold_for_each_number_where_it_is_defined(tmp_path: Path) -> None:
    """One run has a number at fewer epochs, and is undefined at one: then no run has it there. Others keep theirs."""
    for rate in RATES[1:3]:
        write_run(tmp_path, rate=rate, epochs=[1, 2, 3, 4])
    runs = load(tmp_path)
    first, second = (dataclasses.replace(run, records=[*run.records]) for run in runs)
    for record, value in zip(first.records, (2.0, math.nan, None, 2.0), strict=True):
        record |= {"test/robustness/ratio": 1.0, "test/only/mine": 1.0}
        second.records[int(record["epoch"]) - 1] |= {} if value is None else {"test/robustness/ratio": value}
    frame = Runs([first, second]).frame(common_epochs=True)
    assert frame[frame.family == "robustness"].epoch.tolist() == [1, 4, 1, 4]
    assert frame[frame.family == "only"].epoch.tolist() == [1, 2, 3, 4]
    assert frame[frame.quantity == "snr_ratio"].epoch.tolist() == [3, 4, 3, 4]  # not defined before


def test_common_epochs_warn_of_a_run_that_ended_before_the_others(tmp_path: Path) -> None:
    write_run(tmp_path, rate=0.01)
    early = [write_run(tmp_path, rate=rate, state=State.DIVERGED).name for rate in (0.02, 0.05)]
    words = rf"up to epoch 350, got 24 as the last one of {early[0]} \(diverged\) and 1 more that end early.*'state'"
    with pytest.warns(UserWarning, match=words):
        frame = load(tmp_path).frame(common_epochs=True)
    assert frame[frame.split == "train"].epoch.max() == 24
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load(tmp_path, where={"state": "completed"}).frame(common_epochs=True).epoch.max() == 350


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
    for file, words in ((target, "a file that can be written, got [Errno 28] No space left"),
                        (tmp_path / "all.xlsx", "a file in .csv or .parquet, got ")):  # fmt: skip
        assert export([str(tmp_path), "--to", str(file)]) == 2
        assert f"expected {words}" in capsys.readouterr().err
    assert target.read_bytes() == b"earlier"
