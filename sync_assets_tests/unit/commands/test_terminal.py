"""What people read: tables in which no time, id, number or name is cut, on terminals of any width and in pipes."""

import inspect
import io
import re
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace
from rich.console import Console
from rich.table import Table

import sync_assets
from sync_assets.checks.rules import FindingDocument
from sync_assets.cli import explain
from sync_assets.commands import audit, certify, doctor, estimate, plan, rebuild, rejects, terminal
from sync_assets.commands import status as status_command
from sync_assets.commands.plan_document import PlanDocument, PlannedChange
from sync_assets.commands.plan_text import OPT_OUTS_DUE, PLANNED
from sync_assets.commands.status import COLUMNS, KilledRunStatus, OptOutStatus, Status, TableStatus
from sync_assets.commands.step_document import OptOutCounts, PlannedRecords, Step, StepCounts, show_step
from sync_assets.commands.terminal import print_document, print_parts, progress, progress_text
from sync_assets.ledger.report_values import Reject, Retried
from sync_assets.runtime.progress import Progress
from sync_assets.runtime.workers import REMEDY
from sync_assets_tests.unit.commands.test_explanation import ATTRIBUTE
from sync_assets_tests.unit.commands.test_explanation import document as explained
from sync_assets_tests.unit.commands.test_migrate import planned_table

PACKAGE = Path(sync_assets.__file__).parent
WIDTH = 80
AT = "2026-11-25T03:32:06Z"
SINCE = datetime.fromisoformat(AT)
IDS = [f"5c0a1f00-0000-4000-8000-{n:012d}" for n in range(3)]
LONG = (
    "Campaign refused it: RST-360011 An error has occurred: the value of the attribute 'cusJobTitle' does not fit its "
    "enumeration, and nobody can say why it should"
)


@pytest.fixture(autouse=True)
def _narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal_of(WIDTH, monkeypatch)


