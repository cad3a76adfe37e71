"""A regression in a run: every number against NumPy, from the features that the network puts out."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from support import Compose, compose, journals, measured, train
from torch import nn

import ncexp
from ncexp.collapse import free_features_minimum
from ncexp.config import ConfigError, check
from ncexp.config.composing import compose_mapping
from ncexp.main import measure_checkpoints
from ncexp.measure import RecordedTraining
from ncexp.measure.snapshot import load_snapshot
from ncexp.record import RunDirectory, read_run
from ncexp.training import Assembly, Interrupted, assemble, load_weights

#: Three targets of unlike variance, twelve features.
DATA = [
    "dataset=synthetic_regression", "dataset.num_inputs=8", "dataset.variances=[2.0,0.5,0.1]", "dataset.num_train=120",
    "dataset.num_test=60", "architecture=mlp", "architecture.hidden=[16,12]", "loss=squared_error", "batch_size=40",
    "optimizer=sgd_digits", "optimizer.lr=0.05", "optimizer.weight_decay=1e-2", "epochs=4", "evaluate_at=[1,2,4]",
    "tracking.enabled=false",
]  # fmt: skip
#: Float32 features once in batches of the evaluation's size, once as a whole.
ROUNDING = 1e-6


def rows(assembly: Assembly, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Features (n, P) and targets (n, m), float64."""
    data = getattr(assembly.dataset, split)
    with torch.no_grad():
        _, features = assembly.training.network.eval()(next(data.batches(len(data)))[0])
    return features.double().numpy(), data.labels.double().numpy()


def best(features: np.ndarray, targets: np.ndarray, ridge: float) -> np.ndarray:
    """[W, b]ᵀ, (P + 1, m), of the least ½ Ave ‖·‖² + λ/2 ‖[W, b]‖²."""
    extended = np.c_[features, np.ones(len(features))]
    moments = extended.T @ extended / len(features) + ridge * np.eye(extended.shape[1])
    return np.linalg.solve(moments, extended.T @ targets / len(features))


@pytest.fixture(scope="module")
def run() -> tuple[Assembly, dict[str, Any]]:
    config = check(compose("config", DATA))
    assembly = assemble(config)
    return assembly, measured(assembly, config)


@pytest.mark.parametrize("split", ["train", "test"])
def test_errors_and_losses_equal_numpy(run: tuple[Assembly, dict[str, Any]], split: str) -> None:
    assembly, record = run
    (features, targets), (fitted, known) = rows(assembly, split), rows(assembly, "train")
    layer, ridge = assembly.training.network.classifier, 1e-2
    weight, bias = (part.detach().double().numpy() for part in (layer.weight, layer.bias))
    off = features @ weight.T + bias - targets
    variances = targets.var(0)
    wanted = {
        "loss": (off**2).sum() / len(off) / 2,
        "error": (off**2).sum() / len(off) / variances.sum(),
        "mse/loss": (off**2).sum() / len(off) / 2 + ridge / 2 * ((weight**2).sum() + (bias**2).sum()),
    }
    for j in range(3):
        wanted[f"targets/r_squared_{j + 1}"] = 1 - (off[:, j] ** 2).mean() / variances[j]
        wanted[f"targets/root_mean_square_error_{j + 1}"] = np.sqrt((off[:, j] ** 2).mean())
    own, mine = best(features, targets, ridge), np.c_[weight, bias].T
    extended = np.c_[features, np.ones(len(features))]
    apart = extended @ (mine - own)
    wanted["mse/loss_ls"] = ((extended @ own - targets) ** 2).sum() / len(off) / 2 + ridge / 2 * (own**2).sum()
    wanted["mse/loss_ls_perp"] = (apart**2).sum() / len(off) / 2 + ridge / 2 * ((mine - own) ** 2).sum()
    of_train = np.c_[features, np.ones(len(features))] @ best(fitted, known, ridge) - targets
    wanted["decisions/least_squares_error"] = (of_train**2).sum() / len(off) / variances.sum()
    if split == "train":
        wanted["path/classifier_distance"] = np.linalg.norm(mine - own) / np.linalg.norm(own)
        wanted["path/perp_share"] = wanted["mse/loss_ls_perp"] / wanted["mse/loss"]
        one, other = extended @ mine, extended @ own
        cosine = (one * other).sum() / np.linalg.norm(one) / np.linalg.norm(other)
        wanted["path/prediction_angle"] = math.degrees(math.acos(cosine))
        wanted["mse/ridge_weight"] = ridge
    for name, value in wanted.items():
        assert record[f"{split}/{name}"] == pytest.approx(value, rel=ROUNDING), name
    assert wanted["mse/loss"] == pytest.approx(wanted["mse/loss_ls"] + wanted["mse/loss_ls_perp"], rel=ROUNDING)


