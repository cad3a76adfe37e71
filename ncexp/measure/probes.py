"""Class statistics of what named submodules put out, gathered while an evaluation pass runs the network."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.filesize import decimal
from torch import Tensor, nn

from ncexp.collapse import ClassStatistics, ClassStatisticsAccumulator
from ncexp.config import nearest
from ncexp.measure.layouts import Layout, Layouts, blocks_of, eager, tensor_of

#: A submodule's output (n, ...) and, where some positions are padding, (n, tokens) with 0 there → features (n, P).
Reduction = Callable[[Tensor, Tensor | None], Tensor]
Measured = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
#: In place of a name: every block of the network, see `blocks_of`.
EVERY_BLOCK = "every=block"
#: The reduction of labels of tokens, and of no others.
EVERY_TOKEN = "every_token"


@dataclass(frozen=True)
class Probe:
    """What is asked: a submodule, named as in network.named_modules(), a pattern or `EVERY_BLOCK`; and what makes
    features of its output, a name of REDUCTIONS or ``average``, the mean over the positions of a known layout.
    """

    module: str
    reduce: str

    @property
    def name(self) -> str:
        """``backbone.3 average``: by which snapshots know its statistics."""
        return f"{self.module} {self.reduce}"

    def modules_in(self, split: Mapping[str, Any]) -> list[str] | None:
        """The submodules whose statistics a split of a snapshot has for this probe; None where it has not all.

        split: ``layers``, the names of its statistics, and ``probed``, what each name or pattern stood for. Snapshots
        of version 0.4 and before have no ``probed``; their ``average`` is today's ``spatial_mean``.
        """
        layers, probed = split["layers"], split.get("probed", {})
        found = probed.get(self.name)
        if found is not None:
            return found if all(f"{module} {self.reduce}" in layers for module in found) else None
        return [self.module] if not probed and self.name in layers else None


def flatten(output: Tensor, mask: Tensor | None = None) -> Tensor:
    """(n, ...) → (n, P), P the product of all that follows the batch."""
    return output.flatten(1)


def spatial_mean(output: Tensor, mask: Tensor | None = None) -> Tensor:
    """(n, channels, ...) → (n, channels): the mean over positions; (n, P) stays as it is."""
    return output.flatten(2).mean(2) if output.dim() > 2 else output


def token_mean(output: Tensor, mask: Tensor | None = None) -> Tensor:
    """(n, ..., width) → (n, width): the mean over positions without padding; (n, P) stays as it is."""
    if output.dim() == 2:
        return output
    tokens = output.flatten(1, -2)
    if mask is None:
        return tokens.mean(1)
    weights = mask.to(tokens.dtype).unsqueeze(2)
    return (tokens * weights).sum(1) / weights.sum(1)


def class_token(output: Tensor, mask: Tensor | None = None) -> Tensor:
    """(n, tokens, width) → (n, width): the first token."""
    return output[:, 0]


def last_token(output: Tensor, mask: Tensor | None = None) -> Tensor:
    """(n, tokens, width) → (n, width): the last token that is not padding."""
    if mask is None:
        return output[:, -1]
    places = torch.arange(output.shape[1], device=output.device)
    last = torch.where(mask.bool(), places, -1).amax(1)
    return output[torch.arange(len(output), device=output.device), last]


def every_token(output: Tensor, mask: Tensor | None = None) -> Tensor:
    """(n, tokens, width) as it is: with labels of tokens each of them is an example."""
    return output


#: By the names that an analysis takes; which layouts each is for.
REDUCTIONS: dict[str, tuple[Reduction, tuple[Layout, ...]]] = {
    "class_token": (class_token, ("tokens", "unknown")),
    "token_mean": (token_mean, ("tokens", "features", "unknown")),
    "spatial_mean": (spatial_mean, ("channels", "features", "unknown")),
    "flatten": (flatten, ("tokens", "channels", "features", "unknown")),
    "last_token": (last_token, ("tokens", "unknown")),
    EVERY_TOKEN: (every_token, ("tokens", "unknown")),
}
#: What `average` is, of each layout that is known.
AVERAGES: dict[Layout, Reduction] = {"channels": spatial_mean, "tokens": token_mean, "features": flatten}


class Probes:
    """One accumulator per probed module; `watching` hooks them for the length of a pass, and not longer.

    probes: by name. num_splits: how many a snapshot has, for the memory that is asked for. Raises ValueError for a name
    that is no submodule, the valid ones listed, and for a pattern that none has. What only a pass can tell is refused
    at its first batch: see `update`.
    """

    def __init__(self, network: nn.Module, probes: Mapping[str, Probe], num_classes: int, num_splits: int = 2) -> None:
        self._network, self._num_classes, self._num_splits = network, num_classes, num_splits
        #: The probe's name → its modules.
        self.probed = {name: _chosen(probe.module, network) for name, probe in probes.items()}
        every = dict(network.named_modules(remove_duplicate=False))
        self._asked = {
            f"{place} {probe.reduce}": (place, every[place], probe.reduce)
            for name, probe in probes.items()
            for place in self.probed[name]
        }
        self._kept: dict[str, _Kept] = {}
        self._times: Counter[str] = Counter()
        self._layouts: Layouts | None = None
        self._mask: Tensor | None = None
        #: What makes features of a module's output, by the name of its statistics; known after the first batch.
        self.reductions: dict[str, Reduction] = {}
        self._accumulators: dict[str, ClassStatisticsAccumulator] = {}

    @property
    def places(self) -> dict[str, str]:
        """Name of the statistics → the submodule; those that ran, in the order in which they ended in the last pass."""
        return {name: self._asked[name][0] for name in self._kept}

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Take the features of each module as it ends: what comes after may change its output in place. At the first
        batch, look at what all modules are.
        """
        if not self._asked:
            yield
            return
        with ExitStack() as held:
            held.enter_context(eager())
            for name, (_, module, _) in self._asked.items():
                held.callback(module.register_forward_hook(partial(self._keep, name)).remove)
            held.callback(self._network.register_forward_pre_hook(self._begin).remove)
            self._layouts, looking = Layouts(), ExitStack()
            held.enter_context(looking)
            looking.enter_context(self._layouts.watching())
            self._looking = looking
            yield

    def features(self, count: int, tokens: Tensor | None = None) -> dict[str, Tensor]:
        """Each probe's features (count, P), of the batch that just ran.

        tokens: (n, tokens) bool, which tokens are the `count` examples; None: `count` is n, and of EVERY_TOKEN features
        are (n, tokens, P). Raises ValueError, the module named, for one that did not run or ran more than once, an
        output that is not one tensor of n examples, and a layout that is unknown or does not go with the reduction.
        """
        if not self._asked:
            return {}
        self._looking.close()
        found = {}
        for name, (place, module, how) in self._asked.items():
            kept = self._checked(name, place, module, count if tokens is None else len(tokens))
            if name not in self.reductions:
                assert self._layouts is not None
                self.reductions[name] = _reduction(place, how, self._layouts.of(module), kept.shape)
            features = kept.features[self.reductions[name]]
            if isinstance(features, ValueError):
                raise features
            found[name] = features if tokens is None else _of_tokens(place, features, tokens)
        return found

    def update(self, labels: Tensor, tokens: Tensor | None = None, measured: Measured | None = None) -> None:
        """Add the outputs of the batch that just ran; labels (m,) are its, `tokens` as for `features`. measured: makes
        of features and labels those of the measured classes, and their numbers; None: all are. Raises ValueError as
        `features`, and before memory is taken that is not there.
        """
        found = self.features(len(labels), tokens)
        if not self._accumulators:
            self._refuse_too_wide(found)
        for name, features in found.items():
            if name not in self._accumulators:
                width = features.shape[1]
                self._accumulators[name] = ClassStatisticsAccumulator(self._num_classes, width, device=features.device)
            self._accumulators[name].update(*(measured(features, labels) if measured else (features, labels)))

    def check(self, count: int, tokens: Tensor | None = None) -> list[int]:
        """P of each probe's features, of the batch that just ran. Arguments and errors are those of `update`."""
        found = self.features(count, tokens)
        self._refuse_too_wide(found)
        return [features.shape[1] for features in found.values()]

    def all_reduce(self) -> None:
        """Make the sums those of all processes; collective."""
        for accumulator in self._accumulators.values():
            accumulator.all_reduce()

    def compute(self) -> dict[str, ClassStatistics]:
        """The statistics by name, ``backbone.3 average``."""
        return {name: accumulator.compute() for name, accumulator in self._accumulators.items()}

    def _begin(self, network: nn.Module, given: Any) -> None:
        self._kept.clear()
        self._times.clear()
        mask = given[0].get("attention_mask") if given and isinstance(given[0], Mapping) else None
        self._mask = mask if isinstance(mask, Tensor) and not bool(mask.bool().all()) else None

    def _keep(self, name: str, module: nn.Module, inputs: Any, output: Any) -> None:
        """Its features, by every reduction that may turn out to be meant."""
        place, _, how = self._asked[name]
        self._times[name] += 1
        try:
            tensor = tensor_of(module, output)
        except ValueError as error:
            self._kept[name] = _Kept(ValueError(f"modules: {place}: {error}. Name a module within it."))
            return
        self._kept[name] = kept = _Kept(None, tensor.shape)
        if tensor.dim() < 2:
            return
        averages = [flatten] if tensor.dim() == 2 else [spatial_mean, token_mean]
        for reduction in averages if how == "average" else [REDUCTIONS[how][0]]:
            if self.reductions.get(name, reduction) is reduction:
                try:
                    features = reduction(tensor, self._mask_for(place, reduction, tensor))
                    shared = features.untyped_storage().data_ptr() == tensor.untyped_storage().data_ptr()
                    kept.features[reduction] = features.clone() if shared else features
                except ValueError as error:
                    kept.features[reduction] = error

    def _checked(self, name: str, place: str, module: nn.Module, count: int) -> _Kept:
        """What was kept of it. Raises ValueError where it is not one tensor of `count` examples, put out once."""
        if not self._times[name]:
            got = "one that never runs, or whose program takes no hooks"
            raise ValueError(f"modules: expected modules that run in an evaluation, got {place}, {got}. Leave it out.")
        if self._times[name] > 1:
            others = [other for other, one in self._network.named_modules(remove_duplicate=False) if one is module]
            shared = f", under the names {', '.join(others)}" if len(others) > 1 else ""
            raise ValueError(
                f"modules: expected modules that run once in a pass, got {place}, which runs {self._times[name]} "
                f"times{shared}. Name a module around it, or behind it."
            )
        kept = self._kept[name]
        if kept.error:
            raise kept.error
        if len(kept.shape) < 2 or kept.shape[0] != count:
            raise ValueError(
                f"modules: expected outputs of {count} examples on the first axis, got {tuple(kept.shape)} of "
                f"{place}. Name a module around it; of attention, choose batch_first=True."
            )
        return kept

    def _mask_for(self, place: str, reduction: Reduction, tensor: Tensor) -> Tensor | None:
        """The mask, where it matters to this reduction."""
        if self._mask is None or tensor.dim() == 2 or reduction in (flatten, every_token):
            return None
        fits = tensor.dim() == 3 and self._mask.shape == tensor.shape[:2]
        if not fits or (reduction is class_token and not bool(self._mask[:, 0].bool().all())):
            raise ValueError(
                f"modules: expected outputs (n, tokens, width) that attention_mask {tuple(self._mask.shape)} belongs "
                f"to, with a first token that is no padding, got {tuple(tensor.shape)} of {place}. Choose another "
                "reduction, or batches without padding."
            )
        return self._mask

    def _refuse_too_wide(self, found: Mapping[str, Tensor]) -> None:
        if not found:
            return
        widths = {name: features.shape[1] for name, features in found.items()}
        needed = probe_bytes(self._num_classes, [*widths.values()], self._num_splits)
        free = free_bytes(next(iter(found.values())).device)
        if free is not None and needed > free:
            widest = max(widths, key=lambda name: widths[name])
            raise ValueError(
                f"modules: expected widths P whose statistics fit in memory, {decimal(free)} free, got {needed:,} "
                f"bytes ({decimal(needed)}) for {len(widths)} probes, the widest {widest} with "
                f"P = {widths[widest]:,}. Name fewer modules, or choose a mean in place of flatten."
            )


