"""A trial of a search may be ended before its last epoch: what its training asks the study, and when."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ncexp.config import RunConfig
from ncexp.record.objective import check_objectives
from ncexp.record.saved_run import read_run


class Pruning:
    """The pruner of a search as the training of one trial asks it; a training of no search is never pruned.

    The training goes on whatever becomes of the study: `fault` then says why it was not asked.
    """

    def __init__(self, config: RunConfig) -> None:
        self._config = config
        self._trial: Any = None
        self.fault = ""

    def ends(self, directory: Path, epoch: int) -> bool:
        """After the commit of an evaluated epoch: whether the training ends here."""
        config = self._config
        if self.fault or config.trial is None or epoch not in config.evaluated or epoch == config.epochs:
            return False
        try:
            from ncexp.record.study import load_study, report_values, trial_of  # Optuna, which only searches need

            if self._trial is None:
                study = load_study(config.trial["study"], config.trial["pruner"])
                self._trial = trial_of(study, config.trial["number"])
            (objective,) = check_objectives(config.objective)
            report_values(self._trial, read_run(directory), objective, config.evaluated)
            return bool(self._trial.should_prune())
        except Exception as error:
            self.fault = f"{type(error).__name__}: {error}"
            return False
