"""The report of a sweep: tables and figures in a folder, and all of it as one HTML file that needs nothing else."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment
from plotly.offline import get_plotlyjs

from ncexp.record import format_counts
from ncexp.record.files import replace_text
from ncexp.report.numbers import Value
from ncexp.report.sweep import Sweep, describe_settings
from ncexp.report.tables import (
    EDGE,
    Table,
    decomposition,
    differences,
    gains,
    learning_rates,
    results,
    settings,
    troubles,
)
from ncexp.report.verdict import outcome

RULE = (
    "Of every cell the learning rate with the lowest test error at the last epoch is shown, as in the paper. That "
    "makes the test errors shown optimistic: the rate was chosen by them."
)
AT_EDGE = f"{EDGE.strip()} marks a rate that is the smallest or the largest tried: a better one may lie beyond."
SO_FAR = (
    "Where no rate is complete, the one that leads so far is shown, with its state. Tables that compare the ends of "
    "trainings leave such cells out."
)
#: Columns that a table shows at once; the others unfold.
AT_ONCE = 8
#: Which are shown at once beside those that say what a row is.
HEADLINES = ("test acc. at the end %", "NC1", "L_LS⊥/L %")
TITLE = "Neural collapse: what the sweep came to"
HERE = Path(__file__)


def write_report(sweep: Sweep, folder: Path, width: float | None = None) -> Path:
    """Every table as .md, .csv and .tex, every figure as .pdf and .png, and the page; returns the page.

    width: of the figures, see `draw_all`.
    """
    from ncexp.report.grids import draw_all  # matplotlib takes a second to import

    folder.mkdir(parents=True, exist_ok=True)
    makers = (results, differences, gains, decomposition, learning_rates, troubles)
    tables = [make(sweep) for make in ((settings, *makers) if sweep.settings else makers)]
    for table in tables:
        for suffix, text in ((".md", table.markdown()), (".csv", table.csv()), (".tex", table.latex())):
            replace_text(folder / f"{table.name}{suffix}", text)
    page = folder / "report.html"
    replace_text(page, render_page(describe(sweep), tables, draw_all(sweep, folder, width), outcome(sweep.runs)))
    return page


def render_page(
    lead: str,
    tables: Sequence[Table],
    figures: Sequence[tuple[str, Path]],
    verdict: Sequence[str] = (),
    data: Mapping[str, Any] | None = None,
) -> str:
    """The lead, the verdict's sentences, the tables, the figures as (caption, PNG), in one HTML text.

    data: of `page_data`; with it the page has a figure that one can ask, and a table and a view of every run. Words in
    it may be anybody's: `tojson` writes < > & and all that is not ASCII as escapes, and page.js sets them as text.
    """
    style, script = (HERE.with_suffix(suffix).read_text(encoding="utf-8") for suffix in (".css", ".js"))
    images = [(caption, base64.b64encode(png.read_bytes()).decode()) for caption, png in figures]
    template = Environment(autoescape=True).from_string(HERE.with_suffix(".html").read_text(encoding="utf-8"))
    page: str = template.render(
        title=TITLE,
        lead=lead,
        verdict=verdict,
        tables=tables,
        figures=images,
        data=data,
        style=style,
        script=script,
        plotly=get_plotlyjs() if data else "",
        shown_at_once=shown_at_once,
    )
    return page


def shown_at_once(table: Table) -> set[int]:
    """The places of the columns that are shown before the others are unfolded, AT_ONCE of them at most.

    First those that say what a row is, which stand before the first of numbers or of a learning rate; then `HEADLINES`
    and columns with a chosen entry; then the others in their order.
    """
    columns = [[row[place] for row in table.rows] for place in range(len(table.columns))]
    numbers = [
        place
        for place, (name, entries) in enumerate(zip(table.columns, columns, strict=True))
        if any(isinstance(one, Value) for one in entries) or re.fullmatch(r"[\d.e+-]+", name)
    ]

    def rank(place: int) -> int:
        if place < min(numbers, default=len(columns)):
            return 0
        chosen = any(isinstance(one, str) and one.startswith("[") for one in columns[place])
        return 1 if chosen or table.columns[place] in HEADLINES else 2

    return set(sorted(range(len(columns)), key=rank)[:AT_ONCE])


def describe(sweep: Sweep) -> str:
    """What the report is of, and by which rules."""
    states = format_counts(run.state for run in sweep.runs)
    cells = sweep.cells.values()
    said = [
        f"{len(sweep.runs)} runs in {len(cells)} cells: {states}.",
        describe_settings(sweep),
        RULE,
        AT_EDGE if any(cell.at_edge for cell in cells) else "",
        SO_FAR if any(cell.best_rate is None for cell in cells) else "",
    ]
    return " ".join(filter(None, said))
