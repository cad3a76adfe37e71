"""What two cores come to of what other papers print: the numbers of docs/reproductions.md.

    python benchmarks/reproductions.py [--only PART ...] [--outputs FOLDER] [--json FILE] [--short]

Each part trains what FOLDER (outputs/reproductions) lacks, or computes, and prints its numbers. FILE gets them beside
the parts that it has, to five digits. The committed one is docs/summaries/reproductions.json; `python
docs/reproductions_table.py` makes the page of it. The docstring of a part says what it does. `seconds` is processor
time of one thread, of trainings that were made now or by an earlier call.
"""

from __future__ import annotations

import json
import math
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import torch
from free_features import _entropy, _least, row_sums
from regimes import trained
from scipy.stats import spearmanr
from timing import parser
from torch import Tensor
from torch.nn import functional

from ncexp.collapse import (
    CentralPath,
    class_statistics,
    deep_collapse,
    entropy_collapse,
    gram_distance,
    renormalized_gradient_flow,
    seli_geometry,
    triangular_graph_solution,
)
from ncexp.config import check
from ncexp.config.composing import compose_mapping
from ncexp.record import SavedRun
from ncexp.report.numbers import gain, robustness_gain
from ncexp.report.reference import read_reference
from ncexp.training import Assembly, assemble

Numbers = dict[str, Any]
SEEDS = (0, 1, 2)
FASHION = (Path(__file__).parents[1] / "docs" / "fashion_mnist.md").read_text()
DIGITS = ["dataset=digits", "architecture=mlp", "architecture.hidden=[256,256]", "architecture.batch_norm=false"]
#: Name of a curve of the notebook → quantity; the last four are those of its figure 8, of the MSE alone.
CURVES = {
    "train error": "train/error",
    "NC1": "train/collapse/nc1_trace",
    "equinorm, means": "train/collapse/equinorm_means",
    "equinorm, classifier": "train/collapse/equinorm_classifier",
    "maximal angle, means": "train/collapse/maximal_angle_means",
    "maximal angle, classifier": "train/collapse/maximal_angle_classifier",
    "self-duality": "train/collapse/self_duality",
    "NC4": "train/collapse/nearest_class_center_mismatch",
    "L": "train/mse/loss",
    "L_NC1": "train/mse/loss_nc1",
    "L_NC2/3": "train/mse/loss_nc23",
    "L_LS⊥": "train/mse/loss_ls_perp",
}
#: In reference/ → whose they are.
REFERENCES = {
    "main": "digits, ResNet, MSE",
    "fashion_mnist_vgg_mse_mean": "Fashion-MNIST, VGG-11, MSE",
    "quick_resnet_cross_entropy": "digits, ResNet, CE",
}


class Trainings:
    """The recorded trainings of one part, and the processor time that each took, kept beside them."""

    def __init__(self, outputs: Path, short: bool) -> None:
        self.outputs, self.seconds, self._short = outputs, 0.0, ["epochs=2"] if short else []
        self._file = outputs / "seconds.json"

    def of(self, *overrides: str) -> SavedRun:
        known: dict[str, float] = json.loads(self._file.read_text()) if self._file.exists() else {}
        common = ["device=cpu", "threads=1", "tracking.enabled=false", "keep.snapshots=last"]
        began = time.process_time()
        run = trained(compose_mapping("config", [*common, *overrides, *self._short, f"outputs={self.outputs}"]))
        if run.key not in known:
            known[run.key] = time.process_time() - began
            self._file.write_text(json.dumps(known))
        self.seconds += known[run.key]
        return run


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--only", nargs="+", choices=PARTS, default=[*PARTS], help="these parts; all without")
    options.add_argument("--outputs", type=Path, default=Path("outputs/reproductions"))
    arguments = options.parse_args()
    torch.set_num_threads(1)
    for name in arguments.only:
        began, trainings = time.process_time(), Trainings(arguments.outputs, arguments.short)
        numbers = PARTS[name](trainings, arguments.short)
        seconds = trainings.seconds or time.process_time() - began
        found = {"seconds": round(seconds), **rounded(numbers)}
        print(json.dumps({name: found}, ensure_ascii=False), flush=True)
        if arguments.json:
            known = json.loads(arguments.json.read_text()) if arguments.json.exists() else {}
            arguments.json.write_text(json.dumps(known | {name: found}, indent=1, ensure_ascii=False) + "\n")


