"""The report of `certify` as people see it."""

from __future__ import annotations

from typing import Any

import pytest

from sync_assets.commands.certify import show_certification


def row(outcome: str, about: str = "profile", **more: str) -> dict[str, Any]:
    shown = {"system": "Campaign", "premise": "GET by the key", "found": "the record is found", "program": "One call."}
    return {**shown, "about": about, "outcome": outcome, **more}


def test_a_table_for_each_resource_with_counts(capsys: pytest.CaptureFixture[str]) -> None:
    premises = [
        row("workable"),
        row("not workable", premise="empty values", found="refused: '[/x]' is not valid"),
        row("not tried", about=""),
    ]
    calls = {"insert": 1, "update": 2, "delete": 3, "read": 4}
    show_certification({"premises": premises, "engine_calls": calls})
    output = capsys.readouterr().out
    assert "Campaign: profile" in output
    assert "not workable: refused: '[/x]' is not valid" in " ".join(output.split())
    assert "1 workable, 1 not workable, 1 not tried; 10 engine calls" in output
