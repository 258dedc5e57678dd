"""Findings about Dynamics 365 for `doctor`: our certificate, our user and its privileges, clocks, the feed's window."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime

import polars as pl

from sync_assets.checks.preflight import Ready
from sync_assets.checks.rules import Finding, fail, ok, warn
from sync_assets.config.environment import AppCredential, ClientCertificate
from sync_assets.config.models import Config, TableConfig
from sync_assets.config.values import CONTACT
from sync_assets.dataverse import privileges as rights
from sync_assets.dataverse.app_credential import load_certificate
from sync_assets.dataverse.client import NO_SUCH_TABLE, D365Refused, DataverseClient
from sync_assets.dataverse.metadata import MERGED
from sync_assets.errors import SyncAssetsError
from sync_assets.ledger.feed import Feed
from sync_assets.mapping.filters import RowFilter, rules_met
from sync_assets.task_group import run_together
from sync_assets.words import counted

SHORT_WINDOW_DAYS = 7
CLOCK_MINUTES = 5
"""Difference of the clocks of Dynamics 365 and of this host from which on there is a warning."""
EXPIRES_SOON_DAYS = 30
"""A certificate that ends within so many days causes a warning."""
ADMINISTRATOR = "System Administrator"
"""The role that the customer's own set-up guide asks for (docs/dev/references/campaign.md 14), with far more rights
than needed.
"""
METADATA_PRIVILEGES = ("prvReadAttribute", "prvReadEntity", "prvReadOptionSet", "prvReadOrganization")
"""For the definitions of tables, columns and choices, and for the change tracking window: docs/dynamics-365.md."""
_DEACTIVATED = {"statecode": 1, MERGED: True}
"""Columns of a contact that was merged into another one."""
_GRANT = "in the Power Platform admin centre give a security role of the application user"


def certificate(credential: AppCredential) -> list[Finding]:
    """Return the finding on the certificate's end; none for other credentials, whose end is not known here.

    None if it cannot be read, too: the sign-in fails with the reason.
    """
    if not isinstance(credential, ClientCertificate):
        return []
    title = "Dynamics 365: client certificate"
    try:
        ends = load_certificate(credential)[1].not_valid_after_utc
    except SyncAssetsError:
        return []
    renew = "make a new one, add it to the app registration, and replace the file of D365_CLIENT_CERTIFICATE"
    days = (ends - datetime.now(UTC)).days
    if days < 0:
        return fail(title, f"ended on {ends:%Y-%m-%d}: {renew}")
    remaining = f"ends on {ends:%Y-%m-%d}, in {counted(days, 'day')}"
    return [warn(title, f"{remaining}: {renew}") if days < EXPIRES_SOON_DAYS else ok(title, remaining)]


async def sign_in(client: DataverseClient) -> tuple[list[Finding], str | None, int | None]:
    """Sign in, and read our user's roles and the change tracking window.

    Returns:
        The findings, our user's id (None if we could not sign in), and the days of the window (None: unknown).
    """
    try:
        user = await client.who_am_i()
    except SyncAssetsError as error:
        return fail("Dynamics 365", error), None, None
    roles, (window, days) = await run_together(_roles(client, user), _window(client))
    return [ok("Dynamics 365", f"signed in, application user {user}"), *roles, *window], user, days


async def _roles(client: DataverseClient, user: str) -> list[Finding]:
    title = "roles of the application user"
    try:
        roles = await rights.roles(client, user)
    except D365Refused:
        return [ok(title, "it may not read them, which is not needed: its privileges are checked table by table")]
    except SyncAssetsError as error:
        return fail(title, error)
    text = ", ".join(roles) or "none of its own: its privileges come from its teams"
    if ADMINISTRATOR in roles:
        text += (
            "; that is more than needed: organisation-level read on the mapped tables, and write on contact where "
            "opt-outs are written back"
        )
    return [ok(title, text)]


async def clock(client: DataverseClient) -> list[Finding]:
    """Compare the clock of Dynamics 365 with that of this host. A row that was changed in the future counts, too.

    It reads a contact, so call it once the organisation is known to be the ledger's.
    """
    title = "clock of Dynamics 365"
    try:
        times = await client.times()
    except SyncAssetsError as error:
        return fail(title, error)
    now = datetime.now(UTC)
    differences = [round((time - now).total_seconds() / 60) for time in times]
    off = [minutes for minutes in differences[:1] if abs(minutes) >= CLOCK_MINUTES]
    off += [minutes for minutes in differences[1:] if minutes >= CLOCK_MINUTES]
    if not off:
        return [ok(title, "it agrees with the clock of this host")] if times else []
    text = (
        f"it is {counted(abs(off[0]), 'minute')} {'ahead of' if off[0] > 0 else 'behind'} the clock of this host. "
        "Opt-outs are decided by the times of both systems: correct the clock that is wrong, most likely this host's"
    )
    return [warn(title, text)]


async def _window(client: DataverseClient) -> tuple[list[Finding], int | None]:
    title = "change tracking window"
    try:
        days = await client.change_tracking_days()
    except D365Refused as error:
        return [warn(title, f"unknown: {error}")], None
    except SyncAssetsError as error:
        return fail(title, error), None
    if days is None:
        return [], None
    text = f"cursors of the change feed are valid for {days} days: a longer stop costs a full read"
    if days >= SHORT_WINDOW_DAYS:
        return [ok(title, text)], days
    return [
        warn(title, f"{text}. Raise expirechangetrackingindays of the organisation to {SHORT_WINDOW_DAYS} or more")
    ], days


def position(feed: Feed | None, days: int | None, now: datetime | None = None) -> list[Finding]:
    """Return a finding with the age of the feed's position.

    It warns from half of the window on (docs/dev/references/dataverse.md 1.4).
    """
    if feed is None or not days:
        return []
    age = max(0.0, ((now or datetime.now(UTC)) - feed.polled_at).total_seconds()) / 86_400
    title, text = "cursor of the change feed", f"last polled {age:,.1f} days ago, valid for {days} days"
    if age <= days / 2:
        return [ok(title, text)]
    end = "it has expired, so the next sync reads the table in full" if age > days else "it expires without a sync"
    return [warn(title, f"{text}: {end}. Run `sync-assets sync`, or start the sensors")]


@dataclass(frozen=True, slots=True)
class Privilege:
    """Our privilege for one table. name: empty if the table has none; depth: None if we lack it.

    returned: False if Dynamics 365 does not return our privileges, so that `depth` means nothing.
    """

    name: str
    depth: str | None
    returned: bool


async def privilege(client: DataverseClient, user: str, table: str, access: str) -> Privilege:
    """Return our privilege `Read` or `Write` for a table. Raises SyncAssetsError if its metadata can't be read."""
    name = (await rights.privilege_names(client, table)).get(access, "")
    try:
        return Privilege(name, (await rights.depths(client, user, [name])).get(name) if name else None, returned=True)
    except SyncAssetsError:  # the role may not read users, or the organisation lacks the function
        return Privilege(name, None, returned=False)


