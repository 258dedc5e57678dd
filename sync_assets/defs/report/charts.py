"""Draw small bar charts as SVG in a `data:` URL, which Dagster's markdown shows as an image. Without a library."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 440, 170
LEFT, RIGHT, TOP, BOTTOM = 46, 8, 40, 20
GREY, DARK = "#8b95a5", "#231f1b"


@dataclass(frozen=True, slots=True)
class Series:
    """A series of a chart: one value for each label; None is drawn as no bar."""

    name: str
    color: str
    values: Sequence[float | None]


def bars(title: str, labels: Sequence[str], series: Sequence[Series], limit: float | None = None) -> str:
    """Return a stacked bar chart as a `data:` URL.

    Args:
        title: Of the chart.
        labels: One for each bar.
        series: Stacked in this order, from the bottom.
        limit: Drawn as a dashed line, unless it is more than twice the highest bar.
    """
    totals = [sum(one.values[at] or 0 for one in series) for at in range(len(labels))]
    highest = max([*totals, 0])
    if limit is not None and limit <= 2 * highest:
        highest = max(highest, limit)
    else:
        limit = None
    top = _round_up(highest)
    scale = (HEIGHT - TOP - BOTTOM) / top
    step = (WIDTH - LEFT - RIGHT) / max(1, len(labels))
    drawn = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" font-family="sans-serif" '
        f'font-size="11"><rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        _text(8, 15, title, DARK, size=13),
        *_legend(series),
    ]
    for value in (0, top / 2, top):
        y = HEIGHT - BOTTOM - value * scale
        drawn.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="#e3e6ea"/>')
        drawn.append(_text(LEFT - 5, y + 4, _short(value), GREY, anchor="end"))
    for at, label in enumerate(labels):
        x, y = LEFT + at * step + step * 0.15, float(HEIGHT - BOTTOM)
        for one in series:
            height = (one.values[at] or 0) * scale
            y -= height
            if height:
                drawn.append(
                    f'<rect x="{x:.1f}" y="{y:.1f}" width="{step * 0.7:.1f}" height="{height:.1f}" fill="{one.color}"/>'
                )
        drawn.append(_text(x + step * 0.35, HEIGHT - 6, label, GREY, anchor="middle"))
    if limit is not None:
        y = HEIGHT - BOTTOM - limit * scale
        drawn.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="#d24235" stroke-dasharray="4 3"/>')
    svg = "".join([*drawn, "</svg>"])
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()


def _legend(series: Sequence[Series]) -> list[str]:
    drawn: list[str] = []
    x = 8.0
    for one in series:
        drawn.append(f'<rect x="{x:.0f}" y="22" width="9" height="9" fill="{one.color}"/>')
        drawn.append(_text(x + 13, 30, one.name, GREY))
        x += 13 + 6.2 * len(one.name) + 14
    return drawn


def _text(x: float, y: float, text: str, color: str, *, size: int = 11, anchor: str = "start") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" fill="{color}" font-size="{size}" text-anchor="{anchor}">{escape(text)}</text>'
    )


def _round_up(value: float) -> float:
    """Return the next number that is 1, 2, 4 or 10 times a power of ten, at least 1: the top of the axis."""
    power = 1.0
    while power * 10 < value:
        power *= 10
    return next(power * one for one in (1, 2, 4, 10) if power * one >= value)


def _short(value: float) -> str:
    """Return a number with the unit M or k, as in 2.5k."""
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"
