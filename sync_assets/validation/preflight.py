"""Preflight: check a mapped table against both systems' metadata before anything is read or written.

Here: the checks and their results as plain findings. The assets turn them into asset checks, `doctor` into lines.
"""

from __future__ import annotations

from collections.abc import Mapping as ABCMapping
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from sync_assets.campaign.client import CampaignClient, NotPublished
from sync_assets.campaign.metadata import Resource
from sync_assets.config.models import TableConfig
from sync_assets.config.opt_out import OptOutMapping
from sync_assets.dataverse.client import DataverseClient
from sync_assets.dataverse.metadata import Table
from sync_assets.errors import SyncAssetsError
from sync_assets.mapping.table_mapping import (
    MappingError,
    TableMapping,
    Targets,
    attribute_problem,
    compile_mapping,
    key_problem,
)
from sync_assets.task_group import run_together
from sync_assets.validation.findings import CHECKS, PUBLISHED, Finding, Side
from sync_assets.validation.link_cardinality import cardinality_finding
from sync_assets.validation.opt_out_columns import opt_out_problems

__all__ = [
    "CHECKS",
    "PUBLISHED",
    "Finding",
    "NotReady",
    "Ready",
    "Side",
    "campaign_findings",
    "findings_of",
    "preflight",
    "tracking_finding",
]


class NotReady(SyncAssetsError):
    """Raised for a table that must not be synchronised as it is; `findings` contains the reasons."""

    def __init__(self, table: str, findings: list[Finding]) -> None:
        self.findings = findings
        wrong = "; ".join(finding.message for finding in findings if finding.stops)
        super().__init__(f"{table} was not synchronised, nothing was written: {wrong}")


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
    carried: ABCMapping[str, OptOutMapping] = MappingProxyType({}),
) -> Ready:
    """Read the metadata of both systems and compile the mapping. Makes no engine call.

    targets, carried: see compile_mapping. Raises NotReady with all findings, and what the clients raise if a system
    cannot be reached.
    """
    table, resource = await run_together(d365.table(config.table, None), campaign.resource(config.api, config.resource))
    findings = [tracking_finding(table)]
    mapping: TableMapping | None = None
    # Opt-outs have stricter rules than other fields; without them in `fit`, no problem is reported twice.
    columns, attributes = opt_out_problems({**config.opt_outs, **carried}, table, resource, written=bool(carried))
    fit = config.without_opt_outs() if columns or attributes else config
    try:
        mapping = compile_mapping(fit, table, resource, targets, {} if columns else carried)
    except MappingError as error:
        columns, attributes = [*error.d365, *columns], [*error.campaign, *attributes]
    findings += [
        _found("mapped_columns_exist", columns),
        _published(),
        _found("mapped_attributes_exist", attributes),
        cardinality_finding(config, resource),
        _key(config, resource),
    ]
    if mapping is None or any(finding.stops for finding in findings):
        raise NotReady(config.table, findings)
    return Ready(table, resource, mapping, findings)


def _found(check: str, problems: Sequence[str]) -> Finding:
    return Finding(check, not problems, "; ".join(problems) or CHECKS[check][1])


def campaign_findings(config: TableConfig, resource: Resource) -> list[Finding]:
    """Return the findings that need Campaign's metadata alone: enough for a push, which does not ask Dynamics 365."""
    return [_published(), _attributes(config, resource), cardinality_finding(config, resource), _key(config, resource)]


def findings_of(error: SyncAssetsError) -> list[Finding]:
    """Return the findings that an error of the preflight, or of a push's check of Campaign, contains."""
    if isinstance(error, NotPublished):
        return [Finding(PUBLISHED, False, str(error))]
    return error.findings if isinstance(error, NotReady) else []


def _published() -> Finding:
    return Finding(PUBLISHED, True, CHECKS[PUBLISHED][1])


def tracking_finding(table: Table) -> Finding:
    """Return the finding on change tracking of the table."""
    if table.change_tracking:
        return Finding("change_tracking_is_on", True, CHECKS["change_tracking_is_on"][1])
    return Finding(
        "change_tracking_is_on",
        False,
        f"change tracking is not enabled for {table.name} in Dynamics 365: switch it on in the table's properties "
        "(Advanced options, Track changes) and publish",
    )


def _attributes(config: TableConfig, resource: Resource) -> Finding:
    problems = [attribute_problem(resource, mapped.to, f"`{column}`") for column, mapped in config.fields.items()]
    problems += [attribute_problem(resource, link.to, f"link `{link.field}`") for link in config.links]
    return _found("mapped_attributes_exist", [problem for problem in problems if problem])


def _key(config: TableConfig, resource: Resource) -> Finding:
    """Return the finding on the key. The metadata has no member for uniqueness (docs/dev/references/campaign.md 3)."""
    if problem := key_problem(resource, config.key):
        return Finding("key_is_unique", False, problem)
    hint = "the first record that is sent is read back by it"
    text = f"{config.key} can hold the D365 id. Campaign's metadata does not state whether it is unique: {hint}"
    return Finding("key_is_unique", True, text)
