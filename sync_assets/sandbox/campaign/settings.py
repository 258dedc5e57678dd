"""Settings of the Campaign emulator, for behaviour that is not documented or differs between instances."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from sync_assets.sandbox.campaign.schema import Cardinality

LocationWay = Literal[
    "PATCH of the part",
    "PUT of the part",
    "profileAndServices",
    "PKey in the group",
    "PUT of the record",
    "PUT empties",
]


class LinkSetting(msgspec.Struct, forbid_unknown_fields=True):
    """Definition of a published link: its cardinality, and the attribute by which it is joined, if any."""

    cardinality: Cardinality = "one"
    join: str | None = None


class FilterSetting(msgspec.Struct, forbid_unknown_fields=True):
    """A published filter: "equal to" with "switch to parameters"."""

    attribute: str
    parameter: str


class Settings(msgspec.Struct, forbid_unknown_fields=True):
    """Settings of one instance.

    Defaults are the behaviour that docs/dev/references/campaign.md states as documented, else the one that is harder
    for a client.
    """

    dialect: Literal["standard", "v8"] = "standard"
    """Build of Campaign. To change it changes all settings of `DIALECTS`; those given with it take precedence."""
    profile_key: str | None = "externalId"
    """Attribute that is the unique identification key of profile; None: profile has no key."""
    unique_keys: dict[str, bool] = {}
    """By resource. False: the key attribute is an ordinary text. Several records may have the same value, which may be
    changed, and which is not resolved in URLs and links. Joins and filters on it still work."""
    key_in_url: bool = True
    """Accept GET and PATCH by identification key instead of the PKey."""
    keys_in_url: dict[str, bool] = {}
    """By resource; overrides `key_in_url`."""
    delete_by_key: bool | Literal["ignored"] = False
    """Accept DELETE by identification key (undocumented), for resources whose keys are accepted in URLs. ignored:
    answer as if, and delete nothing."""
    untaken_key: Literal["not_found", "bad_pkey"] = "not_found"
    """Answer to a business key in a URL where none is accepted: 404 "Unable to find document", as for a PKey without a
    record, or 500 "attribute unknown", as for an invalid PKey."""
    key_in_patch: Literal["accepted", "refused"] = "accepted"
    """refused: a PATCH with the identification key fails with "Cannot update key", even with the same value."""
    location_in_patch: Literal["accepted", "refused", "not_valid"] = "accepted"
    """refused: a PATCH with `location` fails with a bare 500. not_valid: with the text of Campaign v8."""
    location_ways: list[LocationWay] = []
    """Where a PATCH with `location` fails: other requests that change it. of the part: of
    `profile/<PKey>/location`. profileAndServices: the PATCH through the API without extensions. PKey in the group: the
    PATCH with the PKey that the group shows then. PUT of the record keeps what it does not name but sub-fields;
    PUT empties: it empties the names. Assumed: Adobe documents none of them."""
    refused_in_patch: list[str] = []
    """Attributes that a POST takes and a PATCH does not: it fails as for an attribute that is read-only."""
    links_by_key: Literal["resolved", "empty", "refused"] = "resolved"
    """Effect of a business key as the PKey of a link. empty: the link is stored as 0, with a 2xx; refused: 404 "Unable
    to find document". A real PKey, which begins with @, is always resolved."""
    bare_errors: bool = False
    """Each 500 has the RST-360011 line only, so a duplicate key looks like an invalid value."""
    v8_errors: bool = False
    """Statuses and texts of Campaign v8: nearly each 500 is bare and has no code, an invalid PKey is a 404."""
    opt_outs_without_time: list[str] = []
    """Opt-outs without a time of change, besides that of push notifications. Times set before are removed."""
    calls_per_second: int | None = None
    """Limit of the gateway: further requests within a second get a 429 without a Retry-After."""
    empty_patch_204: bool = False
    """Answer 204 to a PATCH with {}, as Campaign v8."""
    href_in_get: bool = False
    """Show the record's href in a GET of one record, as Campaign v8."""
    link_values_in_post: bool = False
    """Show links in the answer to a POST, as Campaign v8; else they are null there."""
    custom_delete_status: Literal[200, 204] = 204
    cut_long_strings: bool = False
    """Cut strings that are too long, without an error."""
    bare_data_policy: bool = True
    """Answer RST-360011 without a reason if a value violates its dataPolicy."""
    hide_orphans: bool = True
    """Hide records whose link of cardinality 1 has no target."""
    cascade_delete: bool = False
    """Delete the records that link to a deleted record."""
    mandatory_in_metadata: bool = True
    """False: the descriptions of links do not state whether the link is mandatory. Assumed."""
    integrity_in_metadata: bool = False
    """Show in the description of a link whether a record is deleted with the link's target. Assumed."""
    relative_links: bool = False
    """`next` and `count` are relative to /campaign, as in older builds."""
    double_slash_links: bool = False
    """`next` and `count` contain a double slash, as in older builds."""
    line_count: int = 25
    big_table_threshold: int = 100_000
    """XtkBigTableThreshold: with more records than this, pages have no `next` without _forcePagination."""
    order_by_created: Literal["kept", "ignored", "refused"] = "kept"
    """ignored: a list by `created` comes in the order of insertion. refused: the metadata calls it not sortable."""
    wrong_tenant_status: Literal[400, 500] = 500
    provisioned: bool = True
    """False: the credential is not provisioned for the tenant (403023)."""
    profile_extension: bool = True
    """False: there is no profileAndServicesExt, since it was never published with "Create the Profiles & Services Ext
    API" ticked."""
    removed_attributes: dict[str, list[str]] = {}
    """By resource: attributes that a publication of the data model removed, with their values."""
    organizational_units: bool = True
    """False: `orgUnitBase` and `geoUnitBase` are not served, as in Campaign v8."""
    marketing_history: bool = True
    """False: `profileAndServices/history` is not served, as in Campaign v8."""
    ext_only: list[str] = []
    """Attributes of a profile that profileAndServicesExt alone has, as `timeZone` in Campaign v8."""
    filters_without_by: bool = False
    """Custom filters have their names without the prefix `by`, as an administrator may give them in Campaign v8."""
    workflow_delay_ms: float = 0
    """Time until a queued command takes effect."""
    signal_interval_s: float = 600
    """Shortest time between two triggers of a signal."""
    links: dict[str, dict[str, LinkSetting]] = {}
    """By resource and link."""
    filters: dict[str, dict[str, FilterSetting]] = {}
    """Published filters in addition to the built-in ones, by resource and name."""

    def takes_key(self, method: str, resource: str) -> bool:
        """Return True if a URL of this method may name a record of the resource by its identification key."""
        takes = self.keys_in_url.get(resource, self.key_in_url)
        return takes and (method != "DELETE" or bool(self.delete_by_key))


