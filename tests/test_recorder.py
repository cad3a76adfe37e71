"""A loop of one's own, recorded: nothing of it changes, and its numbers are ncexp's."""

from __future__ import annotations

import random
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from own_loops import NUM_CLASSES, examples, half_mse, loaders, network, sgd, train_epoch
from recorded_loops import OPTIONS, measurements, record, trained_weights
from support import Compose, journals, train
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import ncexp
from ncexp.collapse import class_statistics
from ncexp.config import check
from ncexp.datasets import Split
from ncexp.record import read_json, read_run
from ncexp.training import assemble

#: They are drawn in tests/test_recorder_directory.py.
pytestmark = pytest.mark.usefixtures("no_figures")


def generators() -> list[object]:
    return [random.getstate(), repr(np.random.get_state()), torch.get_rng_state().tolist()]


@pytest.mark.slow
@pytest.mark.parametrize(("own_generator", "compiled"), [(False, False), (True, False), (False, True)])
def test_trained_weights_are_the_same_bits_with_and_without_a_recorder(
    tmp_path: Path, own_generator: bool, compiled: bool
) -> None:
    """Dropout, batch normalisation, augmentation and shuffling; gradients and the next random numbers, too."""
    without, recorded = (
        trained_weights(folder, torch.Generator().manual_seed(7) if own_generator else None, compiled)
        for folder in (None, tmp_path / "mine")
    )
    assert len(without) == len(recorded) > 10
    assert all(torch.equal(one, other) for one, other in zip(without, recorded, strict=True))


def test_modes_gradients_hooks_buffers_and_generators_are_as_found(tmp_path: Path) -> None:
    model, (train_loader, test_loader) = network(), loaders()
    train_epoch(model, train_loader, sgd(model))
    model[1].eval()  # frozen batch normalisation
    calls: list[int] = []
    model.last.register_forward_pre_hook(lambda module, inputs: calls.append(len(inputs[0])))  # type: ignore[operator, union-attr]

    def states() -> list[object]:
        modes = [module.training for module in model.modules()]
        gradients = [parameter.grad.tolist() for parameter in model.parameters() if parameter.grad is not None]
        hooks = [(list(module._forward_pre_hooks), list(module._forward_hooks)) for module in model.modules()]
        return [modes, gradients, hooks, [buffer.tolist() for buffer in model.buffers()], *generators()]

    before = states()
    recorder = ncexp.Recorder(tmp_path / "mine", **OPTIONS)
    recorder.evaluate(1, model, train_loader, test_loader)
    assert states() == before
    assert sum(calls) >= 90  # the hooks of others are met


class Counting(nn.Module):
    """A layer that counts its passes and keeps what it saw, as observers do; or a parametrisation that counts reads."""

    calls: Tensor
    seen: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))
        self.register_buffer("seen", torch.zeros(0))

    def forward(self, inputs: Tensor) -> Tensor:
        self.calls += 1
        self.seen.resize_(len(inputs)).copy_(inputs.detach().mean(1))
        return inputs * (1 + 0.01 * self.calls)


def drifting(layer: nn.Linear) -> nn.Module:
    nn.utils.parametrize.register_parametrization(layer, "weight", Counting())
    with torch.no_grad():  # it is read in train mode, too: a forward pass reads it once
        layer.parametrizations.weight[0].calls.zero_()  # type: ignore[union-attr]
    return layer


