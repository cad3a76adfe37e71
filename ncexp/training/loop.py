"""The loop: epochs of steps, a stop where the loss is no number, a checkpoint at any step boundary."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ncexp.config import Precision, Steps
from ncexp.datasets import Examples
from ncexp.datasets.augmentation import Augmentation, neighbours
from ncexp.training.averages import Averages
from ncexp.training.checkpoint import Position
from ncexp.training.closures import SAM, Closure, needs_closure
from ncexp.training.distributed import SINGLE, Processes
from ncexp.training.losses import Objective
from ncexp.training.machine import Diverged, Interrupted, autocast, rounding
from ncexp.training.optimizers import Schedule
from ncexp.training.regimes import PathRegime
from ncexp.training.start import Frozen

PLAIN_STEPS = Steps()


@dataclass
class Training:
    """One network being trained on one split.

    seed: orders the examples, each epoch by a permutation of its own that depends on nothing but (seed, epoch), so
    that a resumed run sees the same batches; position: where the training stands; precision: the arithmetic of the
    steps; compiled: have torch.compile make one program of the forward and one of the backward pass; processes: those
    that share each batch among them, of which `batch_size` counts the examples of all; path: what puts the last layer
    on the central path, None where it is trained; frozen: what of the network is not trained, None: nothing;
    augmentation: what the steps make of their images, None: nothing; steps: clipping, and the parts of a batch;
    averages: the means of the weights, None where none are wanted.
    """

    network: nn.Module
    loss: Objective
    optimizer: Optimizer
    schedule: Schedule
    data: Examples
    batch_size: int
    seed: int
    position: Position
    precision: Precision = "fp32"
    compiled: bool = False
    processes: Processes = SINGLE
    path: PathRegime | None = None
    frozen: Frozen | None = None
    augmentation: Augmentation | None = None
    steps: Steps = PLAIN_STEPS
    averages: Averages | None = None

    def __post_init__(self) -> None:
        self._forward: Callable[[Tensor], tuple[Tensor, Tensor]] = self.processes.wrap(self.network)
        if self.compiled:  # a program for each size of batch, of which an epoch has two at most
            self._forward = torch.compile(self._forward, dynamic=False)
        #: Places in the data of the examples that the steps of the last epoch, since it was resumed, decided wrongly.
        self.wrong = torch.zeros(0, dtype=torch.int64)
        #: The largest L_LS^⊥/L of the steps since `_add_up` was called last, on the device that computed it.
        self._perp_share = torch.zeros(())
        self.base_rates = [group["lr"] for group in self.optimizer.param_groups]
        self._num_steps = math.ceil(len(self.data) / self.batch_size)
        #: Whether the schedule is called before every step, with the epoch and the part of it that is done: 2 + 1/3
        #: in epoch 2 after the first of three steps.
        self._per_step = getattr(self.schedule, "per_step", False)
        self._repeats = needs_closure(self.optimizer)
        #: Rows of a batch that are of one example; the step log has those of the first view.
        self._views = self.augmentation.views if self.augmentation else 1

    def run_epoch(self, should_stop: Callable[[], bool]) -> dict[str, float]:
        """Train the rest of the epoch at `position`, then move to the next one.

        Returns the epoch's means over its examples, as the steps met them: fit/loss (without decay), of classes
        fit/error (of mixed examples those decided for another class than the one of the larger part), and fit/lr;
        on the central path also fit/perp_share, the largest L_LS^⊥/L of a step.
        `wrong` are then the examples that were decided wrongly.
        Raises Diverged at a step whose loss is not finite (on a GPU, which the host queues steps for, once that is
        known), or where the epoch left parameters that are not; Interrupted after a step when `should_stop()`.
        """
        position = self.position
        self.network.train()
        if self.frozen is not None:
            self.frozen.hold()
        rate = self._set_learning_rate(position.epoch)
        order = self._order(position.epoch)
        share = self.processes.share(order, self.batch_size)
        log = StepLog(self._num_steps, len(share), share.device)
        with rounding(self.precision):
            for inputs, labels in self._batches(order, share):
                if self._per_step:
                    self._set_learning_rate(position.epoch + position.step / self._num_steps)
                self._step(inputs, labels, log)
                if self.processes.any(should_stop() or not log.seems_finite()):
                    self._add_up(log)
                    raise Interrupted(f"stopped in epoch {position.epoch} after step {position.step}")
        self._add_up(log)
        self.wrong = share[len(share) - log.num_seen :][log.wrong()]
        if not bool(torch.stack([parameter.isfinite().all() for parameter in self.network.parameters()]).all()):
            raise Diverged(f"a parameter is not finite after epoch {position.epoch}")
        if self.averages is not None:
            self.averages.after_epoch(position.epoch)
        summary = {
            "fit/loss": position.loss_sum / len(self.data),
            "fit/error": position.wrong / len(self.data),
            "fit/lr": rate,
        }
        if self.data.labels.is_floating_point():
            del summary["fit/error"]
        if self.path is not None:
            summary["fit/perp_share"] = position.perp_share
        self.position = Position(epoch=position.epoch + 1)
        return summary

    def _batches(self, order: Tensor, share: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """The rest of the epoch's batches, of this process."""
        position, size = self.position, self.batch_size // self.processes.size
        if self.augmentation is None:
            return self.data.batches(size, share, start=position.step)
        others = None
        if self.processes.size > 1:
            others = self.processes.share(neighbours(order, self.batch_size), self.batch_size)
        return self.augmentation.batches(position.epoch, size, share, others, start=position.step)

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and features as a step computes them: in the run's precision, compiled where it is."""
        with autocast(self.precision, inputs.device):
            return self._forward(inputs)

    def _step(self, inputs: Tensor, labels: Tensor, log: StepLog) -> None:
        """Nothing here waits for the device, unless the optimizer does."""
        if self._repeats:
            evaluate = Closure(
                self.network,
                lambda first: self._gradients(inputs, labels, log if first else None),
                keeps_buffers=isinstance(self.optimizer, SAM),
            )
            self.optimizer.step(evaluate)  # type: ignore[arg-type]  # torch's own say that it is a float
        else:
            self._gradients(inputs, labels, log)
            self.optimizer.step()
        if self.path is not None:
            self.path.after_step()
        if self.averages is not None:
            self.averages.after_step()
        self.position.step += 1

    def _gradients(self, inputs: Tensor, labels: Tensor, log: StepLog | None) -> Tensor:
        """Leave the gradients of the batch's mean loss, which is returned; log: where it is entered.

        In parts they are the same to rounding, but batch norm standardises by the statistics of each part.
        """
        batch = min(self.batch_size, len(self.data) - self.position.step * self.batch_size)
        self.optimizer.zero_grad()
        if self.steps.accumulate == 1:
            loss, logits = self._backward(inputs, labels, batch)
        else:
            size = self.batch_size // self.steps.accumulate  # of one process
            parts = list(zip(inputs.split(size), labels.split(size), strict=True))
            met = [self._backward(*part, batch) for part in parts]
            counts = [len(part) / len(labels) for _, part in parts]
            loss = torch.stack([one * count for (one, _), count in zip(met, counts, strict=True)]).sum()
            logits = torch.cat([one for _, one in met])
        if log is not None:
            soft = labels.is_floating_point() and not self.data.labels.is_floating_point()
            count = len(labels) // self._views
            log.add(loss, logits[:count], (labels.argmax(1) if soft else labels)[:count])
        if self.steps.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.steps.clip_norm)
        return loss

    def _backward(self, inputs: Tensor, labels: Tensor, batch: int) -> tuple[Tensor, Tensor]:
        """Add the gradients of these examples, a part of a batch of so many; returns their mean loss, and logits."""
        logits, features = self.forward(inputs)
        if self.precision == "bf16":
            logits, features = logits.float(), features.float()
        penalty: Tensor | None = None
        if self.path is not None:
            logits, penalty, perp_share = self.path.step(features, labels)
            self._perp_share = torch.maximum(self._perp_share.to(perp_share), perp_share)
        loss = self.loss(logits, labels, features, getattr(self.network, "classifier", None))
        met = loss.detach(), logits.detach()
        if penalty is not None:  # of a layer that the optimizer does not decay, as it is no parameter of its own
            loss = loss + penalty
        # Gradients are averaged over the processes, whose shares of a short batch may differ by an example.
        weight = len(labels) * self.processes.size / (batch * self._views)
        (loss if weight == 1 else loss * weight).backward()
        return met

    def _add_up(self, log: StepLog) -> None:
        """Enter what the logged steps met into the position; raises Diverged at the first loss that is not finite."""
        position = self.position
        *losses, wrong = self.processes.sum(log.read())
        for step, loss in enumerate(losses, start=position.step - len(losses) + 1):
            if not math.isfinite(loss):
                raise Diverged(f"the loss is {loss} in epoch {position.epoch}, step {step}")
            position.loss_sum += loss
        position.wrong += int(wrong)
        if self.path is not None:
            position.perp_share = max(position.perp_share, float(self._perp_share))
            self._perp_share = torch.zeros(())

    def _set_learning_rate(self, epoch: float) -> float:
        factor = self.schedule(epoch)
        for group, base in zip(self.optimizer.param_groups, self.base_rates, strict=True):
            group["lr"] = base * factor
        return float(self.optimizer.param_groups[0]["lr"])

    def _order(self, epoch: int) -> Tensor:
        digest = hashlib.sha256(f"{self.seed}/{epoch}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
        # On the CPU wherever the data lie: a GPU's generator would draw another order from the same seed.
        return torch.randperm(len(self.data), generator=generator).to(self.data.labels.device)


class StepLog:
    """The losses of `num_steps` steps, and which of `num_examples` examples were decided wrongly, on `device`.

    Reading a number off a GPU after each step would leave it idle until the host has queued the next one. So the log
    stays on the device until `read`; meanwhile `seems_finite` goes by the latest loss that has arrived by itself.
    """

    def __init__(self, num_steps: int, num_examples: int, device: torch.device) -> None:
        self._losses = torch.zeros(num_steps, dtype=torch.float64, device=device)
        self._wrong = torch.zeros(num_examples, dtype=torch.bool, device=device)
        self._counts: list[int] = []
        self.num_seen = 0
        self._latest: _Arriving | None = None
        self._finite = True

    def add(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """One step: its mean loss, a scalar, its logits (m, C) and labels (m,), or targets."""
        slot, last = self._losses[len(self._counts)], self.num_seen + len(labels)
        slot.copy_(loss.detach())
        if not labels.is_floating_point():  # a target is not decided
            torch.ne(logits.argmax(1), labels, out=self._wrong[self.num_seen : last])
        self._counts.append(len(labels))
        self.num_seen = last
        if self.seems_finite() and (self._latest is None or self._latest.has_arrived()):
            self._latest = _Arriving(slot)

    def seems_finite(self) -> bool:
        """Was every loss that has arrived a finite number? Never waits; on a CPU all have."""
        if self._latest is not None and self._latest.has_arrived():
            self._finite = self._finite and math.isfinite(self._latest.number())
        return self._finite

    def wrong(self) -> Tensor:
        """(num_seen,) bool: which of the examples, in the order of the steps, were decided wrongly."""
        return self._wrong[: self.num_seen]

    def read(self) -> list[float]:
        """Each step's loss · examples and, last, the number of wrong decisions; waits for the device."""
        losses = self._losses[: len(self._counts)].tolist()
        return [*(loss * count for loss, count in zip(losses, self._counts, strict=True)), float(self._wrong.sum())]


class _Arriving:
    """A number on its way to the host beside the device's other work; from a CPU it has none to go."""

    def __init__(self, scalar: Tensor) -> None:
        self._copy = scalar.to("cpu", non_blocking=True)  # into pinned memory: else the host would wait for it
        self._event: torch.cuda.Event | None = None
        if scalar.is_cuda:
            self._event = torch.cuda.Event()
            self._event.record(torch.cuda.current_stream(scalar.device))  # that of the copy

    def has_arrived(self) -> bool:
        return self._event is None or bool(self._event.query())

    def number(self) -> float:
        return float(self._copy)
