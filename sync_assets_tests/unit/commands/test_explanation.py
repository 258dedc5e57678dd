"""An explanation fits a terminal of 80 columns: no id, time or attribute is broken. Values are shown by their shape."""

import re
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from sync_assets.cli.explain import show
from sync_assets.commands.explanation import ExplainDocument, RecordOfTable, page
from sync_assets.commands.terminal import print_parts
from sync_assets.commands.values import value_shape

ID, PARENT, RUN = (f"5c0a1f00-0000-4000-8000-{n:012d}" for n in range(3))
AT = "2026-11-25T03:32:06Z"
ATTRIBUTE: dict[str, Any] = {
    "attribute": "cusPreferredLanguage",
    "column": "new_language",
    "conversion": "text",
    **dict.fromkeys(("apply_updates", "refused_in_updates", "kept", "replaced", "equal"), False),
    "cut_from": 300,
    "d365": "text, 300 characters",
    "mapped": "text, 255 characters",
    "campaign": "text, 12 characters",
}
ONE: dict[str, Any] = {
    "table": "new_order",
    "resource": "cusOrder",
    "in_step": False,
    "reasons": ["Campaign's record differs in cusPreferredLanguage."],
    "d365": {"found": True, "modified_at": AT, "form": f"https://org/main.aspx?id={ID}"},
    "filter": {
        "passes": True,
        "match": "all",
        "delete_filtered_out": False,
        "rules": [{"field": "statecode", "operator": "eq", "values": ["number"], "met": True}],
    },
    "validation_error": None,
    "attributes": [ATTRIBUTE],
    "ledger": {
        **dict.fromkeys(("waiting_for", "held_since", "next_request", "acknowledged_at", "not_before")),
        **dict.fromkeys(("unknown_until", "leased_until")),
        "state": "rejected",
        "reason": "a | b <c>",
        "since": AT,
        "out_of_scope": False,
        "changed_at": AT,
        "attempts": 1,
        "loading": False,
        "last_outcome": "rejected",
    },
    "links": [
        {
            "attribute": "cusContactLink",
            "table": "contact",
            "id": PARENT,
            "required": True,
            "state": "rejected",
            "reason": "RST-360011",
            "acknowledged": False,
            "campaign": None,
            "equal": False,
        }
    ],
    "children": {
        "states": {"waiting": 1},
        "first": [{"table": "new_orderline", "id": PARENT, "state": "waiting", "reason": None}],
    },
    "campaign": {"presence": "found", "last_modified": AT, "reason": None},
    "differs": ["cusPreferredLanguage"],
    "problem": None,
    "opt_outs": [],
    "decisions": [],
    "runs": [{"run_id": RUN, "job": "sync", "status": "success", "started_at": AT, "ended_at": AT, "changed_at": [AT]}],
}


def document(**changes: Any) -> ExplainDocument:
    """Return a document of one table. changes: members of the record."""
    record = msgspec.convert(ONE | changes, RecordOfTable)
    return ExplainDocument(ID, False, "masked", {record.table: record}, {})


def test_ids_times_and_attributes_are_not_broken(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")
    print_parts(show(document()))
    text = capsys.readouterr().out
    for whole in (ID, PARENT, RUN, AT, "cusPreferredLanguage", "1 attempt since", "differs: none of ours"):
        assert whole in text
    assert text.splitlines()[0] == f"new_order {ID} -> cusOrder: not in step"


def test_the_page_is_markdown_whose_tables_no_text_breaks() -> None:
    text = page(document())
    assert text.startswith(f"## new_order {ID} -> cusOrder: not in step\n")
    assert (
        "| cusPreferredLanguage | text, 300 characters | text, 255 characters | differs: text, 12 characters |" in text
    )
    assert "- reason: a \\| b <\u200bc>" in text


def test_the_page_links_to_the_rows_form_and_no_text_of_campaign_is_a_link() -> None:
    ledger = {**ONE["ledger"], "reason": "![x](https://evil.example/p.png) [Sign in](https://evil.example)"}
    html = MarkdownIt("commonmark").render(page(document(ledger=ledger)))
    assert re.findall("<(?:a|img) [^>]+>", html) == [f'<a href="https://org/main.aspx?id={ID}">']


@pytest.mark.parametrize(
    ("value", "shape"),
    [
        (None, "empty"),
        ("", "empty"),
        (True, "boolean"),
        (False, "boolean"),
        (0, "number"),
        (12.5, "number"),
        ("-12.50", "number"),
        ("1E-7", "number"),
        ("1815-12-10", "date"),
        ("2024-03-15T23:59:59Z", "time"),
        ("2024-03-15 23:59:59.000Z", "time"),
        ("ada@example.com", "e-mail, 15 characters"),
        ("Ada", "text, 3 characters"),
        ("A", "text, 1 character"),
        ("+49 151 1234567", "text, 15 characters"),
        ({"PKey": "@1"}, "other"),
    ],
)
def test_shape(value: Any, shape: str) -> None:
    assert value_shape(value) == shape


@given(st.text(min_size=1))
def test_two_texts_of_the_same_kind_and_length_have_the_same_shape(text: str) -> None:
    assert value_shape(f"x{text}") == value_shape("x" * (len(text) + 1)) or "@" in text
