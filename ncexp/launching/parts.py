"""That every training of a sweep can be carried out: its parts are built, once for each combination of them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from ncexp.config import ConfigError, RunConfig


def combinations(configs: Iterable[RunConfig]) -> list[list[RunConfig]]:
    """One configuration for each combination of parts that must fit together, those with the same data in one list."""
    by_dataset: dict[str, dict[str, RunConfig]] = {}
    for config in configs:
        parts = (config.architecture, config.loss, *config.analyses.values())
        choices = [value for value in config.optimizer.options.values() if not isinstance(value, float)]
        together = [config.batch_size, config.optimizer.target, choices, *(part.identity() for part in parts)]
        same_data = by_dataset.setdefault(json.dumps(config.dataset.identity(), sort_keys=True), {})
        same_data.setdefault(json.dumps(together, sort_keys=True), config)
    return [list(group.values()) for group in by_dataset.values()]


def faults_of_parts(configs: Iterable[RunConfig]) -> list[tuple[RunConfig, str]]:
    """The configurations whose parts do not fit together, or whose data are not there, and why."""
    from ncexp.training import build_dataset  # torch takes seconds

    faults: list[tuple[RunConfig, str]] = []
    for group in combinations(configs):
        dataset = None
        for config in group:
            try:
                dataset = dataset or build_dataset(config)
                _build(config, dataset)
            except ConfigError as error:
                faults.append((config, str(error)))
                if dataset is None:
                    break
    return faults


def _build(config: RunConfig, dataset: Any) -> None:
    from ncexp.measure import Subject, build_analyses, check_probes, ridge_of
    from ncexp.training import assemble

    # On the CPU: a login node need not have the GPUs, with their arithmetic, that the jobs will.
    assembly = assemble(replace(config, device="cpu", precision="fp32", compile=False), dataset)
    training = assembly.training
    ridge = ridge_of(training.optimizer, assembly.classifier, assembly.half_mse_scale)
    subject = Subject(training.network, training.loss, assembly.dataset, ridge)
    check_probes(build_analyses(config.analyses), subject)
