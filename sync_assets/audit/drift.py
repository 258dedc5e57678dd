"""Drift: read a random sample of acknowledged records back from Campaign, and compare them with what was sent.

The ledger stores hashes, not payloads. So the sampled rows are read from Dynamics 365 and transformed again; only if
the hash is the acknowledged one is it known what was sent, and the record is compared. A link differs if it does not
lead to the acknowledged parent. Costs one engine call for each record compared, and one for each of their parents.
"""

import asyncio
import secrets
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from sync_assets.audit.linked_records import TWICE, LinkedRecords, presence
from sync_assets.audit.value_comparison import differing
from sync_assets.campaign.addressing import refused_in_updates
from sync_assets.campaign.dialect import ResponseOutcome
from sync_assets.campaign.metadata import Resource
from sync_assets.checks import rules
from sync_assets.checks.health import SHARE_IN_ERROR, ids_by_attribute
from sync_assets.checks.preflight import Ready, preflight
from sync_assets.checks.rules import SHOWN_IDS, Finding
from sync_assets.config.models import TableConfig
from sync_assets.dataverse.client import DataverseClient
from sync_assets.dataverse.page_parser import PageParser
from sync_assets.errors import SyncAssetsError
from sync_assets.http.redaction import redact
from sync_assets.json_members import without
from sync_assets.ledger import Ledger
from sync_assets.mapping.transform import transform
from sync_assets.runtime.call_limits import calls_left, count_calls
from sync_assets.runtime.context import Runtime
from sync_assets.task_group import run_together

SAMPLE = 200
"""Records that are read back at most."""
AT_ONCE = 8
"""Reads in flight, few enough not to slow down pushes that run at the same time."""


@dataclass(slots=True)
class Drift:
    """The result of a sample. Ids only, never values.

    Attributes:
        sampled: records drawn.
        moved: of these, records not compared, because their row or the mapping has changed since they were sent.
        unanswered: of these, records for which Campaign gave no answer.
        compared: the others.
        missing: compared records that Campaign does not have.
        twice: compared records of which Campaign has several.
        differing: attribute -> ids of compared records that differ in it.
        kept_back: records left out because the day's budget of engine calls does not allow more reads.
    """

    sampled: int = 0
    moved: int = 0
    unanswered: int = 0
    compared: int = 0
    kept_back: int = 0
    missing: list[str] = field(default_factory=list[str])
    twice: list[str] = field(default_factory=list[str])
    differing: dict[str, list[str]] = field(default_factory=dict[str, list[str]])

    @property
    def different(self) -> set[str]:
        """Return the ids of records in which something differs."""
        return {id_ for ids in self.differing.values() for id_ in ids}

    @property
    def numbers(self) -> dict[str, int]:
        """Return the numbers of records, by the names in the metadata of the asset."""
        names = ("sampled", "compared", "moved", "unanswered", "kept_back")
        numbers: dict[str, int] = {name: getattr(self, name) for name in names}
        lists = {"differing": self.different, "missing": self.missing, "twice": self.twice}
        return numbers | {name: len(records) for name, records in lists.items()}


Sent = Mapping[str, tuple[bytes, dict[str, Any]]]
"""Id -> hash and members of the payload that was sent last."""


async def drift(runtime: Runtime, config: TableConfig) -> Drift:
    """Read back up to SAMPLE records of the table, and compare them.

    Raises what the preflight and the clients raise.
    """
    ledger = await asyncio.to_thread(lambda: runtime.ledger)
    left = await asyncio.to_thread(calls_left, ledger, runtime.config.guardrails)
    wanted = SAMPLE if left is None else min(SAMPLE, left)
    ids = await asyncio.to_thread(ledger.reports.sample_synced, config.table, SAMPLE, secrets.randbits(32))
    result = Drift(sampled=len(ids), kept_back=max(0, len(ids) - wanted))
    if not ids[:wanted]:
        return result
    async with runtime.d365() as d365, runtime.campaign() as campaign:
        ready = await preflight(config, d365, campaign, runtime.config.targets)
        try:
            sent = await _sent(ledger, d365, ready, ids[:wanted])
            result.moved = min(len(ids), wanted) - len(sent)
            links = await asyncio.to_thread(ledger.links.acknowledged_links, config.table, list(sent))
            reading = await LinkedRecords.opened(runtime.config, ledger, campaign, config, ready.resource)
            await _compare(reading, ready.resource, links, sent, result)
        finally:
            await count_calls(ledger, config.table, campaign.calls.take())
        await asyncio.to_thread(_forget_moved, ledger, config.table, sent, result)
    return result


async def _sent(ledger: Ledger, client: DataverseClient, ready: Ready, ids: list[str]) -> Sent:
    """Return the payload that was sent last, for those of the ids for which it is known."""
    mapping = ready.mapping
    left_out = refused_in_updates(await asyncio.to_thread(ledger.dialect.facts, mapping.resource))
    kept = await asyncio.to_thread(ledger.emptied.kept_of, mapping.table, ids)
    parser = PageParser({name: mapping.column_types[name] for name in mapping.select})
    sent: dict[str, tuple[bytes, dict[str, Any]]] = {}
    async for head in client.rows(ready.table, mapping.select, ids):
        rows = transform(parser.parse(head).rows, mapping)
        for row in rows.select("id", "hash", "payload", "update_payload").iter_rows(named=True):
            form = without(row["update_payload"] or row["payload"], *left_out, *kept.get(row["id"], ()))
            sent[row["id"]] = (row["hash"], msgspec.json.decode(form))
    acked = await asyncio.to_thread(ledger.reports.acked_hashes, mapping.table, ids)
    return {id_: (hash_, members) for id_, (hash_, members) in sent.items() if acked.get(id_) == hash_}


