#!/usr/bin/env bash
# Draws the figures of docs/central_path.md anew: bash docs/figures/central_path.sh    (ten minutes on two free cores)
set -euo pipefail
figures=$(cd "$(dirname "$0")" && pwd)
outputs=$(mktemp -d)
trap 'rm -rf "$outputs"' EXIT

# draw <name in docs/figures> <figure of the run> <what to run ...>
draw() {
  local name=$1 figure=$2
  shift 2
  ncexp "$@" outputs="$outputs/$name" tracking.enabled=false
  cp "$(find "$outputs/$name" -path "*/figures/$figure")" "$figures/$name.png"
}

draw central_path_simulated path_portrait.png simulate
draw central_path_unconstrained path_portrait.png experiment=unconstrained_features
draw central_path_digits_mse central_path.png optimizer=sgd
draw central_path_digits_ce central_path.png optimizer=sgd loss=cross_entropy

python "$figures/../../benchmarks/full_collapse.py" --figure "$figures/full_collapse.png"
python "$figures/../../benchmarks/regimes.py" "$outputs/regimes" # FashionMNIST from $NCEXP_DATA
ncexp report "$outputs/regimes" preset=han2022 --to "$outputs/report"
cp "$outputs/report/figures/regimes.png" "$figures/regimes.png"
