"""Check a mapped table against both systems' metadata, and against its last capture, before anything is written.

Makes no engine call. A new type that the mapping can still convert would pass unnoticed, and all rows would be read and
sent again. So the types of mapped columns and attributes are stored in the ledger. A changed type stops its table, and
no other, until an operator has checked it: `sync-assets maintenance off TABLE` accepts the data model as it is.
"""

import asyncio
from collections.abc import Awaitable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from urllib.parse import parse_qsl

from sync_assets.campaign.client import CampaignClient, CampaignRefused, NotPublished
from sync_assets.campaign.metadata import Resource
from sync_assets.checks import guardrails, rules
from sync_assets.checks.known_types import KnownTypes
from sync_assets.checks.link_findings import cardinalities, earlier_link_findings
from sync_assets.checks.opt_out_columns import opt_out_problems
from sync_assets.checks.rules import Finding, NotReady, Side, require
from sync_assets.config.models import TableConfig
from sync_assets.config.opt_out import OptOutMapping
from sync_assets.dataverse.client import DataverseClient
from sync_assets.dataverse.metadata import Table
from sync_assets.errors import EndsAllTables, SyncAssetsError
from sync_assets.http.transport import HttpError
from sync_assets.ledger import Ledger
from sync_assets.ledger.errors import LedgerError
from sync_assets.mapping.mapping_changes import differences
from sync_assets.mapping.table_mapping import (
    MappingError,
    TableMapping,
    Targets,
    attribute_problem,
    compile_mapping,
    key_problem,
)
from sync_assets.runtime import interruptible
from sync_assets.runtime.clients import Clients
from sync_assets.runtime.context import Runtime
from sync_assets.task_group import run_together
from sync_assets.words import counted

EXAMINE_SECONDS = 15.0
"""How long `examine` waits for both systems, in seconds: Dagster ends a sensor's tick after a minute."""


@dataclass(frozen=True, slots=True)
class Ready:
    """A table and its mapping, checked against both systems."""

    table: Table
    resource: Resource
    mapping: TableMapping
    findings: list[Finding] = field(default_factory=list[Finding])


async def preflight(
    config: TableConfig,
    d365: DataverseClient,
    campaign: CampaignClient,
    targets: Targets = MappingProxyType({}),
    carried: Mapping[str, OptOutMapping] = MappingProxyType({}),
) -> Ready:
    """Read the metadata of both systems and compile the mapping.

    targets, carried: see compile_mapping. Raises NotReady with all findings, and what the clients raise if a system
    cannot be reached.
    """
    table, resource = await run_together(d365.table(config.table, None), campaign.resource(config.api, config.resource))
    return check_metadata(config, table, resource, targets, carried)


def check_metadata(
    config: TableConfig,
    table: Table,
    resource: Resource,
    targets: Targets,
    carried: Mapping[str, OptOutMapping] = MappingProxyType({}),
) -> Ready:
    """Compile the mapping by the metadata of both systems. Pure. Arguments and errors as those of `preflight`."""
    mapping: TableMapping | None = None
    # Opt-outs have stricter rules than other fields; without them in `fit`, no problem is reported twice.
    columns, attributes = opt_out_problems({**config.opt_outs, **carried}, table, resource, written=bool(carried))
    fit = config.without_opt_outs() if columns or attributes else config
    try:
        mapping = compile_mapping(fit, table, resource, targets, {} if columns else carried)
    except MappingError as error:
        columns, attributes = [*error.d365, *columns], [*error.campaign, *attributes]
    findings = [tracking(table), rules.COLUMNS.no_problems(columns), *_of_campaign(config, resource, attributes)]
    if mapping is None:
        raise NotReady(config.table, findings)
    return Ready(table, resource, mapping, require(config.table, findings))


def campaign_findings(config: TableConfig, resource: Resource) -> list[Finding]:
    """Return the findings that need Campaign's metadata alone: enough for a push, which does not ask Dynamics 365."""
    problems = [attribute_problem(resource, mapped.to, f"`{column}`") for column, mapped in config.fields.items()]
    problems += [attribute_problem(resource, link.to, f"link `{link.field}`") for link in config.links]
    return _of_campaign(config, resource, [problem for problem in problems if problem])