async def _compare(
    reading: LinkedRecords, resource: Resource, links: Mapping[str, Mapping[str, str]], sent: Sent, result: Drift
) -> None:
    """Compare the records. links: the acknowledged ones, by id."""
    free = asyncio.Semaphore(AT_ONCE)
    different: defaultdict[str, list[str]] = defaultdict(list)

    async def look(id_: str, members: dict[str, Any]) -> None:
        async with free:
            record = await reading.find(id_)
            wrong = [] if isinstance(record, ResponseOutcome) else await reading.wrong_links(record, links.get(id_, {}))
        shown = presence(record)
        result.unanswered += shown == "unanswered"
        result.compared += shown != "unanswered"
        if not isinstance(record, ResponseOutcome):
            for attribute in [*differing(members, record, resource), *wrong]:
                different[attribute].append(id_)
        elif record.kind == "denied":
            raise SyncAssetsError(
                f"Campaign refuses to show records of {resource.name}: {redact(record.reason, None)}",
                "Check the credentials, their product profile, and the filter of the configuration.",
            )
        elif shown != "unanswered":
            (result.missing if shown == "missing" else result.twice).append(id_)

    await run_together(*(look(id_, members) for id_, (_, members) in sent.items()))
    result.differing = {attribute: sorted(ids) for attribute, ids in sorted(different.items())}


def _forget_moved(ledger: Ledger, table: str, sent: Sent, result: Drift) -> None:
    """Remove records from the result that were sent again during the comparison: their differences prove nothing."""
    suspects = [*result.missing, *result.twice, *result.different]
    acked = ledger.reports.acked_hashes(table, suspects)
    moved = {id_ for id_ in suspects if acked.get(id_) != sent[id_][0]}
    result.moved += len(moved)
    result.compared -= len(moved)
    result.missing = sorted(set(result.missing) - moved)
    result.twice = sorted(set(result.twice) - moved)
    still = {attribute: [id_ for id_ in ids if id_ not in moved] for attribute, ids in result.differing.items()}
    result.differing = {attribute: ids for attribute, ids in still.items() if ids}


def agreement(table: str, sample: Drift) -> Finding:
    """Return the finding that Campaign holds what was sent last, from a compared sample."""
    wrong = len(sample.different | set(sample.missing))
    parts: list[str] = []
    if sample.missing:
        parts.append(f"{len(sample.missing)} are not in Campaign")
    if sample.differing:
        named = ", ".join(f"{attribute} ({len(ids)})" for attribute, ids in sample.differing.items())
        parts.append(f"{len(sample.different)} differ: {named}")
    text = f"Of {sample.compared} records that were read back, {'; '.join(parts) or 'all hold what was sent last'}."
    if wrong:
        text += f" Somebody changed them in Campaign; `sync-assets replay {table} --force` sends them again."
    if not sample.compared:
        text = "No record was read back: " + (
            "the day's budget of engine calls is spent." if sample.kept_back else "none is known to be as it was sent."
        )
    by_attribute = {"not found": sample.missing} if sample.missing else {}
    numbers = {
        "sampled": sample.sampled,
        "compared": sample.compared,
        "differing": len(sample.different),
        "missing": len(sample.missing),
        "moved_since": sample.moved,
        "unanswered": sample.unanswered,
        "kept_back_by_budget": sample.kept_back,
        "attributes": ids_by_attribute(by_attribute | sample.differing),
    }
    share = wrong / sample.compared if sample.compared else 0.0
    return rules.CAMPAIGN_AGREES.finding(not wrong, text, numbers, stops=share >= SHARE_IN_ERROR)


def one_record_each(config: TableConfig, sample: Drift, reasons: Sequence[tuple[str, int]]) -> Finding:
    """Return the finding that a key identifies one record, from the sample and from reasons of rejection.

    With `address: url` Campaign looks a record up by an identification key, which is unique in its database. So the
    sample can find several records only with `address: filter`.

    Args:
        config: The mapped table.
        sample: The compared one.
        reasons: (kind of reason, number of records) of rejected records.
    """
    colliding = sum(number for reason, number in reasons if TWICE.search(reason))
    lookup = "looked up by the filter" if config.address == "filter" else f"{config.key} is its identification key"
    text = f"Every one of {sample.compared} records that were read back occurs once; {lookup}."
    if sample.twice or colliding:
        text = (
            f"Records of the sample that occur in Campaign more than once: {len(sample.twice)}; rejected because "
            f"their key is taken: {colliding}. Merge them in Campaign, then `sync-assets retry {config.table}`."
        )
    numbers = {
        "compared": sample.compared,
        "more_than_once": len(sample.twice),
        "refused_because_taken": colliding,
        "ids": ", ".join(sample.twice[:SHOWN_IDS]),
    }
    return rules.UNIQUE_KEYS.finding(not (sample.twice or colliding), text, numbers)
