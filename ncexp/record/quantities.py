"""The catalogue: a row for every number that is recorded.

Summary, figures, tables, MLflow's views and docs/quantities.md are made from it; none repeats a label.

To add a number, add its row where it belongs in reading order, here, in quantities_of_depth or in
quantities_of_targets; the order is that of every list made from it. A number without a row is recorded, tracked and
exported all the same; it only has no place in summary, figures and report.
Whoever needs one number asks for it by what its row says of it: `leading(NC1)`, `selected("summary")`; not by its name.
"""

from __future__ import annotations

import re
from dataclasses import replace

from ncexp.record.quantities_of_depth import CALIBRATION, DEPTH, OF_MORE_LAYERS, SPECTRA
from ncexp.record.quantities_of_targets import DECOMPOSITION_OF_TARGETS, REGRESSION_COLLAPSE, TARGETS
from ncexp.record.quantities_outside import OUTSIDE
from ncexp.record.quantity import AUGMENTED, BOTH, FIT, TEST, TRAIN, Place, Quantity


def find(full_name: str) -> Quantity | None:
    """The row of ``train/path/snr_3``; None for a number without one.

    A key in the family (a second set of options of one analysis), the number of a mode and the name of a module or set
    are no part of the row's name.

    >>> find("train/path/snr_3").name
    'path/snr_<j>'
    >>> find("test/robustness.0123456789/ratio").name
    'robustness/ratio'
    """
    split, _, name = full_name.partition("/")
    split = "test" if split == AUGMENTED else split  # it has all that another split than train has
    name = re.sub(r"(^|\.)[0-9a-f]{10}/", "/", name).removeprefix("/")
    if name.startswith("layers/"):
        name = f"layers/<module>/{name.rpartition('/')[2]}"
    elif name.startswith("outside/"):
        name = "/".join(["outside", "<set>", *["<module>"] * (name.count("/") - 2), name.rpartition("/")[2]])
    return _ROWS.get((split, name)) or _ROWS.get((split, re.sub(r"_\d+$", "_<j>", name)))


def selected(place: Place) -> list[tuple[str, Quantity]]:
    """(full name, row) of the numbers that a place has, in the catalogue's order."""
    return [(row.on(split), row) for row in QUANTITIES for split in getattr(row, place)]


def panels() -> dict[str, list[Quantity]]:
    """Name of a figure panel → the rows that it draws, in the catalogue's order."""
    named: dict[str, list[Quantity]] = {}
    for row in QUANTITIES:
        if row.panel:
            named.setdefault(row.panel, []).append(row)
    return named


def leading(panel: str) -> Quantity:
    """The row of a panel's first curve: the number that stands for the whole panel in a line of text."""
    return panels()[panel][0]


#: Panels of figures and reports.
NC1, NC2_NORMS, NC2_ANGLES = "NC1: within-class variability", "NC2: equal norms", "NC2: equal angles"
NC2_MAXIMAL, NC3, NC4 = "NC2: maximal angle", "NC3: self-duality", "NC4: nearest class center"
NC0, SELI = "NC0: rows that sum to zero", "SELI: means of unequal classes"
FREE_BIAS = "Free bias: means of unequal classes"
DECOMPOSITION, DISTANCE, ERROR = "MSE decomposition", "Distance to the central path", "Error"


