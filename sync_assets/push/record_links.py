"""Choose the PKey or key that each link of a record is sent with, and verify that Campaign stored the link.

A link is set by the parent's PKey, as in all of Adobe's examples, or by the parent's own key. The key saves a look-up,
but Campaign may answer 2xx and store no link. So the first record of each link and push is read back before others
follow. If the link is empty or leads to another record, the parent's PKey is looked up and sent.

`style: auto` tries the key only for a link that a record may lack. Campaign hides a record whose required link is
empty, and a hidden record cannot be repaired; so a required link is sent with the PKey until another link to the same
resource has shown that Campaign resolves keys. The finding is stored with the parent's resource (`Addressing.note`).
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from sync_assets.campaign.addressing import CAPITALS, EXISTING, LISTED, Addressing
from sync_assets.campaign.dialect import ResponseOutcome
from sync_assets.campaign.metadata import Resource
from sync_assets.campaign.records import Records
from sync_assets.config.models import Config, LinkConfig, TableConfig
from sync_assets.http.transport import OutcomeUnknown
from sync_assets.ledger.model import Claimed, LinkTo
from sync_assets.runtime.pkeys import ParentKeys

KEY_IN_LINK = "key_in_link"
"""Premise: a link that names the parent's own key leads to the parent. Findings: resolved, empty, refused."""

Values = Mapping[str, str]
"""Attribute of a link -> the value of its `PKey` member in the request."""


class _NotShown(OutcomeUnknown):
    """Raised when Campaign accepted a record, and its links cannot be read back afterwards."""

    def __init__(self) -> None:
        super().__init__("Campaign took the record, and then did not show its links or where they lead.", "")


@dataclass(frozen=True, slots=True)
class LinkTarget:
    """A child's link, and the table of its parent.

    Attributes:
        link: as configured. The style `join` does not occur here: it is a plain attribute.
        required: Campaign must never hold the child without this parent (cardinality one in the configuration, or
            mandatory in Campaign's metadata, or perhaps, if that does not state it).
    """

    link: LinkConfig
    parent: TableConfig
    required: bool = True

    @property
    def attribute(self) -> str:
        return self.link.to


def link_targets(whole: Config, config: TableConfig, resource: Resource | None = None) -> tuple[LinkTarget, ...]:
    """Return the links of a table that are set by a key or a PKey.

    Args:
        whole: the configuration of all tables.
        config: the table.
        resource: Campaign's metadata, where a link may be mandatory; None: only the configuration decides.
    """
    attributes = resource.attributes if resource else {}
    return tuple(
        LinkTarget(
            link,
            whole.table(link.table),
            link.cardinality == "one" or (link.to in attributes and attributes[link.to].mandatory is not False),
        )
        for link in config.links
        if link.style != "join"
    )


class LinkNotKept(Exception):
    """Raised when Campaign accepts a link and does not store it; further records would fail alike.

    Raised for a link sent with the parent's PKey, and for one sent with the parent's key if the style is `key`.
    """


def sent_by_key(target: LinkTarget, findings: Mapping[str, str]) -> bool:
    """Return True if a link is sent with the parent's key, False if with its PKey.

    findings: about the parent's resource.
    """
    if CAPITALS in findings:  # the parent's key may not be our id as it stands
        return False
    if target.link.style != "auto":
        return target.link.style == "key"
    finding = findings.get(KEY_IN_LINK)
    return finding == "resolved" or (finding is None and not target.required)