_V8: dict[str, Any] = {
    "v8_errors": True,
    "location_in_patch": "not_valid",
    "links_by_key": "empty",
    "calls_per_second": 50,
    "empty_patch_204": True,
    "href_in_get": True,
    "link_values_in_post": True,
    "custom_delete_status": 200,
    "organizational_units": False,
    "marketing_history": False,
    "ext_only": ["timeZone", "ccpaOptOut", "ccpaOptOutLastModified"],
}
DIALECTS: dict[str, dict[str, Any]] = {"standard": {name: getattr(Settings(), name) for name in _V8}, "v8": _V8}
"""Settings by dialect. Adobe documents those of v8 (docs/dev/references/campaign.md 13), except: its limit of requests
is a number of the contract; that it stores a link by a business key as 0, and answers 200 to a DELETE of a custom
resource, is assumed."""


class BadSettings(ValueError):
    """Raised for invalid settings or parameters. The message is the reason."""


def changed(settings: Settings, values: dict[str, Any]) -> Settings:
    """Return settings with some members replaced. Raises BadSettings."""
    known = msgspec.to_builtins(settings) | DIALECTS.get(values.get("dialect", ""), {})
    try:
        return msgspec.convert({**known, **values}, Settings)
    except msgspec.ValidationError as error:
        raise BadSettings(str(error)) from None
