"""Probes take what a module puts out for what it is, or refuse it by name; their numbers are those of NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, TensorDataset

from ncexp.config import ConfigError, check
from ncexp.measure import Ridge, Subject, TappedNetwork, evaluate, run_analysis
from ncexp.measure import probes as module_of_probes
from ncexp.measure.analyses import LayerwiseCollapse
from ncexp.measure.layouts import blocks_of
from ncexp.measure.loaders import LoadedData, LoadedExamples
from ncexp.measure.probes import REDUCTIONS, Probe, Probes
from ncexp.training import SINGLE, assemble

CLASSES, EACH = 3, 6
#: float64 throughout: sums in another order.
ROUNDING = 1e-9
MEANS = {
    "channels": lambda a: a.reshape(*a.shape[:2], -1).mean(2),
    "tokens": lambda a: a.reshape(len(a), -1, a.shape[-1]).mean(1),
}


def torchvision_vit() -> Any:
    from torchvision.models import VisionTransformer

    return VisionTransformer(16, 4, 2, 2, 24, 40, num_classes=CLASSES)


def torchvision_convnext() -> Any:
    from torchvision.models.convnext import CNBlockConfig, ConvNeXt

    return ConvNeXt([CNBlockConfig(12, 20, 2), CNBlockConfig(20, None, 2)], num_classes=CLASSES)


def torchvision_resnet() -> Any:
    from torchvision.models.resnet import BasicBlock, ResNet

    return ResNet(BasicBlock, [1, 1, 1, 1], num_classes=CLASSES)


def torchvision_swin() -> Any:
    from torchvision.models import SwinTransformer

    return SwinTransformer([4, 4], 12, [2, 2], [2, 2], [2, 2], num_classes=CLASSES)


def timm_mixer() -> Any:
    timm = pytest.importorskip("timm")
    made = timm.models.mlp_mixer.MlpMixer
    return made(num_classes=CLASSES, img_size=16, patch_size=4, num_blocks=3, embed_dim=20)


def timm_vit() -> Any:
    timm = pytest.importorskip("timm")
    made = timm.models.vision_transformer.VisionTransformer
    return made(img_size=16, patch_size=4, num_classes=CLASSES, embed_dim=24, depth=2, num_heads=2)


def timm_swin() -> Any:
    timm = pytest.importorskip("timm")
    made = timm.models.swin_transformer.SwinTransformer
    sizes = {"embed_dim": 12, "depths": (2, 2), "num_heads": (2, 2), "window_size": 2}
    return made(img_size=16, patch_size=2, num_classes=CLASSES, **sizes)


#: The model, the first and the number of its blocks, and where their units are.
MODELS = {
    "torchvision ViT": (torchvision_vit, "encoder.layers.encoder_layer_0", 2, "tokens"),
    "torchvision ConvNeXt": (torchvision_convnext, "features.1.0", 4, "channels"),
    "torchvision ResNet": (torchvision_resnet, "layer1.0", 4, "channels"),
    "torchvision Swin": (torchvision_swin, "features.1.0", 5, "tokens"),
    "timm MLP-Mixer": (timm_mixer, "blocks.0", 3, "tokens"),
    "timm ViT": (timm_vit, "blocks.0", 2, "tokens"),
    "timm Swin": (timm_swin, "layers.0.blocks.0", 4, "tokens"),
}


def by_numpy(features: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Numbers of one layer from their definitions; class sizes are equal."""
    means = np.stack([features[labels == c].mean(0) for c in range(CLASSES)])
    within, centred = features - means[labels], means - features.mean(0)
    covariance, between = within.T @ within / len(features), centred.T @ centred / CLASSES
    spread = np.array([(within[labels == c] ** 2).sum(1).mean() for c in range(CLASSES)])
    pairs = [(i, j) for i in range(CLASSES) for j in range(CLASSES) if i != j]
    apart = [(spread[i] + spread[j]) / (2 * ((means[i] - means[j]) ** 2).sum()) for i, j in pairs]
    norms = np.linalg.norm(centred, axis=1)
    values, vectors = np.linalg.eigh(between)
    inverse = (vectors[:, 1 - CLASSES :] / values[1 - CLASSES :]) @ vectors[:, 1 - CLASSES :].T
    return {
        "nc1_trace": np.trace(covariance @ inverse) / CLASSES,
        "nc1_ratio": np.trace(covariance) / np.trace(between),
        "cdnv": float(np.mean(apart)),
        "equinorm_means": norms.std(ddof=1) / norms.mean(),
    }


