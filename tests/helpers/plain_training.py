"""A training as somebody would write it who has never seen ncexp: PyTorch, torchvision, scikit-learn, torch.save."""

from __future__ import annotations

from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import mse_loss, one_hot


def train(model: nn.Module, folder: Path, epochs: int) -> None:
    """A few steps an epoch on 200 handwritten digits, grey as they are in three channels; a checkpoint after each."""
    torch.manual_seed(0)
    digits = load_digits()
    images = torch.tensor(digits.images[:200], dtype=torch.float32).unsqueeze(1).repeat(1, 3, 1, 1)
    labels = torch.tensor(digits.target[:200])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9, weight_decay=5e-4)
    folder.mkdir()
    for epoch in range(1, epochs + 1):
        model.train()
        for batch in torch.randperm(len(images)).split(50):
            loss = mse_loss(model(images[batch]), one_hot(labels[batch], 10).float())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        content = {"epoch": epoch, "model_state_dict": model.state_dict(), "optimizer": optimizer.state_dict()}
        torch.save(content, folder / f"epoch_{epoch}.pt")