@pytest.mark.parametrize(
    ("middle", "head"),
    [
        (nn.Identity, nn.utils.parametrizations.spectral_norm),
        (nn.Identity, nn.utils.parametrizations.weight_norm),
        (nn.Identity, nn.utils.spectral_norm),
        (lambda: nn.utils.spectral_norm(nn.Linear(12, 12)), lambda layer: layer),
        (Counting, lambda layer: layer),
        (lambda: drifting(nn.Linear(12, 12)), lambda layer: layer),
    ],
    ids=["spectral", "weight_norm", "old spectral", "inner spectral", "counting", "drifting"],
)
def test_layers_with_a_state_of_their_own_train_as_without_a_recorder(tmp_path: Path, middle: Any, head: Any) -> None:
    """Power iterations, counters and observers: none of the recorder's reads and passes is seen in the training."""
    states = []
    for recorded in (False, True):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(6, 12), nn.BatchNorm1d(12), middle(), nn.ReLU(), head(nn.Linear(12, 4)))
        train_loader, test_loader = loaders()
        recorder, optimizer = ncexp.Recorder(tmp_path / "mine", num_classes=4, classifier="4"), sgd(model)
        for epoch in range(1, 3):
            train_epoch(model, train_loader, optimizer)
            if recorded:
                recorder.evaluate(epoch, model, train_loader, test_loader)
        states.append(model.state_dict())
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name]), name


def test_examples_are_those_of_a_sampler_and_its_generators_as_found(tmp_path: Path) -> None:
    """A sampler of one's own says which examples there are; those left out are warned of once, and in the facts."""
    generator = torch.Generator().manual_seed(3)
    sampler = torch.utils.data.SubsetRandomSampler(range(40), generator=generator)
    loader = DataLoader(examples(90), batch_size=16, sampler=sampler, generator=torch.Generator().manual_seed(4))
    model, recorder = network(), ncexp.Recorder(tmp_path, **OPTIONS)
    before = [generator.get_state().tolist(), loader.generator.get_state().tolist(), *generators()]
    words = "40 examples, 40 of them different, of the 90 in its dataset"
    with pytest.warns(UserWarning, match=f"train_loader: expected each example of its dataset once, got {words}"):
        recorder.evaluate(1, model, loader)
    assert [generator.get_state().tolist(), loader.generator.get_state().tolist(), *generators()] == before
    facts = read_json(tmp_path / "facts.json")
    assert (facts["num_train"], facts["read_train"]) == (40, words)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        recorder.evaluate(2, model, loader)


class WithFeatures(nn.Module):
    """(logits, features) of a network, as those of ncexp return it."""

    def __init__(self, network: nn.Sequential) -> None:
        super().__init__()
        self.network = network

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        features = self.network[:-1](inputs)
        return self.network[-1](features), features


def test_numbers_are_those_of_all_examples_in_eval_mode(tmp_path: Path) -> None:
    """Also of the last batch, which the training loader drops, and of a network that returns its features, too."""
    model, (train_loader, test_loader) = network(), loaders()
    found = ncexp.Recorder(tmp_path / "mine", **OPTIONS).evaluate(1, model, train_loader, test_loader)
    pair = ncexp.Recorder(tmp_path / "pair", **{**OPTIONS, "classifier": "network.last"})
    paired = pair.evaluate(1, WithFeatures(model), train_loader, test_loader)
    assert paired == pytest.approx(found, nan_ok=True, abs=0, rel=0)
    model.eval()
    for split, loader in (("train", train_loader), ("test", test_loader)):
        inputs, labels = loader.dataset.tensors  # type: ignore[attr-defined]
        with torch.no_grad():
            features, logits = model[:-1](inputs), model(inputs)
        statistics = class_statistics(features, labels, NUM_CLASSES)
        ratio = statistics.within_class_covariance.trace() / statistics.between_class_covariance.trace()
        assert found[f"{split}/collapse/nc1_ratio"] == pytest.approx(ratio.item(), rel=1e-6)
        assert found[f"{split}/error"] == (logits.argmax(1) != labels).double().mean().item()
        assert found[f"{split}/loss"] == pytest.approx(half_mse(logits, labels).item(), rel=1e-6)


