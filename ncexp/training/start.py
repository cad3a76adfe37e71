"""`architecture.weights` and `architecture.freeze`: what a network begins with, and what of it is not trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

from ncexp.architectures import name_of
from ncexp.config import Regime
from ncexp.config.start import BACKBONE, Start, file_digest, refuse_no_file
from ncexp.datasets import listed
from ncexp.record import RunDirectory
from ncexp.training.foreign_checkpoints import LISTED, read_foreign_weights

#: |W Wᵀ − that of a simplex ETF|, entry by entry: float32 products of unit rows.
_ETF_TOLERANCE = 1e-4


@dataclass(frozen=True, eq=False)
class Frozen:
    """What of a network is not trained: the names of parameters, and of the modules in eval mode meanwhile.

    In eval mode stays what holds frozen parameters and no others, with all that is in it: its batch norms keep their
    running statistics, its dropout drops nothing. Of BACKBONE it is the whole network but the last layer: the features
    are one function of the inputs throughout.
    """

    network: nn.Module
    parameters: frozenset[str]
    modules: tuple[str, ...]

    def tensors(self) -> list[nn.Parameter]:
        """The frozen parameters themselves."""
        return [one for name, one in self.network.named_parameters() if name in self.parameters]

    @property
    def size(self) -> int:
        """How many numbers they are."""
        return sum(one.numel() for one in self.tensors())

    def hold(self) -> None:
        """Put the modules in eval mode, after the whole network was put in train mode."""
        for name in self.modules:
            self.network.get_submodule(name).training = False

    def describe(self) -> str:
        """How much is frozen, for people."""
        total = sum(one.numel() for one in self.network.parameters())
        return f"{self.size:,} of {total:,} parameters; in eval mode: {len(self.modules)} modules"


def is_needed(start: Start, directory: RunDirectory, *, anew: bool) -> bool:
    """Whether a training in this directory begins with the file: else it goes on from weights of its own.

    anew: whether what is there is removed first.
    """
    if start.weights is None:
        return False
    state = directory.state()
    resumes = directory.resume.exists() or directory.resume_before.exists()
    return anew or not (resumes or (state is not None and state.final))


def load_start(start: Start, network: nn.Module, classifier: nn.Linear) -> str:
    """Load the file into the network; returns a sentence for people: where it is, and what was assumed.

    The names in the file are found as those of the checkpoints that `ncexp measure` takes; see `read_foreign_weights`.
    A last layer for another number of classes is left out, and the network keeps its own.

    Raises ValueError where the file is not there, or another than its SHA-256 says; UnusableFile, a ValueError, where
    it does not fit, its numbers are not finite, or its last layer is trained and the network's is fixed.
    """
    assert start.weights is not None
    path = start.weights
    refuse_no_file(path)
    found = read_foreign_weights(path, network, starts=classifier)
    if (digest := file_digest(path)) != start.sha256:
        raise ValueError(
            f"architecture.weights: expected the file of SHA-256 {start.sha256}, got {path} of {digest}. It was "
            "changed: leave architecture.weights_sha256 out, which makes another training, or bring the file back."
        )
    for name, tensor in found.tensors.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise ValueError(f"{path}: expected finite numbers, got others in {name}. Take an earlier checkpoint.")
    before = classifier.weight.detach().clone()
    network.load_state_dict(found.tensors)
    if "weight" in dict(classifier.named_buffers(recurse=False)):
        _refuse_other_rows(before, classifier.weight)
    return "; ".join([f"{path} (SHA-256 {digest[:8]}...)", *found.notes])


def _refuse_other_rows(fixed: Tensor, loaded: Tensor) -> None:
    """Raises ValueError where a fixed last layer is loaded whose rows are not at the angles of the one that it was."""
    if not torch.allclose(fixed @ fixed.T, loaded @ loaded.T, rtol=0, atol=_ETF_TOLERANCE):
        raise ValueError(
            "architecture.head: expected weights whose last layer is fixed at a simplex ETF as well, got a file "
            "with another. Choose head=linear."
        )


def freeze(start: Start, network: nn.Module, classifier: nn.Linear, regime: Regime) -> Frozen | None:
    """Take gradients from the parameters that are not to be trained.

    Returns None where all are. Raises ValueError for a pattern that matches no parameter, and where nothing is left to
    train. On the central path the last layer is computed: there it is neither trained nor frozen.
    """
    if not start.freeze:
        return None
    named, last = dict(network.named_parameters()), {id(parameter) for parameter in classifier.parameters()}
    if start.freeze == (BACKBONE,):
        chosen = [name for name, parameter in named.items() if id(parameter) not in last]
    else:
        chosen = [name for pattern in start.freeze for name in _matched(pattern, [*named])]
    computed = set() if regime == "plain" else last
    if fixed := [name for name in chosen if id(named[name]) in computed]:
        raise ValueError(
            f"architecture.freeze: expected no part of the last layer, which regime={regime} computes, got "
            f"{listed(fixed)}. Freeze others, or set regime=plain."
        )
    left = [n for n, one in named.items() if n not in chosen and one.requires_grad and id(one) not in computed]
    if not chosen or not left:
        why = f"leaves nothing to train with regime={regime}" if chosen else "is nothing in this network"
        raise ValueError(
            f"architecture.freeze: expected some parameters to be frozen and some trained, got {listed(start.freeze)}, "
            f"which {why}. The network has {listed([*named], LISTED)}."
        )
    for name in chosen:
        named[name].requires_grad_(False)
    whole = start.freeze == (BACKBONE,)
    return Frozen(network, frozenset(chosen), _still(network, classifier if whole else None))


def _still(network: nn.Module, trained: nn.Module | None) -> tuple[str, ...]:
    """The names of the modules that are to be in eval mode; trained: the only one that is not, if it is known."""
    names = [name for name, _ in network.named_modules()]
    if trained is not None:
        last = f"{name_of(trained, network)}."
        return tuple(name for name in names if not f"{name}.".startswith(last))
    held = [[*network.get_submodule(name).parameters()] for name in names]
    above = tuple(f"{name}." for name, own in zip(names, held, strict=True) if own and not any(map(_is_trained, own)))
    return tuple(name for name in names if f"{name}.".startswith(above))


def _is_trained(parameter: nn.Parameter) -> bool:
    return parameter.requires_grad


def _matched(pattern: str, names: Sequence[str]) -> list[str]:
    if found := [name for name in names if fnmatchcase(name, pattern)]:
        return found
    proposals = (f"{pattern}.*", f"model.{pattern}", f"model.{pattern}.*")
    near = next((one for one in proposals if any(fnmatchcase(name, one) for name in names)), "")
    near = near or listed(get_close_matches(pattern, names, n=3, cutoff=0.0))
    raise ValueError(
        f"architecture.freeze: expected {BACKBONE}, or patterns that match a parameter's name, got {pattern}. The "
        f"nearest: {near}."
    )
