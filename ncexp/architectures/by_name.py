"""conf/architecture/torchvision, timm, module: any classifier by its name, as its package makes it, without weights."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from difflib import get_close_matches
from typing import Any

from torch import nn

from ncexp.architectures.foreign import ForeignNetwork
from ncexp.config.components import locate, nearest

#: Of torchvision, with further classifiers on middle layers, which are left out: the training would return them too.
WITH_AUXILIARY = ("googlenet", "inception_v3")
#: Options that would load or download weights, or that say what the data say.
LOADING = ("weights", "pretrained", "pretrained_cfg", "checkpoint_path")


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
        options = {"aux_logits": False, "init_weights": True, **options}  # of the second it warns where it is not said
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
                f"architecture.{name}: expected no such option, got {options[name]!r}. Weights are never loaded or "
                "downloaded here, and the number of classes is the data's. Leave it out."
            )
    try:
        return make(**given, **options)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"architecture: expected options that {title} takes, got {options or 'none'} ({error}). See its "
            "documentation."
        ) from error