def rounded(value: Any) -> Any:
    """To five digits, inside of lists and dictionaries too; null for nan."""
    if isinstance(value, dict):
        return {name: rounded(one) for name, one in value.items()}
    if isinstance(value, list):
        return [rounded(one) for one in value]
    if isinstance(value, float):
        return None if math.isnan(value) else float(f"{value:.5g}")
    return value


def band(values: Iterable[float]) -> list[float]:
    """Least, median and largest; nan of none."""
    found = [float(value) for value in values] or [math.nan]
    return [min(found), statistics.median(found), max(found)]


def growth(_: Trainings, short: bool) -> Numbers:
    """Han et al.'s flow, integrated on 40 Gaussian features in 4 classes and 6 dimensions from three draws: the
    exponent d log ω / d log t of every mode over the last decade of t, ω over (t/c3)^¼ with c3 = N/4, the largest over
    the smallest mode, and by how much an ω of the closed form misses that of the flow.
    """
    times = torch.logspace(0, 4 if short else 9, 5 if short else 10, dtype=torch.float64)
    labels, exponents, ratios, spreads, misses = torch.arange(40) % 4, [], [], [], []
    for seed in SEEDS[: 1 if short else 3]:
        generator = torch.Generator().manual_seed(seed)
        features = torch.randn(40, 6, generator=generator, dtype=torch.float64)
        flow = renormalized_gradient_flow(features, labels, 4, times).singular_values
        start = renormalized_gradient_flow(features, labels, 4, times[:1]).singular_values[0]
        path = CentralPath(start, 4, 10).singular_values(times - times[0])
        exponents += ((flow[-1] / flow[-2]).log() / math.log(10)).tolist()
        ratios += (flow[-1] / (times[-1] / 2.5) ** 0.25).tolist()
        spreads.append(float(flow[-1, 0] / flow[-1, -1]))
        misses.append(float((flow / path).log().abs().max()))
    return {"exponent": band(exponents), "over (t/c3)^¼": band(ratios), "ω1/ω3": band(spreads), "miss": max(misses)}


def gains(_: Trainings, __: bool) -> Numbers:
    """Test accuracy (points) won after zero error in five cells a loss, of runs that are on record: three small
    networks on the digits (reference/quick_*.json, means of five seeds, from the first recorded epoch after that of
    zero error), VGG-11 and ResNet-18 on 600 images of Fashion-MNIST (the table of docs/fashion_mnist.md).
    """
    lines = [line for line in FASHION.splitlines() if line.startswith("| ")]
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    head = next(cells for cells in table if "VGG-11, MSE" in cells)
    row = next(cells for cells in table[table.index(head) :] if cells[0] == "test error %")
    found: Numbers = {}
    for loss, label in (("mse_mean", "MSE"), ("cross_entropy", "CE")):
        won = {f"digits, {network}": _won(f"quick_{network}_{loss}") for network in ("vgg", "resnet", "densenet")}
        for network in ("VGG-11", "ResNet-18"):
            before, after = row[head.index(f"{network}, {label}")].split(" → ")
            won[f"Fashion-MNIST, {network}"] = float(before) - float(after)
        found[label] = {"cells": won, "median": band(won.values()), "mean": statistics.fmean(won.values())}
    return found


def _won(reference: str) -> float:
    """Of its mean test error, from the first recorded epoch after the mean one of zero error."""
    bands = read_reference(reference)["bands"]
    errors = {int(epoch): middle for epoch, (_, middle, _) in bands["test/error"].items()}
    first = min(epoch for epoch in errors if epoch >= bands["zero_error_epoch"]["run"][1])
    return 100 * (errors[first] - errors[max(errors)])


