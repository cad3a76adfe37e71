"""docs/fashion_mnist.md: its tables are made from the summary of the runs of all images, and what it prints of the cell
on 600 images with three seeds is what the reference of these seeds holds.
"""

from __future__ import annotations

import json
import math
import re
import statistics
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from support import Compose

import ncexp
from ncexp.main import run
from ncexp.report.reference import read_reference

DOCS = Path(__file__).parents[1] / "docs"
PAGE = (DOCS / "fashion_mnist.md").read_text()
LAST = "45"
#: Heading of a column → first cell of a row → quantity, and what the row multiplies it by.
ROWS = {
    "VGG-11, MSE": {
        "test error %": ("test/error", 100),
        "NC1, first epoch → zero error → end": ("train/collapse/nc1_trace", 1),
        "NC2 equinorm, means": ("train/collapse/equinorm_means", 1),
        "NC2 equinorm, classifier": ("train/collapse/equinorm_classifier", 1),
        "ETF error, means": ("train/collapse/etf_error_means", 1),
        "ETF error, classifier": ("train/collapse/etf_error_classifier", 1),
        "NC3 self-duality": ("train/collapse/self_duality", 1),
        "NC4 mismatch %": ("train/collapse/nearest_class_center_mismatch", 100),
    },
    "VGG-11": {
        "L": ("train/mse/loss", 1),
        "L_NC1": ("train/mse/loss_nc1", 1),
        "of it data": ("train/mse/loss_nc1_data", 1),
        "L_NC2/3": ("train/mse/loss_nc23", 1),
        "L_LS⊥": ("train/mse/loss_ls_perp", 1),
        "angle to W_LS, degrees": ("train/path/prediction_angle", 1),
        "distance to W_LS": ("train/path/classifier_distance", 1),
        "ω₁/ω_last": ("train/path/snr_ratio", 1),
    },
}
#: The page has the mean of the seeds, the reference of many quantities the mean of their logarithms.
MEANS_DIFFER_BY = 0.02


def entries(row: str) -> list[str]:
    return [entry.strip() for entry in row.strip("|").split("|")]


@pytest.mark.parametrize("name", ROWS)
def test_numbers_at_the_end_are_those_of_the_reference(name: str) -> None:
    head = re.search(rf"^\| \| {name} \|.*$", PAGE, flags=re.MULTILINE)
    assert head is not None
    lines = PAGE[head.end() :].partition("\n\n")[0].splitlines()[2:]
    printed = {quantity: end for quantity, end, *_ in map(entries, lines)}
    bands = read_reference("fashion_mnist_vgg_mse_mean")["bands"]
    for heading, (quantity, scale) in ROWS[name].items():
        end = printed[heading].split(" → ")[-1]
        half_a_digit = 0.5 * 10.0 ** -len(end.partition(".")[2])
        mean = scale * bands[quantity][LAST][1]
        assert float(end) == pytest.approx(mean, rel=MEANS_DIFFER_BY, abs=half_a_digit), heading


