"""Guardrails: limits that stop a run before its first write, and notes that only warn.

Here: the limits with their numbers; their rules are in `rules.py`. Source:
https://experienceleague.adobe.com/docs/campaign-standard/using/integrating-with-adobe-cloud/campaign-and-microsoft-dynamics-365/d365-acs-notices-and-recommendations.html
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from sync_assets.campaign.addressing import Addressing
from sync_assets.campaign.client import CampaignClient, CampaignRefused
from sync_assets.campaign.metadata import Resource
from sync_assets.checks import rules
from sync_assets.checks.rules import Finding, Rule, ok, require, warn
from sync_assets.config.models import Config, Guardrails, TableConfig
from sync_assets.config.values import CONTACT, PROFILE
from sync_assets.dataverse.client import D365Refused, DataverseClient
from sync_assets.dataverse.metadata import MODIFIED, Table
from sync_assets.dataverse.row_counts import Interval, count_rows
from sync_assets.errors import SyncAssetsError
from sync_assets.ledger import Ledger
from sync_assets.ledger.model import Operation
from sync_assets.mapping.conversions import AS_TEXT
from sync_assets.mapping.personal_data import looks_personal
from sync_assets.mapping.table_mapping import TableMapping
from sync_assets.runtime import interruptible
from sync_assets.runtime.call_limits import calls_today
from sync_assets.runtime.clients import Clients
from sync_assets.runtime.context import Runtime
from sync_assets.task_group import run_together

PROFILE_NAMES = frozenset((PROFILE, "recipient"))
"""The resource of a person, by its API name and by its schema name."""
MOST_LINKS = 3
"""Links at most in a path to profile, where the path leads through resources that are not mapped."""

# --- Limits -----------------------------------------------------------------------------------------------------------


def within_limits(config: Config, table: TableConfig, contacts: int | None) -> list[Finding]:
    """Return the findings that follow from the configuration and the number of contacts (None: unknown so far)."""
    limits, chain = config.guardrails, longest_chain(config, table.table)
    if table.table == CONTACT:
        remedy = "narrow them with `filters`, or raise max_contacts if your Campaign package allows it"
        own = _limit(rules.CONTACTS, contacts, limits.max_contacts, "contacts", remedy)
    else:
        remedy = "take fields or links out of its mapping, or raise max_columns"
        columns = len(table.fields) + len(table.links)
        own = _limit(rules.MOST_COLUMNS, columns, limits.max_columns, f"mapped columns of {table.table}", remedy)
    custom = sum(table_config.table != CONTACT for table_config in config.tables)
    fewer = "take tables out of the configuration, or raise max_custom_entities"
    shorter = "take a link out of the configuration, or raise max_link_depth"
    return [
        own,
        _limit(rules.ENTITIES, custom, limits.max_custom_entities, "tables besides contact", fewer),
        _limit(
            rules.LINK_DEPTH, len(chain) - 1, limits.max_link_depth, f"links in a row, {' -> '.join(chain)}", shorter
        ),
    ]


class BeyondLimits(SyncAssetsError):
    """Raised when the configuration itself breaks guardrails: nothing is synchronised until it is corrected."""


MOST_SHOWN = 3
"""Broken limits that one message lists; of the others it gives the number."""


def check_configuration(config: Config, tables: Iterable[TableConfig]) -> None:
    """Check the limits that depend on the configuration alone, once for all tables, before anything runs.

    Raises:
        BeyondLimits: one line with everything that is wrong.
    """
    findings = [finding for table in tables for finding in within_limits(config, table, None) if finding.stops_all]
    problems = list(dict.fromkeys(map(str, findings)))  # the number of custom entities is the same for every table
    if problems:
        number = len(problems) - MOST_SHOWN
        further = f"; and {number:,} more, see `sync-assets doctor`" if number > 0 else ""
        shown = "; ".join(problems[:MOST_SHOWN])
        raise BeyondLimits(f"Nothing was synchronised, nothing was written: {shown}{further}.")


def check_limits(runtime: Runtime, table: TableConfig, *, reading: bool) -> list[Finding]:
    """Return the findings of all limits of the table; raise NotReady if one is broken.

    `reading`: the table is about to be captured, so until its first read is complete Dynamics 365 is asked for the
    number of contacts; afterwards the ledger's number counts.
    """
    return require(table.table, within_limits(runtime.config, table, contacts(runtime, table, reading=reading)))


def contacts(runtime: Runtime, table: TableConfig, *, reading: bool) -> int:
    """Return the number of contacts in the ledger.

    Until their first read is complete, `reading` asks Dynamics 365 as well, and the larger number counts.
    """
    counted, feed = known_contacts(runtime.ledger), runtime.ledger.feeds.feed(CONTACT)
    if reading and table.table == CONTACT and not (feed and feed.complete):

        async def asked() -> int | None:
            async with runtime.d365() as client:
                return await count_contacts(runtime.config, client)

        if reported := interruptible.run(asked()) or 0:
            runtime.progress.expect(f"capturing {CONTACT}", reported)  # of the first load
        return max(counted, reported)
    return counted


def known_contacts(ledger: Ledger) -> int:
    """Return the number of contacts in the ledger: those that passed the filter."""
    return ledger.reports.counts()[CONTACT].records


async def count_contacts(config: Config, client: DataverseClient) -> int | None:
    """Return the number of contacts in Dynamics 365, from its last snapshot (docs/dev/references/dataverse.md 2.3).

    None if Dynamics 365 refuses to answer, or if a filter or no mapping at all makes the number irrelevant.
    """
    if not any(table.table == CONTACT and table.filters is None for table in config.tables):
        return None
    try:
        return await client.record_count(CONTACT)
    except D365Refused:
        return None


def _limit(rule: Rule, number: int | None, limit: int, noun: str, remedy: str) -> Finding:
    text = f"{noun}: {'not known yet' if number is None else f'{number:,}'} of at most {limit:,}"
    numbers = {"limit": limit} | ({} if number is None else {"number": number})
    passed = number is None or number <= limit
    return rule.finding(passed, text if passed else f"{text}; {remedy}", numbers)


def longest_chain(config: Config, table: str) -> list[str]:
    """Return the tables of the longest chain of links, beginning with `table`.

    table1 -> table2 -> table3 is a depth of 2. There are no circles (cross_checks.py).
    """
    chains = [longest_chain(config, link.table) for link in config.table(table).links if link.table != table]
    return [table, *max(chains, key=len, default=[])]


# --- Notes ------------------------------------------------------------------------------------------------------------


def supported_types(mapping: TableMapping) -> Finding:
    """Warn of columns that are sent as text because Campaign lacks their type (docs/dev/references/campaign.md 14)."""
    others = [f"{field.column.name} ({field.column.type})" for field in mapping.fields if field.column.type in AS_TEXT]
    text = f"columns that are sent as texts: {', '.join(others)}" if others else ""
    return rules.TYPES.finding(not others, text, {"as_text": len(others)})


def personal_data(config: Config, table: TableConfig, resources: Iterable[Resource]) -> Finding:
    """Warn if the table holds personal data without a link to profile, or that a deleted profile leaves behind.

    A privacy request finds only data that is linked to a profile, and deletes it with the profile only if the links
    cascade (docs/dev/references/campaign.md 14). `resources`: the metadata known, at least that of the table's
    resource.
    """
    by_name = {resource.name: resource for resource in resources}
    own = by_name[table.resource]
    types = ("string", "enumeration", "date", "datetime")
    texts = {path for path, attribute in own.attributes.items() if attribute.type in types}
    personal = sorted(
        column
        for column, field in table.fields.items()
        if field.to in texts and (looks_personal(column) or looks_personal(field.to))
    )
    numbers = {"personal_columns": len(personal)}
    path = way_to_profile(table.resource, links_between(config, by_name.values()))
    cascading = way_to_profile(table.resource, links_between(config, by_name.values(), cascading=True))
    if not personal:
        text = f"no column of {table.table} looks like personal data"
    elif path and cascading:
        text = f"personal data ({', '.join(personal)}) is linked: {' -> '.join(path)}"
    elif path:
        text = (
            f"personal data ({', '.join(personal)}) is linked: {' -> '.join(path)}, but by Campaign's metadata without "
            'the deletion: deleting the profile leaves it in Campaign. Tick "Deleting the target record implies '
            "deleting records referenced by the link\" in the link's definition and publish, or leave these columns out"
        )
    else:
        text = (
            f"{', '.join(personal)} look like personal data, but no link leads from {table.resource} to profile: a "
            "privacy request for a person would not find them. Link the resource to profile, directly or through "
            "another one, with the deletion passed on, or leave these columns out"
        )
    return rules.PERSONAL_DATA.finding(not personal or bool(path and cascading), text, numbers)


def check_personal_data(config: Config, clients: Clients, table: TableConfig, own: Resource) -> Finding:
    """Return the finding of `personal_data` for a run, which has the metadata of its own resource only.

    If that is not enough, the metadata of linked resources is read from Campaign.
    """
    finding = personal_data(config, table, [own])
    direct = any(attribute.target in PROFILE_NAMES for attribute in own.attributes.values() if attribute.type == "link")
    if not finding.numbers["personal_columns"] or own.name in PROFILE_NAMES or (direct and finding.passed):
        return finding

    async def on_the_way() -> list[Resource]:
        async with clients.campaign() as campaign:
            return await resources_on_the_way(config, campaign, own)

    return personal_data(config, table, interruptible.run(on_the_way()))


async def resources_on_the_way(config: Config, campaign: CampaignClient, own: Resource) -> list[Resource]:
    """Return `own` and the resources that it links to within MOST_LINKS links, without profile. No engine call."""
    apis = {table.resource: table.api for table in config.tables}
    resources: dict[str, Resource | None] = {own.name: own}
    for _ in range(MOST_LINKS):
        links = links_between(config, filter(None, resources.values()))
        further = {target for name in resources for target in links.get(name, ())} - resources.keys() - PROFILE_NAMES
        for name in sorted(further):
            try:
                resources[name] = await campaign.resource(apis.get(name, own.api), name, hint=False)
            except CampaignRefused:
                resources[name] = None  # we may not read it, so its links are unknown
    return [resource for resource in resources.values() if resource]


def links_between(config: Config, resources: Iterable[Resource], *, cascading: bool = False) -> dict[str, set[str]]:
    """Return resource -> the resources that it links to, by the configuration and by Campaign's metadata.

    cascading: without the targets of which the metadata states that a record is not deleted with them.
    """
    resource_of = {table.table: table.resource for table in config.tables}
    links = {table.resource: {resource_of[link.table] for link in table.links} for table in config.tables}
    for resource in resources:
        linked = [link for link in resource.attributes.values() if link.type == "link" and link.target]
        targets = links.get(resource.name, set()) | {link.target for link in linked if link.target}
        if cascading:
            # Of several links to one target, one that cascades is enough; it is stored last.
            linked.sort(key=lambda link: link.cascades is not False)
            states = {_one_name(link.target): link.cascades for link in linked}
            targets = {target for target in targets if states.get(_one_name(target)) is not False}
        links[resource.name] = targets
    return links


def _one_name(resource: str | None) -> str | None:
    return PROFILE if resource in PROFILE_NAMES else resource


def way_to_profile(start: str, links: Mapping[str, Iterable[str]]) -> list[str] | None:
    """Return the shortest path of links from a resource to profile, both included; None if there is none."""
    paths, reached = [[start]], {start}
    for path in paths:
        if path[-1] in PROFILE_NAMES:
            return path
        further = sorted(set(links.get(path[-1], ())) - reached)
        reached.update(further)
        paths += [[*path, name] for name in further]
    return None


def campaign_notes(
    mapped: Config, ledger: Ledger, clients: Clients, config: TableConfig, resource: Resource
) -> list[Finding]:
    """Return the findings about personal data and the engine budget, which a push can compute from its own data."""
    return [
        check_personal_data(mapped, clients, config, resource),
        engine_budget(mapped.guardrails, ledger, config),
    ]


def engine_budget(guardrails: Guardrails, ledger: Ledger, table: TableConfig) -> Finding:
    """Return the finding on the day's budget: calls spent, calls left, and the cost of the pending records."""
    spent, limit = calls_today(ledger), guardrails.engine_calls_per_day
    addressing = Addressing.configured(table, ledger.dialect.facts(table.resource))
    projected = projected_calls(addressing, ledger.reports.pending_operations(table.table))
    numbers = {"spent_today": spent, "projected": projected}
    will = f"what is pending of {table.table} costs about {projected:,}"
    if limit is None:
        return rules.BUDGET.finding(True, f"engine calls today: {spent:,}, no limit is set; {will}", numbers)
    remaining = max(0, limit - spent)
    text = f"engine calls today: {spent:,} of {limit:,}, {remaining:,} are left; {will}"
    if projected > remaining:
        text += "; what does not fit is sent from the next UTC day on"
    return rules.BUDGET.finding(remaining > 0, text, numbers | {"limit": limit, "left": remaining})