def merged_contacts(config: Config, mapped: TableConfig, ready: Ready) -> list[Finding]:
    """Return the finding on contacts that were merged into others: their profiles stay unless a filter leaves them out.

    None for other tables, and where the column of merges does not exist.
    """
    if mapped.table != CONTACT or MERGED not in ready.table.columns:
        return []
    title, opt_out, row_filter = "merged contacts", config.opt_out, ready.mapping.row_filter
    carry = ""
    if opt_out.direction != "disabled" and opt_out.merged == "ignore":
        carry = ". Its opt-outs do not count for the other contact: `opt_out: {merged: carry}` lets them"
    if row_filter and _leaves_out_merged(row_filter):
        text = f"the filter of {CONTACT} leaves out the contact that a merge deactivates"
        if row_filter.delete_filtered_out:
            return [warn(title, f"{text}{carry}") if carry else ok(title, text)]
        return [warn(title, f"{text}; its profile stays in Campaign. Add `delete_filtered_out: true`{carry}")]
    text = (
        "a merge in Dynamics 365 deactivates one of two contacts, and both profiles stay in Campaign. Add to "
        f"{CONTACT} `filters: {{rules: [{{field: statecode, is: eq, value: 0}}], delete_filtered_out: true}}`"
    )
    return [warn(title, f"{text}{carry}")]


