"""Pictures from snapshots: what axes and traces hold is computed here anew from the same statistics."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from drawn_figures import assert_texts_are_whole
from matplotlib import colormaps, pyplot
from matplotlib.colors import to_hex
from pictured import CLASSES, WIDTH, run_of, snapshot
from PIL import Image
from scipy.linalg import orthogonal_procrustes
from scipy.spatial.distance import cdist
from support import Compose, snapshot_of, trained
from synthetic_path import run_with

from ncexp.cli.pictures import main
from ncexp.collapse import LinearClassifier
from ncexp.measure import Ridge, Snapshot
from ncexp.record import Record, RunDirectory, SavedRun, read_run
from ncexp.report import frames as shown
from ncexp.report import portraits
from ncexp.report.page_pictures import pictures_of

Array = numpy.ndarray
EPOCHS = (1, 4, 20)
#: Of double precision, and of what Plotly gets with four significant digits, or three, of numbers up to ten.
ROUNDING, FOUR_DIGITS, THREE_DIGITS = 1e-12, 6e-4, 6e-3


@pytest.fixture(autouse=True)
def _close_all() -> Iterator[None]:
    yield
    pyplot.close("all")


def layered(split: str, *modules: str, last: str = "", log: bool = True) -> list[Record]:
    """A number of these layers, and of the last layer's features, at three epochs."""
    quantity = "nc1_ratio" if log else "nearest_class_center_error"
    names = [
        *(f"{split}/layers/{module}/{quantity}" for module in modules),
        *([f"{split}/{last}/{quantity}"] if last else []),
    ]
    return [{"epoch": epoch, **{name: epoch + 0.1 * k for k, name in enumerate(names)}} for epoch in (1.0, 5.0, 9.0)]


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
    figure = portraits.simplex_figure(run, shown.frames_of(run, (classes, 2)))
    for axes, epoch in zip(figure.axes, EPOCHS, strict=True):
        want = expected(snapshot(epoch), classes, 2)
        assert axes.get_title() == f"epoch {epoch}"
        assert_close(axes.lines[0].get_xydata()[:3], want["corners"])
        assert_close([line.get_xydata()[0] for line in axes.lines[2::2]], want["means"])
        assert_close([line.get_xydata() for line in axes.lines[1::2]], want["examples"])
        assert_close([arrow.xy for arrow in axes.texts], want["rows"])
        for patch, mean in zip(axes.patches, want["means"], strict=True):
            assert_on_ellipse(patch.get_xy(), mean, want["covariance"], 1e-9)


@pytest.mark.parametrize("place", [0, 1])
def test_animation_of_the_page_has_the_same_numbers(run: SavedRun, place: int) -> None:
    count, dims, made = 3 + place, 2 + place, pictures_of(run)[place]
    assert made["title"] == f"Simplex of classes 0 to {count - 1}"
    assert [one["label"] for one in made["layout"]["sliders"][0]["steps"]] == [str(epoch) for epoch in EPOCHS]
    assert [one | moved for one, moved in zip(made["data"], made["frames"][-1]["data"], strict=True)] == made["data"]
    for one, epoch in zip(made["frames"], EPOCHS, strict=True):
        want = expected(snapshot(epoch), [*range(count)], dims)
        points = [numpy.array([trace[axis] for axis in "xyz"[:dims]], float).T for trace in one["data"]]
        assert_close([part[0] for part in points[3::4]], want["means"], FOUR_DIGITS)
        assert_close([part[1] for part in points[2::4]], want["rows"], FOUR_DIGITS)
        assert_close(points[4::4], want["examples"], FOUR_DIGITS)
        for part, mean in zip(points[1::4], want["means"], strict=True):
            assert_on_ellipse(part[~numpy.isnan(part[:, 0])], mean, want["covariance"], 0.02)


