"""The report of the paper's grid: fifteen cells as 3×5 panels, as printed; seeds, losses and rates compared by hand."""

from __future__ import annotations

import csv
import io
import math
import statistics
from dataclasses import replace
from pathlib import Path

import numpy
import pytest
from drawn_figures import comparison_of
from matplotlib import pyplot
from synthetic_path import records_of_path, run_with
from synthetic_sweep import DATASET_TITLES, PAPER, write_paper, write_run

from ncexp.measure import compare_with_path
from ncexp.record import SavedRun, find_runs, read_run
from ncexp.report.curves import band_of, draw_spectra, draw_zero_error, spectrum_series
from ncexp.report.grids import _compared, decomposition_grid, path_fit_grid, spectra_grid
from ncexp.report.han2022 import Sweep, differences, gains, gather, learning_rates, results
from ncexp.report.numbers import rate_of_fall, small_perp_epoch
from ncexp.report.page import render_page
from ncexp.report.run import figure_two
from ncexp.report.study import study_of
from ncexp.report.whole import describe

#: Enough for a spectrum to be fitted, few enough to be quick.
EPOCHS = [1, 2, 5, 12, 35, 101, 206, 350]
#: The same sum in another order.
ROUNDING = 1e-12


def read(folder: Path) -> list[SavedRun]:
    return [read_run(path) for path in find_runs([folder])]


