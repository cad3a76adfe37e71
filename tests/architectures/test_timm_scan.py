"""timm's families: a network is taken where its logits stay W h + b of its last linear layer whatever is trained."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ncexp.architectures import ForeignNetwork

#: A small model of each family that is quick enough; with more than one head those from crossvit to repvit.
FAMILIES = [
    "test_vit", "test_byobnet", "test_maxvit", "convit_tiny", "test_convnext", "cpubone_nano", "cs3darknet_s", "csatv2",
    "cspnext_tiny", "davit_tiny", "deit_tiny_patch16_224", "test_nfnet", "ese_vovnet19b_dw", "test_resnet",
    "edgenext_small", "test_efficientnet", "efficientvit_b0", "efficientvit_m0", "eva02_tiny_patch14_224",
    "fasternet_t0", "fastvit_s12", "lcnet_050", "ghostnet_050", "hardcorenas_a", "inception_next_atto", "test_mambaout",
    "mobilevit_xxs", "pvt_v2_b0", "resnetv2_18", "skresnet18", "starnet_s050",
    "crossvit_tiny_240", "efficientformerv2_s0", "efficientvim_m1", "levit_192", "repvit_m1_0",
]  # fmt: skip
#: One of each other family: minutes, by hand (NCEXP_TIMM=all), before a release or with a new timm.
OTHERS = [
    "beit_base_patch16_224", "halonet26t", "caformer_s18", "cait_xxs24_224", "coat_tiny",
    "convmixer_1024_20_ks9_p14", "deepseek_vit_412m", "densenet264d", "dla102", "dpn107", "efficientformer_l1",
    "focalnet_tiny_lrf", "gcvit_tiny", "gemma4_vit_167m", "gmlp_s16_224", "hgnet_tiny", "hiera_tiny_224",
    "sam2_hiera_tiny", "hrnet_w18_small", "iformer_s", "inception_resnet_v2", "inception_v3", "inception_v4",
    "lcnetv2_small", "legacy_seresnet18", "legacy_xception", "lowformer_b0", "mobilenetv5_base", "mvitv2_tiny",
    "naflexvit_base_patch16_siglip", "nasnetalarge", "nest_tiny", "nextvit_small", "pit_xs_224", "pnasnet5large",
    "qwen3_vit_88m", "rdnet_tiny", "regnetv_040", "repghostnet_050", "res2net101d", "resnest101e", "rexnet_100",
    "samvit_base_patch16", "selecsls42", "sequencer2d_s", "shvit_s1", "swiftformer_xs", "swin_s3_tiny_224",
    "swinv2_tiny_window8_256", "swinv2_cr_tiny_224", "test_vit_relpos", "tiny_vit_5m_224", "tnt_s_patch16_224",
    "tresnet_l", "twins_svt_small", "vgg13", "visformer_tiny", "vit_tiny_r_s16_p8_224", "vitamin_small_224",
    "volo_d1_224", "xception41", "xcit_nano_12_p8_224",
]  # fmt: skip
#: Those that end in a convolution or in several heads.
REFUSED = {
    "resnetv2_18", "crossvit_tiny_240", "efficientformerv2_s0", "efficientvim_m1", "levit_192", "repvit_m1_0",
}  # fmt: skip
CLASSES = 10
#: Of the families of every day that take images of any size.
SIDE = 96
#: float32 sums of up to 2048 terms against float64, relative to the largest logit; another head is away by more than ½.
TOLERANCE = 1e-5


class Scaled(nn.Module):
    """A learned factor behind a model, at 1 at the start."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.factor = model, nn.Parameter(torch.ones(()))

    def forward(self, inputs: Tensor) -> Tensor:
        return self.factor * self.model(inputs)


def with_zero_heads(name: str) -> tuple[nn.Module, tuple[int, int, int]]:
    """The model and the shape of its inputs."""
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=CLASSES)
    for layer in model.modules():
        if isinstance(layer, nn.Linear) and layer.out_features == CLASSES:
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
    settings = model.pretrained_cfg
    side = settings["input_size"][1]
    return model, (3, *[side if name in OTHERS or settings.get("fixed_input_size") else min(side, SIDE)] * 2)


def stays_linear(model: nn.Module, shape: tuple[int, ...]) -> bool:
    """Whether the logits are W h + b of the linear layer called last after each parameter has changed."""
    called: list[tuple[nn.Linear, Tensor]] = []
    for layer in model.modules():
        if isinstance(layer, nn.Linear):
            layer.register_forward_pre_hook(lambda layer, given: called.append((layer, given[0].clone())))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * (parameter.abs().mean() + 0.1) * torch.randn_like(parameter))
        logits = model.eval()(torch.randn(2, *shape)).double().numpy()
    layer, features = called[-1] if called else (nn.Linear(1, 1), torch.zeros(1, 1))
    if layer.out_features != CLASSES or features.dim() != 2:
        return False
    weight, bias = (part.detach().double().numpy() for part in (layer.weight, layer.bias))
    expected = features.double().numpy() @ weight.T + bias
    return bool(np.abs(logits - expected).max() <= TOLERANCE * np.abs(expected).max())


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES + (OTHERS if os.environ.get("NCEXP_TIMM") == "all" else []))
@pytest.mark.filterwarnings("ignore")
def test_timm_model_with_zero_heads_is_taken_where_it_stays_linear(name: str) -> None:
    model, shape = with_zero_heads(name)
    try:
        ForeignNetwork(model, name, shape, CLASSES)
        taken = True
    except ValueError:
        taken = False
    else:
        with pytest.raises(ValueError, match="the logits depend on factor beside its last linear layer, model"):
            ForeignNetwork(Scaled(model), name, shape, CLASSES)
    assert name in OTHERS or taken is (name not in REFUSED)
    assert taken is stays_linear(model, shape)
