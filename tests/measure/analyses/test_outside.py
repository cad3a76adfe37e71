"""Out of distribution in a run: pairs counted in NumPy on features held by hooks; Gaussians with a known AUROC."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from scipy.special import logsumexp, softmax
from scipy.stats import norm
from support import SMALL, Compose, compose, journals, measured, train
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import ncexp
from ncexp.config import ConfigError, check, check_measurement
from ncexp.datasets.outside import outside_sets
from ncexp.main import measure_checkpoints
from ncexp.measure import measure_stored
from ncexp.record import State
from ncexp.training import Assembly, Processes, assemble

#: Scores in float64 of another order; a pair of scores so near to each other that it may swap is one of thousands.
CLOSE = 1e-9
#: Of float32.
EPS = 2.0**-23
HELD = ["dataset.hold_out=[1]", "dataset.separation=2"]
BOTH_SETS = ["analysis=[outside]", "analysis.outside.datasets=[held_out,noise]"]
LAYER = "analysis.outside.modules=[backbone.3]"


def hooked(assembly: Assembly, examples: Any, module: str) -> np.ndarray:
    """What the module puts out for these examples, float64, (n, P)."""
    network = assembly.training.network.eval()
    kept: list[torch.Tensor] = []
    handle = network.get_submodule(module).register_forward_hook(lambda _, given, out: kept.append(out))
    with torch.no_grad():
        for inputs, _ in examples.batches(512):
            network(inputs)
    handle.remove()
    return torch.cat(kept).double().numpy()


def detection(inside: np.ndarray, outside: np.ndarray) -> tuple[float, float]:
    """AUROC over all pairs, ties at one half; FPR at the largest threshold that 95 % of those inside reach."""
    above = inside[:, None] > outside
    ties = inside[:, None] == outside
    threshold = next(one for one in sorted(inside, reverse=True) if (inside >= one).mean() >= 0.95)
    return float((above + ties / 2).mean()), float((outside >= threshold).mean())


def means_of(rows: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return np.stack([rows[labels == c].mean(0) for c in range(labels.max() + 1)])


def of_features(train: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Scores of rows (m, P), by definition; Σ_W⁺ on the directions that float32 features tell (known_directions.py)."""
    means = means_of(train, labels)
    deviations = train - means[labels]
    within = deviations.T @ deviations / len(train)
    variances, width = within.diagonal(), len(within)
    scales = np.where(variances > 0, variances, 1) ** 0.5
    correlated = np.linalg.eigvalsh(within / scales / scales[:, None]).max()
    of_units = width * EPS**2 * (variances + np.abs(means).max(0) ** 2)
    rounding = np.sqrt(of_units + 100 * width * 2.0**-52 * correlated * variances)
    rounding = np.where(rounding > 0, rounding, 1)
    values, vectors = np.linalg.eigh(within / rounding / rounding[:, None])
    factors = vectors[:, values > 1] / rounding[:, None]
    inverse = factors / values[values > 1] @ factors.T
    centered = train - train.mean(0)
    principal = np.linalg.svd(centered, full_matrices=False)[2][: len(means)]

    def gaps(rows: np.ndarray) -> np.ndarray:
        return rows[:, None] - means

    return {
        "mahalanobis": lambda rows: -np.einsum("ncp,pq,ncq->nc", gaps(rows), inverse, gaps(rows)).min(1),
        "nearest_class_mean": lambda rows: -np.linalg.norm(gaps(rows), axis=2).min(1),
        "neco": lambda rows: np.linalg.norm(rows @ principal.T, axis=1) / np.linalg.norm(rows, axis=1),
    }