def projected_calls(addressing: Addressing, pending: Mapping[Operation, int]) -> int:
    """Return the engine calls of pending records: an insert is 1, an update and a delete 1, or 2 with a look-up."""
    updates, deletes = pending.get("update", 0), pending.get("delete", 0)
    return pending.get("insert", 0) + addressing.update_calls * updates + addressing.delete_calls * deletes


PRIVACY_ORDER = (
    "deletions in Dynamics 365 are passed on. A privacy request needs more: `sync-assets hold add`, delete the person "
    "in Campaign by the Privacy Service, wait and check, delete in Dynamics 365, check, and release the hold; a plain "
    "deletion leaves traces in Campaign's logs"
)
"""Shown where `apply_deletes` is on (docs/dev/references/campaign.md 14)."""


INITIAL_RECORDS = 15_000_000
"""Records of an initial sync, at most, by Adobe's documentation (docs/dev/references/campaign.md 14)."""
LARGE_LOAD = 500_000
"""Engine calls from which on a load counts as large: a table above so many records once went by file (there)."""


def large_load(calls: int) -> list[str]:
    """Return Adobe's advice for a load of so many engine calls; none if it is not large."""
    if calls < LARGE_LOAD:
        return []
    advice = (
        "stop Campaign's own processes until a large load is over: workflows, preparation and sending of deliveries"
    )
    return [f"From {LARGE_LOAD:,} engine calls on: Adobe recommends to {advice}."]


