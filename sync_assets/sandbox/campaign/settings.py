"""Switches of the Campaign emulator: where sources are silent or instances differ."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from sync_assets.sandbox.campaign.schema import Cardinality


class LinkSetting(msgspec.Struct, forbid_unknown_fields=True):
    """How a link was published: its cardinality, and the plain attribute that it is joined on, if any."""

    cardinality: Cardinality = "one"
    join: str | None = None


class FilterSetting(msgspec.Struct, forbid_unknown_fields=True):
    """A published filter definition: "equal to" with "switch to parameters"."""

    attribute: str
    parameter: str


class Settings(msgspec.Struct, forbid_unknown_fields=True):
    """Defaults are what docs/references/campaign.md names as documented, else the less comfortable reading."""

    profile_key: str | None = "externalId"
    """attribute that is configured as unique identification key of profile; None: no key at all"""
    unique_keys: dict[str, bool] = {}
    """by resource; false: its key attribute is an ordinary text that identifies nothing. A value may stand in several
    records and may be changed, and is resolved neither in URLs nor in links. Joins and filters on it still work"""
    key_in_url: bool = True
    """GET and PATCH by identification key instead of the PKey"""
    keys_in_url: dict[str, bool] = {}
    """the same by resource, overriding `key_in_url`"""
    delete_by_key: bool = False
    """the same for DELETE (undocumented), where keys in URLs are taken at all"""
    deletes_by_key: dict[str, bool] = {}
    """the same by resource, overriding `delete_by_key`"""
    untaken_key: Literal["not_found", "bad_pkey"] = "not_found"
    """answer to a business key in the URL where none is taken: 404 "Unable to find document", as to a PKey that leads
    nowhere, or 500 "attribute unknown", as to text that is no PKey"""
    key_in_patch: Literal["accepted", "refused"] = "accepted"
    """refused: a PATCH that names the identification key fails with "Cannot update key", even with the same value"""
    location_in_patch: Literal["accepted", "refused"] = "accepted"
    """refused: a PATCH that names `location` is a bare 500, as in Campaign v8"""
    links_by_key: Literal["resolved", "empty", "refused"] = "resolved"
    """what a business key as the PKey of a link does. empty: the link is stored as 0, with a 2xx; refused: 404 "Unable
    to find document". A real PKey, which begins with @, is resolved in each position"""
    bare_errors: bool = False
    """as Campaign v8: every 500 is the RST-360011 line alone; duplicate key and bad value cannot be told apart"""
    opt_outs_without_time: list[str] = []
    """opt-outs that have no change time, besides that of push notifications; times noted before are forgotten"""
    calls_per_second: int | None = None
    """more requests within a second are refused by the gateway: 429, without a Retry-After"""
    rewrite_names: bool = False
    """what is no letter, digit or underscore in `name` or `internalName` is stored as an underscore"""
    automatic_id: bool = False
    """ "Add automatic ID": new profiles get an acsId"""
    empty_patch_204: bool = False
    """as Campaign v8 answers a PATCH with {}"""
    href_in_get: bool = False
    """as Campaign v8: a single GET shows the record's href"""
    link_values_in_post: bool = False
    """as Campaign v8: the answer to a POST shows links; else they are null there"""
    custom_delete_status: Literal[200, 204] = 204
    cut_long_strings: bool = False
    """too long strings are cut silently instead of refused"""
    bare_data_policy: bool = True
    """a dataPolicy violation answers RST-360011 and no reason"""
    unresolvable_links_as_zero: bool = False
    """the trap: a link by a PKey that cannot be resolved is stored as 0 without an error"""
    hide_orphans: bool = True
    """records whose 1-cardinality link has no target are invisible"""
    cascade_delete: bool = False
    """deleting a record deletes those that link to it"""
    relative_links: bool = False
    """`next` and `count` are relative to /campaign, as in older builds"""
    double_slash_links: bool = False
    """`next` and `count` contain a double slash, likewise"""
    line_count: int = 25
    big_table_threshold: int = 100_000
    """XtkBigTableThreshold: more records than this, and there is no `next` without _forcePagination"""
    wrong_tenant_status: Literal[400, 500] = 500
    provisioned: bool = True
    """False: the credential is not provisioned for the tenant, 403023"""
    profile_extension: bool = True
    """False: never published with "Create the Profiles & Services Ext API" ticked, there is no such API"""
    workflow_delay_ms: float = 0
    """commands are queued: their effect shows only after so long"""
    signal_interval_s: float = 600
    """a signal may be triggered once in so long"""
    links: dict[str, dict[str, LinkSetting]] = {}
    """by resource and link"""
    filters: dict[str, dict[str, FilterSetting]] = {}
    """published in addition to the built-in ones, by resource and name"""

    def takes_key(self, method: str, resource: str) -> bool:
        """Return True if a URL of this method may name a record of the resource by its identification key."""
        taken = self.keys_in_url.get(resource, self.key_in_url)
        return taken and (method != "DELETE" or self.deletes_by_key.get(resource, self.delete_by_key))


class BadSettings(ValueError):
    """The settings given cannot be; the message says which and why."""


def changed(settings: Settings, told: dict[str, Any]) -> Settings:
    """New settings with the given members replaced. Raises BadSettings."""
    known = msgspec.to_builtins(settings)
    try:
        return msgspec.convert({**known, **told}, Settings)
    except msgspec.ValidationError as error:
        raise BadSettings(str(error)) from None
