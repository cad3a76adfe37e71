"""What tests/helpers/warm.py forks is a process like any other: a child that can be killed, and ends with a code."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import warm

pytestmark = pytest.mark.slow  # within warm.processes()

WHO = """
import json, os, subprocess, sys, threading
again = subprocess.run([sys.executable, "-c", "import os; print(os.getppid())"], capture_output=True, text=True)
print(json.dumps({
    "pid": os.getpid(), "parent": os.getppid(), "folder": os.getcwd(), "variable": os.environ.get("WARM_TEST"),
    "home": os.environ.get("HOME"), "words": sys.argv, "read": sys.stdin.read(), "main": __name__,
    "line": open("/proc/self/cmdline").read().rstrip("\\0").split("\\0")[-2:], "parent of its child": int(again.stdout),
    "torch": "torch" in sys.modules, "ncexp": "ncexp" in sys.modules, "threads": threading.active_count(),
}))
"""


def test_fork_is_a_child_with_its_own_number_folder_environment_and_files(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WHO, "a word", "another"]
    with subprocess.Popen(
        command, cwd=tmp_path, env={"WARM_TEST": "a=b"}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        printed, _ = process.communicate("given")
    who = json.loads(printed)
    assert process.returncode == 0
    assert (who["pid"], who["parent"], who["parent of its child"]) == (process.pid, os.getpid(), process.pid)
    assert (who["folder"], who["variable"], who["home"]) == (str(tmp_path), "a=b", None)
    assert (who["words"], who["line"], who["main"]) == (["-c", "a word", "another"], ["a word", "another"], "__main__")
    assert (who["read"], who["torch"], who["ncexp"], who["threads"]) == ("given", True, False, 1)


#: Its parent may ignore the interruption, as what a shell starts with & does.
INTERRUPTED = """
import os, signal
signal.signal(signal.SIGINT, signal.default_int_handler)
try:
    os.kill(os.getpid(), signal.SIGINT)
except KeyboardInterrupt:
    os._exit(7)
"""


@pytest.mark.parametrize(
    ("code", "returned", "shown"),
    [
        ("pass", 0, ""),
        ("import sys; sys.exit(3)", 3, ""),
        ("import sys; sys.exit('a reason')", 1, "a reason\n"),
        ("1 / 0", 1, "ZeroDivisionError: division by zero\n"),
        ("import os; os.kill(os.getpid(), 9)", -9, ""),
        ("import os; os.kill(os.getpid(), 15)", -15, ""),
        (INTERRUPTED, 7, ""),
        ("import atexit, sys; atexit.register(print, 'ended', file=sys.stderr)", 0, "ended\n"),
    ],
)
def test_fork_ends_as_python_ends(code: str, returned: int, shown: str) -> None:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (returned, "")
    assert done.stderr.endswith(shown)


def test_commands_of_a_shell_are_forks_too(tmp_path: Path) -> None:
    warm.commands(tmp_path / "bin")
    script = (
        "ncexp --version; ncexp statsu; echo $?; python -c 'import sys; print(sys.stdin.read())' < text; "
        "python -c 'import os; os.abort()'; echo $?"
    )
    (tmp_path / "text").write_text("piped")
    there = {**os.environ, "PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, env=there, capture_output=True, text=True, check=False)
    version, code, piped, aborted = done.stdout.splitlines()
    assert (version.split()[0], code, piped, aborted) == ("ncexp", "2", "piped", str(128 + signal.SIGABRT))
