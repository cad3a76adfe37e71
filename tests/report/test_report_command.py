"""`ncexp report` as people call it: without an option, with each of them, with a wrong one."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest
from commands import report
from synthetic_sweep import write_run

from ncexp.record import State

EPOCHS = [1, 2, 5, 12, 35]
KEYS = ("optimizer.weight_decay", "batch_size", "optimizer.warmup")


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep over three keys that no preset knows, two seeds; one run diverged."""
    folder = tmp_path_factory.mktemp("stranger") / "outputs"
    for place, values in enumerate(product((5e-4, 5e-2), (32, 128), ("none", "linear"), range(2))):
        *values, seed = values
        state = State.DIVERGED if place == 3 else State.COMPLETED
        write_run(folder, seed=seed, epochs=EPOCHS, state=state, options=dict(zip(KEYS, values, strict=True)))
    return folder


def reported(outputs: Path, folder: Path, *words: str) -> set[str]:
    """The names of what is written."""
    assert report([str(outputs), "--to", str(folder), *words]) == 0
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.usefixtures("no_rendering")
def test_strangers_sweep_is_reported_without_an_option(
    outputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = reported(outputs, tmp_path)
    tables = ("settings", "differences", "troubles", "runs")
    assert files >= {f"{name}{suffix}" for name in tables for suffix in (".md", ".csv", ".tex")}
    assert files >= {f"figures/{name}.{kind}" for name in ("heat_maps", "epochs") for kind in ("png", "pdf")}
    said = capsys.readouterr().out
    assert "2 diverged" not in said
    assert "1 of 16 runs did not complete: 1 diverged" in said
    page = (tmp_path / "report.html").read_text()
    assert (
        "16 runs, 8 settings (optimizer.warmup, optimizer.weight_decay, batch_size): 15 completed, 1 diverged." in page
    )
    assert page.count("optimistic") >= 1


@pytest.mark.filterwarnings("error::UserWarning", "error::RuntimeWarning")
@pytest.mark.usefixtures("no_rendering")
def test_each_option_does_what_the_help_says(outputs: Path, tmp_path: Path) -> None:
    files = reported(outputs, tmp_path / "by", "by=batch_size", "y=test/error,train/loss", "x=batch_size")
    assert "figures/at_the_end.png" in files
    lines = (tmp_path / "by" / "settings.md").read_text().splitlines()
    assert lines[0].startswith(
        "| batch_size | optimizer.warmup (chosen) | optimizer.weight_decay (chosen) | runs | error"
    )
    assert len(lines) == 2 + 2
    files = reported(outputs, tmp_path / "pool", "by=batch_size", "best=none")
    assert (tmp_path / "pool" / "settings.md").read_text().splitlines()[2].startswith("| 32 | 7 of 8 (1 diverged) |")
    files = reported(
        outputs, tmp_path / "scatter", "scatter=train/collapse/nc1_trace,test/error", "color=optimizer.warmup"
    )
    assert {"figures/scatter.png", "correlation.csv"} <= files


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["by=batchsize"], "by: expected a key of the runs, got 'batchsize'"),
        (["by=batchsize"], "Did you mean batch_size?"),
        (["y=test/erorr"], "Did you mean test/error?"),
        (["colour=loss"], "colour: expected an option, got colour=loss"),
        (["colour=loss"], "Did you mean color?"),
        (["x=epoch", "x=lr"], "x: expected it once, got x=lr beside x=epoch"),
        (["scatter=test/error"], "scatter: expected two names, got 'test/error'"),
        (["preset=papyan"], "preset: expected one of han2022, got 'papyan'"),
        (["preset=han2022", "by=lr"], "preset: expected it without other axes, got by= beside it"),
        (["preset=han2022"], "preset=han2022: expected runs that differ in dataset"),
        (["width=wide"], "width: expected inches, got 'wide'"),
        (["width=-1"], "width: expected inches, got '-1'"),
        (["width=1.2", "y=train/loss"], "width: expected "),
        (["style=no.mplstyle", "y=train/loss"], "style: expected a file.mplstyle or a name of matplotlib's"),
        (["best=test/robustness/ratio:max"], "best: expected a quantity of the runs or none"),
    ],
)
@pytest.mark.usefixtures("no_rendering")
def test_wrong_options_are_refused_with_what_to_do(
    outputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    assert report([str(outputs), "--to", str(tmp_path), *words]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("ncexp: ")
    assert said in shown


@pytest.mark.slow
def test_width_and_style_make_figures_for_a_column(outputs: Path, tmp_path: Path) -> None:
    style = tmp_path / "paper.mplstyle"
    style.write_text("font.size: 7\nfont.family: serif\n")
    words = ("by=optimizer.weight_decay", "y=test/error", "x=optimizer.weight_decay")
    plain = reported(outputs, tmp_path / "plain", *words)
    styled = reported(outputs, tmp_path / "styled", *words, f"style={style}", "width=3.3")
    assert plain == styled
    for name in ("at_the_end", "epochs"):
        png = (tmp_path / "styled" / "figures" / f"{name}.png").read_bytes()
        assert int.from_bytes(png[16:20], "big") == round(3.3 * 130)
        assert png != (tmp_path / "plain" / "figures" / f"{name}.png").read_bytes()
        pdf = (tmp_path / "styled" / "figures" / f"{name}.pdf").read_bytes()
        assert b"DejaVuSerif" in pdf


@pytest.mark.slow
def test_same_runs_give_the_same_bytes(outputs: Path, tmp_path: Path) -> None:
    words = ("y=test/error,train/loss", "scatter=train/loss,test/error")
    first, second = (reported(outputs, tmp_path / name, *words) for name in "ab")
    assert first == second
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in first)