def of_logits(train: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> dict[str, Any]:
    offset = -np.linalg.pinv(weight) @ bias
    residual_space = np.linalg.svd((train - offset).T)[0][:, train.shape[1] // 2 :]

    def logits(rows: np.ndarray) -> np.ndarray:
        return rows @ weight.T + bias

    def residual(rows: np.ndarray) -> np.ndarray:
        return np.linalg.norm((rows - offset) @ residual_space, axis=1)

    alpha = logits(train).max(1).sum() / residual(train).sum()
    return {
        "maximum_softmax": lambda rows: softmax(logits(rows), axis=1).max(1),
        "maximum_logit": lambda rows: logits(rows).max(1),
        "energy": lambda rows: logsumexp(logits(rows), axis=1),
        "virtual_logit": lambda rows: logsumexp(logits(rows), axis=1) - alpha * residual(rows),
    }


@pytest.mark.parametrize(
    "few", [[], ["dataset.examples_per_class=3", "batch_size=9"]], ids=["many", "fewer examples than P"]
)
def test_every_number_equals_counted_pairs_of_hooked_features(composed: Compose, few: list[str]) -> None:
    # Of fewer units a ReLU often leaves one alone, and NECO's scores of such features are equal up to rounding.
    config = check(composed(*HELD, *BOTH_SETS, LAYER, "architecture.hidden=[24,16]", *few))
    assembly = assemble(config)
    dataset = assembly.dataset
    record = measured(assembly, config)
    classifier = assembly.classifier
    assert classifier.bias is not None
    labels = dataset.train.labels.numpy()
    weight, bias = (one.detach().double().numpy() for one in (classifier.weight, classifier.bias))
    expected = {}
    for module, place in (("backbone", ""), ("backbone.3", "backbone.3/")):
        fitted = hooked(assembly, dataset.train, module)
        assert not few or len(fitted) < fitted.shape[1]
        scores = of_features(fitted, labels) | ({} if place else of_logits(fitted, weight, bias))
        inside = hooked(assembly, dataset.test, module)
        for name, examples in outside_sets(dataset, ["held_out", "noise"], 0).items():
            rows = hooked(assembly, examples, module)
            means, mean = means_of(fitted, labels), rows.mean(0)
            cosines = means @ mean / np.linalg.norm(means, axis=1) / np.linalg.norm(mean)
            expected[f"{name}/{place}nc5"] = np.abs(cosines).mean()
            for score, of in scores.items():
                auroc, rate = detection(of(inside), of(rows))
                expected |= {f"{name}/{place}auroc_{score}": auroc, f"{name}/{place}fpr95_{score}": rate}
    found = {name.removeprefix("test/outside/"): value for name, value in record.items() if "/outside/" in name}
    assert found.keys() == expected.keys()
    assert len(found) == 2 * (1 + 14 + 1 + 6)
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=CLOSE), name
    assert len({value for name, value in found.items() if "auroc" in name}) > 10


#: Of 20,000 examples on each side an AUROC has a standard error of at most 0.003, a share of 0.004.
SAMPLED = 0.015


def test_gaussians_have_the_auroc_of_their_distance(tmp_path: Path) -> None:
    """z_1 = h_1 and z_2 far below: N(0, 1) against N(−δ, 1) has Φ(δ/√2). Mahalanobis: N(0, I) against N(0, s² I) in
    the plane has s²/(1 + s²), as P(s² E > E') of two exponentials.
    """
    generator = torch.Generator().manual_seed(0)
    inside, train_rows, other = (torch.randn(20000, 2, generator=generator) for _ in range(3))
    labels = torch.arange(20000) % 2
    model = nn.Sequential(nn.Identity(), nn.Linear(2, 2))
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 0.0]]))
        model[1].bias.copy_(torch.tensor([0.0, -1e3]))
    shift, spread = 1.5, 3.0
    loaders = {
        name: DataLoader(TensorDataset(rows, labels), 500)
        for name, rows in {
            "train": train_rows, "test": inside, "moved": other - torch.tensor([shift, 0]), "wide": spread * other
        }.items()
    }  # fmt: skip
    sets = {"outside": {"datasets": ["moved", "wide", "noise"]}}
    with ncexp.Recorder(tmp_path / "mine", num_classes=2, classifier="1", analyses=sets) as recorder:
        outside = {name: loaders[name] for name in ("moved", "wide")}
        record = recorder.evaluate(1, model, loaders["train"], loaders["test"], outside=outside)
    for score in ("maximum_logit", "energy"):
        assert record[f"test/outside/moved/auroc_{score}"] == pytest.approx(norm.cdf(shift / 2**0.5), abs=SAMPLED)
        missed = norm.sf(norm.ppf(0.05) + shift)
        assert record[f"test/outside/moved/fpr95_{score}"] == pytest.approx(missed, abs=SAMPLED)
    radial = spread**2 / (1 + spread**2)
    assert record["test/outside/wide/auroc_mahalanobis"] == pytest.approx(radial, abs=SAMPLED)
    assert record["test/outside/noise/auroc_mahalanobis"] == pytest.approx(0.5, abs=SAMPLED)


@pytest.mark.usefixtures("no_figures")
def test_recorder_refuses_sets_that_nobody_asked_for_or_gave(tmp_path: Path) -> None:
    data = DataLoader(TensorDataset(torch.randn(8, 2), torch.arange(8) % 2), 4)
    model = nn.Sequential(nn.Identity(), nn.Linear(2, 2))
    without = ncexp.Recorder(tmp_path / "a", num_classes=2, classifier="1")
    with pytest.raises(ValueError, match="outside: expected the analysis of this name with it, got analyses collapse,"):
        without.evaluate(1, model, data, data, outside={"other": data})
    asked: Any = {"outside": {"datasets": ["other", "noise"]}}
    recorder = ncexp.Recorder(tmp_path / "b", num_classes=2, classifier="1", analyses=asked)
    for given in ({}, {"other": data, "more": data}, {"mor": data}):
        with pytest.raises(ConfigError, match=r"analysis\.outside\.datasets: expected the names of what Recorder"):
            recorder.evaluate(1, model, data, data, outside=given)
    with pytest.raises(ConfigError, match="datasets: expected test examples to compare with, got none"):
        recorder.evaluate(1, model, data, outside={"other": data})


