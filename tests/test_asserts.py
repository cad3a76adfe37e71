"""No safety rests on `assert`, which `python -O` leaves out: what a caller can bring about is checked."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import torch

from ncexp.collapse import ClassStatistics, LinearClassifier, class_statistics, gradient_flow, least_squares
from ncexp.collapse.gradient_flow import integrate, renormalized_gradient_flow
from ncexp.measure.loaders import LoadedExamples
from ncexp.training import Processes

ROOT = Path(__file__).parents[1]
SOURCES = sorted([*(ROOT / "ncexp").rglob("*.py"), *(ROOT / "hydra_plugins").rglob("*.py")])
FEATURES = torch.randn(12, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(12) % 3


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_assert_tells_mypy_a_type_and_checks_nothing(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Assert):
            said = ast.unparse(node.test)
            assert said.startswith("isinstance(") or said.endswith(" is not None"), f"line {node.lineno}: {said}"


def test_flow_that_cannot_be_integrated_is_refused() -> None:
    """dx/dt = x² from 1 has no solution beyond t = 1."""
    with pytest.raises(ValueError, match=r"times: expected a flow that can be integrated to 2.0, got: "):
        integrate(torch.square, torch.ones(1, dtype=torch.float64), torch.tensor([2.0]))


def test_flow_that_leaves_its_constraint_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gradient_flow, "_HELD", 0.0)
    with pytest.raises(ValueError, match=r"expected a flow that keeps Σ_W = I to 0\.0, got"):
        renormalized_gradient_flow(FEATURES, LABELS, 3, torch.tensor([0.1]))


def test_least_loss_above_that_of_a_layer_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(least_squares, "IDENTITY", -1.0)
    layer = LinearClassifier(torch.zeros(3, 3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64))
    with pytest.raises(ValueError, match="statistics: expected L_LS of at most"):
        least_squares.decompose_mse(class_statistics(FEATURES, LABELS, 3), layer, 0.01)


def test_statistics_of_contradicting_shapes_are_refused() -> None:
    eye = torch.eye(3, dtype=torch.float64)
    for name, wrong in (("counts", torch.ones(2)), ("within_class_variances", torch.ones(4))):
        parts = {"counts": torch.ones(3), "within_class_variances": torch.ones(3), name: wrong}
        with pytest.raises(ValueError, match=rf"{name}: expected shape \(3,\) beside class means"):
            ClassStatistics(class_means=eye, within_class_covariance=eye, **parts)
    with pytest.raises(ValueError, match=r"within_class_covariance: expected shape \(3, 3\)"):
        ClassStatistics(torch.ones(3), eye, eye[:2], torch.ones(3))


def test_loader_moved_to_another_device_is_refused() -> None:
    examples = LoadedExamples("train", [(FEATURES, LABELS)], torch.device("cpu"), Processes())
    with pytest.raises(ValueError, match="train_loader: expected the device of its batches, cpu, got meta"):
        examples.to(torch.device("meta"))
    with pytest.raises(ValueError, match="train_loader: expected to begin with its first example, got start = 1"):
        next(examples.batches(start=1))
