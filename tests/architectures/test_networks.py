"""Every network answers (logits, features), its last layer is what it says, whatever the image and the compiler."""

import pytest
import torch
from support import slow
from torch import nn

from ncexp.architectures import Network, last_layer
from ncexp.architectures.convnet import convnet
from ncexp.architectures.deep_resnet import deep_resnet
from ncexp.architectures.densenet import densenet
from ncexp.architectures.mlp import mlp
from ncexp.architectures.network import SimplexETFClassifier
from ncexp.architectures.resnet import resnet
from ncexp.architectures.vgg import vgg
from ncexp.measure import ridge_of
from ncexp.training.optimizers import sgd

SMALL_DENSENET = {"layers": [2, 2, 2], "growth_rate": 4}
#: Small members of every family, with the sides of image that are cheap for them.
BUILDERS = {
    "mlp": (lambda shape, c, **o: mlp(shape, c, hidden=[32, 16], **o), [28, 32]),
    "convnet": (lambda shape, c, **o: convnet(shape, c, channels=[4, 8], hidden=[16], **o), [28, 32]),
    "convnet_norms": (
        lambda shape, c, **o: convnet(shape, c, channels=[4, 8], hidden=[16], batch_norm=True, **o),
        [5, 32],
    ),
    "resnet": (lambda shape, c, **o: resnet(shape, c, width=4, **o), [8, 28, 32, 96]),
    "resnet18": (lambda shape, c, **o: deep_resnet(shape, c, depth=18, **o), [28]),
    "resnet18_imagenet": (lambda shape, c, **o: deep_resnet(shape, c, depth=18, stem="imagenet", **o), [96, 224]),
    "resnet50_imagenet": (lambda shape, c, **o: deep_resnet(shape, c, depth=50, stem="imagenet", **o), [32]),
    "vgg11": (lambda shape, c, **o: vgg(shape, c, depth=11, width=8, **o), [8, 28, 32, 96]),
    "vgg19": (lambda shape, c, **o: vgg(shape, c, depth=19, width=4, **o), [224]),
    "densenet_small": (lambda shape, c, **o: densenet(shape, c, **SMALL_DENSENET, **o), [8, 28, 32, 96]),
    "densenet_imagenet": (
        lambda shape, c, **o: densenet(shape, c, layers=[2, 2, 2, 2], growth_rate=8, stem="imagenet", **o),
        [29, 96, 224],
    ),
}
CASES = [(name, 3, side) for name, (_, sides) in BUILDERS.items() for side in sides]
CASES += [(name, 1, sides[0]) for name, (_, sides) in BUILDERS.items()]
CASES = [slow(*case) if case[-1] == 224 else case for case in CASES]
#: float32 sums of up to 2048 terms in another order, relative to the largest logit.
TOLERANCE = 1e-5
#: float32 numbers of size one, after a sum of up to 64 of them.
ROUNDING = 1e-6


@pytest.mark.parametrize(("name", "channels", "side"), CASES)
def test_logits_equal_features_times_weight_plus_bias(name, channels, side):
    torch.manual_seed(0)
    network = BUILDERS[name][0]((channels, side, side), 7)
    nn.init.normal_(network.classifier.bias)
    inputs = torch.randn(3, channels, side, side)
    layer = last_layer(network, inputs)
    for mode in (True, False):
        logits, features = network.train(mode)(inputs)
        by_hand = torch.einsum("np,cp->nc", features, layer.weight) + layer.bias
        assert features.shape == (3, layer.in_features)
        assert (logits - by_hand).abs().max() <= TOLERANCE * by_hand.abs().max()
    assert not any(module._forward_hooks or isinstance(module, nn.Dropout) for module in network.modules())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "classifier"),
    [
        ("resnet", "linear"),
        *(slow(*other) for other in [("resnet", "simplex_etf"), ("vgg11", "linear"), ("densenet_small", "linear")]),
    ],
)
def test_forward_is_one_graph_for_torch_compile(name, classifier):
    torch.manual_seed(0)
    network = BUILDERS[name][0]((1, 8, 8), 5, classifier=classifier).eval()
    inputs = torch.randn(4, 1, 8, 8)
    compiled = torch.compile(network, backend="eager", fullgraph=True)
    for ours, theirs in zip(network(inputs), compiled(inputs), strict=True):
        torch.testing.assert_close(ours, theirs)
    assert isinstance(compiled.classifier, nn.Linear)


