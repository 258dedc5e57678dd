"""`doctor`: our certificate, our user in Dynamics 365, its privileges, and how long delta links are valid."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime

from sync_assets.commands.doctor.line import Line, failed
from sync_assets.config.app_credential import AppCredential, ClientCertificate
from sync_assets.config.models import Config, TableConfig
from sync_assets.config.values import CONTACT
from sync_assets.dataverse import privileges as rights
from sync_assets.dataverse.app_credential import load_certificate
from sync_assets.dataverse.client import NO_SUCH_TABLE, D365Refused, DataverseClient
from sync_assets.errors import SyncAssetsError
from sync_assets.ledger.model import Feed
from sync_assets.plurals import counted
from sync_assets.task_group import run_together

SHORT_WINDOW_DAYS = 7
CLOCK_MINUTES = 5
"""Difference of the clocks of Dynamics 365 and of this host from which on there is a warning."""
EXPIRES_SOON_DAYS = 30
"""A certificate that ends within so many days causes a warning."""
EVERYTHING = "System Administrator"
"""The role that the customer's own set-up guide asks for (docs/dev/references/campaign.md 14), with far more rights
than needed.
"""
_GRANT = "in the Power Platform admin centre give a security role of the application user"


@dataclass(frozen=True, slots=True)
class Dynamics:
    """Results that do not depend on a table. user: our user's id; None if we could not sign in. days: see `_window`."""

    lines: list[Line] = field(default_factory=list[Line])
    user: str | None = None
    days: int | None = None


def credential_lines(credential: AppCredential) -> list[Line]:
    """Return the line on the certificate's end; none for other credentials, whose end is not known here.

    None, too, if it cannot be read: the sign-in fails with the reason.
    """
    if not isinstance(credential, ClientCertificate):
        return []
    what = "Dynamics 365: client certificate"
    try:
        ends = load_certificate(credential).ends
    except SyncAssetsError:
        return []
    renew = "make a new one, add it to the app registration, and replace the file of D365_CLIENT_CERTIFICATE"
    days = (ends - datetime.now(UTC)).days
    if days < 0:
        return [Line("fail", what, f"ended on {ends:%Y-%m-%d}: {renew}")]
    outcome = "warn" if days < EXPIRES_SOON_DAYS else "ok"
    left = f"ends on {ends:%Y-%m-%d}, in {counted(days, 'day')}"
    return [Line(outcome, what, f"{left}: {renew}" if outcome == "warn" else left)]


async def dynamics(client: DataverseClient) -> Dynamics:
    """Sign in, and read our user's roles and the change tracking window."""
    what = "Dynamics 365"
    try:
        user = await client.who_am_i()
    except SyncAssetsError as error:
        return Dynamics(failed(what, error))
    roles, window = await run_together(_roles(client, user), _window(client))
    lines = [Line("ok", what, f"signed in, application user {user}"), *roles, *window[0]]
    return Dynamics(lines, user, window[1])


async def _roles(client: DataverseClient, user: str) -> list[Line]:
    what = "roles of the application user"
    try:
        roles = await rights.roles(client, user)
    except D365Refused:
        return [Line("ok", what, "it may not read them, and need not: its privileges are tried table by table")]
    except SyncAssetsError as error:
        return failed(what, error)
    if not roles:
        return [Line("ok", what, "none of its own, so what it may do comes from its teams")]
    text = ", ".join(roles)
    if EVERYTHING in roles:
        text += (
            "; that is more than is needed: organisation-level read on the mapped tables, and write on contact where "
            "opt-outs are written back"
        )
    return [Line("ok", what, text)]


async def clock_lines(client: DataverseClient) -> list[Line]:
    """Compare the clock of Dynamics 365 with that of this host. A row that was changed in the future counts, too.

    It reads a contact, so call it once the organisation is known to be the ledger's.
    """
    what = "clock of Dynamics 365"
    try:
        times = await client.times()
    except SyncAssetsError as error:
        return failed(what, error)
    now = datetime.now(UTC)
    differences = [round((time - now).total_seconds() / 60) for time in times]
    wrong = [one for one in differences[:1] if abs(one) >= CLOCK_MINUTES]
    wrong += [one for one in differences[1:] if one >= CLOCK_MINUTES]
    if not wrong:
        return [Line("ok", what, "it agrees with the clock of this host")] if times else []
    text = (
        f"it is {counted(abs(wrong[0]), 'minute')} {'ahead of' if wrong[0] > 0 else 'behind'} the clock of this host. "
        "Opt-outs are decided by the times of both systems: correct the clock that is wrong, most likely this host's"
    )
    return [Line("warn", what, text)]


