"""Theory against training: a run's recorded SNR spectra laid along the closed form of the central path."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ncexp.collapse import PathFit, central_path_losses, fit_time_change
from ncexp.journal import Record
from ncexp.summary import zero_error_epoch


@dataclass(frozen=True)
class Comparison:
    """What the central path makes of one run.

    modes: the j of the recorded ω_j; epochs (E,) and spectra (E, K): as recorded, nan where undefined; undefined: why,
    by epoch; fit: the run laid along the path, or None, and then `reason` says why; predicted_losses: L_LS, L_NC1 and
    L_NC2/3 along the fitted path, (3, epochs of the fit), or None, too where not every ω_j is on record.
    """

    modes: list[int]
    epochs: Tensor
    spectra: Tensor
    undefined: dict[int, str]
    fit: PathFit | None
    reason: str
    predicted_losses: Tensor | None

    def to_json(self) -> dict[str, Any]:
        """The content of path_fit.json; a quantity that is no number is null."""
        content: dict[str, Any] = {"fitted": self.fit is not None, "reason": self.reason, "modes": self.modes}
        if self.fit is not None:
            fit = self.fit
            content |= {
                "start_epoch": int(fit.epochs[0]),
                "rms": _number(fit.rms),
                "explained": _number(fit.explained),
                "explained_spread": _number(fit.explained_spread),
                "mode_rms": fit.mode_rms.tolist(),
                "excluded_epochs": [int(epoch) for epoch in fit.excluded_epochs],
                "epochs": [int(epoch) for epoch in fit.epochs],
                "times": fit.times.tolist(),
                "predicted": fit.predicted.tolist(),
                "residuals": fit.residuals.tolist(),
                "conserved_differences": fit.conserved_differences.tolist(),
            }
        return {**content, "undefined": self.undefined}

    def sentence(self) -> str:
        """The comparison in one line, for the console and the figure."""
        if self.fit is None:
            return f"closed form not fitted: {self.reason}"
        fit = self.fit
        return (
            f"closed form fitted from epoch {int(fit.epochs[0])}: an ω is off by a factor {math.exp(fit.rms):.3g} "
            f"(rms); it explains {fit.explained:.1%} of the growth, and {_spread(fit.explained_spread)}"
        )


def compare_with_path(
    records: list[Record], facts: Mapping[str, Any], start_epoch: int | None = None
) -> Comparison | None:
    """Fit the one monotone time change τ(epoch) that lays the record along the central path; None without spectra.

    records: of a run with the analysis central_path; facts: of its facts.json; start_epoch: the analysis epoch whose
    spectrum is taken as the path's beginning, None for the first from zero error on that has a spectrum.
    Raises ValueError where start_epoch is no analysis epoch or has no spectrum.
    """
    modes = sorted(int(name.removeprefix("path/snr_")) for name in records[0] if re.fullmatch(r"path/snr_\d+", name))
    if not modes:
        return None
    epochs = torch.tensor([record["epoch"] for record in records], dtype=torch.float64)
    spectra = torch.tensor([[record[f"path/snr_{j}"] for j in modes] for record in records], dtype=torch.float64)
    undefined = {
        int(record["epoch"]): why_undefined(record) for record in records if math.isnan(record[f"path/snr_{modes[0]}"])
    }
    start, reason = _start(records, spectra, start_epoch)
    if facts["smallest_class"] != facts["largest_class"]:
        start, reason = None, "the central path is a theory of classes of equal size"
    fit = losses = None
    if start is not None:
        fit = fit_time_change(epochs, spectra, facts["num_classes"], facts["smallest_class"], start)
        if len(modes) == min(facts["num_classes"] - 1, facts["num_features"]):
            losses = torch.stack(central_path_losses(fit.predicted, facts["num_classes"]))
    return Comparison(modes, epochs, spectra, undefined, fit, reason, losses)


def why_undefined(record: Record) -> str:
    """Why an epoch has no SNR spectrum, told by the rank that is recorded (see `snr_spectrum`)."""
    if record["path/rank"] == 0:
        return "no unit varies within classes (or features are too large to be squared)"
    return f"class means differ in a direction without variation within classes, of rank {record['path/rank']:.0f}"


def _start(records: list[Record], spectra: Tensor, epoch: int | None) -> tuple[int | None, str]:
    """The row to start from, or None and why not."""
    if epoch is not None:
        row = next((row for row, record in enumerate(records) if record["epoch"] == epoch), None)
        if row is None:
            raise ValueError(
                f"start_epoch: expected one of {[int(record['epoch']) for record in records]}, got {epoch}. "
                "Choose an analysis epoch."
            )
        return row, ""
    zero = zero_error_epoch(records)
    if zero is None:
        return None, "no epoch with a train error of at most 0.1 % to start from"
    usable = [
        row
        for row, record in enumerate(records)
        if record["epoch"] >= zero and bool((spectra[row].isfinite() & (spectra[row] > 0)).all())
    ]
    if len(usable) < 2:
        return None, "fewer than two epochs from zero error on have a spectrum"
    return usable[0], ""


def _spread(share: float) -> str:
    """In words, what the path explains beyond one common growth factor an epoch."""
    if math.isnan(share):
        return "there are no differences between modes to explain"
    if share < 0:
        return "of the differences between modes nothing: equal growth of all fits better"
    return f"{share:.1%} of the differences between modes"


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value
