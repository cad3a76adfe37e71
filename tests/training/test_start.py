"""A training that begins with the weights in a file, and what of it is frozen: against torch alone."""

from __future__ import annotations

import copy
import hashlib
import shutil
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file, save_file
from support import SMALL, Compose, journals, required, train
from torch import Tensor, nn

from ncexp.cli import main
from ncexp.config import ConfigError, RunConfig, check, stored_run
from ncexp.config.start import divide
from ncexp.main import measure, run
from ncexp.measure.snapshot import load_snapshot
from ncexp.record import RunDirectory, State, load, read_run
from ncexp.report.columns import axes
from ncexp.training import assemble, build_dataset

QUIET = ["tracking.enabled=false", "device=cpu", "optimizer=sgd", "optimizer/schedule=constant", "optimizer.lr=0.05"]
#: float32 sums of 80 examples in another order.
CLOSE = 1e-5
SECOND = "backbone.4.weight"


def theirs(num_classes: int = 4, width: int = 8) -> nn.Module:
    """The network of `SMALL` as somebody else writes it, trained for a few steps: its batch norms have seen data."""
    torch.manual_seed(7)
    body = nn.Sequential(
        nn.Flatten(),
        *(nn.Linear(6, 16, bias=False), nn.BatchNorm1d(16), nn.ReLU()),
        *(nn.Linear(16, width, bias=False), nn.BatchNorm1d(width), nn.ReLU()),
    )
    network = nn.Sequential(OrderedDict(backbone=body, classifier=nn.Linear(width, num_classes)))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    for _ in range(5):
        loss = network(torch.randn(40, 6)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.eval()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    torch.save(theirs().state_dict(), tmp_path / "a.pt")
    return tmp_path / "a.pt"


@pytest.fixture
def begun(composed: Compose, file: Path) -> Callable[..., dict[str, Any]]:
    """begun(overrides) → the configuration of a small run that starts from the file."""
    return lambda *overrides: composed(*QUIET, f"architecture.weights={file}", *overrides)


def last_weights(directory: RunDirectory) -> dict[str, Tensor]:
    return dict(load_file(directory.checkpoint(max(directory.kept_checkpoints()))))


# The key


def test_key_depends_on_the_bytes_of_the_file_alone(composed: Compose, file: Path, tmp_path: Path) -> None:
    def key(*overrides: str) -> str:
        return check(composed(*overrides)).key

    (tmp_path / "elsewhere").mkdir()
    same = shutil.copy(file, tmp_path / "elsewhere" / "b.bin")
    first = key(f"architecture.weights={file}")
    assert key(f"architecture.weights={same}") == first != key()
    pinned = hashlib.sha256(file.read_bytes()).hexdigest()
    assert key("architecture.weights=gone.pt", f"architecture.weights_sha256={pinned}") == first
    file.write_bytes(file.read_bytes() + b"\0")
    assert key(f"architecture.weights={file}") != first
    assert len({first, *(key(f"architecture.freeze={one}") for one in ("backbone", "a*", "[a*,b*]")), key()}) == 5
    assert key("architecture.freeze=[b*,a*,a*]") == key("architecture.freeze=[a*,b*]")


def test_key_of_what_starts_by_itself_is_as_before(composed: Compose) -> None:
    raw = composed()
    before = {name: value for name, value in raw["architecture"].items() if name not in ("weights", "freeze")}
    assert {"weights", "weights_sha256", "freeze"} < raw["architecture"].keys()
    del before["weights_sha256"]
    assert check({**raw, "architecture": before}).key == check(raw).key
    assert check(raw).raw["architecture"] == before  # nor do their files have it


def own(input_shape: tuple[int, ...], num_classes: int, weights: str = "uniform", freeze: bool = True) -> nn.Module:
    raise AssertionError


def test_parameters_of_ones_own_function_stay_its_own() -> None:
    chosen = {"name": "own", "_target_": f"{__name__}.own"}
    null = {"weights": None, "weights_sha256": None, "freeze": None}
    assert divide({**chosen, **null}) == (chosen, {"weights_sha256": None})
    assert divide({**chosen, "freeze": False})[0] == {**chosen, "freeze": False}
    by_name = {"_target_": "ncexp.architectures.by_name.module_model", "factory": f"{__name__}.own"}
    assert divide({**by_name, "freeze": False}) == ({**by_name, "freeze": False}, {})
    assert divide({**by_name, **null}) == (by_name, null)


# The start


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (lambda s: s, ""),
        (lambda s: {"epoch": 3, "state_dict": {f"module.{n}": t for n, t in s.items()}}, "their prefix module."),
        (lambda s: {"model": {f"_orig_mod.{n}": t for n, t in s.items()}}, "found under model; names without"),
        (lambda s: {n: t.half() if t.is_floating_point() else t for n, t in s.items()}, "torch.float16, trained as"),
    ],
)
def test_features_of_the_first_epoch_are_those_of_the_file(
    content: Any, said: str, begun: Callable[..., dict[str, Any]], file: Path
) -> None:
    state = content(theirs().state_dict())
    torch.save(state, file)
    config = check(begun("architecture.freeze=backbone"))
    assembly = assemble(config)
    assert said in assembly.start
    assert str(file) in assembly.start
    network, data = theirs(), build_dataset(config).train
    if "float16" in said:
        network.load_state_dict(state)
    inputs, labels = next(data.batches(len(data)))
    features = network.get_submodule("backbone")(inputs).detach().double()
    means = torch.stack([features[labels == c].mean(0) for c in range(4)])
    directory = train(begun("architecture.freeze=backbone"))
    for epoch in (1, 6):
        stored = load_snapshot(directory.snapshot(epoch), directory.key).splits["train"].statistics
        torch.testing.assert_close(stored.class_means, means, atol=CLOSE, rtol=CLOSE)


