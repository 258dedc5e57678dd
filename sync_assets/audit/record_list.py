"""List the records of a Campaign resource, page by page, within the day's budget of engine calls.

If Campaign sorts, the list is requested in the order of our key: records with a key are together, so that one page
shows whether there are any, and a long list of records without a key need not be read to its end. The order is
verified: only a list that was seen to be sorted ends early, and one that turns out unsorted is read again without an
order. Records that were made since a time are listed in the order of `created`, newest first, by the same rules: a
record that was made before that time is treated like a record without a key. Source: Adobe, Campaign Standard APIs,
"Retrieving resources": pagination, sorting, counting.
"""

import asyncio
import re
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple
from urllib.parse import quote

from sync_assets.campaign.client import CallCounter, CampaignClient, CampaignRefused, decoded, listed
from sync_assets.campaign.dialect import moment
from sync_assets.campaign.metadata import Resource
from sync_assets.config.models import TableConfig
from sync_assets.config.values import GUID
from sync_assets.errors import SyncAssetsError
from sync_assets.http.client import LinkTrail
from sync_assets.http.transport import Unavailable
from sync_assets.ledger import Ledger
from sync_assets.runtime.call_limits import count_calls

PAGE = 500
"""Records in a page; each page is one engine call."""
IN_ORDER = 20
"""Keys that must come in order before a list counts as sorted: by chance that happens once in 20! lists."""
GATEWAY_TIMEOUT = 504

CREATED = "created"
_DESCENDING = re.compile(r"_order=([^&]*?)(?:%20|%2520|\+| )desc(?:&|$)")

Record = dict[str, Any]


class NotSorted(CampaignRefused):
    """Raised when a list that began in the requested order does not keep it."""

    def __init__(self, resource: str) -> None:
        super().__init__(f"Campaign does not keep the records of {resource} in order.")


class ListPage(NamedTuple):
    """A page of a list. `next`: the link of the next page, None at the end.

    order: of the keys, as requested; newest: of `created`, descending. ends_early: this page is the last one that is
    read, though Campaign has more: all records that were made since the list's time came before.
    """

    asked_at: datetime
    records: list[Record]
    next: str | None
    order: Literal["ascending", "descending", "newest"] | None
    ends_early: bool = False


@dataclass(slots=True)
class KeyOrder:
    """Check whether the keys of a list come in the requested order."""

    ascending: bool
    in_order: int = 0
    broken: bool = False
    _last: str = ""
    _empty: bool = False

    def ends(self, keys: list[str]) -> bool:
        """Take the keys of a page. Return True if the list is sorted and this page, without any key, shows its end.

        All records with a key were listed then: a server that sorted page by page would show a key here.
        """
        for key in map(str.casefold, keys):
            if not key:
                self._empty = True
            elif not self.broken:
                moved = bool(self._last) and key != self._last
                self.broken = self._empty or (moved and (key > self._last) != self.ascending)
                self.in_order += not self.broken
                self._last = key
        return not self.broken and self.in_order >= IN_ORDER and bool(keys) and not any(keys)


