"""Write the history of a run by hand: what happened in Dynamics 365 and in Campaign, an hour apart."""

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from sync_assets_tests.simulation.observed import (
    Attribute,
    CallKind,
    Column,
    EngineCall,
    ExportFile,
    Hold,
    LedgerReport,
    Moment,
    Observed,
    RecordChange,
    Refusal,
    RowChange,
    Table,
)

KINDS: dict[str, CallKind] = {"POST": "insert", "PATCH": "update", "DELETE": "delete", "GET": "read"}
STATES = ("pending", "waiting", "rejected", "held", "orphaned", "synced")
TABLES = (
    Table("contact", "profile", "contactid", "externalId",
          {"firstname": Column("text"), "department": Column("text"), "donotemail": Column("boolean")},
          {"firstName": Attribute(smart_case=True, length=10), "blackListEmail": Attribute("boolean")}),
    Table("new_order", "cusOrder", "new_orderid", "cusOrderId",
          {"new_name": Column("text"), "new_status": Column("choice", {1: "Draft", 2: "Placed"})},
          {"cusName": Attribute(), "cusStatus": Attribute()}),
    Table("new_orderline", "cusOrderLine", "new_orderlineid", "cusOrderLineId",
          {"new_count": Column("decimal")}, {"cusCount": Attribute("integer")}),
)  # fmt: skip
EMPTY_ROWS: dict[str, dict[str, Any]] = {
    "contact": {"firstname": "ada", "department": "in", "donotemail": False},
    "new_order": {"new_name": "first", "new_status": None, "_new_contactid_value": "c1"},
    "new_orderline": {"new_count": None, "_new_orderid_value": "o1"},
}
EMPTY_RECORDS: dict[str, dict[str, Any]] = {
    "profile": {"firstName": "", "blackListEmail": False},
    "cusOrder": {"cusName": "", "cusStatus": "", "cusContactLink": None},
    "cusOrderLine": {"cusCount": 0, "cusOrderLink": None},
}


def document(direction: str = "bidirectional") -> dict[str, Any]:
    """Return a configuration of three linked tables."""
    return {
        "tables": [
            {"table": "contact", "fields": {"firstname": "firstName"}, "apply_deletes": True,
             "filters": {"rules": [{"field": "department", "is": "eq", "value": "IN"}]}},
            {"table": "new_order", "fields": {"new_name": "cusName", "new_status": "cusStatus"}, "apply_deletes": True,
             "links": [{"field": "new_contactid", "to": "cusContactLink", "table": "contact"}]},
            {"table": "new_orderline", "fields": {"new_count": "cusCount"}, "apply_deletes": True,
             "links": [{"field": "new_orderid", "to": "cusOrderLink", "table": "new_order",
                        "cardinality": "zero_or_one"}]},
        ],
        "opt_out": {"direction": direction, "mappings": {"donotemail": "blackListEmail"}},
    }  # fmt: skip