def measured(
    model: nn.Module, classifier: str, inputs: Any, labels: Tensor, module: str, features: str = "average"
) -> Any:
    """Every number of these probes, of a model on some examples, as a Recorder measures them."""
    network = TappedNetwork(model, classifier)
    if isinstance(inputs, dict):
        batches: Any = [
            {**{k: v[s] for k, v in inputs.items()}, "labels": labels[s]} for s in (slice(9), slice(9, None))
        ]
    else:
        batches = DataLoader(TensorDataset(inputs, labels), batch_size=7)
    data = LoadedExamples("train", batches, torch.device("cpu"), SINGLE)
    loss = lambda logits, labels, features, layer: nn.functional.cross_entropy(logits, labels)  # noqa: E731
    subject = Subject(network, loss, LoadedData({"train": data}, CLASSES), Ridge(0.0, 0.0, ""))
    analysis = LayerwiseCollapse(modules=[module], features=features)  # type: ignore[arg-type]
    return run_analysis(analysis, evaluate(subject, 1, analysis.probes), None)


def outputs_of(model: nn.Module, names: list[str], run: Any) -> dict[str, np.ndarray]:
    """What these modules put out, by hooks of the test's own."""
    found: dict[str, np.ndarray] = {}

    def keep(name: str) -> Any:
        def hook(_: nn.Module, __: Any, output: Any) -> None:
            found[name] = (output[0] if isinstance(output, tuple) else output).detach().numpy()

        return hook

    handles = [model.get_submodule(name).register_forward_hook(keep(name)) for name in names]
    with torch.no_grad():
        run()
    for handle in handles:
        handle.remove()
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_every_block_has_the_numbers_of_numpy(name: str) -> None:
    torch.manual_seed(0)
    make, first, count, layout = MODELS[name]
    model = make().double().eval()
    for parameter in model.parameters():  # heads that start at 0 too
        nn.init.normal_(parameter, 0.0, 0.2)
    side = 32 if "Swin" not in name and "ViT" not in name and "Mixer" not in name else 16
    inputs, labels = torch.randn(CLASSES * EACH, 3, side, side).double(), torch.arange(CLASSES).repeat(EACH)
    blocks = blocks_of(model)
    assert (blocks[0], len(blocks)) == (first, count)
    classifier = next(n for n, m in reversed([*model.named_modules()]) if isinstance(m, nn.Linear))
    record = measured(model, classifier, inputs, labels, "every=block")
    found = outputs_of(model, blocks, lambda: model(inputs))
    for block in blocks:
        for quantity, value in by_numpy(MEANS[layout](found[block]), labels.numpy()).items():
            assert record[f"train/layers/{block}/{quantity}"] == pytest.approx(value, rel=ROUNDING)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["average", "token_mean", "last_token"])
