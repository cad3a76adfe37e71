"""The answer in words: of records written by hand, with numbers that are computed here in another way."""

from __future__ import annotations

import math
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from synthetic_sweep import configuration

from ncexp.record import Record, SavedRun, State
from ncexp.report.columns import axes
from ncexp.report.study import study_of
from ncexp.report.verdict import MOST_ROWS, outcome, print_outcome, verdict

NC1, PERP, LNC1 = "train/collapse/nc1_trace", "train/mse/loss_ls_perp", "train/mse/loss_nc1"
DIVERGED = "the same training would diverge again; try optimizer.lr=0.025 (a tenth)"


def evaluated(epoch: int, train: float, test: float, **numbers: float) -> Record:
    names = {"nc1": NC1, "perp": PERP, "loss_nc1": LNC1, "share": "train/path/perp_share",
             "robustness": "test/robustness/ratio"}  # fmt: skip
    return {"epoch": epoch, "train/error": train, "test/error": test, **{names[key]: v for key, v in numbers.items()}}


def made(records: list[Record], *, rate: float = 0.25, seed: int = 0, loss: str = "mse", **options: Any) -> SavedRun:
    dataset = options.pop("dataset", "digits")
    raw = configuration(dataset, "mlp", loss, rate, seed)
    state = options.pop("state", State.COMPLETED)
    raw |= options
    path = Path(f"digits-mlp-{loss}_lr{rate:g}_seed{seed}_{abs(hash((dataset, rate, seed, loss))) % 10**10:010d}")
    facts = {"num_classes": 10, "num_features": 16, "num_test": 397}
    return SavedRun(path, raw, facts, state, "", [], records)


def outcome_of(runs: list[SavedRun]) -> list[str]:
    return outcome(study_of(runs))


COLLAPSES = [
    evaluated(1, 0.5, 0.6, nc1=3.0, perp=0.2, loss_nc1=0.3, share=0.4),
    evaluated(4, 0.001, 0.05, nc1=0.12, perp=0.02, loss_nc1=0.1, share=0.1),
    evaluated(9, 0.0, 0.02, nc1=0.004, perp=0.001, loss_nc1=0.02, share=0.041, robustness=0.0523),
]


def test_verdict_says_error_collapse_path_and_robustness_of_the_record() -> None:
    assert verdict(made(COLLAPSES)) == [
        "test error 2.00% at epoch 9; 5.00% at zero error, epoch 4: 3.00 points less now",
        "NC1 fell after zero error by a factor of 30: 0.12 at zero error, 0.004 now",
        "near the central path from epoch 9 on: L_LS⊥ stays below a tenth of L_NC1; 4.10% of the MSE loss is off the "
        "path at the end",
        "robustness 0.0523: the least change that decides otherwise, as a share of the input's length",
    ]


def test_verdict_says_nothing_of_what_was_not_measured() -> None:
    records = [evaluated(1, 0.5, 0.6), evaluated(4, 0.0, 0.05), evaluated(9, 0.0, 0.05)]
    assert verdict(made(records)) == ["test error 5.00% at epoch 9; 5.00% at zero error, epoch 4: the same"]
    assert verdict(made([])) == []
    assert verdict(made([{"epoch": 3, NC1: 0.5}])) == []
    assert "zero error was not reached: nan%" in verdict(made([{"epoch": 3, "test/error": 0.5}]))[0]  # a stranger's
    simulated = made(records)
    assert verdict(replace(simulated, raw={"simulation": {"name": "central_path"}, "seed": 0})) == []


def test_verdict_speaks_of_no_collapse_without_epochs_after_zero_error() -> None:
    never = [evaluated(1, 0.5, 0.6, nc1=3.0), evaluated(9, 0.0025, 0.02, nc1=0.1)]
    wrong = "0.25% of the training examples are still decided wrongly"
    assert verdict(made(never)) == [f"test error 2.00% at epoch 9; zero error was not reached: {wrong}"]
    at_the_end = [evaluated(1, 0.5, 0.6, nc1=3.0), evaluated(9, 0.0, 0.02, nc1=0.1)]
    (line,) = verdict(made(at_the_end))
    assert line.startswith("test error 2.00% at epoch 9, the zero-error epoch: there is nothing after it")


