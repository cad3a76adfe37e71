"""A training that begins with the weights in a file: against torch alone."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file, save_file
from started import CLOSE, QUIET, last_weights, theirs
from support import Compose, journals, train
from torch import nn

from ncexp.config import ConfigError, check, stored_run
from ncexp.config.start import divide
from ncexp.main import measure, run
from ncexp.measure.snapshot import load_snapshot
from ncexp.record import RunDirectory, State, read_run
from ncexp.training import assemble, build_dataset

LAST = "classifier.weight"


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
    null = {"weights", "weights_sha256", "freeze", "head", "temperature"}
    assert null < raw["architecture"].keys()
    before = {name: value for name, value in raw["architecture"].items() if name not in null}
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


# What is refused


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (
            lambda s: theirs(width=9).state_dict(),
            r"of another shape: .*backbone\.4\.weight \(9, 16\) instead of \(8, 16\)",
        ),
        (lambda s: s | {"classifier.weight": torch.ones(3, 9)}, r"classifier\.weight \(3, 9\) instead of \(4, 8\)"),
        (lambda s: {n: t for n, t in s.items() if n != "backbone.4.weight"}, "1 missing: backbone.4.weight"),
        (lambda s: {n: t for n, t in s.items() if "classifier" not in n}, "2 missing: classifier.weight, classifier"),
        (lambda s: s | {"backbone.9.weight": torch.ones(2)}, "1 unexpected: backbone.9.weight"),
        (lambda s: s | {"classifier.bias": torch.ones(3)}, r"of another shape: classifier.bias \(3,\) instead of \(4"),
        (
            lambda s: s | {LAST: s[LAST] * torch.nan},
            "a.pt: expected finite numbers, got others in classifier.w",
        ),
        (lambda s: {"model": s, "ema": s}, "got 2: model, ema.* Save the one that is meant in a file of its own"),
        (lambda s: {"model": s, "x": nn.Linear(2, 2)}, "expected tensors and plain data, got other objects of Python"),
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


def test_faults_of_the_network_and_of_its_start_are_said_at_once(composed: Compose) -> None:
    words = r"architecture.hidden: .*\narchitecture.weights: .*\narchitecture.freeze: "
    with pytest.raises(ConfigError, match=words):
        check(composed("architecture.hidden=3", "architecture.freeze=3", "architecture.weights=3"))


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


@pytest.mark.usefixtures("no_figures")
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
    assert torch.equal(last_weights(left)["backbone.4.weight"], last_weights(undisturbed)["backbone.4.weight"])
    assert run(raw, console) is State.COMPLETED  # nothing is to be trained
    with pytest.raises(ConfigError, match=r"expected a file, got .*a\.pt, which is not there"):
        run({**raw, "rerun": "all"}, console)
    assert last_weights(left)  # nothing was removed


@pytest.mark.usefixtures("no_figures")
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
