"""Both services of a simulation: the sandbox's own cores in this process, and a record of all that happens in them.

Here: requests of the program as the services handle them, changes by people, export files. Not here: what the network
does to a request (network.py).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import msgspec
from multidict import CIMultiDict

from sync_assets.http.transport import Response
from sync_assets.sandbox import campaign, dataverse, entra, ims
from sync_assets.sandbox.asgi import TRANSPORT, Message
from sync_assets.sandbox.campaign import errors
from sync_assets.sandbox.campaign.store import Record as StoredRecord
from sync_assets.sandbox.campaign.store import Table
from sync_assets.sandbox.campaign.subject import key_of
from sync_assets.sandbox.campaign.view import View
from sync_assets.sandbox.dataverse.call import Preferences
from sync_assets.sandbox.dataverse.projection import Projection
from sync_assets.sandbox.faults import Faults
from sync_assets.sandbox.journal import Journal
from sync_assets.sandbox.middleware import Dialect, Observed
from sync_assets_tests.simulation.clock import Clock
from sync_assets_tests.simulation.observed import (
    CallKind,
    EngineCall,
    ExportFile,
    Moment,
    Record,
    RecordChange,
    Row,
    RowChange,
)
from sync_assets_tests.support.chain_configuration import RESOURCES
from sync_assets_tests.support.premises import Position

HOSTS = {"org.test": "d365", "login.test": "login", "campaign.test": "campaign", "ims.test": "ims"}
_BASE = "https://campaign.test/acme/campaign"
_ANSWER_FAULTS = frozenset({"hollow", "cut_after", "circular", "empty_pages", "drip"})
"""Faults of a position after which the engine's own answer did not reach the caller."""


ROWS_A_PAGE = 3
"""Page size in positions with small pages, since a scenario has few rows."""
ENGINE_KINDS = {"POST": "insert", "PATCH": "update", "DELETE": "delete", "GET": "read"}
GATEWAY_REFUSALS = (401, 403, 429, 503)
_DESCRIBED: dict[tuple[str, str | None], Response] = {}
"""Answers about metadata, which are the same in all runs, and a tenth of the work of one."""


@dataclass
class Call:
    """An engine call as it was handled, and when its answer reached the caller, if it did."""

    handled: EngineCall
    own_answer: bool
    """The answer that leaves the service is the engine's own."""
    delivered: Moment | None = None

    def observed(self) -> EngineCall:
        return replace(self.handled, delivered=self.delivered)


@dataclass
class Answered:
    """An answer of a service. `response`: None if the connection was cut. `call`: if it was one of the engine."""

    response: Response | None
    call: Call | None = None


@dataclass
class _Subject:
    """What a request to Campaign is about, before it is handled. key: our id. newest: serial of the newest record."""

    table: Table
    key: str | None
    record: StoredRecord | None
    before: Record | None
    newest: int


class _Transport:
    """The connection that a fault may cut."""

    cut = False

    def abort(self) -> None:
        self.cut = True