def curves(_: Trainings, __: bool) -> Numbers:
    """The curves of the notebook's figures 2 to 8 in the first epoch and the last, means over a reference's seeds."""
    found: Numbers = {}
    for name, label in REFERENCES.items():
        reference = read_reference(name)
        found[label] = {"seeds": len(reference["seeds"])}
        for curve, quantity in CURVES.items():
            values = [middle for _, middle, _ in reference["bands"][quantity].values()]
            found[label][curve] = [values[0], values[-1]]
    return found


def robustness(trainings: Trainings, short: bool) -> Numbers:
    """Robustness, and test accuracy in points, won from the first zero-error epoch to the last: median and mean over
    three small networks on the digits, for each seed.
    """
    networks, seeds = (["resnet"], SEEDS[:1]) if short else (["vgg", "resnet", "densenet"], SEEDS)
    losses = {"mse_mean": "MSE", "cross_entropy": "CE"}
    words = ["analysis=[collapse,robustness]", "evaluate_at=[80]"]
    runs = {
        (loss, seed, network): trainings.of(f"experiment=quick/{network}", *words, f"loss={loss}", f"seed={seed}")
        for seed in seeds
        for loss in losses
        for network in networks
    }
    found: Numbers = {}
    for loss, label in losses.items():
        for name, of in (("accuracy", gain), ("robustness", robustness_gain)):
            cells = [[of(runs[loss, seed, network]) for network in networks] for seed in seeds]
            found[f"{label} {name}"] = {
                "cells": cells,
                "median": band(map(statistics.median, cells)),
                "mean": band(map(statistics.fmean, cells)),
            }
    return found


def row_sum(trainings: Trainings, short: bool) -> Numbers:
    """NC0 and what else collapses of a small MLP on the digits under both kinds of decay: `experiment=decay`."""
    found: Numbers = {}
    for optimizer, decoupled in [("sgd", 0), ("sgd", 1), ("adam", 0), ("adam", 1)]:
        words = [f"optimizer={optimizer}", f"optimizer.decoupled={float(decoupled)}", "optimizer.weight_decay=0.05"]
        runs = [trainings.of("experiment=decay", *words, f"seed={seed}") for seed in SEEDS[: 1 if short else 3]]
        found[f"{optimizer} {'decoupled' if decoupled else 'coupled'}"] = {
            f"{name} {when}": band(run.records[place][f"train/collapse/{name}"] for run in runs)
            for name in ("nc0_classifier", "nc1_trace", "etf_error_classifier")
            for when, place in (("first", 0), ("end", -1))
        }
    return found


def momentum(_: Trainings, short: bool) -> Numbers:
    """‖Wᵀ1‖ of free features under SGD after 500 steps over its first value, by momentum; and what the law gives."""
    rows = [row for row in row_sums(short) if str(row["optimizer"]).startswith("SGD")]
    steps = 20 if short else 500
    law = f"r/r0 after {steps}, theory"
    found = {str(row["optimizer"]).split()[-1]: [row["measured"], row[law]] for row in rows}
    return found | {"miss": max(float(str(row["largest difference"])) for row in rows)}


def imbalanced(_: Trainings, __: bool) -> Numbers:
    """Dang et al.'s imbalanced experiment: the distances of their code that docs/free_features.md has, which
    `python benchmarks/free_features.py --only linear` measures in four to five minutes.
    """
    page = (Path(__file__).parents[1] / "docs" / "free_features.md").read_text()
    _, table = page.split("| layers | F/F* − 1 |", 1)
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.split("\n\n")[0].splitlines()[2:]]
    return {row[0]: {"outputs": float(row[2]), "W": float(row[4]), "H": float(row[5])} for row in rows}


def lower_rank(_: Trainings, __: bool) -> Numbers:
    """Free features behind ReLU: percent by which the triangular graph's loss is below that of deep collapse."""
    found = {}
    for vertices, layers in [(4, 3), (5, 3), (6, 3), (4, 4), (5, 4), (6, 4), (6, 6)]:
        classes = vertices * (vertices - 1) // 2
        decays = [2e-3] * (layers + 1)
        collapse = deep_collapse([1] * classes, 2 * classes, decays).loss
        graph = triangular_graph_solution(vertices, 1, 2 * classes, decays).loss
        found[f"{classes} classes, {layers} layers"] = 100 * (1 - graph / collapse)
    return found


