"""What every network, ours or not, has: an output (logits, features), and a linear last layer named `classifier`."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional
from torch.nn.modules.module import register_module_forward_pre_hook

from ncexp.architectures.heads import fix_at_simplex_etf, unit_rows

#: The last layer of our networks: one that learns, at torch's default initialisation, or a `SimplexETFClassifier`: what
#: earlier configurations call `architecture.head=etf_fixed`.
Classifier = Literal["linear", "simplex_etf"]
#: small: 3×3, stride 1, no pooling, for images of about 32 pixels; imagenet: 7×7, stride 2, then a max-pool by 2.
Stem = Literal["small", "imagenet"]
#: |features @ Wᵀ + b − logits|, relative to the largest logit: float32 sums of up to 10⁴ terms in another order.
LAST_LAYER_TOLERANCE = 1e-4
#: Of a normalised head, whose rows are these divided by their lengths.
_DIRECTIONS = "parametrizations.weight.original"


class Network(nn.Module):
    """A backbone and the linear classifier on its features: inputs (n, *shape) → logits (n, C), features (n, P).

    classifier: "linear", trained with the rest, or "simplex_etf", which stays what it is (`SimplexETFClassifier`).
    """

    def __init__(
        self, backbone: nn.Module, num_features: int, num_classes: int, classifier: Classifier = "linear"
    ) -> None:
        super().__init__()
        self.backbone = backbone
        kind = SimplexETFClassifier if classifier == "simplex_etf" else nn.Linear
        self.classifier = kind(num_features, num_classes)

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        features = self.backbone(inputs)
        return self.classifier(features), features


class SimplexETFClassifier(nn.Linear):
    """A last layer fixed at a simplex ETF; see `fix_at_simplex_etf`."""

    def __init__(self, num_features: int, num_classes: int) -> None:
        super().__init__(num_features, num_classes)
        fix_at_simplex_etf(self)


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


def image_shape(input_shape: tuple[int, ...], smallest: int) -> tuple[int, int, int]:
    """(channels, height, width), after looking that the inputs are images of at least `smallest` pixels a side."""
    if len(input_shape) != 3:
        raise ValueError(
            f"architecture: expected images (channels, height, width), got inputs of shape {tuple(input_shape)}. "
            "Choose architecture=mlp for such a dataset."
        )
    channels, height, width = input_shape
    if min(height, width) < smallest:
        raise ValueError(
            f"architecture: expected images of at least {smallest}×{smallest} pixels, got {height}×{width}. "
            "Choose stem=small, a network with fewer halvings, or dataset.pad."
        )
    return channels, height, width


def first_convolution(channels: int, out: int, stem: Stem, mode: Literal["fan_in", "fan_out"]) -> nn.Conv2d:
    """The stem's convolution for images of any number of channels, from He's normal distribution as the others."""
    kernel, stride = (3, 1) if stem == "small" else (7, 2)
    convolution = nn.Conv2d(channels, out, kernel, stride, padding=kernel // 2, bias=False)
    nn.init.kaiming_normal_(convolution.weight, mode=mode, nonlinearity="relu")
    return convolution


@torch.no_grad()
def departure(logits: Tensor, features: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """max |logits − (W h + b)|, relative to the largest |W h + b|: a scalar; 0 where rounding explains it.

    logits (n, C), features (n, P), weight (C, P), bias (C,), each in any precision and on one device, where the result
    is. What is not finite in W h + b is not compared.
    """
    expected = functional.linear(features.to(weight.dtype), weight, bias)
    tolerance = max(LAST_LAYER_TOLERANCE, *(torch.finfo(one.dtype).eps for one in (logits, features, weight)))
    alike = expected.device.type == "cpu" and logits.dtype == expected.dtype
    if alike and bool((size := _largest(expected)).isfinite()):
        gap = _largest(expected.sub_(logits)).nan_to_num(torch.inf, torch.inf)  # as below, without copies
        return torch.where(gap > tolerance * size, gap / size, 0.0)
    finite = expected.isfinite()
    gap = torch.where(finite, (logits - expected).abs().nan_to_num(torch.inf, torch.inf), 0.0).max()
    size = torch.where(finite, expected.abs(), 0.0).max()
    return torch.where(gap > tolerance * size, gap / size, 0.0)


def _largest(values: Tensor) -> Tensor:
    """max |v|, a scalar; NaN where one is."""
    return torch.stack(torch.aminmax(values)).abs().max()


def logits_of(output: Any) -> Any:
    """What a model calls its logits: the output itself, its `.logits` (Transformers), or the first of a tuple."""
    if hasattr(output, "logits"):
        return output.logits
    return output[0] if isinstance(output, tuple) and output else output


def pooled(inputs: Tensor, outputs: Tensor, logits: Any) -> Tensor:
    """The features (n, P) that the logits (n, C) are made of, where the last layer sees each token of an example.

    inputs (n, tokens, P), outputs (n, tokens, C) of the last layer: decoders (GPT-2, Llama) classify by the outputs of
    one token, the last that is no padding, so the logits are found among the outputs. Inputs of two dimensions, and
    logits that are not among the outputs, are returned as they are, for the caller's own complaint.
    """
    if inputs.dim() != 3 or not isinstance(logits, Tensor) or logits.shape != (len(outputs), outputs.shape[-1]):
        return inputs
    found = (outputs == logits.unsqueeze(1)).all(-1)
    chosen = inputs[torch.arange(len(inputs), device=inputs.device), found.to(torch.uint8).argmax(1)]
    same = (inputs == chosen.unsqueeze(1)).all(-1)
    return chosen if bool(found.any(1).all()) and bool((same | ~found).all()) else inputs


def answer_of(network: nn.Module, inputs: Any) -> Any:
    """The network's output in eval mode, without gradients; it is left in the mode it was in."""
    mode = network.training
    network.eval()
    try:
        with torch.no_grad():
            return network(inputs)
    finally:
        network.train(mode)


