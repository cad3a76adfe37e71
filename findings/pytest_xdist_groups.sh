#!/usr/bin/env bash
# Expected: with pytest-xdist's `--dist loadgroup`, tests marked xdist_group("one") run in one process, whatever file they
# stand in.
# What happens (2026-11-29): with pytest-xdist 3.8.0 and pytest 9.0.3 they do; with pytest 9.2.0 the marks are lost without a
# word, and the tests of the group run in several processes. `--dist loadfile` is not affected.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mkdir "$folder/tests"
for file in a b c d; do
    cat >"$folder/tests/test_$file.py" <<'PYTHON'
import os, time
import pytest
@pytest.mark.xdist_group("one")
@pytest.mark.parametrize("number", range(4))
def test_where(number):
    time.sleep(0.3)
    with open(os.environ["WHERE"], "a") as file:
        file.write(os.environ["PYTEST_XDIST_WORKER"] + "\n")
PYTHON
done
processes() { # pytest's version → how many processes ran the tests of the one group
    python3 -m venv "$folder/$1"
    "$folder/$1/bin/pip" install --quiet --disable-pip-version-check "pytest==$1" pytest-xdist==3.8.0
    (cd "$folder/tests" && WHERE="$folder/where_$1" "$folder/$1/bin/python" -m pytest -q -n 2 --dist loadgroup >"$folder/log_$1")
    sort -u "$folder/where_$1" | wc -l
}
old=$(processes 9.0.3) new=$(processes 9.2.0)
echo "pytest-xdist 3.8.0, one group of 16 tests in 4 files, 2 processes: pytest 9.0.3 used $old of them, pytest 9.2.0 used $new"
[ "$old" = 1 ] && [ "$new" = 2 ]
