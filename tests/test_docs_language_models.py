"""docs/language_models.md, from top to bottom: its files are written, its commands run, its numbers are NumPy's."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_language_model as tiny
import torch
from documented import run_commands
from torch.utils.data import DataLoader

from ncexp.record import load

TEXT = (Path(__file__).parents[1] / "docs" / "language_models.md").read_text()
FILES = dict(re.findall(r"```python\n# (\w+\.py)\n(.*?)```", TEXT, flags=re.DOTALL))
COMMANDS = [
    command
    for block in re.findall(r"```sh\n(.*?)```", TEXT, flags=re.DOTALL)
    for command in re.split(r"(?<!\\)\n", block.strip())
]
#: Sums of the same float32 features in float64, in another order.
TOLERANCE = 1e-9
#: Of W_LS at λ = 0: LayerNorm makes one direction constant, but for the rounding of float32, and ncexp leaves that
#: rounding out where NumPy fits it.
OF_LEAST_SQUARES = 1e-5
LEAST = 5


@pytest.mark.slow
def test_documented_commands_run_and_find_what_numpy_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("transformers")
    assert list(FILES) == ["my_lm.py", "train.py", "record.py"]
    for name, code in FILES.items():
        (tmp_path / name).write_text(code)
    run_commands(
        [f"{command} tracking.enabled=false" * ("ncexp" in command) or command for command in COMMANDS], tmp_path
    )
    runs = {run.name: run for run in load(tmp_path / "outputs")}
    measured = next(run for name, run in runs.items() if name.endswith("_checkpoints"))
    assert [record["epoch"] for record in measured.records] == [1, 5, 15, 40]
    assert "mine" in runs
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "my_lm", raising=False)
    import my_lm

    for record in measured.records[::3]:
        model = type(my_lm.make()).from_pretrained(tmp_path / "ckpts" / f"checkpoint-{record['epoch']}").eval()
        _compare(record, model, my_lm.data())


def _compare(record: dict[str, Any], model: Any, data: Any) -> None:
    parts = {split: _positions(model, rows) for split, rows in zip(("train", "test"), data, strict=True)}
    counts = [np.bincount(labels, minlength=1024) for _, _, labels in parts.values()]
    classes = np.flatnonzero((counts[0] >= LEAST) & (counts[1] >= LEAST))
    assert record["train/classes/measured"] == len(classes)
    weight = model.lm_head.weight.detach().double().numpy()[classes]
    _, features, labels = parts["train"]
    means = np.stack([features[labels == c].mean(0) for c in classes])
    for split, (logits, features, labels) in parts.items():
        assert record[f"{split}/error"] == pytest.approx((logits.argmax(1) != labels).mean(), rel=TOLERANCE)
        shares = tiny.softmax(logits)[np.arange(len(labels)), labels]
        assert record[f"{split}/loss"] == pytest.approx(-np.log(shares).mean(), rel=1e-5)  # float32 logits
        chosen = np.isin(labels, classes)
        numbers = tiny.measured(features[chosen], np.searchsorted(classes, labels[chosen]), weight, means)
        for name, value in numbers.items():
            if split == "train" or not name.endswith("_classifier"):
                allowed = OF_LEAST_SQUARES if name.startswith("mse/loss_") else TOLERANCE
                assert record[f"{split}/{name}"] == pytest.approx(value, rel=allowed), name


def _positions(model: Any, rows: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of all positions with a next token that has a class; in batches of 8, as float32 products depend on them."""
    taken: list[torch.Tensor] = []
    handle = model.lm_head.register_forward_pre_hook(lambda layer, given: taken.append(given[0]))
    logits, labels = [], []
    with torch.no_grad():
        for batch in DataLoader(rows, 8):
            answer = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
            logits.append(answer[:, :-1].flatten(0, 1))
            labels.append(batch["labels"][:, 1:].flatten())
    handle.remove()
    features = torch.cat([one[:, :-1].flatten(0, 1) for one in taken])
    every = torch.cat(labels)
    keep = every != -100
    return (*(one[keep].double().numpy() for one in (torch.cat(logits), features)), every[keep].numpy())
