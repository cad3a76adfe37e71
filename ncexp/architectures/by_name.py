"""conf/architecture/torchvision, timm, module: any classifier by its name, as its package makes it, without weights.

The features of somebody else's network are what its last linear layer gets. That layer is found by running the model on
made-up inputs with hooks on its layers, and a model whose logits are not W h + b of that layer, or need not stay so in
training, is refused with the reason. `last_layer` looks again, at real examples, and each evaluation at all of them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

from ncexp.architectures.network import answer_of, departure, logits_of, not_linear
from ncexp.architectures.pointwise import replace_strided_pointwise
from ncexp.config.components import locate, nearest

#: Models of torchvision with auxiliary classifiers on middle layers. These are left out: in training the model would
#: return their logits too.
WITH_AUXILIARY = ("googlenet", "inception_v3")
#: Options that would load or download weights.
LOADING = ("weights", "pretrained", "pretrained_cfg", "checkpoint_path")
#: Where the first convolution takes this many channels, grey images are repeated in them.
RGB, REPEATED = 3, "repeated in 3 channels"


def torchvision_model(input_shape: tuple[int, ...], num_classes: int, *, model: str, **options: Any) -> ForeignNetwork:
    """torchvision.models.get_model(model, num_classes=C, **options), at its own initialisation.

    Raises ValueError for a name that is no classifier of torchvision's, an option that it refuses, and as
    `ForeignNetwork` does.
    """
    from torchvision import models

    known = models.list_models(module=models)
    if model not in known:
        raise ValueError(
            f"architecture.model: expected a classifier of torchvision, got {model!r}. {nearest(model, known)}"
        )
    if model in WITH_AUXILIARY:
        options = {"aux_logits": False, "init_weights": True, **options}  # torchvision warns without the second
    made = _make(models.get_model, model, options, name=model, weights=None, num_classes=num_classes)
    return ForeignNetwork(made, model, input_shape, num_classes)


def timm_model(input_shape: tuple[int, ...], num_classes: int, *, model: str, **options: Any) -> ForeignNetwork:
    """timm.create_model(model, pretrained=False, num_classes=C, **options), at its own initialisation.

    Raises ValueError where timm is not installed, for a name that it does not know, an option that it refuses, and as
    `ForeignNetwork` does.
    """
    try:
        import timm
    except ImportError:
        raise ValueError(
            "architecture: expected the package timm, which is not installed. Install it: pip install 'ncexp[timm]'"
        ) from None
    if not timm.is_model(model):
        near = ", ".join(get_close_matches(model, timm.list_models(), cutoff=0.5)) or "none"
        raise ValueError(
            f"architecture.model: expected a model of timm, got {model!r}. Near: {near}. timm.list_models() has all."
        )
    made = _make(timm.create_model, model, options, model_name=model, pretrained=False, num_classes=num_classes)
    return ForeignNetwork(made, model, input_shape, num_classes)


def module_model(input_shape: tuple[int, ...], num_classes: int, *, factory: str, **options: Any) -> ForeignNetwork:
    """What package.module.factory(**options) returns, a torch.nn.Module whose output are the logits.

    The factory gets `num_classes` and `input_shape` too, if parameters of it are called so.

    Raises ValueError where the factory cannot be imported or called so, and as `ForeignNetwork` does.
    """
    found = locate("architecture.factory", factory)
    parameters = inspect.signature(found).parameters
    known = {"num_classes": num_classes, "input_shape": input_shape}
    made = _make(found, factory, options, **{name: value for name, value in known.items() if name in parameters})
    if not isinstance(made, nn.Module):
        raise ValueError(f"architecture.factory: expected a torch.nn.Module, got {type(made).__name__} of {factory}.")
    return ForeignNetwork(made, factory, input_shape, num_classes)


def _make(make: Callable[..., Any], title: str, options: dict[str, Any], **given: Any) -> Any:
    for name in options:
        if name in LOADING or name in given:
            raise ValueError(
                f"architecture.{name}: expected no such option, got {options[name]!r}. Nothing is downloaded, and the "
                "number of classes is the data's. Leave it out, or start from a file: architecture.weights=FILE."
            )
    try:
        return make(**given, **options)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"architecture: expected options that {title} takes, got {options or 'none'} ({error}). See its "
            "documentation."
        ) from error


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
        self._repeats = _is_grey_for_rgb(model, input_shape)
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
        return {"last_layer": self._last} | ({"grey_images": REPEATED} if self._repeats else {})

    def describe(self) -> str:
        """The facts in a sentence."""
        grey = f"; grey images are {REPEATED}" if self._repeats else ""
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
        return inputs.repeat(1, RGB, 1, 1) if self._repeats else inputs

    def _find(self, input_shape: tuple[int, ...], num_classes: int) -> str:
        """The name of the last linear layer."""
        device = next(self.model.parameters(), torch.empty(0)).device
        examples = torch.linspace(-1, 1, 2 * torch.Size(input_shape).numel(), device=device).view(2, *input_shape)
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
        last = next((call for call in reversed(calls) if call.inputs is not None), None)
        reason = _refusal(output, calls, last, (2, num_classes))
        if last is not None and not reason and not output.is_meta:
            reason = not_linear(self.model, last.layer, examples, last.inputs)
        if reason:
            raise ValueError(
                f"architecture: expected a classifier whose last layer is linear, got {self._title}: {reason}. "
                "Choose another model."
            )
        assert last is not None
        return last.name


@dataclass(frozen=True, eq=False)
class _Call:
    """One call of a layer without sublayers, or of a linear one.

    inputs: of a linear layer, copied before anything changes them; None of another layer.
    """

    name: str
    layer: Any
    inputs: Any

    def __str__(self) -> str:
        kind = type(self.layer).__name__
        return f"{'an' if kind[0] in 'AEIOU' else 'a'} {kind}"


def _is_grey_for_rgb(model: nn.Module, input_shape: tuple[int, ...]) -> bool:
    first = next((module for module in model.modules() if isinstance(module, nn.Conv2d)), None)
    return len(input_shape) == 3 and input_shape[0] == 1 and first is not None and first.in_channels == RGB


def _run(model: nn.Module, inputs: Tensor) -> tuple[Any, list[_Call]]:
    """The model's output, and the calls of its layers in their order."""
    calls: list[_Call] = []
    # A parametrised linear layer has sublayers, which compute its weight: it is the layer, and they are none.
    layers = [(name, layer) for name, layer in model.named_modules() if ".parametrizations." not in name]
    names = {layer: name for name, layer in layers if isinstance(layer, nn.Linear) or not [*layer.children()]}

    def note(layer: nn.Module, given: Any) -> None:
        if layer in names:
            calls.append(_Call(names[layer], layer, given[0].clone() if isinstance(layer, nn.Linear) else None))

    with register_module_forward_pre_hook(note):
        return _answer(answer_of(model, inputs)), calls


