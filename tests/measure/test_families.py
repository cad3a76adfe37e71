"""Every family of torchvision and timm, one small model each, some of Transformers: docs/anybody.md is right."""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch.nn.functional import linear

ROOT = Path(__file__).parents[2]
#: Rows of the table in docs/anybody.md.
PACKAGES = ("| torchvision |", "| timm |", "| transformers |")
LINES = (ROOT / "docs/anybody.md").read_text().splitlines()
ROWS = [line for line in LINES if line.startswith(PACKAGES) and line.count("|") == 9]
#: float32 logits against the layer's own product in float64, relative to the largest.
ROUNDING = 1e-5


@pytest.fixture(scope="module")
def families() -> ModuleType:
    pytest.importorskip("timm")
    sys.path.insert(0, str(ROOT / "docs"))
    import families

    return families


def test_table_has_a_row_for_every_family() -> None:
    timm = pytest.importorskip("timm")
    from torchvision import models

    named = {tuple(cell.strip() for cell in row.split("|")[1:3]) for row in ROWS}
    assert {family for package, family in named if package == "timm"} >= {*timm.list_modules()}
    builders = {models.get_model_builder(name).__module__ for name in models.list_models(module=models)}
    assert {family for package, family in named if package == "torchvision"} == {
        builder.rpartition(".")[2] for builder in builders
    }


@pytest.mark.slow
@pytest.mark.parametrize("line", ROWS, ids=[" ".join(row.split("|")[1:3]).strip() for row in ROWS])
def test_family_is_measured_as_the_table_says(families: ModuleType, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(families, "make", cache(families.make))  # some take seconds to make
    row = families.Row.of(line)
    assert families.row_of(row.package, row.family, row.model, twice=False) == row
    if not row.images:
        return
    side, _, option = row.images.partition(" ")
    network = families.make(row.package, row.model, int(side), option)
    given: list[torch.Tensor] = []
    handle = network.classifier.register_forward_pre_hook(lambda module, inputs: given.append(inputs[0]))
    with torch.no_grad():
        logits, features = network(torch.randn(3, 3, int(side), int(side)))
    handle.remove()
    assert torch.equal(features, given[-1])
    assert features.shape == (3, int(row.p))
    layer = network.classifier.requires_grad_(False)
    expected = linear(features.double(), layer.weight.double(), None if layer.bias is None else layer.bias.double())
    rounding = (
        ROUNDING * float(expected.abs().max()) + torch.finfo(torch.float32).tiny
    )  # some begin with logits of 1e-41
    assert float((logits - expected).abs().max()) <= rounding
