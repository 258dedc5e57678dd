"""What Campaign's answers mean, and that no personal data is kept of its reasons.

The texts are those of docs/dev/references/campaign.md 5, Errors.
"""

import json
from datetime import UTC, datetime, timedelta, timezone

import httpx
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sync_assets.campaign.dialect import Kind, Operation, may_be_resent, moment, response_outcome, words
from sync_assets.http.redaction import REASON_LENGTH, redact
from sync_assets.http.transport import Response
from sync_assets.sandbox.campaign.values import time_text

KEY = "0f8fad5b-d9cb-469f-a165-70867728950e"
PARENT = "7c9e6679-7425-40de-944b-e07fc1f90ae7"
RST = "RST-360011 An error has occurred - please contact your administrator."
DUPLICATE = (
    "A 'Profile' with the same key 'ada@example.com' already exists.\nPGS-220000 PostgreSQL error: ERROR:  "
    'duplicate key value violates unique constraint "nmsrecipient_email" '
    "DETAIL:  Key (semail)=(ada@example.com) already exists."
)
NOT_FOUND = (
    "{rst}\nUnable to find document with path '{path}' from key '{key}:0' "
    "(document with schema '{path}' and name '{key}')"
)


def answer(status: int, body: str = "", content_type: str = "text/plain") -> Response:
    return Response(status, httpx.Headers({"content-type": content_type}), body.encode())


V8 = "An error has occurred - please contact your administrator."
V8_NOT_FOUND = (
    "Unable to find document with path 'Profile' from key '{0}' (document with schema 'profile' and name '{0}')"
)
V8_NO_PKEY = "Unable to decrypt PKey. (PKey={0})"


def not_found(key: str, path: str = "Profile") -> Response:
    return answer(404, NOT_FOUND.format(rst=RST, path=path, key=key))


@pytest.mark.parametrize(
    ("operation", "status", "body"),
    [
        ("insert", 201, '{"PKey":"@x","firstName":"Ada"}'),
        ("update", 200, '{"PKey":"@x","href":"https://x"}'),
        ("delete", 200, ""),
        ("delete", 204, ""),
    ],
)
def test_done(operation: Operation, status: int, body: str):
    assert response_outcome(answer(status, body), operation).kind == "done"


@pytest.mark.parametrize("operation", ["insert", "update", "delete", "read"])
@pytest.mark.parametrize(
    "body",
    [
        "<html>Please log in</html>",
        '{"message":"maintenance"}',
        '{"error":"x"}',
        '{"code":"503","message":"x"}',
        '{"PKey":"@ab',
        '{"PKey":""}',
        '{"PKey":7}',
        "null",
        "[]",
        '"@ab"',
    ],
)
def test_a_2xx_that_is_not_the_engines_own_answer_proves_nothing(operation: Operation, body: str):
    proves = operation == "read" and "PKey" in body and body.endswith("}")  # a record is looked at more closely
    assert response_outcome(answer(200, body), operation).kind == ("done" if proves else "unproven")


@pytest.mark.parametrize(
    "body",
    [
        DUPLICATE,
        "A 'Service' with the same key 'SVC4' already exists.",
        f"{RST}\nA 'Profile' with the same key 'x' already exists.",
        "PGS-220000 PostgreSQL error: ERROR:  duplicate key value violates unique constraint",
    ],
)
def test_a_duplicate_is_a_question_for_an_insert_and_a_refusal_for_an_update(body: str):
    assert response_outcome(answer(500, body), "insert", KEY).kind == "exists_already"
    assert response_outcome(answer(500, body), "update", KEY).kind == "refused"


def test_missing_is_only_what_misses_our_own_key():
    assert response_outcome(not_found(KEY), "update", KEY).kind == "missing"
    assert response_outcome(not_found(KEY.upper()), "update", KEY).kind == "missing"
    assert response_outcome(not_found(KEY), "delete", KEY).kind == "missing"
    assert response_outcome(not_found(PARENT), "update", KEY).kind == "refused"  # the link's target
    assert response_outcome(not_found(PARENT), "insert").kind == "refused"


@pytest.mark.parametrize("text", [V8_NOT_FOUND, V8_NO_PKEY])
def test_missing_is_the_same_in_campaign_v8(text: str):
    assert response_outcome(answer(404, text.format(KEY)), "update", KEY).kind == "missing"
    assert response_outcome(answer(404, text.format(PARENT)), "update", KEY).kind == "refused"  # the link's target
    assert response_outcome(answer(404, text.format(PARENT)), "insert").kind == "refused"


def test_an_unpublished_resource_is_not_taken_for_a_missing_record():
    """Else a delete would count as done, and an update as an insert."""
    for operation in ("insert", "update", "delete"):
        assert response_outcome(answer(404, f"{RST} Error rc=-2003"), operation, KEY).kind == "transient"


