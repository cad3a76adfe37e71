"""Other people's classifiers by name: their features, their names, and what is refused with its reason."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support import slow
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations
from torchvision import models

from ncexp.architectures import ForeignNetwork, last_layer
from ncexp.architectures.by_name import module_model, timm_model, torchvision_model
from ncexp.architectures.pointwise import StridedPointwise

#: float32 sums of up to 2048 terms in another order, relative to the largest logit.
TOLERANCE = 1e-5
#: Models that are quickly made, and a side of image that they take.
SMALL = [("resnet18", 8), ("mobilenet_v3_small", 32), ("shufflenet_v2_x0_5", 32), ("densenet121", 32)]


def images(channels: int, side: int, count: int = 3) -> Tensor:
    return torch.randn(count, channels, side, side, generator=torch.Generator().manual_seed(1))


def assert_features_are_the_classifiers_input(network: nn.Module, inputs: Tensor) -> None:
    layer = last_layer(network, inputs)
    for mode in (True, False):
        logits, features = network.train(mode)(inputs)
        by_hand = features @ layer.weight.T + layer.bias
        assert features.shape == (len(inputs), layer.in_features)
        assert (logits - by_hand).abs().max() <= TOLERANCE * by_hand.abs().max()


@pytest.mark.slow
@pytest.mark.parametrize(("model", "side"), SMALL)
@pytest.mark.parametrize("channels", [1, 3])
def test_torchvision_features_are_the_input_of_the_last_layer(model: str, side: int, channels: int) -> None:
    torch.manual_seed(0)
    network = torchvision_model((channels, side, side), 7, model=model)
    assert_features_are_the_classifiers_input(network, images(channels, side))


@pytest.mark.slow
def test_foreign_network_computes_and_names_as_the_model_itself() -> None:
    torch.manual_seed(0)
    resnet = models.resnet18(num_classes=5).eval()
    torch.manual_seed(0)
    network = torchvision_model((3, 16, 16), 5, model="resnet18").eval()
    assert network.state_dict().keys() == resnet.state_dict().keys()
    assert network.load_state_dict(resnet.state_dict()).missing_keys == []
    assert isinstance(network.model.layer2[0].downsample[0], StridedPointwise)
    inputs = images(3, 16)
    found = {}
    resnet.fc.register_forward_pre_hook(lambda _, given: found.update(features=given[0]))
    with torch.no_grad():
        logits, features = network(inputs)
        torch.testing.assert_close(logits, resnet(inputs), rtol=1e-5, atol=1e-6)  # strided 1×1 convolutions are ours
    torch.testing.assert_close(features, found["features"], rtol=1e-5, atol=1e-6)
    logits, features = network.train()(inputs)
    (functional.cross_entropy(logits, torch.arange(3)) + features.square().mean()).backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.slow
def test_grey_images_are_repeated_in_three_channels_and_it_is_said() -> None:
    torch.manual_seed(0)
    network = torchvision_model((1, 16, 16), 5, model="resnet18").eval()
    colour = torchvision_model((3, 16, 16), 5, model="resnet18").eval()
    colour.load_state_dict(network.state_dict())
    grey = images(1, 16)
    with torch.no_grad():
        assert torch.equal(network(grey)[0], colour(torch.cat([grey, grey, grey], dim=1))[0])
    assert network.facts == {"last_layer": "fc", "grey_images": "repeated in 3 channels"}
    assert colour.facts == {"last_layer": "fc"}
    assert "repeated in 3 channels" in network.describe()


@pytest.mark.slow
def test_foreign_network_can_be_copied_and_compiled_as_one_graph() -> None:
    torch.manual_seed(0)
    network = ForeignNetwork(theirs(linear(), before=linear(4)), "theirs", (1, 2, 2), 3).eval()
    inputs = images(1, 2)
    twin = copy.deepcopy(network)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.mul_(1.1)
    logits, features = network(inputs)
    _, of_twin = twin(inputs)
    assert not torch.equal(features, of_twin)
    compiled = torch.compile(network, backend="aot_eager", fullgraph=True)
    for ours, other in zip((logits, features), compiled(inputs), strict=True):
        torch.testing.assert_close(ours, other)
    assert copy.deepcopy(network) is not None  # no graph is held between two passes


@pytest.mark.slow
@pytest.mark.parametrize("model", ["googlenet", slow("inception_v3")])
def test_auxiliary_classifiers_are_off(model: str) -> None:
    with torch.device("meta"):
        network = torchvision_model((3, 96, 96), 5, model=model).train()
        logits, features = network(torch.empty(2, 3, 96, 96))
    assert logits.shape == (2, 5)
    assert features.shape[1] == network.classifier.in_features
    assert not any("aux" in name.lower() for name in network.state_dict())
    if model == "googlenet":  # those that are asked for cannot be trained
        with torch.device("meta"):
            network = torchvision_model((3, 96, 96), 5, model=model, aux_logits=True)
            with pytest.raises(ValueError, match="expected a tensor of logits, got GoogLeNetOutputs"):
                network.train()(torch.empty(2, 3, 96, 96))


@pytest.mark.parametrize(
    ("model", "options", "shape", "message"),
    [
        ("squeezenet1_1", {}, (3, 32, 32), "its last layer with weights is classifier.1, a Conv2d"),
        ("resnet81", {}, (3, 32, 32), "Did you mean resnet18"),
        ("fcn_resnet50", {}, (3, 32, 32), "expected a classifier of torchvision, got 'fcn_resnet50'"),
        ("alexnet", {}, (3, 8, 8), r"expected inputs that alexnet takes, got \(3, 8, 8\)"),
        ("vit_b_16", {}, (3, 32, 32), "Wrong image height! Expected 224 but got 32!"),
        ("resnet18", {}, (4, 32, 32), r"expected inputs that resnet18 takes, got \(4, 32, 32\)"),
        ("resnet18", {}, (16,), r"expected inputs that resnet18 takes, got \(16,\)"),
        ("resnet18", {"widht": 3}, (3, 32, 32), "widht"),
        ("resnet18", {"weights": "DEFAULT"}, (3, 32, 32), "architecture.weights: .* Nothing is downloaded"),
        ("resnet18", {"pretrained": True}, (3, 32, 32), "architecture.pretrained: .* Nothing is downloaded"),
    ],
)
def test_torchvision_models_that_cannot_be_had_are_refused_with_the_reason(
    model: str, options: dict, shape: tuple[int, ...], message: str
) -> None:
    with torch.device("meta"), pytest.raises(ValueError, match=message):
        torchvision_model(shape, 5, model=model, **options)


#: One of each of torchvision's families of classifiers; two of them read numbers of tensors while they are built.
FAMILIES = [
    "alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "efficientnet_v2_s", "googlenet", "mnasnet0_5",
    "mobilenet_v2", "mobilenet_v3_large", "resnet50", "resnext50_32x4d", "shufflenet_v2_x0_5", "squeezenet1_0",
    "swin_t", "swin_v2_t", "vgg11_bn", "vit_b_32", "wide_resnet50_2", "maxvit_t", "regnet_y_400mf",
]  # fmt: skip


@pytest.mark.slow
def test_every_family_of_torchvision_is_taken_or_refused_with_the_reason() -> None:
    refused = {}
    for model in FAMILIES:
        try:
            with torch.device("cpu" if model in FAMILIES[-2:] else "meta"):
                network = torchvision_model((3, 224, 224), 10, model=model).eval()
                logits, features = network(torch.zeros(2, 3, 224, 224))
            assert logits.shape == (2, 10)
            assert features.shape == (2, network.classifier.in_features)
        except ValueError as refusal:
            refused[model] = str(refusal)
    assert list(refused) == ["squeezenet1_0"]
    with torch.device("meta"):  # options go to the model
        assert torchvision_model((3, 32, 32), 5, model="vit_b_16", image_size=32).facts["last_layer"] == "heads.head"


class Net(nn.Module):
    """Somebody's network: its output is `answer` of it and the flat inputs; parts: layers and parameters by name."""

    def __init__(self, answer: Callable[[Any, Tensor], Any], **parts: Any) -> None:
        super().__init__()
        self.answer = answer
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, inputs: Tensor) -> Any:
        return self.answer(self, inputs.flatten(1))


