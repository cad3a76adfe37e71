"""A report takes what lies in a folder: runs that differ in more than rate, seed and loss are groups of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from commands import report
from drawn_figures import assert_nothing_sticks_out
from matplotlib import pyplot
from synthetic_sweep import write_run

from ncexp.record import find_runs, load, read_run
from ncexp.record.quantities import NC1, panels
from ncexp.report.grids import figures_of, panel_grid
from ncexp.report.style import group_colours
from ncexp.report.sweep import Sweep, describe_settings, gather
from ncexp.report.tables import differences, gains, results, settings

EPOCHS = [1, 2, 5, 12, 35, 100]
ADAM = {"name": "adam", "_target_": "ncexp.training.optimizers.adam", "lr": 0.02, "betas": [0.9, 0.99]}


def write(folder: Path, options: dict[str, Any], **chosen: Any) -> Path:
    """A run with other options, by their path."""
    path = write_run(folder, epochs=EPOCHS, **chosen)
    raw = yaml.safe_load((path / "config.yaml").read_text())
    for name, value in options.items():
        *groups, last = name.split(".")
        inner = raw
        for group in groups:
            inner = inner[group]
        inner[last] = value
    (path / "config.yaml").write_text(yaml.safe_dump(raw))
    return path


def gathered(folder: Path) -> Sweep:
    return gather(read_run(path) for path in find_runs([*folder.iterdir()]))


def main_job_and_sweep(folder: Path) -> None:
    """What the README's first commands leave: `ncexp`, and a sweep of two losses and two rates with other options."""
    write(folder, {"epochs": 350, "optimizer.weight_decay": 0.002}, loss="mse_mean", rate=0.25)
    for loss in ("mse_mean", "cross_entropy"):
        for rate in (0.03, 0.12):
            write(folder, {"epochs": 100, "optimizer.weight_decay": 0.0005}, loss=loss, rate=rate)


@pytest.mark.slow
@pytest.mark.usefixtures("no_rendering")
def test_report_of_the_readmes_first_commands_groups_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main_job_and_sweep(tmp_path / "outputs")
    assert report([str(tmp_path / "outputs"), "--to", str(tmp_path / "report")]) == 0
    said = capsys.readouterr().out
    sentence = "these runs differ in optimizer.weight_decay, epochs: 2 settings, each with rows and a colour of its own"
    assert sentence in said
    assert sentence in (tmp_path / "report" / "report.html").read_text()
    assert "| weight_decay=0.0005 epochs=100 | 4 | optimizer.weight_decay = 0.0005, epochs = 100 |" in said
    assert "| weight_decay=0.002 epochs=350 | 1 | optimizer.weight_decay = 0.002, epochs = 350 |" in said


def test_settings_are_cells_and_losses_are_compared_within_one(tmp_path: Path) -> None:
    main_job_and_sweep(tmp_path / "outputs")
    sweep = gathered(tmp_path)
    small, large = sweep.settings
    assert [(loss, len(cell.runs)) for (_, _, loss), cell in sweep.cells.items()] == [
        (f"mse_mean, {small}", 2), (f"mse_mean, {large}", 1), (f"cross_entropy, {small}", 2),
    ]  # fmt: skip
    assert {row[3] for row in differences(sweep).rows} == {f"mse_mean, {small}"}
    assert [row[2] for row in results(sweep).rows] == [row[0] for row in gains(sweep).rows] == sweep.losses


def test_runs_of_one_setting_have_no_groups(tmp_path: Path) -> None:
    for loss in ("mse", "cross_entropy"):
        for rate in (0.02, 0.05):
            write(tmp_path / "outputs", {}, loss=loss, rate=rate)
    write(tmp_path / "outputs", {"epochs": 20}, dataset="svhn")  # what data sets differ in, cells do
    sweep = gathered(tmp_path)
    assert (sweep.settings, describe_settings(sweep), settings(sweep).rows) == ({}, "", [])
    assert sweep.losses == ["mse", "cross_entropy"]


def test_options_of_another_choice_are_said_by_its_name(tmp_path: Path) -> None:
    """Adam has betas and SGD has none, and label smoothing its amount: what differs is the optimizer, and the decay."""
    write(tmp_path / "a", {"optimizer": ADAM})
    for place, decay in (("b", 0.1), ("c", 1e-05), ("d", 0.0005)):
        write(tmp_path / place, {"optimizer": {**ADAM, "weight_decay": decay}})
    smoothed = {"loss.smoothing": 0.1, "optimizer.weight_decay": 0.1}
    write(tmp_path / "e", smoothed, loss="label_smoothing")
    sweep = gathered(tmp_path)
    assert {tuple(group.values) for group in sweep.settings.values()} == {("optimizer", "optimizer.weight_decay")}
    assert [*sweep.settings] == [
        f"optimizer=adam weight_decay={decay}" for decay in ("1e-05", "0.0005", "0.1", "–")
    ] + ["optimizer=sgd weight_decay=0.1"]


@pytest.mark.parametrize("value", ["$\\frac{$", "a value of more letters than fit into a legend", "two\nlines"])
def test_setting_whose_values_a_figure_cannot_show_has_a_number(tmp_path: Path, value: str) -> None:
    for place, one in enumerate((value, "plain")):
        write(tmp_path / str(place), {"dataset.folder": one})
    sweep = gathered(tmp_path)
    assert sweep.losses == ["mse, setting 1", "mse, setting 2"]
    assert {row[2] for row in settings(sweep).rows} == {f"dataset.folder = {' '.join(value.split())}",
                                                        "dataset.folder = plain"}  # fmt: skip
    assert [group.values["dataset.folder"] for group in sweep.settings.values()] == sorted([value, "plain"])


def test_figures_name_losses_with_their_settings_and_nothing_sticks_out(tmp_path: Path) -> None:
    main_job_and_sweep(tmp_path / "outputs")
    sweep = gather(load(tmp_path / "outputs"))
    assert "decomposition_mse_mean_weight_decay_0.002_epochs_350" in {name for name, _, _ in figures_of(sweep)}
    figure = panel_grid(sweep, panels()[NC1])
    assert [text.get_text() for text in figure.legends[0].get_texts()][:3] == sweep.losses
    assert len({str(one.get_color()) for one in figure.legends[0].get_lines()[:3]}) == 3
    assert_nothing_sticks_out(figure)
    pyplot.close(figure)


def test_twenty_four_settings_have_colours_of_their_own() -> None:
    assert len({*group_colours([f"mse, epochs={count}" for count in range(24)]).values()}) == 24
