"""conf/architecture/tokens: a model whose last linear layer answers at every token, as causal language models do."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from ncexp.architectures.by_name import ForeignNetwork
from ncexp.architectures.network import logits_of
from ncexp.config.components import locate, nearest


def model(
    input_shape: tuple[int, ...], num_classes: int, *, factory: str, classifier: str, **options: Any
) -> TokenNetwork:
    """What package.module.factory(**options) returns, a torch.nn.Module whose output is, or has as `.logits`, the
    logits (n, tokens, V), made by its nn.Linear named `classifier`.

    The factory gets `num_classes` and `input_shape` too, if parameters of it are called so. No input is made up: what
    the model is, is looked at with the data.

    Raises ValueError where the factory cannot be imported or called so, and where there is no such layer.
    """
    found = locate("architecture.factory", factory)
    parameters = inspect.signature(found).parameters
    known = {"num_classes": num_classes, "input_shape": input_shape}
    try:
        made = found(**{name: value for name, value in known.items() if name in parameters}, **options)
    except TypeError as error:
        raise ValueError(
            f"architecture: expected options that {factory} takes, got {options or 'none'} ({error}). See its "
            "signature."
        ) from error
    if not isinstance(made, nn.Module):
        raise ValueError(f"architecture.factory: expected a torch.nn.Module, got {type(made).__name__} of {factory}.")
    return TokenNetwork(made, factory, classifier)


class TokenNetwork(ForeignNetwork):
    """inputs, a tensor or a mapping of the model's arguments → logits (n, tokens, V) and features (n, tokens, P), the
    inputs of the layer that was named; or (n, V) and (n, P).

    Its state dict is the model's own, as a `ForeignNetwork`'s.
    """

    def __init__(self, model: nn.Module, title: str, classifier: str) -> None:
        nn.Module.__init__(self)
        linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
        if classifier not in linear:
            raise ValueError(
                f"architecture.classifier: expected an nn.Linear of {title}, got {classifier!r}. "
                f"{nearest(classifier, linear)}"
            )
        self.model, self._title, self._last, self._repeats = model, title, classifier, False
        self._features = None
        self.classifier.register_forward_pre_hook(self._keep)

    def forward(self, inputs: Any) -> tuple[Tensor, Tensor]:
        self._features = None
        logits = logits_of(self.model(**inputs) if isinstance(inputs, Mapping) else self.model(inputs))
        features, self._features = self._features, None
        if not isinstance(logits, Tensor) or features is None:
            got = type(logits).__name__ if features is not None else f"a pass in which {self._last} does not run"
            raise ValueError(f"{self._title}: expected a tensor of logits, got {got}. Name another classifier.")
        return logits, features
