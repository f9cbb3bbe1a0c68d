"""The report's pictures as inline SVG; colours come from the page's style."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

_WIDTH = 960
_LABEL = 300
_ROW = 17


def bars(rows: Sequence[tuple[str, int, int]]) -> str:
    """One bar a row of (name, kept, size): the kept part of the whole."""
    largest = max((size for _, _, size in rows), default=1)
    scale = (_WIDTH - _LABEL - 130) / largest
    parts = []
    for row, (name, kept, size) in enumerate(rows):
        y = row * _ROW
        parts.append(
            f"{_name(name, y)}<rect class='dense' x='{_LABEL}' y='{y + 3}' rx='2' "
            f"width='{size * scale:.1f}' height='11'/><rect class='kept' x='{_LABEL}' y='{y + 3}' "
            f"rx='2' width='{kept * scale:.1f}' height='11'/>"
            f"<text x='{_LABEL + size * scale + 8:.1f}' y='{y + 13}'>{kept} of {size}</text>"
        )
    return _svg(len(rows) * _ROW, "".join(parts), "kept channels of every Dim")


def pairs(rows: Sequence[tuple[str, float, float]]) -> str:
    """Two bars a row of (name, before, after), in milliseconds."""
    largest = max((max(before, after) for _, before, after in rows), default=1.0) or 1.0
    scale = (_WIDTH - _LABEL - 130) / largest
    parts = []
    for row, (name, before, after) in enumerate(rows):
        y = row * _ROW
        end = _LABEL + max(before, after) * scale + 8
        text = f"{before:.3f} → {after:.3f}" if after else f"{before:.3f} → dropped"
        parts.append(
            f"{_name(name, y)}<rect class='dense' x='{_LABEL}' y='{y + 2}' rx='1' "
            f"width='{before * scale:.1f}' height='6'/><rect class='kept' x='{_LABEL}' "
            f"y='{y + 8}' rx='1' width='{after * scale:.1f}' height='6'/>"
            f"<text x='{end:.1f}' y='{y + 13}'>{text}</text>"
        )
    return _svg(len(rows) * _ROW, "".join(parts), "milliseconds of every cell, before and after")


def scatter(points: Sequence[tuple[float, float, str]], reference: tuple[float, float, str]) -> str:
    """Accuracy (0..1) over milliseconds, with the dense network as the reference."""
    width, height, left, bottom = 760, 320, 60, 44
    everything = [*points, reference]
    right_ms = max(x for x, _, _ in everything) * 1.12
    low = min(y for _, y, _ in everything)
    high = max(y for _, y, _ in everything)
    pad = max(0.01, (high - low) * 0.18)
    low, high = max(0.0, low - pad), min(1.0, high + pad)

    def place(x: float, y: float) -> tuple[float, float]:
        return (
            left + x / right_ms * (width - left - 20),
            height - bottom - (y - low) / (high - low) * (height - bottom - 14),
        )

    parts = []
    for step in range(5):
        y_value, x_value = low + (high - low) * step / 4, right_ms * step / 4
        x0, y0 = place(0, y_value)
        x1, y1 = place(x_value, low)
        parts.append(
            f"<line class='rule' x1='{x0:.1f}' x2='{width - 20}' y1='{y0:.1f}' y2='{y0:.1f}'/>"
            f"<text class='soft' x='{left - 8}' y='{y0 + 4:.1f}' text-anchor='end'>"
            f"{100 * y_value:.1f}%</text><text class='soft' x='{x1:.1f}' y='{y1 + 18:.1f}' "
            f"text-anchor='middle'>{x_value:.3g}</text>"
        )
    parts.append(
        f"<text class='soft' x='{(left + width) / 2:.0f}' y='{height - 6}' text-anchor='middle'>"
        "milliseconds, measured</text>"
    )
    for kind, group in (("kept", points), ("mark", [reference])):
        for x_value, y_value, label in group:
            x, y = place(x_value, y_value)
            parts.append(
                f"<circle class='{kind}' cx='{x:.1f}' cy='{y:.1f}' r='5'/>"
                f"<text x='{x:.1f}' y='{y - 10:.1f}' text-anchor='middle'>{escape(label)}</text>"
            )
    return _svg(height, "".join(parts), "accuracy over latency", width)


def _name(name: str, y: float) -> str:
    short = name if len(name) <= 46 else "…" + name[-45:]
    return (
        f"<text x='{_LABEL - 8}' y='{y + 13}' text-anchor='end'>{escape(short)}"
        f"<title>{escape(name)}</title></text>"
    )


def _svg(height: float, body: str, label: str, width: int = _WIDTH) -> str:
    return (
        f"<svg viewBox='0 0 {width} {height + 4:.0f}' width='{width}' role='img' "
        f"aria-label='{label}'>{body}</svg>"
    )
