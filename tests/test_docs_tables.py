"""Letter recognition and Shuttle in docs/beyond_balanced.md: every number of their sections is the summary's."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy
import pytest
from rich.console import Console
from support import compose, trained

from ncexp.record import read_run

DOCS = Path(__file__).parents[1] / "docs"
PAGE, SUMMARY = (DOCS / "beyond_balanced.md").read_text(), (DOCS / "summaries" / "tables.json").read_text()
CONTENT = json.loads(SUMMARY)


def script() -> Any:
    spec = importlib.util.spec_from_file_location("tables_full", DOCS / "tables_full.py")
    assert spec is not None
    assert spec.loader is not None
    sys.modules["tables_full"] = module = importlib.util.module_from_spec(spec)  # a dataclass looks its module up
    spec.loader.exec_module(module)
    return module


TABLES = script()


def values(dataset: str, loss: str, row: str, decay: float = 5e-5, free: bool = False) -> numpy.ndarray:
    """Seeds × epochs, read from the summary's lines without the script."""
    place = 7 + CONTENT["rows"].index(row)
    lines = [line for line in CONTENT["epochs"] if line[:4] == [dataset, loss, decay, free]]
    seeds = sorted({line[4] for line in lines})
    return numpy.array([[line[place] for line in lines if line[4] == seed] for seed in seeds], float)


def section(dataset: str) -> str:
    heading = {"letter": "Letter recognition", "shuttle": "Shuttle"}[dataset]
    found = re.search(rf"^## {heading}.*?(?=^## |\Z)", PAGE, flags=re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[0]


def test_tables_of_the_page_are_those_of_the_summary() -> None:
    assert TABLES.page_of(PAGE, SUMMARY) == PAGE


@pytest.mark.parametrize("dataset", ["letter", "shuttle"])
def test_table_has_mean_and_deviation_of_three_seeds(dataset: str) -> None:
    for row, unit in (("NC1", ""), ("classifier, distance to the simplex", ""), ("minority angle, classifier", "°")):
        ends = [values(dataset, loss, row)[:, (0, -1)] for loss in ("cross_entropy", "mse")]
        assert all(of_loss.shape == (3, 2) for of_loss in ends)
        cells = [
            " → ".join(f"{mean:.3g} ± {s:.2g}{unit}" for mean, s in zip(one.mean(0), one.std(0, ddof=1), strict=True))
            for one in ends
        ]
        assert f"| {row} | {cells[0]} | {cells[1]} |" in section(dataset)


@pytest.mark.parametrize("dataset", ["letter", "shuttle"])
def test_every_number_of_the_prose_stands_in_the_tables(dataset: str) -> None:
    """Of what is no command and no table: numbers with a point, and degrees."""
    lines = section(dataset).splitlines()
    table = {number for line in lines if line.startswith("|") for number in re.findall(r"\d[\d.e-]*", line)}
    prose = " ".join(line for line in lines if not line.startswith(("|", "    ", "#", "!", "<!--")))
    said = re.findall(r"(?<![\w./])\d+\.\d+|\d+(?=°)", re.sub(r"`[^`]*`|\([^()]*\.(?:md|png)\)", "", prose))
    assert said
    assert [number for number in said if number not in table] == []


@pytest.mark.slow
@pytest.mark.usefixtures("no_figures")
def test_summary_has_the_numbers_of_the_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, console: Console) -> None:
    random = numpy.random.default_rng(0)
    rows = [
        f"{x:.4f},{y:.4f},{kind}"
        for kind, count in (("a", 30), ("b", 8), ("c", 5))
        for x, y in random.normal(size=(count, 2))
    ]
    (tmp_path / "shuttle.csv").write_text("\n".join(["x,y,Class", *rows]))
    monkeypatch.chdir(tmp_path)
    chosen = [
        "experiment=tables/shuttle",
        "epochs=2",
        "batch_size=17",
        "evaluate_at=[1]",
        "architecture.hidden=[8,4]",
        "seed=1",
    ]
    free = "optimizer.decay_of={classifier.bias:0.0}"
    runs = [
        read_run(trained(compose("config", [*chosen, *more, "device=cpu", "tracking.enabled=false", "outputs=o"])).path)
        for more in (["loss=mse"], ["loss=cross_entropy", free])
    ]
    found, sizes = TABLES.read_summary(TABLES.summary_of(tmp_path / "o"))
    assert sizes == {"shuttle": {"train": {"a": 24, "b": 6, "c": 4}, "test": {"a": 6, "b": 2, "c": 1}}}
    assert [(one.loss, one.free_bias, one.seed, [*one.records]) for one in found] == [
        ("cross_entropy", True, 1, [1, 2]), ("mse", False, 1, [1, 2])
    ]  # fmt: skip
    for one, run in zip(found, reversed(runs), strict=True):
        for record in run.records:
            rows = {row: name.replace("{last}", "3") for row, name in TABLES.ROWS.items()}
            of_loss = {row: record[name] for row, name in rows.items() if one.loss == "mse" or "/mse/" not in name}
            written = one.records[int(record["epoch"])]
            assert {row: written[row] for row in rows if row in written} == pytest.approx(of_loss, rel=1e-4)
