"""Parameters that are not trained: against torch alone."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
from started import CLOSE, QUIET, last_weights, theirs
from support import Compose, train
from torch import Tensor, nn

from ncexp.config import ConfigError, RunConfig, check
from ncexp.record import read_run
from ncexp.training import assemble, build_dataset
from ncexp.training.canary import _FOUND_RIGHT


def by_torch(config: RunConfig) -> nn.Module:
    """The last layer trained on the features of the file, by torch alone: SGD with momentum and decay."""
    network, data = theirs(), build_dataset(config).train
    inputs, labels = next(data.batches(len(data)))
    with torch.no_grad():
        features = network.get_submodule("backbone")(inputs)
    layer: Any = network.get_submodule("classifier")
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.05, momentum=0.9, weight_decay=0.01)
    for epoch in range(1, config.epochs + 1):
        digest = hashlib.sha256(f"{config.seed}/{epoch}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
        for batch in torch.randperm(len(labels), generator=generator).split(32):
            targets = nn.functional.one_hot(labels[batch], 4)
            loss = (layer(features[batch]) - targets).square().sum(1).mean() / 2
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return network


def test_frozen_backbone_is_what_torch_alone_trains(begun: Callable[..., dict[str, Any]]) -> None:
    raw = begun("architecture.freeze=backbone", "optimizer.weight_decay=0.01")
    expected, found = by_torch(check(raw)).state_dict(), last_weights(directory := train(raw))
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        if name.startswith("backbone."):
            assert torch.equal(tensor, expected[name]), name  # running statistics too
        else:
            torch.testing.assert_close(tensor, expected[name], atol=CLOSE, rtol=CLOSE)
    assert read_run(directory.path).facts["ridge_weight"] == pytest.approx(0.01)
    assert read_run(directory.path).facts["num_frozen"] == 6 * 16 + 2 * 16 + 16 * 8 + 2 * 8


@pytest.mark.parametrize(
    ("patterns", "still"),
    [
        ("backbone.1.*", ["backbone.1.weight"]),
        (
            "[backbone.1.*,backbone.2.*]",
            [f"backbone.{p}" for p in ("1.weight", "2.weight", "2.running_mean")],
        ),
        ("*.5.*", [f"backbone.5.{part}" for part in ("weight", "bias", "running_mean", "running_var")]),
        ("backbone.5.weight", ["backbone.5.weight"]),
        ("classifier.*", ["classifier.weight", "classifier.bias"]),
    ],
)
def test_frozen_patterns_stay_to_the_last_bit_and_others_move(
    patterns: str, still: list[str], begun: Callable[..., dict[str, Any]]
) -> None:
    raw = begun(f"architecture.freeze={patterns}", "optimizer.weight_decay=0.01")
    before, after = theirs().state_dict(), last_weights(train(raw))
    same = {name for name, tensor in after.items() if torch.equal(tensor, before[name])}
    assert set(still) <= same
    bookkeeping = {name.rpartition(".")[0] for name in still}
    assert {name for name in same if name.rpartition(".")[0] not in bookkeeping} == set()
    if patterns == "backbone.5.weight":  # of a norm that is trained in part the statistics go on
        assert same == {"backbone.5.weight"}


def test_frozen_parameters_are_not_the_optimizers(begun: Callable[..., dict[str, Any]]) -> None:
    for optimizer in ("sgd", "adamw", "muon"):
        words = ["architecture.freeze=backbone.*", f"optimizer={optimizer}", "optimizer.decay_of={*.bias:0.0}"]
        training = assemble(check(begun(*words))).training
        held = {id(one) for group in training.optimizer.param_groups for one in group["params"]}
        assert held == {id(one) for one in training.network.classifier.parameters()}
    with pytest.raises(ConfigError, match="expected patterns that match"):
        assemble(check(begun("architecture.freeze=backbone", "optimizer.decay_of={backbone.*:0.0}")))


def test_fixed_last_layer_has_no_ridge_and_the_distance_is_recorded(begun: Callable[..., dict[str, Any]]) -> None:
    directory = train(begun("architecture.freeze=classifier.*", "optimizer.weight_decay=0.01"))
    saved = read_run(directory.path)
    assert saved.facts["ridge_weight"] == saved.facts["ridge_bias"] == 0
    assert "the last layer's weight is not trained" in saved.facts["ridge_convention"]
    assert saved.records[-1]["train/mse/loss_ls_perp"] > 0


class Dropped(nn.Module):
    """A dropout within what is frozen, one beside the last layer, and one by its function."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.5), nn.BatchNorm1d(8, affine=False))
        self.drop = nn.Dropout(0.5)
        self.classifier = nn.Linear(8, num_classes)
        self.seen: list[Tensor] = []

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        features = nn.functional.dropout(self.drop(self.body(inputs)), 0.5, self.training)
        if self.training is False and torch.is_grad_enabled():
            self.seen.append(features)
        return self.classifier(features), features


def dropped(input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
    return Dropped(num_classes)


def test_features_of_a_frozen_backbone_are_one_function_of_inputs(composed: Compose) -> None:
    raw = composed(*QUIET)
    raw["architecture"] = {"name": "dropped", "_target_": f"{__name__}.dropped", "freeze": "backbone"}
    training = assemble(check(raw)).training
    before = copy.deepcopy(dict(training.network.named_buffers()))
    training.run_epoch(lambda: False)
    assert all(torch.equal(before[name], one) for name, one in training.network.named_buffers())
    assert [name for name, one in training.network.named_modules() if one.training] == ["classifier"]
    raw["architecture"]["freeze"] = "body.*"
    training = assemble(check(raw)).training
    training.run_epoch(lambda: False)
    modes = {name: one.training for name, one in training.network.named_modules()}
    assert modes == {"": True, "drop": True, "classifier": True} | dict.fromkeys(
        ("body", "body.0", "body.1", "body.2"), False
    )


def test_batch_of_one_is_taken_by_norms_that_are_frozen(composed: Compose) -> None:
    words = [*QUIET, "batch_size=79"]
    with pytest.raises(ConfigError, match="batches of two examples at least"):
        assemble(check(composed(*words)))
    assemble(check(composed(*words, "architecture.freeze=backbone"))).training.run_epoch(lambda: False)


def test_gradients_are_looked_at_again_once_others_are_trained(composed: Compose) -> None:
    looked = len(_FOUND_RIGHT)
    for count, frozen in enumerate(("backbone", "null", "backbone"), start=1):
        assemble(check(composed("architecture.hidden=[5,3]", f"architecture.freeze={frozen}"))).check_gradients()
        assert len(_FOUND_RIGHT) == looked + min(count, 2)
