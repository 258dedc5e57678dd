"""What people read fits a terminal of 80 columns: no time, id or number is broken."""

from __future__ import annotations

from typing import Any

import pytest

from sync_assets.cli.command import print_document
from sync_assets.cli.record_lists import show_rejects
from sync_assets.cli.tables import show_diagnosis, show_status
from sync_assets.runtime.heartbeat import REMEDY

WIDTH = 80
AT = "2026-11-25T03:32:06Z"
IDS = [f"5c0a1f00-0000-4000-8000-{n:012d}" for n in range(3)]
LONG = (
    "Campaign refused it: RST-360011 An error has occurred: the value of the attribute 'cusJobTitle' does not fit its "
    "enumeration, and nobody can say why it should"
)


@pytest.fixture(autouse=True)
def _narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(WIDTH))
    monkeypatch.setenv("NO_COLOR", "1")


def table(resource: str, complete: bool = True, at: str | None = AT) -> dict[str, Any]:
    counts = {
        "pending": 30_000_000,
        "waiting": 1_200_000,
        "failed": 12_345,
        "held": 12,
        "orphaned": 0,
        "synced": 30_000_000,
    }
    feed = {"position_saved_at": at, "polled_at": at, "complete": complete}
    about = {"waiting_for": {}, "deletes_held_back": 0, "deletes_following": {}, "maintenance_since": None}
    return {"resource": resource, **counts, **about, "feed": feed}


def status(**tables: dict[str, Any]) -> dict[str, Any]:
    calls = {"insert": 0, "update": 0, "delete": 0, "read": 0}
    return {"tables": tables, "engine_calls": calls, "opt_out": {"direction": "disabled"}}


def read(capsys: pytest.CaptureFixture[str]) -> list[str]:
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= WIDTH, lines
    return lines


def test_status_has_a_line_for_each_table_and_one_for_its_feed(capsys: pytest.CaptureFixture[str]) -> None:
    show_status(status(contact=table("profile"), new_orderline=table("cusOrderLine", complete=False)))
    lines = read(capsys)
    [contact, feed] = [line for line in lines if line.startswith("contact")]
    assert contact.split() == ["contact", "profile", "30,000,000", "1,200,000", "12,345", "12", "0", "30,000,000"]
    assert feed.split() == ["contact", AT, AT]
    assert [line.split("  ")[-1] for line in lines if line.startswith("new_orderline")][-1] == "first read goes on"


def test_status_breaks_long_names_rather_than_times_and_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    show_status(status(new_customerpreferenceofthegroup=table("cusCustomerPreferenceOfTheGroup")))
    text = "\n".join(read(capsys))
    assert text.count(AT) == 2
    assert text.count("30,000,000") == 2


def test_status_says_what_was_never_captured(capsys: pytest.CaptureFixture[str]) -> None:
    show_status(status(contact=table("profile", complete=False, at=None)))
    assert "never captured" in "\n".join(read(capsys))


def test_status_names_a_killed_run_and_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    message = f"The process of run 0123abcd was killed. {REMEDY}"
    killed = {"run_id": "0123abcd", "last_sign_of_life": AT, "message": message}
    show_status(status(contact=table("profile")) | {"killed_runs": [killed]})
    assert message in capsys.readouterr().out.splitlines()


def test_status_tells_what_the_last_certification_found_not_workable(capsys: pytest.CaptureFixture[str]) -> None:
    wrong = {"system": "Campaign", "about": "profile", "premise": "empty values", "found": "the former value is kept"}
    for last, line in (
        (None, "never certified: `sync-assets certify` does that on a stage tenant"),
        ({"at": AT, "version": None, "not_workable": []}, f"certified {AT}: all workable"),
        (
            {"at": AT, "version": "1.2", "not_workable": [wrong]},
            f"certified {AT} by version 1.2: not workable: profile: empty values (the former value is kept)",
        ),
    ):
        show_status(status(contact=table("profile")) | {"certification": last})
        assert line in capsys.readouterr().out.splitlines()


def test_rejects_stand_below_the_reason_that_they_share(capsys: pytest.CaptureFixture[str]) -> None:
    rejects = [
        {"table": name, "id": id_, "since": AT, "attempts": 12, "reason": reason}
        for name, id_, reason in (
            ("contact", IDS[0], LONG),
            ("new_orderline", IDS[1], "no"),
            ("contact", IDS[2], LONG),
        )
    ]
    show_rejects({"rejects": rejects})
    lines = read(capsys)
    assert [line.split() for line in lines if "5c0a1f00" in line] == [
        [id_, AT, "12"] for id_ in (IDS[0], IDS[2], IDS[1])
    ]
    told = " ".join(line.strip() for line in lines)
    assert told.count(f"contact: {LONG}") == 1
    assert "new_orderline: no" in told


def test_brackets_in_a_reason_are_text(capsys: pytest.CaptureFixture[str]) -> None:
    show_rejects({"rejects": [{"table": "t", "id": IDS[0], "since": AT, "attempts": 1, "reason": "a [red]b[/] c"}]})
    assert "t: a [red]b[/] c" in read(capsys)


@pytest.mark.parametrize("as_json", [False, True])
def test_a_server_s_words_are_neither_markup_nor_commands_of_the_terminal(
    as_json: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    reason = "[bold]no[/] [/link] \x1b[2J\x9b31m\u202eevil"
    print_document(
        {"rejects": [{"table": "contact", "reason": reason, "id": "1", "since": AT, "attempts": 1}]},
        as_json,
        show_rejects,
    )
    print_document({"checks": [{"outcome": "fail", "what": "Campaign", "message": reason}]}, as_json, show_diagnosis)
    output = capsys.readouterr().out
    assert output.count("[bold]no[/] [/link]") == 2
    assert output.replace("\n", "").isprintable()
