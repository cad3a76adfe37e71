"""A causal Transformer of torch alone, and what is measured of it in NumPy alone."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from numpy import ndarray
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

VOCABULARY, WIDTH, TOKENS = 24, 10, 9


class CausalModel(nn.Module):
    """Tokens (n, tokens) → an object with `.logits` (n, tokens, V), by a last layer that is the embedding too."""

    def __init__(self, vocabulary: int = VOCABULARY, width: int = WIDTH) -> None:
        super().__init__()
        self.embedding, self.places = nn.Embedding(vocabulary, width), nn.Embedding(TOKENS, width)
        self.mixed, self.norm = nn.Linear(width, 3 * width), nn.LayerNorm(width)
        self.lm_head = nn.Linear(width, vocabulary, bias=False)
        self.lm_head.weight = self.embedding.weight

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> SimpleNamespace:
        tokens = self.embedding(input_ids) + self.places.weight[: input_ids.shape[1]]
        query, key, value = self.mixed(tokens).unsqueeze(1).chunk(3, -1)
        seen = torch.ones(2 * input_ids.shape[1:], dtype=torch.bool).tril()
        if attention_mask is not None:
            seen = seen & (attention_mask[:, None, None, :].bool() | torch.eye(len(seen), dtype=torch.bool))
        mixed = scaled_dot_product_attention(query, key, value, seen)
        return SimpleNamespace(logits=self.lm_head(self.norm(tokens + mixed[:, 0])))


def make(num_classes: int = VOCABULARY) -> nn.Module:
    """For architecture=tokens; float32."""
    torch.manual_seed(3)
    return CausalModel(num_classes)


def rows(count: int, seed: int) -> list[dict[str, Tensor]]:
    """Sequences of which the second half of the vocabulary is rare and its last tokens never occur; padded, -100."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(count):
        weights = torch.tensor([8.0] * 12 + [0.3] * 8 + [0.0] * 4)
        ids = torch.multinomial(weights, TOKENS, replacement=True, generator=generator)
        mask = (torch.arange(TOKENS) < torch.randint(4, TOKENS + 1, (), generator=generator)).long()
        found.append({"input_ids": ids * mask, "attention_mask": mask, "labels": torch.where(mask > 0, ids, -100)})
    return found


def data() -> tuple[Any, Any]:
    """For dataset=tokens."""
    return rows(40, 0), rows(30, 1)


def positions(model: nn.Module, examples: list[dict[str, Tensor]], shift: bool) -> tuple[ndarray, ndarray, ndarray]:
    """Logits (m, V), features (m, P), labels (m,), a sequence at a time and a token at a time."""
    taken: list[Tensor] = []
    handle = model.lm_head.register_forward_pre_hook(lambda layer, given: taken.append(given[0]))
    logits, features, labels = [], [], []
    with torch.no_grad():
        for row in examples:
            answer = model(row["input_ids"][None], row["attention_mask"][None]).logits[0]
            for place in range(TOKENS - shift):
                if (label := int(row["labels"][place + shift])) != -100:
                    logits.append(answer[place].double().numpy())
                    features.append(taken[-1][0, place].double().numpy())
                    labels.append(label)
    handle.remove()
    return np.stack(logits), np.stack(features), np.array(labels)


def occurring(labels: list[ndarray], at_least: int) -> list[int]:
    """The classes with so many labels in each split."""
    return [c for c in range(VOCABULARY) if all((one == c).sum() >= at_least for one in labels)]


def softmax(logits: ndarray) -> ndarray:
    raised = np.exp(logits - logits.max(1, keepdims=True))
    return raised / raised.sum(1, keepdims=True)


def measured(features: ndarray, labels: ndarray, weight: ndarray, means: ndarray) -> dict[str, float]:
    """By name, of K measured classes: features (n, P), labels 0..K−1, rows of W (K, P); means (K, P) of train.

    λ = 0, no bias; the features lie in fewer dimensions than P, as behind a LayerNorm.
    """
    n, classes = len(features), len(weight)
    own = np.stack([features[labels == c].mean(0) for c in range(classes)])
    share = np.bincount(labels, minlength=classes) / n
    apart = features - own[labels]
    within = apart.T @ apart / n
    centered = own - share @ own
    between = centered.T @ np.diag(share) @ centered
    spread = [float((apart[labels == c] ** 2).sum(1).mean()) for c in range(classes)]
    pairs = [(i, j) for i in range(classes) for j in range(classes) if i != j]
    frame = own - own.mean(0)
    lengths, of_weight = np.linalg.norm(frame, axis=1), np.linalg.norm(weight, axis=1)
    directions = frame / lengths[:, None]
    cosines = np.array([directions[i] @ directions[j] for i, j in pairs])
    targets = np.eye(classes)[labels]
    best = np.linalg.lstsq(features, targets, rcond=1e-10)[0].T
    nearest = ((features[:, None] - means) ** 2).sum(2).argmin(1)

    def loss(layer: ndarray, of: ndarray, to: ndarray, weights: ndarray) -> float:
        return float((weights * ((of @ layer.T - to) ** 2).sum(1)).sum() / 2)

    whole, of_means = loss(weight, features, targets, np.full(n, 1 / n)), loss(best, own, np.eye(classes), share)
    least = loss(best, features, targets, np.full(n, 1 / n))
    return {
        "collapse/nc1_trace_on_range": float(np.trace(within @ np.linalg.pinv(between, rcond=1e-8)) / classes),
        "collapse/nc1_ratio": float(np.trace(within) / np.trace(between)),
        "collapse/cdnv": float(
            np.mean([(spread[i] + spread[j]) / 2 / ((own[i] - own[j]) ** 2).sum() for i, j in pairs])
        ),
        "collapse/equinorm_means": float(lengths.std(ddof=1) / lengths.mean()),
        "collapse/equinorm_classifier": float(of_weight.std(ddof=1) / of_weight.mean()),
        "collapse/equiangularity_means": float(cosines.std()),
        "collapse/self_duality": float(((weight / np.linalg.norm(weight) - frame / np.linalg.norm(frame)) ** 2).sum()),
        "collapse/nearest_class_center_mismatch": float(((features @ weight.T).argmax(1) != nearest).mean()),
        "decisions/nearest_class_center_error": float((nearest != labels).mean()),
        "mse/loss": whole,
        "mse/loss_ls": least,
        "mse/loss_nc23": of_means,
        "mse/loss_nc1": least - of_means,
        "mse/loss_ls_perp": whole - least,
    }
