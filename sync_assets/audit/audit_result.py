"""The result of an audit of one resource: numbers of records and some of their ids, and the findings that follow.

Invariant: no values of a record.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from sync_assets.audit.linked_records import TWICE
from sync_assets.checks import rules
from sync_assets.checks.health import SHARE_IN_ERROR
from sync_assets.checks.rules import SHOWN_IDS, Finding, Rows
from sync_assets.config.models import TableConfig
from sync_assets.words import counted


class SomeRecords(msgspec.Struct):
    """A number of records, and the ids of the first of them."""

    records: int = 0
    ids: list[str] = []

    def add(self, ids: Iterable[str]) -> None:
        """Count these records."""
        for id_ in ids:
            self.records += 1
            self.ids += [id_] if len(self.ids) < SHOWN_IDS else []


class AuditResult(msgspec.Struct):
    """The audit of one resource. Numbers are records, unless stated otherwise.

    Attributes:
        records: that Campaign listed so far.
        total: of the resource in Campaign when the audit began.
        done: True if the list was read to its end.
        began_at: when the audit began; later calls may have continued it.
        compared: of the ledger's synced records; each is equal, in step but for, differing, missing or hidden.
        in_step_but_for: they differ only in attributes that Campaign refuses in updates.
        differing: they differ in other attributes or in links.
        missing: Campaign does not have them.
        hidden: Campaign does not show them, since a record that they must be linked to is missing there.
        several: ids of which Campaign has several records; these are not compared.
        without_row: of Campaign, with an id of no row in scope, which the ledger does not have. They are left alone.
        left_out: not compared, by reason: the state (rejected: all of the table), or `moved`: changed since sent.
        repaired: made pending.
        attributes: by attribute or link, those that differ in it.
        refused_in_updates: the same for attributes that Campaign refuses in updates.
        links_left_out: links of compared records that were not compared, since the parents are not listed.
        missing_not_known: True if the list is not sorted and was read in parts, so that missing records do not show.
        opt_outs_compared: opt-outs, not records.
        opt_outs_on_the_way: opt-outs that differ because of a recent change.
        opt_outs: by attribute, contacts whose opt-out differs for longer than it should.
        campaign_reads: engine calls.
        d365_reads: requests to Dynamics 365 for rows.
    """

    records: int = 0
    total: int = 0
    done: bool = False
    began_at: str = ""
    compared: int = 0
    equal: int = 0
    in_step_but_for: int = 0
    differing: int = 0
    missing: SomeRecords = msgspec.field(default_factory=SomeRecords)
    hidden: SomeRecords = msgspec.field(default_factory=SomeRecords)
    several: SomeRecords = msgspec.field(default_factory=SomeRecords)
    without_row: SomeRecords = msgspec.field(default_factory=SomeRecords)
    left_out: dict[str, int] = {}
    repaired: int = 0
    attributes: dict[str, SomeRecords] = {}
    refused_in_updates: dict[str, SomeRecords] = {}
    links_left_out: int = 0
    missing_not_known: bool = False
    opt_outs_compared: int = 0
    opt_outs_on_the_way: int = 0
    opt_outs: dict[str, SomeRecords] = {}
    campaign_reads: int = 0
    d365_reads: int = 0

    @property
    def wrong(self) -> int:
        """The number of records in which Campaign differs from what it acknowledged."""
        return self.differing + self.missing.records + self.hidden.records

    @property
    def opt_outs_wrong(self) -> int:
        return sum(some.records for some in self.opt_outs.values())

    @property
    def differences(self) -> int:
        """The number of records and opt-outs that differ, and of ids that Campaign has several times."""
        return self.wrong + self.several.records + self.opt_outs_wrong

    @property
    def is_equal(self) -> bool:
        """True if nothing was found that must be repaired, or was: refused attributes do not count."""
        return not (self.differences or self.repaired)

    def leave_out(self, reason: str, number: int) -> None:
        """Set how many records are left out for a reason, none included."""
        others = {name: records for name, records in self.left_out.items() if name != reason}
        self.left_out = others | ({reason: number} if number else {})

    @property
    def part(self) -> float:
        """The part of the resource that was listed, 0 to 1."""
        return 1.0 if self.done else round(min(self.records / max(self.total, 1), 0.999), 3)

    @property
    def numbers(self) -> dict[str, Any]:
        """The result as metadata of the asset."""
        kinds = ("missing", "hidden", "several", "without_row")
        plain = ("records", "total", "compared", "equal", "in_step_but_for", "differing", "repaired", "links_left_out")
        reads = ("campaign_reads", "d365_reads")
        return {
            **{name: getattr(self, name) for name in (*plain, *reads)},
            **{name: getattr(self, name).records for name in kinds},
            "left_out": sum(self.left_out.values()),
            "part_done": self.part,
        }


def count(into: dict[str, SomeRecords], ids_by_name: Mapping[str, Iterable[str]]) -> None:
    """Add records to those of each name."""
    for name, ids in sorted(ids_by_name.items()):
        into.setdefault(name, SomeRecords()).add(ids)


def _rows(found: Mapping[str, SomeRecords]) -> Rows:
    return Rows(
        ("attribute", "records", "ids"),
        [(name, some.records, ", ".join(some.ids)) for name, some in found.items() if some.records],
    )


def agreement(table: str, result: AuditResult) -> Finding:
    """Return the finding that Campaign holds what it acknowledged."""
    parts: list[str] = []
    if result.missing.records:
        parts.append(f"{counted(result.missing.records, 'record', 'are')} not in Campaign")
    if result.hidden.records:
        hidden = counted(result.hidden.records, "record", "are")
        parts.append(f"{hidden} hidden, for lack of a record that must be linked to")
    if result.differing:
        named = ", ".join(f"{name} ({some.records:,})" for name, some in result.attributes.items())
        parts.append(f"{counted(result.differing, 'record', 'differ')}: {named}")
    if result.in_step_but_for:
        names, but_for = ", ".join(result.refused_in_updates), counted(result.in_step_but_for, "record", "are")
        parts.append(f"{but_for} in step but for {names}, which Campaign refuses in updates")
    found = "; ".join([*parts, "the others hold what was sent last"]) if parts else "all hold what was sent last"
    listed = f"{result.part:.0%} of the resource listed. Of {counted(result.compared, 'compared record')}, {found}."
    if result.wrong > result.repaired + result.hidden.records:
        listed += f" `sync-assets audit --table {table} --repair` makes pending what differs or is missing."
    shown = {"not found": result.missing, "hidden": result.hidden, **result.attributes}
    numbers = {**result.numbers, "attributes": _rows(shown), "refused_in_updates": _rows(result.refused_in_updates)}
    stops = bool(result.compared) and result.wrong / result.compared >= SHARE_IN_ERROR
    return rules.CAMPAIGN_AGREES.finding(not result.wrong, listed, numbers, stops=stops)


def one_record_each(config: TableConfig, result: AuditResult, reasons: Sequence[tuple[str, int]]) -> Finding:
    """Return the finding that a key identifies one record, from the list and from reasons of rejection.

    reasons: (kind of reason, number of records) of rejected records.
    """
    colliding = sum(number for reason, number in reasons if TWICE.search(reason))
    text = f"Each id of {counted(result.records, 'listed record')} occurs once."
    if result.several.records or colliding:
        text = (
            f"Ids that occur in Campaign more than once: {result.several.records:,}; rejected because their key is "
            f"taken: {colliding:,}. Merge them in Campaign, then `sync-assets retry {config.table}`."
        )
    numbers = {
        "listed": result.records,
        "more_than_once": result.several.records,
        "refused_because_taken": colliding,
        "ids": ", ".join(result.several.ids),
    }
    return rules.UNIQUE_KEYS.finding(not (result.several.records or colliding), text, numbers)


def opt_outs_agree(result: AuditResult) -> Finding:
    """Return the finding that opt-outs agree."""
    read = f"Of {counted(result.opt_outs_compared, 'opt-out')} read on both sides"
    text = f"{read}, all agree."
    if result.opt_outs_on_the_way:
        text = f"{read}, {result.opt_outs_on_the_way:,} are on their way."
    if result.opt_outs_wrong:
        text = (
            f"{read}, {result.opt_outs_wrong:,} differ for longer than they should. See "
            "`sync-assets rejects` and whether files arrive; `sync-assets audit --table contact "
            "--repair` lets them be decided anew."
        )
    if not result.opt_outs_compared:
        text = "No opt-out was compared: no listed contact is in step, or the day's engine calls are spent."
    numbers = {
        "compared": result.opt_outs_compared,
        "differing": result.opt_outs_wrong,
        "on_the_way": result.opt_outs_on_the_way,
        "attributes": _rows(result.opt_outs),
    }
    return rules.OPT_OUTS_AGREE.finding(not result.opt_outs_wrong, text, numbers, stops=bool(result.opt_outs_wrong))
