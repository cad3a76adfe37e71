"""Pictures from snapshots: what axes and traces hold is computed here anew from the same statistics."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from matplotlib import pyplot
from PIL import Image
from scipy.linalg import orthogonal_procrustes
from scipy.spatial.distance import cdist
from support import snapshot_of
from synthetic_path import run_with
from synthetic_sweep import write_run

from ncexp.cli.pictures import main
from ncexp.collapse import LinearClassifier
from ncexp.measure import Ridge, Snapshot
from ncexp.record import RunDirectory, SavedRun, read_run
from ncexp.report import portraits
from ncexp.report.page_data import _simplex

Array = numpy.ndarray
CLASSES, WIDTH, EXAMPLES, EPOCHS = 5, 7, 30, (1, 4, 20)
#: Of double precision, and of what Plotly gets with four digits.
ROUNDING, FOUR_DIGITS = 1e-12, 6e-5


@pytest.fixture(autouse=True)
def _close_all() -> Iterator[None]:
    yield
    pyplot.close("all")


def snapshot(epoch: int, classes: int = CLASSES, width: int = WIDTH) -> Snapshot:
    torch.manual_seed(epoch)
    labels = torch.arange(classes).repeat(EXAMPLES)
    features = 3 * torch.randn(classes, width).double()[labels] + torch.randn(len(labels), width) * torch.rand(width)
    classifier = LinearClassifier(torch.randn(classes, width), torch.randn(classes))
    made = snapshot_of({"train": (features, labels)}, classifier, Ridge("none", 0.0, 0.0), epoch=epoch)
    first = torch.arange(3 * classes)
    made.splits["train"].examples.update(features=features[first].float(), labels=labels[first])
    return made


def run_of(folder: Path, *snapshots: Snapshot) -> SavedRun:
    directory = RunDirectory(write_run(folder))
    for one in snapshots:
        one.save(directory.snapshot(one.epoch), directory.key)
    return read_run(directory.path)


@pytest.fixture
def run(tmp_path: Path) -> SavedRun:
    return run_of(tmp_path, *map(snapshot, EPOCHS))


def expected(one: Snapshot, classes: list[int], dims: int) -> dict[str, Any]:
    """Procrustes in all P dimensions, towards the corners with zeros beside them: its first columns are the plane."""
    statistics, count = one.splits["train"].statistics, len(classes)
    means, rows = statistics.class_means.numpy()[classes], one.classifier.weight.double().numpy()[classes]
    turns = 2j * numpy.pi * numpy.arange(count) / count
    circle = numpy.exp(turns)
    corners = numpy.stack([circle.real, circle.imag, (-1.0) ** numpy.arange(count) / 2**0.5], 1)[:, :dims]
    middle = means.mean(0)
    turned, _ = orthogonal_procrustes(means - middle, numpy.pad(corners, ((0, 0), (0, WIDTH - dims))))
    size, of_rows = (numpy.sqrt((count - 1) * count / 2 / ((part - part.mean(0)) ** 2).sum()) for part in (means, rows))
    plane = turned[:, :dims]
    kept = one.splits["train"].examples
    return {
        "corners": corners,
        "means": size * (means - middle) @ plane,
        "rows": of_rows * (rows - rows.mean(0)) @ plane,
        "covariance": size**2 * plane.T @ statistics.within_class_covariance.numpy() @ plane,
        "examples": [size * (kept["features"][kept["labels"] == c].double().numpy() - middle) @ plane for c in classes],
    }


def assert_close(found: object, wanted: object, within: float = ROUNDING) -> None:
    numpy.testing.assert_allclose(numpy.asarray(found, float), numpy.asarray(wanted), rtol=0, atol=within)


def assert_on_ellipse(points: Array, mean: Array, covariance: Array, within: float) -> None:
    away = points - mean
    distances = numpy.einsum("ti,ij,tj->t", away, numpy.linalg.inv(covariance), away)
    numpy.testing.assert_allclose(distances, 4, rtol=within)


@pytest.mark.parametrize("classes", [[0, 1, 2], [4, 1, 3]])
def test_simplex_figure_draws_the_numbers_of_the_snapshot(run: SavedRun, classes: list[int]) -> None:
    figure = portraits.simplex_figure(portraits.frames_of(run, ",".join(map(str, classes))))
    for axes, epoch in zip(figure.axes, EPOCHS, strict=True):
        want = expected(snapshot(epoch), classes, 2)
        assert axes.get_title() == f"epoch {epoch}"
        assert_close(axes.lines[0].get_xydata()[:3], want["corners"])
        assert_close([line.get_xydata()[0] for line in axes.lines[2::2]], want["means"])
        assert_close([line.get_xydata() for line in axes.lines[1::2]], want["examples"])
        assert_close([arrow.xy for arrow in axes.texts], want["rows"])
        for patch, mean in zip(axes.patches, want["means"], strict=True):
            assert_on_ellipse(patch.get_xy(), mean, want["covariance"], 1e-9)


@pytest.mark.parametrize("classes", ["0,1,2", "0,1,2,3"])
def test_animation_of_the_page_has_the_same_numbers(run: SavedRun, classes: str) -> None:
    count = len(classes.split(","))
    made = _simplex(run)[count - 3]
    assert [one["label"] for one in made["layout"]["sliders"][0]["steps"]] == [str(epoch) for epoch in EPOCHS]
    for one, epoch in zip(made["frames"], EPOCHS, strict=True):
        want = expected(snapshot(epoch), [*range(count)], count - 1)
        points = [numpy.array([trace[axis] for axis in "xyz"[: count - 1]], float).T for trace in one["data"]]
        assert_close([part[0] for part in points[3::4]], want["means"], FOUR_DIGITS)
        assert_close([part[1] for part in points[2::4]], want["rows"], FOUR_DIGITS)
        assert_close(points[4::4], want["examples"], FOUR_DIGITS)
        for part, mean in zip(points[1::4], want["means"], strict=True):
            assert_on_ellipse(part[~numpy.isnan(part[:, 0])], mean, want["covariance"], 0.02)


@pytest.mark.parametrize(("count", "dims"), [(3, 2), (4, 2), (4, 3), (10, 2)])
def test_exact_simplex_is_drawn_on_its_corners(tmp_path: Path, count: int, dims: int) -> None:
    directions = torch.linalg.qr(torch.randn(12, 12, dtype=torch.float64)).Q[:count]
    labels = torch.arange(count).repeat(2)
    classifier = LinearClassifier(5 * directions, None)
    exact = snapshot_of({"train": (3 + 2 * directions[labels], labels)}, classifier, Ridge("none", 0.0, 0.0))
    (frame,) = portraits.frames_of(run_of(tmp_path, exact), "all", dims)
    assert_close(frame.means, frame.corners)
    assert_close(frame.rows, frame.corners)
    angles = numpy.full((count, count), -1 / (count - 1)) + numpy.eye(count) * count / (count - 1)
    assert_close(frame.cosines[0], angles)
    assert_close(numpy.linalg.norm(frame.corners - frame.corners[0], axis=1)[[1, -1]].std(), 0)


def test_cosines_and_spectra_are_those_of_the_snapshot(run: SavedRun) -> None:
    frames = portraits.frames_of(run)
    images = [axes.images[0].get_array() for axes in portraits.cosines_figure(frames).axes if axes.images]
    left, right = portraits.spectra_figure(frames).axes
    for place, epoch in enumerate(EPOCHS):
        means = snapshot(epoch).splits["train"].statistics.class_means.numpy()
        means, rows = means - means.mean(0), snapshot(epoch).classifier.weight.double().numpy()
        for kind, (one, other) in enumerate([(means, means), (rows, rows), (rows, means)]):
            assert_close(images[3 * kind + place], 1 - cdist(one, other, "cosine"))
        for axes, matrix in ((left, means), (right, rows)):
            drawn = [line.get_xydata()[place] for line in axes.lines]
            squares = numpy.linalg.eigvalsh(matrix @ matrix.T)[::-1][: len(drawn)]
            assert_close(drawn, [(epoch, value) for value in squares**0.5], 1e-7)
    assert (len(left.lines), len(right.lines)) == (CLASSES - 1, CLASSES)


def test_depth_figure_has_a_row_a_layer_and_a_column_an_epoch() -> None:
    names = [*(f"train/layers/backbone.{layer}/nc1_ratio" for layer in (1, 2)), "train/collapse/nc1_ratio"]
    records = [{"epoch": epoch, **{name: epoch + 0.1 * k for k, name in enumerate(names)}} for epoch in (1.0, 5.0, 9.0)]
    figure = portraits.depth_figure(run_with(records))
    assert figure is not None
    assert_close(figure.axes[0].images[0].get_array(), [[record[name] for record in records] for name in names])
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["backbone.1", "backbone.2", "features"]
    assert portraits.depth_figure(run_with([{"epoch": 1.0}])) is None


def test_command_draws_into_the_run_and_the_gif_has_every_epoch(
    run: SavedRun, capsys: pytest.CaptureFixture[str], no_rendering: None
) -> None:
    assert main([str(run.path), "classes=all", "epochs=4"]) == 0
    drawn = {path.name for path in (run.path / "figures").iterdir()}
    assert drawn == {"simplex.gif", *(f"{n}.{e}" for n in ("simplex", "cosines", "spectra") for e in ("png", "pdf"))}
    assert f"figure    {run.path / 'figures' / 'simplex.gif'}" in capsys.readouterr().out
    with Image.open(run.path / "figures" / "simplex.gif") as image:
        assert image.n_frames == len(EPOCHS)


@pytest.mark.parametrize(
    ("words", "made", "said"),
    [
        ([], [], "expected snapshots, got none"),
        ([], [(1, 2, WIDTH)], "at least three classes, got 2"),
        ([], [(1, 5, 7), (2, 5, 9)], "expected 7 numbers, as at the first epoch, got 9 at epoch 2"),
        ([], [(1, 3, 1)], "expected 2 or more numbers, got 1 at epoch 1"),
        (["classes=0,1,7"], [(1, 5, 7)], "different ones of 0 to 4, got 0,1,7"),
        (["classes=0,1"], [(1, 5, 7)], "three or more different ones of 0 to 4, got 0,1"),
        (["classes=0,1,1"], [(1, 5, 7)], "got 0,1,1"),
        (["epochs=3"], [(1, 5, 7)], "epochs: expected some of 1, got 3"),
    ],
)
def test_what_cannot_be_drawn_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], made: list[tuple[int, int, int]], said: str
) -> None:
    run = run_of(tmp_path, *(snapshot(*one) for one in made))
    assert main([str(run.path), *words]) == 1
    assert said in capsys.readouterr().err