@pytest.mark.parametrize(
    ("end", "said"),
    [
        (0.48, "NC1 rose after zero error by a factor of 4: 0.12 at zero error, 0.48 now"),
        (0.12001, "NC1 did not change after zero error: 0.12 at zero error, 0.12 now"),
        (0.0, "NC1 fell after zero error by a factor of inf: 0.12 at zero error, 0 now"),
        (math.nan, None),
    ],
)
def test_verdict_of_features_that_do_not_collapse(end: float, said: str | None) -> None:
    records = [evaluated(4, 0.0, 0.05, nc1=0.12), evaluated(9, 0.0, 0.05, nc1=end)]
    assert verdict(made(records))[1:] == ([said] if said else [])


def test_verdict_far_from_the_path_and_of_another_loss() -> None:
    records = [evaluated(4, 0.0, 0.05), evaluated(9, 0.0, 0.05, perp=0.03, loss_nc1=0.2, share=0.9997)]
    (_, line) = verdict(made(records))
    terms = "not near the central path: L_LS⊥ is 0.03, L_NC1 0.2; near is below a tenth of it"
    assert line == f"{terms}; 99.97% of the MSE loss is off the path at the end"
    (_, line) = verdict(made(records, loss="cross_entropy"))
    assert line.endswith("off the path at the end (the path is one of the MSE loss, this run's is cross_entropy)")


def test_verdict_does_not_judge_terms_that_are_in_doubt() -> None:
    doubtful = {"train/mse/loss": 1.0, "train/mse/loss_rounding": 1e-9, "train/mse/identity_residual": 0.5}
    records = [evaluated(4, 0.0, 0.05), evaluated(9, 0.0, 0.05, perp=0.001, loss_nc1=0.2) | doubtful]
    (_, line) = verdict(made(records))
    assert line.startswith("how near it is to the central path cannot be said: the terms of L miss it")


def test_verdict_of_a_run_under_way_says_so_far() -> None:
    (first, *_) = verdict(made(COLLAPSES, state=State.INTERRUPTED))
    assert first.startswith("so far (interrupted): test error 2.00% at epoch 9")
    (first, *_) = verdict(made(COLLAPSES[:1], state=State.RUNNING))
    assert "; zero error is not reached yet: 50.00% of the training examples" in first


def test_verdict_of_a_diverged_run_is_what_to_try_and_nothing_else() -> None:
    (line,) = verdict(made(COLLAPSES, state=State.DIVERGED))
    assert line == f"{DIVERGED}, optimizer=adam at its own rate"
    assert verdict(made([], state=State.DIVERGED)) == [line]
    adam = {"name": "adamw", "_target_": "x", "lr": 0.25, "clip_norm": None}
    (line,) = verdict(made([], state=State.DIVERGED, optimizer=adam, precision="bf16"))
    assert line == f"{DIVERGED}, optimizer.clip_norm=..., precision=fp32"
    (line,) = verdict(made([], state=State.DIVERGED, optimizer={"name": "sgd", "_target_": "x"}))
    assert line.startswith("the weights give features that are no finite numbers")


def of_seeds(rate: float, errors: list[float], **options: Any) -> list[SavedRun]:
    """A run for each error in percent, with NC1 of a tenth of it at the end, and of the error itself at zero error."""
    return [
        made(
            [evaluated(4, 0.0, 0.5, nc1=error), evaluated(9, 0.0, error / 100, nc1=error / (10 + seed))],
            rate=rate,
            seed=seed,
            **options,
        )
        for seed, error in enumerate(errors)
    ]


