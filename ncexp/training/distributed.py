"""One run on several processes, one for each GPU: every step's batch and every evaluation's examples are shared out."""

from __future__ import annotations

import atexit
import os
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel


@dataclass(frozen=True)
class Processes:
    """The rank of this process and the number of processes of the run; `SINGLE` where it has one, which never waits."""

    rank: int = 0
    size: int = 1
    #: The device on which numbers of several processes are added: a GPU only if their backend has no other.
    device: str = "cpu"

    @property
    def first(self) -> bool:
        """Rank 0, the only process that writes."""
        return self.rank == 0

    def sum(self, values: Sequence[float]) -> list[float]:
        """Σ over the processes of each value; collective, among the hosts where they can: no GPU is waited for."""
        if self.size == 1:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64, device=self.device)
        torch.distributed.all_reduce(total)
        return [float(value) for value in total.tolist()]

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in at least one process; collective."""
        return self.sum([float(flag)])[0] > 0

    def wait(self) -> None:
        """Until all processes have called this; collective."""
        self.sum([0.0])

    def share(self, order: Tensor, batch_size: int) -> Tensor:
        """The examples of this process, of each batch every size-th; in batches of batch_size / size."""
        if self.size == 1:
            return order
        return torch.cat([batch[self.rank :: self.size] for batch in order.split(batch_size)])

    def refuse_unequal(self, num_examples: int, batch_size: int) -> None:
        """Raises ValueError where a batch cannot be shared out so that every process has as much, or any, of it."""
        if batch_size % self.size:
            raise ValueError(
                f"batch_size: expected a multiple of the {self.size} processes, got {batch_size}. Choose another."
            )
        if 0 < num_examples % batch_size < self.size:
            raise ValueError(
                f"batch_size: expected a last batch of at least {self.size} examples, one for each process, got "
                f"{num_examples % batch_size} of {num_examples}. Choose another."
            )

    def wrap(self, network: nn.Module) -> nn.Module:
        """The network whose backward pass averages gradients over the processes, batch statistics taken over all.

        Raises ValueError for batch normalisation without GPUs, where torch has none over several processes.
        """
        if self.size == 1:
            return network
        device = next(network.parameters()).device
        normalised = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.modules())
        if normalised and device.type == "cpu":
            raise ValueError(
                "architecture: expected no batch normalisation in a run of several processes without GPUs, got some. "
                "Use one process, or GPUs."
            )
        network = nn.SyncBatchNorm.convert_sync_batchnorm(network)  # of its submodules, in place
        return DistributedDataParallel(network, device_ids=[device] if device.type == "cuda" else None)


SINGLE = Processes()


def joined() -> Processes:
    """The processes of somebody else's loop, from torch's process group; SINGLE without a group."""
    group = torch.distributed
    if not group.is_available() or not group.is_initialized() or group.get_world_size() == 1:
        return SINGLE
    device = "cuda" if group.get_backend() == "nccl" else "cpu"
    return Processes(group.get_rank(), group.get_world_size(), device)


def join(device: str) -> Processes:
    """Join the other processes of this run, by torchrun's environment variables; SINGLE where there are none.

    device: the run's. Where there are GPUs and it is not cpu, each process has its own and nccl between them; the hosts
    speak through gloo.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return SINGLE
    if not torch.distributed.is_initialized():
        on_gpus = device != "cpu" and torch.cuda.is_available()
        if on_gpus:
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
        torch.distributed.init_process_group("cpu:gloo,cuda:nccl" if on_gpus else "gloo")
        atexit.register(torch.distributed.destroy_process_group)
    return Processes(torch.distributed.get_rank(), torch.distributed.get_world_size())
