"""docs/tutorial.ipynb, made of docs/tutorial.md: text, commands, files and Python, in order, with what they print.

python docs/tutorial_notebook.py          carries out the commands in a temporary folder: four minutes
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

PAGE = Path(__file__).with_name("tutorial.md")
NOTEBOOK = PAGE.with_suffix(".ipynb")
#: Of an output the first and the last lines are kept.
FIRST, LAST = 12, 24
#: A block of code: its language, then its lines.
_BLOCK = re.compile(r"^```(sh|python)\n(.*?)```\n", flags=re.DOTALL | re.MULTILINE)


def cells(text: str) -> list[tuple[str, str]]:
    """(markdown or code, source) of each cell; shell commands are %%bash cells, named files %%writefile cells."""
    found, place = [], 0
    for block in _BLOCK.finditer(text):
        found += [("markdown", text[place : block.start()].strip()), ("code", _code(*block.groups()))]
        place = block.end()
    return [(kind, source) for kind, source in [*found, ("markdown", text[place:].strip())] if source]


def _code(language: str, content: str) -> str:
    if language == "sh":
        return f"%%bash\n{content.strip()}"
    first, _, rest = content.partition("\n")
    named = re.fullmatch(r"# (\w+\.py)", first)
    return f"%%writefile {named[1]}\n{rest.strip()}" if named else content.strip()


def carry_out(source: str, names: dict[str, object]) -> str:
    """What a cell prints, as Jupyter carries it out in the folder of today; `names` are those of its Python.

    Raises CalledProcessError where a command fails.
    """
    first, _, rest = source.partition("\n")
    if first.startswith("%%writefile "):
        Path(first.split()[1]).write_text(rest + "\n")
        return f"Writing {first.split()[1]}\n"
    if first == "%%bash":
        done = subprocess.run(["bash", "-ec", rest], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        printed = done.stdout.decode()
        if done.returncode:
            raise subprocess.CalledProcessError(done.returncode, rest, printed)
        return printed
    with contextlib.redirect_stdout(io.StringIO()) as stream:
        exec(compile(source, NOTEBOOK.name, "exec"), names)
    return stream.getvalue()


def shortened(printed: str) -> list[str]:
    """Its lines, of many the first and the last, without the folder that they were printed in."""
    lines = printed.replace(f"{Path.cwd()}/", "").splitlines(keepends=True)
    return lines if len(lines) <= FIRST + LAST else [*lines[:FIRST], "...\n", *lines[-LAST:]]


def notebook(text: str, printed: list[str] | None = None) -> dict[str, Any]:
    """The notebook's content; printed: by each code cell, without it there are no outputs."""
    written: list[dict[str, Any]] = []
    outputs = iter(printed or [])
    for number, (kind, source) in enumerate(cells(text)):
        lines = source.splitlines(keepends=True)
        cell = {"cell_type": kind, "id": f"cell-{number}", "metadata": {}, "source": lines}
        if kind == "code":
            stream = [
                {"name": "stdout", "output_type": "stream", "text": shortened(one)}
                for one in [next(outputs, "")]
                if one
            ]
            cell |= {"execution_count": None, "outputs": stream}
        written.append(cell)
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return {"cells": written, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}


def main() -> None:
    """Carry out every cell in a new folder, and write the notebook."""
    text, names = PAGE.read_text(), {}
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        os.environ["PYTHONPATH"] = folder
        printed = [carry_out(source, names) for kind, source in cells(text) if kind == "code"]
        content = notebook(text, printed)
    NOTEBOOK.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
