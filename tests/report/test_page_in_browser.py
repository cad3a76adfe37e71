"""The page in a real browser, Debian's chromium: what is chosen is drawn, and the numbers are the runs' own."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy
import pytest
from pictured import run_of, snapshot
from PIL import Image
from synthetic_sweep import write_run, write_status

from ncexp.record import SavedRun, State, column, read_run
from ncexp.report.curves import band_of
from ncexp.report.page import render_page
from ncexp.report.page_pictures import pictures_of
from ncexp.report.study import Asked, study_of
from ncexp.report.tables import troubles

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.cold,
    pytest.mark.skipif(CHROMIUM is None and "CI" not in os.environ, reason="chromium is not installed"),
]
FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)
#: What is waited for takes a second; on a busy machine a minute.
PATIENCE_MS = 300_000
NC1 = "train/collapse/nc1_trace"
STRANGE = '</script><b>bold</b> "quoted" $x$'
#: Coordinates of the traces of a picture of a run, as they are drawn.
DRAWN = "panel => panel._fullData.filter(one => one.visible === true).map(({x, y, z}) => [...z ?? x])"
#: Where a point of the figure is on the screen.
PLACE = """([trace, point]) => {
  const figure = document.getElementById("figure"), {xaxis, yaxis} = figure._fullLayout, {x, y} = figure.data[trace];
  const {left, top} = figure.getBoundingClientRect();
  return [left + xaxis._offset + xaxis.d2p(x[point]), top + yaxis._offset + yaxis.d2p(y[point])];
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS.split())
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two losses × two rates × two seeds; one more that diverged before it was evaluated, with a strange message."""
    folder = tmp_path_factory.mktemp("page")
    for loss in ("mse", "cross_entropy"):
        for rate in (0.005, 0.02):
            for seed in range(2):
                path = write_run(folder, loss=loss, rate=rate, seed=seed, epochs=[1, 3, 9, 27, 81])
                if seed:
                    path.rename(path.with_name(f"<i>&amp;{path.name}"))
    bad = write_run(folder, rate=9.0, state=State.DIVERGED)
    for journal in [bad / "training.jsonl", *bad.glob("measurements/*.jsonl")]:
        journal.write_text("")
    write_status(bad, State.DIVERGED, message=STRANGE)
    bad.rename(bad.with_name(f"<i>{bad.name}"))
    return folder


@pytest.fixture(scope="module")
def runs(folder: Path) -> list[SavedRun]:
    return [read_run(path.parent) for path in sorted(folder.glob("*/config.yaml"))]


Open = Callable[..., "Page"]


@pytest.fixture
def opened(browser: Browser, runs: list[SavedRun], tmp_path: Path) -> Iterator[Open]:
    """Opens the page of these runs; at the end there was no complaint, and nothing was asked of anybody."""
    contexts, complaints, requests = [], [], []

    def open_page(
        *chosen: SavedRun, asked: Asked | None = None, hash: str = "", width: int = 1280, **options: Any
    ) -> Page:
        Image.new("RGB", (8, 8)).save(tmp_path / "figure.png")
        study = study_of(chosen or runs, asked)
        figures = [("a figure", tmp_path / "figure.png")]
        page = render_page(study, "lead", ["verdict"], [troubles(study.runs)], figures, tmp_path)
        (tmp_path / "report.html").write_text(page)
        context = browser.new_context(viewport={"width": width, "height": 900}, **options)
        context.set_default_timeout(PATIENCE_MS)
        contexts.append(context)
        tab = context.new_page()
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        tab.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        tab.on("request", lambda request: requests.append(request.url))
        tab.goto(f"{(tmp_path / 'report.html').as_uri()}{hash}")
        return tab

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []
    assert {url.partition("#")[0] for url in requests} <= {(tmp_path / "report.html").as_uri()}


def _choose(page: Page, **chosen: str) -> None:
    for name, value in chosen.items():
        page.select_option(f"select[name={name}]", value)


def _figure(page: Page) -> Any:
    """Traces and layout, as Plotly drew them."""
    return page.evaluate(
        "(({data, _fullLayout: {xaxis, yaxis}}) => [data, [xaxis.type, yaxis.type]])(document.getElementById('figure'))"
    )


def _hover(page: Page, trace: int, point: int) -> str:
    page.locator("#figure").scroll_into_view_if_needed()
    page.mouse.move(0, 0)
    page.mouse.move(*page.evaluate(PLACE, [trace, point]), steps=3)
    text: str = page.locator(".hoverlayer .hovertext").first.text_content() or ""
    return text


def _percent(value: float) -> str:
    return f"{float(f'{100 * value:.4g}'):g} %"


def test_curves_are_the_runs_mean_and_band(opened: Open, runs: list[SavedRun]) -> None:
    page = opened(asked=Asked(x="epoch", y=("test/error",), facet=(), color="loss"))
    assert _figure(page)[1] == ["linear", "linear"]
    _choose(page, quantity="collapse/nc1_trace", split="train")
    assert "variability within classes" in page.inner_text("#meaning")
    traces, axes = _figure(page)
    assert axes == ["linear", "log"]  # as the catalogue says
    page.uncheck("input[name=logy]")
    page.check("input[name=logx]")
    assert _figure(page)[1] == ["log", "linear"]
    for log, drawn in ((True, traces), (False, _figure(page)[0])):
        lines = [one for one in drawn if len(one.get("meta", [])) == 2 and one["line"].get("dash") != "dot"]
        assert len(lines) == 4  # a setting each
        for line in lines:
            seeds = [runs[place] for place in line["meta"]]
            assert len({(run.cell, run.rate) for run in seeds}) == 1
            band = band_of(
                [tuple(numpy.array(column(run.records, name)) for name in ("epoch", NC1)) for run in seeds], log
            )
            numpy.testing.assert_array_equal(line["x"], band.positions)
            numpy.testing.assert_allclose(line["y"], band.mean, rtol=1e-5)
            (outline,) = (
                one
                for one in drawn
                if one.get("fill")
                and one["fillcolor"].startswith(line["line"]["color"])
                and numpy.isclose(one["y"][0], band.high[0], rtol=1e-5)
            )
            there = [value for value in outline["y"] if value is not None]
            numpy.testing.assert_allclose(there, [*band.high, *band.low[::-1]], rtol=1e-5)
            (zero,) = (one for one in drawn if one.get("meta") == line["meta"] and one["line"].get("dash") == "dot")
            assert zero["x"][0] == pytest.approx(numpy.mean([run.zero_error_epoch for run in seeds]))


def test_hover_says_the_runs_own_number(opened: Open, runs: list[SavedRun]) -> None:
    page = opened(asked=Asked(scatter=(NC1, "test/error")))
    traces, _ = _figure(page)
    for trace, one in enumerate(traces):
        said = _hover(page, trace, 0)  # the seeds' points are near each other
        (run,) = (runs[place] for place in one["customdata"] if said.startswith(runs[place].name))
        assert f"loss = {run.cell[2]}" in said
        assert f"error, test {_percent(run.records[-1]['test/error'])}" in said
        assert f"NC1 {float(f'{run.records[-1][NC1]:.4g}'):g}" in said.replace("e-0", "e-")


def test_legend_hides_a_group_and_a_point_opens_its_run(opened: Open, runs: list[SavedRun]) -> None:
    page = opened(asked=Asked(scatter=("train/error", "test/error"), color="loss"))
    page.locator(".legendtoggle").first.click()
    page.wait_for_function("document.getElementById('figure')._fullData.some(one => one.visible === 'legendonly')")
    shown = page.evaluate(
        "document.getElementById('figure')._fullData.filter(one => one.visible === true).map(one => one.legendgroup)"
    )
    assert len(set(shown)) == 1
    trace = next(place for place, one in enumerate(_figure(page)[0]) if one["legendgroup"] == shown[0])
    said = _hover(page, trace, 0)
    page.mouse.click(*page.evaluate(PLACE, [trace, 0]))
    page.wait_for_function("!document.getElementById('one').hidden")
    (run,) = (run for run in runs if run.name == page.inner_text("#one h1"))
    assert said.startswith(run.name)
    assert page.url.endswith(f"#run={run.key}")
    page.go_back()
    page.wait_for_function("document.getElementById('one').hidden")
    assert page.locator("#figure .legend").is_visible()


def test_run_is_opened_by_its_address(opened: Open, runs: list[SavedRun]) -> None:
    run = runs[-1]
    page = opened(hash=f"#run={run.key}")
    assert not page.locator("#all").is_visible()
    page.wait_for_function("document.querySelector('.panel').data")  # the panels in sight
    said = page.inner_text("#one dl")
    assert f"from epoch {run.zero_error_epoch} on" in said
    assert "ncexp dataset=digits" in said
    drawn = page.evaluate("[...document.querySelectorAll('.panel')].filter(one => one.data).map(one => one.data)")
    errors = {one["name"]: one["y"] for one in drawn[0]}
    numpy.testing.assert_allclose(errors["test"], column(run.records, "test/error"), rtol=1e-6)
    page.click("text=all of the report")
    page.wait_for_function("document.getElementById('figure').data")
    assert page.locator("#all").is_visible()


def test_table_sorts_and_filters_and_shows_what_diverged(opened: Open, runs: list[SavedRun]) -> None:
    page = opened()
    rows = page.locator("#table_of_runs tbody tr:visible")
    assert rows.count() == len(runs)
    page.fill("#filter", "seed1 cross_entropy")
    assert page.inner_text("#count") == f"2 of {len(runs)} runs"
    page.fill("#filter", "diverged")
    assert STRANGE in rows.inner_text()
    assert rows.locator("b, i, script").count() == 0
    page.click("#everything")
    page.click("#table_of_runs th:has-text('error, test') button")
    place = page.locator("#table_of_runs th").all_inner_texts().index("error, test ▲".removesuffix(" ▲"))
    cells = [row.locator("td").nth(place).inner_text() for row in rows.all()]
    finals = sorted(run.records[-1]["test/error"] for run in runs if run.records)
    assert cells == [*map(_percent, finals), "–"]
    page.click("#table_of_runs a >> nth=0")
    page.wait_for_function("!document.getElementById('one').hidden")


def test_brush_of_parallel_coordinates_filters_the_table(opened: Open, runs: list[SavedRun]) -> None:
    page = opened()
    dimensions = page.evaluate("document.getElementById('parallel_plot').data[0].dimensions")
    (place,) = (place for place, one in enumerate(dimensions) if one["label"] == "error, test")
    finals = sorted(run.records[-1]["test/error"] for run in runs if run.records)
    brush = [finals[0] - 1e-6, finals[2] + 1e-6]
    page.evaluate(
        "([name, brush]) => Plotly.restyle('parallel_plot', {[name]: [brush]})",
        [f"dimensions[{place}].constraintrange", brush],
    )
    page.wait_for_function("document.getElementById('count').textContent.startsWith('3 of')")
    page.click("#everything")
    assert page.inner_text("#count") == f"{len(runs)} of {len(runs)} runs"


def test_heat_map_and_key_show_means_of_runs(opened: Open, runs: list[SavedRun]) -> None:
    page = opened(asked=Asked(x="lr", y=("loss", "test/error")))
    (heat, states), _ = _figure(page)
    _choose(page, second="")
    series = [one for one in _figure(page)[0] if one["mode"] == "lines+markers"]
    for row, loss in enumerate(heat["y"]):
        for field, rate in enumerate(heat["x"]):
            found = [
                run.records[-1]["test/error"]
                for run in runs
                if run.cell[2] == loss and run.rate == float(rate) and run.records
            ]
            if found:
                assert heat["z"][row][field] == pytest.approx(numpy.mean(found), rel=1e-6)
                (line,) = (one for one in series if loss in one["legendgroup"])
                point = line["x"].index(float(rate))
                assert line["y"][point] == pytest.approx(numpy.mean(found), rel=1e-6)
                error = numpy.std(found, ddof=1) / numpy.sqrt(len(found))
                assert line["error_y"]["array"][point] == pytest.approx(error, abs=1e-8)
    assert sorted(states["text"])[-1] == "diverged"


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_page_fits_the_screen_in_light_and_dark(opened: Open, runs: list[SavedRun], width: int, scheme: str) -> None:
    page = opened(width=width, color_scheme=scheme)
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    words = page.evaluate("document.getElementById('figure')._fullLayout.font.color")
    bright = [sum(map(int, re.findall(r"\d+", ground)[:3])), sum(bytes.fromhex(words[1:]))]
    assert bright == sorted(bright, reverse=scheme == "light")
    for _ in range(2):
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.goto(f"{page.url.partition('#')[0]}#run={runs[-1].key}")
    assert (
        page.evaluate("[...document.querySelectorAll('select, input')].filter(one => !one.labels.length).length") == 0
    )


def test_pictures_of_a_run_move_with_the_slider_and_the_menu(opened: Open, tmp_path: Path) -> None:
    names = [f"train/layers/one/{name}" for name in ("nc1_ratio", "cdnv")]
    records = [{"epoch": epoch, **dict.fromkeys(names, epoch)} for epoch in (1.0, 4.0)]
    run = replace(run_of(tmp_path, snapshot(1), snapshot(4)), records=records)
    page, pictures = opened(run), pictures_of(run)
    panels = page.locator(".pictures .panel")
    assert panels.count() == len(pictures) == 5
    for place, picture in enumerate(pictures):
        panel = panels.nth(place)
        panel.scroll_into_view_if_needed()
        panel.locator(".main-svg").first.wait_for()
        assert picture["title"] in (panel.text_content() or "")
        if "frames" not in picture:
            continue
        for end, frame in ((2, picture["frames"][0]), (-2, picture["frames"][1])):
            box = panel.locator(".slider-rail-touch-rect").bounding_box()
            assert box is not None
            page.mouse.click(box["x"] + (end if end > 0 else box["width"] + end), box["y"] + box["height"] / 2)
            panel.locator(f".slider-label:has-text('epoch {frame['name']}')").wait_for()
            for drawn, wanted in zip(panel.evaluate(DRAWN), frame["data"], strict=True):
                assert drawn == wanted.get("z", wanted.get("x"))
    assert "NC1" in (panels.nth(4).text_content() or "")
    panels.nth(4).locator(".updatemenu-header").click()
    panels.nth(4).locator(".updatemenu-dropdown-button").nth(1).click()
    assert panels.nth(4).evaluate("panel => panel.data.map(one => one.visible)") == [False, True]


def test_page_without_javascript_has_tables_and_pictures(opened: Open) -> None:
    page = opened(java_script_enabled=False)
    assert page.locator("#troubles td:has-text('diverged')").is_visible()
    assert page.locator("img[alt='a figure']").is_visible()
    assert not page.locator("#explore").is_visible()
    assert page.locator("noscript p").is_visible()


def test_gaps_are_said_in_words(opened: Open, runs: list[SavedRun]) -> None:
    (bad,) = (run for run in runs if run.state is State.DIVERGED)
    good = [run for run in runs if run.records]
    page = opened(bad, replace(good[0], records=[], training=[], state=State.FAILED))
    assert page.locator("#nothing").is_visible()
    assert page.inner_text("#count") == "2 of 2 runs"
    page = opened(good[0])
    assert page.inner_text("#one h1") == good[0].name  # a page of one run opens with it
    page.click("text=all of the report")
    _choose(page, against="epoch", quantity="zero_error_epoch")
    assert "is not in this file" in page.inner_text("#figure")
    _choose(page, quantity="error", split="train", against="train/loss")
    page.check("input[name=logy]")
    assert len(_figure(page)[0]) == 1
    page = opened(hash="#run=none")
    assert page.inner_text("#note") == "This report has no run of key none."