def _answer(output: Any) -> Any:
    """The logits of Transformers' outputs too; a tuple has auxiliary ones, which are not left out silently."""
    return output if isinstance(output, tuple) else logits_of(output)


def _refusal(output: Any, calls: list[_Call], last: _Call | None, shape: tuple[int, int]) -> str:
    """Why these logits are not those of the linear layer that was called last; "" where they are."""
    if not isinstance(output, Tensor):
        return f"expected a tensor of logits, got {type(output).__name__}"
    weighty = [call for call in calls if [*call.layer.parameters(recurse=False)]]
    if not weighty:
        return "it has no layer with weights"
    if last is None:
        return f"its last layer with weights is {weighty[-1].name}, {weighty[-1]}"
    layer, said = last.layer, f"its last linear layer, {last.name}"
    if (uses := sum(call.layer is layer for call in calls)) > 1:
        return f"{last.name} is used {uses} times"
    if "weight" not in {**layer._parameters, **layer._buffers}:
        names = [name for name, _ in layer.named_parameters() if name != "bias"]
        return f"the weight of {said}, is no parameter but computed from {', '.join(names)}"
    # Of tensors without values their shapes must do.
    shapes = (output.shape, last.inputs.shape, layer.out_features) == (shape, (shape[0], layer.in_features), shape[1])
    if shapes and (output.is_meta or not departure(output, last.inputs, layer.weight, layer.bias)):
        return ""
    if output.shape != shape:
        return f"expected outputs of shape {shape}, a column for each class, got {tuple(output.shape)}"
    after = [str(call) for call in calls[calls.index(last) + 1 :] if not isinstance(call.layer, nn.Identity)]
    if after:
        return f"{said}, is followed by {', '.join(after)}"
    if layer.out_features != shape[1]:
        return (
            f"{said}, has {layer.out_features} outputs, not one for each class: its logits are made of them by what is "
            "no torch.nn.Linear"
        )
    return f"its logits are not W h + b of {said}"
