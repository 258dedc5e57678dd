"""Certify a sandbox from tests: three linked tables, everything that can be found out is `auto`."""

from collections.abc import Sequence
from contextlib import closing
from typing import Any

import yaml

from sync_assets.audit.certification.synthetic_record import PREFIX
from sync_assets.commands.certify import certify
from sync_assets.commands.doctor import examine
from sync_assets_tests.support.chain_configuration import KEY_OF_RESOURCE, chain_configuration
from sync_assets_tests.support.premises import Position
from sync_assets_tests.support.program import Program
from sync_assets_tests.support.waiting import until

Rows = dict[tuple[str, str], dict[str, Any]]


def chained(program: Program, position: Position, **link: Any) -> Program:
    """Map contacts, their orders and the lines of those. link: of both links, instead of `style: auto`."""
    tables: list[dict[str, Any]] = yaml.safe_load(chain_configuration())["tables"]
    for table in tables:
        table.pop("address", None)
        for one in table.get("links", []):
            del one["style"]
            one.update(link)
    program.table, *program.further = (position.table(table) for table in tables)
    return program


def certified(program: Program) -> dict[str, Any]:
    """Certify in this process; return the document of `--json`."""
    with closing(program.runtime()) as runtime:
        return certify(runtime)


def rows(document: dict[str, Any]) -> Rows:
    """Return the rows of a report by (resource or table, premise)."""
    result = {(one["about"], one["premise"]): one for one in document["premises"]}
    assert len(result) == len(document["premises"]), "a premise is reported twice"
    return result


def not_workable(document: dict[str, Any]) -> dict[tuple[str, str], str]:
    """Return what the program will do, of each premise that is not workable."""
    return {at: row["program"] for at, row in rows(document).items() if row["outcome"] == "not workable"}


def left(program: Program) -> dict[str, int]:
    """Return the synthetic records that Campaign holds, hidden ones included, by resource."""
    admin = program.sandbox.admin
    result = {
        name: [one for one in admin.dump_campaign(name) if one[key].startswith(PREFIX)]
        for name, key in KEY_OF_RESOURCE.items()
    }
    return {name: len(records) for name, records in result.items() if records}


def doctors_lines(program: Program) -> dict[str, tuple[str, str]]:
    """Return the (outcome, message) of what `doctor` says of certifications."""
    with closing(program.runtime(any_ledger=True)) as runtime:
        lines = {line.title: (line.outcome, line.message) for line in examine(runtime)}
    return {what: line for what, line in lines.items() if what.startswith("certification")}


def killed_at(program: Program, request: int, command: Sequence[str] = ("certify", "--yes"), **which: Any) -> bool:
    """Start a command, and kill it while it waits for the answer to its n-th request, which Campaign has executed.

    Return False if it made fewer requests, and so ended by itself.
    """
    admin = program.sandbox.admin
    admin.clear_faults()
    admin.fault("campaign", "drip", skip=request - 1, times=1, seconds=600, **which)
    process = program.start(*command)
    try:
        until(lambda: process.poll() is not None or admin.fault_rules()[0]["fired"] == 1, seconds=120)
        return process.poll() is None
    finally:
        process.kill()
        process.communicate()
        admin.clear_faults()
