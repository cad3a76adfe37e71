"""The page of a report: one HTML file that needs nothing else."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment
from plotly.offline import get_plotlyjs

from ncexp.report.numbers import Value
from ncexp.report.study import Study
from ncexp.report.tables import Table

#: Columns that a table shows at once; the others unfold.
AT_ONCE = 8
#: Which are shown at once beside those that say what a row is.
HEADLINES = ("test acc. at the end %", "NC1", "L_LS⊥/L %")
TITLE = "Neural collapse: what the {} came to"
#: Template, style and script lie beside this file.
HERE = Path(__file__)


def render_page(
    study: Study,
    lead: str,
    verdict: Sequence[str],
    tables: Sequence[Table],
    figures: Sequence[tuple[str, Path]],
    folder: Path,
) -> str:
    """The lead, the verdict's sentences, the tables, the figures as (caption, PNG), in one HTML text.

    study: what the script's figure, table and views of runs ask; folder: that the page lies in. Words may be anybody's:
    the template escapes them; in the script's data `tojson` writes < > & and all that is not ASCII as escapes, and
    page.js sets them as text.
    """
    from ncexp.report.page_data import page_data  # matplotlib, whose colours it has, takes a second to import

    html, style, script = (HERE.with_suffix(kind).read_text(encoding="utf-8") for kind in (".html", ".css", ".js"))
    page: str = (
        Environment(autoescape=True, trim_blocks=True)
        .from_string(html)
        .render(
            title=TITLE.format("run" if len(study.runs) == 1 else "sweep"),
            lead=lead,
            verdict=verdict,
            tables=[(table, shown_at_once(table)) for table in tables],
            figures=[(caption, base64.b64encode(png.read_bytes()).decode()) for caption, png in figures],
            data=page_data(study, folder),
            plotly=get_plotlyjs(),
            style=style,
            script=script,
        )
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