def test_last_layer_is_new_where_the_classes_differ(begun: Callable[..., dict[str, Any]], composed: Compose) -> None:
    three, fresh = begun("dataset.num_classes=3"), composed(*QUIET, "dataset.num_classes=3")
    assembly = assemble(check(three))
    assert "the last layer is new: 4 → 3 classes" in assembly.start
    found, scratch = assembly.training.network.state_dict(), assemble(check(fresh)).training.network.state_dict()
    for name, tensor in theirs().state_dict().items():
        expected = scratch[name] if name.startswith("classifier.") else tensor
        assert torch.equal(found[name], expected), name


def test_safetensors_and_own_checkpoints_start_a_training(begun: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    save_file(theirs().state_dict(), tmp_path / "a.safetensors")
    directory = train(begun(f"architecture.weights={tmp_path / 'a.safetensors'}"))
    ours = directory.checkpoint(6)
    found = assemble(check(begun(f"architecture.weights={ours}"))).training.network.state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in load_file(ours).items())


# What is frozen


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


# What is refused


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (
            lambda s: theirs(width=9).state_dict(),
            r"of another shape: .*backbone\.4\.weight \(9, 16\) instead of \(8, 16\)",
        ),
        (lambda s: s | {"classifier.weight": torch.ones(3, 9)}, r"classifier\.weight \(3, 9\) instead of \(4, 8\)"),
        (lambda s: {n: t for n, t in s.items() if n != SECOND}, "1 missing: backbone.4.weight"),
        (lambda s: {n: t for n, t in s.items() if "classifier" not in n}, "2 missing: classifier.weight, classifier"),
        (lambda s: s | {"backbone.9.weight": torch.ones(2)}, "1 unexpected: backbone.9.weight"),
        (lambda s: s | {"classifier.bias": torch.ones(3)}, r"of another shape: classifier.bias \(3,\) instead of \(4"),
        (lambda s: s | {SECOND: s[SECOND] * torch.nan}, "a.pt: expected finite numbers, got others in backbone.4.w"),
        (lambda s: {"model": s, "ema": s}, "got 2: model, ema.* Save the one that is meant in a file of its own"),
        (lambda s: {"model": s, "x": Dropped(2)}, "expected tensors and plain data, got other objects of Python"),
        (lambda s: "nothing", "expected one place with tensors by name, got none"),
    ],
)
def test_files_that_do_not_fit_are_refused(
    content: Any, reason: str, begun: Callable[..., dict[str, Any]], file: Path
) -> None:
    torch.save(content(theirs().state_dict()), file)
    with pytest.raises(ConfigError, match=reason) as refused:
        assemble(check(begun()))
    assert "checkpoint.key" not in str(refused.value)  # which is no key of a training


