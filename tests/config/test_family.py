"""The family of an architecture: what each choice says or its name does, a label that changes no weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from synthetic_sweep import configuration

from ncexp.config import Component, ConfigError, family_of
from ncexp.record import read_run

ARCHITECTURES = Path(__file__).parents[2] / "conf" / "architecture"
#: Those whose family depends on the model that is chosen.
BY_NAME = {"torchvision", "timm", "module", "tokens"}


def choice(name: str) -> dict[str, object]:
    content: dict[str, object] = yaml.safe_load((ARCHITECTURES / f"{name}.yaml").read_text())
    return content


@pytest.mark.parametrize("path", sorted(ARCHITECTURES.glob("*.yaml")), ids=lambda path: path.stem)
def test_family_stands_in_every_choice(path: Path) -> None:
    stated = choice(path.stem)["family"]
    printed = {"vgg": "VGG", "resnet": "ResNet", "densenet": "DenseNet", "mlp": "MLP", "unconstrained": "unconstrained"}
    printed["convnet"] = "ConvNet"
    letters = path.stem.partition("_")[0].rstrip("0123456789")
    assert stated == (None if path.stem in BY_NAME else printed[letters])


@pytest.mark.parametrize(
    ("name", "model", "family"),
    [
        ("torchvision_resnet18", "resnet18", "ResNet"),
        ("torchvision_vgg11_bn", "vgg11_bn", "VGG"),
        ("timm_densenetblur121d", "densenetblur121d", "densenetblur"),
        ("torchvision_vit_b_16", "vit_b_16", "vit"),
        ("my_package.networks.make_wide", None, "make"),
        ("my_package.ResNet", None, "ResNet"),
        ("my_package._made", None, "my_package._made"),
        ("densenet40", None, "DenseNet"),
    ],
)
def test_family_of_a_foreign_network_is_the_first_letters_of_its_name(
    name: str, model: str | None, family: str
) -> None:
    assert family_of({"name": name, **({"model": model} if model else {}), "family": None}) == family
    assert family_of({"name": name, **({"model": model} if model else {})}) == family  # a record of an older version
    assert family_of({"name": name, "family": "VGG"}) == "VGG"


def test_family_is_in_no_key_and_no_option() -> None:
    raw = choice("resnet")
    keys = set()
    for family in ("ResNet", "mine", None):
        made = Component.check("architecture", {**raw, "family": family})
        keys.add(str(made.identity()))
        assert made.family == (family or "ResNet")
    assert len(keys) == 1
    assert "family" not in keys.pop()
    with pytest.raises(ConfigError, match=r"architecture\.family: expected 1 to 64 letters"):
        Component.check("architecture", {**raw, "family": "of mine"})


def test_family_is_no_choice_that_runs_differ_in(tmp_path: Path) -> None:
    """So records from before there were families share a cell with later ones."""
    raw = configuration("digits", "resnet", "mse", 0.1, 0)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(raw))
    before = read_run(tmp_path)
    raw["architecture"]["family"] = "ResNet"
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(raw))
    after = read_run(tmp_path)
    assert before.choices == after.choices
    assert before.family == after.family == after.parameters["family"] == "ResNet"
