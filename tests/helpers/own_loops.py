"""A plain PyTorch training, as somebody writes it who has never seen ncexp, for tests of what records it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

NUM_CLASSES = 4


def examples(count: int, seed: int = 0) -> TensorDataset:
    """Four Gaussian classes of equal size in six dimensions."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % NUM_CLASSES
    centers = 3 * torch.eye(NUM_CLASSES, 6)
    return TensorDataset(centers[labels] + torch.randn(count, 6, generator=generator), labels)


def loaders(workers: int = 0) -> tuple[DataLoader[tuple[Tensor, ...]], DataLoader[tuple[Tensor, ...]]]:
    """Train: shuffled by the global generator, the last short batch dropped. Test: in order."""
    train = DataLoader(examples(90), batch_size=16, shuffle=True, drop_last=True, num_workers=workers)
    return train, DataLoader(examples(40, seed=1), batch_size=16)


def network() -> nn.Sequential:
    """Batch normalisation and dropout; the last layer is the submodule "last"."""
    model = nn.Sequential(nn.Linear(6, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Dropout(0.3))
    model.add_module("last", nn.Linear(12, NUM_CLASSES))
    return model


def half_mse(logits: Tensor, labels: Tensor) -> Tensor:
    """The paper's loss: ½ Ave ‖logits − onehot‖²."""
    return (logits - nn.functional.one_hot(labels, NUM_CLASSES)).square().sum() / 2 / len(labels)


def train_epoch(model: nn.Module, loader: DataLoader[tuple[Tensor, ...]], optimizer: torch.optim.Optimizer) -> None:
    model.train()
    for inputs, labels in loader:
        optimizer.zero_grad()
        half_mse(model(inputs), labels).backward()
        optimizer.step()


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