def test_best_setting_is_called_so_only_where_seeds_differ_by_less() -> None:
    first, second = [2.0, 2.1, 2.2], [2.6, 2.7, 2.5]
    gap = statistics.fmean(second) - statistics.fmean(first)
    spread = max(statistics.stdev(first), statistics.stdev(second))
    assert gap > spread
    lines = outcome_of([*of_seeds(0.1, first), *of_seeds(0.2, second)])
    assert lines == [
        f"best: lr 0.1, test error 2.10 ± 0.10 % (3 seeds), {gap:.2f} points below the next, lr 0.2: more than "
        f"{spread:.2f} points, the seeds' spread",
        "there, NC1 fell after zero error in 3 of 3 seeds, by a factor of 10 to 12",
    ]
    wide = [2.0, 2.4, 1.9]
    lines = outcome_of([*of_seeds(0.1, wide), *of_seeds(0.2, [2.2, 2.3, 2.1])])
    gap, spread = 2.2 - statistics.fmean(wide), statistics.stdev(wide)
    assert gap < spread
    assert lines[0] == (
        f"no setting is the best: lr 0.1 has test error 2.10 ± {spread:.2f} % (3 seeds), {gap:.2f} points below the "
        f"next, lr 0.2: no more than {spread:.2f} points, the seeds' spread"
    )


def test_of_one_seed_nothing_is_said_about_chance() -> None:
    lines = outcome_of([*of_seeds(0.1, [100 * 7 / 397]), *of_seeds(0.2, [100 * 8 / 397])])
    assert lines[0] == (
        "lowest: lr 0.1, test error 1.76 % (1 seed), 0.25 points below the next, lr 0.2 (1 of 397 test examples). "
        "Of one seed nothing can be said about chance: repeat with seed=0,1,2"
    )
    lines = outcome_of([*of_seeds(0.1, [2.0]), *of_seeds(0.2, [2.0])])
    assert lines[0].startswith("lowest: lr 0.1, test error 2.00 % (1 seed), the same as that of lr 0.2. Of one seed")
    odd = [replace(run, facts={"num_test": "many"}) for rate in (0.1, 0.2) for run in of_seeds(rate, [9 * rate])]
    assert "test examples" not in outcome_of(odd)[0]  # of a stranger
    lines = outcome_of([*of_seeds(0.1, [2.0, 2.2]), *of_seeds(0.2, [3.0])])
    assert lines[0].startswith("lowest: lr 0.1, test error 2.10 ± 0.14 % (2 seeds), 0.90 points below")
    assert "Of one seed nothing can be said" in lines[0]


def test_seeds_of_one_setting_are_no_comparison() -> None:
    first, _ = outcome_of(of_seeds(0.1, [2.0, 2.2]))
    assert first == "this setting: test error 2.10 ± 0.14 % (2 seeds)"


def test_setting_with_an_incomplete_seed_is_not_compared_but_named() -> None:
    better, others = of_seeds(0.3, [1.0, 1.0]), of_seeds(0.1, [2.0, 2.0])
    better[1] = replace(better[1], state=State.DIVERGED, records=[])
    lines = outcome_of([*better, *others])
    assert lines[0] == "this setting: test error 2.00 ± 0.00 % (2 seeds)".replace("this setting", "lr 0.1")
    assert lines[-1] == "1 of 4 runs did not complete: 1 diverged (lr 0.3)"
    assert outcome_of([replace(run, state=State.FAILED) for run in better]) == [
        "2 of 2 runs did not complete: 2 failed (this setting)"
    ]


def test_test_errors_of_different_data_are_not_compared() -> None:
    lines = outcome_of([*of_seeds(0.1, [2.0]), *of_seeds(0.1, [0.5], dataset="mnist")])
    assert [line for line in lines if "test error" in line] == [
        "digits: this setting: test error 2.00 % (1 seed)",
        "mnist: this setting: test error 0.50 % (1 seed)",
    ]


