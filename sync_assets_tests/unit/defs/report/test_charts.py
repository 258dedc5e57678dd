"""Charts of the report: what is drawn, and that any numbers make a picture."""

from __future__ import annotations

import base64
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_assets.defs.report.charts import BOTTOM, HEIGHT, TOP, Series, bars

SVG = "{http://www.w3.org/2000/svg}"


def drawn(address: str) -> ElementTree.Element:
    kind, _, data = address.partition(",")
    assert kind == "data:image/svg+xml;base64"
    return ElementTree.fromstring(base64.b64decode(data))


def heights(svg: ElementTree.Element, color: str) -> list[float]:
    """Of the bars, without the legend's square."""
    found = [one for one in svg.iter(f"{SVG}rect") if one.get("fill") == color]
    return [float(one.get("height", "0")) for one in found[1:]]


def test_bars_are_as_high_as_their_numbers_and_stand_upon_each_other() -> None:
    series = [Series("a", "red", [10, 0, None]), Series("b", "blue", [0, 20, 40])]
    svg = drawn(bars("Numbers", ["1", "2", "3"], series))
    one = (HEIGHT - TOP - BOTTOM) / 40
    assert heights(svg, "red") == pytest.approx([10 * one], abs=0.1)
    assert heights(svg, "blue") == pytest.approx([20 * one, 40 * one], abs=0.1)
    texts = [text.text for text in svg.iter(f"{SVG}text")]
    assert texts == ["Numbers", "a", "b", "0", "20", "40", "1", "2", "3"]


@pytest.mark.parametrize(("limit", "line"), [(None, 0), (15, 1), (5, 1), (1_000_000, 0)])
def test_a_limit_is_a_line_unless_it_would_flatten_the_bars(limit: float | None, line: int) -> None:
    svg = drawn(bars("Calls", ["1"], [Series("a", "blue", [10])], limit))
    assert len([one for one in svg.iter(f"{SVG}path") if one.get("stroke-dasharray")]) == line


@given(
    st.lists(st.none() | st.floats(0, 1e12) | st.integers(0, 10**12), min_size=1, max_size=14),
    st.none() | st.integers(1, 10**9),
)
def test_any_numbers_stay_within_the_picture(values: list[float | None], limit: int | None) -> None:
    svg = drawn(bars("<Any> & all", [str(at) for at in range(len(values))], [Series("a", "blue", values)], limit))
    for one in [*svg.iter(f"{SVG}rect")][1:]:
        assert float(one.get("y", "0")) >= 0
        assert 0 <= float(one.get("height", "0")) <= HEIGHT
