#!/usr/bin/env bash
# Expected: `import pyarrow` (which `import pandas` does where it is installed) starts no thread; Arrow's memory comes from
# another allocator when ARROW_DEFAULT_MEMORY_POOL says so. A process that has only imported libraries can then be forked
# safely: it has one thread.
# What happens (2026-11-29): the allocator that Arrow bundles starts a background thread while the library is loaded, whatever
# pool is chosen. The process has two threads from then on, and Python 3.12 warns of each fork. The allocator's own variable,
# JE_ARROW_MALLOC_CONF, turns the thread off.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pyarrow==25.0.1
cat >"$folder/threads.py" <<'PYTHON'
import os
before = len(os.listdir("/proc/self/task"))
import pyarrow
names = sorted(open(f"/proc/self/task/{task}/comm").read().strip() for task in os.listdir("/proc/self/task"))
print(f"pyarrow {pyarrow.__version__}: {before} thread before the import, {len(names)} after it: {', '.join(names)}")
raise SystemExit(0 if len(names) == int(os.environ["EXPECTED"]) else 1)
PYTHON
python="$folder/venv/bin/python"
EXPECTED=2 "$python" "$folder/threads.py"
EXPECTED=2 ARROW_DEFAULT_MEMORY_POOL=system "$python" "$folder/threads.py"
EXPECTED=1 JE_ARROW_MALLOC_CONF=background_thread:false "$python" "$folder/threads.py"
