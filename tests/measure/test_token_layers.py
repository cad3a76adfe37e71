"""Layers of models that answer at every token, each labelled token an example: against NumPy; what is refused."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_language_model as tiny
import torch
from numpy import ndarray
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import ncexp

#: Sums of the same numbers in float64, in another order.
TOLERANCE = 1e-9
ROWS = {"train": tiny.rows(60, 0), "test": tiny.rows(40, 1)}
BLOCKS = ["transformer.h.0", "transformer.h.1"]
OF_LAYERS = ("nc1_ratio", "cdnv", "equinorm_means", "equiangularity_means")


@pytest.fixture(autouse=True)
def _without_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ncexp.recorder.draw_run", lambda directory: [])


@pytest.fixture(scope="module")
def causal_model() -> Any:
    os.environ["HF_HUB_OFFLINE"] = "1"
    transformers = pytest.importorskip("transformers")
    sizes = {"n_embd": 12, "n_layer": 2, "n_head": 2, "vocab_size": tiny.VOCABULARY, "n_positions": tiny.TOKENS}
    torch.manual_seed(0)
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes, bos_token_id=0, eos_token_id=0))
    return model.double().eval()


def recorded(folder: Path, model: nn.Module, analyses: Any, **options: Any) -> dict[str, float]:
    """The numbers of one epoch; loaders of 7 sequences, the training rows shuffled."""
    given = {"classifier": "lm_head", "num_classes": tiny.VOCABULARY, "shift_labels": True, **options}
    with ncexp.Recorder(folder, **given, analyses=analyses) as recorder:
        loaders = [DataLoader(rows, 7, shuffle=name == "train") for name, rows in ROWS.items()]
        return dict(recorder.evaluate(1, model, *loaders))


def outputs(model: Any, rows: list[dict[str, Tensor]]) -> tuple[dict[str, ndarray], ndarray]:
    """Block → its output (m, P) at each labelled token, and the labels (m,): a sequence and a token at a time."""
    taken = dict[str, Tensor]()

    def keep(place: str) -> Any:
        return lambda module, given, output: taken.update({place: output[0] if isinstance(output, tuple) else output})

    handles = [model.transformer.h[number].register_forward_hook(keep(place)) for number, place in enumerate(BLOCKS)]
    found: dict[str, list[ndarray]] = {place: [] for place in BLOCKS}
    labels = []
    with torch.no_grad():
        for row in rows:
            model(row["input_ids"][None], attention_mask=row["attention_mask"][None])
            for place in range(tiny.TOKENS - 1):
                if (label := int(row["labels"][place + 1])) != -100:
                    labels.append(label)
                    for block in BLOCKS:
                        found[block].append(taken[block][0, place].numpy().copy())
    for handle in handles:
        handle.remove()
    return {block: np.stack(one) for block, one in found.items()}, np.array(labels)


@pytest.mark.parametrize("at_least", [1, 5])
def test_blocks_of_a_causal_model_equal_numpy(at_least: int, causal_model: Any, tmp_path: Path) -> None:
    probed = {"every": "block", "features": "every_token"}
    options: dict[str, Any] = {"classes": "occurring", "min_examples": at_least}
    numbers = recorded(tmp_path / "run", causal_model, {"layers": probed, "depth": probed}, **options)
    parts = {name: outputs(causal_model, rows) for name, rows in ROWS.items()}
    classes = tiny.occurring([labels for _, labels in parts.values()], at_least)
    assert 2 < len(classes) < tiny.VOCABULARY
    known = {name: np.isin(labels, classes) for name, (_, labels) in parts.items()}
    assert at_least == 1 or not known["train"].all()
    errors: dict[str, list[float]] = {"train": [], "test": []}
    for block in BLOCKS:
        train = parts["train"][0][block][known["train"]]
        numbered = {name: np.searchsorted(classes, labels[known[name]]) for name, (_, labels) in parts.items()}
        means = np.stack([train[numbered["train"] == c].mean(0) for c in range(len(classes))])
        targets = np.eye(len(classes))[numbered["train"]]
        solved, *_ = np.linalg.lstsq(np.c_[train, np.ones(len(train))], targets, rcond=1e-10)
        for split, (features, _) in parts.items():
            rows, labels = features[block][known[split]], numbered[split]
            layer = f"{split}/layers/{block}"
            by_hand = tiny.measured(rows, labels, means, means)
            for quantity in OF_LAYERS:
                assert numbers[f"{layer}/{quantity}"] == pytest.approx(by_hand[f"collapse/{quantity}"], rel=TOLERANCE)
            wrong = by_hand["decisions/nearest_class_center_error"]
            assert numbers[f"{layer}/nearest_class_center_error"] == pytest.approx(wrong, abs=1e-12)
            by_probe = (np.c_[rows, np.ones(len(rows))] @ solved).argmax(1)
            assert numbers[f"{layer}/probe_error"] == pytest.approx((by_probe != labels).mean(), abs=1e-12)
            errors[split].append(wrong)
        left_over = targets - np.c_[train, np.ones(len(train))] @ solved
        explained = 1 - (left_over**2).sum() / ((targets - targets.mean(0)) ** 2).sum()
        assert numbers[f"train/layers/{block}/probe_explained"] == pytest.approx(explained, rel=TOLERANCE)
    for split, (first, last) in errors.items():
        assert numbers[f"{split}/depth/effective_depth"] == (1 if first <= last else 2)


def test_layers_of_occurring_classes_are_those_of_these_classes_alone(tmp_path: Path) -> None:
    torch.manual_seed(0)
    inputs, labels = torch.randn(30, 5), torch.tensor([1, 4, 6] * 10)
    network = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 8))
    few = nn.Sequential(*network[:2], nn.Linear(4, 3))
    few[2].load_state_dict({"weight": network[2].weight[[1, 4, 6]], "bias": network[2].bias[[1, 4, 6]]})
    chosen = {"modules": ["0", "1"]}

    def numbers(name: str, model: nn.Module, of: Tensor, outputs: int, **options: Any) -> dict[str, float]:
        given: dict[str, Any] = {"classifier": "2", "num_classes": outputs, **options}
        with ncexp.Recorder(tmp_path / name, **given, analyses={"layers": chosen, "depth": chosen}) as recorder:
            return dict(recorder.evaluate(1, model, DataLoader(TensorDataset(inputs, of), 7)))

    sparse = numbers("sparse", network, labels, 8, classes="occurring")
    dense = numbers("dense", few, labels.unique(return_inverse=True)[1], 3)
    compared = [name for name in dense if "/layers/" in name or "/depth/" in name]
    assert len(compared) > 20
    # The next weight of the last module is the classifier's, of which all 8 rows read the features.
    for name in compared:
        if "layers/1/next_weight" not in name:
            assert sparse[name] == pytest.approx(dense[name], rel=TOLERANCE, nan_ok=True), name


class Merged(nn.Module):
    """A causal model of which a module puts out half as many tokens, another sequences, a third no tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.model, self.pooled = tiny.CausalModel().double(), nn.AvgPool1d(2)
        self.joined, self.thinned = nn.Flatten(), nn.Identity()

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Any:
        answer = self.model(input_ids, attention_mask)
        self.pooled(answer.logits), self.joined(answer.logits), self.thinned(answer.logits[:, ::2])
        return answer


