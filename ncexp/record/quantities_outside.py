"""Rows of the catalogue: out of distribution, of each set outside and of each layer."""

from __future__ import annotations

from ncexp.record.quantity import TEST, Quantity

#: Score → what it is called, its formula, and who defined it; those of features alone exist for layers, too.
OF_LOGITS = {
    "maximum_softmax": ("maximum softmax", "max_c p_c", "Hendrycks & Gimpel 2017"),
    "maximum_logit": ("maximum logit", "max_c z_c", "Hendrycks et al. 2022"),
    "energy": ("energy", "log Σ_c exp z_c", "Liu et al. 2020"),
    "virtual_logit": ("ViM", "log Σ_c exp z_c − α ‖Rᵀ(h − o)‖", "Wang et al. 2022"),
}
OF_FEATURES = {
    "mahalanobis": ("Mahalanobis", "−min_c (h − μ_c)ᵀ Σ_W⁺ (h − μ_c)", "Lee et al. 2018"),
    "neco": ("NECO", "‖P h‖/‖h‖", "Ammar et al. 2024"),
    "nearest_class_mean": ("nearest class mean", "−min_c ‖h − μ_c‖", "–"),
}


def _nc5(family: str, of: str) -> Quantity:
    meaning = f"how far class means of {of} are from orthogonal to the mean outside, both about the origin"
    return Quantity(f"{family}/nc5", f"NC5{_suffix(of)}: Ave_c |cos(μ_c, μ_out)|", meaning, "Ammar et al. 2024",
                    "linear", "0", TEST)  # fmt: skip


def _detection(family: str, of: str, score: str) -> tuple[Quantity, Quantity]:
    called, formula, source = (OF_LOGITS | OF_FEATURES)[score]
    where = f"by the score {formula} of {of}"
    ranked = f"chance that a test example scores above one outside, ties ½, {where}; ½ is guessing"
    taken = f"share outside that scores like the upper 95 % of the test examples, {where}"
    suffix = _suffix(of)
    return (
        Quantity(f"{family}/auroc_{score}", f"AUROC, {called}{suffix}: P(s_in > s_out) + ½ P(s_in = s_out)", ranked,
                 source, "linear", "–", TEST),
        Quantity(f"{family}/fpr95_{score}", f"FPR at 95 %, {called}{suffix}: P(s_out ≥ t)", taken,
                 source, "percent", "–", TEST),
    )  # fmt: skip


def _suffix(of: str) -> str:
    return " of a layer" if of == "a layer" else ""


OUTSIDE = (
    _nc5("outside/<set>", "the last layer"),
    *(row for score in (*OF_LOGITS, *OF_FEATURES) for row in _detection("outside/<set>", "the last layer", score)),
    _nc5("outside/<set>/<module>", "a layer"),
    *(row for score in OF_FEATURES for row in _detection("outside/<set>/<module>", "a layer", score)),
)
