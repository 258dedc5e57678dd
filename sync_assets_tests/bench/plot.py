"""Series as an SVG file, one panel below the other, each with a scale of its own that begins at 0."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

Points = Sequence[tuple[float, float]]
WIDTH, PANEL, LEFT, GAP = 760, 90, 150, 26


def plot(
    file: Path, title: str, series: Mapping[str, Sequence[tuple[float, float]]], marks: Sequence[float] = ()
) -> None:
    """Write the file.

    Args:
        file: Where to; its folder must exist.
        title: Above the panels.
        series: Name -> points (minute, value), in the order of minutes.
        marks: Minutes at which something happened: a vertical line in each panel.
    """
    last = max((minute for points in series.values() for minute, _ in points), default=1.0) or 1.0
    height = 40 + len(series) * (PANEL + GAP) + 20

    size = f'width="{WIDTH}" height="{height}"'

    def x(minute: float) -> float:
        return LEFT + minute / last * (WIDTH - LEFT - 10)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">',
        f'<rect {size} fill="white"/><text x="8" y="22" font-size="15">{escape(title)}</text>',
    ]
    for number, (name, points) in enumerate(series.items()):
        top = 40 + number * (PANEL + GAP)
        high = max((value for _, value in points), default=1.0) or 1.0
        line = " ".join(f"{x(minute):.1f},{top + PANEL * (1 - value / high):.1f}" for minute, value in points)
        parts += [
            f'<rect x="{LEFT}" y="{top}" width="{WIDTH - LEFT - 10}" height="{PANEL}" fill="none" stroke="#ccc"/>',
            *(f'<path d="M{x(minute):.1f} {top}v{PANEL}" stroke="#d66" stroke-dasharray="3"/>' for minute in marks),
            f'<text x="8" y="{top + 14}">{escape(name)}</text>',
            f'<text x="{LEFT - 6}" y="{top + 12}" text-anchor="end" fill="#666">{high:,.4g}</text>',
            f'<text x="{LEFT - 6}" y="{top + PANEL}" text-anchor="end" fill="#666">0</text>',
            f'<polyline points="{line}" fill="none" stroke="#1f5fa8" stroke-width="1.5"/>',
        ]
    parts.append(
        f'<text x="{WIDTH - 10}" y="{height - 8}" text-anchor="end" fill="#666">{last:,.0f} minutes</text></svg>'
    )
    file.write_text("\n".join(parts), encoding="utf-8")