@pytest.mark.slow
@pytest.mark.parametrize("name", [slow(name) if name == "resnet50_imagenet" else name for name in BUILDERS])
def test_initialisation_is_determined_by_the_global_generator(name):
    build, sides = BUILDERS[name]
    states = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        states.append(torch.cat([p.detach().flatten() for p in build((1, sides[0], sides[0]), 3).parameters()]))
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


@pytest.mark.parametrize(("name", "fan"), [("resnet18", "out"), ("vgg11", "out"), ("densenet_small", "in")])
def test_initialisation_of_convolutions_is_hes(name, fan):
    torch.manual_seed(0)
    network = BUILDERS[name][0]((3, 32, 32), 3)
    for layer in (m for m in network.modules() if isinstance(m, nn.Conv2d) and m.weight.numel() >= 1000):
        terms = layer.weight[0].numel() if fan == "in" else layer.weight[:, 0].numel()
        # The estimate of a standard deviation from m numbers is off by 1/√(2m); five of these.
        assert layer.weight.std().item() == pytest.approx((2 / terms) ** 0.5, rel=5 / (2 * layer.weight.numel()) ** 0.5)


@pytest.mark.parametrize("stem", ["small", "imagenet"])
def test_initialisation_of_the_stem_follows_the_network(stem):
    torch.manual_seed(0)
    dense = densenet((9, 32, 32), 3, layers=[1, 1], growth_rate=32, stem=stem).backbone[0].conv0.weight
    residual = deep_resnet((9, 32, 32), 3, depth=18, stem=stem).backbone.conv1.weight
    for weight, terms in ((dense, dense[0].numel()), (residual, residual[:, 0].numel())):
        assert weight.std().item() == pytest.approx((2 / terms) ** 0.5, rel=5 / (2 * weight.numel()) ** 0.5)


def test_vgg_has_norms_in_place_of_dropout_and_no_pools_of_a_pixel():
    with torch.device("meta"):
        network = vgg((3, 32, 32), 10, depth=11, width=8, head="fully_connected")
        logits, features = network(torch.empty(2, 3, 32, 32))
    assert features.shape == (2, 4096)
    assert logits.shape == (2, 10)
    assert [m.num_features for m in network.backbone if isinstance(m, nn.BatchNorm1d)] == [4096, 4096]
    for side, pools in {1: 0, 8: 3, 16: 4, 28: 4, 32: 5, 96: 5}.items():  # without those of a single pixel
        assert sum(isinstance(m, nn.MaxPool2d) for m in vgg((1, side, side), 3, depth=11, width=8).modules()) == pools