def _cases() -> Iterator[Any]:
    of_tokens = {"classes": "occurring"}
    yield "layers", {"modules": ["model.norm"]}, of_tokens, "features: expected every_token with labels of tokens"
    yield (
        "depth",
        {"modules": ["joined"], "features": "every_token"},
        of_tokens,
        r"got \(7, 216\) of joined",
    )
    yield (
        "layers",
        {"modules": ["thinned"], "features": "every_token"},
        of_tokens,
        r"as the labels have, \(7, 9\), got",
    )
    yield "layers", {"modules": ["pooled"], "features": "every_token"}, of_tokens, r"Name another module"
    yield "robustness", {}, of_tokens, "for what needs the network itself, got shift_labels=True"


@pytest.mark.parametrize(("name", "options", "labelling", "words"), [*_cases()])
def test_layers_that_do_not_fit_labels_of_tokens_are_refused(
    name: str, options: dict[str, Any], labelling: dict[str, Any], words: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=words):
        recorded(tmp_path / "run", Merged(), {name: options}, **labelling, classifier="model.lm_head")


def test_every_token_of_whole_examples_is_refused(tmp_path: Path) -> None:
    network, rows = (
        nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 3)),
        TensorDataset(torch.randn(9, 5), torch.arange(9) % 3),
    )
    options = {"modules": ["0"], "features": "every_token"}
    with (
        pytest.raises(
            ValueError, match="features: expected one vector for each labelled example, got every_token of 0"
        ),
        ncexp.Recorder(tmp_path, classifier="1", num_classes=3, analyses={"layers": options}) as recorder,
    ):
        recorder.evaluate(1, network, DataLoader(rows, 3))
