#!/usr/bin/env bash
# Expected: the false positive rate at 95 % true positives is the first point of scikit-learn's roc_curve with tpr >= 0.95, as
# benchmarks of out-of-distribution detection compute it: fpr[tpr >= 0.95][0].
# What happens (2026-11-30): by default roc_curve leaves out the points that lie on a straight line (drop_intermediate=True). Where
# scores are tied between both sides, as rounded scores are, the first point that is left may be far to the right: of the
# scores 0 to 19 on either side it keeps one point and both ends, and the rate reads 1.00 where 0.95 is right. AUROC is not
# concerned. With drop_intermediate=False the point is there.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check scikit-learn==1.9.1
cat >"$folder/rate.py" <<'PYTHON'
import numpy as np, sklearn
from sklearn.metrics import roc_curve
scores = np.arange(20.0)
truth, both = np.r_[np.ones(20), np.zeros(20)], np.r_[scores, scores]
by_count = min((scores >= threshold).mean() for threshold in scores if (scores >= threshold).mean() >= 0.95)
found = []
for drop in (True, False):
    fpr, tpr, _ = roc_curve(truth, both, drop_intermediate=drop)
    found.append(fpr[tpr >= 0.95][0])
    print(f"scikit-learn {sklearn.__version__}, drop_intermediate={drop}: {len(fpr)} points, FPR at 95 % TPR {found[-1]:.2f}")
print(f"counted: {by_count:.2f}")
raise SystemExit(0 if found == [1.0, 0.95] and by_count == 0.95 else 1)
PYTHON
"$folder/venv/bin/python" "$folder/rate.py"
