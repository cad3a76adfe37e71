"""Anybody's model as a network whose output is (logits, features): the features are tapped before its last layer."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from ncexp.architectures import departure, logits_of, pooled
from ncexp.config import nearest
from ncexp.training import Processes


class TappedNetwork(nn.Module):
    """A model whose output is the logits, has them as `.logits` or is a tuple that begins with them.

    Of a model of tokens the logits are (n, tokens, V) and the features (n, tokens, P).

    Its submodules have the names that they have in the model. The tap, a forward hook on the last layer, is there
    while a forward pass runs, and is removed after it. Inputs that are a mapping or a list are spread into arguments.

    classifier: the last nn.Linear, or its name in model.named_modules().
    Raises ValueError where that is no nn.Linear of the model, and, at a forward pass, where the logits are not
    classifier(features).
    """

    def __init__(self, model: nn.Module, classifier: nn.Linear | str) -> None:
        super().__init__()
        self.model = unwrapped(model)
        self.classifier_name, self.classifier = find_classifier(self.model, classifier)
        self._verified = False

    def named_modules(self, *arguments: Any, **options: Any) -> Iterator[tuple[str, nn.Module]]:
        """Those of the model."""
        return self.model.named_modules(*arguments, **options)

    def forward(self, inputs: Any) -> tuple[Tensor, Tensor]:
        taken: list[tuple[Tensor, Tensor]] = []
        within: list[torch.autocast] = []  # what the model itself switches on around the layer

        def take(module: nn.Module, arguments: Any, named: Any, output: Tensor) -> None:
            taken.append((arguments[0] if arguments else named["input"], output))
            kind = output.device.type
            within.append(torch.autocast(kind, torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind)))

        handle = self.classifier.register_forward_hook(take, with_kwargs=True)
        try:
            if isinstance(inputs, Mapping):
                output = self.model(**inputs)
            else:
                output = self.model(*inputs) if isinstance(inputs, list | tuple) else self.model(inputs)
        finally:
            handle.remove()
        logits = logits_of(output)
        found = [pooled(*each, logits) for each in taken]
        rows = logits.dim() if isinstance(logits, Tensor) and logits.dim() == 3 else 2
        if len(found) != 1 or found[0].dim() != rows:
            shapes = ", ".join(str(tuple(features.shape)) for features in found) or "nothing"
            raise ValueError(
                f"classifier: expected a layer that is given features (n, P) once in a forward pass, got {shapes}, or "
                "(n, tokens, P) for logits (n, tokens, V). Name the last nn.Linear of the model."
            )
        features: Tensor = found[0]
        if not self._verified:
            with within[0]:
                self._verify(logits, features)
            self._verified = True
        return logits, features

    def _verify(self, logits: Any, features: Tensor) -> None:
        if not isinstance(logits, Tensor):
            raise ValueError(
                "model: expected logits (n, C), an output with .logits or a tuple that begins with them, got "
                f"{type(logits).__name__}. Wrap the model in a module that returns its logits alone."
            )
        expected = (*features.shape[:-1], self.classifier.out_features)
        if logits.shape != expected:
            raise ValueError(
                f"model: expected logits {expected}, as the classifier's output, got {tuple(logits.shape)}. Name the "
                "layer whose output the logits are."
            )
        if found := float(departure(logits, features, self.classifier.weight, self.classifier.bias)):
            raise ValueError(
                f"model: expected logits = classifier(features), got another output, {found:.1e} of the largest logit "
                "away. Return the last layer's output without a softmax or scale behind it."
            )


def unwrapped(model: nn.Module) -> nn.Module:
    """The model within DataParallel, DistributedDataParallel and torch.compile: the same parameters and buffers."""
    wrappers = (nn.DataParallel, nn.parallel.DistributedDataParallel)
    while isinstance(model, wrappers) or isinstance(getattr(model, "_orig_mod", None), nn.Module):
        model = model.module if isinstance(model, wrappers) else model._orig_mod  # type: ignore[assignment]
    return model


def find_classifier(model: nn.Module, classifier: nn.Linear | str) -> tuple[str, nn.Linear]:
    """(name, layer) of the layer, or of that of this name, in an unwrapped model. Raises ValueError where none is."""
    layers = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    for name, layer in layers.items():
        if layer is classifier or name == classifier:
            return name, layer
    if isinstance(classifier, str):
        raise ValueError(
            f"classifier: expected the name of an nn.Linear of the model, got {classifier!r}. "
            f"{nearest(classifier, [*layers])}"
        )
    raise ValueError(
        f"classifier: expected an nn.Linear of the model, got a {type(classifier).__name__} that is none of "
        f"{', '.join(layers)}. Pass the layer or its name."
    )


@contextmanager
def plainly(network: TappedNetwork) -> Iterator[None]:
    """Within it the network runs as it is written, whatever the caller has switched on around it.

    In its own precision, not autocast's, nor the mixed one in which Accelerate has wrapped it; not as torch.compile's
    program, which would not meet the tap; and an analysis may take gradients where the caller takes none.
    """
    parts = chain(network.classifier.parameters(), network.classifier.buffers())  # W may be computed
    device = next(parts).device.type
    with ExitStack() as held:
        held.enter_context(torch.inference_mode(False))
        held.enter_context(torch.enable_grad())
        held.enter_context(torch.autocast(device, enabled=False))
        for module in network.modules():  # that Accelerate prepared run their own `forward`
            if "_original_forward" in vars(module):
                held.callback(setattr, module, "forward", module.forward)
                module.forward = module._original_forward  # type: ignore[assignment]
        if "torch._dynamo" in sys.modules:  # which takes seconds to import: nothing is compiled without it
            held.enter_context(torch.compiler.set_stance("force_eager"))
        yield


def take_first_buffers(network: TappedNetwork, processes: Processes) -> None:
    """Give each process the buffers of the first, whose batch statistics a checkpoint holds; collective."""
    if processes.size > 1:
        for buffer in network.buffers():
            torch.distributed.broadcast(buffer, 0)
