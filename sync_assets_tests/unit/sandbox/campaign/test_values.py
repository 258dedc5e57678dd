"""Types on their way in and out."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_assets.sandbox.campaign.schema import Field
from sync_assets.sandbox.campaign.values import converter, smart_case

EXT = "/profileAndServicesExt/profile"


@pytest.mark.parametrize(
    ("name", "written", "stored"),
    [
        ("cusLastVisit", "2026-11-24 10:20:30.123Z", "2026-11-24 10:20:30.123Z"),
        ("cusLastVisit", "2026-11-24T10:20:30Z", "2026-11-24 10:20:30.000Z"),
        ("cusLastVisit", "2026-11-24 10:20", "2026-11-24 10:20:00.000Z"),
        ("cusLastVisit", "2026-11-24T01:20:30+02:00", "2026-11-23 23:20:30.000Z"),
        ("cusLastVisit", "", ""),
        ("birthDate", "1990-02-28", "1990-02-28"),
        ("birthDate", "", ""),
        ("cusScore", "12", 12),
        ("cusScore", 12.0, 12),
        ("cusScore", "", 0),
        ("cusBalance", "1.5", 1.5),
        ("cusBalance", 3, 3.0),
        ("cusVip", "true", True),
        ("cusVip", 1, True),
        ("cusVip", "0", False),
        ("gender", "female", "female"),
        ("gender", "", "unknown"),
        ("cusTier", None, "none"),
        ("phone", 12345, "12345"),
        ("cusInterests", True, "true"),
        ("cusInterests", "𠮷 \n\t\"';<&", "𠮷 \n\t\"';<&"),
        ("orgUnit", None, None),
    ],
)
async def test_values_are_converted(http: httpx.AsyncClient, name: str, written: Any, stored: Any) -> None:
    answer = await http.post(EXT, json={name: written})
    assert answer.status_code == 201, answer.text
    assert answer.json()[name] == stored
    assert type(answer.json()[name]) is type(stored)


async def test_length_counts_characters_not_bytes(http: httpx.AsyncClient) -> None:
    assert (await http.post(EXT, json={"firstName": "𠮷" * 30})).status_code == 201
    assert (await http.post(EXT, json={"firstName": "𠮷" * 31})).status_code == 500


@given(st.datetimes(timezones=st.integers(-14 * 60, 14 * 60).map(lambda m: timezone(timedelta(minutes=m)))))
def test_any_moment_is_kept_to_the_millisecond(moment: datetime) -> None:
    try:
        in_utc = moment.astimezone(UTC)
    except OverflowError:
        return
    convert = converter(Field("x", "datetime"), "nms:recipient")
    text = convert(moment.isoformat())
    assert text[10] == " "
    assert text.endswith("Z")
    assert datetime.fromisoformat(text) == in_utc.replace(microsecond=in_utc.microsecond // 1000 * 1000)
    assert convert(text) == text, "what is read can be written"


@given(st.dates())
def test_any_date_is_kept(day: date) -> None:
    assert converter(Field("x", "date"), "nms:recipient")(day.isoformat()) == day.isoformat()


@given(st.integers(-(2**31), 2**31 - 1))
def test_any_integer_of_32_bits_is_kept(number: int) -> None:
    convert = converter(Field("x", "integer"), "nms:recipient")
    assert convert(number) == convert(str(number)) == number


@given(st.text(alphabet="abcXYZ éÉ-'’.", max_size=30))
def test_smart_case_is_stable(name: str) -> None:
    assert smart_case(smart_case(name)) == smart_case(name)