class Services:
    """Dynamics 365, Campaign, and both sign-in hosts.

    Attributes:
        files: Content and time of change (seconds since 1970) of the files on the SFTP server, by name.
        rows, calls, unanswered, reads, others, exports: As in `Observed`.
    """

    def __init__(self, clock: Clock, position: Position, links: Mapping[str, Any], folder: Path) -> None:
        self.clock, self._numbers = clock, count(1)
        self.faults, journal = Faults(), Journal(size=1)
        self.org = dataverse.Organization("https://org.test")
        self.entra = entra.Entra("https://login.test", self.org.url, clock.time)
        self.ims = ims.Ims(clock=clock.time)
        self.campaign = campaign.Campaign("acme", self.ims, faults=self.faults, exports=folder, clock=clock.time)
        for name in ("insert", "update"):
            setattr(self.campaign, name, partial(self._unless_refused, getattr(self.campaign, name)))
        web_api = dataverse.app(self.org, self.entra, self.faults, self.entra.authority)
        observed = partial(Observed, journal=journal, faults=self.faults)
        of_d365 = Dialect("d365", dataverse.refuse, dataverse.ANSWERED_KINDS)
        of_campaign = Dialect("campaign", campaign.refuse, campaign.KINDS)
        self._apps = {
            "d365": observed(web_api, of_d365),
            "login": observed(entra.app(self.entra), Dialect("login", entra.refuse)),
            "campaign": observed(campaign.app(self.campaign), of_campaign),
            "ims": observed(ims.app(self.ims), Dialect("ims", ims.refuse)),
        }
        self.refused: set[str] = set()
        """Ids of records that Campaign refuses."""
        self.files: dict[str, tuple[bytes, float]] = {}
        self.rows: list[RowChange] = []
        self.calls: list[Call] = []
        self.unanswered: list[tuple[Moment, Any]] = []
        self.reads: list[tuple[Moment, str]] = []
        self.others: list[RecordChange] = []
        self.exports: list[ExportFile] = []
        self._keys: dict[str, str] = {}
        """Our ids by PKey, of all records so far."""
        self._known: dict[str, dict[str, Row]] = {table: {} for table in RESOURCES}
        self.campaign.configure({"bare_data_policy": False, "links": links, **position.campaign})
        self.org.switches.change(position.d365 | ({"page_limit": ROWS_A_PAGE} if "page_limit" in position.d365 else {}))
        for fault in position.faults:
            self.faults.add(dict(fault))

    def change_profile_key(self, attribute: str) -> None:
        """Publish profiles with another key attribute, and with the filter on it."""
        published = {
            f"by{attribute[0].upper()}{attribute[1:]}": {"parameter": f"{attribute}_parameter", "attribute": attribute}
        }
        self.campaign.configure({"profile_key": attribute, "filters": {"profile": published}})

    def moment(self) -> Moment:
        return Moment(next(self._numbers), self.clock.instant)

    def environment(self) -> dict[str, str]:
        """Return the environment of the program."""
        return {
            "D365_URL": self.org.url,
            "D365_AUTHORITY": self.entra.url,
            "D365_TENANT_ID": self.entra.tenant_id,
            "D365_CLIENT_ID": self.entra.client_id,
            "D365_CLIENT_SECRET": self.entra.client_secret,
            "CAMPAIGN_URL": "https://campaign.test/acme",
            "CAMPAIGN_IMS_URL": "https://ims.test",
            "CAMPAIGN_CLIENT_ID": self.ims.client_id,
            "CAMPAIGN_CLIENT_SECRET": self.ims.client_secret,
            "CAMPAIGN_SCOPES": ",".join(ims.SCOPES),
            "CAMPAIGN_SFTP_HOST": "sftp.test",
            "CAMPAIGN_SFTP_USER": "sync",
            "CAMPAIGN_SFTP_PRIVATE_KEY": __file__,
            "CAMPAIGN_SFTP_HOST_KEY": __file__,
        }

    # Requests of the program

    async def answer(
        self,
        sent: Moment,
        process: int,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None,
        *,
        answer_lost: bool = False,
    ) -> Answered:
        """Handle one request at this instant. answer_lost: the program does not read the answer, even a refusal."""
        parts = urlsplit(url)
        system = HOSTS[parts.netloc]
        transport = _Transport()
        fields = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        scope: dict[str, Any] = {
            "type": "http",
            "method": method,
            "scheme": "https",
            "path": unquote(parts.path),
            "raw_path": parts.path.encode(),
            "query_string": parts.query.encode(),
            "headers": [*fields, (b"host", parts.netloc.encode())],
            "state": {},
            TRANSPORT: transport,
        }
        incoming = [{"type": "http.request", "body": body or b"", "more_body": False}]
        status, answered, content = 0, CIMultiDict[str](), b""

        async def receive() -> Message:
            return incoming.pop() if incoming else {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            nonlocal status, content
            if message["type"] == "http.response.start":
                status = message["status"]
                answered.extend((name.decode(), value.decode()) for name, value in message["headers"])
            else:
                content += message.get("body", b"")

        described = (
            "EntityDefinitions" in url
            and not self.faults.rules
            and self.entra.is_valid(headers["Authorization"][7:], self.org.url)
        )
        if described and (known := _DESCRIBED.get((url, headers.get("Prefer")))):
            return Answered(known)
        subject = self._subject(scope, body or b"") if system == "campaign" else None
        await self._apps[system](scope, receive, send)
        response = None if transport.cut else Response(status, answered, content)
        if described and response and response.status == 200 and not scope["state"].get("fault"):
            _DESCRIBED[url, headers.get("Prefer")] = response
        call = None
        if subject and (kind := scope["state"].get("engine")):
            call = self._noted(subject, kind, sent, process, scope, body, response)
        elif system == "campaign" and (answer_lost or not (response and response.status in GATEWAY_REFUSALS)):
            self.note_unanswered(sent, method, url)
        elif system == "d365" and method != "GET":
            self.note_rows("program", sent)
        elif system == "d365":
            self.reads += [(self.moment(), table) for table in RESOURCES if f"/{table}s" in url]
        return Answered(response, call)

    def export_was_read(self, name: str) -> None:
        """Note that the program has read an export file."""
        for at, file in enumerate(self.exports):
            if file.name == name and file.read is None:
                self.exports[at] = replace(file, read=self.moment())

    def note_unanswered(self, sent: Moment, method: str, url: str) -> None:
        """Note a request that does not reach the engine, if it is about records."""
        api, resource, *_ = [*urlsplit(url).path.split("/")[3:], "", ""]
        if (api, resource) in self.campaign.views:
            self.unanswered.append((sent, ENGINE_KINDS[method]))

    def _subject(self, scope: Any, body: bytes) -> _Subject | None:
        """Return what a request to Campaign is about; None if not about records."""
        segments = [segment for segment in scope["path"].split("/") if segment][2:]
        view = self.campaign.views.get((segments[0], segments[1])) if len(segments) > 1 else None
        if view is None:
            return None
        key = key_of(self.campaign, scope, body)
        if key is None and len(segments) > 2:
            key = self._keys.get(segments[2])  # of a record that was deleted
        record = None
        if scope["method"] != "POST" and len(segments) > 2:
            by_pkey = (one for one in view.table.records.values() if one.pkey == segments[2])
            record = next(by_pkey, None) or (view.table.by_key.get(key) if key else None)
        return _Subject(view.table, key, record, record and self.shown(view.table, record), _newest(view.table))

    def _noted(
        self,
        subject: _Subject,
        kind: CallKind,
        sent: Moment,
        process: int,
        scope: Any,
        body: bytes | None,
        response: Response | None,
    ) -> Call:
        table, record, method = subject.table, subject.record, scope["method"]
        answer: Any = msgspec.json.decode(response.body) if response and response.body[:1] == b"{" else {}
        if method == "POST" and _newest(table) > subject.newest:
            record = table.records[_newest(table)]
        listed = answer.get("content", [answer] if record is not None else []) if method == "GET" else []
        if record:
            self._keys[record.pkey] = table.key_of(record)
        handled = EngineCall(
            sent=sent,
            handled=self.moment(),
            delivered=None,
            process=process,
            method=method,
            resource=table.resource.name,
            key=subject.key,
            pkey=record.pkey if record else None,
            body=msgspec.json.decode(body) if body else None,
            status=response.status if response else 0,
            before=subject.before,
            after=self.shown(table, record) if record and record.serial in table.records else None,
            kind=kind,
            shown=tuple(filter(None, (one.get(table.resource.key or "") for one in listed))),
        )
        call = Call(handled, own_answer=scope["state"].get("fault") not in _ANSWER_FAULTS)
        self.calls.append(call)
        return call

    def _unless_refused(self, work: Callable[..., Any], view: View, *arguments: Any) -> Any:
        body: dict[str, Any] = arguments[-1]
        key = view.table.resource.key or ""
        id_ = body.get(key) or (view.table.key_of(arguments[0]) if len(arguments) > 1 else "")
        if id_ in self.refused:
            raise errors.CampaignError(500, errors.RST, "XTK-170006 A rule of this instance locks the record.")
        return work(view, *arguments)

    def shown(self, table: Table, record: StoredRecord) -> Record:
        view = self.campaign.views[table.resource.apis[-1], table.resource.name]
        return {**view.show(record, _BASE), "_visible": self.campaign.visible(table, record)}

    # What happens in them

    def note_rows(self, by: Any, sent: Moment | None = None) -> None:
        """Record what has changed in Dynamics 365 since the last call. sent: the request that did it."""
        for table, known in self._known.items():
            store = self.org.store(table)
            show: Any = None
            for id_ in [id_ for id_ in known if id_ not in store.rows]:
                self.rows.append(RowChange(self.moment(), table, id_, known.pop(id_), None, by, sent))
            for id_, row in store.rows.items():
                before = known.get(id_)
                if before is None or before["@odata.etag"] != self.org.etag(store, row):
                    show = show or Projection(store, self.org, None, Preferences()).show
                    known[id_] = show(row)
                    self.rows.append(RowChange(self.moment(), table, id_, before, known[id_], by, sent))

    # The end

    def final_rows(self) -> dict[str, tuple[Row, ...]]:
        return {table: tuple(known[id_] for id_ in sorted(known)) for table, known in self._known.items()}

    def final_records(self) -> dict[str, tuple[Record, ...]]:
        tables = {resource: self.campaign.tables[resource] for resource in RESOURCES.values()}
        return {
            name: tuple(self.shown(table, record) for record in table.records.values())
            for name, table in tables.items()
        }


def _newest(table: Table) -> int:
    return table.order[-1] if table.order else 0
