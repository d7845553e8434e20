"""What all figures share: matplotlib without global state, one look, one style per generator.

The colours are Okabe and Ito's, which colour-blind readers tell apart; markers and hatches say the
same in black and white. Importing this module needs matplotlib, and it alone imports it, so that
its absence is reported in one way.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

from gandb.core.errors import MissingExtraError

try:
    import matplotlib
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.cm import ScalarMappable
    from matplotlib.collections import PolyCollection
    from matplotlib.colors import LogNorm, Normalize, to_rgb
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch, Rectangle
    from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator
except ModuleNotFoundError as error:
    raise MissingExtraError.for_package("matplotlib", "report") from error

__all__ = [
    "DPI",
    "MUTED",
    "TRAINING_COLOUR",
    "Axes",
    "Figure",
    "FixedLocator",
    "FuncFormatter",
    "Line2D",
    "LogNorm",
    "MaxNLocator",
    "Normalize",
    "NullLocator",
    "Patch",
    "PolyCollection",
    "Rectangle",
    "ScalarMappable",
    "Style",
    "colormaps",
    "drawing",
    "light_grid",
    "sample_axis",
    "styles",
    "to_bytes",
    "to_png",
    "to_rgb",
]

colormaps = matplotlib.colormaps
Dashes: TypeAlias = "Literal['-', '--', '-.', ':'] | tuple[float, Sequence[float]]"

DPI = 150
TRAINING_COLOUR = "#000000"
MUTED = "#595959"
GRID = "#d9d9d9"


@dataclass(frozen=True)
class Style:
    """How one generator is drawn in every figure."""

    colour: str
    marker: str
    hatch: str
    dashes: Dashes


_KNOWN = {
    "matgan": Style("#0072B2", "o", "", "-"),
    "uniform": Style("#999999", "v", "..", ":"),
    "element_frequency": Style("#E69F00", "^", "//", "--"),
    "count_given_element": Style("#D55E00", "s", "\\\\", "-."),
    "substitution": Style("#009E73", "D", "xx", (0, (5, 1, 1, 1, 1, 1))),
    "pgcgm": Style("#0072B2", "o", "", "-"),
    "cubicgan": Style("#CC79A7", "P", "++", "-"),
    "composition_gan": Style("#56B4E9", "X", "--", "-"),
    "random_coordinates": Style("#6b6b6b", "v", "..", ":"),
    "random_wyckoff": Style("#E69F00", "^", "//", "--"),
    "prototype_substitution": Style("#009E73", "D", "xx", (0, (5, 1, 1, 1, 1, 1))),
}
_SPARE = (
    Style("#CC79A7", "P", "++", "-"),
    Style("#56B4E9", "X", "--", "--"),
    Style("#7A5195", "*", "oo", "-."),
    Style("#8C6D31", "<", "||", ":"),
    Style("#1B3A4B", ">", "**", "-"),
    Style("#B2182B", "p", "+x", "--"),
    Style("#4D9221", "h", "o.", "-."),
    Style("#E377C2", "d", "\\-", ":"),
)


class Named(Protocol):
    """What is drawn in a generator's style."""

    @property
    def model(self) -> str:
        """Registered name of the generator."""


def styles(rows: Sequence[Named]) -> tuple[Style, ...]:
    """Return a style per row: the known one of its generator, else the next spare one."""
    taken: set[str] = set()
    spare = iter(_SPARE * (1 + len(rows)))
    chosen = []
    for row in rows:
        style = _KNOWN.get(row.model)
        if style is None or row.model in taken:
            style = next(spare)
        taken.add(row.model)
        chosen.append(style)
    return tuple(chosen)


@contextmanager
def drawing(width: float, height: float) -> Iterator[Figure]:
    """Yield an empty figure of ``width`` x ``height`` inches, whatever the user's matplotlibrc."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(
            {
                "font.size": 10,
                "axes.titlesize": 11,
                "axes.titleweight": "bold",
                "axes.titlelocation": "left",
                "axes.spines.top": False,
                "axes.spines.right": False,
                "axes.edgecolor": MUTED,
                "axes.grid": False,
                "grid.color": GRID,
                "hatch.linewidth": 0.6,
                "legend.frameon": False,
                "legend.fontsize": 9,
                "lines.linewidth": 1.5,
                "xtick.color": MUTED,
                "ytick.color": MUTED,
                "xtick.labelcolor": "black",
                "ytick.labelcolor": "black",
            }
        )
        figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained", facecolor="white")
        FigureCanvasAgg(figure)
        yield figure


def to_png(figure: Figure) -> bytes:
    """Return the figure as PNG: the same bytes for the same figure, without date or program."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()


def to_bytes(figure: Figure, form: Literal["png", "svg", "pdf"]) -> bytes:
    """Return the figure in a format: the same bytes for the same figure, as `to_png`."""
    if form == "png":
        return to_png(figure)
    buffer = io.BytesIO()
    undated = {"Date": None} if form == "svg" else {"CreationDate": None}
    with matplotlib.rc_context({"svg.hashsalt": "gandb", "pdf.fonttype": 42}):
        figure.savefig(buffer, format=form, metadata=undated)
    return buffer.getvalue()


def light_grid(axes: Axes, axis: Literal["x", "y"] = "y") -> None:
    """Draw grid lines behind the data."""
    axes.set_axisbelow(True)
    axes.grid(True, axis=axis, linewidth=0.6)


def sample_axis(axes: Axes, numbers: Sequence[int], ticks: Sequence[int] | None = None) -> None:
    """Put a logarithmic axis under sample numbers, labelled at ``ticks`` or at each of them."""
    low, high = min(numbers), max(numbers)
    axes.set_xscale("log")
    axes.set_xlim(low / 1.5, high * 1.5)
    axes.xaxis.set_major_locator(FixedLocator(sorted(set(numbers if ticks is None else ticks))))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _short_number(value)))
    axes.set_xlabel("samples drawn, N (logarithmic)")


def _short_number(value: float) -> str:
    """Write 20000 as ``20k`` and 2000000 as ``2M``."""
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.4g}{letter}"
    return f"{value:g}"