@dataclass
class HandwrittenHistory:
    """What happened so far. Change its fields freely before `observed`."""

    configuration: dict[str, Any] = field(default_factory=document)
    now: datetime = datetime(2026, 11, 27, tzinfo=UTC)
    n: int = 0
    rows: list[RowChange] = field(default_factory=list[RowChange])
    calls: list[EngineCall] = field(default_factory=list[EngineCall])
    others: list[RecordChange] = field(default_factory=list[RecordChange])
    files: list[ExportFile] = field(default_factory=list[ExportFile])
    d365: defaultdict[str, dict[str, dict[str, Any]]] = field(default_factory=lambda: defaultdict(dict))
    campaign: defaultdict[str, dict[str, dict[str, Any]]] = field(default_factory=lambda: defaultdict(dict))
    further: dict[str, Any] = field(default_factory=dict[str, Any])
    """Other fields of `Observed`."""
    report: dict[str, Any] = field(default_factory=dict[str, Any])
    """Other fields of `LedgerReport`."""

    def moment(self, **later: float) -> Moment:
        """Return a moment an hour after the last one, or as much later as given."""
        self.n += 1
        self.now += timedelta(**later) if later else timedelta(hours=1)
        return Moment(self.n, self.now)

    # Dynamics 365

    def put(self, table: str, id_: str, by: Literal["user", "program"] = "user", **values: Any) -> None:
        before = self.d365[table].get(id_)
        start = EMPTY_ROWS[table] | {f"{table}id": id_} if before is None else before
        self._row(table, id_, start | values, by)

    def remove(self, table: str, id_: str, by: Literal["user", "program"] = "user") -> None:
        self._row(table, id_, None, by)

    def _row(self, table: str, id_: str, after: dict[str, Any] | None, by: Literal["user", "program"]) -> None:
        self.rows.append(RowChange(self.moment(), table, id_, self.d365[table].pop(id_, None), after, by))
        if after is not None:
            self.d365[table][id_] = after

    # Requests of the program

    def call(
        self, method: Literal["POST", "PATCH", "DELETE", "GET"], resource: str, id_: str, *, status: int = 0,
        answered: bool = True, counted: bool = True, pkey: str | None = None, process: int = 1, **body: Any,
    ) -> None:  # fmt: skip
        """Send a request about the record with PKey `@<id>`, or `pkey`. `status`: of a refusal."""
        pkey, key = pkey or f"@{id_}", next(table.key for table in TABLES if table.resource == resource)
        before = self.campaign[resource].get(pkey)
        after = before
        if not status:
            values = {
                name: {"PKey": f"@{value}"} if value and "Link" in name else value for name, value in body.items()
            }
            if method == "POST":
                after = EMPTY_RECORDS[resource] | {"PKey": pkey, key: id_} | values
            elif method == "PATCH":
                after = dict(before or {}) | values
            elif method == "DELETE":
                after = None
        self._record(resource, pkey, after)
        sent, handled, delivered = (self.moment(seconds=1) for _ in range(3))
        sent_body = body | {name: {"PKey": value} for name, value in body.items() if value and "Link" in name}
        sent_body |= {key: id_} if method == "POST" else {}
        self.calls.append(
            EngineCall(
                sent, handled, delivered if answered else None, process, method, resource, id_, pkey, sent_body,
                status or 200, before, after, KINDS[method], (id_,) if method == "GET" and before else (),
            )
        )  # fmt: skip
        if not counted:
            self.report.setdefault("uncounted", []).append(KINDS[method])

    # Other people in Campaign

    def other(self, resource: str, pkey: str, after: dict[str, Any] | None) -> None:
        """Change some values of a record, insert or delete it."""
        before = self.campaign[resource].get(pkey)
        new = None if after is None else (before or EMPTY_RECORDS[resource] | {"PKey": pkey, "externalId": ""}) | after
        self._record(resource, pkey, new)
        self.others.append(RecordChange(self.moment(), resource, pkey, before, new))

    def export(self, *, read: bool = True) -> None:
        """Write a file with all profiles, which the program reads unless `read` is False."""
        rows = tuple({"externalId": one["externalId"]} for one in self.campaign["profile"].values())
        extracted, written = self.moment(), self.moment()
        file = ExportFile(f"optout_{extracted.n}.csv", extracted, written, rows, self.moment() if read else None)
        self.files.append(file)

    def _record(self, resource: str, pkey: str, after: dict[str, Any] | None) -> None:
        self.campaign[resource].pop(pkey, None)
        if after is not None:
            self.campaign[resource][pkey] = after

    # The end

    def observed(self) -> Observed:
        counted: defaultdict[str, Counter[CallKind]] = defaultdict(Counter)
        uncounted = list(self.report.get("uncounted", ()))
        for call in self.calls:
            if call.kind in uncounted:
                uncounted.remove(call.kind)
            else:
                counted[call.sent.at.date().isoformat()][call.kind] += 1
        names = ("waiting", "orphaned", "rejected")
        ids = {name: {of: frozenset(some) for of, some in self.report.get(name, {}).items()} for name in names}
        nothing = dict.fromkeys(("refusals", "holds", "replays", "crashes"), ())
        others: dict[str, Any] = {"premises": {}, "idle": True, **nothing, **self.further}
        return Observed(
            configuration=self.configuration,
            tables=TABLES,
            rows=tuple(self.rows),
            calls=tuple(self.calls),
            reads=tuple((call.sent, table.table) for call in self.calls for table in TABLES),
            others=tuple(self.others),
            files=tuple(self.files),
            final_rows={table: tuple(rows.values()) for table, rows in self.d365.items()},
            final_records={resource: tuple(records.values()) for resource, records in self.campaign.items()},
            ledger=LedgerReport(counts={}, engine_calls=counted, **ids),
            end=self.moment(),
            **others,
        )