async def volume(
    tables: Sequence[tuple[TableConfig, Table, Addressing]],
    d365: DataverseClient,
    synced: Mapping[str, int],
    per_day: int | None,
) -> list[Finding]:
    """Return rough estimates, all tables together; `estimate` computes them by table.

    Args:
        tables: those that can be synchronised, and how Campaign's records are addressed.
        d365: the client.
        synced: records that Campaign holds, by table; empty if the ledger is not usable.
        per_day: `engine_calls_per_day`; None: no limit.
    """
    if not tables:
        return []
    last_day = Interval(datetime.now(UTC) - timedelta(days=1)).condition(MODIFIED)
    try:
        rows, changed = await run_together(
            run_together(*(d365.record_count(config.table) for config, _, _ in tables)),
            run_together(*(count_rows(d365, table, last_day) for _, table, _ in tables)),
        )
    except SyncAssetsError as error:
        return [ok("estimates", f"not known: {error}")]
    load = sum(
        max(0, (count or 0) - synced.get(config.table, 0)) for count, (config, _, _) in zip(rows, tables, strict=True)
    )
    day = sum(
        projected_calls(addressing, {"update": count.number})
        for (_, _, addressing), count in zip(tables, changed, strict=True)
    )
    return [first_load(load), a_day(day, per_day, at_least=any(count.at_least for count in changed))]


def first_load(calls: int) -> Finding:
    """Return the estimate of the first load."""
    title = "estimate of the first load"
    text = f"about {calls:,} engine calls, one for each row that Dynamics 365 counts and that is not synced"
    advice = "".join(f". {line.rstrip('.')}" for line in large_load(calls))
    if calls <= INITIAL_RECORDS:
        return ok(title, f"{text}{advice}")
    text += (
        f". Campaign takes {INITIAL_RECORDS:,} records in an initial sync: narrow it with `filters`, or ask Adobe "
        "first. Spread it with engine_calls_per_day"
    )
    return warn(title, f"{text}{advice}")


def a_day(calls: int, per_day: int | None, *, at_least: bool) -> Finding:
    """Return the estimate of a day like the last one. at_least: Dynamics 365 did not count all modified rows."""
    title, number = "estimate of engine calls per day", f"{'at least ' if at_least else ''}{calls:,}"
    text = f"{number}, for rows that were modified in the last 24 hours; engine_calls_per_day is {per_day or 'not set'}"
    if per_day is None or calls <= per_day:
        return ok(title, text)
    text += (
        ": if every day is like this one, the backlog grows. Raise it as far as your Campaign package allows, or "
        "narrow the tables with `filters`"
    )
    return warn(title, text)