@pytest.mark.parametrize(
    ("override", "reason"),
    [
        (
            "weights=gone.pt",
            "architecture.weights: expected a file, got .*gone.pt, which is not there. Nothing ",
        ),
        ("weights='https://example.org/a.pt'", "expected a file, got .*, which is not there. Nothing is downloaded"),
        ("weights=.", "expected a file, got .*, which is none"),
        ("weights=3", "architecture.weights: expected a file's name, got 3"),
        ("weights_sha256=abc", "architecture.weights_sha256: expected 64 hexadecimal digits"),
        (f"weights_sha256={'0' * 64}", "expected the file of SHA-256 0+, got .*a.pt of .* It was changed"),
        ("freeze=true", "architecture.freeze: expected backbone, a pattern of parameters' names, or a list of them"),
        ("freeze=[]", "architecture.freeze: expected backbone, a pattern"),
        ("freeze=[backbone,a]", "architecture.freeze: expected backbone alone"),
        ("freeze=backbone.4", r"got backbone.4. The nearest: backbone.4.\*"),
        ("freeze=bakcbone.4.wieght", "The nearest: backbone.4.weight"),
        ("freeze='*'", "got \\*, which leaves nothing to train"),
        ("freeze=classifier.bias", "no part of the last layer, which regime=on_path computes, got classifier.bias"),
        ("freeze=backbone", "which leaves nothing to train with regime=on_path"),
    ],
)
def test_options_that_cannot_be_are_refused(
    override: str, reason: str, begun: Callable[..., dict[str, Any]], outputs: Path
) -> None:
    regime = ["regime=on_path", "batch_size=80"] if "on_path" in reason else []
    with pytest.raises(ConfigError, match=reason):
        assemble(check(begun(f"architecture.{override}", *regime)))
    assert not outputs.exists()


def test_digest_without_a_file_is_refused(composed: Compose) -> None:
    with pytest.raises(ConfigError, match="weights_sha256: expected none without"):
        check(composed(f"architecture.weights_sha256={'0' * 64}"))