@pytest.mark.parametrize("split", ["train", "test"])
def test_regression_collapse_equals_numpy(run: tuple[Assembly, dict[str, Any]], split: str) -> None:
    assembly, record = run
    (features, targets), (fitted, _) = rows(assembly, split), rows(assembly, "train")
    weight = assembly.training.network.classifier.weight.detach().double().numpy()
    principal = np.linalg.svd(fitted - fitted.mean(0), full_matrices=False)[2][:3].T
    span = np.linalg.qr(weight.T)[0]

    def outside(vectors: np.ndarray, basis: np.ndarray) -> float:
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return float(((unit - unit @ basis @ basis.T) ** 2).sum(1).mean())

    variances = np.linalg.eigvalsh(np.cov(features.T, bias=True))[::-1]
    wanted = {
        "nrc1": outside(features, principal),
        "nrc2": outside(features, span),
        "nrc1_centered": outside(features - fitted.mean(0), principal),
        "nrc2_centered": outside(features - fitted.mean(0), span),
        "explained_variance": variances[:3].sum() / variances.sum(),
    }
    for name, value in wanted.items():
        assert record[f"{split}/nrc/{name}"] == pytest.approx(value, rel=ROUNDING), name
    scales, turned = np.linalg.eigh(np.cov(targets.T, bias=True))
    gram = weight @ weight.T / np.linalg.norm(weight @ weight.T)

    def distance(gamma: float) -> float:
        goal = turned @ np.diag(np.sqrt(scales) - np.sqrt(gamma)) @ turned.T
        return float(((gram - goal / np.linalg.norm(goal)) ** 2).sum())

    tried = min(distance(gamma) for gamma in np.linspace(0, scales[0], 2001))
    assert record[f"{split}/nrc/nrc3"] == pytest.approx(tried, rel=1e-4)
    assert record[f"{split}/nrc/nrc3"] <= tried * (1 + 1e-9)


def test_errors_are_told_in_the_unit_of_the_target() -> None:
    kept = [one for one in DATA if not one.startswith("dataset")]
    config = check(compose("config", [*kept, "dataset=diabetes"]))
    assembly = assemble(config)
    record = measured(assembly, config)
    assert assembly.dataset.targets is not None
    (scale,) = assembly.dataset.targets.scales
    assert 70 < scale < 85  # of the progression, 25 to 346
    share = record["test/error"] * float(assembly.dataset.test.labels.double().var(correction=0))
    assert record["test/targets/root_mean_square_error_1"] == pytest.approx(scale * share**0.5, rel=ROUNDING)
    assert math.isnan(record["test/nrc/nrc3"])  # of one target


