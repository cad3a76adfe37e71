"""What a run came to: the epoch of zero error and the table of first, zero-error and last epoch."""

from __future__ import annotations

import math

from rich.console import Console
from rich.table import Table

from ncexp.journal import Record

#: HPD22, PHD20: the terminal phase of training starts where train accuracy reaches 99.9 %.
ZERO_ERROR = 0.001

#: Label in the table → quantity in the record.
ROWS = {
    "train error": "train/error",
    "test error": "test/error",
    "NC1  tr(Σ_W Σ_B⁺)/C": "train/nc1_trace",
    "NC2  equinorm, class means": "train/equinorm_means",
    "NC2  equinorm, classifier": "train/equinorm_classifier",
    "NC2  max. angle, class means": "train/maximal_angle_means",
    "NC2  max. angle, classifier": "train/maximal_angle_classifier",
    "NC3  self-duality": "train/self_duality",
    "NC4  nearest-center mismatch": "train/nearest_class_center_mismatch",
    "L        (MSE with decay)": "mse/loss",
    "L_NC1    (within class)": "mse/loss_nc1",
    "L_NC2/3  (means, classifier)": "mse/loss_nc23",
    "L_LS⊥    (off central path)": "mse/loss_ls_perp",
    "SNR      ω₁/ω_last": "path/snr_ratio",
    "Angle of W to W_LS, degrees": "path/prediction_angle",
}

#: Name behind ``final/`` → quantity in the record.
FINAL_NUMBERS = {
    "test_error": "test/error",
    "train_error": "train/error",
    "nc1_trace": "train/nc1_trace",
    "self_duality": "train/self_duality",
    "mse_loss": "mse/loss",
    "mse_loss_ls_perp": "mse/loss_ls_perp",
}


def zero_error_epoch(records: list[Record]) -> int | None:
    """The first analysis epoch whose train error is at most 0.1 %: where the red line stands; None if there is none."""
    return next((int(record["epoch"]) for record in records if record["train/error"] <= ZERO_ERROR), None)


def outcome(records: list[Record]) -> dict[str, float]:
    """The run in a dozen numbers, for tables that show one value a run.

    ``final/`` at the last epoch; ``best/`` at the epoch of the lowest test error; ``zero/`` at the zero-error epoch,
    with ``final/gain``, the test accuracy won from there to the end, in points; ``exact/`` and ``final/exact_gain`` the
    same from the first analysis epoch without a single train error. These only where they were reached.
    """
    last, best = records[-1], min(records, key=lambda record: record["test/error"])
    numbers = {f"final/{key}": last[name] for key, name in FINAL_NUMBERS.items() if name in last}
    numbers |= {"best/test_error": best["test/error"], "best/epoch": best["epoch"]}
    if (epoch := zero_error_epoch(records)) is not None:
        zero = next(record for record in records if record["epoch"] == epoch)
        numbers |= {"zero/epoch": epoch, "zero/test_error": zero["test/error"]}
        numbers["final/gain"] = 100 * (zero["test/error"] - last["test/error"])
    if (exact := next((record for record in records if record["train/error"] == 0), None)) is not None:
        numbers |= {"exact/epoch": exact["epoch"], "exact/test_error": exact["test/error"]}
        numbers["final/exact_gain"] = 100 * (exact["test/error"] - last["test/error"])
    return {name: value for name, value in numbers.items() if not math.isnan(value)}


def print_summary(console: Console, records: list[Record]) -> None:
    """The table of ROWS at the first, the zero-error and the last analysis epoch."""
    zero = zero_error_epoch(records)
    columns = [records[0], next((r for r in records if r["epoch"] == zero), None), records[-1]]
    table = Table(box=None, pad_edge=False)
    table.add_column("on train features", no_wrap=True)
    for title, record in zip(("first epoch", "zero error", "last epoch"), columns, strict=True):
        table.add_column(f"{title} ({record['epoch']:.0f})" if record else f"{title} (not reached)", justify="right")
    for label, name in ROWS.items():
        if name in records[-1]:
            table.add_row(label, *("–" if record is None else _number(record[name], name) for record in columns))
    console.print(table)


def _number(value: float, name: str) -> str:
    if math.isnan(value):
        return "undefined"
    return f"{value:.2%}" if name.endswith(("error", "mismatch")) else f"{value:.3g}"