def name_of(module: nn.Module, network: nn.Module) -> str:
    """The module's name within the network."""
    return next(name for name, one in network.named_modules() if one is module)


def last_layer(network: nn.Module, inputs: Any, *, trains: bool = False) -> nn.Linear:
    """The network's `classifier`, after looking that it is what the measurements take it for.

    inputs: a few examples, a tensor or a mapping of them. The network is run on two of them in eval mode, for `trains`
    on all of them in train mode as well, and left as it was.
    Raises ValueError where the network does not answer (logits (n, C), features (n, P)), has no nn.Linear named
    `classifier`, where its logits are not features @ Wᵀ + b, or need not stay so: see `not_linear`.
    """
    name, classifier = type(network).__name__, getattr(network, "classifier", None)
    if not isinstance(classifier, nn.Linear):
        raise ValueError(
            f"{name}.classifier: expected the last layer, a torch.nn.Linear, got {type(classifier).__name__}. "
            "Give the network an attribute of that name."
        )
    few = {name: one[:2] for name, one in inputs.items()} if isinstance(inputs, Mapping) else inputs[:2]
    answer = answer_of(network, few)
    if not (isinstance(answer, tuple) and len(answer) == 2 and all(isinstance(part, Tensor) for part in answer)):
        raise ValueError(f"{name}.forward: expected a tuple (logits, features), got {type(answer).__name__}.")
    shapes = tuple(tuple(part.shape) for part in answer)
    rows = shapes[0][:-1] if isinstance(inputs, Mapping) or len(shapes[0]) == 3 else (len(few),)  # or those of tokens
    expected = (*rows, classifier.out_features), (*rows, classifier.in_features)
    if shapes != expected:
        raise ValueError(
            f"{name}.forward: expected logits {expected[0]} and features {expected[1]}, got {shapes[0]} and "
            f"{shapes[1]}."
        )
    reason = not_linear(network, classifier, few, answer[1])
    if trains and not reason:
        reason = not_linear(network, classifier, inputs, answer[1], training=True)
    if reason:
        raise ValueError(
            f"{name}.forward: expected logits = classifier(features), got a network in which {reason}. Return the "
            "tensor that the last layer is applied to, and its output unchanged."
        )
    return classifier


