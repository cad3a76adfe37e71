"""The page of a report: one HTML file that needs nothing else."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment

from ncexp.report.numbers import Value
from ncexp.report.study import Study
from ncexp.report.tables import Table

#: Columns that a table shows at once; the others unfold.
AT_ONCE = 8
#: Which are shown at once beside those that say what a row is.
HEADLINES = ("test acc. at the end %", "NC1", "L_LS⊥/L %")
TITLE = "Neural collapse: what the sweep came to"
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1a1a1a; max-width: 88rem; margin: 2rem auto; padding: 0 1.2rem; }
h1 { font-size: 1.6rem; margin-bottom: .2rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
p.lead, figcaption { color: #555; } nav a { margin-right: 1.1rem; }
.scroll { overflow-x: auto; } .more { display: none; } input:checked ~ .scroll .more { display: table-cell; }
table { border-collapse: collapse; font-size: .82rem; font-variant-numeric: tabular-nums; }
th, td { padding: .28rem .5rem; border-bottom: 1px solid #e3e3e3; text-align: left; white-space: nowrap; }
td:last-child { white-space: normal; }
th { cursor: pointer; border-bottom: 2px solid #888; vertical-align: bottom; white-space: normal; }
th[data-order="1"]::after { content: " ▲"; } th[data-order="-1"]::after { content: " ▼"; }
tbody tr:hover { background: #f4f7fb; } td.number { text-align: right; } td.chosen { font-weight: 700; }
figure { margin: 1.2rem 0; } img { max-width: 100%; border: 1px solid #eee; }
"""
SCRIPT = """
for (const head of document.querySelectorAll("th")) head.onclick = () => {
  const body = head.closest("table").tBodies[0], column = head.cellIndex, order = head.dataset.order === "1" ? -1 : 1;
  for (const other of head.parentNode.cells) delete other.dataset.order;
  head.dataset.order = order;
  const words = row => row.cells[column].textContent.replace(/^\\[|^–.*/, "");
  const rows = [...body.rows].sort((a, b) => {
    const x = words(a), y = words(b), less = parseFloat(x) - parseFloat(y);
    if (x === "" || y === "") return (x === "") - (y === "");
    return order * (isNaN(less) ? x.localeCompare(y) : less);
  });
  body.append(...rows);
};
"""
PAGE = """\
<!doctype html><html lang="en"><meta charset="utf-8"><title>{{ title }}</title>
<meta name="viewport" content="width=device-width"><style>{{ style | safe }}</style>
<h1>{{ title }}</h1><p class="lead">{{ lead }}</p>
{%- for line in verdict %}<p>{{ line }}</p>{% endfor %}
<nav>{% for table in tables %}<a href="#{{ table.name }}">{{ table.title }}</a>{% endfor %}
<a href="#figures">Figures</a></nav>
{%- for table in tables %}
<h2 id="{{ table.name }}">{{ table.title }}</h2>
{%- if not table.rows %}<p>None.</p>
{%- else %}
{%- set shown = shown_at_once(table) %}
<section>
{%- if shown | length < table.columns | length %}
<input type="checkbox" id="all_of_{{ table.name }}"><label for="all_of_{{ table.name }}">all
{{ table.columns | length }} columns</label>
{%- endif %}
<div class="scroll"><table>
<thead><tr>
{%- for name in table.columns %}<th{% if loop.index0 not in shown %} class="more"{% endif %}>{{ name }}</th>
{%- endfor %}</tr></thead><tbody>
{%- for row in table.rows %}
<tr>
{%- for entry in row -%}
<td class="
{%- if entry is not string %}number{% elif entry.startswith("[") %}chosen{% endif %}
{%- if loop.index0 not in shown %} more{% endif %}">{{ entry }}</td>
{%- endfor -%}
</tr>
{%- endfor %}
</tbody></table></div></section>
{%- endif %}
{%- endfor %}
<h2 id="figures">Figures</h2>
{%- for caption, image in figures %}
<figure><img alt="{{ caption }}" src="data:image/png;base64,{{ image }}"><figcaption>{{ caption }}</figcaption></figure>
{%- endfor %}
<script>{{ script | safe }}</script></html>
"""


def render_page(
    study: Study,
    lead: str,
    verdict: Sequence[str],
    tables: Sequence[Table],
    figures: Sequence[tuple[str, Path]],
    folder: Path,
) -> str:
    """The lead, the verdict's sentences, the tables, the figures as (caption, PNG), in one HTML text."""
    images = [(caption, base64.b64encode(png.read_bytes()).decode()) for caption, png in figures]
    content = {"title": TITLE, "lead": lead, "verdict": verdict, "tables": tables, "figures": images}
    template = Environment(autoescape=True).from_string(PAGE)
    page: str = template.render(**content, style=STYLE, script=SCRIPT, shown_at_once=shown_at_once)
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
