"""The report as one HTML file that needs nothing else: figures inside, tables that sort where one clicks."""

from __future__ import annotations

import base64
import html
import math
from pathlib import Path

from ncexp.report.tables import Entry, Table, Value

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1a1a1a; max-width: 88rem; margin: 2rem auto; padding: 0 1.2rem; }
h1 { font-size: 1.6rem; margin-bottom: .2rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
p.lead, figcaption { color: #555; } nav a { margin-right: 1.1rem; }
.scroll { overflow-x: auto; }
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
  const value = row => row.cells[column].dataset.value ?? row.cells[column].textContent;
  const rows = [...body.rows].sort((a, b) => {
    const x = value(a), y = value(b);
    if (x === "" || y === "") return (x === "") - (y === "");
    return order * (isNaN(x) || isNaN(y) ? x.localeCompare(y) : x - y);
  });
  body.append(...rows);
};
"""


def write_page(path: Path, title: str, lead: str, tables: list[Table], figures: list[tuple[str, Path]]) -> None:
    """One file: the lead, the tables, the figures as (caption, PNG)."""
    links = "".join(f'<a href="#{table.name}">{html.escape(table.title)}</a>' for table in tables)
    parts = [
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>',
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style>',
        f'<h1>{html.escape(title)}</h1><p class="lead">{html.escape(lead)}</p>',
        f'<nav>{links}<a href="#figures">Figures</a></nav>',
        *map(_section, tables),
        '<h2 id="figures">Figures</h2>',
        *(_figure(caption, png) for caption, png in figures),
        f"<script>{SCRIPT}</script></html>\n",
    ]
    path.write_text("\n".join(parts))


def _section(table: Table) -> str:
    head = "".join(f"<th>{html.escape(name)}</th>" for name in table.columns)
    rows = "\n".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in table.rows)
    note = "" if table.rows else "<p>None.</p>"
    return (
        f'<h2 id="{table.name}">{html.escape(table.title)}</h2>{note}<div class="scroll"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>\n{rows}\n</tbody></table></div>"
    )


def _cell(entry: Entry) -> str:
    if isinstance(entry, Value):
        value = "" if math.isnan(entry.mean) else repr(entry.mean)
        return f'<td class="number" data-value="{value}">{html.escape(str(entry))}</td>'
    kind = ' class="chosen"' if entry.startswith("[") else ""
    return f'<td{kind} data-value="{html.escape(entry.strip("[]"))}">{html.escape(entry)}</td>'


def _figure(caption: str, png: Path) -> str:
    content = base64.b64encode(png.read_bytes()).decode()
    text = html.escape(caption)
    return f'<figure><img alt="{text}" src="data:image/png;base64,{content}"><figcaption>{text}</figcaption></figure>'