def test_trained_last_layer_is_refused_for_a_fixed_one(begun: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    etf = "+architecture.classifier=simplex_etf"
    with pytest.raises(ConfigError, match="fixed at a simplex ETF as well, got a file with another"):
        assemble(check(begun(etf)))
    directory = train(begun(etf, "architecture.weights=null", "seed=3"))
    network = assemble(check(begun(etf, f"architecture.weights={directory.checkpoint(6)}"))).training.network
    assert torch.equal(network.classifier.weight, last_weights(directory)["classifier.weight"])
    with pytest.raises(ConfigError, match="leaves nothing to train"):
        assemble(check(begun(etf, "architecture.weights=null", "architecture.freeze=backbone")))


# On and on


def test_training_goes_on_without_its_file(
    begun: Callable[..., dict[str, Any]], composed: Compose, file: Path, tmp_path: Path, console: Console
) -> None:
    freeze = "architecture.freeze=backbone.1.*"
    undisturbed = train(begun(freeze, f"outputs={tmp_path / 'undisturbed'}"))
    left = train(begun(freeze), stop_after=3)
    raw = dict(check(begun(freeze)).raw)
    file.unlink()
    with pytest.raises(ConfigError, match="goes on without it, by the"):
        check(begun(freeze))
    assert run(raw, console) is State.COMPLETED
    assert journals(left.path) == journals(undisturbed.path)
    assert torch.equal(last_weights(left)[SECOND], last_weights(undisturbed)[SECOND])
    assert run(raw, console) is State.COMPLETED  # nothing is to be trained
    with pytest.raises(ConfigError, match=r"expected a file, got .*a\.pt, which is not there"):
        run({**raw, "rerun": "all"}, console)
    assert last_weights(left)  # nothing was removed


def test_run_from_a_file_is_measured_without_it(
    begun: Callable[..., dict[str, Any]], file: Path, composed: Compose, console: Console
) -> None:
    from support import compose

    raw = begun("architecture.freeze=backbone", "optimizer.weight_decay=0.01", "dataset.test_examples_per_class=4")
    assert run(raw, console) is State.COMPLETED
    path = check(raw).directory
    file.unlink()
    words = [f"run={path}", "analysis=[robustness,layers]", "analysis.layers.modules=[backbone.1]", "device=cpu"]
    assert measure(compose("measure", words), console) is State.COMPLETED
    saved = read_run(path)
    assert {"test/robustness/ratio", "train/layers/backbone.1/nc1_trace"} <= saved.records[-1].keys()
    assert stored_run(saved.raw).key == RunDirectory(path).key
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    assert f"weights   {file} (SHA-256 " in printed
    assert "frozen    272 of 308 parameters; in eval mode: 9 modules" in printed


def test_reports_name_the_file_and_its_bytes(begun: Callable[..., dict[str, Any]], file: Path) -> None:
    directory = train(dict(check(begun("architecture.freeze=backbone")).raw))
    chosen = read_run(directory.path).choices
    assert chosen["architecture.weights"] == f"a.pt@{hashlib.sha256(file.read_bytes()).hexdigest()[:8]}"
    assert chosen["architecture.freeze"] == "backbone"
    assert "architecture.weights_sha256" not in chosen


# Networks of others


def vit(num_classes: int) -> nn.Module:
    """A tiny vision transformer of Transformers, whose files have other names than its parameters."""
    transformers = required("transformers")
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    shape = {"image_size": 8, "patch_size": 4, "num_channels": 1, "num_labels": num_classes}
    model: nn.Module = transformers.ViTForImageClassification(transformers.ViTConfig(**sizes, **shape))
    return model


def saved_by_torchvision(folder: Path) -> tuple[Path, nn.Module]:
    model = required("torchvision").models.resnet18(num_classes=1000)
    torch.save({"state_dict": {f"module.{n}": t for n, t in model.state_dict().items()}}, folder / "a.pth.tar")
    return folder / "a.pth.tar", model


def saved_by_timm(folder: Path) -> tuple[Path, nn.Module]:
    model = required("timm").create_model("resnet10t", pretrained=False, num_classes=7)
    torch.save({"state_dict": model.state_dict(), "state_dict_ema": torch.ones(1), "epoch": 3}, folder / "last.pth")
    return folder / "last.pth", model


def saved_by_transformers(folder: Path) -> tuple[Path, nn.Module]:
    model: Any = vit(5)
    model.save_pretrained(folder)
    return folder / "model.safetensors", model


@pytest.mark.slow
@pytest.mark.parametrize(
    ("save", "words", "said", "pattern"),
    [
        (saved_by_torchvision, ["torchvision", "architecture.model=resnet18"], "1000 → 10", "model.layer1.*"),
        (saved_by_timm, ["timm", "architecture.model=resnet10t"], "7 → 10", "model.layer1.*"),
        (saved_by_transformers, ["module", f"architecture.factory={__name__}.vit"], "5 → 10", "model.vit.embeddings.*"),
    ],
)
def test_networks_of_others_start_from_their_own_files(
    save: Any, words: list[str], said: str, pattern: str, composed: Compose, tmp_path: Path
) -> None:
    torch.manual_seed(3)
    path, model = save(tmp_path)
    data = ["dataset=digits", "batch_size=200", "evaluate_at=[1]", *QUIET[:2], f"architecture={words[0]}", *words[1:]]
    raw = composed(*data, f"architecture.weights={path}", f"architecture.freeze={pattern}", base=["epochs=1"])
    assembly = assemble(check(raw))
    assert f"the last layer is new: {said} classes" in assembly.start
    network = assembly.training.network
    before, expected = copy.deepcopy(network.state_dict()), model.state_dict()
    differing = {name for name, tensor in expected.items() if not torch.equal(before[name], tensor)}
    assert differing == {name for name in before if before[name].shape != expected[name].shape}
    assembly.training.run_epoch(lambda: False)
    frozen = {name for name in before if f"model.{name}".startswith(pattern[:-1])}
    after = network.state_dict()
    assert {name for name in before if torch.equal(before[name], after[name])} >= frozen != set()
    assert any(not torch.equal(before[name], after[name]) for name in before.keys() - frozen)


@pytest.mark.slow
@pytest.mark.usefixtures("no_rendering")
def test_sweep_over_files_and_what_is_frozen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, seed in (("a.pt", 1), ("b (1).pt", 2)):
        network = theirs()
        torch.manual_seed(seed)
        nn.init.normal_(network.get_submodule("classifier").weight)  # type: ignore[arg-type]
        torch.save(network.state_dict(), name)
    files, frozen = "architecture.weights=a.pt,'b (1).pt',null", "architecture.freeze=backbone,[backbone.1.*],null"
    assert main(["-m", *SMALL, *QUIET, files, frozen, "epochs=2"]) == 0
    runs = load("outputs")
    pairs = {(run.choices.get("architecture.weights"), str(run.choices.get("architecture.freeze"))) for run in runs}
    assert len(pairs) == 9
    assert {str(name).partition("@")[0] for name, _ in pairs} == {"a.pt", "b (1).pt", "None"}
    assert {one for _, one in pairs} == {"backbone", "['backbone.1.*']", "None"}
    assert sorted(axes([*runs])) == ["architecture.freeze", "architecture.weights"]
    capsys.readouterr()
    assert main(["-m", *SMALL, *QUIET, "architecture.weights=a.pt,gone.pt", "epochs=2"]) != 0
    assert "gone.pt, which is not there" in capsys.readouterr().err
    assert main([*SMALL, *QUIET, "architecture.weights=b (1).pt", "epochs=2"]) == 0