class Logits(nn.Module):
    """A network of ours as others write theirs: its output is the logits alone."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.network(inputs)[0]
        return logits


@pytest.mark.slow
@pytest.mark.parametrize(("batch_size", "same_bytes"), [(512, True), (7, False)])
def test_plain_loop_leaves_the_journals_of_the_same_training_by_ncexp(
    composed: Compose, tmp_path: Path, batch_size: int, same_bytes: bool
) -> None:
    """To the last bit with ncexp's batches of 512 examples, else as float32 sums in other batches round."""
    raw = composed("loss=mse_mean")
    ours, config = train(raw), check(raw)
    parts = assemble(config)
    data, loop = parts.dataset, parts.training
    assert isinstance(data.train, Split)
    assert isinstance(data.test, Split)
    of_train = DataLoader(TensorDataset(data.train.inputs, data.train.labels), batch_size=batch_size, shuffle=True)
    of_test = DataLoader(TensorDataset(data.test.inputs, data.test.labels), batch_size=batch_size)
    model, decay = Logits(loop.network), config.optimizer.options["weight_decay"]
    options = {**OPTIONS, "classifier": "network.classifier", "loss": "mse_mean", "weight_decay": decay}
    with ncexp.Recorder(tmp_path / "mine", **options) as recorder:
        for epoch in range(1, config.epochs + 1):
            model.train()
            for group in loop.optimizer.param_groups:
                group["lr"] = config.optimizer.options["lr"] * loop.schedule(epoch)
            for batch in loop._order(epoch).split(config.batch_size):
                logits, labels = model(data.train.inputs[batch]), data.train.labels[batch]
                loss = nn.functional.mse_loss(logits, nn.functional.one_hot(labels, NUM_CLASSES).float())
                loop.optimizer.zero_grad()
                loss.backward()
                loop.optimizer.step()
            if epoch in config.evaluated:
                recorder.evaluate(epoch, model, of_train, of_test)
    expected = {name: content for name, content in journals(ours.path).items() if name != "training.jsonl"}
    if same_bytes:
        assert {f"measurements/{one.name}": one.read_bytes() for one in measurements(tmp_path / "mine")} == expected
    else:
        for one, other in zip(read_run(ours.path).records, read_run(tmp_path / "mine").records, strict=True):
            for name, value in other.items():
                if "rounding" not in name and "residual" not in name:
                    assert value == pytest.approx(one[name], rel=1e-4, abs=1e-7, nan_ok=True), name
    facts = [read_json(run / "facts.json") for run in (ours.path, tmp_path / "mine")]
    for name in ("ridge_weight", "ridge_bias", "ridge_convention"):
        assert facts[0][name] == facts[1][name]


@pytest.mark.parametrize(
    ("options", "weight", "bias", "words"),
    [
        ({"loss": "mse"}, 5e-4, 5e-4, "s = 1"),
        ({"loss": "mse_mean"}, 5e-4 * NUM_CLASSES / 2, 5e-4 * NUM_CLASSES / 2, "s = 0.5"),
        ({"loss": "cross_entropy"}, 0, 0, "not a multiple of the MSE"),
        ({"loss": half_mse}, 0, 0, "not a multiple of the MSE"),
        ({"loss": "mse", "decoupled_weight_decay": True}, 0, 0, "decoupled from the gradient"),
        ({"loss": "mse", "weight_decay": (5e-4, 0.0)}, 5e-4, 0, "s = 1"),
    ],
)
def test_ridge_follows_from_loss_and_weight_decay(
    tmp_path: Path, options: dict[str, Any], weight: float, bias: float, words: str
) -> None:
    facts = read_json(record(tmp_path, range(1, 2), **options).facts)
    assert (facts["ridge_weight"], facts["ridge_bias"]) == pytest.approx((weight, bias))
    assert words in facts["ridge_convention"]