async def _window(client: DataverseClient) -> tuple[list[Line], int | None]:
    what = "change tracking window"
    try:
        days = await client.change_tracking_days()
    except D365Refused as error:
        return [Line("warn", what, f"unknown: {error}")], None
    except SyncAssetsError as error:
        return failed(what, error), None
    if days is None:
        return [], None
    text = f"positions in the change feed stay good for {days} days: a longer standstill costs a full read"
    if days < SHORT_WINDOW_DAYS:
        text += f". Raise expirechangetrackingindays of the organisation to {SHORT_WINDOW_DAYS} or more"
    return [Line("warn" if days < SHORT_WINDOW_DAYS else "ok", what, text)], days


def position(table: str, feed: Feed | None, days: int | None, now: datetime | None = None) -> list[Line]:
    """Return a line with the age of the feed's position.

    It warns from half of the window on (docs/dev/references/dataverse.md 1.4).
    """
    if feed is None or not days:
        return []
    age = ((now or datetime.now(UTC)) - feed.polled_at).total_seconds() / 86_400
    what, text = f"{table}: position in the change feed", f"last asked {age:,.1f} days ago, good for {days} days"
    if age <= days / 2:
        return [Line("ok", what, text)]
    gone = "it has expired, so the next sync reads the table in full" if age > days else "it expires if nothing is done"
    return [Line("warn", what, f"{text}: {gone}. Run `sync-assets sync`, or start the sensors")]


@dataclass(frozen=True, slots=True)
class Privileges:
    """Our privileges for one table.

    names: of the table's privileges; depths: None if Dynamics 365 does not return them.
    """

    names: dict[str, str]
    depths: dict[str, str] | None

    def depth(self, access: str) -> str | None:
        return (self.depths or {}).get(self.names.get(access, ""))


async def privileges(client: DataverseClient, user: str, table: str) -> Privileges:
    """Return our privileges for a table. Raises SyncAssetsError if the table's metadata can't be read."""
    names = await rights.privilege_names(client, table)
    wanted = [names[access] for access in ("Read", "Write") if access in names]
    try:
        return Privileges(names, await rights.depths(client, user, wanted) if wanted else None)
    except SyncAssetsError:  # the role may not read users, or the organisation lacks the function
        return Privileges(names, None)


async def privilege_lines(config: Config, mapped: TableConfig, client: DataverseClient, user: str) -> list[Line]:
    """Return lines on the right to read rows by the change feed, and to write opt-outs if they are written.

    None for a table that does not exist: another check reports that.
    """
    what = f"{mapped.table}: privileges"
    try:
        held = await privileges(client, user, mapped.table)
        lines = [await _reading(f"{what} to read", mapped.table, held, client)]
    except SyncAssetsError as error:
        return [] if getattr(error, "code", "") in NO_SUCH_TABLE else failed(what, error)
    if mapped.table == CONTACT and config.opt_out.active:
        lines.append(_writing(f"{what} to write opt-outs", held))
    return lines


async def _reading(what: str, table: str, held: Privileges, client: DataverseClient) -> Line:
    name = held.names.get("Read", f"read on {table}")
    remedy = f"{_GRANT} {name} for the whole organisation: the change feed is refused with less"
    if held.depths is None:
        found = await client.table(table, ())
        if not found.change_tracking:
            return Line("warn", what, "not told, and not to be tried while change tracking is off")
        try:
            await rights.try_to_follow(client, found)
        except D365Refused as error:
            return Line("fail", what, f"{error.cause} {remedy[0].upper()}{remedy[1:]}.")
        return Line("ok", what, "one row was read as the change feed is")
    depth = held.depth("Read")
    if depth == rights.ORGANISATION:
        return Line("ok", what, f"{name}, for the whole organisation")
    has = f"has {name} with depth {depth} only" if depth else f"lacks {name}"
    return Line("fail", what, f"the application user {has}; {remedy}")


def _writing(what: str, held: Privileges) -> Line:
    name = held.names.get("Write", f"write on {CONTACT}")
    if held.depths is None:
        text = f"not told, and only a write would show it. See that a role of the application user has {name}"
        return Line("warn", what, text)
    depth = held.depth("Write")
    if depth == rights.ORGANISATION:
        return Line("ok", what, f"{name}, for the whole organisation")
    if depth:
        text = f"{name} has depth {depth} only: opt-outs of other contacts will be refused; {_GRANT} the organisation's"
        return Line("warn", what, text)
    return Line(
        "fail", what, f"the application user lacks {name}; {_GRANT} it for the whole organisation, or set the "
        "direction of opt_out to d365_to_campaign"
    )  # fmt: skip