def _leaves_out_merged(row_filter: RowFilter) -> bool:
    """Return True if no contact that a merge deactivated passes, whatever its other columns are."""
    row = pl.DataFrame(_DEACTIVATED)
    rules = tuple(rule for rule in row_filter.rules if rule.column.select_name in row.columns)
    met = rules_met(row, replace(row_filter, rules=rules))
    return not all(met) if row_filter.match == "all" else rules == row_filter.rules and not any(met)


def accesses(config: Config, table: str) -> list[str]:
    """Return the access to a mapped table's rows that the program needs, at organisation level."""
    return ["Read", "Write"] if table == CONTACT and config.opt_out.active else ["Read"]


async def role_privileges(config: Config, client: DataverseClient) -> list[str]:
    """Return the names of all privileges that the program needs. Raises SyncAssetsError if a table has none."""
    needed: set[str] = {*METADATA_PRIVILEGES}
    for mapped in config.tables:
        names = await rights.privilege_names(client, mapped.table)
        for access in accesses(config, mapped.table):
            if access not in names:
                raise SyncAssetsError(
                    f"Dynamics 365 has no privilege {access} of its own for {mapped.table}.",
                    "Write the role by hand, with the privilege of its parent table: docs/dynamics-365.md.",
                )
            needed.add(names[access])
    return sorted(needed)


async def privileges(config: Config, mapped: TableConfig, client: DataverseClient, user: str) -> list[Finding]:
    """Return findings on the right to read rows by the change feed, and to write opt-outs if they are written.

    None for a table that does not exist: another check reports that.
    """
    needed = accesses(config, mapped.table)
    try:
        granted = await run_together(*(privilege(client, user, mapped.table, access) for access in needed))
        return [await _reading(mapped.table, granted[0], client), *(_writing(held) for held in granted[1:])]
    except SyncAssetsError as error:
        return [] if getattr(error, "code", "") in NO_SUCH_TABLE else fail("privileges", error)


async def _reading(table: str, held: Privilege, client: DataverseClient) -> Finding:
    title, name = "privileges to read", held.name or f"read on {table}"
    remedy = f"{_GRANT} {name} for the whole organisation: the change feed is refused with less"
    if not held.returned:
        table_metadata = await client.table(table, ())
        if not table_metadata.change_tracking:
            return warn(title, "unknown, and not testable while change tracking is off")
        try:
            await rights.try_to_follow(client, table_metadata)
        except D365Refused as error:
            return Finding("fail", title, f"{error.cause} {remedy[0].upper()}{remedy[1:]}.")
        return ok(title, "one row was read as the change feed is")
    if held.depth == rights.ORGANISATION:
        return ok(title, f"{name}, for the whole organisation")
    has = f"has {name} with depth {held.depth} only" if held.depth else f"lacks {name}"
    return Finding("fail", title, f"the application user {has}; {remedy}")


def _writing(held: Privilege) -> Finding:
    title, name = "privileges to write opt-outs", held.name or f"write on {CONTACT}"
    if not held.returned:
        text = f"unknown, and only a write would show it. Check that a role of the application user has {name}"
        return warn(title, text)
    if held.depth == rights.ORGANISATION:
        return ok(title, f"{name}, for the whole organisation")
    if held.depth:
        text = f"{name} has depth {held.depth} only: opt-outs of other contacts will be refused"
        return warn(title, f"{text}; {_GRANT} the organisation's")
    text = f"the application user lacks {name}; {_GRANT} it for the whole organisation, or set the direction of opt_out"
    return Finding("fail", title, f"{text} to d365_to_campaign")
