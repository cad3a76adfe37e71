#!/usr/bin/env bash
# Expected: torchmetrics' CalibrationError(n_bins=15, norm="l1") is the expected calibration error of Guo et al. 2017, which its
# documentation describes: 15 bins ((b - 1)/15, b/15], a confidence of 1 in the last.
# What happens (2026-11-30): bins are closed below, [(b - 1)/15, b/15), so that a confidence of exactly 1 falls out of the last one
# into a sixteenth of its own. Of two examples of confidence 0.99 that are right and two of confidence 1 that are wrong, one
# bin has the error |0.5 - 0.995| = 0.495; torchmetrics says 0.505. A network at the end of training has many confidences that
# float32 rounds to 1. Besides, logits that all lie between 0 and 1 are taken for probabilities.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 torchmetrics==1.9.0
cat >"$folder/bins.py" <<'PYTHON'
import torch, torchmetrics
from torchmetrics.functional.classification import multiclass_calibration_error
confidences, labels = torch.tensor([0.99, 0.99, 1.0, 1.0]), torch.tensor([0, 0, 1, 1])
theirs = float(multiclass_calibration_error(torch.stack([confidences, 1 - confidences], 1), labels, num_classes=2, n_bins=15))
by_count = abs(0.5 - 0.995)
logits = torch.tensor([[0.9, 0.1], [0.9, 0.1]])
as_logits = float(multiclass_calibration_error(logits, torch.tensor([0, 1]), num_classes=2, n_bins=15))
softmax = abs(0.5 - float(torch.softmax(logits, 1)[0, 0]))
print(f"torchmetrics {torchmetrics.__version__}: {theirs:.3f}, counted with confidence 1 in the last bin: {by_count:.3f}")
print(f"logits 0.9 and 0.1: {as_logits:.3f}, of their softmax: {softmax:.3f}")
raise SystemExit(0 if abs(theirs - 0.505) < 1e-6 and abs(as_logits - softmax) > 0.1 else 1)
PYTHON
"$folder/venv/bin/python" "$folder/bins.py"
