"""The loop: epochs of steps, a stop where the loss is no number, a checkpoint at any step boundary."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ncexp.checkpoint import Position
from ncexp.datasets import Examples
from ncexp.distributed import SINGLE, Processes
from ncexp.interruption import Diverged, Interrupted
from ncexp.optimizers import Schedule


@dataclass
class Training:
    """One network being trained on one split.

    seed: orders the examples, each epoch by a permutation of its own that depends on nothing but (seed, epoch), so
    that a resumed run sees the same batches; position: where the training stands; processes: those that share each
    batch among them, of which `batch_size` counts the examples of all.
    """

    network: nn.Module
    loss: Callable[[Tensor, Tensor], Tensor]
    optimizer: Optimizer
    schedule: Schedule
    data: Examples
    batch_size: int
    seed: int
    position: Position
    processes: Processes = SINGLE

    def __post_init__(self) -> None:
        self._forward = self.processes.wrap(self.network)
        self.base_rates = [group["lr"] for group in self.optimizer.param_groups]

    def run_epoch(self, should_stop: Callable[[], bool]) -> dict[str, float]:
        """Train the rest of the epoch at `position`, then move to the next one.

        Answers the epoch's means over its examples, as the steps met them: fit/loss (without decay), fit/error, fit/lr.
        Raises Diverged at a step whose loss is not finite, before the optimizer takes it, or where the last step left
        parameters that are not; Interrupted after a step when `should_stop()`.
        """
        position = self.position
        self.network.train()
        rate = self._set_learning_rate(position.epoch)
        share = self.processes.share(self._order(position.epoch), self.batch_size)
        for inputs, labels in self.data.batches(self.batch_size // self.processes.size, share, start=position.step):
            self._step(inputs, labels)
            if self.processes.any(should_stop()):
                raise Interrupted(f"stopped in epoch {position.epoch} after step {position.step}")
        if not all(bool(parameter.isfinite().all()) for parameter in self.network.parameters()):
            raise Diverged(f"a parameter is not finite after epoch {position.epoch}")
        summary = {
            "fit/loss": position.loss_sum / position.examples,
            "fit/error": position.wrong / position.examples,
            "fit/lr": rate,
        }
        self.position = Position(epoch=position.epoch + 1)
        return summary

    def _step(self, inputs: Tensor, labels: Tensor) -> None:
        logits, _ = self._forward(inputs)
        loss = self.loss(logits, labels)
        wrong = int((logits.argmax(1) != labels).sum())
        loss_sum, wrong_sum, examples = self.processes.sum([loss.item() * len(labels), wrong, len(labels)])
        if not math.isfinite(loss_sum):
            raise Diverged(
                f"the loss is {loss_sum / examples} in epoch {self.position.epoch}, step {self.position.step + 1}"
            )
        self.optimizer.zero_grad()
        # Gradients are averaged over the processes, whose shares may differ by an example; alone the factor is 1.
        (loss * (len(labels) * self.processes.size / examples)).backward()
        self.optimizer.step()
        self.position.step += 1
        self.position.loss_sum += loss_sum
        self.position.wrong += int(wrong_sum)
        self.position.examples += int(examples)

    def _set_learning_rate(self, epoch: int) -> float:
        factor = self.schedule(epoch)
        for group, base in zip(self.optimizer.param_groups, self.base_rates, strict=True):
            group["lr"] = base * factor
        return float(self.optimizer.param_groups[0]["lr"])

    def _order(self, epoch: int) -> Tensor:
        digest = hashlib.sha256(f"{self.seed}/{epoch}".encode()).digest()
        generator = torch.Generator(self.data.labels.device).manual_seed(int.from_bytes(digest[:8], "big") >> 1)
        return torch.randperm(len(self.data), generator=generator, device=self.data.labels.device)
