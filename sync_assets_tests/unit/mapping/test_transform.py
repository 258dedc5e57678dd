"""The transform: what each D365 value becomes in Campaign, and when two rows count as equal."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_assets.mapping.transform import transform
from sync_assets_tests.support.sample_tables import ID, frame, mapping, transformed

NONE_FITS = "Campaign has no such value, only unknown, male, female; add a replacement"


def payload(row: dict[str, Any]) -> dict[str, Any]:
    return json.loads(row["payload"])


def becomes(column: str, value: Any, to: str, **more: Any) -> Any:
    """What `value` of `column` is in the JSON under attribute `to`, as JSON text; or the refusal."""
    [row] = transformed(mapping({column: to}, **more), {_row_name(column): value})
    written = json.dumps(json.loads(row["payload"], parse_float=_exact, parse_int=_exact)[to], ensure_ascii=False)
    return row["validation_error"] or written


def _exact(text: str) -> Any:
    return f"number {text}"


def _row_name(column: str) -> str:
    return f"_{column}_value" if column == "companyid" else column


class TestTruthTable:
    @pytest.mark.parametrize(
        ("column", "value", "to", "expected"),
        [
            ("lastname", "Ó Briain", "cusText", '"Ó Briain"'),
            ("lastname", None, "cusText", '""'),
            ("lastname", 'a"\\\n\t\u2028\u0001', "cusText", '"a\\"\\\\\\n\\t\u2028\\u0001"'),
            ("lastname", "👩‍👩‍👧 ﷽", "cusText", '"👩‍👩‍👧 ﷽"'),
            ("lastname", "a\0b", "cusText", '"a\ufffdb"'),
            ("lastname", "MALE", "gender", '"male"'),
            ("lastname", "other", "gender", f"gender: {NONE_FITS}"),
            ("lastname", None, "gender", '"unknown"'),
            ("description", "two\nlines", "cusText", '"two\\nlines"'),
            ("contactid", ID.upper(), "cusText", f'"{ID}"'),
            ("companyid", ID, "cusText", f'"{ID}"'),
            ("companyid", None, "cusText", '""'),
            ("image", "x", "cusText", '"x"'),
            ("score", 7, "cusInteger", '"number 7"'),
            ("score", -7, "cusFloat", '"number -7"'),
            ("score", 7, "cusText", '"7"'),
            ("score", None, "cusInteger", '"number 0"'),
            ("score", None, "cusFloat", '"number 0"'),
            ("score", None, "cusText", '""'),
            ("total", 2**63 - 1, "cusInteger", '"number 9223372036854775807"'),
            ("total", 2**53 + 1, "cusFloat", '"number 9007199254740993"'),
            ("balance", "12.5000000000", "cusFloat", '"number 12.5"'),
            ("balance", "-0.0000000001", "cusFloat", '"number -0.0000000001"'),
            ("balance", "0E-10", "cusFloat", '"number 0"'),
            ("balance", "12.50", "cusText", '"12.5"'),
            ("balance", "12.00", "cusInteger", '"number 12"'),
            ("balance", "12.50", "cusInteger", "cusInteger: not a whole number, or too large"),
            ("balance", "NaN", "cusFloat", "cusFloat: not a number"),
            ("limit", "922337203685477.5807", "cusFloat", '"number 922337203685477.5807"'),
            ("limit", "20000.0000", "cusFloat", '"number 20000"'),
            ("limit", None, "cusFloat", '"number 0"'),
            ("ratio", "1E+16", "cusFloat", '"number 10000000000000000"'),
            ("ratio", "1.25e-7", "cusFloat", '"number 0.000000125"'),
            ("ratio", "-0.0", "cusFloat", '"number 0"'),
            ("ratio", "1e3", "cusInteger", '"number 1000"'),
            ("vip", True, "cusBoolean", "true"),
            ("vip", None, "cusBoolean", "false"),
            ("vip", True, "cusInteger", '"number 1"'),
            ("vip", False, "cusFloat", '"number 0"'),
            ("vip", True, "cusText", '"Yes"'),
            ("vip", None, "cusText", '""'),
            ("gendercode", 2, "cusText", '"Female"'),
            ("gendercode", 77, "cusText", '"77"'),
            ("gendercode", None, "cusText", '""'),
            ("gendercode", 2, "gender", '"female"'),
            ("gendercode", 3, "gender", f"gender: {NONE_FITS}"),
            ("gendercode", 77, "gender", f"gender: {NONE_FITS}"),
            ("gendercode", None, "gender", '"unknown"'),
            ("gendercode", 2, "cusInteger", '"number 2"'),
            ("gendercode", 2, "cusFloat", '"number 2"'),
            ("statecode", 1, "cusText", '"Inactive"'),
            ("statecode", 1, "cusBoolean", "true"),
            ("statecode", 0, "cusBoolean", "false"),
            ("statecode", 2, "cusBoolean", "cusBoolean: an option that is neither 0 nor 1; add a replacement"),
            ("interests", "1,9", "cusText", '"Music; Other"'),
            ("interests", "9, 1,77", "cusText", '"Other; Music; 77"'),
            ("interests", None, "cusText", '""'),
            ("visit", "2024-03-15T23:59:59Z", "cusTime", '"2024-03-15 23:59:59.000Z"'),
            ("visit", "2024-03-15T23:59:59.5Z", "cusTime", '"2024-03-15 23:59:59.500Z"'),
            ("visit", "2024-03-15T23:59:59Z", "cusDate", '"2024-03-15"'),
            ("visit", "2024-03-15T23:59:59Z", "cusText", '"2024-03-15T23:59:59Z"'),
            ("visit", None, "cusTime", '""'),
            ("visit", None, "cusDate", '""'),
            ("visit", "yesterday", "cusTime", "cusTime: not a date"),
            ("birthdate", "1815-12-10", "cusDate", '"1815-12-10"'),
            ("birthdate", "1815-12-10", "cusTime", '"1815-12-10 00:00:00.000Z"'),
            ("birthdate", "1815-12-10", "cusText", '"1815-12-10"'),
            ("birthdate", "2023-02-29", "cusDate", "cusDate: not a date"),
            ("birthdate", None, "cusDate", '""'),
        ],
    )
    def test_value(self, column: str, value: Any, to: str, expected: str) -> None:
        assert becomes(column, value, to) == expected

    @pytest.mark.parametrize(
        ("column", "value", "to", "expected"),
        [
            ("gendercode", 2, "cusText", '"2"'),
            ("vip", True, "cusText", '"1"'),
            ("interests", "9,1", "cusText", '"9,1"'),
            ("gendercode", 2, "gender", '"female"'),  # an enumeration has names, not numbers
        ],
    )
    def test_value_with_codes(self, column: str, value: Any, to: str, expected: str) -> None:
        assert becomes(column, value, to, picklists="codes") == expected


class TestLength:
    def test_too_long_is_refused_without_the_text(self) -> None:
        done = mapping({"firstname": "firstName", "lastname": "cusShort"})
        fits, one, both = transformed(
            done,
            {"firstname": "0123456789", "lastname": "äöüßé"},
            {"firstname": "Wilhelmina-Josephine"},
            {"firstname": "Wilhelmina-Josephine", "lastname": "Müller"},
        )
        assert fits["validation_error"] is None
        assert one["validation_error"] == "firstName: 20 characters, at most 10"
        assert both["validation_error"] == "cusShort: 6 characters, at most 5; firstName: 20 characters, at most 10"

    def test_or_cut_if_the_field_is_configured_so(self) -> None:
        done = mapping({"lastname": {"to": "cusShort", "truncate": True}})
        rows = transformed(done, {"lastname": "Müllerin"}, {"lastname": "ab\u200d"}, {"lastname": "abc👩\u200d👧x"}, {})
        assert [payload(row)["cusShort"] for row in rows] == ["Mülle", "ab\u200d", "abc👩", ""]
        assert {row["validation_error"] for row in rows} == {None}


class TestRows:
    def test_the_columns_that_the_ledger_takes(self) -> None:
        done = mapping({"lastname": "cusText"})
        for rows in (frame(done), frame(done, {"lastname": "a"})):
            assert transform(rows, done).schema == {
                "id": pl.String,
                "payload": pl.String,
                "update_payload": pl.String,
                "hash": pl.Binary,
                "validation_error": pl.String,
            }

    def test_two_forms_where_one_does_not(self) -> None:
        done = mapping({"lastname": "cusText", "birthdate": {"to": "cusDate", "apply_updates": False}})
        [row] = transformed(done, {"lastname": "a", "birthdate": "1990-01-01"})
        assert payload(row) == {"cusDate": "1990-01-01", "cusText": "a", "externalId": row["id"]}
        assert json.loads(row["update_payload"]) == {"cusText": "a", "externalId": row["id"]}

    def test_a_table_without_updates_hashes_its_links_for_replays_only(self) -> None:
        links = [
            {"field": "companyid", "to": "cusContactLink", "table": "account"},
            {"field": "companyid", "to": "cusText", "table": "account", "style": "join"},
        ]
        once, always = (mapping({"lastname": "cusNote"}, links=links, apply_updates=one) for one in (False, True))
        assert [{link.apply_updates for link in one.link_specs} for one in (once, always)] == [{False}, {True}]
        rows = [{"contactid": ID, "_companyid_value": parent} for parent in (ID, None)]
        first, other = transformed(once, rows[0]) + transformed(once, rows[1])
        assert json.loads(first["update_payload"]) == {"externalId": ID}
        assert first["hash"] == other["hash"]
        assert first["insert_only_hash"] != other["insert_only_hash"]
        assert payload(first)["cusText"] == ID
        first, other = transformed(always, rows[0]) + transformed(always, rows[1])
        assert first["hash"] != other["hash"]
        assert "insert_only_hash" not in first

    @pytest.mark.parametrize(
        ("column", "value", "to", "replacements", "expected"),
        [
            ("lastname", None, "cusText", {}, None),
            ("lastname", "", "cusText", {}, None),
            ("lastname", None, "cusText", {None: "none"}, "none"),
            ("lastname", "secret", "cusText", {"secret": ""}, None),
            ("lastname", None, "gender", {}, None),
            ("lastname", "none", "gender", {}, f"gender: {NONE_FITS}"),
            ("score", None, "cusInteger", {}, None),
            ("score", 0, "cusInteger", {}, 0),
            ("balance", None, "cusFloat", {}, None),
            ("balance", "0.00", "cusFloat", {}, 0),
            ("vip", None, "cusBoolean", {}, None),
            ("vip", False, "cusBoolean", {}, False),
            ("visit", None, "cusTime", {}, None),
            ("gendercode", None, "gender", {}, None),
            ("description", None, "location.city", {}, None),
        ],
    )
    def test_an_empty_value_that_campaign_is_to_keep_is_left_out(
        self, column: str, value: Any, to: str, replacements: dict[Any, Any], expected: Any
    ) -> None:
        fields = {column: {"to": to, "keep_if_empty": True}}
        [row] = transformed(mapping(fields, replacements={column: replacements}), {column: value, "contactid": ID})
        sent = payload(row)
        assert sent.pop("externalId") == ID
        assert row["validation_error"] or sent == ({} if expected is None else {to: expected})
        assert row["validation_error"] == (expected if isinstance(expected, str) and ":" in expected else None)

    def test_of_a_row_that_stands_twice_the_last_one_counts(self) -> None:
        done = mapping({"lastname": "cusText"})
        rows = transformed(done, {"contactid": ID, "lastname": "old"}, {}, {"contactid": ID, "lastname": "new"})
        assert [payload(row)["cusText"] for row in rows] == ["", "new"]

    def test_the_hash_is_the_same_on_every_machine_and_version(self) -> None:
        """Stored hashes are compared with these: if this fails, FORM_VERSION has to go up, which re-sends everything
        once to every customer."""
        done = mapping({"lastname": "cusText", "balance": "cusFloat", "visit": "cusTime", "vip": "cusBoolean"})
        [row] = transformed(
            done, {"lastname": "Ó Briain\n", "balance": "1.50", "visit": "2024-03-15T10:20:30Z", "contactid": ID}
        )
        assert row["payload"] == (
            f'{{"cusBoolean":false,"cusText":"Ó Briain\\n","cusTime":"2024-03-15 10:20:30.000Z",'
            f'"externalId":"{ID}","cusFloat":1.5}}'
        )
        assert row["hash"].hex() == "696f44c4b35a0d670928e53bdf8779bc"


FIELDS: dict[str, Any] = {
    "lastname": "cusNote",
    "gendercode": "gender",
    "score": "cusInteger",
    "balance": "cusFloat",
    "vip": "cusBoolean",
    "visit": "cusTime",
    "ratio": "location.height",
    "description": "location.city",
    "firstname": {"to": "cusText", "apply_updates": False},
    "birthdate": {"to": "cusDate", "apply_updates": False},
}
TEXTS = st.none() | st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=20)
NUMBERS = st.none() | st.decimals(allow_nan=False, allow_infinity=False).map(str) | st.floats(
    allow_nan=False, allow_infinity=False
).map(repr)  # fmt: skip
ROWS = st.fixed_dictionaries(
    {
        "lastname": TEXTS,
        "firstname": TEXTS,
        "description": TEXTS,
        "gendercode": st.sampled_from([1, 2, None]),
        "score": st.none() | st.integers(-(2**31), 2**31 - 1),
        "balance": NUMBERS,
        "ratio": NUMBERS,
        "vip": st.none() | st.booleans(),
        "visit": st.none()
        | st.datetimes(datetime(1753, 1, 1), datetime(9999, 1, 1)).map(lambda t: t.strftime("%Y-%m-%dT%H:%M:%SZ")),  # noqa: DTZ001
        "birthdate": st.none() | st.dates().map(str),
    }
)
MANY = st.lists(ROWS, min_size=1, max_size=12)
DONE = mapping(FIELDS)


def sent(row: dict[str, Any]) -> dict[str, Any]:
    """What Campaign should hold of the fields that apply updates, said a second time in plain Python."""

    def number(text: str | None) -> Decimal:
        return Decimal(text or 0)

    visit = row["visit"] and datetime.fromisoformat(row["visit"]).astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.000Z")
    return {
        "cusNote": (row["lastname"] or "").replace("\0", "\ufffd"),
        "gender": {1: "male", 2: "female", None: "unknown"}[row["gendercode"]],
        "cusInteger": row["score"] or 0,
        "cusFloat": number(row["balance"]),
        "cusBoolean": bool(row["vip"]),
        "cusTime": visit or "",
        "location": {"height": number(row["ratio"]), "city": (row["description"] or "").replace("\0", "\ufffd")},
    }


class TestProperties:
    @given(MANY)
    def test_payloads_are_json_with_exactly_the_values_of_the_rows(self, rows: list[dict[str, Any]]) -> None:
        for row, done in zip(rows, transformed(DONE, *rows), strict=True):
            document = json.loads(done["update_payload"], parse_float=Decimal)
            assert document.pop("externalId") == done["id"]
            if done["validation_error"] is None:
                assert document == sent(row)
                assert json.loads(done["payload"], parse_float=Decimal) | {"externalId": 0} == {
                    **sent(row),
                    "externalId": 0,
                    "cusText": (row["firstname"] or "").replace("\0", "\ufffd"),
                    "cusDate": row["birthdate"] or "",
                }
            else:  # longer exponents than any number of D365's
                assert {one.split(": ")[1] for one in done["validation_error"].split("; ")} == {"not a number"}

    @given(MANY, st.randoms(use_true_random=False), st.integers(1, 5))
    def test_hashes_do_not_depend_on_order_or_chunks(self, rows: list[dict[str, Any]], random: Any, size: int) -> None:
        rows_frame = frame(DONE, *rows)
        whole = _hashes(transform(rows_frame, DONE))
        names = rows_frame.columns
        random.shuffle(names)
        mixed = rows_frame.select(names).sample(fraction=1, shuffle=True, seed=random.randrange(1000))
        chunks = [transform(mixed.slice(at, size), DONE) for at in range(0, mixed.height, size)]
        assert _hashes(pl.concat(chunks)) == whole
        assert _hashes(transform(mixed, mapping(dict(reversed(FIELDS.items()))))) == whole

    @given(ROWS, ROWS)
    def test_hashes_differ_exactly_where_payloads_differ(self, one: dict[str, Any], other: dict[str, Any]) -> None:
        rows = [row | {"contactid": ID} for row in (one, other)]
        [first], [second] = transformed(DONE, rows[0]), transformed(DONE, rows[1])
        if first["validation_error"] is None and second["validation_error"] is None:
            assert (first["hash"] == second["hash"]) == (sent(one) == sent(other))

    @given(MANY, st.sets(st.sampled_from(sorted(FIELDS))))
    def test_empty_values_that_campaign_is_to_keep_are_left_out_and_nothing_else(
        self, rows: list[dict[str, Any]], kept: set[str]
    ) -> None:
        fields = {column: {"to": to} if isinstance(to, str) else to for column, to in FIELDS.items()}
        done = mapping({column: to | {"keep_if_empty": column in kept} for column, to in fields.items()})
        hashes: dict[str, set[bytes]] = {}
        for row in ({**row, "contactid": ID} for row in rows):
            [all_of_it], [less] = transformed(DONE, row), transformed(done, row)
            empty = {fields[column]["to"] for column in kept if row[column] in (None, "")}
            for form in ("payload", "update_payload"):
                left = {path: value for path, value in _paths(all_of_it[form]).items() if path not in empty}
                assert {"location.none": ""} | _paths(less[form]) == {"location.none": ""} | left
            assert less["validation_error"] == all_of_it["validation_error"]
            hashes.setdefault(json.dumps(_paths(less["update_payload"])), set()).add(less["hash"])
        assert all(len(of_one) == 1 for of_one in hashes.values())
        assert len(hashes) == len(set[bytes]().union(*hashes.values()))

    @given(ROWS, TEXTS, st.none() | st.dates().map(str))
    def test_fields_without_updates_never_change_the_hash(self, row: dict[str, Any], text: Any, day: Any) -> None:
        changed = row | {"firstname": text, "birthdate": day}
        [before], [after] = transformed(DONE, row), transformed(DONE, changed)
        assert before["hash"] == after["hash"]
        assert before["update_payload"] == after["update_payload"]

    @given(ROWS, st.sampled_from(["modifiedon", "contactid"]))
    def test_the_id_is_part_of_the_content_and_the_time_is_not(self, row: dict[str, Any], column: str) -> None:
        other = {"modifiedon": "2025-01-01T00:00:00Z", "contactid": ID.replace("a", "b")}[column]
        [before], [after] = transformed(DONE, row), transformed(DONE, row | {column: other})
        assert (before["hash"] == after["hash"]) == (column == "modifiedon")


def _paths(text: str) -> dict[str, str]:
    """The members of a payload by path; a group without members would be one of them."""
    members = json.loads(text, parse_float=str, parse_int=str)
    group = members.pop("location", {"none": ""})
    return members | ({f"location.{name}": value for name, value in group.items()} or {"location": group})


def _hashes(rows: pl.DataFrame) -> dict[str, bytes]:
    return dict(rows.select("id", "hash").iter_rows())