@dataclass
class _Kept:
    """Of a module's output in the last pass: why it has no features, its shape, its features by each reduction."""

    error: ValueError | None
    shape: tuple[int, ...] = ()
    features: dict[Reduction, Tensor | ValueError] = field(default_factory=dict)


def probe_bytes(num_classes: int, widths: Collection[int], num_splits: int) -> int:
    """The memory that statistics of these widths take: P² + C P numbers of eight bytes in the sums of the pass, the
    same in each split of the snapshot, and twice the widest P² while one is made of the other.
    """
    each = sum(width * (width + num_classes) for width in widths)
    return 8 * ((num_splits + 1) * each + 2 * max(widths, default=0) ** 2)


def free_bytes(device: torch.device) -> int | None:
    """The memory that is free where the sums lie; None where the system does not tell."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    told = Path("/proc/meminfo")
    found = re.search(r"MemAvailable:\s+(\d+) kB", told.read_text(encoding="utf-8")) if told.exists() else None
    return int(found[1]) * 1024 if found else None


def _chosen(asked: str, network: nn.Module) -> list[str]:
    """The submodules that a name, a pattern or EVERY_BLOCK stands for, in the network's order."""
    names = [name for name, _ in network.named_modules(remove_duplicate=False) if name]
    if asked == EVERY_BLOCK:
        found = blocks_of(network)
        near = "It has no list of blocks; name the modules, or give a pattern such as layers.*."
    elif "*" in asked:  # within one part of a name: blocks.* is no blocks.0.norm
        pattern = re.compile(r"[^.]*".join(map(re.escape, asked.split("*"))))
        found = [name for name, module in network.named_modules() if name and pattern.fullmatch(name)]
        near = nearest(asked, names)
    else:
        found, near = [asked] * (asked in names), nearest(asked, names)
    if not found:
        raise ValueError(f"modules: expected names of submodules, got {asked!r}. {near}")
    return found