def terminal_of(width: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Rich print for a terminal without colours of so many columns; None: a pipe."""
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("COLUMNS", str(width or WIDTH))
    monkeypatch.setenv("TTY_COMPATIBLE", "1" if width else "0")
    monkeypatch.setenv("FORCE_COLOR", "1" if width else "")


def table(resource: str, complete: bool = True, at: str | None = AT, **counts: int) -> TableStatus:
    values = dict.fromkeys(COLUMNS, 0) | {"pending": 30_000_000, "waiting": 1_200_000, "rejected": 12_345, "held": 12}
    values |= (
        dict.fromkeys(("excluded", "unconfirmed", "deletes_held_back", "loading"), 0) | {"synced": 30_000_000} | counts
    )
    nothing = {key: {} for key in ("waiting_for", "kept_values", "deletes_following", "deletes_orphaning")}
    nothing |= {"unconfirmed_until": None, "retried": None, "refused_in_updates": [], "maintenance_since": None}
    nothing |= {"updated_by_file": [], "in_step_but_for": {"records": 0, "not_known": 0}}
    nothing |= {"comparison_due": False, "load": None}
    feed = {"position_saved_at": at, "polled_at": at, "complete": complete}
    nothing |= {"loading": 0, "load": None}
    return msgspec.convert({"resource": resource, **values, **nothing, "feed": feed}, TableStatus)


def status(*killed: KilledRunStatus, **tables: TableStatus) -> Status:
    calls = {"insert": 0, "update": 0, "delete": 0, "read": 0}
    opt_out = OptOutStatus("disabled", 0, 0, 0, 0, None, 0, 0, 0, 0, None, 0, 0)
    return Status(tables, calls, opt_out, list(killed), {})


def rejected(*records: Reject) -> rejects.RejectsDocument:
    return rejects.RejectsDocument([*records])


def read(capsys: pytest.CaptureFixture[str]) -> list[str]:
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= WIDTH, lines
    return lines


@pytest.mark.parametrize("width", [None, 88])
def test_status_has_a_line_for_each_table_and_one_for_its_feed(
    width: int | None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal_of(width, monkeypatch)
    print_parts(
        status_command.show(status(contact=table("profile"), new_orderline=table("cusOrderLine", complete=False)))
    )
    lines = capsys.readouterr().out.splitlines()
    [contact, feed] = [line for line in lines if line.startswith("contact")]
    assert contact.split() == ["contact", "profile", "30,000,000", "1,200,000", "12,345", "12", "0", "30,000,000"]
    assert feed.split() == ["contact", AT, AT]
    assert [line.split("  ")[-1] for line in lines if line.startswith("new_orderline")][-1] == "first read goes on"


def test_status_names_tables_that_were_never_captured(capsys: pytest.CaptureFixture[str]) -> None:
    print_parts(status_command.show(status(contact=table("profile", complete=False, at=None))))
    assert "never captured" in "\n".join(read(capsys))


def test_status_names_a_killed_run_and_the_remedy(capsys: pytest.CaptureFixture[str]) -> None:
    message = f"The process of run 0123abcd was killed. {REMEDY}"
    killed = KilledRunStatus("0123abcd", datetime.fromisoformat(AT), message)
    print_parts(status_command.show(status(killed, contact=table("profile"))))
    assert message in capsys.readouterr().out.splitlines()


def test_rejects_stand_below_the_reason_that_they_share(capsys: pytest.CaptureFixture[str]) -> None:
    named = (("contact", IDS[0], LONG), ("new_orderline", IDS[1], "no"), ("contact", IDS[2], LONG))
    print_parts(rejects.show(rejected(*(Reject(table, id_, why, SINCE, 12, True) for table, id_, why in named))))
    lines = read(capsys)
    assert [line.split() for line in lines if "5c0a1f00" in line] == [
        [id_, AT, "12"] for id_ in (IDS[0], IDS[2], IDS[1])
    ]
    result = " ".join(line.strip() for line in lines)
    assert result.count(f"contact: {LONG}") == 1
    assert "new_orderline: no" in result


def test_brackets_in_a_reason_are_text(capsys: pytest.CaptureFixture[str]) -> None:
    print_parts(rejects.show(rejected(Reject("t", IDS[0], "a [red]b[/] c", SINCE, 1, True))))
    assert "t: a [red]b[/] c" in read(capsys)


@pytest.mark.parametrize("as_json", [False, True])
def test_a_server_s_words_are_neither_markup_nor_commands_of_the_terminal(
    as_json: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    reason = "[bold]no[/] [/link] \x1b[2J\x9b31m\u202eevil"
    print_document(rejected(Reject("contact", "1", reason, SINCE, 1, True)), as_json, rejects.show)
    checks = doctor.DoctorDocument([FindingDocument("fail", "Campaign", reason, "")])
    print_document(checks, as_json, doctor.show)
    retried = replace(table("profile"), retried=Retried(1, None, None, reason))
    print_document(status(contact=retried), as_json, status_command.show)
    output = capsys.readouterr().out
    assert output.count("[bold]no[/] [/link]") == 3
    assert output.replace("\n", "").isprintable()


def premise(outcome: str, about: str = "profile", **more: str) -> dict[str, Any]:
    shown = {"system": "Campaign", "premise": "GET by the key", "found": "the record is found", "program": "One call."}
    return {**shown, "about": about, "outcome": outcome, **more}


def test_a_table_for_each_resource_with_counts(capsys: pytest.CaptureFixture[str]) -> None:
    premises = [
        premise("workable"),
        premise("not workable", premise="empty values", found="refused: '[/x]' is not valid"),
        premise("not tried", about=""),
    ]
    calls = {"insert": 1, "update": 2, "delete": 3, "read": 4}
    print_parts(certify.show({"premises": premises, "engine_calls": calls}))
    output = capsys.readouterr().out
    assert "Campaign: profile" in output
    assert "not workable: refused: '[/x]' is not valid" in " ".join(output.split())
    assert "1 workable, 1 not workable, 1 not tried; 10 engine calls" in output


NUMBER = 3_456_789
NAME = "new_customerpreferenceofthegroup"
SOME = ("missing", "hidden", "several", "without_row")
REBUILT = rebuild.RebuiltTable.__struct_fields__
CALLS: dict[str, int] = dict.fromkeys(("insert", "update", "delete", "read"), NUMBER)
CHANGES = [
    PlannedChange(IDS[0], "update", [NAME, "cusAmount"]),
    PlannedChange(IDS[1], "reject", reason=f"{NAME}: {NUMBER} characters, at most 50"),
]
PLAN = planned_table(**dict.fromkeys(PLANNED, NUMBER), engine_calls=CALLS, changes=CHANGES, changes_not_listed=NUMBER)
CHANGED = {NAME: PlannedRecords(*[NUMBER] * 7)}
STEP: dict[str, Any] = {"number": 4, "step": "changes", "title": "t", "done_at": None}
LOAD = {"engine_calls": CALLS, "total": NUMBER, "bound": "at least", "hours": 1.0, "days": None}
MONTH = dict.fromkeys(("inserts", "updates", "deletes"), NUMBER) | {
    "at_least": True,
    "engine_calls": CALLS,
    "total": NUMBER,
}
ROWS = {"number": NUMBER, "at_least": True}
RECORD = {
    "attributes": [ATTRIBUTE | {"attribute": NAME, "d365": NUMBER, "mapped": IDS[1], "campaign": LONG, "column": NAME}],
    **dict.fromkeys(("reasons", "links", "opt_outs", "decisions", "runs"), ()),
    "table": NAME,
    "resource": "cusPreference",
    **dict.fromkeys(("filter", "ledger")),
}

TABLES: dict[str, tuple[Callable[[Any], Any], Any, int]] = {
    "status": (status_command.show, status(**{NAME: table("profile", **dict.fromkeys(COLUMNS, NUMBER))}), len(COLUMNS)),
    "plan": (
        plan.show,
        PlanDocument({NAME: PLAN}, CALLS, 3600.0, NUMBER, None, dict.fromkeys(OPT_OUTS_DUE, NUMBER), []),
        len(PLANNED) + len(CALLS) + len(OPT_OUTS_DUE) + 1,
    ),
    "estimate": (
        estimate.show,
        {
            "tables": {NAME: {"rows": ROWS, "in_scope": ROWS, "first_load": LOAD, "month": MONTH}},
            "first_load": LOAD | {"calls_per_hour": NUMBER},
            "month": MONTH | {"with_other_calls": 0},
            "sum": {"with_first_load": NUMBER},
            "month_so_far": {"total": 0, "engine_calls": CALLS},
            "months": 12,
            "other_calls": 0,
            "notes": (),
        },
        10,
    ),
    "explain": (explain.show, explained(**RECORD), 1),
    "audit": (
        audit.show,
        msgspec.convert(
            {
                "tables": {NAME: {name: {"records": NUMBER} if name in SOME else NUMBER for name in audit.SHOWN}},
                "engine_calls": CALLS,
                "problems": [],
            },
            audit.AuditDocument,
        ),
        len(audit.SHOWN),
    ),
    "rebuild": (
        rebuild.show,
        rebuild.RebuildDocument({NAME: rebuild.RebuiltTable(*[NUMBER] * len(REBUILT))}, CALLS),
        len(REBUILT),
    ),
    "rejects": (rejects.show, rejected(*(Reject(NAME, id_, "it is wrong", SINCE, NUMBER, True) for id_ in IDS)), 3),
    "rejects --orphaned": (
        rejects.show,
        rejects.RejectsDocument(orphaned=[rejects.OrphanedRecord(NAME, IDS[0], "it is wrong", SINCE, True)]),
        0,
    ),
    "certify": (
        certify.show,
        {"premises": [premise("workable", found=f"3,456,789 in {NAME}", program=LONG)], "engine_calls": {}},
        1,
    ),
    "migrate, move": (
        show_step,
        Step(StepCounts(changes=CHANGED, opt_outs={NAME: OptOutCounts(*[NUMBER] * 5)}), **STEP),
        len(CHANGED[NAME].__struct_fields__) + 5,
    ),
}
"""By command: what makes the parts of its document, a document, and how often the number is in its tables."""


@pytest.mark.parametrize("width", [60, 80, 40, 100, 160, None])
@pytest.mark.parametrize("command", TABLES)
def test_no_number_time_id_or_name_is_cut_on_a_terminal_of_any_width_or_in_a_pipe(
    command: str, width: int | None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    show, document, times = TABLES[command]
    terminal_of(width, monkeypatch)
    parts = list(show(document))
    tables = [part for part in parts if isinstance(part, Table)]
    print_parts(tables)
    text = capsys.readouterr().out
    print_parts(parts)
    whole = capsys.readouterr().out
    assert text.replace(",", "").count(str(NUMBER)) >= times, text
    assert "…" not in whole
    assert NAME in whole
    cells = [cell for part in tables for column in part.columns for cell in (column.header, *column.cells)]
    assert {word for cell in cells for word in str(cell).split()} <= {*text.split()}
    if width in (60, 80):
        assert max(map(len, map(str.rstrip, text.splitlines()))) <= width, text
    if width is None:
        rows = sum(len(part.rows) + 1 for part in tables)
        assert len(text.splitlines()) == rows, text


def test_every_module_that_makes_a_table_is_among_these() -> None:
    makers = {
        path.stem
        for path in PACKAGE.rglob("*.py")
        if re.search(r"(plain|number)_table\(", path.read_text(encoding="utf-8")) and path.stem != "terminal"
    }
    shown = {getattr(show, "func", show).__module__.rpartition(".")[2] for show, _, _ in TABLES.values()}
    assert makers == shown | {"plan_changes"}, "plan shows those of plan_changes"


def test_all_tables_are_made_and_printed_in_one_place() -> None:
    modules = {path for path in PACKAGE.rglob("*.py") if "rich.table" in path.read_text(encoding="utf-8")}
    assert modules == {PACKAGE / "commands" / "terminal.py"}
    printing = [line for line in inspect.getsource(terminal).splitlines() if "console.print(table" in line]
    assert len(printing) == 1


@pytest.mark.parametrize(
    ("done", "total", "rate", "text"),
    [
        (0, None, None, ""),
        (7, None, None, "7 records"),
        (1200, None, 400.0, "1,200 records, 400/s"),
        (1200, 30_000, 400.0, "1,200 of 30,000 records, 400/s, 1:12 left"),
        (1200, 30_000_000, 400.0, "1,200 of 30,000,000 records, 400/s, 20:49:57 left"),
        (5, 5, 400.0, "5 of 5 records, 400/s"),
        (0, 5, None, "0 of 5 records"),
    ],
)
def test_progress_names_total_rate_and_remaining_time_as_far_as_they_are_known(
    done: float, total: float | None, rate: float | None, text: str
) -> None:
    assert progress_text(done, total, rate) == text


def test_an_activity_shows_its_total_and_more_records_than_that_raise_it() -> None:
    activities, shown = Progress(), io.StringIO()
    activities.expect("sending contact", 10)
    with progress(activities, Console(file=shown, force_terminal=True, width=100)):
        activities("sending contact", 4)
        activities("capturing contact", 9)
        activities("sending contact", 12)
    assert "12 of 12 records" in shown.getvalue()
    assert "capturing contact 9 records" in shown.getvalue()
