"""docs/fashion_mnist.md: what it prints of the cell with three seeds is what the reference of these seeds holds."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from rich.console import Console
from support import Compose

from ncexp.main import run
from ncexp.report.reference import read_reference

PAGE = (Path(__file__).parents[1] / "docs" / "fashion_mnist.md").read_text()
LAST = "45"
#: Heading of a column → first cell of a row → quantity, and what the row multiplies it by.
ROWS = {
    "VGG-11, MSE": {
        "test error %": ("test/error", 100),
        "NC1, first epoch → zero error → end": ("train/collapse/nc1_trace", 1),
        "NC2 equinorm, means": ("train/collapse/equinorm_means", 1),
        "NC2 equinorm, classifier": ("train/collapse/equinorm_classifier", 1),
        "ETF error, means": ("train/collapse/etf_error_means", 1),
        "ETF error, classifier": ("train/collapse/etf_error_classifier", 1),
        "NC3 self-duality": ("train/collapse/self_duality", 1),
        "NC4 mismatch %": ("train/collapse/nearest_class_center_mismatch", 100),
    },
    "VGG-11": {
        "L": ("train/mse/loss", 1),
        "L_NC1": ("train/mse/loss_nc1", 1),
        "of it data": ("train/mse/loss_nc1_data", 1),
        "L_NC2/3": ("train/mse/loss_nc23", 1),
        "L_LS⊥": ("train/mse/loss_ls_perp", 1),
        "angle to W_LS, degrees": ("train/path/prediction_angle", 1),
        "distance to W_LS": ("train/path/classifier_distance", 1),
        "ω₁/ω_last": ("train/path/snr_ratio", 1),
    },
}
#: The page has the mean of the seeds, the reference of many quantities the mean of their logarithms.
MEANS_DIFFER_BY = 0.02


def entries(row: str) -> list[str]:
    return [entry.strip() for entry in row.strip("|").split("|")]


@pytest.mark.parametrize("name", ROWS)
def test_numbers_at_the_end_are_those_of_the_reference(name: str) -> None:
    head = re.search(rf"^\| \| {name} \|.*$", PAGE, flags=re.MULTILINE)
    assert head is not None
    lines = PAGE[head.end() :].partition("\n\n")[0].splitlines()[2:]
    printed = {quantity: end for quantity, end, *_ in map(entries, lines)}
    bands = read_reference("fashion_mnist_vgg_mse_mean")["bands"]
    for heading, (quantity, scale) in ROWS[name].items():
        end = printed[heading].split(" → ")[-1]
        half_a_digit = 0.5 * 10.0 ** -len(end.partition(".")[2])
        mean = scale * bands[quantity][LAST][1]
        assert float(end) == pytest.approx(mean, rel=MEANS_DIFFER_BY, abs=half_a_digit), heading


@pytest.mark.usefixtures("no_figures")
def test_example_prints_a_share_of_every_run(
    composed: Compose, console: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    run(composed("epochs=1", "tracking.enabled=false"), console)
    capsys.readouterr()
    monkeypatch.chdir(tmp_path)
    block = re.search(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    assert block is not None
    exec(compile(block[1], "docs/fashion_mnist.md", "exec"), {})
    (line,) = capsys.readouterr().out.splitlines()
    assert 0 < float(line.split()[-1]) < 1