def _of_campaign(config: TableConfig, resource: Resource, problems: list[str]) -> list[Finding]:
    key = _key(config, resource)
    return [
        rules.PUBLISHED.finding(True),
        rules.ATTRIBUTES.no_problems(problem for problem in problems if problem != key.message),
        cardinalities(config, resource),
        key,
    ]


def findings_of(error: SyncAssetsError) -> list[Finding]:
    """Return the findings that an error of the preflight, or of a push's check of Campaign, contains."""
    if isinstance(error, NotPublished):
        return [rules.PUBLISHED.finding(False, str(error))]
    return error.findings if isinstance(error, NotReady) else []


def tracking(table: Table) -> Finding:
    remedy = "switch it on in the table's properties (Advanced options, Track changes) and publish"
    return rules.TRACKING.finding(table.change_tracking, "" if table.change_tracking else remedy)


def _key(config: TableConfig, resource: Resource) -> Finding:
    """Return the finding on the key. The metadata has no member for uniqueness (docs/dev/references/campaign.md 3)."""
    if problem := key_problem(resource, config.key):
        return rules.KEY.finding(False, problem)
    used, sample = config.filter, resource.filters.get(config.filter.name, "") if config.filter else ""
    if used and resource.filters and used.name not in resource.filters:  # metadata without any may simply not list them
        published = f"{config.resource} has no filter {used.name} published (it has {', '.join(resource.filters)})"
        remedy = f'Define it with "switch to parameters" on {config.key} and publish, or correct `filter`'
        if same := next((name for name in resource.filters if f"by{name}".casefold() == used.name.casefold()), None):
            remedy = f"Write `name: {same}` in `filter`: Campaign v8 names filters without `by`"
        return rules.KEY.finding(False, f"{published}. {remedy}")
    parameters = [parameter for parameter, _ in parse_qsl(sample.partition("?")[2])]
    if used and parameters and used.parameter not in parameters:  # Campaign ignores an unknown parameter
        wrong = f"the filter {used.name} has no parameter {used.parameter} by Campaign's metadata"
        remedy = f"so that it would return all records; write `parameter: {parameters[0]}`"
        return rules.KEY.finding(False, f"{wrong}, {remedy}", stops=False)
    hint = "the first record that is sent is read back by it"
    text = f"{config.key} can hold the D365 id. Campaign's metadata does not state whether it is unique: {hint}"
    return rules.KEY.finding(True, text)


# --- What changed since the last capture ------------------------------------------------------------------------------


def types_of(mapping: TableMapping) -> KnownTypes:
    """Return the types of all columns and attributes that the mapping reads and writes."""
    attributes = [mapping.key, *(field.attribute for field in (*mapping.fields, *mapping.links))]
    types = {attribute.path: str(attribute.type) for attribute in attributes}
    return {"d365": dict(mapping.column_types), "campaign": types}


def types_in(config: TableConfig, resource: Resource) -> KnownTypes:
    """Return the types of Campaign's side alone, which a push checks."""
    paths = {config.key, *(field.to for field in config.fields.values()), *(link.to for link in config.links)}
    known = {path: attribute.type for path in sorted(paths) if (attribute := resource.attributes.get(path))}
    return {"campaign": known}


def type_findings(config: TableConfig, stored: KnownTypes, now: KnownTypes) -> list[Finding]:
    """Return one finding for each side in `now`: columns or attributes whose type differs from the known one.

    A column or attribute without a known type is no change.
    """
    findings: list[Finding] = []
    sides = (("campaign", rules.ATTRIBUTE_TYPES, config.resource), ("d365", rules.COLUMN_TYPES, config.table))
    for side, rule, where in sides:
        known, types = stored.get(side, {}), now.get(side, {})
        changed = [
            f"`{name}` of {where} was {known[name]} and is {type_}"
            for name, type_ in types.items()
            if known.get(name, type_) != type_
        ]
        text = "; ".join(changed)
        if changed:
            text += (
                ". Check that the mapping is still right, then `sync-assets maintenance off "
                f"{config.table}` takes the new types"
            )
        if types:
            findings.append(rule.finding(not changed, text))
    return findings