@pytest.mark.usefixtures("no_figures")
def test_example_prints_a_share_of_every_run(
    composed: Compose, console: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    run(composed("epochs=1", "tracking.enabled=false"), console)
    capsys.readouterr()
    monkeypatch.chdir(tmp_path)
    block = re.search(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    assert block is not None
    exec(compile(block[1], "docs/fashion_mnist.md", "exec"), {})
    (line,) = capsys.readouterr().out.splitlines()
    assert 0 < float(line.split()[-1]) < 1


# All images


sys.path.append(str(DOCS))  # where the page's scripts find each other
import fashion_mnist_full as FULL  # noqa: E402
import fashion_mnist_runs as RUNS  # noqa: E402

PARTS = ("loss_ls_perp", "loss_nc1")
RAW = json.loads(RUNS.SUMMARY.read_text())


def test_tables_of_all_images_are_made_from_the_summary() -> None:
    runs = RUNS.read()
    assert FULL.with_blocks(PAGE, runs) == PAGE
    # A number of the last epoch that were another would stand there as another.
    (*_, run) = RUNS.chosen(runs, loss="mse", lr=RUNS.BEST["mlp", "mse"])
    numbers = {name: [*values[:-1], 2 * values[-1]] for name, values in run.numbers.items()}
    others = [replace(one, numbers=numbers) if one is run else one for one in runs]
    assert FULL.with_blocks(PAGE, others) != PAGE


def of_images(count: int, rate: float = 0.035355339) -> list[dict[str, Any]]:
    """The MLP's seeds on so many images, the rest as the page's first experiment."""
    wanted = {"network": "mlp", "loss": "mse", "lr": rate, "weight_decay": 5e-5, "per_class": count // 10}
    wanted |= {"epochs": 350, "batch_size": 128, "hidden": [256, 256], "batch_norm": False, "decay_of": None}
    return [run for run in RAW if all(run["settings"][name] == value for name, value in wanted.items())]


@pytest.mark.parametrize("count", [count for count in (600, 2000, 6000, 20000, 60000) if of_images(count)])
def test_ratio_of_the_page_is_that_of_the_recorded_losses(count: int) -> None:
    (line,) = re.findall(rf"^\| {count:,} \(.*$", PAGE, flags=re.MULTILINE)
    ends = [{name: values[-1] for name, values in run["numbers"].items()} for run in of_images(count)]
    ratios = [end["train/mse/loss_ls_perp"] / end["train/mse/loss_nc1"] for end in ends]
    printed = [float(number) for number in re.findall(r"[\d.]+(?:e-\d+)?", line.split("|")[6])]
    expected = [statistics.fmean(ratios), *([min(ratios), max(ratios)] if len(printed) > 1 else [])]
    assert printed == pytest.approx(expected, rel=0.006)  # three digits, or two below 0.001
    errors = statistics.fmean(end["test/error"] for end in ends)
    assert float(line.split("|")[4].split()[0]) == pytest.approx(100 * errors, rel=0.005)


#: Rate and seed → the epoch before the jump, by what the loss grows, to what the decay part of L_LS⊥ falls after 121.
JUMPS = {
    (RUNS.RATE, 1): (85, 24.7, 0.815),
    (RUNS.RATE, 2): (54, 1.85, 0.814),
    (RUNS.UNSTABLE, 1): (85, 102, 0.675),
    (RUNS.UNSTABLE, 2): (101, 2.51, 0.675),
}
KEPT = {(RUNS.RATE, 0): 0.555, (RUNS.UNSTABLE, 0): 0.415}
#: The epochs of each rate after epoch 121, by the schedule, and the steps of one.
AFTER, STEPS = {0.1: 112, 0.01: 117}, 469


@pytest.mark.parametrize("rate", [RUNS.RATE, RUNS.UNSTABLE])
@pytest.mark.parametrize("seed", range(3))
def test_jumps_and_what_they_leave_are_what_the_page_says(rate: float, seed: int) -> None:
    (found,) = (one for one in of_images(60_000, rate) if one["settings"]["seed"] == seed)
    numbers, epochs = found["numbers"], found["epochs"]
    whole, data = (numbers[f"train/mse/loss_ls_perp{end}"] for end in ("", "_data"))
    growth = {
        epoch: after / before
        for epoch, before, after in zip(epochs, numbers["train/mse/loss"], numbers["train/mse/loss"][1:], strict=False)
    }
    jumps = {epoch: factor for epoch, factor in growth.items() if epoch > 50 and factor > 1.5}
    fell = (whole[-1] - data[-1]) / (whole[epochs.index(121)] - data[epochs.index(121)])
    # W − W_LS without a gradient of the data shrinks by η λ/(1 − μ) a step.
    alone = math.exp(-sum(2 * STEPS * count * rate * share * 5e-5 / 0.1 for share, count in AFTER.items()))
    ratios = [perp / nc1 for perp, nc1 in zip(data, numbers["train/mse/loss_nc1_data"], strict=True)]
    assert max(ratio for ratio, epoch in zip(ratios, epochs, strict=True) if epoch >= 172) < 1 / 10
    assert (found["zero"] is None) == ((rate, seed) in JUMPS)
    if (rate, seed) in JUMPS:
        before, factor, share = JUMPS[rate, seed]
        assert jumps == {before: pytest.approx(factor, rel=0.005)}
        assert fell == pytest.approx(share, abs=5e-4)
        assert fell == pytest.approx(alone, abs=2e-3)
        assert whole[-1] / numbers["train/mse/loss_nc1"][-1] > 1 / 10
        assert PAGE.count(f"{factor} times") == 1
    else:
        assert not jumps
        assert fell == pytest.approx(KEPT[rate, seed], abs=5e-4)
        assert fell < alone - 0.2


def test_losses_of_the_summary_add_up() -> None:
    """L = L_NC1 + L_NC2/3 + L_LS⊥ of every run and epoch, as far as four digits tell."""
    for numbers in (one["numbers"] for one in RAW):
        parts = [numbers[f"train/mse/{part}"] for part in ("loss_nc1", "loss_nc23", "loss_ls_perp")]
        for loss, *terms in zip(numbers["train/mse/loss"], *parts, strict=True):
            assert loss == pytest.approx(sum(terms), rel=1e-3)


@pytest.mark.usefixtures("no_figures")
def test_summary_has_a_runs_own_numbers(composed: Compose, console: Console) -> None:
    raw = composed("epochs=6", "tracking.enabled=false", "evaluate_at=[1,2,3,4,5,6]", "loss=mse")
    run(raw, console)
    (saved,) = ncexp.load(raw["outputs"])
    summary = RUNS.summary_of(saved)
    records = {int(record["epoch"]): record for record in saved.records}
    assert summary["key"] == saved.key
    assert summary["epochs"] == sorted({1, 6, *([saved.zero_error_epoch] if saved.zero_error_epoch else [])})
    assert 0 < summary["minutes"] < 1
    assert {"train/mse/loss_ls_perp", "test/error", "train/collapse/nc1_trace"} <= summary["numbers"].keys()
    for name, values in summary["numbers"].items():
        for epoch, value in zip(summary["epochs"], values, strict=True):
            recorded = records[epoch][name]
            assert value == pytest.approx(recorded, rel=5e-4) if math.isfinite(recorded) else value is None


def test_readme_says_what_the_summary_says_of_the_first_picture() -> None:
    for one in of_images(60_000, RUNS.BEST["mlp", "mse"]):
        numbers, epochs = one["numbers"], one["epochs"]
        whole, data = (
            [perp / nc1 for perp, nc1 in zip(*(numbers[f"train/mse/{part}{end}"] for part in PARTS), strict=True)]
            for end in ("", "_data")
        )
        assert data[epochs.index(110)] > 1 / 10 > data[epochs.index(172)]
        late = [ratio for epoch, ratio in zip(epochs, whole, strict=True) if epoch > 120]
        if one["settings"]["seed"] == 0:
            assert max(late) < 1 / 10
            assert whole[-1] < 1 / 100
        else:
            assert min(late) > 1 / 10
        assert numbers["train/collapse/etf_error_means"][-1] > 0.5


@pytest.mark.slow
@pytest.mark.cold
def test_figures_are_drawn_from_the_summary_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "figures").mkdir()
    runs = RUNS.read()
    monkeypatch.setattr(FULL, "DOCS", tmp_path)
    FULL.draw(runs)
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == [
        *("fashion_mnist_full.png", "fashion_mnist_full_nc.png", "fashion_mnist_images.png")
    ]
