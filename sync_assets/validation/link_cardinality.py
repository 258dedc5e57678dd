"""Compare each link's cardinality in Campaign's metadata with the configuration. Pure."""

from __future__ import annotations

from sync_assets.campaign.metadata import Resource
from sync_assets.config.models import TableConfig
from sync_assets.validation.findings import CHECKS, Finding


def cardinality_finding(config: TableConfig, resource: Resource) -> Finding:
    """Return the finding on the links of a table.

    Campaign calls a link mandatory if it must not be empty. A link that is mandatory there and not in the configuration
    blocks: Campaign would hide records that are sent without it, and lose their changes. The reverse only warns, since
    records then wait that Campaign would take. A link of style join is skipped: its attribute is a plain one, for which
    the metadata has no cardinality.
    """
    hidden: list[str] = []
    waiting: list[str] = []
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
        elif not attribute.mandatory and link.cardinality == "one":
            waiting.append(
                f"link `{link.field}`: {link.to} is not mandatory in Campaign, but the configuration says "
                f"`cardinality: one`: records without a {link.table} in scope are not sent, and are deleted with it. "
                "If the link was published as a `0 or 1 cardinality simple link`, write `cardinality: zero_or_one`"
            )
    check = "link_cardinalities_agree"
    text = "; ".join([*hidden, *waiting]) or CHECKS[check][1]
    return Finding(check, not (hidden or waiting), text, blocks=bool(hidden) or not waiting)
