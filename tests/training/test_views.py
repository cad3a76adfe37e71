"""Two changed images of each example in a batch: which they are, what is trained on, what is counted."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from augmented import STEPS
from support import Compose

from ncexp.config import ConfigError, check
from ncexp.datasets.augmentation import Images, crop
from ncexp.training import Interrupted, Training, assemble, build_dataset
from ncexp.training.contrastive import SupervisedContrastive

#: 120 digits in batches of 50, the last of 20.
RUN = [*STEPS, "batch_size=50", "optimizer=sgd", "optimizer.lr=0.01", "optimizer.momentum=0.0"]
RUN += ["loss=supervised_contrastive", "dataset.augment=[crop]"]


def training_of(composed: Compose, *more: str) -> Training:
    return assemble(check(composed(*more, base=[*RUN]))).training


def batches(training: Training, epoch: int = 1) -> list[tuple[torch.Tensor, torch.Tensor]]:
    assert training.augmentation is not None
    return list(training.augmentation.batches(epoch, 50, training._order(epoch)))


def test_first_view_is_the_batch_of_one_view_and_the_second_another_crop(composed: Compose) -> None:
    one, training = batches(training_of(composed)), training_of(composed, "loss.views=2")
    two, images = batches(training), Images.of(build_dataset(check(composed(base=RUN))))
    shifts = torch.cartesian_prod(torch.arange(3), torch.arange(3))  # a border of one pixel of eight
    differing = 0
    for places, (inputs, labels), (both, twice) in zip(training._order(1).split(50), one, two, strict=True):
        count = len(inputs)
        assert torch.equal(both[:count], inputs)
        assert torch.equal(twice, labels.repeat(2))
        differing += int((both[count:] != inputs).flatten(1).any(1).sum())
        for place, image in zip(places[:9].tolist(), both[count : count + 9], strict=True):
            shifted = images.inputs(crop(images.values[[place] * 9], 1, *shifts.unbind(1)))
            assert int((shifted == image).flatten(1).all(1).sum()) >= 1
    assert differing > 60  # of 120, an image is shifted alike in one of nine


def test_training_on_two_views_is_that_of_a_plain_loop(composed: Compose) -> None:
    training = training_of(composed, "loss.views=2")
    network: Any = training_of(composed, "loss.views=2").network
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, weight_decay=5e-4)
    loss, total, wrong = SupervisedContrastive(10, temperature=0.1), 0.0, 0
    network.train()
    for inputs, labels in batches(training):
        logits, features = network(inputs)
        value = loss(logits, labels, features, network.classifier.weight, network.classifier.bias)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        count = len(labels) // 2
        total += value.item() * count
        wrong += int((logits[:count].argmax(1) != labels[:count]).sum())
    summary = training.run_epoch(lambda: False)
    for name, tensor in training.network.state_dict().items():
        assert torch.equal(tensor, network.state_dict()[name]), name
    assert summary["fit/loss"] == total / 120
    assert summary["fit/error"] == wrong / 120


def test_training_stopped_within_an_epoch_goes_on_with_the_same_views(composed: Compose) -> None:
    whole, part = (training_of(composed, "loss.views=2") for _ in range(2))
    whole.run_epoch(lambda: False)
    with pytest.raises(Interrupted):
        part.run_epoch(lambda: True)
    again = training_of(composed, "loss.views=2")
    again.network.load_state_dict(part.network.state_dict())
    again.position = part.position
    again.run_epoch(lambda: False)
    for name, tensor in again.network.state_dict().items():
        assert torch.equal(tensor, whole.network.state_dict()[name]), name


def test_views_are_in_the_key_and_one_is_as_before(composed: Compose) -> None:
    keys = [check(composed(*more, base=RUN)).key for more in ([], ["loss.views=1"], ["loss.views=2"])]
    assert keys[0] == keys[1] != keys[2]


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["loss.views=2", "dataset.augment=null"], "loss.views: expected 1 without dataset.augment"),
        (["loss.views=2", "dataset.augment=[mixup]"], "expected a loss that takes soft labels"),
        (["loss.views=3"], "loss.views: "),
        (["loss.views=2", "optimizer.accumulate=2"], "loss: expected a mean over the examples"),
    ],
)
def test_views_that_cannot_be_are_refused(composed: Compose, overrides: list[str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        assemble(check(composed(*overrides, base=RUN)))
