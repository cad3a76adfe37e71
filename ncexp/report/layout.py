"""Where the parts of a grid of panels stand: legend above, label at the left, margins as wide as what is in them."""

from __future__ import annotations

from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import LayoutEngine
from matplotlib.legend import Legend
from matplotlib.text import Text
from matplotlib.transforms import BboxBase

from ncexp.report.style import break_lines, words_of

#: Inches: of a panel, and between what stands beside each other.
PANEL, GAP = (2.3, 1.75), 0.06
#: Inches: the narrowest panel that can be read.
NARROWEST = 0.8
#: Most entries in a line of the legend.
ENTRIES = 7


@dataclass(eq=False)
class GridLayout(LayoutEngine):
    """Measures each part once: matplotlib's own engines search, which takes seconds with many panels.

    label: at the left, of the vertical axes of all panels; across: below, of the horizontal ones; legend: above.
    """

    label: Text
    across: Text
    legend: Legend
    _adjust_compatible = True
    _colorbar_gridspec = True

    def __post_init__(self) -> None:
        super().__init__()

    def execute(self, fig: Figure) -> None:
        """Set the margins; break lines that are longer than their place; as many entries in a line as there is room."""
        dpi, width, height = fig.dpi, fig.bbox.width, fig.bbox.height
        for entry in self.legend.get_texts():
            break_lines(entry, 0.8 * width)
        self._fold_legend(width)
        break_lines(self.label, 0.98 * height)
        for _ in range(2):  # ticks, and so the room for their labels, depend on the panels' sizes
            left, right, below, above = self._margins(fig)
            fig.subplots_adjust(
                left=left / width, right=1 - right / width, bottom=below / height, top=1 - above / height,
                wspace=0.08, hspace=0.16,
            )  # fmt: skip
            for axes in fig.axes:
                for text in words_of(axes):
                    break_lines(text, axes.bbox.height if text.get_rotation() == 90 else axes.bbox.width)
        self.label.set_x(GAP * dpi / width)
        self.across.set_y(GAP * dpi / height)

    def size(self, fig: Figure, width: float | None = None) -> tuple[float, float]:
        """Inches of the figure, with panels of the usual size or, in a figure `width` wide, of their shape.

        Raises ValueError where such panels would be too narrow to be read.
        """
        rows, columns = _shape(fig)
        wide = max(PANEL[0] * columns + 1.3, 4.6) if width is None else width
        fig.set_size_inches(wide, PANEL[1] * rows + 1.3)
        self.execute(fig)
        left, right, below, above = (pixels / fig.dpi for pixels in self._margins(fig))
        each = (wide - left - right) / columns
        if each < NARROWEST:
            least = left + right + NARROWEST * columns
            raise ValueError(
                f"width: expected {least:.1f} inches or more for {columns} panels side by side, got {wide:g}. Choose "
                f"fewer datasets, or a wider figure."
            )
        tall = PANEL[1] if width is None else each * PANEL[1] / PANEL[0]
        return wide, tall * rows + below + above

    def _fold_legend(self, width: float) -> None:
        for entries in range(min(ENTRIES, len(self.legend.get_texts())), 0, -1):
            self.legend.set_ncols(entries)
            if self.legend.get_window_extent().width <= width:
                return

    def _margins(self, fig: Figure) -> tuple[float, float, float, float]:
        """Pixels at the left, at the right, below and above the panels."""
        gap = GAP * fig.dpi
        rows, columns = _shape(fig)
        first, last = fig.axes[::columns], fig.axes[columns - 1 :: columns]
        lowest, highest = fig.axes[-columns:], fig.axes[:columns]
        label, across = self.label.get_window_extent(), self.across.get_window_extent()
        left = max(axes.bbox.x0 - box.x0 for axes in first for box in _boxes(axes))
        right = max(box.x1 - axes.bbox.x1 for axes in last for box in _boxes(axes))
        below = max(axes.bbox.y0 - box.y0 for axes in lowest for box in _boxes(axes))
        titles = [(axes, text.get_window_extent()) for axes in highest for text in words_of(axes)]
        above = max([0.0, *(box.y1 - axes.bbox.y1 for axes, box in titles)])
        legend = self.legend.get_window_extent().height
        return label.width + left + 2 * gap, right + gap, across.height + below + 2 * gap, above + legend + 2 * gap


def _boxes(axes: Axes) -> list[BboxBase]:
    """Of the panel, and of its axes with their labels."""
    boxes = [axes.bbox, axes.xaxis.get_tightbbox(), axes.yaxis.get_tightbbox()]
    return [box for box in boxes if box is not None]


def _shape(fig: Figure) -> tuple[int, int]:
    spec = fig.axes[0].get_subplotspec()
    assert spec is not None
    rows, columns = spec.get_gridspec().nrows, spec.get_gridspec().ncols
    return rows, columns
