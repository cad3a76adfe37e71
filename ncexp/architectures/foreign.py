"""A classifier as its authors wrote it, in the form of this house: its features are what its last linear layer gets.

The layer is found by running the model on made-up inputs with hooks on its layers, and a model whose logits are not
W h + b of that layer, or need not stay so in training, is refused with the reason; `last_layer` looks again, at real
examples, and each evaluation at all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ncexp.architectures.network import departure, logits_of, not_linear
from ncexp.architectures.pointwise import replace_strided_pointwise

#: Channels that grey images are repeated in, where the first convolution takes as many.
RGB = 3


class ForeignNetwork(nn.Module):
    """inputs (n, *shape) → logits (n, C) of `model`, its output or its `.logits`; features (n, P): the inputs of its
    last linear layer.

    Its state dict is the model's own, under the model's own names, so that their checkpoints load. Images of one
    channel are repeated in three where the model's first convolution takes three. title: what messages call the model.

    Raises ValueError, with the reason, where the model does not take inputs of this shape, or where its logits (n, C)
    are not what one linear layer makes of its input.
    """

    def __init__(self, model: nn.Module, title: str, input_shape: tuple[int, ...], num_classes: int) -> None:
        super().__init__()
        replace_strided_pointwise(model)
        self.model = model
        self._title = title
        self._repeats = RGB if _is_grey_for_rgb(model, input_shape) else 1
        self._features: Tensor | None = None
        self._last = self._find(input_shape, num_classes)
        self.classifier.register_forward_pre_hook(self._keep)

    @property
    def classifier(self) -> nn.Linear:
        """The model's last layer."""
        layer = self.model.get_submodule(self._last)
        assert isinstance(layer, nn.Linear)
        return layer

    @property
    def facts(self) -> dict[str, str]:
        """What is worth reading beside a run's sizes: where the features were taken, and what became of the images."""
        grey = {"grey_images": f"repeated in {RGB} channels"} if self._repeats > 1 else {}
        return {"last_layer": self._last, **grey}

    def describe(self) -> str:
        """The facts in a sentence."""
        grey = f"; grey images are repeated in {RGB} channels" if self._repeats > 1 else ""
        return f"{self._title}: the features are the inputs of its layer {self._last}{grey}"

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        logits = _answer(self.model(self._as_model_takes(inputs)))
        features, self._features = self._features, None
        if not isinstance(logits, Tensor):
            raise ValueError(
                f"{self._title}: expected a tensor of logits, got {type(logits).__name__}. Choose the model's option "
                "without auxiliary outputs (architecture.aux_logits=false)."
            )
        assert features is not None
        return logits, features

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """The model's own."""
        return self.model.state_dict(*args, **kwargs)

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Into the model, by its own names."""
        return self.model.load_state_dict(*args, **kwargs)

    def _keep(self, layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self._features = inputs[0]

    def _as_model_takes(self, inputs: Tensor) -> Tensor:
        return inputs.repeat(1, self._repeats, 1, 1) if self._repeats > 1 else inputs

    def _find(self, input_shape: tuple[int, ...], num_classes: int) -> str:
        """The name of the last linear layer."""
        device = next(self.model.parameters(), torch.empty(0)).device
        examples = torch.linspace(-1, 1, 2 * torch.Size(input_shape).numel(), device=device).view(2, *input_shape)
        mode = self.model.training
        self.model.eval()
        examples = self._as_model_takes(examples)
        try:
            output, calls = _run(self.model, examples)
        except Exception as error:
            raise ValueError(
                f"architecture: expected inputs that {self._title} takes, got {tuple(input_shape)}, at which it stops "
                f"with {type(error).__name__}: {str(error).partition(chr(10))[0]}. Larger images (dataset.pad=32, "
                "where the data are ncexp's own), an option of the model, or another model may do; a model of tokens, "
                "which are no numbers to compute with, is recorded in its own loop: docs/recorder.md."
            ) from error
        self.model.train(mode)
        last = next((call for call in reversed(calls) if isinstance(call.layer, nn.Linear)), None)
        reason = _refusal(output, calls, (2, num_classes))
        if not reason and not output.is_meta:
            assert last is not None
            assert isinstance(last.layer, nn.Linear)
            assert last.inputs is not None
            reason = not_linear(self.model, last.layer, examples, last.inputs)
        if reason:
            raise ValueError(
                f"architecture: expected a classifier whose last layer is linear, got {self._title}: {reason}. "
                "Choose another model."
            )
        assert last is not None
        return last.name


@dataclass(frozen=True)
class _Call:
    """One call of a layer without sublayers, or of a linear one; its inputs are copied before anything changes them."""

    name: str
    layer: nn.Module
    inputs: Tensor | None


def _is_grey_for_rgb(model: nn.Module, input_shape: tuple[int, ...]) -> bool:
    first = next((module for module in model.modules() if isinstance(module, nn.Conv2d)), None)
    return len(input_shape) == 3 and input_shape[0] == 1 and first is not None and first.in_channels == RGB


def _run(model: nn.Module, inputs: Tensor) -> tuple[Any, list[_Call]]:
    """The model's output, and the calls of its layers in their order."""
    calls: list[_Call] = []

    def noting(name: str) -> Callable[[nn.Module, Any], None]:
        def hook(layer: nn.Module, given: Any) -> None:
            calls.append(_Call(name, layer, given[0].clone() if isinstance(layer, nn.Linear) else None))

        return hook

    # A parametrised linear layer has sublayers, which compute its weight: it is the layer, and they are none.
    layers = [(name, layer) for name, layer in model.named_modules() if ".parametrizations." not in name]
    leaves = [(name, layer) for name, layer in layers if isinstance(layer, nn.Linear) or not [*layer.children()]]
    hooks = [layer.register_forward_pre_hook(noting(name)) for name, layer in leaves]
    try:
        with torch.no_grad():
            return _answer(model(inputs)), calls
    finally:
        for hook in hooks:
            hook.remove()


