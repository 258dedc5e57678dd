"""`certify` as a command: what it prints, what it asks, and when it goes ahead."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from sync_assets_tests.flows.certifying import chained
from sync_assets_tests.support.premises import DOCUMENTED, POSITIONS, V8, Position, on_positions
from sync_assets_tests.support.program import Program, calls


@pytest.fixture
def chain(program: Program, position: Position) -> Program:
    return chained(program, position)


def test_the_command_prints_a_report_without_values_or_secrets(chain: Program) -> None:
    status, output, errors = chain.run("certify", "--yes", "--json")
    assert status == 0, errors
    document = json.loads(output)
    assert {*document} == {"workable", "certified_at", "premises", "left", "engine_calls"}
    for one in document["premises"]:
        assert {*one} == {"system", "about", "premise", "found", "program", "outcome"}
        assert all(one[name] for name in ("system", "premise", "found", "program"))
        assert one["outcome"] in ("workable", "not workable", "not tried")
    assert_nothing_private(chain, output + errors)
    status, output, errors = chain.run("certify", "--yes")
    assert (status, "0 not workable" in output) == (0, True)
    assert_nothing_private(chain, output + errors)


def assert_nothing_private(program: Program, text: str) -> None:
    env, contacts = program.sandbox.env, program.sandbox.admin.dump_d365()
    secrets = [value for name, value in env.items() if name.endswith(("_SECRET", "_ID", "_URL", "_HOST"))]
    people = [row[column] for row in contacts for column in ("emailaddress1", "contactid", "lastname") if row[column]]
    for private in (*secrets, *(one for one in people if len(one) > 5)):
        assert private not in text
    assert not re.search(r"@[\w-]{20,}", text), "a PKey"


@on_positions(DOCUMENTED, V8, quick=(DOCUMENTED, V8))
def test_the_page_on_certification_shows_what_a_run_finds(program: Program, position: Position) -> None:
    program.sandbox.admin.publish_link("cusOrder", "cusContactLink", "zero_or_one")
    program.table["fields"] = program.table["fields"] | {"gendercode": "gender"}
    program.further = [
        {
            "table": "new_order",
            "resource": "cusOrder",
            "key": "cusOrderId",
            "fields": {"new_name": "cusName", "new_amount": "cusAmount"},
            "links": [
                {"field": "new_contactid", "to": "cusContactLink", "table": "contact", "cardinality": "zero_or_one"}
            ],
        }
    ]
    status, output, errors = program.run("certify", "--yes", "--json")
    assert status == 0, errors
    page = (Path(__file__).parents[2] / "sync_assets" / "docs" / "certification.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in page.splitlines() if line[:1] == "|"]
    shown = {cells[0]: cells[1:] for cells in rows}
    for one in json.loads(output)["premises"]:
        cells = shown[one["premise"]]
        if one["outcome"] == "not tried":
            assert len(cells) == 1, one
        else:
            standard, v8, program_does = cells
            found = re.sub(r"^\d+ rows", "N rows", one["found"])
            assert found == (v8 if position is POSITIONS[V8] and v8 != "the same" else standard), one
            assert one["program"] in program_does, one


def test_a_premise_that_is_not_workable_ends_the_command_with_1(program: Program) -> None:
    program.sandbox.admin.settings("campaign", location_in_patch="refused")
    status, output, _ = program.run("certify", "--yes")
    assert (status, "1 not workable" in output) == (1, True)


def test_without_yes_and_without_a_terminal_nothing_is_asked_of_either_system(program: Program) -> None:
    status, output, errors = program.run("certify")
    assert (status, output) == (1, "")
    assert "--yes" in errors
    assert program.sandbox.admin.journal() == []


def test_on_a_terminal_the_command_asks(program: Program) -> None:
    status, shown = on_a_terminal(program, "y")
    assert (status, "Go ahead on acme-mkt-stage?" in shown) == (0, True)
    assert program.sandbox.admin.engine_calls() != calls()


def test_a_tenant_that_is_not_named_like_a_stage_tenant_is_refused_despite_yes(program: Program) -> None:
    program.more["CAMPAIGN_URL"] = program.sandbox.env["CAMPAIGN_URL"].removesuffix("-mkt-stage")
    status, _, errors = program.run("certify", "--yes")
    assert (status, "does not name a stage tenant" in errors) == (1, True)
    ended, shown = on_a_terminal(program, "acme-mkt-stage", "--yes")
    assert (ended, "Nothing was written" in shown) == (1, True)
    assert program.sandbox.admin.journal() == []


def activity(pid: int) -> list[str]:
    """Return the state of a process, `S` if it sleeps, and its processor time so far (proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return [fields[0], *fields[11:13]]


def test_ctrl_c_ends_the_question_at_once(program: Program) -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(program.home)
        os.execve(sys.executable, [sys.executable, "-m", "sync_assets.cli", "certify"], {**os.environ, **program.env})
    shown = b""
    while b"[y/N]" not in shown:
        shown += os.read(terminal, 65536)
    # Not before it waits for the answer: Python may swallow an interrupt while it imports what reads a terminal.
    while (before := activity(pid)) != (time.sleep(0.2), activity(pid))[1] or before[0] != "S":
        pass
    os.write(terminal, b"\x03")
    with suppress(OSError):  # the other side is closed: the process has ended
        while piece := os.read(terminal, 65536):
            shown += piece
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 130
    assert "Interrupted. What is left of its records" in shown.decode()
    assert program.sandbox.admin.engine_calls()["insert"] == 0


def on_a_terminal(program: Program, answer: str, *options: str) -> tuple[int, str]:
    """Run certify on a terminal, type the answer; return the exit status and all that was shown."""
    ours, its = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "sync_assets.cli", "certify", *options],
        env=program.env,
        cwd=program.home,
        stdin=its,
        stdout=its,
        stderr=its,
    ) as process:
        os.close(its)
        os.write(ours, f"{answer}\n".encode())
        shown = b""
        while True:
            try:
                piece = os.read(ours, 65536)
            except OSError:  # the other side is closed: the process has ended
                break
            if not piece:
                break
            shown += piece
        process.wait(60)
    os.close(ours)
    return process.returncode, shown.decode(errors="replace")