def test_numbers_of_numpy_are_taken_as_numbers(tmp_path: Path) -> None:
    rate, classes, seed, epoch = np.logspace(-3, -1, 3)[1], np.int64(NUM_CLASSES), np.int64(3), np.int64(1)
    decay = {"weight_decay": np.float32(0.5)}
    options = OPTIONS | {"num_classes": classes, "lr": rate, "seed": seed} | decay
    (train_loader, test_loader), model = loaders(), network()
    with ncexp.Recorder(tmp_path / "mine", **options) as recorder:
        recorder.evaluate(epoch, model, train_loader, [test_loader])
    with ncexp.Recorder(tmp_path / "mine", **OPTIONS | {"lr": 0.01, "seed": 3, "weight_decay": 0.5}) as recorder:
        with pytest.raises(ValueError, match=r"epoch: expected the number of epochs trained, .* got 1.5"):
            recorder.evaluate(1.5, model, train_loader)  # type: ignore[arg-type]
        recorder.evaluate(2, model, train_loader, [test_loader])
    (run,) = ncexp.load(tmp_path)
    assert (run.rate, run.seed, [one["epoch"] for one in run.records]) == (0.01, 3, [1, 2])
    assert (run.facts["num_test"], run.facts["ridge_weight"]) == (40, 0.5)


def test_number_of_classes_that_is_not_the_classifiers_is_refused(tmp_path: Path) -> None:
    train_loader, _ = loaders()
    recorder = ncexp.Recorder(tmp_path / "mine", **{**OPTIONS, "num_classes": 5})
    with pytest.raises(ValueError, match="num_classes: expected 4, the outputs of the classifier, got 5"):
        recorder.evaluate(1, network(), train_loader)


@pytest.mark.slow
def test_autocast_around_the_loop_does_not_change_the_numbers(tmp_path: Path) -> None:
    """Trained in bfloat16; evaluated in the network's own float32, inside autocast, inference mode or outside."""
    model, (train_loader, test_loader) = network(), loaders()
    optimizer = sgd(model)
    with torch.autocast("cpu", torch.bfloat16):
        train_epoch(model, train_loader, optimizer)
    recorder = ncexp.Recorder(tmp_path / "mine", **OPTIONS)
    plain = recorder.evaluate(1, model, train_loader, test_loader)
    with torch.autocast("cpu", torch.bfloat16):
        assert recorder.evaluate(1, model, train_loader, test_loader) == pytest.approx(plain, nan_ok=True, abs=0, rel=0)
        assert model.eval()(torch.zeros(2, 6)).dtype is torch.bfloat16
    with torch.inference_mode():
        assert recorder.evaluate(1, model, train_loader, test_loader) == pytest.approx(plain, nan_ok=True, abs=0, rel=0)
    wrapped = recorder.evaluate(1, nn.DataParallel(model), train_loader, test_loader)
    assert wrapped == pytest.approx(plain, nan_ok=True, abs=0, rel=0)


@pytest.mark.slow
@pytest.mark.parametrize("in_place", [False, True])
def test_compiled_network_is_recorded_and_trains_on_as_compiled(tmp_path: Path, in_place: bool) -> None:
    model, (train_loader, test_loader) = network(), loaders()
    plain = ncexp.Recorder(tmp_path / "plain", **OPTIONS).evaluate(1, model, train_loader, test_loader)
    programs: list[int] = []

    def backend(graph: Any, inputs: Any) -> Any:
        programs.append(len(inputs))
        return graph.forward

    compiled: nn.Module = model
    if in_place:
        model.compile(backend=backend)
    else:
        compiled = torch.compile(model, backend=backend)  # type: ignore[assignment]
    compiled.train()(torch.randn(16, 6))
    count = len(programs)
    assert count > 0
    recorder = ncexp.Recorder(tmp_path / "compiled", **OPTIONS)
    with torch.no_grad():
        model[1].reset_running_stats()  # type: ignore[operator]
    found = recorder.evaluate(1, compiled, train_loader, test_loader)
    assert found == pytest.approx(plain, nan_ok=True, abs=0, rel=0)
    compiled.train()(torch.randn(16, 6))
    assert len(programs) == count  # nothing was compiled for the evaluation, nor again after it
