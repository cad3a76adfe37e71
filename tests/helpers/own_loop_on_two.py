"""What a process of `test_recorder_distributed` runs under torchrun: a plain loop in DistributedDataParallel."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from own_loops import NUM_CLASSES, examples, half_mse, network
from torch import nn
from torch.utils.data import DataLoader, DistributedSampler

import ncexp


def main(folder: Path, shared: bool) -> None:
    """Two epochs; shared: recorded by loaders with a DistributedSampler, else by loaders of all examples.

    Every process writes what its training came to, recorded or not.
    """
    torch.distributed.init_process_group("gloo")
    rank = torch.distributed.get_rank()
    torch.manual_seed(0)
    plain = network()
    model = nn.parallel.DistributedDataParallel(plain)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    data, sampler = examples(91), DistributedSampler(examples(91), shuffle=True)
    loader = DataLoader(data, batch_size=8, sampler=sampler)
    watched = loader if shared else DataLoader(data, batch_size=8, shuffle=True)
    recorder = (
        None
        if folder.name == "without"
        else ncexp.Recorder(folder / "mine", num_classes=NUM_CLASSES, classifier="last", loss="mse", weight_decay=0.0)
    )
    for epoch in (1, 2):
        sampler.set_epoch(epoch)
        model.train()
        for inputs, labels in loader:
            optimizer.zero_grad()
            half_mse(model(inputs), labels).backward()
            optimizer.step()
        if recorder is not None:
            found = recorder.evaluate(epoch, model, watched)
            torch.save(found, folder / f"found_{epoch}_{rank}.pt")
    if recorder is not None:
        recorder.close()
    torch.save(plain.state_dict(), folder / f"weights_{rank}.pt")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2] == "shared")
