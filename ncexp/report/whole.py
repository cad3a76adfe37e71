"""A report as a whole: what it is of, in words; every table and figure in its files; and the page that has all."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from ncexp.config import ConfigError
from ncexp.record import DamagedFile, counted, format_counts
from ncexp.record.files import replace_text
from ncexp.record.quantities import find
from ncexp.report import han2022, tables
from ncexp.report.page import render_page
from ncexp.report.study import Preset, Study
from ncexp.report.tables import Table
from ncexp.report.verdict import outcome

if TYPE_CHECKING:
    from ncexp.report.search import Search


def write_report(
    study: Study, folder: Path, preset: Preset | None = None, width: float | None = None, style: str | None = None
) -> tuple[Path, list[Table]]:
    """Every table as .md, .csv and .tex, every figure as figures/.pdf and .png, and the page; the page, and the tables.

    width: of each figure in inches; style: a file or name of matplotlib's style sheets. Raises ValueError for a preset
    whose runs these are not, a width that is too narrow, and a style that is none.
    """
    from ncexp.report import search  # matplotlib takes a second
    from ncexp.report.style import save

    found, words = _search_of(study)
    made = made_tables(study, preset)
    if found is not None:
        last = [search.trials(found), search.importances(found), search.pareto(found) if found.is_of_several else None]
        made += [table for table in last if table is not None]
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    for table in made:
        for suffix, text in ((".md", table.markdown()), (".csv", table.csv()), (".tex", table.latex())):
            replace_text(folder / f"{table.name}{suffix}", text)
    figures = draw_all(study, folder / "figures", preset, width, style)
    if found is not None:
        drawn = save(search.history(found), *(folder / "figures" / f"history{suffix}" for suffix in (".png", ".pdf")))
        figures.append(("The search: what each trial came to, and the best so far.", drawn))
    page = folder / "report.html"
    said = [*outcome(study), *words]
    replace_text(page, render_page(study, describe(study, preset), said, made, figures, folder))
    return page, made


def _search_of(study: Study) -> tuple[Search | None, list[str]]:
    """The search whose trials the runs are, if they are, and its last lines; or why it cannot be read."""
    from ncexp.report.search import search_of

    try:
        found = search_of(study.runs)
    except (ConfigError, DamagedFile) as error:
        return None, [f"search: {error}"]
    return found, [] if found is None else [" ".join(line.split()) for line in found.words()]


def made_tables(study: Study, preset: Preset | None = None) -> list[Table]:
    """Those of the preset, or of any sweep; the first is the one to read."""
    if preset == "han2022":
        sweep = han2022.gather(study.runs)
        makers = (han2022.results, han2022.differences, han2022.gains, han2022.decomposition, han2022.learning_rates)
        return [*(make(sweep) for make in makers), tables.troubles(sweep.runs)]
    made = [tables.settings(study), tables.differences(study), tables.troubles(study.runs)]
    if study.layout.scatter:
        made.append(tables.correlation(study))
    return [*(table for table in made if table.rows), tables.runs(study)]


def draw_all(
    study: Study, folder: Path, preset: Preset | None = None, width: float | None = None, style: str | None = None
) -> list[tuple[str, Path]]:
    """Every figure that the records allow, as (caption, PNG); the PDF lies beside it. See `write_report`."""
    import matplotlib.style  # takes a second

    from ncexp.report import grids, study_figures
    from ncexp.report.style import save

    try:
        styled = matplotlib.style.context(style) if style else nullcontext()
        with styled:
            drawn = grids.figures_of(han2022.gather(study.runs)) if preset else study_figures.figures_of(study)
            return [
                (caption, save(draw(width), folder / f"{name}.png", folder / f"{name}.pdf"))
                for name, caption, draw in counted(list(drawn), "figures")
            ]
    except OSError as error:
        if style is None or Path(style).is_file():
            raise
        raise ValueError(f"style: expected a file.mplstyle or a name of matplotlib's, got {style!r}.") from error


def describe(study: Study, preset: Preset | None = None) -> str:
    """What the report is of, and by which rules."""
    states = format_counts(run.state for run in study.runs)
    if preset == "han2022":
        return han2022.describe(han2022.gather(study.runs), states)
    axes = ", ".join(column.label for column in study.by) or "nothing but the seed"
    said = [f"{_count(len(study.runs), 'run')}, {_count(len(study.settings), 'setting')} ({axes}): {states}."]
    if study.free and study.best:
        free = ", ".join(column.label for column in study.free)
        said.append(f"Of each setting the best {free} is kept.")
    if study.best and len(study.runs) > 1:
        row = find(study.best.name)
        words = f"{study.best.name}{f' ({row.short})' if row else ''}"
        end = "lowest" if study.best.direction == "min" else "highest"
        said.append(
            f"The best has the {end} {words} at the last evaluated epoch, mean over seeds, of those whose runs all "
            "completed. Where that was chosen by test examples its number is optimistic: the least of many is low by "
            "chance, too."
        )
    return " ".join(said)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"