def deep_entropy(_: Trainings, short: bool) -> Numbers:
    """Cross-entropy on two linear layers: percent by which the least of L-BFGS is below the best simplex."""
    rows = [_entropy(count, 2, 1 if short else 8) for count in ([6] if short else [4, 6, 8, 10])]
    return {
        str(row["classes"]): max(0.0, 100 * (1 - float(str(row["L-BFGS"])) / float(str(row["simplex"]))))
        for row in rows
    }


def landscape(_: Trainings, short: bool) -> Numbers:
    """Cross-entropy with decay of all factors on free features of ten classes: from how many random starts L-BFGS comes
    to the simplex's objective, and the largest relative excess.
    """
    count, decay, starts = 10, 5e-3, 1 if short else 20
    best = entropy_collapse(count, 1, count, [decay] * 2).loss
    excess = [_free_entropy(torch.ones(count), decay, seed)[0] / best - 1 for seed in range(starts)]
    return {"starts": starts, "reached": sum(one < 1e-6 for one in excess), "excess": max(excess)}


def seli(_: Trainings, short: bool) -> Numbers:
    """Distances of class means and classifier to SELI at the minimum of the free features' cross-entropy without bias,
    as the ridge vanishes, for four classes and largest over smallest class of 1, 10 and 100.
    """
    found: Numbers = {}
    for ratio in [10] if short else [1, 10, 100]:
        sizes = torch.tensor([round(100 * ratio ** (-place / 3)) for place in range(4)])
        target = seli_geometry(sizes)
        for ridge in [1e-3] if short else [1e-3, 1e-5, 1e-7, 1e-9]:
            _least_of_all, means, weight = min(
                (_free_entropy(sizes, ridge, seed) for seed in range(3)), key=lambda one: one[0]
            )
            found[f"{ratio}, {ridge:g}"] = [
                gram_distance(means @ means.T, target.means),
                gram_distance(weight @ weight.T, target.classifier),
            ]
    return found


def _free_entropy(sizes: Tensor, ridge: float, seed: int) -> tuple[float, Tensor, Tensor]:
    """The least of Ave CE(W h) + (ridge/2)(‖W‖² + ‖H‖²) by L-BFGS from a random start, features and W there.

    Examples of a class are alike at the minimum: the problem in W H is convex and knows no order of them. So a class
    has one feature, scaled by √n_c to h̃ = √n_c h: Σ_c π_c CE(W h̃_c/√n_c) + (ridge/2)(‖W‖² + ‖H̃‖²).
    """
    count, sizes = len(sizes), sizes.double()
    labels, roots, shares = torch.arange(count), sizes.sqrt()[:, None], sizes / sizes.sum()

    def value(factors: Sequence[Tensor]) -> Tensor:
        features, weight = factors
        losses = functional.cross_entropy(features / roots @ weight.T, labels, reduction="none")
        return (shares * losses).sum() / ridge + (features.square().sum() + weight.square().sum()) / 2

    start = torch.Generator().manual_seed(seed)
    first = [torch.randn(count, count, generator=start, dtype=torch.float64) for _ in range(2)]
    least, (features, weight) = _least(value, [(count, count)] * 2, 0, 0.0, first)  # over the ridge: tolerances hold
    return least * ridge, features / roots, weight