def test_causal_transformer_has_the_numbers_of_numpy(how: str) -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    sizes = {"n_embd": 16, "n_layer": 2, "n_head": 2, "vocab_size": 30, "n_positions": 12, "pad_token_id": 0}
    model = transformers.GPT2ForSequenceClassification(transformers.GPT2Config(**sizes, num_labels=CLASSES))
    model = model.double().eval()
    labels, count = torch.arange(CLASSES).repeat(EACH), CLASSES * EACH
    lengths = torch.arange(count) % 5 + 4
    mask = (torch.arange(9) < lengths[:, None]).long()
    tokens = torch.randint(1, 30, (count, 9)) * mask
    found = outputs_of(model, ["transformer.h.0", "transformer.h.1"], lambda: model(tokens, attention_mask=mask))
    tapped = Sequence(model)
    inputs = {"input_ids": tokens, "attention_mask": mask}
    record = measured(tapped, "last", inputs, labels, "model.transformer.h.*", how)
    for name, output in found.items():
        rows = [one[:n].mean(0) if how != "last_token" else one[n - 1] for one, n in zip(output, lengths, strict=True)]
        for quantity, value in by_numpy(np.stack(rows), labels.numpy()).items():
            assert record[f"train/layers/model.{name}/{quantity}"] == pytest.approx(value, rel=ROUNDING)


class Sequence(nn.Module):
    """A classifier of sequences by the last hidden state's mean, as the last layer of a GPT2 is given every token."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model, self.last = model, nn.Linear(16, CLASSES).double()

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        hidden = self.model.transformer(input_ids, attention_mask=attention_mask).last_hidden_state
        logits: Tensor = self.last(hidden.mean(1))
        return logits


class Odd(nn.Module):
    """Modules that put out what is not one tensor of the batch, or run more or less than once."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.twice, self.never = nn.Conv2d(3, 5, 3), nn.ReLU(), nn.Linear(2, 2)
        self.pair, self.dictionary = Function(lambda x: (x, x * 2)), Function(lambda x: {"out": x})
        self.permuted = Function(lambda x: x.permute(0, 2, 3, 1))
        self.unlike, self.block = Function(lambda x: x.flatten(0, 1)), nn.Sequential(nn.Conv2d(5, 5, 1), nn.ReLU())
        self.again = self.block
        self.attention = nn.MultiheadAttention(5, 1)
        self.last = nn.Linear(5, CLASSES)

    def forward(self, inputs: Tensor) -> Tensor:
        x = self.twice(self.twice(self.conv(inputs)))
        self.pair(x), self.permuted(x), self.unlike(x)
        x = self.dictionary(x)["out"]
        x = checkpoint(self.block, x, use_reentrant=False)
        rows = x.flatten(2).permute(2, 0, 1)
        self.attention(rows, rows, rows)
        logits: Tensor = self.last(x.mean((2, 3)))
        return logits


class Function(nn.Module):
    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, inputs: Tensor) -> Any:
        return self.function(inputs)


