"""Networks of others that start from their own files, and sweeps over files."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from started import QUIET, theirs
from support import SMALL, Compose, required
from torch import nn

from ncexp.cli import main
from ncexp.config import check
from ncexp.record import load
from ncexp.report.columns import axes
from ncexp.training import assemble

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
    drawn = torch.get_rng_state()
    assemble(check({**raw, "architecture": {**raw["architecture"], "weights": None}}))
    assert torch.equal(torch.get_rng_state(), drawn)  # who reads the file draws none of the training's numbers
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
    shutil.copy("a.pt", "c.pt")
    torch.save(theirs(width=9).state_dict(), "wide.pt")
    for other, reason in (("c.pt", "weights: expected one value for one run"), ("wide.pt", "nothing was begun")):
        assert main(["-m", *SMALL, *QUIET, f"architecture.weights=a.pt,{other}", "epochs=3"]) != 0
        assert reason in capsys.readouterr().err
    assert main([*SMALL, *QUIET, "architecture.weights=b (1).pt", "epochs=2"]) == 0
