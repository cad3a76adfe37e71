"""What every network, ours or not, has: an output (logits, features), and a linear last layer named `classifier`."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.hooks import RemovableHandle

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


class RenormalizedNetwork(nn.Module):
    """A network whose features in eval mode are X = Σ_W^{-1/2} H, in rows H @ `renormalizer`, the last layer reading X.

    What sets `renormalizer` (P, P) sets the classifier as well (`ncexp.training.regimes`). In train mode the features
    are H itself, which each step renormalizes by its own Σ_W.
    """

    renormalizer: Tensor

    def __init__(self, network: nn.Module, classifier: nn.Linear) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("renormalizer", torch.eye(classifier.in_features, dtype=classifier.weight.dtype))

    @property
    def classifier(self) -> nn.Linear:
        """The last layer."""
        layer = self.network.classifier
        assert isinstance(layer, nn.Linear)
        return layer

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        logits, features = self.network(inputs)
        if self.training:
            return logits, features
        features = features @ self.renormalizer
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
    expected = functional.linear(
        features, classifier.weight, classifier.bias
    )  # whatever a class of its own makes of it
    if (logits - expected).abs().max() > LAST_LAYER_TOLERANCE * expected.abs().max():
        raise ValueError(
            f"{name}.forward: expected logits = classifier(features), got a difference of "
            f"{(logits - expected).abs().max().item():.3g}. Return the tensor that the last layer is applied to."
        )
    return classifier


def refuse_single_examples(network: nn.Module, inputs: Tensor, batch_size: int, num_examples: int) -> None:
    """For batches of which one has one example: batch norm takes a variance over examples and positions.

    inputs: a few examples. The network is run on them once, in eval mode, and left in the mode it was in.
    Raises ValueError where a batch norm sees one value a channel of each example.
    """
    found: list[str] = []

    def watch(name: str, module: nn.Module) -> RemovableHandle:
        def note(_: nn.Module, args: tuple[Tensor]) -> None:
            if args[0].numel() == args[0].shape[0] * args[0].shape[1]:
                found.append(name)

        return module.register_forward_pre_hook(note)

    norms = [(name, one) for name, one in network.named_modules() if isinstance(one, nn.modules.batchnorm._BatchNorm)]
    hooks = [watch(name, module) for name, module in norms]
    mode = network.training
    network.eval()
    with torch.no_grad():
        network(inputs)
    network.train(mode)
    for hook in hooks:
        hook.remove()
    if found:
        raise ValueError(
            f"batch_size: expected batches of two examples at least, as {found[0]} normalises over them, got "
            f"{batch_size}, which leaves one of {num_examples} alone. Choose another, or no batch norm."
        )
