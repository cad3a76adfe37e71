"""The catalogue of quantities as a page of the docs: docs/quantities.md."""

from __future__ import annotations

from collections.abc import Collection

from ncexp.record.quantities import QUANTITIES, Quantity
from ncexp.record.runs import ERRORS
from ncexp.report.tables import Table

COLUMNS = ["name", "on", "label", "meaning", "source", "axis", "at collapse"]
INTRODUCTION = """\
# Quantities

This page lets you find what a number means. In the terminal:

    ncexp list quantities collapse

<!-- Made by: ncexp list quantities --markdown > docs/quantities.md -->

Every number that is recorded has a name `<split>/<family>/<quantity>`: `train/collapse/cdnv`, `test/error`. The
split is train, test, or fit for what the training steps met. In data frames and exported tables split, family and
quantity are columns; the family of names without one, as `test/error`, is `errors` there. `<j>` stands for the number
of a mode or class, `<module>` for a submodule's name, `<set>` for what lies outside. Where one analysis was measured
with a second set of options, its key stands in the family: `test/robustness.0123456789/ratio`. An undefined value is
null in the journals and nan in data frames. Shares are fractions on record; where the axis says percent, tables and
figures show percent. Terms are explained in the [glossary](glossary.md).

Symbols: C classes, P features, n examples; μ_c class means, μ_G the mean of all examples; m_c = μ_c − (1/C) Σ_c μ_c,
about the mean of the class means, u_c = m_c/‖m_c‖, M̄ the matrix of the m_c. In Σ_B, the decomposition and ω_j class
means are about μ_G; with classes of one size both are the same. v_c variance of class c; Σ_W, Σ_B, Σ_T covariances
within classes, between them, and of all; W, b the last layer, w_c its rows; z = W h + b, p its softmax; h̃ = [h; 1],
W̃ = [W, b]; W_LS the least-squares layer of the features; λ the decay of the objective; ω_j the singular values of
Σ_W^−½ M̄; E = (I − 11ᵀ/C)/√(C−1); r(x) the smallest change of x that changes the decision; s_in, s_out the scores of
an example of the test set and of one outside. "At collapse" is the value on train features in the limit, – where there
is none.

PHD20: Papyan, Han and Donoho, PNAS 2020. HPD22: Han, Papyan and Donoho, ICLR 2022. Exact formulas, and where each
number is undefined, are in the docstrings of `ncexp.collapse`.
"""
#: Family → heading of its table.
FAMILIES = {
    ERRORS: "Loss and error",
    "classes": "Which classes are measured (classes=occurring)",
    "decisions": "Other classifiers on the same features",
    "calibration": "Calibration (analysis calibration)",
    "targets": "Targets of a regression",
    "collapse": "Neural collapse",
    "nrc": "Neural regression collapse",
    "spectra": "Spectra and ranks (analysis spectra)",
    "norms": "Absolute norms (analyses spectra and norms)",
    "layers": "Through depth, of each layer (analyses layers and depth)",
    "depth": "Depth of the whole network (analysis depth)",
    "geometry": "Unequal classes and many classes (analysis geometry)",
    "mse": "The MSE decomposition",
    "path": "The central path",
    "path_fit": "The closed form fitted to a run",
    "theory": "The closed form of a simulation (ncexp simulate)",
    "robustness": "Robustness (analysis robustness)",
    "outside": "Out of distribution (analysis outside)",
    "trained": "The trained weights of a run with averages (analysis trained_weights)",
}


def family_of(row: Quantity) -> str:
    """The first part of a row's name; errors where the quantity stands alone."""
    return row.name.partition("/")[0] if "/" in row.name else ERRORS


def families() -> list[str]:
    """All of them, in the catalogue's order."""
    return [*dict.fromkeys(map(family_of, QUANTITIES))]


def rows_of(names: Collection[str]) -> list[Quantity]:
    """The catalogue's rows of these families; without names all."""
    return [row for row in QUANTITIES if not names or family_of(row) in names]


def render_markdown() -> str:
    """The text of docs/quantities.md: a table for each family."""
    parts = [f"## {FAMILIES[family]}\n\n{_table(family).markdown()}" for family in families()]
    return "\n".join([INTRODUCTION, *parts])


def _table(family: str) -> Table:
    rows = [
        [f"`{row.name}`", ", ".join(row.splits), row.label, row.meaning, row.source, row.scale, row.at_collapse]
        for row in rows_of([family])
    ]
    return Table.of(family, FAMILIES[family], COLUMNS, rows)
