"""The page docs/reproductions.md from the numbers in docs/summaries.

    python docs/reproductions_table.py > docs/reproductions.md

A row has what a paper prints and where that was read, the part of `python benchmarks/reproductions.py` that tests it,
and functions that word our numbers and the verdict from the part's numbers. So no number of ours stands here. A row
that rests on other runs names its own file in docs/summaries.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from textwrap import fill
from typing import Any

SUMMARIES = Path(__file__).parent / "summaries"
Numbers = dict[str, Any]


@dataclass(frozen=True)
class Row:
    """paper, printed: the claim with its number, and source, where it was read. part: of the summary.

    ours, verdict: of the part's numbers. A verdict begins with "agrees", "differs" or "cannot be tested here".
    command: what makes it, where it is not `--only PART`. shared: an earlier row has the same part, and its cost.
    """

    paper: str
    printed: str
    source: str
    part: str
    ours: Callable[[Numbers], str]
    verdict: Callable[[Numbers], str]
    summary: str = "reproductions"
    command: str = ""
    shared: bool = False

    def cells(self) -> list[str]:
        numbers = summary(self.summary)[self.part]
        cost = "with the row above" if self.shared else duration(numbers["seconds"])
        command = f"`{self.command or f'--only {self.part}'}`"
        return [self.paper, f"{self.printed} ({self.source})", command, self.ours(numbers), self.verdict(numbers), cost]


@cache
def summary(name: str) -> dict[str, Numbers]:
    """The parts of one file."""
    found: dict[str, Numbers] = json.loads((SUMMARIES / f"{name}.json").read_text())
    return found


def duration(seconds: float) -> str:
    return "below 1 s" if seconds < 1 else f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def spread(band: Sequence[float], places: str = ".3g", unit: str = "") -> str:
    """Median and, in brackets, least and largest."""
    least, middle, largest = (f"{one:{places}}" for one in band)
    return f"{middle}{unit}" if least == largest else f"{middle}{unit} ({least} to {largest})"


def judged(holds: bool, agrees: str = "", differs: str = "") -> str:
    return _joined("agrees", agrees) if holds else _joined("differs", differs)


def _joined(word: str, reason: str) -> str:
    return f"**{word}**" + (f": {reason}" if reason else "")


def untested(reason: str) -> str:
    return f"**cannot be tested here**: {reason}"


def _growth(n: Numbers) -> str:
    return f"exponent {spread(n['exponent'], '.4f')}, ω over (t/c₃)^¼ {spread(n['over (t/c3)^¼'], '.4f')}; three draws"


def _perp(n: Numbers) -> str:
    share = n["L_LS⊥/L_NC1"]
    return (
        f"L_LS⊥/L_NC1: first epoch {spread(share['first'], '.2g')}, zero error {spread(share['zero error'], '.2g')}, "
        f"end {spread(share['end'], '.2g')}; three seeds"
    )


def _fastest(n: Numbers) -> tuple[bool, dict[str, float]]:
    terms = {name: n["mse_mean"][name]["values"] for name in ("L_NC1", "L_NC2/3", "L_LS⊥")}
    falls = {name: first / end for name, (first, _, end) in terms.items()}
    return max(falls, key=lambda name: falls[name]) == "L_NC2/3", falls


def _gain(loss: str, name: str) -> Callable[[Numbers], str]:
    places, unit = (".2f", " points") if name == "accuracy" else (".4f", "")

    def words(n: Numbers) -> str:
        of = n[f"{loss} {name}"]
        seeds = len(of["cells"])
        counted = f"{seeds} seeds" if seeds > 1 else "one seed"
        middle, mean = (spread(of[key], places, unit) for key in ("median", "mean"))
        return f"median {middle}, mean {mean}; three cells, {counted}"

    return words


def _gain_verdict(loss: str, name: str) -> Callable[[Numbers], str]:
    def words(n: Numbers) -> str:
        least, _, largest = n[f"{loss} {name}"]["median"]
        if least > 0:
            return judged(True, agrees="in sign; its size is that of other data and networks")
        if largest < 0:
            return judged(False, differs="in sign")
        return untested("the median's band holds 0, and one test image of the digits is 0.25 points")

    return words


def _curves(n: Numbers) -> str:
    parts = []
    for loss, label in (("mse_mean", "MSE"), ("cross_entropy", "CE")):
        shown = {
            name: "{:.3g} → {:.3g}".format(*n[loss][name]["values"][::2])
            for name in ("NC1", "equinorm, means", "maximal angle, means", "self-duality", "NC4")
        }
        parts.append(f"{label}: " + ", ".join(f"{name} {words}" for name, words in shown.items()))
    return "first epoch → end, medians of three seeds. " + "; ".join(parts)


def fallen(n: Numbers, loss: str) -> tuple[list[str], list[str]]:
    """The notebook's curves that end below half of their first epoch, and the others; figure 8's are left out."""
    names = [name for name in n[loss] if name != "zero error" and not name.startswith("L")]
    below = [name for name in names if n[loss][name]["values"][2] < 0.5 * n[loss][name]["values"][0]]
    return below, [name for name in names if name not in below]


def _curves_verdict(n: Numbers) -> str:
    others = {loss: fallen(n, loss)[1] for loss in ("mse_mean", "cross_entropy")}
    count = sum(len(fallen(n, loss)[0]) for loss in others)
    whole = count + sum(map(len, others.values()))
    if count == whole:
        return judged(True, agrees=f"all {whole} curves end below half of their first epoch")
    labels = {"mse_mean": "MSE", "cross_entropy": "CE"}
    which = "; ".join(f"{labels[loss]}: {', '.join(names)}" for loss, names in others.items() if names)
    return _joined("differs", f"{count} of {whole} curves end below half of their first epoch, not {which}")


def _coupling(n: Numbers) -> str:
    return "NC0, first epoch → end: " + "; ".join(
        f"{name} {of['nc0_classifier first'][1]:.2g} → {spread(of['nc0_classifier end'], '.2g')}"
        for name, of in _settings(n)
    )


def _settings(n: Numbers) -> list[tuple[str, Numbers]]:
    labels = {"sgd": "SGD", "adam": "Adam"}
    return [(name.replace(name.split()[0], labels[name.split()[0]]), of) for name, of in n.items() if name != "seconds"]


def _coupling_verdict(n: Numbers) -> str:
    """Coupled decay brings NC0 below half of its first value in every seed, decoupled decay of Adam in none."""
    falls = {name: of["nc0_classifier end"] for name, of in n.items() if name != "seconds"}
    first = {name: of["nc0_classifier first"][1] for name, of in n.items() if name != "seconds"}
    coupled = all(falls[name][2] < first[name] / 2 for name in falls if " coupled" in name)
    decoupled = all(falls[name][0] > first[name] / 2 for name in falls if name.startswith("adam decoupled"))
    return judged(coupled and decoupled, agrees="of adaptive optimizers; SGD's decoupled decay is a coupled one")


def _momentum(n: Numbers) -> str:
    shown = ", ".join(f"μ = {name}: {n[name][0]:.3g}" for name in MOMENTA)
    return f"‖Wᵀ1‖ after 500 steps over its first: {shown}; the law misses by {n['miss']:.1g}"


def _momentum_verdict(n: Numbers) -> str:
    reached = [n[name][0] for name in MOMENTA]
    return judged(reached == sorted(reached, reverse=True) and n["miss"] < 1e-9)


MOMENTA = ("0.0", "0.5", "0.9")


def _imbalanced(n: Numbers) -> str:
    return "distances to orthogonal vectors of the lengths that the sizes give: " + "; ".join(
        f"{layers} layer{'s' * (layers != '1')}: W {of['NC2, W']:.1g}, H {of['NC2, H']:.1g}"
        for layers, of in n.items()
        if layers != "seconds"
    )


def _imbalanced_verdict(n: Numbers) -> str:
    return judged(all(of["NC2, W"] < 1e-6 and of["NC2, H"] < 1e-6 for name, of in n.items() if name != "seconds"))


RIDGES = ("0.001", "1e-05", "1e-07", "1e-09")


def _seli(n: Numbers) -> str:
    means = [n[f"10, {ridge}"][0] for ridge in RIDGES]
    return (
        f"ridge {RIDGES[0]} to {RIDGES[-1]}, R = 10: class means {', '.join(f'{one:.3f}' for one in means)} from SELI"
    )


def _seli_verdict(n: Numbers) -> str:
    falling = all(
        n[f"{ratio}, {large}"][which] > n[f"{ratio}, {small}"][which]
        for ratio in (10, 100)
        for which in (0, 1)
        for large, small in pairwise(RIDGES)
    )
    return judged(falling, agrees="the distance falls with every ridge, slowly")


def _imbalance(n: Numbers) -> str:
    return "class means from SELI at ridge 1e-05: " + ", ".join(
        f"R = {ratio}: {n[f'{ratio}, 1e-05'][0]:.2g}" for ratio in (1, 10, 100)
    )


def _imbalance_verdict(n: Numbers) -> str:
    return judged(all(n[f"1, {ridge}"][0] < n[f"10, {ridge}"][0] < n[f"100, {ridge}"][0] for ridge in RIDGES))


def _landscape(n: Numbers) -> str:
    return f"{n['reached']} of {n['starts']} random starts end at the simplex's objective, within {n['excess']:.0e}"


def _lower_rank(n: Numbers) -> str:
    return "loss of a solution of lower rank below that of collapse: " + ", ".join(
        f"{name} {percent:.1f} %" for name, percent in n.items() if name != "seconds" and percent > 0
    )


def _lower_rank_verdict(n: Numbers) -> str:
    deep = all(percent > 0 for name, percent in n.items() if name.endswith(("4 layers", "6 layers")))
    shallow = any(percent > 0 for name, percent in n.items() if name.endswith("3 layers"))
    return judged(deep, agrees="from four layers on" + ("" if shallow else "; with three our solution is no better"))


def _deep_entropy(n: Numbers) -> str:
    shown = ", ".join(f"C = {name}: {percent:.1f} %" for name, percent in n.items() if name != "seconds")
    return f"two linear layers, the best of eight starts below the simplex: {shown}"


def _regression(n: Numbers) -> str:
    names = ("NRC1", "NRC2", "NRC3")
    return (
        "; ".join(
            f"decay {decay}: "
            + ", ".join(f"{name} {spread(one, '.1g')}" for name, one in zip(names, n[decay], strict=True))
            for decay in ("0.005", "0")
        )
        + "; three seeds"
    )


def _regression_verdict(n: Numbers) -> str:
    return judged(all(one[2] < 1e-4 for one in n["0.005"]) and all(one[0] > 1e-2 for one in n["0"][:2]))


def _transfer(n: Numbers) -> str:
    names = [name for name in n if name not in ("seconds", "runs") and not name.startswith("rank")]
    middle = {name if name == "untrained" else f"decay {name}": [one[1] for one in n[name]] for name in names}
    shown = "; ".join(
        f"{name}: {inside:.2g}, {held:.2g}, {error:.1f} %" for name, (inside, held, error) in middle.items()
    )
    return f"CDNV of train classes, of held-out ones, five-shot error: {shown} (medians of three choices of classes)"


def _transfer_verdict(n: Numbers) -> str:
    names = [name for name in n if name not in ("seconds", "runs", "untrained") and not name.startswith("rank")]
    better = all(n[name][which][1] < n["untrained"][which][1] for name in names for which in (1, 2))
    inside, held = n["rank correlation of error with CDNV, train and held out"]
    told = f"ρ of error with CDNV over {n['runs']} runs: {held:.2f} held out, {inside:.2f} train"
    return judged(better, agrees=told, differs=told)


def _thresholds(n: Numbers) -> str:
    lengths = "; ".join(f"decay {decay}: {spread(of, '.3g')}" for decay, of in n["lengths"].items())
    return f"Ave ‖h‖ where NC1 falls below 0.05: {lengths}; variation {n['variation %']:.0f} % over {n['reached']} runs"


def _thresholds_verdict(n: Numbers) -> str:
    one = ", ".join(f"{value:.0f} %" for value in n["variation at one decay %"].values())
    return judged(n["variation %"] < 8, differs=f"over decays; over seeds and rates at one decay it is {one}")


def _fixed(n: Numbers) -> str:
    errors = f"test error {spread(n['linear'], '.2f')} % trained, {spread(n['etf_fixed'], '.2f')} % fixed"
    return f"{n['saved %']:.1f} % of ResNet-18's parameters; an MLP on the digits: {errors}, three seeds"


def _fixed_verdict(n: Numbers) -> str:
    apart = n["etf_fixed"][1] - n["linear"][1]
    within = apart <= max(n["linear"][2] - n["linear"][0], 0.26)
    return judged(n["saved %"] > 20 and within, differs=f"the fixed layer's median error is {apart:.2f} points larger")


HPD22 = "Han, Papyan & Donoho 2022"
NOTES = "reading notes on the paper; its text was not had"
ROWS = [
    Row(
        HPD22,
        "on the central path c₁ log ω + c₂ ω² + c₃ ω⁴ = a + t, so that ω grows as (t/c₃)^¼",
        "the formula: a public summary of arXiv 2106.02073; the power follows from it",
        "growth", _growth,
        lambda n: judged(all(abs(one - 0.25) < 1e-3 for one in n["exponent"]) and n["miss"] < 1e-8),
    ),
    Row(
        HPD22,
        "“Starting from an early epoch in training”, L_LS⊥ “becomes negligible compared to the dominant term” L_NC1",
        "caption of Figure 2, in the reading notes",
        "curves", _perp,
        lambda n: judged(n["L_LS⊥/L_NC1"]["end"][2] < 0.1, agrees="from the drop of the rate on it is below a tenth"),
    ),
    Row(
        HPD22,
        "“L_NC2/3 diminishes the fastest among all the terms”",
        "the same caption",
        "curves",
        lambda n: "first epoch over end: " + ", ".join(f"{name} {fell:.3g}" for name, fell in _fastest(n)[1].items()),
        lambda n: judged(_fastest(n)[0], differs="another term falls further"),
        shared=True,
    ),
    Row(
        "Papyan, Han & Donoho 2020; their notebook",
        "figures 2 to 8 of the notebook: train error, NC1 (log axis), NC2 equinorm and maximal angle of class means "
        "and classifiers, NC3, NC4. What it stores has no output, so that the shapes are those of the abstract: all "
        "collapse",
        "neuralcollapse.ipynb of github.com/neuralcollapse/neuralcollapse; abstract of arXiv 2008.08186",
        "curves", _curves, _curves_verdict,
        shared=True,
    ),
    *(
        Row(
            HPD22,
            f"{label}: {what} after zero error, median {median} (mean {mean}) over its 15 cells",
            NOTES,
            "gains", _gain(loss, name), _gain_verdict(loss, name),
            shared=(loss, name) != ("mse_mean", "accuracy"),
        )
        for loss, label, name, what, median, mean in (
            ("mse_mean", "MSE", "accuracy", "test accuracy gains", "0.962 points", "1.833"),
            ("cross_entropy", "CE", "accuracy", "test accuracy gains", "0.3495 points", "0.4984"),
            ("mse_mean", "MSE", "robustness", "robustness gains", "0.1762", "0.9278"),
            ("cross_entropy", "CE", "robustness", "robustness gains", "0.0252", "0.2452"),
        )
    ),
    Row(
        "Zhao, Cheng, Masarczyk & Lucchi 2026",
        "“NC cannot emerge under decoupled weight decay in adaptive optimizers”; SGD and coupled decay bring NC0 to 0",
        "abstract of arXiv 2602.16642",
        "row_sum", _coupling, _coupling_verdict,
    ),
    Row(
        "Zhao, Cheng, Masarczyk & Lucchi 2026",
        "“the accelerating effect of momentum on NC (beyond convergence of train loss) when trained with SGD”",
        "abstract of arXiv 2602.16642; no number in it",
        "momentum", _momentum, _momentum_verdict,
    ),
    Row(
        "Dang, Tran, Osher, Tran-The, Ho & Nguyen 2023",
        "with unequal classes “a geometry consisting of orthogonal vectors, whose lengths depend on the amount of "
        "data”; their code prints the distances, its repository holds no values",
        "abstract of arXiv 2301.00437, code of github.com/Fsoft-AIC/Neural-Collapse-in-Deep-Linear-Networks",
        "imbalanced", _imbalanced, _imbalanced_verdict,
    ),
    Row(
        "Thrampoulidis, Kini, Vakilian & Behnia 2022",
        "for “cross-entropy loss and vanishing regularization” class means and classifier have SELI's geometry, "
        "“irrespective of class imbalances”",
        "abstract of arXiv 2208.05512",
        "seli", _seli, _seli_verdict,
    ),
    Row(
        "Thrampoulidis, Kini, Vakilian & Behnia 2022",
        "“convergence worsens with increasing imbalances”",
        "the same abstract; no number in it",
        "seli", _imbalance, _imbalance_verdict,
        shared=True,
    ),
    Row(
        "Zhu, Ding, Zhou, Li, You, Sulam & Qu 2021",
        "“the only global minimizers are the Simplex” ETFs, “all other critical points are strict saddles” (CE, decay)",
        "README of github.com/tding1/Neural-Collapse",
        "landscape", _landscape,
        lambda n: judged(n["reached"] == n["starts"]),
    ),
    Row(
        "Zhu, Ding, Zhou, Li, You, Sulam & Qu 2021",
        "a last layer fixed as a simplex with d = K “reduces memory cost by over 20% on ResNet18 without "
        "sacrificing the generalization performance”",
        "the same README; how they cut ResNet18 to d = K is not in it",
        "fixed_head", _fixed, _fixed_verdict,
    ),
    Row(
        "Súkeník, Mondelli & Lampert 2024",
        "“As soon as we go beyond two layers or two classes”, deep collapse “stops being optimal” (ReLU, MSE)",
        "abstract of arXiv 2405.14468",
        "lower_rank", _lower_rank, _lower_rank_verdict,
    ),
    Row(
        "Garrod & Keating 2025",
        "cross-entropy on deep layers: “high-rank structures, including” deep collapse, “are not generally "
        "optimal”. Dang et al. 2023: “global solutions exhibit NC properties across the linear layers”, for MSE and "
        "CE",
        "abstracts of arXiv 2410.23169 and 2301.00437",
        "deep_entropy", _deep_entropy,
        lambda n: judged(
            max(one for name, one in n.items() if name != "seconds") > 1,
            agrees="with Garrod & Keating, from six classes on; in our setting two layers speak against Dang et al.",
        ),
    ),
    Row(
        "Andriopoulos, Dong, Guo, Zhao & Ross 2024",
        "NRC1 to NRC3 where the regularization of free features is “strictly positive”; at zero “there is no collapse”",
        "abstract of arXiv 2409.04180",
        "regression", _regression, _regression_verdict,
    ),
    Row(
        "Galanti, György & Hutter 2022",
        "collapse “generalizes to new samples from the training classes, and […] to new classes as well”; the "
        "few-shot error is bounded by (k − 1) · CDNV and terms in numbers of classes and examples",
        "abstract of arXiv 2112.15121; the bound's form: the first author's article on it. Tables on Mini-ImageNet: "
        "not read",
        "transfer", _transfer, _transfer_verdict,
    ),
    Row(
        "Rupa 2026",
        "collapse begins when Ave ‖h‖ reaches a value that is “largely invariant to training conditions”, variation "
        "below 8 % within a model and dataset; ResNet-20 on MNIST: 5.867",
        "abstract of arXiv 2604.00230",
        "thresholds", _thresholds, _thresholds_verdict,
    ),
]  # fmt: skip

HEAD = "| paper | printed, and where it was read | command | here | verdict | cost |\n" + "|---" * 6 + "|"
TEXT = """# Other people's printed numbers

