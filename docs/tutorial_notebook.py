"""docs/tutorial.ipynb, made of docs/tutorial.md: text, commands, files and Python, in the same order.

python docs/tutorial_notebook.py
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

PAGE = Path(__file__).with_name("tutorial.md")
NOTEBOOK = PAGE.with_suffix(".ipynb")
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


def notebook(text: str) -> dict[str, Any]:
    """The notebook's content, without outputs."""
    written = []
    for number, (kind, source) in enumerate(cells(text)):
        code = {"execution_count": None, "outputs": []} if kind == "code" else {}
        lines = source.splitlines(keepends=True)
        written.append({"cell_type": kind, "id": f"cell-{number}", "metadata": {}, "source": lines, **code})
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return {"cells": written, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}


if __name__ == "__main__":
    NOTEBOOK.write_text(json.dumps(notebook(PAGE.read_text()), indent=1, ensure_ascii=False) + "\n")