@pytest.mark.slow
def test_regression_that_is_interrupted_goes_on_byte_for_byte(tmp_path: Path) -> None:
    raw = compose_mapping("config", [*DATA, f"outputs={tmp_path / 'whole'}"])
    whole = train(raw)
    again = raw | {"outputs": str(tmp_path / "parts")}
    config = check(again)
    directory = RunDirectory(config.directory)
    recorded = RecordedTraining(config, directory, assemble(config))
    steps = iter([False] * 4 + [True])
    with directory.locked(), pytest.raises(Interrupted):
        list(recorded.epochs(lambda: next(steps)))
    assert journals(train(again).path) == journals(whole.path)
    run = read_run(whole.path)
    assert run.is_regression
    assert "fit/error" not in run.training[0]
    assert run.facts["targets"] == ["y1", "y2", "y3"]


@pytest.mark.slow
@pytest.mark.parametrize("decay", ["1e-2", "0.0"])
def test_regression_on_the_path_stays_on_it(tmp_path: Path, decay: str) -> None:
    words = [
        *DATA,
        f"outputs={tmp_path}",
        "regime=on_path",
        f"optimizer.weight_decay={decay}",
        "keep.snapshots=evaluated",
    ]
    directory = train(compose_mapping("config", words))
    run = read_run(directory.path)
    assert all(record["fit/perp_share"] < 1e-20 for record in run.training)
    assert all(record["train/path/perp_share"] < 1e-9 for record in run.records)
    assert run.records[-1]["train/mse/loss_ls"] < run.records[0]["train/mse/loss_ls"]
    assert load_snapshot(directory.snapshot(4), directory.key).target_scales == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["loss=mse"], "expected a loss of targets, which these data have, got mse, of classes. Choose squared_error"),
        (["architecture.hidden=[16,2]"], "expected at least as many features as the 3 targets, got 2"),
        (["regime=renormalized", "batch_size=120"], "expected plain or on_path with targets"),
        (["analysis=[collapse,geometry]"], r"analysis\.geometry: expected analyses of targets"),
        (["dataset.noise=1.5"], "expected a share below 1"),
        (["dataset.num_inputs=5"], "expected at least 2 m = 6 for 3 variances, got 5"),
    ],
)
def test_what_does_not_go_with_targets_is_refused(words: list[str], message: str) -> None:
    config = check(compose("config", [*DATA, *words]))
    with pytest.raises(ConfigError, match=message):
        measured(assemble(config), config)


def test_loss_of_targets_is_refused_for_classes(composed: Compose) -> None:
    with pytest.raises(ConfigError, match="expected a loss of classes, which these data have, got huber, of targets"):
        assemble(check(composed("loss=huber")))


def test_recorder_measures_a_regression(tmp_path: Path) -> None:
    torch.manual_seed(0)
    inputs = torch.randn(90, 5)
    targets = torch.stack([inputs[:, 0] + inputs[:, 1] ** 2, inputs[:, 2]], 1)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(inputs, targets), 20)
    model = nn.Sequential(nn.Linear(5, 12), nn.ReLU(), nn.Linear(12, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=1e-3)
    with ncexp.Recorder(tmp_path / "mine", targets=["a", "b"], classifier="2", optimizer=optimizer) as recorder:
        numbers = recorder.evaluate(1, model, loader)
    with torch.no_grad():
        off = (model(inputs) - targets).double()
    assert numbers["train/loss"] == pytest.approx(float(off.square().sum()) / 180, rel=ROUNDING)
    assert numbers["train/mse/ridge_weight"] == 1e-3
    run = read_run(tmp_path / "mine")
    assert run.facts["targets"] == ["a", "b"]
    assert (tmp_path / "mine/figures/regression_collapse.png").exists()
    wrong = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(inputs, torch.zeros(90).long()), 20)
    other = ncexp.Recorder(tmp_path / "other", targets=["a", "b"], classifier="2")
    message = r"train_loader: expected targets \(n, 2\) of floating numbers, got torch.int64"
    with pytest.raises(ValueError, match=message):
        other.evaluate(1, model, wrong)


@pytest.mark.parametrize("given", [{}, {"num_classes": 2, "targets": ["a", "b"]}])
def test_recorder_wants_classes_or_targets(tmp_path: Path, given: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="num_classes: expected C, or targets"):
        ncexp.Recorder(tmp_path / "mine", classifier="2", **given)