def test_animation_of_examples_that_were_kept_at_the_end_alone(tmp_path: Path) -> None:
    first, last = snapshot(1), snapshot(4)
    first.splits["train"].examples.clear()
    for made in pictures_of(run_of(tmp_path, first, last))[:2]:
        dots = [place for place, one in enumerate(made["data"]) if one["name"].startswith("examples")]
        assert dots == [*range(4, len(made["data"]), 4)]
        for frame, count in zip(made["frames"], (0, 3), strict=True):
            assert len(frame["data"]) == len(made["data"])
            assert [len(frame["data"][place]["x"]) for place in dots] == [count] * len(dots)


@pytest.mark.parametrize(("count", "dims"), [(3, 2), (4, 2), (4, 3), (10, 2)])
def test_exact_simplex_is_drawn_on_its_corners(tmp_path: Path, count: int, dims: int) -> None:
    directions = torch.linalg.qr(torch.randn(12, 12, dtype=torch.float64)).Q[:count]
    labels = torch.arange(count).repeat(2)
    classifier = LinearClassifier(5 * directions, None)
    exact = snapshot_of({"train": (3 + 2 * directions[labels], labels)}, classifier, Ridge("none", 0.0, 0.0))
    (frame,) = shown.frames_of(run_of(tmp_path, exact), ([*range(count)], dims))
    (plane,) = frame.planes
    assert_close(plane.means, plane.corners)
    assert_close(plane.rows, plane.corners)
    angles = numpy.full((count, count), -1 / (count - 1)) + numpy.eye(count) * count / (count - 1)
    assert_close(frame.cosines[0], angles)
    assert_close(numpy.linalg.norm(plane.corners - plane.corners[0], axis=1)[[1, -1]].std(), 0)


def test_cosines_and_spectra_are_those_of_the_snapshot(run: SavedRun) -> None:
    frames = shown.frames_of(run)
    images = [axes.images[0].get_array() for axes in portraits.cosines_figure(run, frames).axes if axes.images]
    left, right = portraits.spectra_figure(run, frames).axes
    *_, on_page, spectra = pictures_of(run)
    for place, epoch in enumerate(EPOCHS):
        means = snapshot(epoch).splits["train"].statistics.class_means.numpy()
        means, rows = means - means.mean(0), snapshot(epoch).classifier.weight.double().numpy()
        for kind, (one, other) in enumerate([(means, means), (rows, rows), (rows, means)]):
            wanted = 1 - cdist(one, other, "cosine")
            assert_close(images[3 * kind + place], wanted)
            assert_close(on_page["frames"][place]["data"][kind]["z"], wanted, THREE_DIGITS)
        for axes, matrix in ((left, means), (right, rows)):
            drawn = [line.get_xydata()[place] for line in axes.lines if len(line.get_xdata()) == len(EPOCHS)]
            squares = numpy.linalg.eigvalsh(matrix @ matrix.T)[::-1][: len(drawn)]
            assert_close(drawn, [(epoch, value) for value in squares**0.5], 1e-7)
            lines = [one for one in spectra["data"] if one["xaxis"] == ("x" if axes is left else "x2")]
            assert_close([one["y"][place] for one in lines], squares**0.5, THREE_DIGITS)
    assert [sum(one["xaxis"] == axis for one in spectra["data"]) for axis in ("x", "x2")] == [CLASSES - 1, CLASSES]


def test_white_of_cosines_is_the_angle_of_the_simplex(run: SavedRun) -> None:
    norm = portraits.norm_of(run)
    assert [norm(one) for one in (-1, -1 / (CLASSES - 1), 1)] == [0, 0.5, 1]
    assert portraits.norm_of(replace(run, facts=run.facts | {"num_classes": 2}))(0) == 0.5
    scale = pictures_of(run)[2]["layout"]["coloraxis"]["colorscale"]
    at, colour = min(scale, key=lambda one: abs(2 * one[0] - 1 + 1 / (CLASSES - 1)))
    assert colour == to_hex(colormaps["RdBu"](norm(2 * at - 1)))


