"""What every network, ours or not, answers: (logits, features), and a linear last layer named `classifier`."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ncexp.architectures.classifiers import Classifier, make_classifier

#: |features @ Wᵀ + b − logits|, relative to the largest logit: float32 sums of up to 10⁴ terms in another order.
LAST_LAYER_TOLERANCE = 1e-4


class Network(nn.Module):
    """A backbone and the linear classifier on its features: inputs (n, *shape) → logits (n, C), features (n, P).

    classifier: "linear", trained with the rest, or "simplex_etf", which stays what it is (`SimplexETFClassifier`).
    """

    def __init__(
        self, backbone: nn.Module, num_features: int, num_classes: int, classifier: Classifier = "linear"
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.classifier = make_classifier(classifier, num_features, num_classes)

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        features = self.backbone(inputs)
        return self.classifier(features), features


def last_layer(network: nn.Module, inputs: Tensor) -> nn.Linear:
    """The network's `classifier`, after looking that it is what the measurements take it for.

    inputs: a few examples. The network is run on them once, in eval mode, and left in the mode it was in.
    Raises ValueError where the network does not answer (logits (n, C), features (n, P)), has no nn.Linear named
    `classifier`, or where its logits are not features @ Wᵀ + b.
    """
    name = type(network).__name__
    classifier = getattr(network, "classifier", None)
    if not isinstance(classifier, nn.Linear):
        raise ValueError(
            f"{name}.classifier: expected the last layer, a torch.nn.Linear, got {type(classifier).__name__}. "
            "Give the network an attribute of that name."
        )
    mode = network.training
    network.eval()
    with torch.no_grad():
        answer = network(inputs)
    network.train(mode)
    if not (isinstance(answer, tuple) and len(answer) == 2 and all(isinstance(part, Tensor) for part in answer)):
        raise ValueError(f"{name}.forward: expected a tuple (logits, features), got {type(answer).__name__}.")
    logits, features = answer
    if features.shape != (len(inputs), classifier.in_features) or logits.shape != (
        len(inputs),
        classifier.out_features,
    ):
        raise ValueError(
            f"{name}.forward: expected logits {(len(inputs), classifier.out_features)} and features "
            f"{(len(inputs), classifier.in_features)}, got {tuple(logits.shape)} and {tuple(features.shape)}."
        )
    expected = classifier(features)
    if (logits - expected).abs().max() > LAST_LAYER_TOLERANCE * expected.abs().max():
        raise ValueError(
            f"{name}.forward: expected logits = classifier(features), got a difference of "
            f"{(logits - expected).abs().max().item():.3g}. Return the tensor that the last layer is applied to."
        )
    return classifier
