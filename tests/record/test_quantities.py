"""The catalogue: every recorded number has a row, every row is recorded, and what is made from it is current."""

from __future__ import annotations

import io
from dataclasses import fields
from pathlib import Path

import pytest
import torch
from rich.console import Console

import ncexp
from ncexp.collapse import CollapseMetrics, MSEDecomposition
from ncexp.config.composing import compose_mapping
from ncexp.main import run
from ncexp.measure import compare_with_path
from ncexp.record import read_run
from ncexp.record.quantities import NC1, QUANTITIES, find, leading, panels, selected
from ncexp.record.quantity import PLACES
from ncexp.report.glossary import render_markdown

DOCS = Path(__file__).parents[2] / "docs"
#: Families that no training records.
OF_SIMULATIONS = ("theory/", "path/time")


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Names of all numbers of a run with every analysis, of its path fit, of a regression, of free features, and of a
    Recorder that measures the classes that occur.
    """
    outputs = tmp_path_factory.mktemp("outputs")
    more = "layers,depth,robustness,geometry,spectra,calibration,norms,outside"
    analyses = f"analysis=[collapse,decisions,decomposition,central_path,{more}]"
    data = ["dataset=gaussian_mixture", "dataset.num_classes=4", "dataset.num_features=6", "dataset.separation=20"]
    network = ["architecture=mlp", "architecture.hidden=[16,8]", "analysis.layers.modules=[backbone.0]"]
    network += ["analysis.depth.modules=[backbone.3,backbone.6]", "analysis.outside.modules=[backbone.3]"]
    few = ["epochs=20", "batch_size=20", "dataset.examples_per_class=20", "analysis.robustness.num_examples=4"]
    few.append("regime=on_path")  # plain runs have no fit/perp_share
    where = [f"outputs={outputs}", "tracking.enabled=false"]
    regression = ["dataset=synthetic_regression", "dataset.num_train=60", "epochs=1", "batch_size=60"]
    free = ["dataset=unconstrained", "architecture=unconstrained_features", "epochs=1", "batch_size=200", "loss=mse"]
    free += ["analysis=[geometry]", "analysis.geometry.minimum=true"]
    averaged = [*data, *network[:2], "epochs=1", "batch_size=20", "optimizer.average=ema", "analysis=[trained_weights]"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ncexp.main.report_run", lambda *_, **__: None)  # figures take seconds
        patch.setattr("ncexp.recorder.draw_run", lambda *_: None)
        for words in ([*data, *network, *few, analyses], regression, free):
            run(compose_mapping("config", [*words, *where]), Console(file=io.StringIO()))
        apart = [*averaged, f"outputs={outputs / 'averaged'}", "tracking.enabled=false"]
        run(compose_mapping("config", apart), Console(file=io.StringIO()))
        batches = [(torch.randn(40, 6, generator=torch.Generator().manual_seed(0)), torch.arange(40) % 3)]
        with ncexp.Recorder(outputs / "occurring", num_classes=5, classifier="0", classes="occurring") as recorder:
            occurring = recorder.evaluate(1, torch.nn.Sequential(torch.nn.Linear(6, 5)), batches, batches)
    saved, targets = read_run(next(outputs.glob("gaussian*mlp*"))), read_run(next(outputs.glob("synthetic*mlp*")))
    at_minimum = read_run(next(outputs.glob("unconstrained*")))
    trained = read_run(next(outputs.glob("averaged/gaussian*"))).records
    comparison = compare_with_path(saved)
    assert comparison is not None
    records = (
        *saved.records,
        *saved.training,
        *comparison.records(),
        *targets.records,
        *at_minimum.records,
        *trained,
        occurring,
    )
    return {name for record in records for name in record} - {"epoch"}


@pytest.mark.slow
def test_every_recorded_number_has_a_row(recorded: set[str]) -> None:
    assert [name for name in sorted(recorded) if find(name) is None] == []


@pytest.mark.slow
def test_every_row_is_recorded_on_each_of_its_splits(recorded: set[str]) -> None:
    rows = {(name.partition("/")[0], row.name) for name in recorded if (row := find(name))}
    expected = {(s, row.name) for row in QUANTITIES if not row.name.startswith(OF_SIMULATIONS) for s in row.splits}
    assert expected - rows == set()


def test_every_field_of_the_metrics_has_a_row() -> None:
    names = [f"train/collapse/{field.name}" for field in fields(CollapseMetrics)]
    names += [f"test/mse/{field.name}" for field in fields(MSEDecomposition)]
    assert [name for name in names if find(name) is None] == []


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("train/path/snr_12", "path/snr_<j>"),
        ("train/path/snr_ratio", "path/snr_ratio"),
        ("train/path_fit/mode_rms_3", "path_fit/mode_rms_<j>"),
        ("test/layers/backbone.3/cdnv", "layers/<module>/cdnv"),
        ("test/layers/backbone.3.0123456789/cdnv", "layers/<module>/cdnv"),
        ("test/robustness.0123456789/ratio", "robustness/ratio"),
        ("test/0123456789/error", "error"),
        ("test/outside/noise/auroc_energy", "outside/<set>/auroc_energy"),
        ("test/outside/noise.0123456789/nc5", "outside/<set>/nc5"),
        ("test/outside/svhn/backbone.3.0123456789/fpr95_neco", "outside/<set>/<module>/fpr95_neco"),
    ],
)
def test_find_strips_keys_modes_and_modules(name: str, row: str) -> None:
    assert (found := find(name)) is not None
    assert found.name == row


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("train/layers/backbone.3/cdnv", "backbone.3, CDNV"),
        ("test/outside/noise/nc5", "noise, NC5"),
        ("test/outside/noise/backbone.3/auroc_neco", "noise, backbone.3, AUROC, NECO of a layer"),
        ("train/path/snr_2", "ω_j"),
    ],
)
def test_label_says_the_module_and_the_set_of_a_number(name: str, label: str) -> None:
    assert (found := find(name)) is not None
    assert found.label_of(name).startswith(f"{label}: ")


def test_find_tells_numbers_without_a_row_and_the_error_of_the_steps() -> None:
    names = ("train/robustness/ratio", "test/collapse/equinorm_classifier", "test/mine/own", "x")
    assert [find(name) for name in names] == [None] * 4
    assert [row.short for name in ("fit/error", "train/error") if (row := find(name))] == ["running error", "error"]


def test_a_number_is_chosen_by_its_row_and_not_by_its_name() -> None:
    assert leading(NC1).on() == "train/collapse/nc1_trace"
    named = {path.name for path in (DOCS.parent / "ncexp").rglob("*.py") if "nc1_trace" in path.read_text()}
    assert named == {"quantities.py", "neural_collapse.py"}  # its row, and where it is computed


def test_places_name_splits_on_which_the_number_exists() -> None:
    for place in PLACES:
        names = selected(place)
        assert names
        assert [name for name, row in names if find(name) is not row] == []


def test_sources_name_the_theorem_that_splits_off_the_term() -> None:
    """Theorem 1: L = L_LS + L_LS⊥; theorem 2: L_LS = L_NC1 + L_NC2/3."""
    first = ("train/mse/loss_ls_perp", "train/path/perp_share", "fit/perp_share")
    theorems = dict.fromkeys(first, 1) | dict.fromkeys(("train/mse/loss_nc1", "train/mse/loss_nc23"), 2)
    sources = {name: row.source for name in theorems if (row := find(name))}
    assert sources == {name: f"HPD22 Thm. {theorem}" for name, theorem in theorems.items()}


def test_rows_have_labels_of_their_own_and_panels_one_scale() -> None:
    labels = [(row.label, row.name.partition("/")[0], row.splits) for row in QUANTITIES]
    assert len(set(labels)) == len(labels)
    assert all(row.meaning and row.source and row.at_collapse for row in QUANTITIES)
    for rows in panels().values():
        assert len({row.scale for row in rows}) == 1
        assert len({row.curve for row in rows}) == len(rows)


def test_documentation_of_quantities_is_current() -> None:
    """Make it anew with: ncexp list quantities --markdown > docs/quantities.md"""
    assert (DOCS / "quantities.md").read_text() == render_markdown()