def thresholds(trainings: Trainings, short: bool) -> Numbers:
    """Ave ‖h‖ when NC1 first falls below 0.1 and 0.05, and at the end, of an MLP on the digits trained by cross-entropy
    and then by the MSE: by decay, over seeds and rates; and its coefficient of variation over all runs that have it.
    """
    seeds, rates, decays = (SEEDS, (0.1, 0.2), (5e-4, 2e-3)) if not short else (SEEDS[:1], (0.1,), (2e-3,))
    lengths: dict[str, dict[str, list[float]]] = {
        when: {f"{decay:g}": [] for decay in decays} for when in ("below 0.1", "below 0.05", "at the end")
    }
    for seed in seeds:
        common = [*DIGITS, "optimizer=sgd", f"seed={seed}", "analysis=[collapse,norms]"]
        first = trainings.of(*common, "loss=cross_entropy", "optimizer.lr=0.05", "epochs=20", "evaluate_at=[20]")
        (weights,) = (first.path / "checkpoints").glob("epoch_*.safetensors")
        for rate, decay in product(rates, decays):
            words = [f"architecture.weights={weights}", "loss=mse_mean", f"optimizer.lr={rate}", "epochs=120"]
            words += [f"optimizer.weight_decay={decay}", "optimizer/schedule=constant"]
            words += [f"evaluate_at={[*range(3, 121, 3)]}".replace(" ", "")]
            records = trainings.of(*common, *words).records
            for when, of in lengths.items():
                level = float(when.removeprefix("below ")) if when.startswith("below") else math.inf
                there = [one for one in records if one["train/collapse/nc1_trace"] < level]
                if there:
                    place = -1 if level == math.inf else 0
                    of[f"{decay:g}"].append(there[place]["train/norms/feature_length"])
    return {
        when: {
            "lengths": {decay: band(found) for decay, found in of.items()},
            "variation %": _variation([one for found in of.values() for one in found]),
            "runs": sum(map(len, of.values())),
        }
        for when, of in lengths.items()
    } | {"runs": len(seeds) * len(rates) * len(decays)}


def _variation(values: Sequence[float]) -> float:
    """Standard deviation (n − 1) over the mean, in percent."""
    return 100 * statistics.stdev(values) / statistics.fmean(values) if len(values) > 1 else math.nan


def transfer(_: Trainings, short: bool) -> Numbers:
    """CDNV of an MLP's features on the train classes of the digits and on three classes held out, and the error of the
    nearest class mean of five held-out examples a class, before training and after, for three choices of the classes
    and three decays.
    """
    found: dict[str, list[list[float]]] = {}
    for place, held in enumerate([[3, 7, 9]] if short else [[3, 7, 9], [0, 4, 8], [1, 2, 5]]):
        for decay in [2e-3] if short else [0.0, 5e-4, 5e-3]:
            assembly = assemble(check(compose_mapping("config", [
                *DIGITS, f"dataset.hold_out={held}".replace(" ", ""), "loss=cross_entropy", "optimizer=sgd",
                "optimizer.lr=0.05", f"optimizer.weight_decay={decay}", f"seed={place}", "epochs=60", "device=cpu",
            ])))  # fmt: skip
            found.setdefault("untrained", []).append(_transferred(assembly))
            for _epoch in range(3 if short else 60):
                assembly.training.run_epoch(lambda: False)
            found.setdefault(f"{decay:g}", []).append(_transferred(assembly))
    pairs = [row for name, rows in found.items() for row in rows if name != "untrained"]
    columns = [*zip(*pairs, strict=True)]
    return {name: [band(column) for column in zip(*rows, strict=True)] for name, rows in found.items()} | {
        "rank correlation of error with CDNV, train and held out": [
            float(spearmanr(columns[column], columns[2]).statistic) if len(pairs) > 2 else math.nan for column in (0, 1)
        ],
        "runs": len(pairs),
    }


def _transferred(assembly: Assembly) -> list[float]:
    """CDNV of train classes, of held-out classes, and few-shot error % of the latter."""
    data = assembly.dataset
    assert data.held_out is not None
    network = assembly.training.network.eval()
    with torch.no_grad():
        inside, outside = (network(part.inputs)[1].double() for part in (data.train, data.held_out))
    network.train()
    labels = data.held_out.labels - data.num_classes  # type: ignore[attr-defined]
    return [
        cdnv(inside, data.train.labels, data.num_classes),
        cdnv(outside, labels, 3),
        100 * few_shot_error(outside, labels, 5, 100),
    ]


def cdnv(features: Tensor, labels: Tensor, classes: int) -> float:
    """Ave over pairs of (v_c + v_c')/(2 ‖μ_c − μ_c'‖²), as `collapse/cdnv`."""
    statistics_ = class_statistics(features, labels, classes)
    variances, means = statistics_.within_class_variances, statistics_.class_means
    apart = torch.cdist(means, means).square()
    pairs = ~torch.eye(classes, dtype=torch.bool)
    return float(((variances[:, None] + variances)[pairs] / (2 * apart[pairs])).mean())


