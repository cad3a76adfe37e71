"""Theory against training: a run's recorded SNR spectra laid along the closed form of the central path."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ncexp.collapse import PathFit, central_path_losses, fit_time_change
from ncexp.record import Record, SavedRun

SNR = "train/path/snr_"


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
        """The content of path_fit.json; a quantity that is no number is null, `records` are those of `records`."""
        content: dict[str, Any] = {"fitted": self.fit is not None, "reason": self.reason, "modes": self.modes}
        if self.fit is not None:
            content |= {
                "start_epoch": int(self.fit.epochs[0]),
                "excluded_epochs": [int(epoch) for epoch in self.fit.excluded_epochs],
                "conserved_differences": self.fit.conserved_differences.tolist(),
                "records": [
                    {name: None if math.isnan(value) else value for name, value in record.items()}
                    for record in self.records()
                ],
            }
        return {**content, "undefined": self.undefined}

    def records(self) -> list[Record]:
        """The fit in numbers, under the catalogue's names, a record for each epoch it was fitted to; [] without a fit.

        ``train/path_fit/time``, ``predicted_<j>``, ``residual_<j>`` of every epoch; with the last one also the numbers
        of the whole fit: ``rms``, ``explained``, ``explained_spread``, ``mode_rms_<j>``.
        """
        if self.fit is None:
            return []
        fit = self.fit
        records: list[Record] = []
        for row, epoch in enumerate(fit.epochs.tolist()):
            record: Record = {"epoch": int(epoch), "train/path_fit/time": float(fit.times[row])}
            record |= self._by_mode("predicted", fit.predicted[row]) | self._by_mode("residual", fit.residuals[row])
            records.append(record)
        overall = {"rms": fit.rms, "explained": fit.explained, "explained_spread": fit.explained_spread}
        records[-1] |= {f"train/path_fit/{name}": value for name, value in overall.items()}
        records[-1] |= self._by_mode("mode_rms", fit.mode_rms)
        return records

    def _by_mode(self, name: str, values: Tensor) -> Record:
        return {f"train/path_fit/{name}_{mode}": value for mode, value in zip(self.modes, values.tolist(), strict=True)}

    def sentence(self) -> str:
        """The comparison in one line, for the console and the figure.

        An ω is compared by its logarithm: of a typical one measured and theory differ by the factor exp(rms).
        """
        if self.fit is None:
            return f"closed form not fitted: {self.reason}"
        fit = self.fit
        return (
            f"closed form fitted from epoch {int(fit.epochs[0])}: a typical ω differs from it by a factor of "
            f"{math.exp(fit.rms):.3g}; it explains {fit.explained:.1%} of the growth; {_spread(fit.explained_spread)}"
        )


def compare_with_path(run: SavedRun, start_epoch: int | None = None) -> Comparison | None:
    """Fit the one monotone time change τ(epoch) that lays the run along the central path; None without spectra.

    run: with the analysis central_path; start_epoch: the evaluated epoch whose spectrum is taken as the path's
    beginning, None for the first from zero error on that has a spectrum.
    Raises ValueError where start_epoch is no evaluated epoch or has no spectrum.
    """
    records, facts = [record for record in run.records if "train/path/rank" in record], run.facts
    if not records:
        return None
    modes = sorted(int(name.removeprefix(SNR)) for name in records[0] if re.fullmatch(rf"{SNR}\d+", name))
    epochs = torch.tensor([record["epoch"] for record in records], dtype=torch.float64)
    spectra = torch.tensor([[record[f"{SNR}{mode}"] for mode in modes] for record in records], dtype=torch.float64)
    undefined = {
        int(record["epoch"]): why_undefined(record) for record in records if math.isnan(record[f"{SNR}{modes[0]}"])
    }
    start, reason = _start(records, spectra, start_epoch, run.zero_error_epoch)
    if not facts:
        start, reason = None, "facts.json, which says how many examples the classes have, is not there"
    elif facts["smallest_class"] != facts["largest_class"]:
        start, reason = None, "the central path is a theory of classes of equal size"
    fit = losses = None
    if start is not None:
        fit = fit_time_change(epochs, spectra, facts["num_classes"], facts["smallest_class"], start)
        if len(modes) == min(facts["num_classes"] - 1, facts["num_features"]):
            losses = torch.stack(central_path_losses(fit.predicted, facts["num_classes"]))
    return Comparison(modes, epochs, spectra, undefined, fit, reason, losses)


def why_undefined(record: Record) -> str:
    """Why an epoch has no SNR spectrum, by the rank that is recorded (see `snr_spectrum`)."""
    if record["train/path/rank"] == 0:
        return "no unit varies within classes (or features are too large to be squared)"
    rank = record["train/path/rank"]
    return f"class means differ in a direction without variation within classes, of rank {rank:.0f}"


def _start(records: list[Record], spectra: Tensor, epoch: int | None, zero: int | None) -> tuple[int | None, str]:
    """The row to start from, or None and why not."""
    if epoch is not None:
        row = next((row for row, record in enumerate(records) if record["epoch"] == epoch), None)
        if row is None:
            raise ValueError(
                f"start_epoch: expected one of {[int(record['epoch']) for record in records]}, got {epoch}. "
                "Choose an evaluated epoch."
            )
        return row, ""
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
    """In words, what the path explains beyond one common growth factor an epoch (`PathFit.explained_spread`)."""
    if math.isnan(share):
        return "all modes grew by the same factor, so there is no difference between them to explain"
    if share < 0:
        return "how modes differ in growth it does not explain: one factor for all modes would fit better"
    return f"of how modes differ in growth it explains {share:.1%}"