Change = Callable[[HandwrittenHistory], None]
NO_RULE = ""


class Histories(list[tuple[str, str, Change]]):
    """Changes of a correct history, each with the rule that it breaks, and the direction of opt-outs."""

    def breaks(self, rule: str, direction: str = "bidirectional") -> Callable[[Change], Change]:
        def add(change: Change) -> Change:
            self.append((rule, direction, change))
            return change

        return add


def correct(direction: str = "bidirectional") -> HandwrittenHistory:
    """Return a history of three linked tables that breaks no rule: inserts, updates, deletions, opt-outs."""
    history = HandwrittenHistory(document(direction))
    history.other("profile", "@foreign", {"firstName": "Somebody"})
    history.put("contact", "c1")
    history.call("POST", "profile", "c1", firstName="ada")
    history.put("new_order", "o1", new_status=2)
    history.call("POST", "cusOrder", "o1", cusName="first", cusStatus="Placed", cusContactLink="c1")
    history.put("new_orderline", "l1", new_count=3.0)
    history.call("POST", "cusOrderLine", "l1", cusCount=3, cusOrderLink="o1")
    history.put("contact", "c1", firstname="grace")
    history.call("PATCH", "profile", "c1", firstName="grace")
    history.put("contact", "c2", firstname="eve")
    history.call("POST", "profile", "c2", firstName="eve")
    history.remove("contact", "c2")
    history.call("DELETE", "profile", "c2")
    return history


def rejected(history: HandwrittenHistory, id_: str = "c3") -> None:
    """Let Campaign reject a new contact for ever."""
    history.put("contact", id_, firstname="bad")
    history.further["refusals"] = (Refusal("contact", id_, history.moment()),)
    history.call("POST", "profile", id_, status=500, firstName="bad")
    history.report["rejected"] = {"contact": {id_}}


def opted_out_in_campaign(history: HandwrittenHistory) -> None:
    history.other("profile", "@c1", {"blackListEmail": True})
    history.export()
    history.put("contact", "c1", "program", donotemail=True)


def invalid_line(history: HandwrittenHistory, *, answered: bool) -> None:
    """Update line l1, and give its row a validation error: an integer cannot hold it."""
    history.put("new_orderline", "l1", new_count=4.0)
    history.call("PATCH", "cusOrderLine", "l1", answered=answered, cusCount=4)
    history.put("new_orderline", "l1", new_count=1.5)
    history.report["rejected"] = {"new_orderline": {"l1"}}


def keep_orphans(history: HandwrittenHistory) -> None:
    history.configuration["tables"][1]["links"][0]["orphans"] = "keep"


def released(history: HandwrittenHistory, contact: str) -> None:
    """Hold and release a contact."""
    history.further["holds"] = (Hold(contact, history.moment(), history.moment(), history.moment()),)


def status_is_mapped(history: HandwrittenHistory) -> None:
    """Insert order o6, and then map its column new_status, which was not mapped before."""
    history.put("new_order", "o6", new_status=2)
    history.call("POST", "cusOrder", "o6", cusName="first", cusContactLink="c1")
    earlier = document()
    del earlier["tables"][1]["fields"]["new_status"]
    history.further["replaced"] = ((history.moment(), earlier),)