def _answer(output: Any) -> Any:
    """The logits of Transformers' outputs too; a tuple has auxiliary ones, which are not left out silently."""
    return output if isinstance(output, tuple) else logits_of(output)


def _refusal(output: Any, calls: list[_Call], shape: tuple[int, int]) -> str:
    """Why these logits are not those of one linear layer; "" where they are."""
    if not isinstance(output, Tensor):
        return f"expected a tensor of logits, got {type(output).__name__}"
    linear = [place for place, call in enumerate(calls) if isinstance(call.layer, nn.Linear)]
    weighty = [call for call in calls if [*call.layer.parameters(recurse=False)]]
    if not weighty:
        return "it has no layer with weights"
    if not linear:
        return f"its last layer with weights is {weighty[-1].name}, {_kind(weighty[-1])}"
    last = calls[linear[-1]]
    uses = sum(call.layer is last.layer for call in calls)
    if uses > 1:
        return f"{last.name} is used {uses} times"
    assert isinstance(last.layer, nn.Linear)
    if "weight" not in {**last.layer._parameters, **last.layer._buffers}:
        names = [name for name, _ in last.layer.named_parameters() if name != "bias"]
        return f"the weight of its last linear layer, {last.name}, is no parameter but computed from {', '.join(names)}"
    if _is_of(output, last.inputs, last.layer, shape):
        return ""
    if output.shape != shape:
        return f"expected outputs of shape {shape}, a column for each class, got {tuple(output.shape)}"
    after = [_kind(call) for call in calls[linear[-1] + 1 :] if not isinstance(call.layer, nn.Identity)]
    if after:
        return f"its last linear layer, {last.name}, is followed by {', '.join(after)}"
    if last.layer.out_features != shape[1]:
        return (
            f"its last linear layer, {last.name}, has {last.layer.out_features} outputs, not one for each class: its "
            "logits are made of them by what is no torch.nn.Linear"
        )
    return f"its logits are not W h + b of its last linear layer, {last.name}"


def _is_of(output: Tensor, features: Tensor | None, layer: nn.Linear, shape: tuple[int, int]) -> bool:
    """Whether the output is W h + b; of tensors without values their shapes must do."""
    assert features is not None
    if output.shape != shape or features.shape != (shape[0], layer.in_features) or layer.out_features != shape[1]:
        return False
    return output.is_meta or not departure(output, features, layer.weight, layer.bias)


def _kind(call: _Call) -> str:
    kind = type(call.layer).__name__
    return f"{'an' if kind[0] in 'AEIOU' else 'a'} {kind}"
