"""Features tapped before the last layer of anybody's model; a model whose logits are not its output is refused."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from own_loops import network
from torch import Tensor, nn

from ncexp.measure import TappedNetwork


class Model(nn.Module):
    """after: what is made of the last layer's output; times: how often the last layer is called."""

    def __init__(self, after: Any = None, times: int = 1, positions: bool = False) -> None:
        super().__init__()
        self.body, self.fc = nn.Linear(6, 5), nn.Linear(5, 4)
        self.after, self.times, self.positions = after, times, positions

    def forward(self, inputs: Tensor) -> Any:
        features = self.body(inputs).relu()
        if self.positions:
            features = features[:, None].expand(-1, 3, -1)
        logits = features.sum(1)
        for _ in range(self.times):
            logits = self.fc(features)
        return logits if self.after is None else self.after(logits)


@pytest.mark.parametrize(
    "after",
    [None, lambda logits: SimpleNamespace(logits=logits), lambda logits: (logits, logits.exp())],
    ids=["tensor", "object", "pair"],
)
def test_features_are_the_inputs_of_the_last_layer(after: Any) -> None:
    model, inputs = Model(after), torch.randn(7, 6)
    for classifier in (model.fc, "fc"):
        logits, features = TappedNetwork(model, classifier)(inputs)
        assert torch.equal(features, model.body(inputs).relu())
        assert torch.equal(logits, model.fc(features))
    assert not model.fc._forward_pre_hooks


class Mixed(Model):
    """Switches autocast on by itself, as its authors wrote it."""

    def forward(self, inputs: Tensor) -> Any:
        with torch.autocast("cpu", torch.bfloat16):
            return super().forward(inputs)


def test_model_that_casts_by_itself_is_measured_as_it_is_written() -> None:
    model, inputs = Mixed(), torch.randn(64, 6)
    logits, features = TappedNetwork(model, "fc")(inputs)
    assert torch.equal(logits, model(inputs))
    assert logits.dtype == torch.bfloat16
    assert features.shape == (64, 5)
    with pytest.raises(ValueError, match="got another output"):
        TappedNetwork(Mixed(lambda logits: 1.1 * logits), "fc")(inputs)


@pytest.mark.slow
def test_submodules_keep_their_names_within_wrappers() -> None:
    model = network()
    for wrapped in (model, nn.DataParallel(model), torch.compile(model)):
        tapped = TappedNetwork(wrapped, "last")  # type: ignore[arg-type]
        assert [name for name, _ in tapped.named_modules()] == ["", "0", "1", "2", "3", "last"]
        assert tapped.classifier is model.last
        tapped.eval()
        assert not any(module.training for module in model.modules())
        model.train()


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (Model(lambda logits: logits.softmax(1)), r"expected logits = classifier\(features\), got another output"),
        (Model(lambda logits: 2 * logits), r"expected logits = classifier\(features\), got another output"),
        (Model(lambda logits: logits[:, :2]), r"expected logits \(7, 4\), as the classifier's output, got \(7, 2\)"),
        (Model(lambda logits: [logits]), r"an output with .logits or a tuple that begins with them, got list"),
        (Model(lambda logits: (None, logits)), r"an output with .logits or a tuple .*, got NoneType"),
        (Model(lambda logits: ()), r"an output with .logits or a tuple .*, got tuple"),
        (Model(lambda logits: (logits.softmax(1), logits)), r"expected logits = classifier\(features\), got another"),
        (Model(times=0), r"given features \(n, P\) once in a forward pass, got nothing"),
        (Model(times=2), r"once in a forward pass, got \(7, 5\), \(7, 5\)"),
    ],
)
def test_model_whose_output_is_not_the_logits_is_refused(model: Model, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        TappedNetwork(model, "fc")(torch.randn(7, 6))
    assert not model.fc._forward_pre_hooks


@pytest.mark.parametrize(
    ("classifier", "words"),
    [
        ("head", r"expected the name of an nn.Linear of the model, got 'head'. Valid: body, fc."),
        ("relu", "expected the name of an nn.Linear"),
        (nn.Linear(5, 4), "got a Linear that is none of body, fc"),
    ],
)
def test_classifier_that_is_none_of_the_models_layers_is_refused(classifier: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        TappedNetwork(Model(), classifier)