@pytest.mark.parametrize(
    "body",
    [
        f"{RST}\nRST-360012 Inconsistent operation on resource 'service' - Cannot update key 'SVC3' to 'SVC4'.",
        "'O5iRp40EGA' attribute unknown (see definition of 'Profiles (nms:recipient)' schema). XTK-170036 Unable to "
        "parse expression '@id = @O5iRp40EGA'.",
        f"{RST}\nThe value 'x' is not valid for the 'nms:recipient:gender' enumeration of the '@gender' field",
        "Cannot update the 'age' property that is read-only\n'age' property is not valid for the 'profile' resource.",
        "'x' property is not valid for the 'profile' resource",
        f"{RST}\n'@gibberish' is not a valid constant.",
        "PGS-220000 PostgreSQL error: ERROR:  value too long for type character varying(30)",
    ],
)
def test_a_lasting_error_is_a_rejection(body: str):
    assert response_outcome(answer(500, body), "insert", KEY).kind == "refused"
    assert response_outcome(answer(400, body), "update", KEY).kind == "refused"


@pytest.mark.parametrize(
    "body", [RST, V8, "PGS-220000 PostgreSQL error: ERROR:  deadlock detected", "words that nobody has seen before", ""]
)
def test_a_passing_or_unknown_error_is_tried_again(body: str):
    assert response_outcome(answer(500, body), "insert").kind == "transient"


@pytest.mark.parametrize(
    ("status", "code", "message"),
    [
        (403, "403000", "Api Key is required"),
        (403, "403003", "Api Key is invalid"),
        (403, "403010", "Oauth token is missing."),
        (403, "403023", "Profile is not valid"),
        (401, "401013", "Oauth token is not valid"),
    ],
)
def test_a_refusal_of_the_gateway_is_about_us_not_about_the_record(status: int, code: str, message: str):
    """'Profile is not valid' reads like a refused record, but it is the product profile of the credential."""
    result = response_outcome(
        answer(status, json.dumps({"error_code": code, "message": message}), "application/json"), "insert"
    )
    assert (result.kind, result.reason) == ("denied", f"{code} {message}")


@pytest.mark.parametrize(
    ("status", "body", "resent"),
    [
        (429, '{"error_code":"429050","message":"Too many requests"}', True),
        (503, '{"error_code":"503071","message":"Service unavailable"}', True),
        (502, "", True),
        (504, "", True),
        (500, '{"code":500,"message":"Oops. Something went wrong. Check your URI and try again."}', True),
        (400, '{"code":400,"message":"Oops. Something went wrong. Check your URI and try again."}', True),
        (500, RST, False),
        (404, f"{RST} Error rc=-2003", False),
        (403, '{"error_code":"403000","message":"Api Key is required"}', False),
    ],
)
def test_requests_that_the_client_repeats(status: int, body: str, resent: bool):
    assert may_be_resent(status, body.encode()) is resent


def test_a_quoted_error_is_one_line_without_its_empty_opening():
    assert words(answer(500, f"{RST}\n'x' property is not valid for the 'profile' resource.\n")) == (
        "'x' property is not valid for the 'profile' resource."
    )
    assert words(answer(500, RST)) == RST
    assert words(answer(500, f"{V8}\nanything")) == "anything"
    assert words(answer(500, V8)) == V8
    assert words(answer(500)) == "status 500 without a text"


@given(
    st.sampled_from([200, 201, 204, 301, 400, 401, 403, 404, 409, 429, 500, 502, 503, 504]),
    st.one_of(
        st.text(max_size=300), st.sampled_from(['{"message":null}', "{", "[]", '{"error_code":{}}', "null", "\x00"])
    ),
    st.sampled_from(["insert", "update", "delete", "read"]),
)
def test_every_answer_has_a_verdict(status: int, body: str, operation: Operation):
    kinds: set[Kind] = {"done", "exists_already", "missing", "refused", "transient", "denied", "unproven"}
    assert response_outcome(answer(status, body), operation, KEY).kind in kinds
    assert "\n" not in response_outcome(answer(status, body), operation, KEY).reason


def payload(**attributes: object) -> str:
    return json.dumps({"externalId": KEY, **attributes}, ensure_ascii=False)


@pytest.mark.parametrize(
    ("value", "end"), [("Ms", "'nms:recipient:gender' enumeration of the '@gender' field"), ("a", "'@gender' field")]
)
def test_attribute_and_cause_stay_and_the_value_goes_but_no_letters_of_other_words(value: str, end: str):
    assert redact(f"The value '{value}' is not valid for the {end}", payload(gender=value)) == (
        f"The value '…' is not valid for the {end}"
    )