def not_linear(network: nn.Module, layer: nn.Linear, inputs: Any, features: Tensor, *, training: bool = False) -> str:
    """Why the logits need not stay W h + b of this layer while the network is trained; "" where they will.

    At the first weights they may be W h + b by chance: a layer that begins at 0 hides a tanh or a second head, and a
    factor that begins at 1 hides itself. So the network is run with a random W and b: its logits must be those of these
    two, and depend on no other parameter while the layer's inputs are held fixed.

    network: its output is the logits, or (logits, features), which are then compared; features (n, P): the layer's
    inputs, for their size; training: run in train mode. Parameters, buffers, modes and random generators are left as
    they are.
    """
    name, drawn = name_of(layer, network), _drawn(layer, features)
    taken: list[Tensor] = []

    def hold(_: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        taken.append(given[0].detach())
        return (taken[-1], *given[1:])

    replaced = {buffer: value.clone() for buffer, value in network.named_buffers()}
    replaced |= {f"{name}.{part}": value for part, value in drawn.items()}
    gpus = [features.device] if features.is_cuda else []
    mode, hook = network.training, layer.register_forward_pre_hook(hold)
    network.train(training)
    try:
        with torch.enable_grad(), torch.random.fork_rng(gpus):
            answer: Any = functional_call(network, replaced, (inputs,))
    finally:
        hook.remove()
        network.train(mode)
    logits = logits_of(answer)
    if taken and logits.requires_grad:  # without a call of the layer, nothing was held fixed
        own = tuple(layer.parameters()) if drawn else ()
        others = {n: p for n, p in network.named_parameters() if p.requires_grad and all(p is not one for one in own)}
        slopes = torch.autograd.grad(logits.sum(), [*others.values()], allow_unused=True)
        if met := [other for other, slope in zip(others, slopes, strict=True) if slope is not None]:
            more = f" and {len(met) - 2} parameters more" * (len(met) > 2)
            return f"the logits depend on {', '.join(met[-2:])}{more} beside its last linear layer, {name}"
    used = {"weight": layer.weight, "bias": layer.bias, **drawn}
    if (made_by := unit_rows(layer)) is not None:
        used["weight"] = made_by(drawn[_DIRECTIONS]).detach()
    read = answer[1].detach() if isinstance(answer, tuple) else taken[-1]
    if departure(logits.detach(), read, used["weight"], used["bias"]):
        where = "in train mode" if training else "once its weights are others"
        return f"the logits are not W h + b of its last linear layer, {name}, {where}"
    return ""


def _drawn(layer: nn.Linear, features: Tensor) -> dict[str, Tensor]:
    """Random W and b, with logits of about 1; none where W is computed from other parameters, but of a normalised head
    those that it is computed from.
    """
    own, generator = {**layer._parameters, **layer._buffers}, torch.Generator().manual_seed(0)
    if unit_rows(layer) is not None:
        return {_DIRECTIONS: torch.randn(layer.weight.shape, generator=generator).to(layer.weight)}
    if own.get("weight") is None:
        return {}
    size = features.detach().norm(dim=-1).max().cpu()
    drawn = {"weight": torch.randn(layer.weight.shape, generator=generator) / (size if size > 0 else 1.0)}
    if layer.bias is not None:
        drawn["bias"] = torch.randn(layer.bias.shape, generator=generator)
    return {part: value.to(layer.weight) for part, value in drawn.items()}


def refuse_single_examples(
    network: nn.Module, inputs: Tensor, batch_size: int, num_examples: int, but: Container[str] = ()
) -> None:
    """For batches of which one has one example: batch norm takes a variance over examples and positions.

    inputs: a few examples. The network is run on them once, in eval mode, and left in the mode it was in.
    but: names of modules that are in eval mode in training too, where it takes none.
    Raises ValueError where a batch norm sees one value a channel of each example.
    """
    found: list[str] = []

    def note(module: nn.Module, given: tuple[Tensor, ...]) -> None:
        is_norm = isinstance(module, nn.modules.batchnorm._BatchNorm)
        if is_norm and given[0].numel() == given[0].shape[0] * given[0].shape[1]:
            found.append(name_of(module, network))

    with register_module_forward_pre_hook(note):
        answer_of(network, inputs)
    if found := [name for name in found if name not in but]:
        raise ValueError(
            f"batch_size: expected batches of two examples at least, as {found[0]} normalises over them, got "
            f"{batch_size}, which leaves one of {num_examples} alone. Choose another, or no batch norm."
        )
