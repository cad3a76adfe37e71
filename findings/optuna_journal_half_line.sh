#!/usr/bin/env bash
# Expected: a study in Optuna's journal file that meets a full disk raises an error there, and goes on once there is room again. The
# reader is made for it: it leaves out a last line that does not end.
# What happens (2026-11-30, Optuna 4.0, 4.9 and 5.0): the next line is appended to the half one. Both together are one line that is no
# JSON. While it is the last line it is left out as well, with the new trial in it; with one line more the file is refused by every
# later `load_study`: all trials of the study are lost to Optuna, until somebody deletes the line by hand. Here the limit of a
# file's size stands for the full disk: of a write that does not fit, either writes a part. Optuna's issue 5138 has the symptom.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "optuna==${OPTUNA:-5.0.0}"
cd "$folder"
cat >go_on.py <<'PYTHON'
import os, resource, sys, warnings
import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

warnings.simplefilter("ignore")
optuna.logging.set_verbosity(optuna.logging.ERROR)
room = int(sys.argv[1])  # bytes; 0: as many as it likes
try:
    storage = JournalStorage(JournalFileBackend("journal"))
    study = optuna.create_study(storage=storage, study_name="one", load_if_exists=True)
    if room:
        resource.setrlimit(resource.RLIMIT_FSIZE, (os.path.getsize("journal") + room, -1))
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
    print(len(study.trials), "trials")
except (OSError, ValueError) as error:
    print(type(error).__name__)
PYTHON
run() { "$folder/venv/bin/python" go_on.py "$1"; }
"$folder/venv/bin/python" -c 'import optuna; print("optuna", optuna.__version__)'
said=$(run 0; run 0; run 40; run 0; run 0)
echo "$said"
[ "$said" = "1 trials
2 trials
OSError
JSONDecodeError
JSONDecodeError" ]
