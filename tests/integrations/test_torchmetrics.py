"""Neural collapse as a torchmetrics.Metric: what ncexp.collapse says, over batches, resets and processes."""

from __future__ import annotations

import copy
import os
import pickle
import socket
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from support import required
from torch import Tensor, nn

from ncexp.collapse import LinearClassifier, class_statistics, measure_collapse

if TYPE_CHECKING:
    from ncexp.integrations.torchmetrics import NeuralCollapse

#: float64 sums in another order.
ROUNDING = 1e-9


@pytest.fixture
def metric_of() -> type[NeuralCollapse]:
    """metric_of(layer) → the metric; imported here, as torchmetrics takes seconds and may be missing."""
    required("torchmetrics")
    from ncexp.integrations.torchmetrics import NeuralCollapse

    return NeuralCollapse


def drawn(count: int = 60, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 4
    return 3 * torch.eye(4, 7)[labels] + torch.randn(count, 7, generator=generator), labels


def expected(features: Tensor, labels: Tensor, layer: nn.Linear) -> dict[str, float]:
    classifier = LinearClassifier(layer.weight.detach(), layer.bias.detach())
    return asdict(measure_collapse(class_statistics(features, labels, 4), classifier))


def computed(metric: NeuralCollapse) -> dict[str, float]:
    return {name: value.item() for name, value in metric.compute().items()}


@pytest.mark.slow
def test_metric_is_that_of_all_batches_since_the_last_reset(metric_of: type[NeuralCollapse]) -> None:
    layer, (features, labels) = nn.Linear(7, 4), drawn()
    metric = metric_of(layer)
    assert (list(metric.parameters()), metric.state_dict()) == ([], {})  # it does not own the layer
    for _ in range(2):
        metric.update(*drawn(9, seed=1))
        metric.reset()
        with torch.no_grad():
            layer.weight += 1  # and reads it as it stands
        for batch in range(0, 60, 11):
            assert metric(features[batch : batch + 11], labels[batch : batch + 11]) is None
        assert computed(metric) == pytest.approx(expected(features, labels, layer), rel=ROUNDING)
    metric.reset()
    metric.update(features[:3], labels[:3])
    with pytest.raises(ValueError, match="got none of class 3"):
        metric.compute()
    metric.update(features, labels)
    del layer
    with pytest.raises(ValueError, match=r"classifier: expected the layer of a model in use, got one that is gone"):
        metric.compute()


@pytest.mark.slow
def test_clones_and_collections_of_metrics_are_apart(metric_of: type[NeuralCollapse]) -> None:
    layer = nn.Linear(7, 4)
    collection = required("torchmetrics").MetricCollection({"one": metric_of(layer), "two": metric_of(layer)})
    collection["one"].update(*drawn())
    collection["two"].update(*drawn(40, seed=2))
    clone, cloned = collection["one"].clone(), collection.clone(prefix="again_")["two"]
    for one in (clone, cloned):
        one.reset()
        one.update(*drawn(20, seed=3))
    with torch.no_grad():
        layer.weight += 1  # which all of them read
    for one, data in ((collection["one"], drawn()), (collection["two"], drawn(40, seed=2)),
                      (clone, drawn(20, seed=3)), (cloned, drawn(20, seed=3))):  # fmt: skip
        assert computed(one) == pytest.approx(expected(*data, layer), rel=ROUNDING)


class Measured(nn.Module):
    """A model that holds a metric of its own last layer, as LightningModules do: before the layer, or after it."""

    def __init__(self, metric_of: type[NeuralCollapse], first: bool) -> None:
        super().__init__()
        layer = nn.Linear(7, 4)
        parts = {"metrics": nn.ModuleList([metric_of(layer)]), "fc": layer}
        for name in parts if first else reversed(parts):  # as they are registered, they are copied
            self.add_module(name, parts[name])


def copied_by(kind: str, model: nn.Module) -> nn.Module:
    if kind == "average":
        averaged: nn.Module = torch.optim.swa_utils.AveragedModel(model).module
        return averaged
    return copy.deepcopy(model) if kind == "deepcopy" else pickle.loads(pickle.dumps(model))


@pytest.mark.parametrize("kind", ["average", "deepcopy", "pickle"])
@pytest.mark.parametrize("first", [True, False])
def test_metric_that_is_copied_with_its_model_is_of_the_copys_layer(
    metric_of: type[NeuralCollapse], kind: str, first: bool
) -> None:
    model, (features, labels) = Measured(metric_of, first), drawn()
    model.metrics[0].update(features, labels)  # type: ignore[operator]
    other = copied_by(kind, model)
    with torch.no_grad():
        other.fc.weight += 1  # type: ignore[union-attr, operator]
    for one in (model, other):
        assert computed(one.metrics[0]) == pytest.approx(expected(features, labels, one.fc), rel=ROUNDING)  # type: ignore[arg-type, index]


def test_metric_that_is_pickled_alone_has_the_layer_with_it(metric_of: type[NeuralCollapse]) -> None:
    layer = nn.Linear(7, 4)
    metric = metric_of(layer)
    metric.update(*drawn())
    assert computed(pickle.loads(pickle.dumps(metric))) == pytest.approx(computed(metric))


@pytest.mark.parametrize("cast", ["bfloat16", "half", "to", "float"])
def test_sums_stay_float64_whatever_the_model_is_cast_to(metric_of: type[NeuralCollapse], cast: str) -> None:
    """600 examples: bfloat16 has no whole number between 256 and 258."""
    model, (features, labels) = Measured(metric_of, first=False), drawn(600)
    model = model.to(torch.bfloat16) if cast == "to" else getattr(model, cast)()
    metric = model.metrics[0]
    metric.update(features, labels)
    model.to(torch.float16)
    metric.update(features, labels)
    layer = copy.deepcopy(model.fc).float()
    twice = torch.cat([features] * 2), torch.cat([labels] * 2)
    assert computed(metric) == pytest.approx(expected(*twice, layer), rel=ROUNDING)


SCRIPT = """
import torch
from torch import nn
from ncexp.integrations.torchmetrics import NeuralCollapse
from test_torchmetrics import computed, drawn, expected
torch.distributed.init_process_group("gloo")
rank = torch.distributed.get_rank()
torch.manual_seed(0)
layer, (features, labels) = nn.Linear(7, 4), drawn()
metric = NeuralCollapse(layer)
for shares in ((range(60),), (range(45), range(45, 60)), (range(60), range(0))):
    mine = [list(shares[rank])] if rank < len(shares) else []
    for rows in mine:
        metric.update(features[rows].bfloat16().float(), labels[rows])
    found = computed(metric)
    rounded = expected(features.bfloat16().float(), labels, layer)
    assert all(abs(found[name] - value) <= 1e-9 * abs(value) for name, value in rounded.items()), (found, rounded)
    assert int(metric.counts.sum()) == sum(map(len, mine)), "each process has its own sums again"
    metric.reset()
torch.distributed.destroy_process_group()
"""


@pytest.mark.slow
def test_metric_is_that_of_all_processes_together(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    meet = ["--nproc-per-node", "2", "--master-addr", "127.0.0.1", "--master-port", str(port)]
    folders = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[1] / "helpers")])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "PYTHONPATH": folders}
    command = [sys.executable, "-m", "torch.distributed.run", *meet, str(script)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
