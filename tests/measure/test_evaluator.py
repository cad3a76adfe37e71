"""The evaluation pass: against a full pass by hand, and without a trace in the training that goes on."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
import torch
from support import Compose, measured, subject_of
from torch import Tensor, nn

from ncexp.architectures import Network, departure, last_layer
from ncexp.collapse import class_statistics
from ncexp.config import ConfigError, check
from ncexp.datasets import Split
from ncexp.measure import Evaluation, Needs, Probe, Subject, evaluate, evaluator, run_analysis, train_error_at_most
from ncexp.measure.evaluation import build_analyses
from ncexp.measure.evaluator import undisturbed
from ncexp.training import Assembly, Diverged, assemble

#: float64 sums of float32 numbers in batches of another size.
ROUNDING = 1e-12


@pytest.fixture
def assembly(composed: Compose) -> Assembly:
    """Trained for an epoch, so that batch normalisation has met something."""
    assembly = assemble(check(composed("loss=cross_entropy")))
    assembly.training.run_epoch(lambda: False)
    return assembly


def test_evaluation_is_of_a_full_pass_in_eval_mode(assembly: Assembly, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluator, "BATCH_SIZE", 7)  # several batches, the last a short one
    subject = subject_of(assembly)
    done = evaluate(subject, 3, {"backbone.0 average": Probe("backbone.0", "average")})
    network = assembly.training.network.eval()
    assert done.epoch == 3
    assert list(done.splits) == ["train", "test"]
    for name, data in subject.splits.items():
        assert isinstance(data, Split)
        with torch.no_grad():
            logits, features = network(data.inputs)
            first = network.backbone[0](data.inputs)  # type: ignore[index]
        split = done.splits[name]
        expected = nn.functional.cross_entropy(logits.double(), data.labels).item()
        assert split.loss == pytest.approx(expected, rel=1e-6)  # of float32 logits
        assert split.error == (logits.argmax(1) != data.labels).sum().item() / len(data)
        statistics = class_statistics(features, data.labels, 4)
        torch.testing.assert_close(split.statistics.class_means, statistics.class_means, rtol=1e-6, atol=1e-6)
        covariance = split.statistics.within_class_covariance
        torch.testing.assert_close(covariance, statistics.within_class_covariance, rtol=1e-5, atol=1e-6)
        probed = split.layers["backbone.0 average"].class_means
        torch.testing.assert_close(probed, class_statistics(first, data.labels, 4).class_means, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(split.features, features, rtol=1e-6, atol=1e-6)
    weight = assembly.classifier.weight.detach().double()
    assert torch.equal(done.classifier.weight, weight)


def test_features_that_are_too_large_to_keep_are_computed_again(
    composed: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = check(composed("analysis=[decisions]"))
    assembly = assemble(config)
    kept = measured(assembly, config)
    monkeypatch.setattr(evaluator, "FEATURE_BUDGET_BYTES", 0)
    assert all(split.features is None for split in evaluate(subject_of(assembly), 1, {}).splits.values())
    assert measured(assembly, config) == kept


def test_features_that_are_not_finite_are_a_divergence(assembly: Assembly) -> None:
    with torch.no_grad():
        next(assembly.training.network.parameters()).fill_(torch.inf)
    with pytest.raises(Diverged, match="a feature is not finite in eval mode"):
        evaluate(subject_of(assembly), 1, {})


class Behind(Network):
    """A network whose logits meet a fixed number behind the last layer; its features are what that layer gets."""

    def __init__(self, of: Network) -> None:
        super().__init__(of.backbone, of.classifier.in_features, of.classifier.out_features)
        self.classifier = of.classifier
        self.register_buffer("factor", torch.ones(()))
        self.largest = torch.inf

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        logits, features = super().forward(inputs)
        return self.factor * logits.clamp(max=self.largest), features


def test_logits_that_left_the_last_layer_are_refused_at_any_epoch(
    composed: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluator, "BATCH_SIZE", 7)
    assembly = assemble(check(composed()))
    network = Behind(assembly.training.network)  # type: ignore[arg-type]
    subject = replace(subject_of(assembly), network=network)
    inputs = assembly.dataset.train.inputs  # type: ignore[attr-defined]
    assert last_layer(network, inputs[:16], trains=True) is network.classifier
    evaluate(subject, 0, {})
    network.factor.fill_(1.01)  # a checkpoint's, or what somebody's code made of it
    with pytest.raises(ValueError, match=r"classifier: expected logits W h \+ b .* 1\.0e-02 of the largest logit away"):
        evaluate(subject, 1, {})
    network.factor.fill_(1.0)
    with torch.no_grad():
        logits = network.eval()(inputs)[0]
    (where,) = (logits.amax(1) == logits.max()).nonzero().flatten()[:1]
    assert where >= 7  # so that the first batch is as it should be
    network.largest = float(logits.amax(1).sort().values[-2])  # one example's alone is another
    with pytest.raises(ValueError, match="classifier: expected logits"):
        evaluate(subject, 1, {})


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_departure_is_the_largest_relative_difference(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(1)
    features, weight, bias = (torch.randn(*shape, generator=generator).to(dtype) for shape in [(9, 5), (3, 5), (3,)])
    exact = features.double().numpy() @ weight.double().numpy().T + bias.double().numpy()
    logits = torch.from_numpy(exact).to(dtype)
    assert departure(logits, features, weight, bias) == 0
    for factor in (0.0, 1.1, 2.0, np.nan, np.inf):
        expected = np.abs(factor * exact - exact).max() / np.abs(exact).max() if np.isfinite(factor) else np.inf
        assert float(departure(factor * logits, features, weight, bias)) == pytest.approx(expected, rel=0.1)
    nothing = torch.zeros_like(weight)
    assert departure(torch.zeros_like(logits), features, nothing, None) == 0
    assert departure(logits, features, nothing, None) == torch.inf
    overflown = torch.full_like(bias, torch.inf)
    assert departure(logits + overflown, features, weight, overflown) == 0


def wrong_of(subject: Subject) -> Tensor:
    """Which training examples are decided wrongly, by one pass over all."""
    data = subject.splits["train"]
    assert isinstance(data, Split)
    with torch.no_grad():
        return subject.network.eval()(data.inputs)[0].argmax(1) != data.labels


@pytest.mark.slow
def test_train_error_at_most_is_exact_whatever_the_suspects(composed: Compose) -> None:
    """At every epoch of a training, at shares around the error itself, with suspects right, wrong, none and all."""
    assembly = assemble(check(composed("dataset.separation=3.0", "epochs=30")))
    subject, seen, everything = subject_of(assembly), set(), torch.arange(80)
    for _ in range(30):
        assembly.training.run_epoch(lambda: False)
        error = wrong_of(subject).double().mean().item()
        for suspects in (assembly.training.wrong, everything[:0], everything, everything[::3]):
            for share in (share for share in (0.0, 0.001, error - 1 / 80, error, error + 1e-3) if share >= 0):
                assert train_error_at_most(subject, share, suspects) is (error <= share)
                seen.add(error <= share)
    assert seen == {True, False}


def test_train_error_that_is_too_large_costs_no_full_pass(composed: Compose) -> None:
    subject, examples = subject_of(assemble(check(composed("dataset.separation=0.5")))), list[int]()
    wrong = wrong_of(subject).nonzero().flatten()
    subject.network.register_forward_pre_hook(lambda module, inputs: examples.append(len(inputs[0])))
    assert not train_error_at_most(subject, 0.001, wrong)
    assert 0 < sum(examples) < 80


def states() -> list[object]:
    return [random.getstate(), repr(np.random.get_state()), torch.get_rng_state().tolist()]


def test_undisturbed_leaves_generators_and_modes_as_found(assembly: Assembly) -> None:
    network = assembly.training.network.train()
    network.backbone[1].eval()  # type: ignore[index, union-attr]
    modes, before = [module.training for module in network.modules()], states()
    assert len(set(modes)) == 2
    drawn = []
    for _ in range(2):
        with suppress(ZeroDivisionError), undisturbed(network, 5):
            network.eval()
            drawn.append((random.random(), float(np.random.rand()), float(torch.rand(()))))
            raise ZeroDivisionError
    assert drawn[0] == drawn[1]  # seeded
    assert states() == before
    assert [module.training for module in network.modules()] == modes


def test_undisturbed_seeds_no_gpu_that_is_not_in_use(assembly: Assembly, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the first use of a GPU, in the training that goes on, would begin with the seed of an evaluation."""
    seeded: list[int] = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    monkeypatch.setattr(torch.cuda, "get_rng_state_all", lambda: [torch.zeros(16, dtype=torch.uint8)])
    monkeypatch.setattr(torch.cuda, "set_rng_state_all", lambda states: None)
    for in_use in (False, True):
        monkeypatch.setattr(torch.cuda, "is_initialized", lambda in_use=in_use: in_use)
        with undisturbed(assembly.training.network, 5):
            pass
        assert seeded == [5] * in_use


