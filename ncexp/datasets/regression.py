"""conf/dataset/diabetes, linnerud, synthetic_regression: targets of real numbers."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from ncexp.config import Count, NonNegative, Positive, Seed
from ncexp.datasets import Dataset, Split, Targets
from ncexp.datasets.preprocessing import fit

TestFraction = Annotated[float, Field(gt=0, lt=1)]
#: n (P + m) of both splits: 1 GiB in float32.
MOST_NUMBERS = 2**28


def scikit_learn(
    *,
    source: Literal["diabetes", "linnerud"],
    test_fraction: TestFraction = 0.2,
    standardize: Literal["per_column", "none"] = "per_column",
    standardize_targets: bool = True,
    subset_seed: Seed = 0,
) -> Dataset:
    """A set that scikit-learn ships, in its own units before standardisation.

    diabetes: 442 patients, ten measurements, the progress of the disease after a year (Efron et al. 2004). linnerud: 20
    men, three exercises, three physiological numbers. For the options see `split_regression`.
    """
    from sklearn import datasets  # takes a second

    found = datasets.load_diabetes(scaled=False) if source == "diabetes" else datasets.load_linnerud()
    inputs, targets = (torch.from_numpy(part).double() for part in (found.data, found.target))
    names = ["progression"] if source == "diabetes" else [str(name) for name in found.target_names]
    rows = split_rows(len(inputs), test_fraction, subset_seed)
    return split_regression(inputs, targets.reshape(len(inputs), -1), names, rows, standardize, standardize_targets)


def synthetic_regression(
    *,
    num_inputs: Count = 20,
    variances: Annotated[list[Positive], Field(min_length=1)],
    noise: NonNegative = 0.1,
    num_train: Count = 2000,
    num_test: Count = 1000,
    sample_seed: Seed = 0,
) -> Dataset:
    """y = f(x) + noise, x (P_in,) standard normal, Σ_Y with the eigenvalues `variances`, one for each target.

    Along the eigenvectors of Σ_Y, which are drawn with the rest, y_k = σ_k {√(1 − ν) g_k(x) + √ν ε_k}, ε_k standard
    normal, ν = noise, g_k(x) = {u_kᵀx + ((v_kᵀx)² − 1)/√2}/√2 with orthonormal u_k, v_k: of mean 0 and variance 1,
    uncorrelated, and half of it not linear. Targets are not standardised.

    Raises ValueError where there are fewer than 2 m inputs, ν ≥ 1, or more than MOST_NUMBERS numbers.
    """
    m = len(variances)
    if num_inputs < 2 * m:
        raise ValueError(f"dataset.num_inputs: expected at least 2 m = {2 * m} for {m} variances, got {num_inputs}.")
    if noise >= 1:
        raise ValueError(f"dataset.noise: expected a share below 1 of each target's variance, got {noise:g}.")
    if (num_train + num_test) * (num_inputs + m) > MOST_NUMBERS:
        raise ValueError(f"dataset.num_train: expected at most {MOST_NUMBERS} numbers in all. Lower it or num_test.")
    generator = torch.Generator().manual_seed(sample_seed)
    frame = torch.linalg.qr(_normal(num_inputs, 2 * m, generator=generator)).Q
    rotation = torch.linalg.qr(_normal(m, m, generator=generator)).Q
    inputs = _normal(num_train + num_test, num_inputs, generator=generator)
    along, across = (inputs @ frame).chunk(2, dim=1)
    signal = (along + (across.square() - 1) / 2**0.5) / 2**0.5
    drawn = (1 - noise) ** 0.5 * signal + noise**0.5 * _normal(len(inputs), m, generator=generator)
    targets = drawn * torch.tensor(variances, dtype=torch.float64).sqrt() @ rotation.T
    rows = torch.arange(num_train), torch.arange(num_train, num_train + num_test)
    return split_regression(inputs, targets, [f"y{k}" for k in range(1, m + 1)], rows, "none", False)


def split_rows(count: int, test_fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    """Train and test rows, each ascending: the share `test_fraction`, rounded, of a permutation is test.

    Raises ValueError where fewer than two rows would be left to train on, or none to test.
    """
    tested = round(test_fraction * count)
    if not 1 <= tested <= count - 2:
        raise ValueError(
            f"dataset.test_fraction: expected a share that leaves two rows to train on and one to test, got "
            f"{test_fraction:g} of {count} rows."
        )
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    return order[tested:].sort().values, order[:tested].sort().values


def split_regression(
    inputs: Tensor,
    targets: Tensor,
    names: list[str],
    rows: tuple[Tensor, Tensor],
    standardize: Literal["per_column", "none"],
    standardize_targets: bool,
    facts: dict[str, Any] | None = None,
    origin: str = "",
) -> Dataset:
    """The data of these rows, train first: inputs (n, P_in) and targets (n, m), float64.

    standardize: inputs column by column to mean 0 and standard deviation 1 over the training rows, constant columns to
    0. standardize_targets: targets the same way; `Targets.scales` are these deviations. A training target that is
    constant keeps the scale 1, for `check_data` to refuse.
    """
    fitted = rows[0]
    standardization = fit([inputs[fitted]], "per_pixel" if standardize == "per_column" else "none", unit=1.0)
    means, scales = torch.zeros(len(names)).double(), torch.ones(len(names)).double()
    if standardize_targets:
        means, deviations = targets[fitted].mean(0), targets[fitted].std(0, correction=0)
        scales = torch.where(deviations > 0, deviations, 1.0)
    known = {"num_constant_columns": standardization.num_constant, **(facts or {})}
    train, test = (Split(standardization(inputs[part]), ((targets[part] - means) / scales).float()) for part in rows)
    return Dataset(train, test, len(names), known, origin, targets=Targets(names, scales.tolist()))


def _normal(*shape: int, generator: torch.Generator) -> Tensor:
    return torch.randn(*shape, generator=generator, dtype=torch.float64)