def refuse_other_labels(probes: Iterable[Probe], of_tokens: bool) -> None:
    """Raises ValueError for a reduction to a vector an example where labels are of tokens, and the other way round."""
    for probe in probes:
        if of_tokens != (probe.reduce == EVERY_TOKEN):
            expected = f"{EVERY_TOKEN} with labels of tokens" if of_tokens else "one vector for each labelled example"
            repair = f"Choose features={EVERY_TOKEN}." if of_tokens else "Choose average, or say shift_labels."
            raise ValueError(f"features: expected {expected}, got {probe.reduce} of {probe.module}. {repair}")


def _of_tokens(place: str, features: Tensor, tokens: Tensor) -> Tensor:
    if features.shape[:2] != tokens.shape:
        raise ValueError(
            f"modules: expected outputs of as many tokens as the labels have, {tuple(tokens.shape)}, got "
            f"{tuple(features.shape)} of {place}. Name another module."
        )
    return features[tokens]


def _reduction(place: str, how: str, layout: Layout, shape: tuple[int, ...]) -> Reduction:
    """What makes features of this module's outputs. Raises ValueError where it is not known, or does not go with it."""
    shape = tuple(shape)
    if how == EVERY_TOKEN and (len(shape) != 3 or layout not in REDUCTIONS[how][1]):
        raise ValueError(
            f"modules: expected outputs (n, tokens, width) for labels of tokens, got {shape} of {place} "
            f"({WORDS[layout]}). Name another module."
        )
    if how != "average":
        reduction, layouts = REDUCTIONS[how]
        wrong = layout not in layouts or (how in ("class_token", "last_token") and len(shape) != 3)
        if wrong or (how == "token_mean" and layout == "unknown" and len(shape) < 3):
            raise ValueError(
                f"features: expected a reduction for the output {shape} of {place} ({WORDS[layout]}), got {how}. "
                f"Choose {_choices(layout, len(shape))}."
            )
        return reduction
    if layout not in AVERAGES:
        raise ValueError(
            f"features: expected outputs whose axes are known, got {shape} of {place}, of which neither its class nor "
            f"the modules in it tell where its units are. Choose features={_choices(layout, len(shape))}."
        )
    return AVERAGES[layout]


#: In messages.
WORDS: dict[Layout, str] = {
    "channels": "channels on axis 1",
    "tokens": "width on the last axis",
    "features": "features (n, P)",
    "batch_second": "the batch on axis 1",
    "unknown": "axes unknown",
}


def _choices(layout: Layout, axes: int) -> str:
    """The reductions that go with an output, as a message ends."""
    names = [name for name, (_, layouts) in REDUCTIONS.items() if layout in layouts and name != EVERY_TOKEN]
    if axes != 3:
        names = [name for name in names if name not in ("class_token", "last_token")]
    explained = {
        "token_mean": "token_mean (n, tokens, width)",
        "spatial_mean": "spatial_mean (n, channels, positions)",
    }
    return ", ".join(explained.get(name, name) if layout == "unknown" else name for name in names) or "another module"
