#!/usr/bin/env bash
# Draws the pictures of README.md, docs/pictures.md (but its page) and docs/tutorial.md anew: bash docs/figures/pictures.sh    (six minutes, and chromium)
set -euo pipefail
figures=$(cd "$(dirname "$0")" && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

ncexp outputs=main tracking.enabled=false \
  "analysis=[collapse,decisions,decomposition,central_path,layers,depth,spectra,portrait]" \
  "analysis.layers.modules=[backbone.*]" "analysis.depth.modules=[backbone.*]"
for name in neural_collapse mse_decomposition; do
  cp main/*/figures/$name.png "$figures/main_$name.png"
done
ncexp pictures main
cp main/*/figures/{simplex.png,simplex.gif,cosines.png,spectra.png,depth.png} "$figures"
ncexp pictures main classes=all epochs=1,24,121,350
cp main/*/figures/simplex.png "$figures/simplex_all.png"

# Section 3 of the tutorial; the run of its section 1 is among the eight.
ncexp -m architecture=mlp optimizer=sgd optimizer.lr=0.03,0.06,0.12,0.24 loss=mse_mean,cross_entropy epochs=100
ncexp report preset=han2022
ncexp pictures --missing outputs
for name in neural_collapse mse_decomposition; do
  cp outputs/digits-mlp-mse_mean_lr0.12_*/figures/$name.png "$figures/tutorial_$name.png"
done
cp report/figures/distance_to_the_central_path.png "$figures/tutorial_path.png"
chromium --headless --no-sandbox --disable-gpu --hide-scrollbars --user-data-dir="$folder/profile" \
  --window-size=1280,900 --screenshot="$figures/tutorial_report.png" "file://$folder/report/report.html"
