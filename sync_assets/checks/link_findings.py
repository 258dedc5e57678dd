"""Findings on the links of a table: whether Campaign would hide its records, and what earlier requests showed."""

from dataclasses import replace

from sync_assets.campaign.addressing import CERTIFIED, HIDDEN, HIDES, KEY, NOT_WORKABLE
from sync_assets.campaign.metadata import Resource
from sync_assets.checks import rules
from sync_assets.checks.rules import Finding
from sync_assets.config.models import TableConfig
from sync_assets.ledger import Ledger


def cardinalities(config: TableConfig, resource: Resource) -> Finding:
    """Return the finding on the links of a table.

    Campaign calls a link mandatory if it must not be empty. A custom link that is mandatory there and not in the
    configuration stops the table: Campaign would hide records that are sent without it, and lose their changes. The
    reverse only warns, since records then wait that Campaign would take. A link of style join is skipped: its attribute
    is a plain one, for which the metadata has no cardinality; each may set one link that is not configured.
    """
    hidden: list[str] = []
    waiting: list[str] = []
    unknown: list[str] = []
    for link in config.links:
        attribute = resource.attributes.get(link.to)
        if link.style == "join" or attribute is None or attribute.type != "link":
            continue
        if attribute.mandatory and link.cardinality == "zero_or_one":
            hidden.append(
                f"link `{link.field}`: {link.to} is mandatory in Campaign, which hides a record of {resource.name} "
                "without its target and loses its changes, but the configuration says `cardinality: zero_or_one`. "
                f"Nothing of {config.table} is sent until both agree: write `cardinality: one`, or publish the link as "
                "a `0 or 1 cardinality simple link`"
            )
        elif attribute.mandatory is None:
            unknown.append(link.to)
        elif not attribute.mandatory and link.cardinality == "one":
            waiting.append(
                f"link `{link.field}`: {link.to} is not mandatory in Campaign, but the configuration says "
                f"`cardinality: one`: records without a {link.table} in scope are not sent. "
                "If the link was published as a `0 or 1 cardinality simple link`, write `cardinality: zero_or_one`"
            )
    not_filled, perhaps = unfilled_links(config, resource)
    if not_filled:
        names, how = ", ".join(not_filled), f"add `to: {not_filled[0]}` with its lookup to `links`"
        hidden.append(
            f"{names}: mandatory in Campaign, and not among the `links`. Campaign hides a record of {resource.name} "
            f"without its target and loses its changes. Nothing of {config.table} is sent until it is set: {how}, or "
            "publish it as a `0 or 1 cardinality simple link`"
        )
    finding = rules.CARDINALITIES.finding(not (hidden or waiting), "; ".join([*hidden, *waiting]), stops=bool(hidden))
    if finding.passed and (unknown := [*unknown, *perhaps]):
        text = (
            f"unknown for {', '.join(unknown)}: Campaign's metadata does not state whether a record may lack it. Write "
            "`cardinality: one` for each that was not published as a `0 or 1 cardinality simple link`. The first "
            "record that a push inserts is read back"
        )
        return replace(finding, title="link cardinalities are unknown", message=text)
    return finding


def unfilled_links(config: TableConfig, resource: Resource) -> tuple[list[str], list[str]]:
    """Return Campaign's custom links that no link of a table fills: the mandatory ones, and those that may be.

    Campaign itself fills the others, such as the organizational unit.
    """
    joins = sum(link.style == "join" for link in config.links)
    unmapped = sorted(resource.attributes.keys() - {link.to for link in config.links})
    links = [resource.attributes[name] for name in unmapped if name.startswith("cus")]
    links = [link for link in links if link.type == "link" and link.mandatory is not False]
    if len(links) <= joins:
        return [], []
    return [link.path for link in links if link.mandatory], [link.path for link in links if not link.mandatory]


def earlier_link_findings(ledger: Ledger, config: TableConfig) -> list[Finding]:
    """Return findings on what earlier requests showed of the table's links, if they do not work.

    A hidden record stops nothing here: before it inserts another one, the push reads whether Campaign shows the first.
    """
    known = ledger.dialect.facts(config.resource)
    tried = [
        (f"link {link.to} {way}", remedy)
        for link in config.links
        if link.style != "join"
        for way, remedy, matters in (
            ("by the parent's PKey", "Check that it is the right attribute, published for the API", True),
            ("by the parent's key", "Write `style: auto`", link.style == "key"),
            ("set to null", "Write `cardinality: one`", link.cardinality == "zero_or_one"),
        )
        if matters
    ]
    problems = [
        f"{premise} is {text}. {remedy}, or let `sync-assets certify` try it again"
        for premise, remedy in tried
        if (text := known.get(f"{CERTIFIED}Campaign: {premise}", "")).startswith(NOT_WORKABLE)
    ]
    findings = [rules.LINKS.no_problems(problems)] if problems else []
    if (id_ := known.get(HIDDEN)) and known.get(KEY, config.key) == config.key:
        findings.append(rules.SHOWN.finding(False, HIDES.format(config.resource, config.table, id_), stops=False))
    return findings
