#!/usr/bin/env bash
# Expected: Hugging Face's save_pretrained, which Trainer's checkpoints are written by, saves a model's weights under the names of
# its state_dict(), so that `model.load_state_dict(load_file("checkpoint-N/model.safetensors"))` gives them back.
# What happens (2026-11-29): of many architectures (here a ViT) the file has the names that the model had in earlier releases:
# vit.encoder.layer.0.attention.attention.query.weight for the model's own vit.layers.0.attention.q_proj.weight, 16 of 24. Only
# from_pretrained turns them back; from_pretrained(None, config=..., state_dict=...) does so without a folder.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 transformers==5.24.0
cat >"$folder/names.py" <<'PYTHON'
import sys
import torch, transformers
from safetensors.torch import load_file
sizes = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
config = transformers.ViTConfig(**sizes, image_size=8, patch_size=4, num_channels=1, num_labels=10)
model = transformers.ViTForImageClassification(config)
model.save_pretrained(sys.argv[1])
own, saved = model.state_dict(), load_file(f"{sys.argv[1]}/model.safetensors")
other = sorted(saved.keys() - own.keys())
back = transformers.ViTForImageClassification.from_pretrained(None, config=config, state_dict=saved).state_dict()
whole = back.keys() == own.keys() and all(torch.equal(back[name], own[name]) for name in own)
print(f"transformers {transformers.__version__}: {len(other)} of {len(saved)} saved under other names, as {other[-1]}")
print(f"from_pretrained with these as state_dict gives all back: {whole}")
raise SystemExit(0 if other and whole else 1)
PYTHON
"$folder/venv/bin/python" "$folder/names.py" "$folder/saved"