def few_shot_error(features: Tensor, labels: Tensor, shots: int, draws: int) -> float:
    """Share of the other examples that are nearest to the mean of `shots` examples of another class; mean of draws."""
    generator, wrong = torch.Generator().manual_seed(0), 0.0
    classes = int(labels.max()) + 1
    for _draw in range(draws):
        order = torch.randperm(len(labels), generator=generator)
        chosen = torch.stack([order[labels[order] == one][:shots] for one in range(classes)])
        rest = torch.ones(len(labels), dtype=torch.bool).index_fill(0, chosen.flatten(), False)
        nearest = torch.cdist(features[rest], features[chosen].mean(1)).argmin(1)
        wrong += float((nearest != labels[rest]).double().mean())
    return wrong / draws


def fixed_head(trainings: Trainings, short: bool) -> Numbers:
    """Parameters that ResNet-18 saves with a last layer that is a fixed simplex of P = C = 10, percent; and the test
    error of an MLP on the digits with a trained and with a fixed last layer.
    """
    found: Numbers = {"saved %": 100 * saved_parameters(10)}
    for head in ("linear", "etf_fixed"):
        words = ["dataset=digits", "architecture=mlp", "loss=cross_entropy", "optimizer=sgd_digits", "epochs=40"]
        words += [f"architecture.head={head}", "evaluate_at=[40]"]
        runs = [trainings.of(*words, "analysis=[collapse]", f"seed={seed}") for seed in SEEDS[: 1 if short else 3]]
        found[head] = band(100 * run.records[-1]["test/error"] for run in runs)
    return found


def saved_parameters(classes: int) -> float:
    """Share of ResNet-18's parameters that need no training and no memory where its last block has `classes` channels
    (with a 1×1 convolution and batch norm in its shortcut, as where widths change) and its last layer is fixed.
    """
    from torchvision.models import resnet18

    network = resnet18(num_classes=classes)
    whole, (block, layer) = _size(network), (network.layer4[-1], network.fc)
    width = layer.in_features
    narrow = [torch.nn.Conv2d(width, classes, 3, bias=False), torch.nn.BatchNorm2d(classes)]
    narrow += [torch.nn.Conv2d(width, classes, 1, bias=False), torch.nn.BatchNorm2d(classes)]
    gone = _size(block.conv2) + _size(block.bn2) + _size(layer)
    return (gone - sum(map(_size, narrow))) / whole


def _size(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def regression(_: Trainings, short: bool) -> Numbers:
    """Free features with targets of variances 1, 0.5 and 0.2: NRC1 (centred), NRC2 (centred) and NRC3 after 1500 steps
    with a decay of 5e-3 and with none, over three seeds.
    """
    from workloads import evaluated

    found: Numbers = {}
    for decay in (5e-3, 0.0):
        rows = []
        for seed in SEEDS[: 1 if short else 3]:
            config = check(compose_mapping("config", [
                "dataset=unconstrained_targets", "architecture=unconstrained_features", "loss=squared_error",
                "batch_size=100", "optimizer=sgd", "optimizer/schedule=constant", "optimizer.lr=1.0", "device=cpu",
                f"optimizer.weight_decay={decay}", f"seed={seed}", "epochs=1500",
            ]))  # fmt: skip
            assembly = assemble(config)
            for _epoch in range(30 if short else 1500):
                assembly.training.run_epoch(lambda: False)
            numbers = evaluated(assembly, config)
            rows.append([numbers[f"train/nrc/{name}"] for name in ("nrc1_centered", "nrc2_centered", "nrc3")])
        found[f"{decay:g}"] = [band(column) for column in zip(*rows, strict=True)]
    return found


PARTS: dict[str, Callable[[Trainings, bool], Numbers]] = {
    one.__name__: one
    for one in (
        growth, momentum, row_sum, imbalanced, seli, landscape, lower_rank, deep_entropy, regression, transfer,
        thresholds, fixed_head, curves, gains, robustness,
    )
}  # fmt: skip

if __name__ == "__main__":
    main()
