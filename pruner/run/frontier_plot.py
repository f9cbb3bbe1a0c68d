"""frontier.png: what every budget keeps, the knee marked."""

from collections.abc import Sequence
from pathlib import Path

from ..search import FrontierPoint


def draw_frontier(
    path: Path, points: Sequence[FrontierPoint], knee: int, title: str, subtitle: str
) -> None:
    """Draw the importance kept against the budget in milliseconds, and write it as a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    ms, values = [p.budget_ms for p in points], [p.value for p in points]
    axes.plot(ms, values, color="#2f6fab", linewidth=1, zorder=1)
    for proven, label, face in ((True, "proven best", "#2f6fab"), (False, "not proven", "white")):
        chosen = [p for p in points if (p.gap <= 0) == proven]
        if chosen:
            axes.scatter(
                [p.budget_ms for p in chosen], [p.value for p in chosen], s=22, label=label,
                facecolor=face, edgecolor="#2f6fab", zorder=2,
            )  # fmt: skip
    best = points[knee]
    axes.scatter([best.budget_ms], [best.value], s=90, facecolor="none", edgecolor="#c0392b",
                 linewidth=1.6, label=f"knee: {best.budget} of dense", zorder=3)  # fmt: skip
    axes.set_xlabel("latency budget, ms a batch")
    axes.set_ylabel("importance kept")
    axes.set_title(f"{title}\n{subtitle}", loc="left", fontsize=10)
    axes.grid(alpha=0.25)
    axes.legend(loc="lower right", frameon=False)
    figure.savefig(path, dpi=140)
