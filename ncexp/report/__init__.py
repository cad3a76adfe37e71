"""What people see of runs: the live line, the summary, figures of a run, and tables, grids and page of a sweep."""

# ruff: noqa: F401 (what is imported here is the face of the package)

from ncexp.report.live import LiveFigures
from ncexp.report.progress import ProgressLine
from ncexp.report.run import draw_run, report_run, report_runs, report_simulation
