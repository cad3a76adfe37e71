"""The loss on record is the criterion of the whole set, whatever it makes of a batch, against the criterion itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import ncexp
from ncexp.datasets.labelling import OF_EXAMPLES, Labelling
from ncexp.measure import Ridge, Subject, evaluate, evaluator
from ncexp.training import Processes, label_weights, losses, objective_of
from ncexp.training.losses import MSE, CrossEntropy, Focal, LabelSmoothing, RescaledMSE

C, P = 5, 6
WEIGHTS = torch.tensor([1.0, 0.5, 1.5, 3.0, 0.25])
#: float32 losses of batches of another size, relative.
ROUNDING = 1e-5


def spread(logits: Tensor, labels: Tensor, features: Tensor) -> Tensor:
    """A loss that takes its examples together."""
    return functional.cross_entropy(logits, labels) + features.var(0).sum()


def likelihood(logits: Tensor, labels: Tensor) -> Tensor:
    return nn.NLLLoss(weight=WEIGHTS)(logits.log_softmax(1), labels)


CRITERIA: dict[str, Callable[..., Tensor]] = {
    "weights": nn.CrossEntropyLoss(weight=WEIGHTS),
    "smoothing": nn.CrossEntropyLoss(weight=WEIGHTS, label_smoothing=0.2),
    "smoothing without a weight": nn.CrossEntropyLoss(weight=(WEIGHTS - WEIGHTS[1]).abs(), label_smoothing=0.2),
    "ignored": nn.CrossEntropyLoss(ignore_index=0),
    "ignored and weights": nn.CrossEntropyLoss(weight=WEIGHTS, ignore_index=3),
    "function": partial(functional.cross_entropy, weight=WEIGHTS),
    "likelihood": likelihood,
    "sum": nn.CrossEntropyLoss(reduction="sum"),
    "together": spread,
    "mean": nn.CrossEntropyLoss(),
}


@dataclass
class Sorted:
    """Examples in the order of their classes, of unequal sizes, so that batches differ in their classes."""

    num_classes: int = C
    targets = None
    labelling: Labelling = OF_EXAMPLES

    def __post_init__(self) -> None:
        self.labels = torch.arange(C).repeat_interleave(torch.tensor([9, 20, 7, 12, 3]))
        self.inputs = torch.randn(len(self.labels), P, generator=torch.Generator().manual_seed(2))

    def __len__(self) -> int:
        return len(self.labels)

    def batches(self, size: int, order: Tensor | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        yield from zip(self.inputs.split(size), self.labels.split(size), strict=True)

    @property
    def splits(self) -> dict[str, Any]:
        return {"train": self}


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.classifier = nn.Linear(P, C)

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        return self.classifier(inputs), inputs


def subject(criterion: Callable[..., Tensor], **options: Any) -> Subject:
    return Subject(Net(), objective_of(criterion), Sorted(), Ridge(0.0, 0.0, ""), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", CRITERIA)
def test_loss_is_the_criterion_of_the_whole_set(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluator, "BATCH_SIZE", 4)
    measured, generator, data = subject(CRITERIA[name]), torch.get_rng_state(), Sorted()
    loss = evaluate(measured, 1, {}).splits["train"].loss
    assert torch.equal(torch.get_rng_state(), generator)
    logits, features = measured.network(data.inputs)
    assert loss == pytest.approx(measured.loss(logits, data.labels, features).item(), rel=ROUNDING)


def test_recorder_records_the_criterion_of_the_whole_set(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, data, criterion = nn.Sequential(nn.Linear(P, C)), Sorted(), CRITERIA["weights"]
    batches = [*data.batches(4)]
    with ncexp.Recorder(tmp_path / "run", num_classes=C, classifier="0", loss=criterion, analyses=[]) as recorder:
        record = recorder.evaluate(1, model, batches)
    assert record["train/loss"] == pytest.approx(criterion(model(data.inputs), data.labels).item(), rel=ROUNDING)


@pytest.mark.parametrize("classes", [2, C, 200])
def test_label_weights_are_those_of_the_criterion(classes: int) -> None:
    layer = torch.zeros(classes, P)
    own = [MSE(classes), CrossEntropy(classes), LabelSmoothing(classes), Focal(classes)]
    for loss in [*own, RescaledMSE(classes, target=3, weight=2), nn.CrossEntropyLoss(label_smoothing=0.1)]:
        assert torch.equal(label_weights(objective_of(loss), layer), torch.ones(classes, dtype=torch.float64))
    weights = torch.rand(classes, generator=torch.Generator().manual_seed(3)) + 0.1
    for smoothing, first in ((0.3, 0.7), (0.0, 0.0)):
        weights[0] = first
        found = label_weights(objective_of(nn.CrossEntropyLoss(weights, label_smoothing=smoothing)), layer)
        assert found is not None
        unit = weights[weights > 0][0]
        torch.testing.assert_close(found, (weights / unit).double(), rtol=1e-5, atol=1e-6)
    # An example of weight 0 that is smoothed adds to the loss and counts nothing: of such a batch alone it is infinite.
    assert label_weights(objective_of(nn.CrossEntropyLoss(weights, label_smoothing=0.3)), layer) is None
    assert label_weights(objective_of(nn.CrossEntropyLoss(weights.bfloat16())), layer.bfloat16()) is None
    for other in ("sum", "together"):
        assert label_weights(objective_of(CRITERIA[other]), layer) is None


@pytest.mark.parametrize("ignored", [0, 150, 299])
def test_label_weights_of_many_classes_are_found_some_at_a_time(ignored: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses, "_MANY", 100)
    layer, weights = torch.zeros(300, P), 0.1 + torch.rand(300, generator=torch.Generator().manual_seed(0))
    assert torch.equal(label_weights(objective_of(nn.CrossEntropyLoss()), layer), torch.ones(300, dtype=torch.float64))
    found = label_weights(objective_of(nn.CrossEntropyLoss(weights, ignore_index=ignored)), layer)
    weights[ignored] = 0
    assert found is not None
    torch.testing.assert_close(found / found.max(), (weights / weights.max()).double(), rtol=ROUNDING, atol=0)
    for other in ("sum", "together"):
        assert label_weights(objective_of(CRITERIA[other]), layer) is None


def test_loss_of_another_form_is_refused_for_a_set_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        ValueError, match=r"loss: expected a mean over the examples, .* and 2 processes, each with a share"
    ):
        evaluate(subject(CRITERIA["sum"], processes=Processes(rank=0, size=2)), 1, {})
    monkeypatch.setattr(evaluator, "FEATURE_BUDGET_BYTES", 100)
    with pytest.raises(ValueError, match="a split whose logits and features take more than 100 bytes"):
        evaluate(subject(CRITERIA["together"]), 1, {})
    evaluate(subject(CRITERIA["weights"]), 1, {})