def findings_since_capture(ledger: Ledger, config: TableConfig, now: KnownTypes) -> list[Finding]:
    """Return the findings about types and target that differ from those of the table's last capture.

    now: the types, as in `type_findings`. The types of another resource are no change of the former one's.
    """
    stored, target = ledger.types.facts(config.table), target_finding(ledger, config)
    if ledger.targets.target(config.table) != (config.resource, config.key):
        stored.pop("campaign", None)
    return [*type_findings(config, stored, now), target, *earlier_link_findings(ledger, config)]


def target_finding(ledger: Ledger, config: TableConfig) -> Finding:
    """Return the finding about a table's target, the resource and the key attribute; it fails if another was sent to.

    A target to which nothing was sent may be replaced.
    """
    resource, key = before = ledger.targets.target(config.table) or (config.resource, config.key)
    records, links = ledger.targets.count_sent(config.table) if before != (config.resource, config.key) else (0, 0)
    if not records:
        return rules.TARGET.finding(True)
    are = "is" if links == 1 else "are"
    linked = f", {counted(links, 'link')} of other tables to them {are} sent again" if links else ""
    text = (
        f"{counted(records, 'record')} went to {resource} by {key}, and the configuration names {config.resource} by "
        f"{config.key}. Set it back, or `sync-assets sync --accept-mapping`: {config.resource} is listed, the records "
        f"that it lacks by {config.key} are sent as new ones, one engine call each{linked}; those in {resource} that "
        f"carry {key} stay as they are"
    )
    return rules.TARGET.finding(False, text, {"records": records, "links": links})


# --- The whole set-up of a table --------------------------------------------------------------------------------------


def readiness(runtime: Runtime, config: TableConfig, seconds: float | None = None) -> list[Finding]:
    """Return the findings of both sides. A system that does not answer is a finding as well.

    If one side does not answer, the other side lacks findings that need both. seconds: a side that takes longer has no
    findings; None: requests are repeated as usual. Raises LedgerError if the ledger cannot be used.
    """

    async def check_both() -> tuple[list[Finding], Ready | None]:
        try:
            async with asyncio.timeout(seconds):
                ready = await set_up(runtime, config)
            return ready.findings, ready
        except NotReady as error:
            return error.findings, None
        except (SyncAssetsError, TimeoutError):  # check each system by itself
            d365, campaign = await run_together(
                _or_failure("d365", of_d365(), seconds),
                _or_failure("campaign", _campaign(runtime.clients, runtime.ledger, config), seconds),
            )
            return [*d365, *campaign], None

    async def of_d365() -> list[Finding]:
        async with runtime.d365() as d365:
            return [tracking(await d365.table(config.table, None))]

    findings, ready = interruptible.run(check_both())
    contacts = guardrails.contacts(runtime, config, reading=ready is not None)
    findings = [*findings, *guardrails.within_limits(runtime.config, config, contacts)]
    if not ready:
        return findings
    notes = guardrails.campaign_notes(runtime.config, runtime.ledger, runtime.clients, config, ready.resource)
    return [*findings, types_note(ready), *notes]


async def set_up(runtime: Runtime, config: TableConfig) -> Ready:
    """Read a table's set-up from both systems. Its findings include changed types, which may fail.

    Raises:
        NotReady: Another part of the set-up fails.
        SyncAssetsError: A system does not answer.
    """
    async with runtime.d365() as d365, runtime.campaign() as campaign:
        carried = runtime.config.captured_opt_outs(config.table)
        ready = await preflight(config, d365, campaign, runtime.config.targets, carried)
    types = types_of(ready.mapping)
    changed = await asyncio.to_thread(lambda: findings_since_capture(runtime.ledger, config, types))
    return replace(ready, findings=[*ready.findings, *changed])