@pytest.mark.slow
def test_free_features_are_trained_to_the_minimum_in_closed_form(tmp_path: Path) -> None:
    n, decay = 40, 5e-3
    words = [
        "dataset=unconstrained_targets", f"dataset.num_examples={n}", "architecture=unconstrained_features",
        "architecture.num_features=6", "loss=squared_error", f"batch_size={n}", "optimizer=sgd",
        "optimizer/schedule=constant", "optimizer.lr=1.0", "optimizer.momentum=0.9",
        f"optimizer.weight_decay={decay}", "epochs=1500", "tracking.enabled=false", f"outputs={tmp_path}",
        "keep.checkpoints=last",
    ]  # fmt: skip
    raw = compose_mapping("config", words)
    directory = train(raw)
    last = read_run(directory.path).records[-1]
    assembly = assemble(check(raw))
    load_weights(directory.checkpoint(1500), assembly.training.network, directory.key)
    network: Any = assembly.training.network
    features, targets = network.backbone.table.detach(), assembly.dataset.train.labels.double()
    whole = last["train/mse/loss"] + decay / 2 * float(features.square().sum())
    least = free_features_minimum(targets, 6, weight_ridge=decay, feature_ridge=n * decay)
    assert whole == pytest.approx(least.loss, rel=1e-6)
    assert last["train/nrc/gamma"] == pytest.approx(n * decay**2, rel=1e-4)
    for name in ("nrc1", "nrc2", "nrc1_centered", "nrc2_centered", "nrc3"):
        assert last[f"train/nrc/{name}"] < 1e-6, name
    assert last["train/nrc/explained_variance"] == pytest.approx(1, abs=1e-6)


def three_layers(num_classes: int) -> nn.Module:
    """The network of a training that ncexp knows only by its files."""
    return nn.Sequential(nn.Linear(3, 16), nn.ReLU(), nn.Linear(16, num_classes))


@pytest.mark.slow
def test_checkpoints_of_another_regression_are_measured(tmp_path: Path, console: Console) -> None:
    torch.manual_seed(0)
    inputs = torch.randn(50, 3)
    targets = torch.stack([inputs[:, 0] + inputs[:, 1] ** 2, inputs[:, 2]], 1)
    table = tmp_path / "table.csv"
    lines = [",".join(map(repr, row)) for row in torch.cat([inputs, targets], 1).tolist()]
    table.write_text("\n".join(["u,v,w,a,b", *lines]) + "\n")
    model = three_layers(2)
    torch.save({"epoch": 3, "state_dict": model.state_dict()}, tmp_path / "epoch3.pt")
    words = [
        f"checkpoints={tmp_path / 'epoch3.pt'}", "dataset=table", f"dataset.path={table}", "dataset.target=[a,b]",
        f"dataset.test_path={table}", "dataset.standardize=none", "loss=squared_error", "optimizer.weight_decay=1e-3",
        "architecture=module", f"architecture.factory={__name__}.three_layers", "tracking.enabled=false",
        f"outputs={tmp_path / 'outputs'}",
    ]  # fmt: skip
    assert measure_checkpoints(compose("checkpoints", words), console) == "completed"
    (path,) = (tmp_path / "outputs").glob("table-*")
    (record,) = read_run(path).records
    with torch.no_grad():
        predicted = model(inputs).double().numpy()
    wanted = targets.double().numpy()
    scales = wanted.std(0)
    off = predicted - (wanted - wanted.mean(0)) / scales  # targets are standardised
    assert record["train/error"] == pytest.approx((off**2).sum() / 50 / 2, rel=1e-5)
    assert record["test/targets/root_mean_square_error_1"] == pytest.approx(
        scales[0] * np.sqrt((off[:, 0] ** 2).mean()), rel=1e-5
    )
