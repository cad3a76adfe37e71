"""Gradients as a training will compute them, against contiguous float64: a wrong kernel is met before the first step.

Fast kernels are chosen by memory layout, precision, shape and instruction set, and some of them are wrong
(https://github.com/uxlfoundation/oneDNN/issues/6035); a loss may go down with wrong gradients, too. What is found is a
computation that differs from the same computation in float64. A layer whose formula is wrong differs in neither:
`torch.autograd.gradcheck` is for that.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from ncexp.training.losses import Objective
from ncexp.training.machine import seeded

Forward = Callable[[Tensor], tuple[Tensor, Tensor]]

#: Largest relative error of a gradient or an output. Measured on 16 examples of 1×8×8 and 3×32×32, at initialisation
#: and trained, with ResNets, VGGs, DenseNets and MLPs of 4 to 100 layers: at most 5e-5 in fp32 and 0.027 in bf16.
TOLERANCES = {"fp32": 2e-3, "bf16": 0.25}
#: The same where torch.compile lets no layer's output be seen, and float64 and the training see an input of ReLU near 0
#: on different sides, each a jump of the gradient: at most 0.04 and 1.2. bf16's finds overwritten memory only.
COMPILED_TOLERANCES = {"fp32": 0.5, "bf16": 15.0}
#: Of the norm of the whole gradient: a layer with a smaller one is compared with this. Its error moves no step, and the
#: gradient of a convolution that a batch norm cancels is nothing but rounding.
SMALLEST_SHARE = 1e-3
#: Half a unit in the last place, of 1.
UNITS = {"fp32": 2**-24, "bf16": 2**-8}
#: A sum of many numbers is rounded often: this much more than one rounding moves it.
ROUNDINGS = 16.0
_SEED = 0
#: What need not be looked at again.
_FOUND_RIGHT: set[Hashable] = set()


class WrongGradients(RuntimeError):
    """A layer's output or gradient, computed as in training, differs from float64's by more than rounding."""


def check_gradients(
    network: nn.Module,
    forward: Forward,
    loss: Objective,
    inputs: Tensor,
    labels: Tensor,
    *,
    precision: str,
    compiled: bool = False,
) -> None:
    """Compare every parameter's gradient g with g₆₄, of a contiguous float64 copy: ‖g − g₆₄‖ ≤ tolerance · scale.

    scale: ‖g₆₄‖ of the parameter's layer, weight and bias together, at least SMALLEST_SHARE of the whole gradient's.
    The copy goes on from each layer's output as the training computed it, so that both have the same ReLUs active, and
    the outputs are compared as well, layer by layer. Labels are moved on by one class, targets by 1: a trained
    network's own residual would be small, and all rounding. Layers without state, such as dropout, run in eval mode;
    other random numbers come from the same seed twice. What is found wrong is computed again from normal numbers in the
    layout of the inputs, and these decide: behind a batch norm the rounding of inputs like 10⁶ ± 1 exceeds a tolerance,
    and no kernel is chosen by its numbers. Where the precision itself cannot hold a comparison, as of a batch norm of
    features that are constant but for rounding, it is left out: `rounding_errors`. Parameters, buffers, gradients,
    modes and generators are left as found. What was found right is not looked at again in this process: a network of
    the same shape with inputs of the same shape, precision and compilation.

    Args: network: trained as it is, not wrapped; forward: network as a step calls it, autocast or compiled: inputs
    (n, *shape) → logits (n, C), features; loss: (logits, labels (n,) or targets (n, m), features) → scalar; n: 16 are
    enough, at least 2 for batch norm. precision: "fp32" or "bf16"; compiled: whether forward is.
    Raises WrongGradients, naming the layer; ValueError for another precision. A loss that is not finite is not judged:
    the training itself stops there.
    """
    tolerances = COMPILED_TOLERANCES if compiled else TOLERANCES
    if precision not in tolerances:
        raise ValueError(f"precision: expected one of {', '.join(tolerances)}, got {precision}. Check in one of these.")
    named = network.named_parameters()
    layout = tuple((name, one.shape, one.stride(), one.dtype, one.requires_grad) for name, one in named)
    key = (repr(network), layout, inputs.shape, inputs.dtype, inputs.device, precision, compiled)
    if key in _FOUND_RIGHT:
        return
    tolerance = tolerances[precision]

    def compared(inputs: Tensor) -> tuple[dict[str, float], list[str]]:
        errors = relative_errors(network, forward, loss, inputs, labels, compiled=compiled)
        return errors, [name for name, error in errors.items() if not error <= tolerance]

    errors, wrong = compared(inputs)
    if wrong and inputs.is_floating_point():
        normal = torch.empty_like(inputs).normal_(generator=torch.Generator(inputs.device).manual_seed(_SEED))
        with suppress(ValueError):  # of a network that takes no other inputs
            errors, wrong = compared(normal)
            inputs = normal
    if wrong:
        rounding = rounding_errors(network, loss, inputs, labels, precision=precision)
        wrong = [name for name in wrong if not rounding.get(name, 0.0) * ROUNDINGS >= tolerance]
    if wrong:  # outputs come first, in forward order, then gradients in backward order: the first is nearest the fault
        advice = ["precision=fp32"] * (precision != "fp32") + ["compile=false"] * compiled
        advice.append("the environment variable ONEDNN_MAX_CPU_ISA=SSE41 (other CPU kernels)")
        raise WrongGradients(
            f"{wrong[0]}: expected a relative error of at most {tolerance:g} against float64, got "
            f"{errors[wrong[0]]:.3g} ({len(wrong)} of {len(errors)} outputs and gradients are wrong). "
            f"Set {' or '.join(advice)}, and report it: the kernel is wrong, not the network."
        )
    _FOUND_RIGHT.add(key)


def rounding_errors(
    network: nn.Module, loss: Objective, inputs: Tensor, labels: Tensor, *, precision: str
) -> dict[str, float]:
    """How far rounding alone moves what `relative_errors` compares, by the same names: the condition of each layer.

    A float64 copy is computed twice, the second time with what enters each layer, and the gradient that leaves it on
    its way back, multiplied by 1 ± UNITS at random. Infinite where a sum of a layer's squares is beyond float32.
    """
    exact, moved = _exact_copy(network), _exact_copy(network)
    generator = torch.Generator(inputs.device).manual_seed(_SEED)

    def move(tensor: Any) -> Any:
        if not isinstance(tensor, Tensor) or not tensor.is_floating_point():
            return tensor
        signs = torch.empty_like(tensor).uniform_(-1, 1, generator=generator)
        return tensor * (1 + UNITS[precision] * signs)

    def leave(module: nn.Module, args: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.requires_grad:
            output.register_hook(move)

    outputs, inputs = _keep_outputs(exact), _exact(inputs)
    expected = _gradients(exact, exact, loss, inputs, labels)
    for name, module in moved.named_modules():
        if name in outputs:
            module.register_forward_pre_hook(lambda module, args: tuple(map(move, args)))
            module.register_forward_hook(leave)
    errors, found = _go_on_from(moved, outputs, loss, inputs, labels)
    scales, layers = _scales(expected), dict[str, float]()
    for name, gradient in found.items():  # a bias before a batch norm has none, but for what its weight's is off
        layer = name.rpartition(".")[0]
        layers[layer] = max(_ratio(float((gradient - expected[name]).norm()), scales[name]), layers.get(layer, 0.0))
    errors |= {f"gradient of {name}": layers[name.rpartition(".")[0]] for name in found}
    largest = max((float(one.norm()) ** 2 for some in outputs.values() for one in some), default=0.0)
    beyond = not max(largest, float(inputs.double().norm()) ** 2) <= torch.finfo(torch.float32).max
    return {name: math.inf if beyond else error for name, error in errors.items()}


def relative_errors(
    network: nn.Module, forward: Forward, loss: Objective, inputs: Tensor, labels: Tensor, *, compiled: bool
) -> dict[str, float]:
    """What `check_gradients` compares, by name: "output of <layer>", then "gradient of <parameter>", the last first."""
    with _left_as_found(network):
        reference = _exact_copy(network)
        hooks = list[RemovableHandle]()
        outputs = {} if compiled else _keep_outputs(network, hooks)
        try:
            computed = _gradients(network, forward, loss, inputs, labels)
        finally:
            for hook in hooks:
                hook.remove()
        errors, exact = _go_on_from(reference, outputs, loss, inputs, labels) if computed else ({}, {})
    scales = _scales(exact)
    for name in reversed(computed):
        difference = float((computed[name].double() - exact[name]).norm())
        errors[f"gradient of {name}"] = _ratio(difference, scales[name])
    return errors


def _exact(inputs: Tensor) -> Tensor:
    return inputs.double().contiguous() if inputs.is_floating_point() else inputs


def _exact_copy(network: nn.Module) -> nn.Module:
    return copy.deepcopy(network).to(dtype=torch.float64, memory_format=torch.contiguous_format)  # type: ignore[call-overload]


def _gradients(
    network: nn.Module, forward: Forward, loss: Objective, inputs: Tensor, labels: Tensor
) -> dict[str, Tensor]:
    """By parameter, of those that have one; none where the loss is not finite."""
    network.train()
    for module in network.modules():
        if not [*module.children(), *module.parameters(), *module.buffers()]:
            module.eval()
    with seeded(_SEED):
        logits, features = forward(inputs)
        if logits.dtype == torch.bfloat16:
            logits, features = logits.float(), features.float()
        moved = labels + 1 if labels.is_floating_point() else (labels + 1) % logits.shape[1]
        value = loss(logits, moved, features, getattr(network, "classifier", None))
        if not value.isfinite():
            return {}
        value.backward()
    return {name: p.grad for name, p in network.named_parameters() if p.grad is not None}


def _keep_outputs(network: nn.Module, hooks: list[RemovableHandle] | None = None) -> dict[str, list[Tensor]]:
    """What each layer will put out at the next forward pass, by its name; hooks: gets the handles."""
    outputs: dict[str, list[Tensor]] = {}

    def keep(name: str, module: nn.Module, args: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.is_floating_point():
            outputs.setdefault(name, []).append(output.detach().clone())  # what follows may work in place

    handles = [module.register_forward_hook(partial(keep, name)) for name, module in network.named_modules()]
    if hooks is not None:
        hooks += handles
    return outputs


def _go_on_from(
    reference: nn.Module, outputs: dict[str, list[Tensor]], loss: Objective, inputs: Tensor, labels: Tensor
) -> tuple[dict[str, float], dict[str, Tensor]]:
    """The relative errors of the kept outputs, and the gradients of a float64 copy that goes on from each of them."""
    errors: dict[str, float] = {}

    def replay(name: str, calls: Iterator[Tensor], module: nn.Module, args: Any, output: Tensor) -> Tensor:
        """The kept values in place of the float64 ones, whose derivatives stay."""
        difference = next(calls).double() - output.detach()
        error, key = _ratio(float(difference.norm()), float(output.detach().norm())), f"output of {name}"
        errors[key] = max(error, errors.get(key, 0.0))
        return output + difference

    for name, module in reference.named_modules():
        if name in outputs:
            module.register_forward_hook(partial(replay, name, iter(outputs[name])))
    return errors, _gradients(reference, reference, loss, _exact(inputs), labels)


def _scales(exact: dict[str, Tensor]) -> dict[str, float]:
    layers: dict[str, float] = {}
    for name, gradient in exact.items():
        layer = name.rpartition(".")[0]
        layers[layer] = math.hypot(layers.get(layer, 0.0), float(gradient.norm()))
    smallest = SMALLEST_SHARE * math.hypot(*layers.values())
    return {name: max(layers[name.rpartition(".")[0]], smallest) for name in exact}


def _ratio(difference: float, scale: float) -> float:
    """0 where both are: a layer whose gradient is exactly 0 is right."""
    return difference / scale if scale else math.inf * difference if difference else 0.0


@contextmanager
def _left_as_found(network: nn.Module) -> Iterator[None]:
    modes = [(module, module.training) for module in network.modules()]
    gradients = [(parameter, parameter.grad) for parameter in network.parameters()]
    buffers = [(buffer, buffer.clone()) for buffer in network.buffers()]
    for parameter, _ in gradients:
        parameter.grad = None
    try:
        yield
    finally:
        for parameter, gradient in gradients:
            parameter.grad = gradient
        with torch.no_grad():
            for buffer, value in buffers:
                buffer.copy_(value)
        for module, mode in modes:
            module.training = mode