@dataclass(slots=True)
class RecordList:
    """The list of the records of a table's resource. calls: engine calls made, each of them a read.

    sorts: request the order of the key. Not if the key is not unique: then the list is the only protection against
    duplicates, and is read to its end. since: the time before which a list that begins with the newest records ends.
    """

    ledger: Ledger
    campaign: CampaignClient
    config: TableConfig
    calls: int = 0
    sorts: bool = field(init=False)
    since: datetime | None = None

    def __post_init__(self) -> None:
        self.sorts = self.config.unique is not False

    @property
    def _path(self) -> str:
        return f"{self.config.api}/{self.config.resource}"

    async def look(self, resource: Resource) -> tuple[ListPage, bool]:
        """Return the first page, and True if the whole list must be read, because records carry our ids, or may.

        One call, or two if one does not suffice.
        """
        page = await self.first()
        if self.ours(page) or not page.next or not page.order:
            return page, bool(self.ours(page) or page.next)
        keys = self._keys(page)
        backwards = await self.ask(self._link(descending=False))
        if self.ours(backwards):
            return backwards, True
        attribute = resource.attributes.get(self.config.key)
        # A sorted list without a key at either end has no key at all. If the metadata is wrong about sorting, an insert
        # meets its own key, and becomes an update.
        none = not any(keys) and not any(self._keys(backwards)) and attribute is not None and bool(attribute.sortable)
        return page, not none

    async def first(self) -> ListPage:
        """Return the first page, in the order of the key if Campaign accepts one."""
        if self.sorts:
            try:
                return await self.ask(self._link(descending=True))
            except (CampaignRefused, Unavailable) as error:
                if not is_of_the_list(error):
                    raise
                self.sorts = False
        return await self.ask(f"{self._path}?_lineCount={PAGE}&_forcePagination=true")

    async def pages(self, page: ListPage, most: int | None = None) -> AsyncGenerator[ListPage]:
        """Yield the page and all that follow it, `most` in all; the next one is requested meanwhile.

        A record that is inserted meanwhile moves the others on: those that the page before had are left out.

        Raises NotSorted, EndlessRead.
        """
        trail, left = LinkTrail("Campaign", self.config.resource), most
        order, asking, before = KeyOrder(ascending=page.order == "ascending"), None, set[Any]()
        try:
            while True:
                listed = len(page.records)
                page = page._replace(records=[one for one in page.records if one.get("PKey") not in before])
                before = {one["PKey"] for one in page.records if one.get("PKey")}
                if page.order:
                    ended = order.ends(self._keys(page))
                    if order.broken and order.in_order >= IN_ORDER:
                        raise NotSorted(self.config.resource)
                    early = ended and page.order == "newest" and page.next is not None
                    page = page._replace(next=None if ended else page.next, ends_early=early)
                following, left = trail.follow(page.next or "", listed), left and left - 1
                asking = asyncio.create_task(self.ask(following)) if following and left != 0 else None
                yield page
                if asking is None:
                    return
                page = await asking
        finally:
            if asking is not None:
                asking.cancel()
                await asyncio.gather(asking, return_exceptions=True)

    async def count(self) -> int:
        """Return the number of records of the resource."""
        answer = await self._call(f"{self._path}/_count")
        count = decoded(answer, self.config.resource).get("count")
        if not isinstance(count, int):
            raise CampaignRefused(f"Campaign does not say how many records {self.config.resource} has.")
        return count

    async def ask(self, link: str) -> ListPage:
        asked_at = datetime.now(UTC)
        records, following = listed(await self._call(link), self.config.resource)
        order = None if "_order=" not in link else "ascending"
        if descending := _DESCENDING.search(link):
            order = "newest" if descending[1] == CREATED else "descending"
        return ListPage(asked_at, records, following or None, order)

    def ours(self, page: ListPage) -> list[tuple[str, Record]]:
        """Return (our id, record) for the records that carry our id."""
        ids = ((str(record.get(self.config.key) or "").lower(), record) for record in page.records)
        return [(id_, record) for id_, record in ids if GUID.fullmatch(id_)]

    def newest(self) -> str:
        """Return the link of the list that begins with the newest records."""
        return self._sorted(f"{CREATED} desc")

    def _keys(self, page: ListPage) -> list[str]:
        if page.order == "newest":
            times = [moment(record.get(CREATED)) for record in page.records]
            return [made.isoformat() if made and not (self.since and made < self.since) else "" for made in times]
        return [str(record.get(self.config.key) or "") for record in page.records]

    def _link(self, *, descending: bool) -> str:
        return self._sorted(f"{self.config.key} desc" if descending else self.config.key)

    def _sorted(self, order: str) -> str:
        return f"{self._path}?_lineCount={PAGE}&_forcePagination=true&_order={quote(order)}"

    async def _call(self, link: str) -> Any:
        """Send one GET; count it in the ledger however it ends."""
        calls = CallCounter()
        try:
            return await self.campaign.call("read", link, observer=calls.observe)
        finally:
            self.calls += calls.total
            await count_calls(self.ledger, self.config.table, calls.take())


def is_of_the_list(error: SyncAssetsError) -> bool:
    """Return True if another link may succeed: the order is refused, sorting takes too long, or the link expired."""
    return isinstance(error, CampaignRefused) or (isinstance(error, Unavailable) and error.status == GATEWAY_TIMEOUT)


def pages_for(records: int) -> int:
    """Return the number of pages that so many records take."""
    return max(1, -(-records // PAGE))
