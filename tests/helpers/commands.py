"""The commands as people type them, in this process: ``report([FOLDER, "--to", FOLDER])`` → exit code."""

from __future__ import annotations

from functools import partial

from ncexp.cli import main


def _call(word: str, arguments: list[str]) -> int:
    return main([word, *arguments])


cancel, compare, export, logs, reference, report, status, sync, ui = (
    partial(_call, word)
    for word in ("cancel", "compare", "export", "logs", "reference", "report", "status", "sync", "ui")
)