# fmt: off
_ERRORS = (
    Quantity("error", "error: share decided wrongly (of targets: 1 − R²)",
             "by the network, in eval mode; of a regression the share of the targets' variance left unexplained", "–",
             "percent", "0", BOTH, summary=BOTH, view=BOTH, panel=ERROR),
    Quantity("loss", "loss", "training loss without decay, in eval mode", "–", "log", "–", BOTH, view=BOTH),
    Quantity("classes/measured", "measured classes: K", "outputs with enough labels in every split (classes=occurring)",
             "–", "linear", "–", TRAIN),
    Quantity("classes/share", "labels of measured classes", "of all labels of the split (classes=occurring)", "–",
             "percent", "–", BOTH),
    Quantity("loss", "running loss", "training loss without decay, over the steps of the epoch", "–",
             "log", "–", FIT, view=FIT),
    Quantity("error", "running error: share decided wrongly", "over the steps of the epoch, in train mode", "–",
             "percent", "0", FIT),
    Quantity("perp_share", "L_LS⊥/L of the steps: largest of the epoch",
             "by how much a step's least-squares layer misses its optimum: rounding (regime=on_path, renormalized)",
             "HPD22 Thm. 1", "log percent", "0", FIT),
    Quantity("lr", "learning rate", "of the epoch", "–", "log", "–", FIT),
    Quantity("decisions/least_squares_error", "error, least-squares layer: share decided wrongly (of targets: 1 − R²)",
             "by W_LS of the train features, with the run's λ",
             "HPD22 Prop. 1; Webb & Lowe 1990", "percent", "0", BOTH),
    Quantity("decisions/nearest_class_center_error", "error, nearest class mean: share decided wrongly",
             "by the nearest train class mean", "PHD20", "percent", "0", BOTH),
)
_COLLAPSE = (
    Quantity("collapse/nc1_trace", "NC1: tr(Σ_W Σ_B⁺)/C",
             "variability within classes, measured by that between them, in the directions of the class means", "PHD20",
             "log", "0", BOTH, summary=TRAIN, report=TRAIN, view=BOTH, panel=NC1, of_layers=True),
    Quantity("collapse/nc1_trace_on_range", "NC1 on the range: tr(Σ_W Σ_B⁺)/C on rank(Σ_B)",
             "the same where class means span fewer directions than C − 1, on those that they span", "PHD20",
             "log", "0", BOTH),
    Quantity("collapse/rank_means", "rank: of Σ_B", "directions that the class means span by more than their rounding",
             "–", "linear", "C−1", BOTH),
    Quantity("collapse/nc1_ratio", "NC1 ratio: tr Σ_W / tr Σ_B", "the same without directions", "–",
             "log", "0", BOTH, view=BOTH, of_layers=True),
    Quantity("collapse/nc1_snr", "NC1 SNR: Σ_j ω_j⁻²", "the same unchanged by any invertible map of the features",
             "HPD22", "log", "0", BOTH, view=BOTH),
    Quantity("collapse/cdnv", "CDNV: Ave (v_c + v_c')/(2‖μ_c − μ_c'‖²)",
             "variances of two classes over the squared distance of their means", "Galanti et al. 2021",
             "log", "0", BOTH, view=BOTH, of_layers=True),
    Quantity("collapse/equinorm_means", "NC2 equinorm, class means: std/mean of the norms",
             "how unequal the lengths of the centred class means are", "PHD20",
             "linear", "0", BOTH, summary=TRAIN, report=TRAIN, view=TRAIN, panel=NC2_NORMS, of_layers=True),
    Quantity("collapse/equinorm_classifier", "NC2 equinorm, classifier: std/mean of the norms",
             "how unequal the lengths of the classifier's rows are", "PHD20",
             "linear", "0", TRAIN, summary=TRAIN, report=TRAIN, view=TRAIN, panel=NC2_NORMS),
    Quantity("collapse/nc0_classifier", "NC0: ‖Σ_c w_c‖/‖W‖",
             "how far the classifier's rows are from summing to 0, as a simplex's do; about 1 for independent rows",
             "Zhao et al. 2026", "log", "0", TRAIN, panel=NC0),
    Quantity("collapse/equiangularity_means", "NC2 equiangularity, class means: std of the cosines",
             "how unequal the angles between class means are", "PHD20",
             "linear", "0", BOTH, panel=NC2_ANGLES, of_layers=True),
    Quantity("collapse/equiangularity_classifier", "NC2 equiangularity, classifier: std of the cosines",
             "how unequal the angles between the classifier's rows are", "PHD20",
             "linear", "0", TRAIN, panel=NC2_ANGLES),
    Quantity("collapse/maximal_angle_means", "NC2 max. angle, class means: Ave |cos + 1/(C−1)|",
             "how far class means are from the largest angles possible, a simplex ETF's", "PHD20",
             "linear", "0", BOTH, summary=TRAIN, report=TRAIN, view=TRAIN, panel=NC2_MAXIMAL, of_layers=True),
    Quantity("collapse/maximal_angle_classifier", "NC2 max. angle, classifier: Ave |cos + 1/(C−1)|",
             "the same of the classifier's rows", "PHD20",
             "linear", "0", TRAIN, summary=TRAIN, report=TRAIN, view=TRAIN, panel=NC2_MAXIMAL),
    Quantity("collapse/etf_error_means", "ETF error, class means: ‖G/‖G‖ − E‖, G = M̄ᵀM̄",
             "norms and angles of the class means in one number; E is the simplex ETF's Gram matrix",
             "Zhu et al. 2021", "linear", "0", BOTH, of_layers=True),
    Quantity("collapse/etf_error_classifier", "ETF error, classifier: ‖G/‖G‖ − E‖, G = W Wᵀ",
             "the same of the classifier's rows", "Zhu et al. 2021", "linear", "0", TRAIN),
    Quantity("collapse/self_duality", "NC3 self-duality: ‖Wᵀ/‖W‖ − M̄/‖M̄‖‖²",
             "how far the classifier is from a multiple of the class means; from 0 to 4", "PHD20",
             "log", "0", BOTH, summary=TRAIN, report=TRAIN, view=TRAIN, panel=NC3),
    Quantity("collapse/self_duality_product", "NC3 product: ‖G/‖G‖ − E‖, G = W M̄",
             "how far the products of classifier and class means are from the simplex ETF's", "Zhu et al. 2021",
             "log", "0", BOTH),
    Quantity("collapse/self_duality_angle", "NC3 angle: Ave (1 − cos(w_c, m_c))",
             "how far each row points away from its class mean; from 0 to 2", "–", "log", "0", BOTH),
    Quantity("collapse/nearest_class_center_mismatch", "NC4 mismatch: share decided differently",
             "share of examples that network and nearest train class mean decide differently", "PHD20",
             "percent", "0", BOTH, summary=TRAIN, report=TRAIN, view=BOTH, panel=NC4),
    Quantity("collapse/uniformity_means", "GNC2: Ave log ‖u_c − u_c'‖⁻¹",
             "how evenly the directions of many class means (C − 1 > P) are spread; small is even", "Liu et al. 2023",
             "linear", "−½ log(2C/(C−1)) if C−1 ≤ P", BOTH),
    Quantity("collapse/uniformity_means_variance", "GNC2, variance: Var log ‖u_c − u_c'‖⁻¹",
             "the same over pairs of classes", "Liu et al. 2023", "log", "0", BOTH),
    Quantity("collapse/uniform_duality", "UNC3: Var ⟨w_c, m_c⟩",
             "how unequal the classes' products of row and mean are (for C − 1 > P)", "Wu & Papyan 2024",
             "log", "0", BOTH),
    Quantity("collapse/norm_ratio", "norm ratio: ‖W‖²/‖M̄‖²", "size of the classifier over that of the class means", "–",
             "log", "–", BOTH),
    Quantity("collapse/effective_rank_means", "effective rank, class means: exp(entropy of σ(M̄))",
             "how many directions the class means have", "Roy & Vetterli 2007", "linear", "C−1", BOTH, of_layers=True),
    Quantity("collapse/effective_rank_within", "effective rank, within classes: exp(entropy of σ(Σ_W^½))",
             "how many directions the remaining variability has", "Roy & Vetterli 2007", "linear", "–", BOTH),
)
_GEOMETRY = (
    Quantity("geometry/seli_means", "SELI, class means: ‖G/‖G‖ − G*/‖G*‖‖",
             "distance to the class means that class sizes give with cross-entropy, as the decay vanishes",
             "Thrampoulidis et al. 2022", "log", "0", BOTH, panel=SELI),
    Quantity("geometry/seli_classifier", "SELI, classifier: ‖G/‖G‖ − G*/‖G*‖‖, G = W Wᵀ",
             "the same of the classifier's rows", "Thrampoulidis et al. 2022", "log", "0", TRAIN, panel=SELI),
    Quantity("geometry/free_bias_means", "free bias, class means: ‖G/‖G‖ − G*/‖G*‖‖",
             "distance to the class means that class sizes give where the bias does not decay, with either loss", "–",
             "log", "0", BOTH, panel=FREE_BIAS),
    Quantity("geometry/free_bias_classifier", "free bias, classifier: ‖G/‖G‖ − G*/‖G*‖‖, G = W Wᵀ",
             "the same of the classifier's rows", "–", "log", "0", TRAIN, panel=FREE_BIAS),
    Quantity("geometry/nc1_<j>", "NC1 ratio of class j: v_c / tr Σ_B",
             "variance of one class over that between classes; 1 is the largest class of the train examples", "–",
             "log", "0", BOTH),
    Quantity("geometry/minority_angle_means", "minority angle, class means: degrees",
             "between the class means of two classes smaller than the average, on average; 0: minority collapse",
             "Fang et al. 2021", "linear", "that of SELI", BOTH),
    Quantity("geometry/minority_angle_classifier", "minority angle, classifier: degrees",
             "the same of the classifier's rows", "Fang et al. 2021", "linear", "that of SELI", TRAIN),
    Quantity("geometry/minority_angle_seli", "minority angle, SELI's classifier: degrees",
             "what it is at SELI, from the sizes of the classes alone", "Thrampoulidis et al. 2022",
             "linear", "–", TRAIN),
    Quantity("geometry/margin_means", "one-vs-rest margin, class means: min dist(u_c, conv of the others)",
             "of the directions of the class means, how far the nearest is from the convex hull of all others",
             "Jiang et al. 2023", "linear", "C/(C−1) if C−1 ≤ P", BOTH),
    Quantity("geometry/margin_classifier", "one-vs-rest margin, classifier: min dist(u_c, conv of the others)",
             "the same of the classifier's rows", "Jiang et al. 2023", "linear", "C/(C−1) if C−1 ≤ P", TRAIN),
    Quantity("geometry/minimum_excess", "above the minimum: F/F* − 1",
             "loss and decay of free features, by how much they exceed their global minimum (minimum=true)", "–",
             "log", "0", TRAIN),
    Quantity("geometry/minimum_outputs", "from the minimum, outputs: ‖Z − Z*‖/‖Z*‖, Z = W_k … W_1 Hᵀ",
             "outputs of free features without the bias, and those at their global minimum", "–", "log", "0", TRAIN),
    Quantity("geometry/minimum_features", "from the minimum, features: ‖G/‖G‖ − G*/‖G*‖‖",
             "Gram matrix of the means of H, of targets of C_yh, and that at the global minimum", "–",
             "log", "0", TRAIN),
    Quantity("geometry/minimum_weights", "from the minimum, weights: ‖G/‖G‖ − G*/‖G*‖‖, G of W_k … W_1",
             "Gram matrix of the product of the layers, and that at the global minimum", "–", "log", "0", TRAIN),
)
_DECOMPOSITION = (
    Quantity("mse/loss", "L: ½ Ave ‖W̃h̃ − y‖² + λ/2 ‖W̃‖²", "the MSE objective of the last layer, with decay", "HPD22",
             "log", "0 at λ = 0", BOTH, summary=TRAIN, report=TRAIN, view=TRAIN, panel=DECOMPOSITION),
    Quantity("mse/loss_ls", "L_LS: L_NC1 + L_NC2/3", "the least that any last layer reaches on these features",
             "HPD22 Prop. 1", "log", "0 at λ = 0", BOTH),
    Quantity("mse/loss_nc1", "L_NC1: ½ tr{W̃_LS (Σ̃_W + λI) W̃_LSᵀ}",
             "variability within classes that W_LS cannot ignore, and its decay", "HPD22 Thm. 2",
             "log", "0 at λ = 0", BOTH, summary=TRAIN, report=TRAIN, view=TRAIN, panel=DECOMPOSITION),
    Quantity("mse/loss_nc23", "L_NC2/3: ½ Σ_c π_c ‖W̃_LS μ̃_c − e_c‖²",
             "class means that W_LS cannot send to the one-hot corners", "HPD22 Thm. 2",
             "log", "0 at λ = 0", BOTH, summary=TRAIN, report=TRAIN, view=TRAIN, panel=DECOMPOSITION),
    Quantity("mse/loss_ls_perp", "L_LS⊥: L − L_LS",
             "excess of the loss over that of W_LS: the distance from the central path", "HPD22 Thm. 1",
             "log", "0", BOTH, summary=TRAIN, view=TRAIN, panel=DECOMPOSITION),
    Quantity("mse/loss_data", "L, data part: ½ Ave ‖W̃h̃ − y‖²", "the mean squared error alone", "HPD22",
             "log", "0 at λ = 0", BOTH),
    Quantity("mse/loss_decay", "L, decay part: λ/2 ‖W̃‖²", "what the decay of the last layer has in L", "–",
             "log", "0 at λ = 0", BOTH),
    Quantity("mse/loss_ls_data", "L_LS, data part: ½ Ave ‖W̃_LS h̃ − y‖²", "the mean squared error of W_LS", "–",
             "log", "0 at λ = 0", BOTH),
    Quantity("mse/loss_ls_decay", "L_LS, decay part: λ/2 ‖W̃_LS‖²", "what the decay of W_LS has in L_LS, all in L_NC1",
             "–", "log", "0 at λ = 0", BOTH),
    Quantity("mse/loss_nc1_data", "L_NC1, data part: ½ tr{W̃_LS Σ̃_W W̃_LSᵀ}",
             "what the spread of the features costs W_LS", "–",
             "log", "0", BOTH, summary=TRAIN),
    Quantity("mse/loss_nc1_decay", "L_NC1, decay part: λ/2 ‖W̃_LS‖²", "what the decay of W_LS has in L_NC1", "–",
             "log", "0 at λ = 0", BOTH, summary=TRAIN),
    Quantity("mse/loss_ls_perp_data", "L_LS⊥, data part: ½ Ave ‖(W̃ − W̃_LS) h̃‖²",
             "how far the predictions are from those of W_LS", "–", "log", "0", BOTH),
    Quantity("mse/loss_ls_perp_decay", "L_LS⊥, decay part: λ/2 ‖W̃ − W̃_LS‖²",
             "what the decay has in the distance from W_LS", "–", "log", "0", BOTH),
    Quantity("mse/loss_rounding", "rounding of L: largest |L − L_NC1 − L_NC2/3 − L_LS⊥|",
             "by how much rounding of the features and of sums may keep the terms from adding up to L", "–",
             "log", "0", BOTH),
    Quantity("mse/identity_residual", "identity's residual: |L − L_NC1 − L_NC2/3 − L_LS⊥| / L",
             "by how much the terms fail to add up: rounding up to mse/loss_rounding, in doubt above it", "–",
             "log", "–", BOTH),
    Quantity("mse/ridge_weight", "λ, weight: decay / s", "of this epoch, from the decay of the last layer's weight",
             "–", "linear", "–", TRAIN),
    Quantity("mse/ridge_bias", "λ, bias: decay / s", "the same of its bias", "–", "linear", "–", TRAIN),
)
_PATH = (
    Quantity("path/perp_share", "L_LS⊥/L: share of the loss off the path",
             "share of the loss that another last layer would save", "HPD22 Thm. 1",
             "log percent", "0", TRAIN, report=TRAIN, view=TRAIN, panel=DISTANCE),
    Quantity("path/classifier_distance", "distance to W_LS: ‖W̃ − W̃_LS‖ / ‖W̃_LS‖", "between last layer and W_LS", "–",
             "log", "0", TRAIN),
    Quantity("path/prediction_angle", "angle to W_LS, degrees",
             "between the predictions of the last layer and those of W_LS, as vectors", "–",
             "linear", "0", TRAIN, summary=TRAIN),
    Quantity("path/decision_mismatch", "mismatch with W_LS: share decided differently",
             "share of examples that the last layer and W_LS of the train features decide differently", "–",
             "percent", "0", BOTH),
    Quantity("path/snr_<j>", "ω_j: singular value of Σ_W^−½ M̄",
             "class means in units of the noise within classes, in direction j; the largest first", "HPD22 section 3",
             "log", "∞", TRAIN),
    Quantity("path/snr_ratio", "ω₁/ω_last: largest over smallest ω", "how unequal the signal is along its directions",
             "HPD22 section 3", "linear", "1", TRAIN, summary=TRAIN, report=TRAIN, view=TRAIN),
    Quantity("path/rank", "rank: of Σ_W", "directions with variability within classes; the spectrum rests on them", "–",
             "linear", "–", TRAIN),
    Quantity("path/condition_number", "condition number: of Σ_W", "largest over smallest eigenvalue on its range", "–",
             "log", "–", TRAIN),
    Quantity("path/snr_rounding", "rounding: relative error it may leave in ω_j",
             "rank · 2⁻⁵² · condition number: what is below it is no digit of the spectrum", "–", "log", "–", TRAIN),
    Quantity("path/loss_ls", "L_LS, λ = 0: ½ Σ_j 1/(C + ω_j²)", "loss of W_LS without decay, from the spectrum alone",
             "HPD22 section 3", "log", "0", TRAIN),
    Quantity("path/loss_nc1", "L_NC1, λ = 0: ½ Σ_j ω_j²/(C + ω_j²)²", "its part within classes",
             "HPD22 section 3", "log", "0", TRAIN),
    Quantity("path/loss_nc23", "L_NC2/3, λ = 0: (C/2) Σ_j 1/(C + ω_j²)²", "its part of the class means",
             "HPD22 section 3", "log", "0", TRAIN),
    Quantity("path/identity_residual", "closed form's residual: largest relative difference",
             "between these three losses and the same measured on the features: rounding, or a defect", "–",
             "log", "–", TRAIN),
    Quantity("path/time", "time: t of the gradient flow", "of a simulation", "HPD22 section 3",
             "log", "∞", TRAIN),
)
_FIT_OF_PATH = (
    Quantity("path_fit/time", "τ: fitted time", "time on the central path that the fit gives an epoch", "HPD22",
             "log", "∞", TRAIN),
    Quantity("path_fit/predicted_<j>", "ω_j, theory: closed form at τ", "what the fitted path says of ω_j",
             "HPD22 section 3", "log", "∞", TRAIN),
    Quantity("path_fit/residual_<j>", "residual of ω_j: log(measured/theory)", "what the path does not explain of ω_j",
             "–", "linear", "–", TRAIN),
    Quantity("path_fit/mode_rms_<j>", "rms of mode j: root mean square residual", "over the fitted epochs", "–",
             "log", "–", TRAIN),
    Quantity("path_fit/rms", "rms: root mean square residual", "over fitted epochs and modes: relative error of an ω",
             "–", "log", "–", TRAIN),
    Quantity("path_fit/explained", "explained: 1 − Σr²/Σδ²", "share of the change of log ω that the path explains", "–",
             "percent", "–", TRAIN),
    Quantity("path_fit/explained_spread", "explained, beyond common growth: 1 − Σr²/Σ(δ − mean_j δ)²",
             "share of the differences between modes that the path explains; below 0: equal growth fits better", "–",
             "percent", "–", TRAIN),
)
_THEORY = (
    Quantity("theory/snr_<j>", "ω_j, theory: closed form", "of a simulation, from the same start", "HPD22 section 3",
             "log", "∞", TRAIN),
    Quantity("theory/loss_ls", "L_LS, theory: ½ Σ_j 1/(C + ω_j²)", "of the closed form's ω_j", "HPD22 section 3",
             "log", "0", TRAIN),
    Quantity("theory/loss_nc1", "L_NC1, theory: ½ Σ_j ω_j²/(C + ω_j²)²", "of the closed form's ω_j", "HPD22 section 3",
             "log", "0", TRAIN),
    Quantity("theory/loss_nc23", "L_NC2/3, theory: (C/2) Σ_j 1/(C + ω_j²)²", "of the closed form's ω_j",
             "HPD22 section 3", "log", "0", TRAIN),
    Quantity("theory/residual", "residual: max_j |log(simulated/theory)|", "of a simulation from the closed form", "–",
             "log", "0", TRAIN),
)
_ROBUSTNESS = (
    Quantity("robustness/ratio", "robustness: Ave ‖r(x)‖/‖x‖",
             "length of the smallest change of an example that changes the decision, as DeepFool finds it",
             "HPD22; Moosavi-Dezfooli et al. 2016", "linear", "–", TEST, report=TEST, view=TEST),
    Quantity("robustness/not_crossed", "not crossed: a count", "examples for which DeepFool found no boundary", "–",
             "linear", "–", TEST),
)
# fmt: on

