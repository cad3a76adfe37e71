"""A choice is checked against the signature of what it calls, which is read once."""

from __future__ import annotations

import inspect
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ncexp.config import Component, ConfigError
from ncexp.config.components import closest, locate
from ncexp.config.trusted_code import refuse_strange_code


@dataclass
class Scaled:
    """Callable, and compared by value: it has no hash."""

    factor: float

    def __call__(self, num_classes: int, width: int = 3) -> float:
        return self.factor * num_classes * width


def twice(num_classes: int, width: int = 3) -> int:
    return 2 * num_classes * width


scaled = Scaled(2.0)


def check(target: str, **options: Any) -> Component:
    raw = {"name": "mine", "_target_": f"components_of_tests.{target}", **options}
    return Component.check("loss", raw)


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "components_of_tests", inspect.getmodule(importable))


@pytest.mark.parametrize("target", ["twice", "scaled"])
def test_function_and_unhashable_object_are_called_with_their_options(target: str) -> None:
    assert check(target, width=5).build(num_classes=4) == 40
    assert check(target).options == {"width": 3}
    with pytest.raises(ConfigError, match=r"loss\.widht: no such key"):
        check(target, widht=5)


def test_signature_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    check("twice")
    monkeypatch.setattr("ncexp.config.components.create_model", None)
    assert check("twice", width=7).options == {"width": 7}


@pytest.mark.parametrize(
    "options", [{}, {"decoupled": 0.0, "decay_of": None}, {"decoupled": 0.5}, {"decay_of": {"*": 0.0}}]
)
def test_option_that_came_later_is_in_the_key_only_where_it_is_used(options: dict[str, Any]) -> None:
    raw = {"name": "sgd", "_target_": "ncexp.training.optimizers.sgd", "lr": 0.1}
    earlier = {"_target_": raw["_target_"], "lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4}
    used = {name: value for name, value in options.items() if value}
    assert Component.check("optimizer", {**raw, **options}).identity() == earlier | used


@pytest.mark.parametrize(
    "raw",
    [
        "/a" * 3000,
        {"name": "layers", "_target_": {"new": "/a" * 3000}},
        {"name": "layers", "_target_": "/a" * 3000},
        {"name": "layers", "_target_": "math." + "a" * 6000},
        {"name": "layers", "_target_": "no_package" + "a" * 6000 + ".function"},
    ],
)
def test_choice_of_great_length_is_refused_in_a_short_message(raw: Any) -> None:
    with pytest.raises(ConfigError, match=r"^analysis\.layers.*characters\)") as refused:
        Component.check("analysis.layers", raw)
    assert len(str(refused.value)) < 1000


@pytest.mark.parametrize("name", ["shutil:os.system", "ncexp.training.losses.torch.os.system", "os", ".os.system", 3])
def test_callable_is_found_only_where_its_name_says(name: Any) -> None:
    """Other ways to write a name reached callables of packages that refuse_strange_code does not let through."""
    with pytest.raises(ConfigError, match=r"^architecture\.factory: expected .*package\.module\.callable, got"):
        locate("architecture.factory", name)


def test_strange_code_is_refused_however_it_is_written() -> None:
    with pytest.raises(ConfigError, match=r"^architecture\.factory: expected one of ncexp's own or a function"):
        refuse_strange_code({"architecture": {"factory": "shutil:os.system"}}, Path("config.yaml"))


@pytest.mark.parametrize(
    ("word", "choices", "near"),
    [
        ("ce", ["cross_entropy", "focal", "mse"], "cross_entropy"),
        ("MSE", ["mse", "mse_mean", "cross_entropy"], "mse"),
        ("learning_rate", ["lr", "weight_decay"], "lr"),
        ("cifar", ["cifar10", "mnist"], "cifar10"),
        ("han2022/cifar10_vgg1", ["han2022/cifar10_vgg", "han2022/cifar10_resnet", "decay"], "han2022/cifar10_vgg"),
        ("xyz", ["mse"], ""),
    ],
)
def test_closest_choice_is_the_one_that_was_meant(word: str, choices: list[str], near: str) -> None:
    assert closest(word, choices) == near