@pytest.mark.parametrize("log", [True, False])
@pytest.mark.parametrize(("split", "last"), [("train", "collapse"), ("test", "decisions")])
def test_depth_figure_has_a_row_a_layer_and_a_column_an_epoch(split: str, last: str, log: bool) -> None:
    records = layered(split, "backbone.1", "backbone.2", last=last, log=log)
    run = run_with([{"epoch": 0.0}, *records])
    wanted = [[record[name] for record in records] for name in [*records[0]][1:]]
    axes = portraits.depth_figure(run, shown.depth_maps(run)).axes[0]
    assert_close(axes.images[0].get_array(), wanted)
    assert [text.get_text() for text in axes.get_yticklabels()] == ["backbone.1", "backbone.2", "last features"]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["1", "5", "9"]
    (on_page,) = (one for one in pictures_of(run) if one["title"] == "Layers by epoch")
    (heat,) = on_page["data"]
    said = [[float(word.removesuffix(" %")) for word in row] for row in heat["text"]]
    assert_close(said, numpy.array(wanted) * (1 if log else 100), THREE_DIGITS)
    assert_close(heat["z"], numpy.log10(wanted) if log else wanted, THREE_DIGITS)
    assert (heat["x"], heat["y"]) == (["1", "5", "9"], ["backbone.1", "backbone.2", "last features"])
    assert shown.depth_maps(run_with([{"epoch": 1.0}])) == []


def test_long_names_of_layers_lose_what_all_begin_with() -> None:
    layers = [*(f"model.encoder.layers.{k}.mlp" for k in (1, 10)), shown.LAST]
    assert portraits.shortened(layers) == ["….1.mlp", "….10.mlp", shown.LAST]
    assert portraits.shortened(["layer1", "layer2"]) == ["layer1", "layer2"]


def test_names_of_layers_are_no_markup() -> None:
    run = run_with([{"epoch": 1.0, "train/layers/<b>$x$/a<b>$_$": 1.0}])
    (picture,) = pictures_of(run)
    assert picture["data"][0]["y"] == ["&lt;b&gt;$x$"]
    assert picture["layout"]["updatemenus"][0]["buttons"][0]["label"] == "a&lt;b&gt;$_$, train"
    figure = portraits.depth_figure(run, shown.depth_maps(run))
    figure.draw_without_rendering()
    assert not any(text.get_parse_math() for text in [figure.axes[0].title, *figure.axes[0].get_yticklabels()])


def test_rounding_does_not_look_like_structure() -> None:
    name = "test/layers/{}/nearest_class_center_error"
    run = run_with([{"epoch": k, name.format("one"): 1e-16 * k, name.format("two"): 0.0} for k in (1.0, 2.0, 3.0)])
    image = portraits.depth_figure(run, shown.depth_maps(run)).axes[0].images[0]
    assert numpy.ptp(image.norm(image.get_array())) < 0.01
    (heat,) = pictures_of(run)[0]["data"]
    assert heat["zmax"] - heat["zmin"] == pytest.approx(1)


@pytest.mark.parametrize(("most", "pages"), [(portraits.MOST_PAGES, len(EPOCHS)), (2, 2)])
def test_command_draws_into_the_run_and_the_gif_has_every_epoch(
    run: SavedRun,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    no_rendering: None,
    most: int,
    pages: int,
) -> None:
    monkeypatch.setattr(portraits, "MOST_PAGES", most)
    assert main([str(run.path), "classes=all", "epochs=4"]) == 0
    drawn = {path.name for path in (run.path / "figures").iterdir()}
    assert drawn == {"simplex.gif", *(f"{n}.{e}" for n in ("simplex", "cosines", "spectra") for e in ("png", "pdf"))}
    assert f"figure    {run.path / 'figures' / 'simplex.gif'}" in capsys.readouterr().out
    with Image.open(run.path / "figures" / "simplex.gif") as image:
        assert image.n_frames == pages


