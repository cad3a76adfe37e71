"""docs/outside.md: its commands run, shortened; its table is of the numbers that the runs recorded."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from documented import run_commands
from support import required

import ncexp
from ncexp.measure.analyses.outside import Outside
from ncexp.record.quantities_outside import OF_FEATURES, OF_LOGITS, OUTSIDE

PAGE = (Path(__file__).parents[1] / "docs" / "outside.md").read_text()
COMMANDS = re.findall(r"^ {4}(ncexp .*)$", PAGE.replace("\\\n", " "), flags=re.MULTILINE)
#: Of the run that `RUN` means.
FIRST = "digits-resnet-mse_mean_lr0.25_seed0"


def shortened(command: str) -> str:
    """Of two epochs, and a sweep of two runs; Fashion-MNIST, whose files lie where they lie, is not read."""
    words = shlex.split(command)
    if words[1] == "measure":
        return shlex.join([FIRST if word == "RUN" else word for word in words])
    if words[1] == "report":
        return shlex.join(words)
    few = ["epochs=2", "evaluate_at=[2]", "dataset.examples_per_class=20", "tracking.enabled=false"]
    swept = [re.sub(r"^(optimizer\.weight_decay|seed)=.*", r"\1=0", word) for word in words]
    swept = [word.replace("weight_decay=0", "weight_decay=0.0,1e-3") for word in swept]
    return shlex.join([*swept, *few]) if words[1] == "-m" else shlex.join([*words, *few])


@pytest.mark.slow
def test_documented_commands_run(tmp_path: Path) -> None:
    commands = [command for command in COMMANDS if "dataset=fashion_mnist" not in command]
    assert len(commands) >= 4
    required("sklearn")
    run_commands(map(shortened, commands), tmp_path)
    names = {name for run in ncexp.load(tmp_path / "outside") for record in run.records for name in record}
    assert {"test/outside/held_out/nc5", "test/outside/noise/auroc_neco"} <= names
    assert [*tmp_path.glob("report/figures/scatter.*")]


def test_scores_of_the_page_are_those_of_the_catalogue() -> None:
    printed = dict(re.findall(r"^\| `(\w+)` \| (.*?)(?: \(ViM\))? \| .* \|$", PAGE, flags=re.MULTILINE))
    scores = {score: formula for score, (_, formula, _) in (OF_LOGITS | OF_FEATURES).items()}
    assert {score: printed.get(score) for score in scores} == scores
    assert all(f"`{score}`" in PAGE for score in ("nc5", *scores))
    assert Outside.__doc__ is not None
    assert all(row.quantity.partition("_")[2] in Outside.__doc__ for row in OUTSIDE)