@pytest.mark.parametrize(
    "reason",
    [
        "Cannot update the 'creationDate' property that is read-only",
        "'cusNone' property is not valid for the 'cusOrder' resource.",
        "Unable to find document with path 'Profile' (document with schema 'profile')",
        'duplicate key value violates unique constraint "nmsrecipient_externalid" DETAIL: Key (sext)=(…) already',
        "A 'Profile' with the same key '…' already exists.",
        "The value 7 of 'gendercode' on record of type 'contact' is outside the valid range",
    ],
)
def test_what_names_the_data_model_stays(reason: str) -> None:
    assert redact(reason, None) == reason


def test_the_key_details_of_the_database_go():
    text = redact(DUPLICATE.replace("\n", " "), payload(email="ada@example.com"))
    assert "(semail)=(…)" in text
    assert "already exists" in text
    assert "ada" not in text


@pytest.mark.parametrize(
    ("reason", "attributes", "gone"),
    [
        ("The value 'O'Brien' is not valid", {"lastName": "O'Brien"}, "Brien"),
        ("The value 'BYRON' is not valid", {"lastName": "Byron"}, "BYRON"),
        ("The value 'Augusta Ada' is not valid", {"firstName": "Augusta Ada King"}, "Augusta"),
        ("The value 'Augusta' is not valid", {"firstName": "Augusta Ada King"}, "Augusta"),
        ("値「山田」は無効です: 山田様", {"lastName": "山田"}, "山田"),
        ("The value '42.50' is not valid", {"cusBalance": 42.5}, "42.5"),
        ("value 17 is out of range", {"cusScore": 17}, "17"),
        ("bad street 'Main &amp; Side' in address", {"location": {"address1": "Main & Side"}}, "Side"),
        ("bad street Main & Side", {"location": {"address1": "Main &amp; Side"}}, "Side"),
        ("call +49 (30) 1234-5678 now", {}, "1234"),
        ("mail to someone.else@example.org", {}, "someone"),
        ("Key (sfirst, slast)=(Grace, Hopper) already exists", {}, "Hopper"),
        ("DETAIL: Failing row contains (12, Grace, Hopper, 1906", {}, "Grace"),
        ("The value 'Grace B. Hopper' is not valid", {}, "Hopper"),  # reformatted, so unlike any value
        ("line\nwith 'Ada\tByron'", {"firstName": "Ada\tByron"}, "Byron"),
        ("A 'Profile' with the same key 'Hopper' already exists", {}, "Hopper"),  # another record's
        ("The value 'Lovelace' of 'lastName' is that of 'Hopper'", {}, "Hopper"),
        ("Cannot update key 'Hopper' to 'Lovelace'", {}, "Hopper"),
        ("DETAIL: Token Hopper is invalid. CONTEXT: JSON data, line 1", {}, "Hopper"),
        ("Key (slastname)=(Byron) already exists. CONTEXT: row Hopper", {}, "Hopper"),
        ("Zoë Müller is bad", {"firstName": "ZOË", "lastName": "müller"}, "ller"),
    ],
)
def test_personal_data_goes(reason: str, attributes: dict[str, object], gone: str):
    assert gone.casefold() not in redact(reason, payload(**attributes)).casefold()


@given(
    st.text(min_size=1, max_size=40),
    st.sampled_from(
        [
            "The value '{}' is not valid for the '@lastName' field",
            "A 'Profile' with the same key '{}' already exists.",
            'value "{}" too long',
            "{}",
            "Key (slastname)=({}) already exists.",
            "see {}: not valid",
        ]
    ),
)
def test_no_value_of_the_payload_is_ever_kept(value: str, template: str):
    whole = " ".join("".join(c if c.isprintable() else " " for c in value).split())
    assume(len(whole) > 4)
    assume(whole.casefold() not in template.casefold())
    assert whole.casefold() not in redact(template.format(value), payload(lastName=value)).casefold()


@given(st.text(max_size=400), st.one_of(st.none(), st.text(max_size=50)))
def test_redaction_copes_with_anything(reason: str, text: str | None):
    assert len(redact(reason, text)) <= REASON_LENGTH
    assert len(redact(reason, json.dumps({"a": text, "b": [1, 2.5, True, {"c": text}]}))) <= REASON_LENGTH


@given(st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30))])))
def test_times_of_campaign_are_read_to_the_millisecond_in_utc(at: datetime) -> None:
    if not datetime(2, 1, 1, tzinfo=UTC) <= at <= datetime(9998, 1, 1, tzinfo=UTC):
        return
    read = moment(time_text(at))
    assert read
    assert read.tzinfo is UTC
    assert timedelta(0) <= at - read < timedelta(milliseconds=1)


@pytest.mark.parametrize(
    "value", ["", None, "soon", "2026-13-01 00:00:00.000Z", 0, True, {"href": "x"}, "0001-01-01 00:00:00.000+02:00"]
)
def test_a_text_that_is_no_time_or_beyond_the_calendar_is_none(value: object) -> None:
    assert moment(value) is None