@pytest.fixture(scope="module")
def paper(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    folder = tmp_path_factory.mktemp("paper")
    write_paper(folder, [0.02], epochs=EPOCHS)
    return gather(read(folder))


@pytest.fixture(scope="module")
def one_cell(paper: Sweep) -> Sweep:
    """A fit takes a tenth of a second: of the two losses of one cell."""
    return Sweep({place: cell for place, cell in paper.cells.items() if place[:2] == ("mnist", "vgg11")})


@pytest.fixture(autouse=True)
def _close_all() -> object:
    yield
    pyplot.close("all")


@pytest.mark.slow
def test_paper_grid_has_three_families_down_and_five_datasets_across(paper: Sweep) -> None:
    figure = decomposition_grid(paper, "mse")
    assert len(figure.axes) == 15
    by_row = [figure.axes[5 * row : 5 * row + 5] for row in range(3)]
    assert [row[0].get_ylabel() for row in by_row] == ["VGG", "ResNet", "DenseNet"]
    for place, row in enumerate(by_row):
        networks = [of_dataset[place] for of_dataset in PAPER.values()]
        above = [f"{dataset}\n{network}" for dataset, network in zip(DATASET_TITLES, networks, strict=True)]
        assert [axes.get_title() for axes in row] == (networks if place else above)
        for axes, (dataset, networks) in zip(row, PAPER.items(), strict=True):
            (run,) = paper.cells[dataset, networks[place], "mse"].runs
            drawn = [list(line.get_ydata()) for line in axes.lines]
            for name in ("loss", "loss_nc1", "loss_nc23", "loss_ls_perp"):
                expected = [record[f"train/mse/{name}"] for record in run.records]
                assert any(len(one) == len(expected) and numpy.allclose(one, expected) for one in drawn), name


def test_rows_keep_two_networks_of_a_family_on_one_dataset_apart(tmp_path: Path) -> None:
    for network in ("resnet", "resnet18", "vgg11"):
        write_run(tmp_path, architecture=network)
    write_run(tmp_path, architecture="zoo_3", dataset="svhn")
    sweep = gather(read(tmp_path))
    assert sweep.rows == {"VGG": ["vgg11"], "resnet": ["resnet"], "resnet18": ["resnet18"], "zoo": ["zoo_3"]}
    assert sweep.datasets == ["svhn", "digits"]  # the paper's first


@pytest.mark.slow
def test_spectra_and_fit_are_panels_of_the_numbers_of_each_run(one_cell: Sweep) -> None:
    fits = {place: _compared(cell) for place, cell in one_cell.cells.items()}
    comparison = compare_with_path(one_cell.cells["mnist", "vgg11", "mse"].runs[0])
    assert comparison is not None
    assert comparison.fit is not None
    drawn = [list(line.get_ydata()) for line in spectra_grid(one_cell, "mse", fits).axes[0].lines]
    for expected in (comparison.spectra[:, 2].tolist(), comparison.fit.predicted[:, 2].tolist()):
        assert any(len(one) == len(expected) and numpy.allclose(one, expected) for one in drawn)
    misses = [list(line.get_ydata()) for line in path_fit_grid(one_cell, fits).axes[0].lines]
    expected = comparison.fit.residuals.square().mean(1).sqrt().tolist()
    assert any(len(one) == len(expected) and numpy.allclose(one, expected) for one in misses)


def test_band_is_mean_and_deviation_over_the_epochs_that_all_seeds_have() -> None:
    first, second = ([1, 2, 3], [1.0, 4.0, 0.0]), ([1, 3, 9], [3.0, math.nan, 1.0])
    seeds = [(numpy.array(epochs), numpy.array(values)) for epochs, values in (first, second)]
    linear = band_of(seeds, logarithmic=False)
    assert linear.positions.tolist() == [1, 3]
    assert linear.mean[0] == 2.0
    assert math.isnan(linear.mean[1])  # one seed has none: a mean over the others would jump
    assert linear.high[0] - linear.mean[0] == pytest.approx(statistics.stdev([1.0, 3.0]), rel=ROUNDING)
    log = band_of(seeds, logarithmic=True)
    assert log.mean[0] == pytest.approx(statistics.geometric_mean([1.0, 3.0]), rel=ROUNDING)
    assert log.high[0] / log.mean[0] == pytest.approx(math.exp(statistics.stdev([0.0, math.log(3)])), rel=ROUNDING)
    assert math.isnan(log.mean[1])  # neither an exact zero nor an undefined value has a logarithm


def test_seeds_are_drawn_as_one_curve_and_a_band(tmp_path: Path) -> None:
    for seed in range(3):
        write_run(tmp_path, seed=seed, epochs=EPOCHS)
    (axes,) = decomposition_grid(gather(read(tmp_path)), "mse").axes
    assert len(axes.lines) == 4 + 1  # four terms and one red line
    assert len(axes.collections) == 4
    assert [text.get_text() for text in axes.texts] == ["3 of 3 seeds"]


def test_red_line_says_over_how_many_seeds_it_averages(tmp_path: Path) -> None:
    for seed in range(3):
        write_run(tmp_path, seed=seed, epochs=EPOCHS)
    first, *others = read(tmp_path)
    never = [{**record, "train/error": 0.5} for record in first.records]
    runs = [replace(first, records=never, training=[]), *others]
    axes = pyplot.figure().add_subplot()
    draw_zero_error(axes, runs)
    assert [text.get_text() for text in axes.texts] == ["2 of 3 seeds"]
    assert axes.lines[0].get_xdata()[0] == statistics.fmean(run.zero_error_epoch for run in runs[1:])


def test_figure_two_in_numbers_against_terms_of_known_powers(tmp_path: Path) -> None:
    """Terms that are powers of the epoch: their exponents; L_LS⊥ below a tenth but for one epoch later."""
    run = read_run(write_run(tmp_path, epochs=EPOCHS))
    powers = {"loss_nc1": -0.5, "loss_nc1_data": -0.75, "loss_nc23": -1.25, "loss_ls_perp": -1.5}
    records = [
        {"epoch": epoch, "train/error": 0.0}
        | {
            f"train/mse/{term}": (2.02 if term == "loss_ls_perp" else 2) * float(epoch) ** power
            for term, power in powers.items()
        }
        for epoch in [*range(1, 60), 400]
    ]
    records[29]["train/mse/loss_ls_perp"] *= 4  # epoch 30: 4.04/30 > 1/10
    one = replace(run, records=records, training=[])
    assert small_perp_epoch(one) == 31
    assert small_perp_epoch(one, "loss_nc1_data") == 31
    records[29]["train/mse/loss_ls_perp"] /= 4
    assert small_perp_epoch(one) == 11  # 1.01/epoch < 1/10
    assert small_perp_epoch(one, "loss_nc1_data") == 22  # 1.01 epoch^−¾ < 1/10: beyond 10.1^(4/3) = 21.8
    for term, power in powers.items():
        assert rate_of_fall(one, term) == pytest.approx(power, rel=ROUNDING)
    assert figure_two(one) == [
        "L_LS⊥     below L_NC1/10 from epoch 11, below its data part/10 from epoch 22",
        "fall      as epoch^p: L_NC1 -0.50 (data -0.75), L_NC2/3 -1.25, L_LS⊥ -1.50",
    ]
    records[-1]["train/mse/loss_ls_perp"] = 1.0
    assert math.isnan(small_perp_epoch(one))
    assert figure_two(one)[0] == "L_LS⊥     below L_NC1/10 never, below its data part/10 never"


def test_differences_are_paired_means_and_standard_errors(tmp_path: Path) -> None:
    for loss, seeds in (("mse", [0, 1, 2]), ("cross_entropy", [1, 2, 3])):
        for seed in seeds:
            write_run(tmp_path, loss=loss, seed=seed, epochs=EPOCHS, more=True)
    runs = {(run.cell[2], run.seed): run for run in read(tmp_path)}
    rows = list(csv.DictReader(io.StringIO(differences(gather(read(tmp_path))).csv())))
    row = next(one for one in rows if one["quantity"] == "test acc. at the end %")
    end = {key: 100 * (1 - run.records[-1]["test/error"]) for key, run in runs.items()}
    paired = [end["mse", seed] - end["cross_entropy", seed] for seed in (1, 2)]
    mse = [end["mse", seed] for seed in (1, 2)]
    assert row["seeds of both"] == "2 of 4"
    assert float(row["value"]) == pytest.approx(statistics.fmean(mse), rel=ROUNDING)
    assert float(row["value se"]) == pytest.approx(statistics.stdev(mse) / math.sqrt(2), rel=1e-9)
    assert float(row["value"]) - float(row["cross_entropy"]) == pytest.approx(float(row["difference"]), rel=1e-9)
    assert float(row["difference"]) == pytest.approx(statistics.fmean(paired), rel=1e-9)
    assert float(row["difference se"]) == pytest.approx(statistics.stdev(paired) / math.sqrt(2), rel=1e-9)
    assert {one["quantity"] for one in rows} >= {"gain", "zero-error epoch", "robustness at the end"}


def test_numbers_that_some_seeds_lack_say_how_many_have_them(tmp_path: Path) -> None:
    """MSE reaches zero error at 11, 11 and never, cross-entropy at 9, 9 and 1: the third seed is in no pair."""
    zeros = {"mse": (11, 11, None), "cross_entropy": (9, 9, 1)}
    runs = []
    for loss, epochs in zeros.items():
        for seed, zero in enumerate(epochs):
            run = read_run(write_run(tmp_path, loss=loss, seed=seed, epochs=[1, 9, 11, 20]))
            records = [
                {**one, "train/error": 0.0 if zero is not None and one["epoch"] >= zero else 0.5, "test/error": 0.25}
                for one in run.records
            ]
            runs.append(replace(run, records=records, training=[]))
    sweep = gather(runs)
    frame = results(sweep).frame
    assert [str(entry) for entry in frame["zero-error epoch"]] == ["11 ± 0 (2 of 3)", "6 ± 5"]
    assert [str(entry) for entry in frame["test acc. at zero error %"]] == ["75.00 ± 0.00 (2 of 3)", "75.00 ± 0.00"]
    assert gains(sweep).rows[0][1] == "1 of 1 (2 of 3 seeds)"
    (row,) = [[*map(str, row)] for row in differences(sweep).rows if row[2] == "zero-error epoch"]
    assert row[3:] == ["mse", "11 ± 0", "9 ± 0", "2 ± 0", "2 of 3"]


@pytest.mark.slow
def test_gains_state_robustness_won_after_zero_error(paper: Sweep, tmp_path: Path) -> None:
    row = dict(zip(gains(paper).columns, gains(paper).rows[0], strict=True))
    won = [
        run.records[-1]["test/robustness/ratio"]
        - next(r for r in run.records if r["epoch"] == run.zero_error_epoch)["test/robustness/ratio"]
        for place, cell in paper.cells.items()
        for run in cell.kept
        if place[2] == "mse" and run.zero_error_epoch is not None
    ]
    assert row["cells with robustness"] == f"{len(won)} of 15"
    assert float(str(row["median gain in robustness"])) == pytest.approx(statistics.median(won), abs=5e-5)
    assert float(str(row["mean gain in robustness"])) == pytest.approx(statistics.fmean(won), abs=5e-5)
    write_run(tmp_path)
    assert gains(gather(read(tmp_path))).rows[0][4:] == ["0 of 1", "–", "–"]


def test_rates_of_unlike_numbers_of_seeds_say_so(tmp_path: Path) -> None:
    for rate, seeds in ((0.02, 1), (0.05, 3)):
        for seed in range(seeds):
            write_run(tmp_path, rate=rate, seed=seed, epochs=EPOCHS)
    (row,) = learning_rates(gather(read(tmp_path))).rows
    assert [str(entry).partition("]")[2] for entry in row[3:]] == [" (edge) (1 of 3 seeds)", ""]


def test_spectra_are_drawn_by_seed_where_only_some_have_a_fit() -> None:
    """One seed never came to zero error: the mean of the others' lines would miss the mean of all points."""
    comparisons = [comparison_of(run_with(records_of_path(**words))) for words in ({}, {"error_free_from": 99})]
    axes = pyplot.figure().add_subplot()
    draw_spectra(axes, *spectrum_series(comparisons))
    points, lines = ([one for one in axes.lines if one.get_linestyle() == style] for style in ("None", "-"))
    modes = len(comparisons[0].modes)
    assert (len(points), len(lines), len(axes.collections)) == (2 * modes, modes, 0)


def test_rate_at_the_edge_of_its_grid_is_marked(tmp_path: Path) -> None:
    for rate in (0.02, 0.05, 0.09):
        write_run(tmp_path, rate=rate)
    (row,) = results(gather(read(tmp_path))).rows
    assert row[3] == "0.02 (edge)"
    (row,) = learning_rates(gather(read(tmp_path))).rows
    assert str(row[3]).endswith("] (edge)")
    write_run(tmp_path, rate=0.007)
    (row,) = results(gather(read(tmp_path))).rows
    assert row[3] == "0.02"


def test_page_says_once_how_rates_are_chosen(paper: Sweep, tmp_path: Path) -> None:
    study = study_of(paper.runs)
    page = render_page(study, describe(study, "han2022"), [], [results(paper)], [], tmp_path)
    assert page.count("optimistic") == 1
    assert "(edge)" not in page
