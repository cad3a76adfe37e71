"""docs/reproductions.md against the numbers in docs/summaries, and the parts that compute them against other ways."""

from __future__ import annotations

import copy
import importlib.util
import json
import math
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).parents[1]
PAGE = REPOSITORY / "docs" / "reproductions.md"


def script(path: str) -> Any:
    spec = importlib.util.spec_from_file_location(Path(path).stem, REPOSITORY / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # a dataclass looks its module up there
    spec.loader.exec_module(module)
    return module


TABLE = script("docs/reproductions_table.py")


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(str(REPOSITORY / "benchmarks"))
    yield script("benchmarks/reproductions.py")
    del sys.modules["reproductions"]


def test_page_is_what_its_script_makes_of_the_summaries() -> None:
    assert TABLE.page() == PAGE.read_text()


def test_no_number_of_ours_is_written_in_the_script(monkeypatch: pytest.MonkeyPatch) -> None:
    unknown = {name: _unknown(part) for name, part in TABLE.summary("reproductions").items()}
    assert all(set(_decimals(row.cells()[3])) - SETTINGS for row in TABLE.rows())
    monkeypatch.setattr(TABLE, "summary", lambda name: unknown)
    for row in TABLE.rows():
        assert not set(_decimals(row.cells()[3])) - SETTINGS, row.part


#: Decays, ridges and levels that cells name beside the numbers they belong to.
SETTINGS = {"0.1", "0.05", "0.5", "0.005", "0.0005", "0.002", "0.001", "1e-05", "1e-09", "0.0", "0.9"}


def _decimals(text: str) -> list[str]:
    return re.findall(r"(?<![\w.])(?:\d+\.\d+(?:e-?\d+)?|\d+e-?\d+)(?![\w])", text)


def _unknown(value: Any) -> Any:
    """Every number that is none of a count: inf."""
    if isinstance(value, dict):
        return {name: _unknown(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_unknown(one) for one in value]
    return math.inf if isinstance(value, float) else value


@pytest.mark.parametrize(
    ("place", "path", "value"),
    [
        ("growth", ["exponent", 2], 0.26),
        ("momentum", ["0.5"], [0.5, 0.5]),
        ("imbalanced", ["3", "H"], 0.1),
        ("landscape", ["reached"], 19),
        ("lower_rank", ["15 classes, 4 layers"], -1.0),
        ("deep_entropy", ["10"], 0.0),
        ("regression", ["0"], [[0.0, 0.0, 0.0]] * 3),
        ("fixed_head", ["saved %"], 19.0),
        ("seli", ["10, 1e-07"], [0.5, 0.5]),
        ("gains", ["MSE", "median", 1], 0.1),
        ("row_sum", ["adam coupled", "nc0_classifier end", 2], 9.0),
    ],
)
def test_verdict_follows_the_numbers(place: str, path: list[str | int], value: object) -> None:
    row = next(row for row in TABLE.ROWS if row.part == place)
    numbers = copy.deepcopy(TABLE.summary("reproductions")[place])
    if place == "deep_entropy":
        numbers = dict.fromkeys(numbers, 0.0)
    assert row.verdict(numbers).startswith("**agrees**") is (place != "deep_entropy")
    inner = numbers
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = value
    assert row.verdict(numbers).startswith("**differs**")


@pytest.mark.parametrize(
    ("least", "largest", "word"), [(0.1, 0.3, "agrees"), (-0.3, -0.1, "differs"), (-0.1, 0.3, "cannot be tested here")]
)
def test_robustness_is_judged_by_the_band_of_its_median(least: float, largest: float, word: str) -> None:
    row = next(row for row in TABLE.ROWS if row.part == "robustness")
    assert row.verdict({"MSE robustness": {"median": [least, 0.2, largest]}}).split("**")[1] == word


def test_numbers_read_from_references_and_pages_are_still_theirs() -> None:
    summary = TABLE.summary("reproductions")

    def middle(name: str, quantity: str, epoch: str) -> float:
        content = json.loads((REPOSITORY / "reference" / f"{name}.json").read_text())
        return float(content["bands"][quantity][epoch][1])

    ends = {"main": "350", "fashion_mnist_vgg_mse_mean": "45", "quick_resnet_cross_entropy": "80"}
    curves = [of for name, of in summary["curves"].items() if name != "seconds"]
    for (name, last), of in zip(ends.items(), curves, strict=True):
        for curve, quantity in (("NC1", "train/collapse/nc1_trace"), ("L_LS⊥", "train/mse/loss_ls_perp")):
            assert of[curve] == pytest.approx([middle(name, quantity, epoch) for epoch in ("1", last)], rel=1e-4)
    won = [middle("quick_densenet_cross_entropy", "test/error", epoch) for epoch in ("19", "80")]
    assert summary["gains"]["CE"]["cells"]["digits, densenet"] == pytest.approx(100 * (won[0] - won[1]), rel=1e-4)
    assert summary["gains"]["MSE"]["cells"]["Fashion-MNIST, ResNet-18"] == pytest.approx(26.3 - 23.0)
    assert "| 26.3 → 23.0 |" in (REPOSITORY / "docs" / "fashion_mnist.md").read_text()
    assert summary["imbalanced"]["9"] == {"outputs": 9e-16, "W": 3e-14, "H": 3e-14}
    assert "| 9 | 7e-13 | 9e-16 | < 1e-29 | 3e-14 | 3e-14 |" in (REPOSITORY / "docs" / "free_features.md").read_text()


def test_rows_are_eight_at_least_and_name_their_sources() -> None:
    assert len(TABLE.rows()) >= 8
    assert all(row.source and row.printed for row in TABLE.ROWS)
    assert {*TABLE.NOTES_OF} == {row.part for row in TABLE.ROWS}


def test_parts_of_the_script_are_those_of_the_rows(parts: Any) -> None:
    assert {*parts.PARTS} == {row.part for row in TABLE.ROWS if row.summary == "reproductions"}
    assert {*parts.PARTS} >= {*TABLE.summary("reproductions")}


def test_saved_parameters_are_those_counted_by_hand(parts: Any) -> None:
    gone = 512 * 512 * 9 + 2 * 512 + 512 * 10 + 10  # the last convolution, its batch norm, the last layer
    narrow = 512 * 10 * 9 + 20 + 512 * 10 + 20  # to ten channels, and the shortcut
    assert parts.saved_parameters(10) == pytest.approx((gone - narrow) / 11_181_642, rel=1e-12)


def test_cdnv_and_few_shot_error_equal_their_definitions(parts: Any) -> None:
    import numpy as np
    import torch

    draw = np.random.default_rng(0)
    labels = np.repeat(range(3), [7, 9, 8])
    features = draw.normal(size=(24, 4)) + 0.3 * draw.normal(size=(3, 4))[labels]
    means = [features[labels == c].mean(0) for c in range(3)]
    spread = [np.mean([np.sum((h - means[c]) ** 2) for h in features[labels == c]]) for c in range(3)]
    pairs = [(a, b) for a in range(3) for b in range(3) if a != b]
    expected = np.mean([(spread[a] + spread[b]) / 2 / np.sum((means[a] - means[b]) ** 2) for a, b in pairs])
    given = torch.from_numpy(features), torch.from_numpy(labels)
    assert parts.cdnv(*given, 3) == pytest.approx(expected, rel=1e-12)

    order = torch.randperm(24, generator=torch.Generator().manual_seed(0)).numpy()
    chosen = [[i for i in order if labels[i] == c][:2] for c in range(3)]
    centers = np.array([features[rows].mean(0) for rows in chosen])
    rest = [i for i in range(24) if not any(i in rows for rows in chosen)]
    wrong = [np.argmin(((features[i] - centers) ** 2).sum(1)) != labels[i] for i in rest]
    assert parts.few_shot_error(*given, 2, 1) == pytest.approx(np.mean(wrong))
    assert 0 < np.mean(wrong) < 1


def test_free_features_of_a_class_are_a_minimum_of_all_examples(parts: Any) -> None:
    import torch

    sizes, ridge = torch.tensor([5, 3, 1]), 1e-2
    least, means, weight = parts._free_entropy(sizes, ridge, 0)
    labels = torch.repeat_interleave(torch.arange(3), sizes)
    features, weight = means[labels].requires_grad_(), weight.requires_grad_()
    loss = torch.nn.functional.cross_entropy(features @ weight.T, labels)
    whole = loss + ridge / 2 * (features.square().sum() + weight.square().sum())
    assert float(whole.detach()) == pytest.approx(least, rel=1e-12)
    assert max(float(slope.abs().max()) for slope in torch.autograd.grad(whole, [features, weight])) < 1e-7
