"""How a command's process ends: with its code, with all that was printed, after whatever libraries do at the end."""

from __future__ import annotations

import subprocess
import sys

import pytest

#: A command that has imported torch, or something of its name; `{end}` is how it ends.
COMMAND = """
import atexit, ctypes, sys, types
import ncexp.__main__ as program
class Torn:
    def __del__(self):
        print("taken down")
def main():
    sys.modules["torch"] = types.ModuleType("torch")
    sys.modules["torch"].torn = Torn()
    atexit.register(print, "a library's end")
    ctypes.CDLL(None).puts(b"of C")
    print("of Python")
    {end}
program.main = main
sys.exit(program.command())
"""


@pytest.mark.parametrize("end", ["return 3", "return 0", "raise ValueError('of ours')", "sys.exit(5)"])
def test_command_ends_with_its_code_and_all_its_output(end: str) -> None:
    done = subprocess.run([sys.executable, "-c", COMMAND.format(end=end)], capture_output=True, text=True, check=False)
    returns = end.startswith("return")
    assert done.returncode == (int(end[-1]) if returns else 1 if "raise" in end else 5)
    said = {"of C", "of Python", "a library's end"} | (set() if returns else {"taken down"})
    assert {*done.stdout.splitlines()} == said
    assert ("ValueError: of ours" in done.stderr) == ("raise" in end)


def test_command_whose_reader_is_gone_ends_as_pythons_do() -> None:
    """Python's own code for output that it could not write."""
    code = COMMAND.format(end="import os; os.close(1); os.open('/dev/full', os.O_WRONLY); return 0")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 120, done.stderr