@pytest.mark.parametrize(
    ("words", "sizes", "said", "drawn"),
    [
        ([], None, "snapshots: expected some, got none", set()),
        ([], (2, WIDTH), "three or more classes and two or more features, got 2 and 7", {"cosines", "spectra"}),
        ([], (3, 1), "got 3 and 1", {"cosines", "spectra"}),
        (["classes=all"], (2, WIDTH), "got 2 and 7", set()),
        (["classes=0,1,7"], (5, 7), "different ones of 0 to 4, got 0,1,7", set()),
        (["classes=0,1"], (5, 7), "three or more different ones of 0 to 4, got 0,1", set()),
        (["classes=0,1,1"], (5, 7), "got 0,1,1", set()),
        (["epochs=3"], (5, 7), "epochs: expected some of 1, got 3", set()),
    ],
)
def test_what_cannot_be_drawn_is_said_and_the_rest_drawn(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    no_rendering: None,
    words: list[str],
    sizes: tuple[int, int] | None,
    said: str,
    drawn: set[str],
) -> None:
    made = [] if sizes is None else [snapshot(1, *sizes)]
    classes, width = sizes or (CLASSES, WIDTH)
    run = run_of(tmp_path, *made, classes=classes, width=width)
    assert main([str(run.path), *words]) == 1
    assert said in capsys.readouterr().err
    assert {path.stem for path in run.path.glob("figures/*")} == drawn
    assert len(pictures_of(run)) == (0 if sizes is None else 2 if drawn else 2 + (classes > 2) * 2)


def test_layers_are_drawn_where_no_snapshot_was_kept(tmp_path: Path, no_rendering: None) -> None:
    run = replace(run_of(tmp_path, classes=2), records=layered("train", "one", "two"))
    drawn, lacking = portraits.draw_pictures(run, tmp_path / "figures")
    assert [path.name for path in drawn] == ["depth.png"]
    assert lacking == ["snapshots: expected some, got none. Train with keep.snapshots=evaluated."]


def test_damaged_snapshot_is_named(run: SavedRun, tmp_path: Path) -> None:
    place = RunDirectory(run.path).snapshot(EPOCHS[1])
    place.write_bytes(place.read_bytes()[:-1])
    drawn, (why,) = portraits.draw_pictures(run, tmp_path / "figures")
    assert drawn == []
    assert str(place) in why


@pytest.mark.slow
@pytest.mark.parametrize(("classes", "epochs", "layers"), [(3, 1, 2), (10, 2, 30), (101, 4, 80)])
def test_no_text_of_a_picture_is_cut(tmp_path: Path, classes: int, epochs: int, layers: int) -> None:
    run = run_of(tmp_path, *(snapshot(4**k, classes) for k in range(epochs)), classes=classes)
    names = [f"model.encoder.with_a_long.name.{k}.output" for k in range(layers)]
    run = replace(run, records=layered("train", *names, last="collapse"))
    frames = shown.frames_of(run, ([*range(classes)], 2))
    for figure in (
        portraits.simplex_figure(run, frames),
        portraits.cosines_figure(run, frames),
        portraits.spectra_figure(run, frames),
        portraits.depth_figure(run, shown.depth_maps(run)),
    ):
        assert_texts_are_whole(figure)


@pytest.mark.slow
def test_pictures_of_a_training_are_its_journals_numbers(composed: Compose) -> None:
    analyses = "analysis=[collapse,layers,spectra]"
    directory = trained(composed(analyses, "analysis.layers.modules=[backbone.*]"))
    run, frames = read_run(directory.path), shown.frames_of(read_run(directory.path))
    assert [frame.epoch for frame in frames] == [record["epoch"] for record in run.records]
    for frame, record in zip(frames, run.records, strict=True):
        for cosines, name in zip(frame.cosines, ("means", "classifier"), strict=False):
            beside = cosines[~numpy.eye(len(cosines), dtype=bool)]
            assert beside.std() == pytest.approx(record[f"train/collapse/equiangularity_{name}"], rel=1e-6)
    for place, (_, epochs, values) in enumerate(shown.spectra_of(run, frames)):
        name = ("means", "weight", "within")[place]
        assert epochs == [record["epoch"] for record in run.records]
        wanted = [[record[f"train/spectra/{name}_{j + 1}"] for record in run.records] for j in range(len(values))]
        numpy.testing.assert_allclose(values, wanted, rtol=1e-6, atol=1e-12)
    assert place == 2
    for one in shown.depth_maps(run):
        assert one.values.shape == (len(one.layers), len(run.records))
    assert {one.split for one in shown.depth_maps(run)} == {"train", "test"}
