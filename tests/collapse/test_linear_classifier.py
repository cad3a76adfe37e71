"""The last layer as the mathematics has it."""

import pytest
import torch

from ncexp.collapse import LinearClassifier


def test_linear_classifier_is_a_snapshot_in_float64():
    layer = torch.nn.Linear(3, 2).double()
    classifier = LinearClassifier(layer.weight, layer.bias)
    features = torch.ones(4, 3, dtype=torch.bfloat16)
    before = classifier(features)
    assert torch.equal(before, layer(features.double()))
    torch.nn.init.zeros_(layer.weight)
    assert torch.equal(classifier(features), before)
    assert not before.requires_grad
    assert torch.equal(classifier.to("cpu").weight, classifier.weight)
    assert torch.equal(LinearClassifier(classifier.weight)(features), before - classifier.bias)


@pytest.mark.parametrize(
    ("weight", "bias", "message"),
    [
        (torch.zeros(1, 3), None, r"weight: expected a floating \(C, P\) tensor with C >= 2, got \(1, 3\)"),
        (torch.zeros(2, 3, dtype=torch.int64), None, "weight: expected a floating"),
        (torch.zeros(2, 3), torch.zeros(3), r"bias: expected shape \(2,\)"),
        (torch.full((2, 3), torch.nan), None, "weight: expected finite values"),
        (torch.zeros(2, 3), torch.full((2,), torch.inf), "bias: expected finite values"),
    ],
)
def test_linear_classifier_refusals(weight, bias, message):
    with pytest.raises(ValueError, match=message):
        LinearClassifier(weight, bias)
