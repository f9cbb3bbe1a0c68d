"""A plot of figures over milliseconds, laid out in pixels for the report."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

WIDTH, HEIGHT = 760, 340
_LEFT, _RIGHT, _TOP, _BOTTOM = 88, 744, 16, 284
_TICKS = 5


@dataclass(frozen=True)
class Mark:
    """A point: where it lies, what is said when it is pointed at, and what is written beside it.

    kind is the class of its style: ``kept``, ``mark`` or ``hollow``.
    """

    x: float
    y: float
    text: str
    kind: str = "kept"
    label: str = ""


@dataclass(frozen=True)
class Plot:
    """Points, joined or not, over two axes with names.

    Attributes:
        marks: Drawn in this order.
        path: Points [(x, y)] of a line behind them, in the order in which it is drawn.
        diagonal: Whether both axes are alike, with a line where they are equal.
    """

    title: str
    x_label: str
    y_label: str
    marks: Sequence[Mark]
    path: Sequence[tuple[float, float]] = ()
    diagonal: bool = False


def lay_out(plot: Plot, show_y: Callable[[float], str] = "{:,.6g}".format) -> dict[str, Any] | None:
    """Place a plot in a picture of ``WIDTH`` x ``HEIGHT`` pixels; None where it has no points.

    show_y formats a tick of y.
    """
    from matplotlib.ticker import MaxNLocator

    if not plot.marks:
        return None
    xs = [0.0, *(m.x for m in plot.marks), *(x for x, _ in plot.path)]
    ys = [m.y for m in plot.marks] + [y for _, y in plot.path]
    if plot.diagonal:
        xs = ys = [*xs, *ys]
    locator = MaxNLocator(_TICKS, steps=[1, 2, 2.5, 5, 10])
    columns, levels = locator.tick_values(min(xs), max(xs)), locator.tick_values(min(ys), max(ys))
    left, right, low, high = columns[0], columns[-1], levels[0], levels[-1]

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - left) / (right - left or 1.0)
        up = (y - low) / (high - low or 1.0)
        return (
            round(_LEFT + across * (_RIGHT - _LEFT), 1),
            round(_BOTTOM - up * (_BOTTOM - _TOP), 1),
        )

    line = plot.path or ([(left, left), (right, right)] if plot.diagonal else ())
    return {
        "title": plot.title, "x_label": plot.x_label, "y_label": plot.y_label,
        "width": WIDTH, "height": HEIGHT, "left": _LEFT, "right": _RIGHT, "bottom": _BOTTOM,
        "levels": [(place(left, y)[1], show_y(y)) for y in levels],
        "ticks": [(place(x, low)[0], f"{x:.6g}") for x in columns],
        "line": " ".join(f"{x},{y}" for x, y in (place(*point) for point in line)),
        "marks": [(*place(m.x, m.y), m) for m in plot.marks],
    }  # fmt: skip
