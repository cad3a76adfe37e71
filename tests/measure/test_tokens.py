"""Models that answer at every token, and classes that need not occur: against NumPy, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_language_model as tiny
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

import ncexp
from ncexp.config import ConfigError
from ncexp.measure.snapshot import load_snapshot
from ncexp.record import RunDirectory, read_json

#: Sums of the same numbers in float64, in another order.
TOLERANCE = 1e-9
TRAIN, TEST = tiny.rows(40, 0), tiny.rows(30, 1)


def model() -> tiny.CausalModel:
    torch.manual_seed(0)
    return tiny.CausalModel().double()


def recorded(
    folder: Path, subject: nn.Module, train: Any = TRAIN, test: Any = TEST, **options: Any
) -> dict[str, float]:
    """The numbers of one epoch; loaders of 7 sequences."""
    given = {"classifier": "lm_head", "num_classes": tiny.VOCABULARY, "shift_labels": True, **options}
    with ncexp.Recorder(folder, **given) as recorder:
        loaders = [None if rows is None else DataLoader(rows, 7, shuffle=rows is train) for rows in (train, test)]
        return dict(recorder.evaluate(1, subject, *loaders))


@pytest.fixture(autouse=True)
def _without_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ncexp.recorder.draw_run", lambda directory: [])


@pytest.mark.parametrize(("shift", "at_least"), [(True, 1), (True, 4), (False, 2)])
def test_numbers_of_a_causal_model_are_those_of_numpy(shift: bool, at_least: int, tmp_path: Path) -> None:
    subject = model()
    analyses = [*ncexp.recorder.ANALYSES, "calibration"]
    options: dict[str, Any] = {"shift_labels": shift, "classes": "occurring", "min_examples": at_least}
    numbers = recorded(tmp_path / "run", subject, **options, analyses=analyses)
    parts = {"train": tiny.positions(subject, TRAIN, shift), "test": tiny.positions(subject, TEST, shift)}
    classes = tiny.occurring([labels for _, _, labels in parts.values()], at_least)
    assert 2 < len(classes) < tiny.VOCABULARY
    assert numbers["train/classes/measured"] == len(classes)
    weight = subject.lm_head.weight.detach().numpy()[classes]
    _, features, labels = parts["train"]
    means = np.stack([features[labels == c].mean(0) for c in classes])
    for split, (logits, features, labels) in parts.items():
        chosen = np.isin(labels, classes)
        assert numbers[f"{split}/classes/share"] == pytest.approx(chosen.mean(), rel=TOLERANCE)
        shares = tiny.softmax(logits)[np.arange(len(labels)), labels]
        assert numbers[f"{split}/loss"] == pytest.approx(-np.log(shares).mean(), rel=TOLERANCE)
        assert numbers[f"{split}/error"] == pytest.approx((logits.argmax(1) != labels).mean(), rel=TOLERANCE)
        likelihood = numbers[f"{split}/calibration/negative_log_likelihood"]
        assert likelihood == pytest.approx(-np.log(shares[chosen]).mean(), rel=TOLERANCE)
        known = np.searchsorted(classes, labels[chosen])
        for name, value in tiny.measured(features[chosen], known, weight, means).items():
            if split == "train" or not name.endswith("_classifier"):
                assert numbers[f"{split}/{name}"] == pytest.approx(value, rel=TOLERANCE), name


def test_facts_and_snapshot_say_which_classes_are_measured(tmp_path: Path) -> None:
    subject, directory = model(), RunDirectory(tmp_path / "run")
    labels = [tiny.positions(subject, rows, True)[2] for rows in (TRAIN, TEST)]
    least = sorted(min((one == c).sum() for one in labels) for c in range(tiny.VOCABULARY))
    at_least = int(next(count for count in least if count > 2))  # which a class has, and no more
    recorded(directory.path, subject, classes="occurring", min_examples=at_least)
    classes = tiny.occurring(labels, at_least)
    facts = read_json(directory.facts)
    assert (facts["num_classes"], facts["num_outputs"], facts["min_examples"]) == (len(classes), 24, at_least)
    assert facts["classes"].startswith(
        f"{len(classes)} of 24 outputs, those with at least {at_least} examples in every split"
    )
    kept = load_snapshot(directory.snapshot(1), directory.key)
    assert kept.measured is not None
    assert kept.measured.classes.tolist() == classes
    assert torch.equal(kept.classifier.weight, subject.lm_head.weight[classes])
    assert kept.splits["train"].share == pytest.approx(np.isin(labels[0], classes).mean())


def test_loss_is_that_of_the_model_which_shifts_labels_itself(tmp_path: Path) -> None:
    subject = model()
    logits, labels = [], []
    for row in TRAIN:
        answer = subject(row["input_ids"][None], row["attention_mask"][None]).logits
        logits.append(answer[:, :-1].flatten(0, 1).detach())
        labels.append(row["labels"][1:])
    expected = float(cross_entropy(torch.cat(logits), torch.cat(labels), ignore_index=-100))
    numbers = recorded(tmp_path / "run", subject, test=None, classes="occurring")
    assert numbers["train/loss"] == pytest.approx(expected, rel=TOLERANCE)


def test_another_ignored_label_and_pairs_give_the_same_numbers(tmp_path: Path) -> None:
    subject, rows = model(), [{**row, "attention_mask": torch.ones(tiny.TOKENS)} for row in TRAIN]
    ids, labels = (torch.stack([row[name] for row in rows]) for name in ("input_ids", "labels"))
    named = recorded(tmp_path / "named", subject, rows, None, classes="occurring")
    pairs = TensorDataset(ids, torch.where(labels == -100, -1, labels))
    unnamed = recorded(tmp_path / "pairs", subject, pairs, None, classes="occurring", ignore_index=-1)
    assert named.keys() == unnamed.keys()
    for name, value in named.items():
        assert unnamed[name] == pytest.approx(value, rel=TOLERANCE, nan_ok=True), name


def test_classes_of_whole_examples_need_not_occur_either(tmp_path: Path) -> None:
    torch.manual_seed(0)
    labels = torch.tensor([1, 4, 6] * 10)
    inputs, layer = torch.randn(30, 5), nn.Linear(5, 8)
    subject = nn.Sequential(nn.Linear(5, 5), layer)
    options: dict[str, Any] = {"classifier": "1", "shift_labels": None}
    sparse = recorded(
        tmp_path / "sparse", subject, TensorDataset(inputs, labels), None, **options, num_classes=8, classes="occurring"
    )
    few = nn.Sequential(subject[0], nn.Linear(5, 3))
    few[1].load_state_dict({"weight": layer.weight[[1, 4, 6]], "bias": layer.bias[[1, 4, 6]]})
    dense = recorded(
        tmp_path / "dense",
        few,
        TensorDataset(inputs, labels.unique(return_inverse=True)[1]),
        None,
        **options,
        num_classes=3,
    )
    of_all = {"train/loss", "train/error"}
    for name, value in dense.items():
        if name not in of_all:
            assert sparse[name] == pytest.approx(value, rel=1e-12, nan_ok=True), name
    assert sparse["train/loss"] > dense["train/loss"]


class Masked:
    """Draws which labels count at each reading, as collators of masked language models do."""

    def __iter__(self) -> Any:
        for row in DataLoader(TRAIN, 8):
            drawn = torch.rand(row["labels"].shape) < 0.5
            yield row | {"labels": torch.where(drawn, row["labels"], -100)}


def _replaced(change: Any) -> list[dict[str, Tensor]]:
    return [row | {"labels": change(row["labels"])} for row in TRAIN]


@pytest.mark.parametrize(
    ("train", "options", "words"),
    [
        (TRAIN, {"shift_labels": None}, r"got torch.int64 \(7, 9\).*say who shifts them, shift_labels=True where"),
        (_replaced(lambda labels: labels[0]), {}, r"expected labels \(n, tokens\), as shift_labels=True says"),
        (TRAIN, {}, r"got none of class .* or measure the classes that occur: classes=occurring"),
        (
            TRAIN,
            {"classes": "occurring", "min_examples": 999},
            "expected two at least with 999 examples in every split",
        ),
        (_replaced(lambda labels: labels + 20), {"classes": "occurring"}, "train: expected labels 0 to 23, got"),
        (_replaced(lambda labels: labels[:5]), {"classes": "occurring"}, r"labels: expected one for each row of the"),
        (Masked(), {"classes": "occurring"}, "train_loader: expected the same labels at each reading"),
        (
            TRAIN,
            {"classes": "occurring", "analyses": {"layers": {"modules": ["norm"]}}},
            "analysis.layers.features: expected every_token with labels of tokens, got average of norm",
        ),
    ],
)
def test_labels_that_do_not_fit_are_refused(train: Any, options: dict[str, Any], words: str, tmp_path: Path) -> None:
    given = {"classifier": "lm_head", "num_classes": tiny.VOCABULARY, "shift_labels": True, **options}
    loader = train if isinstance(train, Masked) else DataLoader(train, 7)
    with ncexp.Recorder(tmp_path / "run", **given) as recorder, pytest.raises(ValueError, match=words):
        recorder.evaluate(1, model(), loader)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"classes": "some"}, "classes: expected all or occurring, got 'some'"),
        ({"min_examples": 2}, "min_examples: expected 1 where all classes are measured, got 2"),
        ({"classes": "occurring", "min_examples": 0}, "min_examples: expected a whole number, at least 1, got 0"),
        ({"shift_labels": "yes"}, "shift_labels: expected true, false or nothing, got 'yes'"),
    ],
)
def test_options_that_are_none_are_refused(options: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=words):
        ncexp.Recorder(tmp_path / "run", num_classes=4, classifier="fc", **options)


def test_logits_of_tokens_want_labels_of_tokens(tmp_path: Path) -> None:
    rows = TensorDataset(torch.stack([row["input_ids"] for row in TRAIN]), torch.arange(40) % 24)
    with pytest.raises(ValueError, match=r"labels: expected one for each row of the logits \(7, 9, 24\)"):
        recorded(tmp_path / "run", model(), rows, None, shift_labels=None)
