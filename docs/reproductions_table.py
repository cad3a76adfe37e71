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
    cost: in words, where it is not the part's time. shared: an earlier row has the same part, and its cost.
    """

    paper: str
    printed: str
    source: str
    part: str
    ours: Callable[[Numbers], str]
    verdict: Callable[[Numbers], str]
    summary: str = "reproductions"
    cost: str = ""
    shared: bool = False

    def cells(self) -> list[str]:
        first = [self.paper, f"{self.printed} ({self.source})", f"`--only {self.part}`"]
        if self.part not in summary(self.summary):
            return [*first, "–", "**not measured yet**", "–"]
        numbers = summary(self.summary)[self.part]
        cost = "with the row above" if self.shared else self.cost or duration(numbers["seconds"])
        return [*first, self.ours(numbers), self.verdict(numbers), cost]


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
    shown = {
        name: [of["L_LS⊥"][when] / of["L_NC1"][when] for when in (0, 1)] for name, of in _trained_by_mse(n).items()
    }
    return "L_LS⊥/L_NC1, first epoch → end: " + "; ".join(f"{name} {a:.2g} → {b:.2g}" for name, (a, b) in shown.items())


def _trained_by_mse(n: Numbers) -> dict[str, Numbers]:
    return {name: of for name, of in n.items() if name.endswith("MSE")}


def _perp_verdict(n: Numbers) -> str:
    small = {name: of["L_LS⊥"][1] < 0.1 * of["L_NC1"][1] for name, of in _trained_by_mse(n).items()}
    return _by_run(small, "L_LS⊥ ends below a tenth of L_NC1")


def _by_run(holds: dict[str, bool], what: str) -> str:
    """Agrees where it holds in all runs, or says in which it does."""
    if all(holds.values()):
        return judged(True, agrees=f"{what} in all")
    where = {word: "; ".join(name for name, one in holds.items() if one is word) for word in (True, False)}
    return judged(False, differs=f"{what} in {where[True] or 'none'}, not in {where[False]}")


def _falls(n: Numbers) -> dict[str, dict[str, float]]:
    terms = ("L_NC1", "L_NC2/3", "L_LS⊥")
    return {name: {term: of[term][0] / of[term][1] for term in terms} for name, of in _trained_by_mse(n).items()}


def _fastest(n: Numbers) -> str:
    return "first epoch over end: " + "; ".join(
        f"{name} {', '.join(f'{term} {fall:.3g}' for term, fall in falls.items())}" for name, falls in _falls(n).items()
    )


def _fastest_verdict(n: Numbers) -> str:
    first = {name: max(falls, key=lambda term: falls[term]) == "L_NC2/3" for name, falls in _falls(n).items()}
    return _by_run(first, "L_NC2/3 falls by the largest factor")


#: Those of the notebook's figures 2 to 8 in the cell; all count in the verdict.
SHOWN = ("NC1", "equinorm, means", "maximal angle, means", "self-duality", "NC4")


def _curves(n: Numbers) -> str:
    parts = [
        f"{name}: " + ", ".join("{} {:.3g} → {:.3g}".format(curve, *of[curve]) for curve in SHOWN)
        for name, of in n.items()
        if name != "seconds"
    ]
    return "first epoch → end: " + "; ".join(parts)


def fallen(of: Numbers) -> dict[str, bool]:
    """The curves of figures 2 to 7, and whether each ends below half of its first epoch."""
    return {name: of[name][1] < 0.5 * of[name][0] for name in of if name != "seeds" and not name.startswith("L")}


def _curves_verdict(n: Numbers) -> str:
    count = {name: fallen(of) for name, of in n.items() if name != "seconds"}
    told = "; ".join(f"{name} {sum(of.values())} of {len(of)}" for name, of in count.items())
    whole = all(all(of.values()) for of in count.values())
    return judged(whole, f"ends below half of its first epoch: {told}", f"below half of the first epoch end: {told}")


def _gain(label: str) -> Callable[[Numbers], str]:
    def words(n: Numbers) -> str:
        return f"median {spread(n[label]['median'], '.2f')}, mean {n[label]['mean']:.2f}; over five cells"

    return words


def _gain_verdict(label: str, printed: float) -> Callable[[Numbers], str]:
    """Agrees within a factor of two: cells of other data and networks say no more."""

    def words(n: Numbers) -> str:
        middle = n[label]["median"][1]
        return judged(printed / 2 <= middle <= 2 * printed, agrees="within a factor of two, on other data")

    return words


def _robustness(label: str) -> Callable[[Numbers], str]:
    def words(n: Numbers) -> str:
        of = n[f"{label} robustness"]
        seeds = len(of["cells"])
        middle, mean = (spread(of[key], ".4f") for key in ("median", "mean"))
        return f"median {middle}, mean {mean}; three cells, {f'{seeds} seeds' if seeds > 1 else 'one seed'}"

    return words


def _robustness_verdict(label: str) -> Callable[[Numbers], str]:
    def words(n: Numbers) -> str:
        least, _, largest = n[f"{label} robustness"]["median"]
        if least <= 0 <= largest:
            return untested("the median's band holds 0")
        return judged(least > 0, agrees="in sign; its size is that of other data", differs="in sign")

    return words


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
    layers = [name for name in n if name != "seconds"]
    worst = {key: max(n[name][key] for name in layers) for key in ("W", "H", "outputs")}
    shown = ", ".join(f"{key} {worst[key]:.0e}" for key in worst)
    return f"{', '.join(layers)} layers: from the closed form at most {shown}"


def _imbalanced_verdict(n: Numbers) -> str:
    return judged(all(max(of["W"], of["H"]) < 1e-6 for name, of in n.items() if name != "seconds"))


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
    told = (
        f"rank correlation of the error over {n['runs']} runs: {held:.2f} with CDNV held out, {inside:.2f} with train"
    )
    return judged(better, agrees=f"both are below those of the untrained network; {told}", differs=told)


def _thresholds(n: Numbers) -> str:
    shown = []
    for when, of in n.items():
        if when not in ("seconds", "runs"):
            lengths = ", ".join(f"decay {decay} {_reached(found)}" for decay, found in of["lengths"].items())
            told = "NC1 " + when if when.startswith("below") else when
            shown.append(
                f"{told}: {lengths}, variation {of['variation %']:.1f} % over {of['runs']} of {n['runs']} runs"
            )
    return "Ave ‖h‖, " + "; ".join(shown)


def _reached(found: list[Any]) -> str:
    return "never" if None in found else spread(found, ".2f")


def _thresholds_verdict(n: Numbers) -> str:
    variation = {when: of["variation %"] for when, of in n.items() if when not in ("seconds", "runs")}
    small = [f"NC1 {when}" if when.startswith("below") else when for when, one in variation.items() if one < 8]
    told = f"below 8 % {' and '.join(small) or 'nowhere'}"
    return judged(len(small) == len(variation), told, told)


def _fixed(n: Numbers) -> str:
    errors = f"test error {spread(n['linear'], '.2f')} % trained, {spread(n['etf_fixed'], '.2f')} % fixed"
    return f"{n['saved %']:.1f} % of ResNet-18's parameters; an MLP on the digits: {errors}, three seeds"


def _fixed_verdict(n: Numbers) -> str:
    apart = n["etf_fixed"][1] - n["linear"][1]
    within = apart <= max(n["linear"][2] - n["linear"][0], 0.26)
    return judged(n["saved %"] > 20 and within, differs=f"the fixed layer's median error is {apart:.2f} points larger")


ON_RECORD = "none: runs on record, below"
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
        "curves", _perp, _perp_verdict,
        cost=ON_RECORD,
    ),
    Row(
        HPD22,
        "“L_NC2/3 diminishes the fastest among all the terms”",
        "the same caption",
        "curves", _fastest, _fastest_verdict,
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
            f"{label}: test accuracy gains after zero error, median {median} points (mean {mean}) over its 15 cells",
            NOTES,
            "gains", _gain(label), _gain_verdict(label, median),
            cost=ON_RECORD, shared=label == "CE",
        )
        for label, median, mean in (("MSE", 0.962, 1.833), ("CE", 0.3495, 0.4984))
    ),
    *(
        Row(
            HPD22,
            f"{label}: robustness gains after zero error, median {median} (mean {mean}) over its 15 cells",
            NOTES,
            "robustness", _robustness(label), _robustness_verdict(label),
            shared=label == "CE",
        )
        for label, median, mean in (("MSE", 0.1762, 0.9278), ("CE", 0.0252, 0.2452))
    ),
    Row(
        "Zhao, Cheng, Masarczyk & Lucchi 2026",
        "“NC cannot emerge under decoupled weight decay in adaptive optimizers”; NC0's “convergence to zero is a "
        "necessary condition for NC”",
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
        cost=ON_RECORD,
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
is processor time of one thread; a row whose command has not been run to its end says so. `--only NAME` means
`python benchmarks/reproductions.py --only NAME`.

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
    "curves": "means over the seeds of `reference/main.json` (`ncexp`, five seeds, a minute each), "
    "`reference/fashion_mnist_vgg_mse_mean.json` (`ncexp experiment=fashion_mnist/vgg`, three seeds, 600 images, 12 "
    "minutes each) and `reference/quick_resnet_cross_entropy.json` (`ncexp experiment=quick/resnet "
    "loss=cross_entropy`, five seeds, 20 s each). The bands of every number stand in these files "
    "([reference.md](reference.md)). The notebook trains ResNet-18 on MNIST, which is not to be had here. Why "
    "VGG-11 keeps the shape that it has at zero error: 120 times fewer steps than in the paper "
    "([fashion_mnist.md](fashion_mnist.md)). Figures of class means and of classifiers count as two curves, train "
    "error as one.",
    "gains": "three small networks on the digits, means of the five seeds of `reference/quick_*.json` (20 to 35 s a "
    "run), from the first recorded epoch after that of zero error; VGG-11 and ResNet-18 on 600 images of "
    "Fashion-MNIST, from the table of [fashion_mnist.md](fashion_mnist.md) (10 to 29 minutes a run, one to three "
    "seeds). The paper has other data and takes the best of 25 rates by the last test error.",
    "robustness": "the cells of `sweep=quick` at the largest of its rates on the digits, 80 epochs. Ave ‖r‖/‖x‖ by "
    "DeepFool on 100 test images; the unit of the paper's number was not read.",
    "row_sum": "`experiment=decay`, 30 epochs on the digits, a decay of 0.05. With momentum 0.9 SGD's "
    "decoupled decay is a tenth of the coupled one of the same number ([optimizers.md](optimizers.md#nc0)).",
    "momentum": "four classes of ten free features, cross-entropy, rate 0.1, decay 0.02. Every number of the "
    "weights moves, but the sum of the classifier's rows follows its law exactly; nothing is fitted.",
    "imbalanced": "classes of 200, 100, 50 and 50, P = 64, 30,000 steps, all numbers and distances as their code "
    "has them; read from the table of [free_features.md](free_features.md#the-papers), which `python "
    "benchmarks/free_features.py --only linear` makes in four to five minutes. One start each.",
    "seli": "four classes, R the largest over the smallest size, sizes in geometric steps; L-BFGS from three "
    "starts, the lowest counts. Distances as in [beyond_balanced.md](beyond_balanced.md).",
    "landscape": "ten classes, P = 10, decay 5e-3 of both factors, L-BFGS from 20 random starts. That no start is "
    "caught elsewhere is evidence for the theorem, no proof.",
    "fixed_head": "the two halves of the claim apart. Parameters: ours cuts the last block to ten channels, with a "
    "1×1 convolution in its shortcut. Test errors: an MLP on the digits, 40 epochs, 397 test images, so that one "
    "image is 0.25 points.",
    "lower_rank": "one example a class, P = 2C, decay 2e-3 of every factor; the other solution is the triangular "
    "graph's of [free_features.md](free_features.md#the-papers). Where it is no better, something else may be.",
    "deep_entropy": "one example a class, P = C, decay 5e-3 of every factor. Both abstracts speak of the same model; "
    "assumptions of their theorems were not read.",
    "regression": "100 targets of variances 1, 0.5 and 0.2, 1500 full-batch steps; NRC1 and NRC2 of centred features.",
    "transfer": "an MLP without batch norm on seven classes of the digits, 60 epochs, cross-entropy; the three "
    "others are new: k = 3, five examples of each, 100 draws. Held out were 3, 7, 9, then 0, 4, 8, then 1, 2, 5. "
    "The bound itself has constants that were not read, so only its ordering is tested.",
    "thresholds": "the paper trains by cross-entropy first and by the MSE then, on MNIST and CIFAR-10, as public "
    "summaries of it say; here so, on the digits, an MLP of two layers of 256 without batch norm, 20 epochs and "
    "then 120, at rates 0.1 and 0.2. When collapse begins was not read; here it is where NC1 falls below 0.1, or "
    "0.05, which the larger decay never reaches. A level was added after the runs were seen. The number 5.867 and "
    "the lead of 62 epochs cannot be tested here: MNIST is not to be had.",
}


def rows() -> list[Row]:
    """Those whose part has been measured."""
    return [row for row in ROWS if row.part in summary(row.summary)]


def page() -> str:
    """The whole of docs/reproductions.md."""
    cells = [row.cells() for row in ROWS]
    table = "\n".join([HEAD, *(f"| {' | '.join(row)} |" for row in cells)])
    verdicts = [row[4].split("**")[1] for row in cells]
    words = ("agrees", "differs", "cannot be tested here", "not measured yet")
    counted = ", ".join(f"{verdicts.count(word)} {word}" for word in words if word in verdicts)
    minutes = duration(sum(numbers["seconds"] for numbers in summary("reproductions").values()))
    parts = dict.fromkeys(row.part for row in ROWS)
    notes = "\n".join(fill(f"- **{part}**: {NOTES_OF[part]}", 136, subsequent_indent="  ") for part in parts)
    return TEXT.format(table=table, count=len(cells), verdicts=counted, minutes=minutes, notes=notes)


if __name__ == "__main__":
    print(page(), end="")