class Careless:
    """An analysis that draws random numbers, trains the mode away and uses gradients."""

    needs: Needs = "network"

    def __call__(self, evaluation: Evaluation) -> Iterator[tuple[str, float]]:
        inputs, labels = next(evaluation.data.batches(9))
        noisy = inputs + torch.randn_like(inputs)
        logits, features = evaluation.network(noisy)
        loss = evaluation.loss(logits, labels, features)
        (slope,) = torch.autograd.grad(loss, [evaluation.network.classifier.weight])  # type: ignore[list-item]
        assert not evaluation.network.training
        evaluation.network.train()
        yield "careless/slope", float(slope.norm()) + random.random()


def test_analysis_sees_network_loss_and_data_and_disturbs_nothing(assembly: Assembly) -> None:
    subject = subject_of(assembly)
    done = evaluate(subject, 2, {})
    assembly.training.network.train()
    before = states()
    records = [run_analysis(Careless(), done, subject) for _ in range(2)]
    assert records[0] == records[1]  # the same years later
    assert records[0].keys() == {"epoch", "train/careless/slope", "test/careless/slope"}
    assert records[0]["train/careless/slope"] != records[0]["test/careless/slope"]
    assert states() == before
    assert all(module.training for module in assembly.training.network.modules())


class Undeclared(Careless):
    """It reads the data and says that statistics are enough."""

    needs: Needs = "statistics"


def test_analysis_that_reads_what_it_did_not_declare_is_refused(assembly: Assembly) -> None:
    subject = subject_of(assembly)
    with pytest.raises(ValueError, match="needs: expected 'features' or 'network'"):
        run_analysis(Undeclared(), evaluate(subject, 2, {}), subject)


def test_analysis_without_needs_is_refused(composed: Compose) -> None:
    raw = composed("analysis=[]")
    raw["analysis"] = {"mine": {"name": "mine", "_target_": "fractions.Fraction"}}
    with pytest.raises(ConfigError, match=r"analysis\.mine: expected an analysis with needs = one of statistics"):
        build_analyses(check(raw).analyses)