#: The rows of `collapse` that any submodule has; OF_MORE_LAYERS has those of submodules alone.
OF_LAYERS = [
    replace(row, name=f"layers/<module>/{row.quantity}", summary=(), report=(), view=(), panel="")
    for row in _COLLAPSE
    if row.of_layers
]
#: Loss, error and `collapse` of the weights that are trained, in a run that is evaluated on their averages.
OF_TRAINED = [
    replace(row, name=f"trained/{row.quantity}", label=f"{row.short}, trained weights{row.label[len(row.short) :]}",
            summary=(), report=(), view=(), panel="", of_layers=False)
    for row in (*_ERRORS[:2], *_COLLAPSE)
    if row.quantity != "nearest_class_center_mismatch"
]  # fmt: skip
QUANTITIES = (
    *_ERRORS, *TARGETS, *CALIBRATION, *_COLLAPSE, *REGRESSION_COLLAPSE, *SPECTRA, *OF_LAYERS, *OF_MORE_LAYERS, *DEPTH,
    *_GEOMETRY, *_DECOMPOSITION, *DECOMPOSITION_OF_TARGETS, *_PATH, *_FIT_OF_PATH, *_THEORY, *_ROBUSTNESS, *OUTSIDE,
    *OF_TRAINED,
)  # fmt: skip
_ROWS = {(split, row.name): row for row in QUANTITIES for split in row.splits}