This page lets you see which published claims two cores can test, and what came of it:

    python benchmarks/reproductions.py --json docs/summaries/reproductions.json    # {minutes}, one core
    python docs/reproductions_table.py > docs/reproductions.md

A number or claim of a paper stands here as it was read in the source that its row names: mostly abstracts and READMEs,
as papers' texts could not be had. Words in “ ” are the source's. What was not read is said to be. Our numbers are
medians with the least and the largest in brackets; of what, the cell says. A verdict follows from them by a rule, a few
lines for each row in `docs/reproductions_table.py`: **agrees**, **differs**, or **cannot be tested here** and why. Cost
is processor time of one thread. `--only NAME` means `python benchmarks/reproductions.py --only NAME`.

{table}

{count} rows: {verdicts}.

## The settings, and what they leave open

{notes}
"""

#: Part → its setting, and what a reader of the row has to know.
NOTES_OF = {
    "growth": "40 Gaussian features in 4 classes and 6 dimensions, N = 10, the flow integrated on the features up "
    "to t = 10⁹ without use of the closed form ([central_path.md](central_path.md)). Exponent: d log ω/d log t over "
    "the last decade.",
    "curves": "an MLP with batch norm on 100 images a class of Fashion-MNIST, the rate dropped after epochs 50 and "
    "100 of 150; the options are `FASHION` in the script. The notebook trains ResNet-18 on MNIST, which is not to "
    "be had here. Full-size runs are another matter: [fashion_mnist.md](fashion_mnist.md).",
    "gains": "the cells of `sweep=quick` at the largest of its rates: small VGG, ResNet and DenseNet on "
    "scikit-learn's digits, 80 epochs. The paper chooses the best of 25 rates by the last test error, which favours "
    "the gain; here the rate is fixed. Robustness is Ave ‖r‖/‖x‖ by DeepFool on 100 test images; the unit of the "
    "paper's number was not read.",
    "row_sum": "`experiment=decay`, 30 epochs on the digits, a decay of 0.05. With momentum 0.9 SGD's "
    "decoupled decay is a tenth of the coupled one of the same number ([optimizers.md](optimizers.md#nc0)).",
    "momentum": "four classes of ten free features, cross-entropy, rate 0.1, decay 0.02. Every number of the "
    "weights moves, but the sum of the classifier's rows follows its law exactly; nothing is fitted.",
    "imbalanced": "classes of 200, 100, 50 and 50, P = 64, 30,000 steps, all numbers and distances as their code "
    "has them ([free_features.md](free_features.md#the-papers) has six and nine layers too). The minimum is unique "
    "up to rotation, and one start reaches it to rounding, so that seeds were not repeated.",
    "seli": "four classes, R the largest over the smallest size, sizes in geometric steps; L-BFGS from three "
    "starts, the lowest counts. Distances as in [beyond_balanced.md](beyond_balanced.md).",
    "landscape": "ten classes, P = 10, decay 5e-3 of both factors, L-BFGS from 20 random starts. That no start is "
    "caught elsewhere is evidence for the theorem, no proof.",
    "fixed_head": "ours cuts the last block to ten channels, with a 1×1 convolution in its shortcut. Test errors: "
    "an MLP on the digits, 40 epochs, 397 test images, so that one image is 0.25 points.",
    "lower_rank": "one example a class, P = 2C, decay 2e-3 of every factor; the other solution is the triangular "
    "graph's of [free_features.md](free_features.md#the-papers). Where it is no better, something else may be.",
    "deep_entropy": "one example a class, P = C, decay 5e-3 of every factor. Both abstracts speak of the same model; "
    "assumptions of their theorems were not read.",
    "regression": "100 targets of variances 1, 0.5 and 0.2, 1500 full-batch steps; NRC1 and NRC2 of centred features.",
    "transfer": "an MLP without batch norm on seven classes of the digits, 60 epochs, cross-entropy; the three "
    "others are new: k = 3, five examples of each, 100 draws. Held out were 3, 7, 9, then 0, 4, 8, then 1, 2, 5. "
    "The bound itself has constants that were not read, so only its ordering is tested.",
    "thresholds": "the paper trains by cross-entropy first and by the MSE then, on MNIST and CIFAR-10; here so, on the "
    "digits, an MLP of two layers of 256, 20 epochs and then 120. When collapse begins is defined here by NC1, as the "
    "paper's own definition was not read; so the number 5.867 and the lead of 62 epochs cannot be tested here.",
}


def rows() -> list[Row]:
    """Those whose part has been measured: a row waits for its part of the summary."""
    return [row for row in ROWS if row.part in summary(row.summary)]


def page() -> str:
    """The whole of docs/reproductions.md."""
    cells = [row.cells() for row in rows()]
    table = "\n".join([HEAD, *(f"| {' | '.join(row)} |" for row in cells)])
    verdicts = [row[4].split("**")[1] for row in cells]
    counted = ", ".join(f"{verdicts.count(word)} {word}" for word in ("agrees", "differs", "cannot be tested here"))
    minutes = duration(sum(numbers["seconds"] for numbers in summary("reproductions").values()))
    parts = dict.fromkeys(row.part for row in rows())
    notes = "\n".join(fill(f"- **{part}**: {NOTES_OF[part]}", 136, subsequent_indent="  ") for part in parts)
    return TEXT.format(table=table, count=len(cells), verdicts=counted, minutes=minutes, notes=notes)


if __name__ == "__main__":
    print(page(), end="")