class Links:
    """The links of one table during one push.

    Args:
        targets: the links of the table.
        parents: the Records of each parent's resource, by the resource's name.
        known: PKeys of parents, in memory.
        send_again: called with the attribute of a link that Campaign does not store by the parent's key: records that
            were sent with it before hold no link either.
    """

    def __init__(
        self,
        targets: Iterable[LinkTarget],
        parents: Mapping[str, Records],
        known: ParentKeys,
        send_again: Callable[[str], Awaitable[None]],
    ) -> None:
        self._targets = {target.attribute: target for target in targets}
        self._parents, self._known = parents, known
        self._send_again = send_again
        self._verified: set[str] = set()
        self._turn = asyncio.Lock()

    @asynccontextmanager
    async def first_record_of_link(self, record: Claimed) -> AsyncIterator[bool]:
        """Yield True for a record that must be read back; others with unverified links wait until that is done."""
        patch = record.operation == "update"
        if not self.unverified(record, patch=patch):
            yield False
            return
        async with self._turn:
            yield self.unverified(record, patch=patch)

    async def values(self, record: Claimed, *, patch: bool, by_pkey: bool = False) -> Values | ResponseOutcome:
        """Return the values that the record's links are sent with, or why one of them cannot be sent.

        Args:
            patch: True leaves out acknowledged links.
            by_pkey: True uses the parent's PKey whatever the style.
        """
        values: dict[str, str] = {}
        for link, target in self._sent(record, patch=patch):
            if not by_pkey and self._by_key(target):
                values[link.attribute] = str(link.id)
                continue
            pkey = await self._pkey(target, link)
            if isinstance(pkey, ResponseOutcome):
                return pkey
            values[link.attribute] = pkey
        return values

    async def refused(self, record: Claimed, sent: Values, reason: str) -> bool | ResponseOutcome:
        """Return whether a record that Campaign rejected because of a link is to be sent once more.

        Judged by `reason`, Campaign's error text, which then names the value that the link was sent with. True if that
        was the parent's key, and the parent exists: such links are sent by the PKey from now on, unless the style is
        `key`. True also if the parent has another PKey than the one in memory. If Campaign does not hold the parent,
        the outcome that says so.
        """
        again = False
        for link, target in self._sent(record, patch=False):
            value = sent.get(link.attribute)
            if not value or value.lower() not in reason.lower():
                continue
            if link.parent:
                self._known.forget(link.parent)
            pkey = await self._pkey(target, link)
            if isinstance(pkey, ResponseOutcome):
                return pkey if pkey.kind == "refused" else again
            by_key = value == link.id
            if pkey == value or (by_key and target.link.style == "key"):
                continue
            if by_key:
                self._addressing(target).note(KEY_IN_LINK, "refused")
            again = True
        return again

    async def verify(self, record: Claimed, records: Records, pkey: str, sent: Values) -> ResponseOutcome | None:
        """Read back a record that was just sent; send links that it does not hold once more, by the parent's PKey.

        Returns:
            None if the record holds its links, after the second attempt at the latest; else why it is rejected.

        Raises:
            LinkNotKept: Campaign does not store a link by the parent's PKey (or by the key, if the style is `key`).
            OutcomeUnknown: Campaign does not show the record. It accepted it, so the record must not count as never
                sent.
        """
        wrong = await self._wrong(record, records, pkey, sent)
        if not wrong:
            self._verified.update(sent)
            return None
        for link, target in wrong:
            by_key = sent[link.attribute] == link.id
            if by_key and target.link.style == "key":
                raise LinkNotKept(
                    f"Campaign takes the link {link.attribute} by the parent's key and links to nothing, or to another "
                    "record. Write `style: auto` in the configuration."
                )
            if by_key:
                # In this order: if the finding were stored first and we crashed, the other records' links would stay
                # empty. Before the first finding, links that were acknowledged by a list were found there.
                found = KEY_IN_LINK not in self._addressing(target).findings
                if not (found and records.addressing.findings.get(EXISTING) == LISTED):
                    await self._send_again(link.attribute)
                self._addressing(target).note(KEY_IN_LINK, "empty")
            if link.parent:
                self._known.forget(link.parent)
        again = await self.values(record, patch=False, by_pkey=True)
        if isinstance(again, ResponseOutcome):
            raise _NotShown
        mended = {link.attribute: again[link.attribute] for link, _ in wrong}
        response = await records.update_links(pkey, mended)
        if response.kind == "missing":
            return ResponseOutcome(
                "refused",
                remedy=f"Campaign hides this record: its link {', '.join(mended)} led to no record when it was "
                "inserted, and Campaign requires it. Delete the record in Campaign, then retry.",
            )
        if response.kind != "done":
            raise _NotShown
        if still := await self._wrong(record, records, pkey, mended):
            names = ", ".join(link.attribute for link, _ in still)
            raise LinkNotKept(f"Campaign does not keep the link {names}, although it is sent with the parent's PKey.")
        self._verified.update(sent)
        return None

    # --- one link -----------------------------------------------------------------------------------------------------

    def _sent(self, record: Claimed, *, patch: bool) -> list[tuple[LinkTo, LinkTarget]]:
        return [
            (link, self._targets[link.attribute])
            for link in record.links
            if link.keyed and link.id and link.attribute in self._targets and not (patch and link.acknowledged)
        ]

    def unverified(self, record: Claimed, *, patch: bool = False) -> bool:
        """Return True if one of the record's links was not verified in this push.

        patch: acknowledged links do not count.
        """
        return any(link.attribute not in self._verified for link, _ in self._sent(record, patch=patch))

    def _by_key(self, target: LinkTarget) -> bool:
        return sent_by_key(target, self._addressing(target).findings)

    def _addressing(self, target: LinkTarget) -> Addressing:
        return self._parents[target.parent.resource].addressing

    async def _pkey(self, target: LinkTarget, link: LinkTo) -> str | ResponseOutcome:
        if link.parent and (known := self._known.get(link.parent)):
            return known
        parent = await self._parents[target.parent.resource].find(str(link.id))
        if isinstance(parent, ResponseOutcome):
            if parent.kind != "missing":
                return parent
            return ResponseOutcome(
                "refused",
                remedy=f"Campaign no longer holds {target.parent.table} {link.id}, to which {target.attribute} leads. "
                f"`sync-assets explain {link.id}` names the replay that sends it again.",
            )
        pkey = str(parent["PKey"])
        if link.parent:
            self._known.remember(link.parent, pkey)
        return pkey

    async def _wrong(
        self, record: Claimed, records: Records, pkey: str, sent: Values
    ) -> list[tuple[LinkTo, LinkTarget]]:
        """Return the links, among those sent, that the record in Campaign does not hold.

        A record that is missing counts as hidden by Campaign, because a required link is empty. Raises OutcomeUnknown
        if Campaign does not show the record, or the parent that a link leads to.
        """
        stored = await records.read(pkey)
        if isinstance(stored, ResponseOutcome) and stored.kind != "missing":
            raise _NotShown
        wrong: list[tuple[LinkTo, LinkTarget]] = []
        for link, target in self._sent(record, patch=False):
            if link.attribute not in sent:
                continue
            held = linked_pkey(stored, link.attribute)
            if not held or not await self._leads_to(held, target, link, sent[link.attribute]):
                wrong.append((link, target))
            elif sent[link.attribute] == link.id:
                self._addressing(target).note(KEY_IN_LINK, "resolved")
        return wrong

    async def _leads_to(self, held: str, target: LinkTarget, link: LinkTo, sent: str) -> bool:
        if held == sent or (link.parent and held == self._known.get(link.parent)):
            return True
        # PKeys are opaque and the same record may have several: its key decides.
        parent = await self._parents[target.parent.resource].read(held)
        if isinstance(parent, ResponseOutcome) and parent.kind != "missing":
            raise _NotShown
        right = isinstance(parent, dict) and str(parent.get(target.parent.key) or "").lower() == link.id
        if right and link.parent:
            self._known.remember(link.parent, held)
        return right


def linked_pkey(record: Mapping[str, Any] | ResponseOutcome, attribute: str) -> str:
    """Return the PKey in a link of a record; empty if there is no link, or no record."""
    held = None if isinstance(record, ResponseOutcome) else record.get(attribute)
    return str(held.get("PKey") or "") if isinstance(held, dict) else ""