@pytest.mark.parametrize("batch_norm", [False, True])
def test_convnet_is_the_layers_that_its_docstring_names(batch_norm):
    torch.manual_seed(0)
    network = convnet((3, 13, 10), 4, channels=[4, 8, 6], hidden=[9, 5], batch_norm=batch_norm).eval()
    layers = [module for module in network.backbone.modules() if isinstance(module, (nn.Conv2d, nn.Linear))]
    norms = sum(isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)) for module in network.modules())
    images = inputs = torch.randn(2, 3, 13, 10)
    for layer in layers:
        if isinstance(layer, nn.Conv2d):
            side = layer.weight.shape[-1]
            assert side == (5 if layer is layers[0] else 3)
            places = nn.functional.unfold(inputs, side, padding=side // 2, stride=2)  # each place's pixels, as columns
            height, width = -(-inputs.shape[2] // 2), -(-inputs.shape[3] // 2)
            values = layer.weight.flatten(1) @ places + (0 if batch_norm else layer.bias[:, None])
            inputs = values.clamp(min=0).unflatten(2, (height, width))
        else:
            inputs = (inputs.flatten(1) @ layer.weight.T + (0 if batch_norm else layer.bias)).clamp(min=0)
    _, features = network(images)
    assert norms == (5 if batch_norm else 0)
    scale = (1 + 1e-5) ** -2.5 if batch_norm else 1.0  # five norms at mean 0, variance 1, eps 1e-5
    torch.testing.assert_close(features, scale * inputs)


@pytest.mark.parametrize("name", [name for name in BUILDERS if name != "mlp"])
def test_networks_for_images_refuse_vectors(name):
    with pytest.raises(ValueError, match=r"expected images \(channels, height, width\), got inputs of shape \(16,\)"):
        BUILDERS[name][0]((16,), 3)


@pytest.mark.parametrize(("stem", "side"), [("small", 3), ("imagenet", 12)])
def test_densenet_refuses_images_that_it_would_halve_away(stem, side):
    with pytest.raises(ValueError, match=f"at least {side + 1}×{side + 1} pixels, got {side}×{side}"):
        densenet((1, side, side), 3, **SMALL_DENSENET, stem=stem)
    network = densenet((1, side + 1, side + 1), 3, **SMALL_DENSENET, stem=stem)
    network.eval()(torch.randn(1, 1, side + 1, side + 1))


def test_last_layer_refuses_features_that_are_not_the_layers_input():
    class Twice(Network):
        def forward(self, inputs):
            logits, features = super().forward(inputs)
            return logits, 2 * features

    with pytest.raises(ValueError, match=r"expected logits = classifier\(features\)"):
        last_layer(Twice(nn.Flatten(), 4, 3), torch.randn(2, 1, 2, 2))


# The fixed last layer


@pytest.mark.parametrize(("num_classes", "num_features"), [(2, 1), (5, 4), (10, 64)])
def test_weight_is_a_simplex_etf_of_unit_rows(num_classes, num_features):
    torch.manual_seed(0)
    layer = SimplexETFClassifier(num_features, num_classes)
    gram = layer.weight @ layer.weight.T
    expected = (num_classes * torch.eye(num_classes) - 1) / (num_classes - 1)
    assert (gram - expected).abs().max() < ROUNDING
    assert torch.equal(layer.bias, torch.full((num_classes,), 1 / num_classes))
    # Collapsed features, h = (1 − 1/C) w_c, reach the one-hot targets.
    assert (layer(layer.weight * (1 - 1 / num_classes)) - torch.eye(num_classes)).abs().max() < ROUNDING
    # The frame is turned at random, so that every feature takes part, and travels with the state.
    other = SimplexETFClassifier(num_features, num_classes)
    assert num_features == 1 or (layer.weight - other.weight).abs().max() > 0.1
    other.load_state_dict(layer.state_dict())
    assert torch.equal(other.weight, layer.weight)


def test_training_with_decay_leaves_the_layer_as_it_was():
    torch.manual_seed(0)
    network = Network(nn.Sequential(nn.Linear(6, 8), nn.ReLU()), 8, 4, "simplex_etf")
    weight, bias = network.classifier.weight.clone(), network.classifier.bias.clone()
    before = network.backbone[0].weight.clone()
    optimizer = sgd(network.parameters(), lr=0.5, weight_decay=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        network(torch.randn(5, 6))[0].square().sum().backward()
        optimizer.step()
    assert torch.equal(network.classifier.weight, weight)
    assert torch.equal(network.classifier.bias, bias)
    assert not torch.equal(network.backbone[0].weight, before)
    ridge = ridge_of(optimizer, network.classifier, half_mse_scale=1.0)
    assert (ridge.weight, ridge.bias) == (0.0, 0.0)


def test_too_few_features_are_refused():
    with pytest.raises(ValueError, match="at least C − 1 = 9 features for simplex_etf, got 5"):
        densenet((1, 8, 8), 10, layers=[1, 1], growth_rate=2, classifier="simplex_etf")
