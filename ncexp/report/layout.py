"""Where the parts of a grid of panels stand: legend above, label at the left, margins as wide as what is in them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.layout_engine import LayoutEngine
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.transforms import BboxBase

from ncexp.report.style import break_lines, extent_of, words_of

#: Inches: of a panel, the narrowest one that can be read, and between what stands beside each other.
PANEL, NARROWEST, GAP = (2.3, 1.75), 0.8, 0.06
#: Most entries in a line of the legend, and how it looks.
ENTRIES = 7
LEGEND: dict[str, Any] = {"loc": "upper center", "fontsize": 8, "frameon": False, "borderaxespad": 0.2}


@dataclass(eq=False)
class GridLayout(LayoutEngine):
    """Measures each part once: matplotlib's own engines search, which takes seconds with many panels.

    label: at the left, of the vertical axes of all panels; across: below, of the horizontal ones; handles: of the
    legend above.
    """

    label: Text
    across: Text
    handles: list[Line2D]
    _adjust_compatible = True
    _colorbar_gridspec = True

    def __post_init__(self) -> None:
        super().__init__()

    def execute(self, fig: Figure) -> None:
        """Set the margins; break lines that are longer than their place."""
        width, height = fig.bbox.size
        before = (0.0,) * 4
        for _ in range(3):  # ticks, and so the room for their labels, depend on the panels' sizes
            left, right, below, above = margins = self._margins(fig)
            if all(abs(one - other) < 1 for one, other in zip(margins, before, strict=True)):
                break
            before = margins
            middle = (below + height - above) / 2
            self.label.set_y(middle / height)
            break_lines(self.label, 2 * min(middle, height - _legend_height(fig) - middle))
            edges = {"left": left / width, "right": 1 - right / width, "bottom": below / height}
            fig.subplots_adjust(**edges, top=1 - above / height, wspace=0.08, hspace=0.16)
            for axes in fig.axes:
                for text in words_of(axes):
                    break_lines(text, axes.bbox.height if text.get_rotation() == 90 else axes.bbox.width)
                if axes.get_title():  # stands above that at the right
                    axes.title.set_y(1 + _height_at_the_right(axes) / axes.bbox.height)
        self.label.set_x(GAP * fig.dpi / width)
        self.across.set_y(GAP * fig.dpi / height)

    def resize(self, fig: Figure, width: float | None = None) -> None:
        """Give the figure panels of the usual size or, where it is to be `width` inches wide, of their shape.

        Raises ValueError where such panels would be too narrow to be read.
        """
        rows, columns = _shape(fig)
        wide = max(PANEL[0] * columns + 1.3, 4.6) if width is None else width
        fig.set_size_inches(wide, PANEL[1] * rows + 4)  # enough; what the parts really take is found now
        self._fold_legend(fig)
        self.execute(fig)
        left, right, below, above = (pixels / fig.dpi for pixels in self._margins(fig))
        each = (wide - left - right) / columns
        if each < NARROWEST:
            least = left + right + NARROWEST * columns
            raise ValueError(
                f"width: expected {least:.1f} inches or more for {columns} datasets side by side, got {wide:g}. Choose "
                f"fewer datasets, or a wider figure."
            )
        tall = PANEL[1] if width is None else each * PANEL[1] / PANEL[0]
        fig.set_size_inches(wide, tall * rows + below + above)

    def _fold_legend(self, fig: Figure) -> None:
        """As many entries in a line as there is room for."""
        for entries in range(min(ENTRIES, len(self.handles)), 0, -1):
            for legend in fig.legends:
                legend.remove()
            legend = fig.legend(handles=self.handles, ncols=entries, **LEGEND)
            if extent_of(legend).width <= fig.bbox.width:
                return
        for text in legend.get_texts():
            break_lines(text, 0.8 * fig.bbox.width)

    def _margins(self, fig: Figure) -> tuple[float, float, float, float]:
        """Pixels at the left, at the right, below and above the panels, which share their axes."""
        gap = GAP * fig.dpi
        _, columns = _shape(fig)
        first, lowest, highest = fig.axes[::columns], fig.axes[-columns:], fig.axes[:columns]
        label, across = extent_of(self.label), extent_of(self.across)
        beside = [(axes.bbox, _extent_of_axis(axes.yaxis)) for axes in first]
        beneath = [(axes.bbox, _extent_of_axis(axes.xaxis)) for axes in lowest]
        left = max(panel.x0 - axis.x0 for panel, axis in [*beside, beneath[0]])
        right = max(axis.x1 - panel.x1 for panel, axis in beneath)
        below = max(panel.y0 - axis.y0 for panel, axis in beneath)
        above = _legend_height(fig) + max(
            extent_of(text).y1 - axes.bbox.y1 for axes in highest for text in words_of(axes)
        )
        return label.width + left + 2 * gap, max(right, 0) + gap, across.height + below + 2 * gap, above + 2 * gap


def _extent_of_axis(axis: Axis) -> BboxBase:
    """With its labels; where there is nothing of it, its panel."""
    figure = axis.get_figure(root=True)
    assert figure is not None
    box = axis.get_tightbbox(figure._get_renderer())  # type: ignore[attr-defined]
    return axis.axes.bbox if box is None else box


def _legend_height(fig: Figure) -> float:
    return max(extent_of(legend).height for legend in fig.legends)


def _height_at_the_right(axes: Axes) -> float:
    """Of the title there, with a gap, in pixels."""
    named = [
        text for text in words_of(axes) if text.get_text() == axes.get_title(loc="right") and text is not axes.title
    ]
    return max((1.2 * extent_of(text).height for text in named), default=0)


def _shape(fig: Figure) -> tuple[int, int]:
    spec = fig.axes[0].get_subplotspec()
    assert spec is not None
    return spec.get_gridspec().nrows, spec.get_gridspec().ncols
