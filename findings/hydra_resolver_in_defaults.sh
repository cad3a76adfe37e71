#!/usr/bin/env bash
# Expected: in Hydra's defaults list `${...}` is replaced by the choice of another group, as its documentation says, and by nothing
# else: a function that was registered with OmegaConf is refused there, or is a choice of that name.
# What happens (2026-11-29): the function is called, with the choices of the other groups, those of the command line included, and
# its result is the choice. So a default may follow from several others by a rule, where files optimizer@DATA_MODEL_LOSS for each
# combination, with `optional`, would be the documented way. An override of the group itself goes before it, in a multirun too.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check hydra-core==1.3.2 omegaconf==2.3.0
cd "$folder"
mkdir -p conf/data conf/model conf/optimizer
for name in digits cifar; do echo "name: $name" >"conf/data/$name.yaml"; done
for name in small large; do echo "name: $name" >"conf/model/$name.yaml"; done
for name in sgd adam; do echo "name: $name" >"conf/optimizer/$name.yaml"; done
cat >conf/config.yaml <<'YAML'
defaults:
  - _self_
  - data: digits
  - model: small
  - optimizer: ${either:${data} ${model},digits small,sgd,adam}
YAML
cat >app.py <<'PYTHON'
import hydra, omegaconf
omegaconf.OmegaConf.register_new_resolver("either", lambda one, other, same, otherwise: same if one == other else otherwise)

@hydra.main(config_path="conf", config_name="config", version_base="1.3")
def main(config):
    print(config.data.name, config.model.name, config.optimizer.name)

main()
PYTHON
run() { "$folder/venv/bin/python" app.py hydra.run.dir=. hydra.output_subdir=null hydra/job_logging=none hydra/hydra_logging=none "$@"; }
"$folder/venv/bin/python" -c 'import hydra, omegaconf; print("hydra-core", hydra.__version__, "omegaconf", omegaconf.__version__)'
said=$(run; run model=large; run data=cifar optimizer=sgd; run model=small,large hydra.sweep.dir=. -m)
echo "$said"
[ "$said" = "digits small sgd
digits large adam
cifar small sgd
digits small sgd
digits large adam" ]
