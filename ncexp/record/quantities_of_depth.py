"""Rows of the catalogue: calibration, spectra, ranks and norms of the last layer, and what layers alone have."""

from __future__ import annotations

from ncexp.record.quantity import BOTH, TRAIN, Quantity

#: Panels of figures and reports.
CALIBRATION_ERROR, LIKELIHOOD = "Calibration error", "Negative log-likelihood"
NORMS, STABLE_RANKS = "Absolute norms", "Stable ranks"

# fmt: off
CALIBRATION = (
    Quantity("calibration/negative_log_likelihood", "NLL: Ave −log p_y, in nats",
             "cross-entropy of the softmax of the outputs, whatever the loss", "–",
             "log", "–", BOTH, panel=LIKELIHOOD),
    Quantity("calibration/expected_calibration_error", "ECE: Σ_b (n_b/n) |accuracy_b − confidence_b|",
             "how far confidence is from the share decided rightly, over bins of confidence",
             "Naeini et al. 2015; Guo et al. 2017", "percent", "–", BOTH, panel=CALIBRATION_ERROR),
    Quantity("calibration/brier_score", "Brier score: Ave Σ_c (p_c − 1{c = y})²",
             "squared distance of the probabilities from the one-hot label; from 0 to 2", "Brier 1950",
             "log", "–", BOTH),
    Quantity("calibration/confidence", "confidence: Ave max_c p_c",
             "above 1 − error the network is overconfident, below it underconfident", "Guo et al. 2017",
             "percent", "–", BOTH),
    Quantity("calibration/share_<j>", "examples in bin j: n_b/n",
             "share of examples with a confidence above (j − 1)/M and at most j/M", "Guo et al. 2017",
             "percent", "–", BOTH),
    Quantity("calibration/accuracy_<j>", "accuracy in bin j: share decided rightly",
             "of the examples in the bin; undefined where it is empty", "Guo et al. 2017", "percent", "–", BOTH),
    Quantity("calibration/confidence_<j>", "confidence in bin j: Ave_b max_c p_c",
             "of the examples in the bin; undefined where it is empty", "Guo et al. 2017", "percent", "–", BOTH),
)
SPECTRA = (
    Quantity("spectra/weight_<j>", "σ_j(W): singular value of the last weight", "the largest first", "–",
             "log", "equal, but one that is 0", TRAIN),
    Quantity("spectra/means_<j>", "σ_j(M̄): singular value of the class means",
             "about the mean of class means; the largest first", "–", "log", "equal", BOTH),
    Quantity("spectra/within_<j>", "λ_j(Σ_W): eigenvalue within classes",
             "the largest first; rounding of a 0 may be below 0", "–", "log", "0", BOTH),
    Quantity("spectra/between_<j>", "λ_j(Σ_B): eigenvalue between classes",
             "the largest first, of the min(C − 1, P) that need not be 0", "–", "log", "equal", BOTH),
    Quantity("spectra/stable_rank_weight", "stable rank, classifier: ‖W‖_F²/‖W‖₂²",
             "how many directions the last weight has, the strong ones counted", "Rudelson & Vershynin 2007",
             "linear", "C−1", TRAIN, panel=STABLE_RANKS),
    Quantity("spectra/stable_rank_means", "stable rank, class means: ‖M̄‖_F²/‖M̄‖₂²",
             "the same of the class means", "Rudelson & Vershynin 2007", "linear", "C−1", BOTH, panel=STABLE_RANKS),
    Quantity("spectra/stable_rank_within", "stable rank, within classes: tr Σ_W/λ₁(Σ_W)",
             "the same of Σ_W^½, the remaining variability", "Rudelson & Vershynin 2007",
             "linear", "–", BOTH, panel=STABLE_RANKS),
    Quantity("spectra/effective_rank_weight", "effective rank, classifier: exp(entropy of σ(W))",
             "how many directions the last weight has, the weak ones too", "Roy & Vetterli 2007",
             "linear", "C−1", TRAIN),
    Quantity("norms/features", "norm, features, r.m.s.: (Ave ‖h‖²)^½", "root mean square of their lengths", "–",
             "log", "–", BOTH, panel=NORMS),
    Quantity("norms/feature_length", "norm, features: Ave ‖h‖", "mean of the lengths of features (analysis norms)", "–",
             "log", "–", BOTH, panel=NORMS),
    Quantity("norms/class_means", "norm, class means: ‖M̄‖/√C",
             "root mean square of the lengths of class means about their mean", "–", "log", "–", BOTH, panel=NORMS),
    Quantity("norms/weight", "norm, classifier: ‖W‖/√C", "root mean square of the lengths of the classifier's rows",
             "–", "log", "–", TRAIN, panel=NORMS),
    Quantity("norms/bias", "norm, bias: ‖b‖", "0 where there is none", "–", "log", "–", TRAIN),
    Quantity("norms/at_global_mean", "norm, output at μ_G: ‖W μ_G + b‖", "length of the output at the mean feature",
             "–", "log", "–", BOTH),
)
OF_MORE_LAYERS = (
    Quantity("layers/<module>/stable_rank_means", "stable rank, class means: ‖M̄‖_F²/‖M̄‖₂²",
             "how many directions the class means have, the strong ones counted", "Rudelson & Vershynin 2007",
             "linear", "C−1", BOTH),
    Quantity("layers/<module>/probe_explained", "probe, explained: 1 − L_LS/(½ (1 − Σ_c π_c²))",
             "share of the labels' variance that the best linear layer on these features explains, λ = 0", "–",
             "percent", "100 %", TRAIN),
    Quantity("layers/<module>/probe_error", "probe, error: share decided wrongly",
             "by the least-squares layer of the layer's train features, λ = 0 (analysis depth)",
             "HPD22 Prop. 1; Webb & Lowe 1990", "percent", "0", BOTH),
    Quantity("layers/<module>/nearest_class_center_error", "nearest class mean, error: share decided wrongly",
             "by the nearest train class mean of the layer (analysis depth)", "PHD20; Galanti et al. 2022",
             "percent", "0", BOTH),
    Quantity("layers/<module>/next_weight_overlap", "next weight, overlap: Ave cos² θ_j",
             "of its top C − 1 right singular directions with the span of class means; 1: one within the other "
             "(analysis depth)", "Rangamani et al. 2023", "linear", "1", BOTH),
    Quantity("layers/<module>/next_weight_angle", "next weight, angle: max θ_j in degrees",
             "the largest principal angle between the same two subspaces (analysis depth)",
             "Rangamani et al. 2023", "linear", "0", BOTH),
    Quantity("layers/<module>/next_weight_stable_rank", "next weight, stable rank: ‖W‖_F²/‖W‖₂²",
             "how many directions it has, the strong ones counted (analysis depth)", "Rudelson & Vershynin 2007",
             "linear", "–", TRAIN),
    Quantity("layers/<module>/next_weight_effective_rank", "next weight, effective rank: exp(entropy of σ(W))",
             "how many directions it has, the weak ones too (analysis depth)", "Roy & Vetterli 2007",
             "linear", "–", TRAIN),
)
DEPTH = (
    Quantity("depth/effective_depth", "effective depth: min {l : e_k ≤ e_L for all k ≥ l}",
             "number of the first probed layer from which on the error of the nearest class mean is at most the last's",
             "Galanti et al. 2022", "linear", "–", BOTH),
)
# fmt: on
