"""Compare each link's cardinality in Campaign's metadata with the configuration. Pure."""

from __future__ import annotations

from sync_assets.campaign.metadata import Resource
from sync_assets.config.models import TableConfig


def cardinality_warnings(config: TableConfig, resource: Resource) -> list[str]:
    """Return a warning for each link whose cardinality differs.

    Campaign calls a link mandatory if it must not be empty. A link of style join is skipped: its attribute is a plain
    one, for which the metadata has no cardinality.
    """
    warnings: list[str] = []
    for link in config.links:
        attribute = resource.attributes.get(link.to)
        if link.style == "join" or attribute is None or attribute.type != "link":
            continue
        if attribute.mandatory and link.cardinality == "zero_or_one":
            warnings.append(
                f"link `{link.field}`: {link.to} is mandatory in Campaign, which hides a record of {resource.name} "
                "without its target, but the configuration says `cardinality: zero_or_one`: write `cardinality: one`, "
                "or publish the link as a `0 or 1 cardinality simple link`"
            )
        elif not attribute.mandatory and link.cardinality == "one":
            warnings.append(
                f"link `{link.field}`: {link.to} is not mandatory in Campaign, but the configuration says "
                f"`cardinality: one`: records without a {link.table} in scope are not sent, and are deleted with it. "
                "If the link was published as a `0 or 1 cardinality simple link`, write `cardinality: zero_or_one`"
            )
    return warnings
