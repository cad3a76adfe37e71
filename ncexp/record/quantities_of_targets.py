"""Rows of the catalogue: what a regression has alone."""

from __future__ import annotations

from ncexp.record.quantity import BOTH, TRAIN, Quantity

#: Panels of figures and reports.
NRC1, NRC2, NRC3 = "NRC1: features on m directions", "NRC2: features in the row space of W", "NRC3: W Wᵀ and Σ_Y"
EXPLAINED, ANGLE = "Explained variance", "Angle of row space and features"
SOURCE = "Andriopoulos et al. 2024"

# fmt: off
TARGETS = (
    Quantity("targets/r_squared_<j>", "R² of target j: 1 − Ave (ŷ_j − y_j)²/Var y_j",
             "1 for an exact fit, 0 for the mean; undefined where the target does not vary", "–",
             "linear", "–", BOTH),
    Quantity("targets/root_mean_square_error_<j>", "r.m.s. error of target j: (Ave (ŷ_j − y_j)²)^½",
             "in the target's own unit, before standardisation", "–", "log", "–", BOTH),
)
REGRESSION_COLLAPSE = (
    Quantity("nrc/nrc1", "NRC1: Ave ‖h̃ − Π h̃‖², h̃ = h/‖h‖",
             "share of a feature outside the first m principal directions of the train features; the feature as it is",
             SOURCE, "log", "0", BOTH, summary=TRAIN, report=TRAIN, view=BOTH, panel=NRC1),
    Quantity("nrc/nrc1_centered", "NRC1, centred: Ave ‖h̃ − Π h̃‖², h̃ of h − h̄", "the same of features less their mean",
             SOURCE, "log", "0", BOTH, panel=NRC1),
    Quantity("nrc/nrc2", "NRC2: Ave ‖h̃ − Π_W h̃‖², h̃ = h/‖h‖",
             "share of a feature outside the row space of W; the feature as it is",
             SOURCE, "log", "0", BOTH, summary=TRAIN, report=TRAIN, view=BOTH, panel=NRC2),
    Quantity("nrc/nrc2_centered", "NRC2, centred: Ave ‖h̃ − Π_W h̃‖², h̃ of h − h̄", "the same of features less their mean",
             SOURCE, "log", "0", BOTH, panel=NRC2),
    Quantity("nrc/nrc3", "NRC3: ‖W Wᵀ/‖W Wᵀ‖ − S/‖S‖‖², S = Σ_Y^½ − √γ I",
             "how far W Wᵀ is from a multiple of S, for the γ that fits best; undefined for one target",
             SOURCE, "log", "0", BOTH, summary=TRAIN, report=TRAIN, view=TRAIN, panel=NRC3),
    Quantity("nrc/gamma", "γ: of the best NRC3", "from 0 to the least eigenvalue of Σ_Y; λ_W λ_h of free features",
             SOURCE, "linear", "–", BOTH),
    Quantity("nrc/explained_variance", "explained variance: Σ_{j≤m} λ_j / Σ_j λ_j",
             "share of the features' variance along their first m principal directions",
             SOURCE, "percent", "100 %", BOTH, summary=TRAIN, view=TRAIN, panel=EXPLAINED),
    Quantity("nrc/rank_features", "rank, features: of their covariance",
             "directions in which features vary by more than their rounding", "–", "linear", "m", BOTH),
    Quantity("nrc/subspace_angle", "angle, row space: max θ_j in degrees",
             "between the row space of W and the first m principal directions of the features", SOURCE,
             "linear", "0", BOTH, panel=ANGLE),
)
DECOMPOSITION_OF_TARGETS = (
    Quantity("mse/loss_ls_span", "L_LS, span: ½ Ave ‖W_LS ĥ(y) + b_LS − y‖²",
             "targets that the best layer does not reach from ĥ(y), the best linear function of the target; L_NC2/3 of "
             "one-hot targets", "–", "log", "0 at λ = 0", BOTH),
    Quantity("mse/loss_ls_spread", "L_LS, spread: L_LS less its span",
             "variation of the features that no target explains, as W_LS sees it, and its decay; L_NC1 of one-hot "
             "targets", "–", "log", "0 at λ = 0", BOTH),
)
# fmt: on