def types_note(ready: Ready) -> Finding:
    """Return the finding about columns that are sent as text, marked as passed.

    `doctor` warns about it; in a check it would fail for good, and hide other findings.
    """
    finding = guardrails.supported_types(ready.mapping)
    return rules.TYPES.finding(True, finding.message, finding.numbers)


def causes(runtime: Runtime, config: TableConfig, error: SyncAssetsError, side: Side) -> list[Finding]:
    """Return the findings that explain why work on one side failed: of both sides, at least one of them failing.

    An error without findings may come from either system, so both are checked again, each by itself.
    """
    if isinstance(error, EndsAllTables):  # a second check would take as long
        return [failure("campaign", error)]
    findings = findings_of(error)
    missing = {"d365", "campaign"} - {finding.side for finding in findings}
    if missing:
        with suppress(Exception):  # the same error may occur again; the first one is reported below
            examined = readiness(runtime, config, EXAMINE_SECONDS)
            findings = [*findings, *(finding for finding in examined if finding.side in missing)]
    failing = {finding.side for finding in findings if finding.stops}
    return findings if failing and (side == "d365" or side in failing) else [*findings, failure(side, error)]


def failure(side: Side, error: SyncAssetsError) -> Finding:
    """Return an error as a failed finding of one side."""
    return rules.ANSWERS.finding(False, str(error), side=side)


def examine(runtime: Runtime, config: TableConfig, *, pushes: bool) -> list[Finding]:
    """Return the findings on what a run of the table needs, to find out if it would fail.

    pushes: the run only pushes, and needs Campaign's side alone.

    Raises:
        HttpError, EndsAllTables, LedgerError: No run could succeed, of any table: a system does not answer within
            EXAMINE_SECONDS, or refuses our sign-in.
    """

    async def examined() -> list[Finding]:
        async with asyncio.timeout(EXAMINE_SECONDS):
            if pushes:
                return await _campaign(runtime.clients, runtime.ledger, config)
            return (await set_up(runtime, config)).findings

    try:
        findings = interruptible.run(examined())
    except TimeoutError:
        raise HttpError(
            f"{config.table}: the metadata of both systems could not be read within {EXAMINE_SECONDS:.0f} s.",
            "`sync-assets doctor` shows which system does not answer.",
        ) from None
    except (HttpError, EndsAllTables, LedgerError):
        raise
    except SyncAssetsError as error:
        is_campaign = pushes or isinstance(error, CampaignRefused)
        findings = findings_of(error) or [failure("campaign" if is_campaign else "d365", error)]
    contacts = guardrails.contacts(runtime, config, reading=not pushes)
    return [*findings, *guardrails.within_limits(runtime.config, config, contacts)]


async def _or_failure(side: Side, findings: Awaitable[list[Finding]], seconds: float | None) -> list[Finding]:
    try:
        async with asyncio.timeout(seconds):
            return await findings
    except SyncAssetsError as error:
        return findings_of(error) or [failure(side, error)]
    except TimeoutError:
        return []


async def _campaign(clients: Clients, ledger: Ledger, config: TableConfig) -> list[Finding]:
    async with clients.campaign() as campaign:
        resource = await campaign.resource(config.api, config.resource)
    changed = await asyncio.to_thread(lambda: findings_since_capture(ledger, config, types_in(config, resource)))
    return [*campaign_findings(config, resource), *changed]


def mapping_changes(ledger: Ledger, config: TableConfig, mapping: TableMapping) -> list[Finding]:
    """Return a finding on the table's mapping if it changed since the last capture."""
    texts = ledger.mappings.configurations(config.table, mapping.fingerprint)
    changes = differences(texts[0], config) if texts else []
    cost = "every row is read again, and the attributes that differ are sent; `sync-assets plan` shows how many"
    return [rules.warn("mapping", f"changed since the last sync: {'; '.join(changes)}: {cost}")] if changes else []