def checked(module: str, how: str = "average") -> list[int]:
    model, inputs = Odd().eval(), torch.randn(4, 3, 9, 8)
    probes = Probes(model, {"a": Probe(module, how)}, CLASSES)
    with probes.watching(), torch.no_grad():
        model(inputs)
        return probes.check(4)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        ("twise", r"expected names of submodules, got 'twise'\. .*Did you mean twice\?"),
        ("blocks.*", "expected names of submodules, got 'blocks"),
        ("every=block", "It has no list of blocks"),
        ("never", "expected modules that run in an evaluation, got never"),
        ("twice", "expected modules that run once in a pass, got twice, which runs 2 times"),
        ("pair", r"pair: expected one tensor of numbers, got a tuple with \(4, 5, 7, 6\), \(4, 5, 7, 6\)"),
        ("unlike", r"expected outputs of 4 examples on the first axis, got \(20, 7, 6\) of unlike"),
        ("attention", r"expected outputs of 4 examples on the first axis, got \(42, 4, 5\) of attention"),
        ("permuted", r"got \(4, 7, 6, 5\) of permuted.* Choose features=token_mean .*, spatial_mean .*, flatten"),
    ],
)
def test_modules_that_cannot_be_probed_are_refused_by_name(module: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        checked(module)


@pytest.mark.parametrize(
    ("module", "how", "width"),
    [
        ("conv", "average", 5), ("block", "average", 5), ("again", "average", 5), ("block.1", "average", 5),
        ("block.*", "average", 5), ("dictionary", "average", 5), ("permuted", "token_mean", 5),
        ("permuted", "spatial_mean", 7), ("conv", "flatten", 210),
    ],
)  # fmt: skip
def test_width_is_that_of_the_units(module: str, how: str, width: int) -> None:
    assert set(checked(module, how)) == {width}


@pytest.mark.parametrize("how", ["class_token", "token_mean", "last_token"])
def test_token_reductions_of_a_convolution_are_refused(how: str) -> None:
    with pytest.raises(ValueError, match=r"channels on axis 1\), got \w+\. Choose spatial_mean, flatten"):
        checked("conv", how)


@pytest.mark.parametrize(("module", "how"), [("0", "average"), ("0", "flatten"), ("2", "average"), ("1", "average")])
def test_features_are_those_before_a_change_in_place(module: str, how: str) -> None:
    model = nn.Sequential(nn.Linear(4, 5), nn.ReLU(inplace=True), nn.Linear(5, 5), nn.ReLU(inplace=True)).eval()
    inputs = torch.randn(6, 4)
    probes = Probes(model, {"a": Probe(module, how)}, CLASSES)
    with probes.watching(), torch.no_grad():
        for _ in range(2):  # the layout is known from the first batch on
            model(inputs)
            (found,) = probes.features(6).values()
            assert torch.equal(found, model[: int(module) + 1](inputs))


@pytest.mark.filterwarnings("ignore:Using `torch.compile")
def test_compiled_network_has_the_numbers_of_the_one_inside() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU())).eval()
    compiled, inputs, found = torch.compile(model, backend="eager"), torch.randn(6, 3, 8, 8), {}
    with torch.no_grad():
        compiled(inputs)  # its program is made before anything is hooked
        for network, place in ((model, "2"), (compiled, "_orig_mod.2")):
            probes = Probes(network, {"a": Probe(place, "average")}, CLASSES)  # type: ignore[arg-type]
            with probes.watching():
                network(inputs)
                (found[place],) = probes.features(6).values()
    assert torch.equal(found["2"], model(inputs).mean((2, 3)))
    assert torch.equal(found["2"], found["_orig_mod.2"])


def test_output_whose_axes_have_one_size_is_not_guessed() -> None:
    class Turned(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.linear = nn.Conv2d(6, 6, 1), nn.Linear(6, 6)

        def forward(self, x: Tensor) -> Tensor:
            return self.linear(self.conv(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    model = nn.Sequential(Turned())
    for shape, known in (((2, 6, 5, 4), True), ((2, 6, 6, 6), False)):
        probes = Probes(model, {"a": Probe("0", "average")}, CLASSES)
        with probes.watching(), torch.no_grad():
            model(torch.randn(shape))
            if known:
                assert probes.check(2) == [6]
            else:
                with pytest.raises(ValueError, match="expected outputs whose axes are known"):
                    probes.check(2)


def test_reductions_of_tokens_leave_padding_out() -> None:
    output = torch.randn(2, 3, 4)
    mask = torch.tensor([[1, 1, 0], [0, 1, 1]])
    assert torch.equal(REDUCTIONS["last_token"][0](output, mask), torch.stack([output[0, 1], output[1, 2]]))
    expected = torch.stack([output[0, :2].mean(0), output[1, 1:].mean(0)])
    torch.testing.assert_close(REDUCTIONS["token_mean"][0](output, mask), expected)
    assert torch.equal(REDUCTIONS["class_token"][0](output, None), output[:, 0])


def test_run_is_refused_before_training_where_memory_is_too_small(
    composed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ncexp.measure import build_analyses, check_probes, subject_of

    config = check(composed("analysis=[layers]", "analysis.layers.modules=[backbone.*]"))
    monkeypatch.setattr(module_of_probes, "free_bytes", lambda device: 10_000)
    with pytest.raises(ConfigError, match=r"analysis\.layers\.modules: .*got [\d,]+ bytes \(.*P = 16"):
        check_probes(build_analyses(config.analyses), subject_of(assemble(config)))
