"""The order of a sync: which table is captured and pushed when, and then the opt-outs, until nothing more can be done.

A generator yields the steps, and reads the ledger between them. `cli/sync_runs.py` executes them as runs of Dagster,
`commands/plan.py` rehearses them on a scratch ledger. Runs that sensors request have another order: an asset run works
on one table at a time (`defs/tables/table_run.py`), and the follower on what is due just then (`defs/follower`).
"""

import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Literal, NamedTuple

from sync_assets.capture.feed_polling import poll_once
from sync_assets.config.models import OptOutConfig, TableConfig
from sync_assets.config.values import CONTACT
from sync_assets.errors import SyncAssetsError
from sync_assets.flows import is_unchanged
from sync_assets.ledger import Ledger
from sync_assets.opt_out.profile_polling import due_without_file
from sync_assets.push.claimed_records import WAIT_FOR_RETRY_SECONDS
from sync_assets.runtime.context import Runtime
from sync_assets.runtime.interruptible import run as _run
from sync_assets.runtime.ledger_access import LedgerAccess

LEASE_WAIT_SECONDS = 300.0
"""How long a sync waits for records that are leased to other workers."""
ROUNDS = 20
"""Most rounds of opt-outs without a file."""

Work = Literal["capture", "capture and push", "push", "wait", "opt-out files", "opt-outs"]


class Step(NamedTuple):
    """A step of a sync: work on a table, a wait of so many seconds, or opt-outs.

    of_table: the table; None for a wait or opt-outs.
    """

    work: Work
    of_table: TableConfig | None = None
    seconds: float = 0.0


def sync_steps(
    runtime: Runtime,
    tables: Sequence[TableConfig],
    failed: Collection[str],
    quiet: Collection[str] = (),
    *,
    waits: bool,
) -> Iterator[Step]:
    """Yield the steps, each to be done before the next one is asked for.

    Parents' tables beyond `tables` are captured only, so that a child of a row that is new there waits for it, and does
    not count as orphaned. Their problems are left to their own sync.

    Args:
        runtime: Its ledger has the results of the steps before. A step may close that ledger.
        tables: In link order. Those in maintenance are left out as long as they are.
        failed: The names of tables that cannot go on; grows meanwhile.
        quiet: Names of tables without news.
        waits: True to wait for records that are not due yet, or claimed by others.
    """
    beyond = runtime.config.parents_beyond([config for config in tables if not _in_maintenance(runtime.ledger, config)])
    beyond = [one for one in beyond if not _in_maintenance(runtime.ledger, one) and _run(is_unchanged(runtime, one))]
    for config in beyond:
        yield Step("capture", config)
    for config in tables:
        if config.table in quiet or _in_maintenance(runtime.ledger, config):
            continue
        yield Step("capture and push", config)
        feed = runtime.ledger.feeds.feed(config.table)
        if config.table not in failed and feed and not feed.complete:  # its push listed profiles out of scope
            yield Step("capture and push", config)
    for config in _parents_with_news(runtime, [*tables, *beyond], failed, quiet):
        yield Step("capture" if config in beyond else "capture and push", config)
    yield from _pending(runtime.access, tables, failed, waits=waits)
    contacts = any(config.table == CONTACT and not _in_maintenance(runtime.ledger, config) for config in tables)
    if contacts and runtime.use.plan is None:  # a plan names no opt-outs
        yield from _opt_outs(runtime.config.opt_out, runtime.access)


def _parents_with_news(
    runtime: Runtime, tables: Sequence[TableConfig], failed: Collection[str], quiet: Collection[str]
) -> Iterator[TableConfig]:
    """Yield the parents' tables that changed since they were captured, so that each is read after its children.

    A child whose parent was created after the parent's table was captured counts as orphaned until then.
    """
    linked = {link.table for config in tables if config.table not in quiet for link in config.links}
    for config in reversed([one for one in runtime.config.in_link_order if one in tables]):
        if config.table not in linked or config.table in failed or _in_maintenance(runtime.ledger, config):
            continue
        with suppress(SyncAssetsError):  # its next capture reports the problem
            if _run(poll_once(runtime, [config])).news:
                linked |= {link.table for link in config.links}
                yield config


def _pending(
    ledger: LedgerAccess, tables: Sequence[TableConfig], failed: Collection[str], *, waits: bool
) -> Iterator[Step]:
    """Yield the steps for what the first ones left pending: to be retried later, or leased to another worker."""
    give_up_at = time.monotonic() + LEASE_WAIT_SECONDS
    before: dict[str, int] | None = None
    refetched: dict[str, list[str]] = {}
    while active := [one for one in tables if one.table not in failed and not _in_maintenance(ledger.opened(), one)]:
        for config in active:
            to_refetch = ledger.opened().blocked.ids_to_refetch(config.table)
            if to_refetch and to_refetch != refetched.get(config.table):
                refetched[config.table] = to_refetch
                yield Step("capture and push", config)
        for config in active:
            due = ledger.opened().reports.next_due(config.table)
            if due is not None and due <= datetime.now(UTC):
                yield Step("push", config)
        if any(
            ledger.opened().blocked.ids_to_refetch(one.table) not in ([], refetched.get(one.table)) for one in active
        ):
            continue
        counts = ledger.opened().reports.counts()
        pending = {config.table: counts[config.table].pending for config in active}
        if pending != before:
            give_up_at = time.monotonic() + LEASE_WAIT_SECONDS  # there is progress, so the wait starts anew
        if not any(pending.values()) or time.monotonic() > give_up_at:
            return
        unsent = [config.table for config in active if pending[config.table]]
        due = min(filter(None, map(ledger.opened().reports.next_due, unsent)), default=None)
        if pending == before and (due is None or not waits):
            return
        longest = timedelta(seconds=WAIT_FOR_RETRY_SECONDS)
        leased = any(of_table.leased for of_table in counts.values())  # to another worker
        if due and due - datetime.now(UTC) > longest and not leased:
            return  # records without an answer that names a cause, which are tried again in growing intervals
        before = pending
        if waits:
            pause = (due - datetime.now(UTC)).total_seconds() if due else 0.5
            yield Step("wait", seconds=min(max(pause, 0.1), 5.0))


def _opt_outs(opt_out: OptOutConfig, ledger: LedgerAccess) -> Iterator[Step]:
    """Yield the steps of opt-outs with flows of their own: files, then what is due without one, until nothing moves."""
    if not opt_out.active:
        return
    yield Step("opt-out files")
    attributes = opt_out.attributes
    for _ in range(ROUNDS):
        before = ledger.opened().opt_outs.left(attributes)
        if not due_without_file(opt_out, ledger.opened()):
            return
        yield Step("opt-outs")
        if ledger.opened().opt_outs.left(attributes) == before:
            return


def _in_maintenance(ledger: Ledger, config: TableConfig) -> bool:
    return config.table in ledger.maintenance.in_maintenance()