def test_near_the_path_counts_the_seeds_of_the_best_setting() -> None:
    near = [evaluated(4, 0.0, 0.5, perp=0.01, loss_nc1=0.2), evaluated(9, 0.0, 0.02, perp=0.01, loss_nc1=0.2)]
    far = [evaluated(4, 0.0, 0.5, perp=0.1, loss_nc1=0.2), evaluated(9, 0.0, 0.02, perp=0.1, loss_nc1=0.2)]
    lines = outcome_of([made(near, seed=0), made(near[1:], seed=1), made(far, seed=2)])
    said = "2 of 3 seeds near the central path (L_LS⊥ stays below a tenth of L_NC1), from epoch 4 to 9 on"
    assert lines[-1] == f"there, {said}"


def test_best_setting_without_zero_error_or_collapse_says_so() -> None:
    never = [evaluated(1, 0.5, 0.6, nc1=3.0), evaluated(9, 0.0025, 0.02, nc1=0.1)]
    lines = outcome_of([made(never, seed=seed) for seed in range(2)])
    assert lines[1:] == ["there, zero error was not reached, after which features would collapse"]
    rises = [evaluated(4, 0.0, 0.05, nc1=0.1), evaluated(9, 0.0, 0.02, nc1=0.2)]
    assert outcome_of([made(rises, seed=seed) for seed in range(2)])[1:] == [
        "there, NC1 fell after zero error in 0 of 2 seeds"
    ]


def test_axes_are_the_choices_that_others_do_not_decide() -> None:
    runs = [
        made([], rate=rate, loss=loss, optimizer={"name": name, "_target_": "x", "lr": rate, **options})
        for rate in (0.1, 0.2)
        for loss in ("mse", "cross_entropy")
        for name, options in (("sgd", {"momentum": 0.9}), ("adam", {"betas": [0.9, 0.99]}))
    ]
    assert axes(runs) == ["loss", "optimizer", "lr"]
    assert axes(of_seeds(0.1, [1.0, 2.0])) == []


def test_outcome_table_has_the_axes_against_test_error_and_nc1(console: Console) -> None:
    errors = {0.1: [2.0, 2.6], 0.2: [3.0, 3.1]}
    runs = [run for rate, of_rate in errors.items() for run in of_seeds(rate, of_rate)]
    runs.append(made([], rate=0.4, state=State.DIVERGED))
    runs[0].records[-1][NC1] = math.nan
    print_outcome(console, study_of(runs))
    _, head, *rows = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert head.split() == ["lr", "seeds", "test", "error", "%", "NC1"]
    mean, spread = statistics.fmean([2.0, 2.6]), statistics.stdev([2.0, 2.6])
    assert rows[0].split() == ["0.1", "2", f"{mean:.2f}", "±", f"{spread:.2f}", f"{2.6 / 11:.3g}", "(1", "of", "2)"]
    nc1 = [3.0 / 10, 3.1 / 11]
    assert rows[1].split()[-3:] == [f"{statistics.fmean(nc1):.3g}", "±", f"{statistics.stdev(nc1):.3g}"]
    assert rows[2].split() == ["0.4", "0", "–", "–", "1", "diverged"]
    assert rows[3].startswith("verdict   best: lr 0.1")
    assert rows[-1] == f"{'':10}1 of 5 runs did not complete: 1 diverged (lr 0.4)"


def test_outcome_of_very_many_settings_shows_those_of_the_lowest_error(console: Console) -> None:
    print_outcome(console, study_of([run for n in range(MOST_ROWS + 5) for run in of_seeds(0.1 + n, [50.0 - n])]))
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    rows = [line for line in lines if line[:1].isdigit()]
    assert len(rows) == MOST_ROWS + 1
    assert (
        rows[-1] == f"{MOST_ROWS} of {MOST_ROWS + 5} settings, those with the lowest test error; `ncexp runs` lists all"
    )
    assert rows[0].split()[:3] == [f"{MOST_ROWS + 4.1:g}", "1", "6.00"]


def test_outcome_without_any_evaluation_prints_nothing(console: Console) -> None:
    print_outcome(console, study_of([made([], state=State.RUNNING)]))
    assert console.file.getvalue() == ""  # type: ignore[attr-defined]
