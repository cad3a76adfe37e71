"""NC4: the certified float32 products and the float64 decisions they stand for."""

import pytest
import torch
from drawn_features import draw
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ncexp.collapse import LinearClassifier, class_statistics, nearest_class_center_mismatch
from ncexp.collapse import nearest_class_center as nearest_class_center_module


def test_nearest_class_center_mismatch_equals_brute_force(monkeypatch):
    features, labels, classifier = draw(6, 4, 200)
    means = class_statistics(features, labels, 6).class_means
    decisions = (features @ classifier.weight.T + classifier.bias).argmax(1)
    nearest = torch.cdist(features, means, compute_mode="donot_use_mm_for_euclid_dist").argmin(1)
    expected = float((decisions != nearest).double().mean())
    assert 0 < expected < 1
    assert nearest_class_center_mismatch(features, classifier, means) == expected
    monkeypatch.setattr(nearest_class_center_module, "_BLOCK_SCORES", 7 * 6)
    monkeypatch.setattr(nearest_class_center_module, "_LEAST_ROWS", 1)
    assert nearest_class_center_mismatch(features, classifier, means) == expected


@pytest.mark.slow
@given(
    num_classes=st.integers(2, 9),
    num_features=st.integers(1, 40),
    offset=st.sampled_from([0.0, 1.0, 1e4]),
    gap=st.sampled_from([0.0, 1e-8, 1e-7, 1e-6, 1e-4, 1.0]),
    scale=st.sampled_from([1e-42, 1e-30, 1e-20, 1.0, 1e20, 1e37]),
    of_weight=st.sampled_from([1e-60, 1e-40, 1.0, 1e30, 1e60]),
    dtype=st.sampled_from([torch.bfloat16, torch.float16, torch.float32]),
    seed=st.integers(0, 2**20),
)
@settings(max_examples=300, deadline=None)
def test_nearest_class_center_mismatch_in_float32_is_that_of_float64(
    num_classes, num_features, offset, gap, scale, of_weight, dtype, seed
):
    """Examples all but on the boundary between two class means, and on that of the layer, by `gap`."""
    generator = torch.Generator().manual_seed(seed)

    def gaussian(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    means = scale * (offset + gaussian(num_classes, num_features))
    pairs = torch.randint(num_classes, (200, 2), generator=generator)
    features = means[pairs].mean(1) + gap * scale * gaussian(200, num_features)
    largest = torch.finfo(dtype).max / 2
    features = features.clamp(-largest, largest).to(dtype)
    weight = means / scale + gap * gaussian(num_classes, num_features)
    classifier = LinearClassifier(of_weight * weight, of_weight * scale * -weight.square().sum(1) / 2)
    expected = nearest_class_center_mismatch(features.double(), classifier, means)
    assert nearest_class_center_mismatch(features, classifier, means) == expected


@pytest.mark.parametrize("num_features", [1, 7, 512, 8192])
@pytest.mark.parametrize("kind", ["random", "one sign", "cancelling", "tiny", "offset"])
def test_float32_scores_stay_within_the_bound(num_features, kind):
    """Every score against float64, also where all roundings have one sign; and the bound is not an empty one."""
    generator = torch.Generator().manual_seed(0)
    means, features = (torch.randn(n, num_features, generator=generator).double() for n in (5, 400))
    weight = torch.randn(5, num_features, generator=generator).double()
    if kind == "one sign":
        features, weight = torch.full_like(features, 1 / 3), torch.full_like(weight, 1 + 2.0**-23)
    elif kind == "cancelling":
        features[:, 1::2] = -features[:, ::2][:, : num_features // 2]
        weight[:, 1::2] = weight[:, ::2][:, : num_features // 2]
    elif kind == "tiny":
        features, weight, means = 1e-25 * features, 1e-18 * weight, 1e-25 * means
    elif kind == "offset":
        features, means = features + 1e4, means + 1e4
    features = features.float()
    classifier = LinearClassifier(weight, torch.randn(5, generator=generator))
    center = means.mean(0).float().double()
    nearest = LinearClassifier(means - center, -(means - center).square().sum(1) / 2)
    decisions = nearest_class_center_module._CertainDecisions([classifier], nearest, center)
    centered = features - center.float()
    measured = torch.addmm(decisions._constants, centered, decisions._rows).unflatten(1, (2, 5)).double()
    exact = torch.stack([classifier(features), nearest(features.double() - center)], 1)
    bound = (centered.norm(dim=1, keepdim=True) * decisions._slope + decisions._offset).double() / 2
    used = (measured - exact).abs().amax(2) / bound
    assert used.max() <= 1
    if kind == "one sign":
        assert used.max() > 5e-3 / num_features**0.5


def test_few_examples_are_left_to_float64_and_the_precision_is_obeyed(monkeypatch):
    features, labels, classifier = draw(10, 64, 2000)
    means, seen = class_statistics(features, labels, 10).class_means, []
    expected = nearest_class_center_mismatch(features.float().double(), classifier, means)

    def count(self: LinearClassifier, rows: Tensor) -> Tensor:
        seen.append(len(rows))
        return rows.double() @ self.weight.T + self.bias

    monkeypatch.setattr(LinearClassifier, "__call__", count)
    with torch.autocast("cpu", torch.bfloat16):
        assert nearest_class_center_mismatch(features.float(), classifier, means) == expected
    assert max(seen[1:]) < 0.02 * len(features)
    seen.clear()
    monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: "high")
    assert nearest_class_center_mismatch(features.float(), classifier, means) == expected
    assert sum(seen) == 2 * len(features)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("num_classes", "num_features"), [(2, 300), (300, 2)])
def test_nearest_class_center_mismatch_needs_a_block_of_memory(num_classes, num_features, dtype, monkeypatch):
    monkeypatch.setattr(nearest_class_center_module, "_BLOCK_SCORES", 10_000)
    monkeypatch.setattr(nearest_class_center_module, "_LEAST_ROWS", 1)
    features, labels, classifier = draw(num_classes, num_features, 3000)
    means = class_statistics(features, labels, num_classes).class_means
    features, largest = features.to(dtype), 0

    class Largest(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            nonlocal largest
            result = function(*args, **(kwargs or {}))
            if isinstance(result, Tensor) and result.untyped_storage().data_ptr() != features.data_ptr():
                largest = max(largest, result.untyped_storage().nbytes())
            return result

    with Largest():
        nearest_class_center_mismatch(features, classifier, means)
    assert largest <= 8 * 10_000


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda h, means: (h, means[:4]), r"classifier: expected weight of shape \(C, P\) = \(4, 7\)"),
        (lambda h, means: (h[:, :6], means), "features: expected width P = 7"),
        (lambda h, means: (h[:0], means), "features: expected at least one example"),
        (lambda h, means: (h / 0, means), "features: expected finite"),
    ],
)
def test_nearest_class_center_mismatch_refusals(spoil, message):
    features, labels, classifier = draw(5, 7, 100)
    features, means = spoil(features, class_statistics(features, labels, 5).class_means)
    with pytest.raises(ValueError, match=message):
        nearest_class_center_mismatch(features, classifier, means)
