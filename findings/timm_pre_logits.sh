#!/usr/bin/env bash
# Expected: for every classifier of timm, get_classifier() applied to forward_head(forward_features(x), pre_logits=True) gives the logits
# model(x): what comes out with pre_logits=True are the inputs of the last layer, as codes that measure features of timm's models take it.
# What happens (2026-11-30): for most families it does. For efficientvit_m0, shvit_s1 and volo_d1_224 the classifier is one
# nn.Linear, all shapes fit, nothing is raised, and its logits are off by a fifth to a half of the largest: in the first two a batch norm
# stands between the features and the linear layer, within the head; VOLO adds the logits of an auxiliary head. A forward pre-hook on
# the linear layer gives the features of the first two; VOLO's logits are of no single layer.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 torchvision==0.29.1 timm==1.0.31
cat >"$folder/logits.py" <<'PYTHON'
import timm, torch

def apart(one, other):
    return float((one - other).abs().max() / other.abs().max())

fits = True
for name, side, silent, hooked_fits in (
    ("test_vit", 160, False, True), ("resnet18", 64, False, True), ("efficientvit_m0", 224, True, True),
    ("shvit_s1", 224, True, True), ("volo_d1_224", 224, True, False),
):
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=10)
    images = torch.randn(8, 3, side, side)
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, 0.0, 0.02)
        model.train()
        model(images)  # batch norms meet some data
        model.eval()
        layer, seen = model.get_classifier(), []
        logits = model(images)
        by_head = layer(model.forward_head(model.forward_features(images), pre_logits=True))
        handle = layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        model(images)
        handle.remove()
        hooked = layer(seen[-1])
    head, hook = apart(by_head, logits), apart(hooked.reshape(logits.shape), logits)
    print(f"timm {timm.__version__} {name}: {type(layer).__name__}, pre_logits {head:.1e} off, by a hook {hook:.1e} off")
    fits &= (head > 0.01) == silent and (hook < 1e-4) == hooked_fits
raise SystemExit(0 if fits else 1)
PYTHON
"$folder/venv/bin/python" "$folder/logits.py"