def test_numbers_that_statistics_do_not_tell_are_undefined(composed: Compose) -> None:
    """One example a class: Σ_W = 0, Σ_T has C − 1 directions, and three examples fill no fourth. Nothing else is."""
    one = ["dataset.examples_per_class=1", "batch_size=3"]
    config = check(composed(*HELD, *BOTH_SETS, *one))
    record = measured(assemble(config), config)
    undefined = {name for name, value in record.items() if "/outside/" in name and math.isnan(value)}
    numbers = [f"{kind}_{score}" for kind in ("auroc", "fpr95") for score in ("mahalanobis", "neco", "virtual_logit")]
    assert undefined == {f"test/outside/{of}/{number}" for of in ("held_out", "noise") for number in numbers}


def test_features_that_are_not_finite_leave_the_other_sets_alone(composed: Compose) -> None:
    config = check(composed(*HELD, *BOTH_SETS))
    assembly = assemble(config)
    assert assembly.dataset.held_out is not None
    assembly.dataset.held_out.inputs.fill_(math.inf)  # type: ignore[attr-defined]
    record = measured(assembly, config)
    outside = {name: value for name, value in record.items() if "/outside/" in name}
    assert {math.isnan(value) for name, value in outside.items() if "/held_out/" in name} == {True}
    assert {math.isnan(value) for name, value in outside.items() if "/noise/" in name} == {False}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["analysis.outside.datasets=[held_out]"], r"analysis\.outside\.datasets: expected held-out classes"),
        (["analysis.outside.datasets=[digits]"], r"analysis\.outside\.datasets: .*\(6,\), got \(1, 8, 8\) of digits"),
        (["analysis.outside.modules=[backbone.9]"], r"analysis\.outside\.modules: expected names of submodules"),
        (["analysis.outside.datasets=[]"], r"analysis\.outside\.datasets: expected"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_the_first_step(
    composed: Compose, outputs: Path, overrides: list[str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        train(composed("analysis=[outside]", *overrides))
    assert not [*outputs.glob("*/training.jsonl")]


def test_several_processes_are_refused(composed: Compose) -> None:
    config = check(composed("analysis=[outside]"))
    assembly = assemble(config)
    assembly.training.processes = Processes(0, 2)
    with pytest.raises(ConfigError, match=r"expected one process, got 2.*ncexp measure RUN analysis=outside"):
        measured(assembly, config)


@pytest.mark.slow
def test_measured_later_is_what_the_training_measures_to_the_last_bit(
    composed: Compose, console: Console, tmp_path: Path
) -> None:
    kept = "keep.checkpoints=evaluated"
    place = f"outputs={tmp_path / 'from_the_start'}"
    expected = journals(train(composed(*HELD, *BOTH_SETS, LAYER, kept, place)).path)
    later = train(composed(*HELD, "analysis=[]", kept)).path
    asked = check_measurement(compose("measure", [f"run={later}", "device=cpu", *BOTH_SETS, LAYER]))
    assert measure_stored(asked, console, lambda: False)[0] is State.COMPLETED
    found = journals(later)
    (name,) = (name for name in expected if "outside" in name)
    assert found[name] == expected[name]
    epochs = [line for line in found[name].splitlines() if line]
    assert len(epochs) == 4
    assert all(one != other for one, other in pairwise(epochs))


@pytest.mark.slow
def test_checkpoints_of_another_training_are_measured(
    composed: Compose, console: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ncexp.main.report_run", lambda *_, **__: None)
    config = check(composed(*HELD, *BOTH_SETS))
    assembly = assemble(config)
    expected = measured(assembly, config)
    torch.save(assembly.training.network.state_dict(), tmp_path / "epoch_1.pt")
    words = [word for word in SMALL if word.split("=")[0].partition(".")[0] in ("dataset", "architecture", "loss")]
    raw = compose(
        "checkpoints",
        [*words, *HELD, *BOTH_SETS, "optimizer.weight_decay=5e-4", f"checkpoints={tmp_path}/*.pt",
         f"outputs={tmp_path / 'outputs'}", "tracking.enabled=false"],
    )  # fmt: skip
    assert measure_checkpoints(raw, console) is State.COMPLETED
    (run,) = ncexp.load(tmp_path / "outputs")
    outside = {name: value for name, value in expected.items() if "/outside/" in name}
    assert len(outside) == 30
    assert {name: run.records[0][name] for name in outside} == outside