def theirs(last: nn.Module, after: nn.Module | None = None, before: nn.Module | None = None) -> Net:
    """Its last layer, and what comes before and after it."""
    parts = {"before": before or nn.ReLU(), "last": last, "after": after or nn.Identity()}
    return Net(lambda net, x: net.after(net.last(net.before(x))), **parts)


def relu_behind(last: nn.Module) -> Net:
    """Without a layer of its own."""
    return Net(lambda net, x: torch.relu_(net.last(x)), last=last)


class Cosine(nn.Linear):
    def forward(self, inputs: Tensor) -> Tensor:
        return super().forward(functional.normalize(inputs))


class OwnCosines(nn.Module):
    """Cosines with rows that are a parameter of the module's own."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = nn.Parameter(torch.randn(3, 5))

    def forward(self, inputs: Tensor) -> Tensor:
        return functional.linear(functional.normalize(inputs), functional.normalize(self.rows))


def linear(out: int = 3) -> nn.Linear:
    return nn.Linear(4, out)


def zero() -> nn.Linear:
    layer = linear()
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


IS_NOT = "the logits are not W h . b of its last linear layer, last, once its weights are others"


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (lambda: theirs(linear(), nn.Softmax(1)), "its last linear layer, last, is followed by a Softmax"),
        (lambda: theirs(nn.Identity(), nn.PReLU(), linear(4)), "last linear layer, before, is followed by a PReLU"),
        (lambda: relu_behind(linear()), "its logits are not W h . b of .* last"),
        (lambda: theirs(Cosine(4, 3)), "its logits are not W h . b of .* last"),
        (lambda: Net(lambda net, x: net.last(net.last(x)), last=linear(4)), "last is used 2 times"),
        (lambda: theirs(nn.Identity()), "it has no layer with weights"),
        (lambda: theirs(linear(5)), r"expected outputs of shape \(2, 3\), .* got \(2, 5\)"),
        (lambda: Net(lambda net, x: (net.last(x), x), last=linear()), "expected a tensor of logits, got tuple"),
        (lambda: theirs(linear(5), OwnCosines()), "last linear layer, last, is followed by an OwnCosines"),
        (
            lambda: Net(lambda net, x: net.last(x) @ net.rows.T, last=linear(5), rows=nn.Parameter(torch.randn(3, 5))),
            "last, has 5 outputs, not one for each class: .* made of them by what is no torch.nn.Linear",
        ),
        (
            lambda: theirs(parametrizations.weight_norm(linear())),
            "the weight of its last linear layer, last, is no parameter but computed from parametrizations.weight",
        ),
        (
            lambda: theirs(nn.utils.weight_norm(linear())),
            "the weight of its last linear layer, last, is no parameter but computed from weight_g, weight_v",
        ),
        (lambda: theirs(zero(), nn.Tanh()), IS_NOT),
        (lambda: relu_behind(zero()), IS_NOT),
        (
            lambda: Net(lambda net, x: net.factor * net.last(x), last=linear(), factor=nn.Parameter(torch.ones(()))),
            "the logits depend on factor beside its last .* last",
        ),
        (lambda: theirs(linear(), nn.BatchNorm1d(3)), "depend on after.weight, after.bias beside .* last"),
        (
            lambda: Net(lambda net, x: (net.before(x) + net.last(x)) / 2, before=zero(), last=zero()),
            "depend on before.weight, before.bias beside .* last",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated:FutureWarning")
def test_networks_whose_logits_are_not_linear_are_refused_with_the_reason(model, reason: str) -> None:
    torch.manual_seed(0)
    classes = 4 if "2 times" in reason or "PReLU" in reason else 3
    with pytest.raises(ValueError, match=reason):
        ForeignNetwork(model(), "theirs", (1, 2, 2), classes)


def test_layer_that_begins_at_zero_or_is_fixed_is_taken_unchanged() -> None:
    fixed = zero()
    fixed.bias.requires_grad_(False)
    for last in (zero(), fixed, nn.Linear(4, 3, bias=False)):
        model = theirs(last, before=nn.Sequential(nn.BatchNorm1d(4), nn.Dropout()))
        before = copy.deepcopy(model.state_dict())
        generator, modes = torch.get_rng_state(), [module.training for module in model.modules()]
        network = ForeignNetwork(model, "theirs", (1, 2, 2), 3)
        assert last_layer(network, images(1, 2, count=16), trains=True) is last
        assert torch.equal(torch.get_rng_state(), generator)
        assert [module.training for module in model.modules()] == modes
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
        assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("after", [nn.Dropout(0.1), nn.BatchNorm1d(3, affine=False)])
def test_what_changes_logits_in_train_mode_alone_is_refused(after: nn.Module) -> None:
    torch.manual_seed(0)
    network = ForeignNetwork(theirs(zero(), after), "theirs", (1, 2, 2), 3)
    inputs = images(1, 2, count=16)
    last_layer(network, inputs)  # to be measured as it is
    with pytest.raises(ValueError, match=r"not W h . b of its last linear layer, model\.last, in train mode"):
        last_layer(network, inputs, trains=True)


def test_module_is_called_with_what_its_signature_asks_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a_package_of_theirs.py").write_text(
        "from torch import nn\n"
        "def make(width, num_classes=7):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(12, width), nn.ReLU(), nn.Linear(width, num_classes))\n"
        "def fixed():\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(12, 3))\n"
        "def no_module():\n"
        "    return 3\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    network = module_model((3, 2, 2), 3, factory="a_package_of_theirs.make", width=6)
    assert network.classifier.weight.shape == (3, 6)
    assert_features_are_the_classifiers_input(network, images(3, 2))
    assert module_model((3, 2, 2), 3, factory="a_package_of_theirs.fixed").facts == {"last_layer": "1"}
    for factory, options, message in [
        ("a_package_of_theirs.mak", {}, r"architecture.factory: expected package.module.callable, got .*mak'"),
        ("no_such_package.make", {}, "No module named 'no_such_package'"),
        ("make", {}, "architecture.factory: expected package.module.callable"),
        ("a_package_of_theirs.make", {}, "missing 1 required positional argument: 'width'"),
        ("a_package_of_theirs.make", {"widht": 3}, "widht"),
        ("a_package_of_theirs.no_module", {}, "expected a torch.nn.Module, got int"),
    ]:
        with pytest.raises(ValueError, match=message):
            module_model((3, 2, 2), 3, factory=factory, **options)


@pytest.mark.slow
def test_timm_features_are_the_input_of_the_last_layer() -> None:
    pytest.importorskip("timm")
    torch.manual_seed(0)
    network = timm_model((1, 32, 32), 7, model="vit_tiny_patch16_224", img_size=32, embed_dim=48, depth=1)
    assert network.facts == {"last_layer": "head", "grey_images": "repeated in 3 channels"}
    assert_features_are_the_classifiers_input(network, images(1, 32))
    one_channel = timm_model((1, 32, 32), 7, model="resnet10t", in_chans=1)
    assert one_channel.facts == {"last_layer": "fc"}
    assert_features_are_the_classifiers_input(one_channel, images(1, 32))
    for unknown in ("resnet10tt", "hf_hub:timm/resnet18"):
        with pytest.raises(ValueError, match="expected a model of timm, got"):
            timm_model((3, 32, 32), 7, model=unknown)


def test_timm_that_is_not_installed_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ValueError, match=r"pip install 'ncexp\[timm\]'"):
        timm_model((3, 32, 32), 7, model="resnet10t")
