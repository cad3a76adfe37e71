"""Parameters and operations of every network against published numbers."""

import functools
from collections.abc import Iterable
from typing import Any

import pytest
import torch
from support import slow

from ncexp.architectures.catalogue import ArchitectureSize, describe_architectures, measure_size
from ncexp.config import Component, ConfigError
from ncexp.config.installed import choices, read_choice

#: torchvision's documentation of its models (meta num_params of the IMAGENET1K_V1 weights): 3 channels, 1000 classes.
TORCHVISION_IMAGENET = {
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnet152": 60_192_808,
    "densenet121": 7_978_856,
    "densenet169": 14_149_480,
    "densenet201": 20_013_928,
    "vgg11": 132_868_840,
    "vgg13": 133_053_736,
    "vgg16": 138_365_992,
    "vgg19": 143_678_248,
}
#: The table of CIFAR-10 models in the repository osmr/imgclsmob (DenseNet-BC: 0.8M and 15.3M in Huang et al., Table 2).
IMGCLSMOB_CIFAR10 = {"densenet40": 176_122, "densenet100": 769_162, "densenet250": 15_324_406}
#: Multiply-adds in units of 10⁶, same table; it counts batch norms and ReLUs as well, ours does not.
IMGCLSMOB_CIFAR10_MULTIPLY_ADDS = {"densenet40": 74.89, "densenet100": 298.45, "densenet250": 5519.54}
#: torchvision's documentation ("_ops", in 10⁹ multiply-adds at 224×224).
TORCHVISION_MULTIPLY_ADDS = {"resnet18": 1.814, "resnet50": 4.089, "densenet121": 2.834, "densenet201": 4.291}

DEEP = [name for name in TORCHVISION_IMAGENET if not name.startswith("vgg")]
VGGS = [name for name in TORCHVISION_IMAGENET if name.startswith("vgg")]

#: A second or two each, of families that have others.
LONG = ("resnet101", "resnet152", "densenet169", "densenet201", "densenet250")


def with_long_ones_slow(names: Iterable[str]) -> list[Any]:
    return [slow(name) if name in LONG else name for name in names]


def component(name: str, **options) -> Component:
    return Component.check("architecture", {**read_choice("architecture", name), **options})


@functools.cache  # the deepest take a second
def size_of(name: str, input_shape: tuple[int, ...], num_classes: int, **options) -> ArchitectureSize:
    return measure_size(component(name, **options), input_shape, num_classes)


@pytest.mark.slow
@pytest.mark.parametrize("name", with_long_ones_slow(DEEP))
def test_parameter_count_equals_torchvisions_with_the_imagenet_stem(name):
    size = size_of(name, (3, 224, 224), 1000, stem="imagenet")
    assert size.num_parameters == TORCHVISION_IMAGENET[name]


@pytest.mark.parametrize("name", VGGS)
def test_parameter_count_is_torchvisions_but_for_norms_for_dropout(name):
    size = size_of(name, (3, 224, 224), 1000, head="fully_connected")
    assert size.num_parameters == TORCHVISION_IMAGENET[name] + 2 * 2 * 4096
    assert size.num_features == 4096


@pytest.mark.parametrize("name", VGGS)
def test_parameter_count_of_the_average_head_leaves_out_the_published_head(name):
    published_head = (512 * 49 + 1) * 4096 + (4096 + 1) * 4096 + (4096 + 1) * 1000
    size = size_of(name, (3, 32, 32), 10)
    assert size.num_parameters == TORCHVISION_IMAGENET[name] - published_head + (512 + 1) * 10


@pytest.mark.parametrize("name", with_long_ones_slow(name for name in DEEP if name.startswith("resnet")))
def test_parameter_count_of_the_small_stem_differs_by_kernel_and_classes(name):
    size = size_of(name, (3, 32, 32), 10)
    fewer_weights_in_the_stem = 64 * 3 * (7 * 7 - 3 * 3)
    fewer_classes = 990 * (size.num_features + 1)
    assert size.num_parameters == TORCHVISION_IMAGENET[name] - fewer_weights_in_the_stem - fewer_classes


@pytest.mark.slow
@pytest.mark.parametrize("name", with_long_ones_slow(IMGCLSMOB_CIFAR10))
def test_parameter_count_of_small_densenets_is_the_published_one(name):
    assert size_of(name, (3, 32, 32), 10).num_parameters == IMGCLSMOB_CIFAR10[name]


@pytest.mark.slow
@pytest.mark.parametrize("name", TORCHVISION_MULTIPLY_ADDS)
def test_flops_are_twice_torchvisions_multiply_adds(name):
    size = size_of(name, (3, 224, 224), 1000, stem="imagenet")
    assert size.flops / 2e9 == pytest.approx(TORCHVISION_MULTIPLY_ADDS[name], rel=1e-3)  # printed with four digits


@pytest.mark.slow
@pytest.mark.parametrize("name", with_long_ones_slow(IMGCLSMOB_CIFAR10_MULTIPLY_ADDS))
def test_flops_of_small_densenets_are_twice_the_published_multiply_adds(name):
    size = size_of(name, (3, 32, 32), 10)
    assert size.flops / 2e6 == pytest.approx(IMGCLSMOB_CIFAR10_MULTIPLY_ADDS[name], rel=0.05)


@pytest.mark.slow
def test_description_has_a_row_for_every_choice_in_order_of_depth():
    names, before = [*choices("architecture")], torch.get_rng_state()
    assert names.index("densenet40") < names.index("densenet100") < names.index("densenet250")
    rows = describe_architectures(names, (1, 28, 28), 10)
    assert [*rows] == names
    assert torch.equal(torch.get_rng_state(), before)
    too_small = {name for name, row in rows.items() if "29×29" in str(row)}
    assert too_small == {"densenet121", "densenet169", "densenet201"}
    for name, option in (("torchvision", "model"), ("timm", "model"), ("module", "factory")):
        assert rows[name] == f"any that architecture.{option} names"


@pytest.mark.slow
def test_description_counts_only_what_is_trained():
    options = {"classifier": "simplex_etf"}
    fixed, free = (measure_size(component("resnet18", **o), (1, 28, 28), 10) for o in (options, {}))
    assert free.num_parameters - fixed.num_parameters == 513 * 10


def test_description_refuses_an_unknown_name():
    with pytest.raises(ConfigError, match="Did you mean resnet18"):
        describe_architectures(["resnet81"], (1, 28, 28), 10)
