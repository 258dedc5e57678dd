"""The program in a simulation: one sync as `cli/sync.py` and the opt-out assets do it, without Dagster.

Flows, clients and ledger are the real ones. Replaced are only the seams to the outside: the sign-in at Entra ID (which
runs msal in a thread with an event loop of its own), and the SFTP connection.
"""

import asyncio
import itertools
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime
from functools import cached_property
from urllib.parse import urlencode

import httpx

from sync_assets.audit.person_records import is_gone, whereabouts
from sync_assets.bulk_load.held_records import take_out
from sync_assets.commands.rebuild import begin_anew, rebuild_table
from sync_assets.config.models import Config, TableConfig
from sync_assets.config.values import CONTACT
from sync_assets.errors import SyncAssetsError
from sync_assets.flows import capture_table, push_table
from sync_assets.http.aiohttp_transport import AiohttpTransport
from sync_assets.http.client import CachedTokens
from sync_assets.http.transport import HttpError, OutcomeUnknown, members
from sync_assets.ledger.repositories.opt_out_files import OptOutFile
from sync_assets.opt_out.apply import sides, write_due
from sync_assets.opt_out.changes import Changes
from sync_assets.opt_out.export import folder, staging
from sync_assets.opt_out.pending_decisions import decide_due
from sync_assets.opt_out.profile_polling import poll_is_due
from sync_assets.opt_out.session import open_session
from sync_assets.push.claimed_records import WAIT_FOR_RETRY_SECONDS
from sync_assets.runtime.context import Runtime
from sync_assets.runtime.ledger_access import RunOptions
from sync_assets.runtime.pkeys import ListedKeys, ParentKeys
from sync_assets.runtime.systems import RequestsUnderWay
from sync_assets.runtime.workers import RENEW_SECONDS, Worker, WorkerSession, release_dead
from sync_assets_tests.simulation.clock import PROCESS

PATIENCE_SECONDS = 300.0
ROUNDS = 30
AGAIN_SECONDS = 30.0
TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""No connection is made; the clients only keep it."""


class SimulatedSession(WorkerSession):
    """A session that is renewed by a task of the process, which ends with it."""

    def keep(self) -> None:
        async def renew() -> None:
            while await asyncio.to_thread(self.renew):
                await asyncio.sleep(RENEW_SECONDS)

        self._renewing = asyncio.create_task(renew())

    def end(self) -> None:
        self._renewing.cancel()
        super().end()


class SimulatedRuntime(Runtime):
    """The runtime of one process."""

    @cached_property
    def worker(self) -> Worker:
        return Worker(self.access.opened, SimulatedSession, keeps_history=lambda: False)

    async def sign_in(self) -> tuple[str, float]:
        access = self.settings.d365()
        form = {
            "grant_type": "client_credentials",
            "client_id": access.client_id,
            "client_secret": self.environment["D365_CLIENT_SECRET"],
            "scope": f"{access.url}/.default",
        }
        client = AiohttpTransport(TLS, 1, httpx.Timeout(30.0, connect=15.0))
        url = f"{access.authority}/{access.tenant_id}/oauth2/v2.0/token"
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        try:
            answer = await client.exchange("POST", url, headers, urlencode(form).encode())
            token = members(answer.body)
            return token["access_token"], float(token["expires_in"])
        except OutcomeUnknown as error:  # as sign_in.py: it is not about the request that needs the token
            raise HttpError(error.cause, error.remedy) from error
        except (KeyError, TypeError, ValueError) as error:
            raise HttpError("The sign-in host is out of order.") from error


class Sync:
    """One sync of one process. `problems`: errors of its flows, which do not stop the other flows."""

    def __init__(
        self, runtime: Runtime, tables: Sequence[str], problems: list[SyncAssetsError], *, together: bool
    ) -> None:
        self._runtime, self._together = runtime, together
        self._tables = [config for config in runtime.config.in_link_order if config.table in tables]
        self._failed: set[str] = set()
        process = PROCESS.get()
        self._run_id = f"run {process.number if process else 0}"
        self.problems = problems

    async def run(self) -> None:
        if self._together:
            await asyncio.gather(*(self._flow(config, capture=True) for config in self._tables))
        else:
            for config in self._tables:
                await self._flow(config, capture=True)
        await self._push_pending()
        if self._runtime.config.opt_out.active and any(config.table == CONTACT for config in self._tables):
            await self._opt_outs()

    async def _flow(self, config: TableConfig, *, capture: bool) -> None:
        """Capture and push one table, as a Dagster run of its two assets."""

        async def work() -> None:
            if capture:
                await capture_table(self._runtime, config)
            pushed = await push_table(self._runtime, config)
            loads = self._runtime.ledger.loads
            while pushed.result.loads and not pushed.result.stopped and loads.unfinished(config.table):
                pushed = await push_table(self._runtime, config)
            if pushed.result.stopped:
                self._failed.add(config.table)

        if not await self._tried(work):
            self._failed.add(config.table)

    async def _tried(self, work: Callable[[], Awaitable[object]]) -> bool:
        try:
            await work()
        except SyncAssetsError as error:
            self.problems.append(error)
            return False
        return True

    async def _push_pending(self) -> None:
        """As `commands.sync_runs._push_pending`."""
        ledger, give_up_at = self._runtime.ledger, time.monotonic() + PATIENCE_SECONDS
        before: dict[str, int] | None = None
        refetched: dict[str, list[str]] = {}
        while going := [config for config in self._tables if config.table not in self._failed]:
            for config in going:
                due = ledger.reports.next_due(config.table)
                if due is not None and due <= datetime.fromtimestamp(time.time(), UTC):
                    await self._flow(config, capture=False)
            for config in going:
                to_refetch = ledger.blocked.ids_to_refetch(config.table)
                if to_refetch and to_refetch != refetched.get(config.table):
                    refetched[config.table] = to_refetch
                    await self._flow(config, capture=True)
            now = self._pending()
            pending = {config.table: now.get(config.table, 0) for config in going}
            if not any(pending.values()) or time.monotonic() > give_up_at:
                return
            due = min(
                filter(None, (ledger.reports.next_due(table) for table in pending if pending[table])), default=None
            )
            if pending == before and due is None:
                return
            pause = (due - datetime.fromtimestamp(time.time(), UTC)).total_seconds() if due else 0.5
            if pause > WAIT_FOR_RETRY_SECONDS and not any(one.leased for one in ledger.reports.counts().values()):
                return
            if pending != before:
                give_up_at = time.monotonic() + PATIENCE_SECONDS
            before = pending
            await asyncio.sleep(min(max(pause, 0.1), 5.0))
            release_dead(ledger)

    def _pending(self) -> dict[str, int]:
        return {table: counts.pending for table, counts in self._runtime.ledger.reports.counts().items()}

    # Opt-outs

    async def _opt_outs(self) -> None:
        """As `cli.sync_runs.sync_opt_outs`."""
        await self._tried(self._files)
        runtime, attributes = self._runtime, self._runtime.config.opt_out.attributes
        for _ in range(ROUNDS):
            before = runtime.ledger.opt_outs.left(attributes)
            if not before.due and not poll_is_due(
                runtime.config.opt_out, runtime.ledger, datetime.fromtimestamp(time.time(), UTC)
            ):
                return
            changes = Changes(runtime)
            if not await self._tried(changes.settle) or runtime.ledger.opt_outs.left(attributes) == before:
                return

    async def _files(self) -> None:
        runtime = self._runtime
        give_up_at = time.monotonic() + runtime.config.opt_out.export.settle_seconds + 60
        tried: set[tuple[str, datetime, int]] = set()
        while True:
            seen = await asyncio.to_thread(folder.poll_folder, runtime, runtime.ledger)
            ready = [file for file in seen.ready if (file.name, file.modified, file.size) not in tried]
            for file in ready:
                tried.add((file.name, file.modified, file.size))
                await self._process_file(file)
            if not ready and (not seen.unsettled or time.monotonic() > give_up_at):
                return
            await asyncio.sleep(1.0)

    async def _process_file(self, file: OptOutFile) -> None:
        """As the assets of a file's partition do."""
        runtime, partition = self._runtime, file.partition
        if isinstance(await asyncio.to_thread(staging.process_file, runtime, partition), str):
            return
        async with open_session(runtime) as both:
            await decide_due(both, partition)
        for side in sides(both.direction):
            async with open_session(runtime) as both:
                await write_due(both, side)


async def hold(runtime: Runtime, contact: str) -> None:
    """As `commands.hold.add`, repeated until no request is in flight and both systems could be asked.

    An error that stays after some time is no fault of the network: Campaign finds no record by a key that is new.
    """
    runtime.ledger.holds.hold(contact)
    for attempt in itertools.count():
        release_dead(runtime.ledger)
        whereabouts_of_person = await whereabouts(runtime, contact)
        held = runtime.ledger.holds.add_to_hold(contact, whereabouts_of_person.records)
        errors = whereabouts_of_person.d365.errors or whereabouts_of_person.campaign.errors
        if held and not held.in_flight and (not errors or attempt >= ROUNDS):
            if held.loading:
                await take_out(runtime, contact, 0.0)
            return
        await asyncio.sleep(AGAIN_SECONDS)


async def release(runtime: Runtime, contact: str) -> None:
    """As `commands.hold.release`, repeated until Dynamics 365 could be asked."""
    while runtime.ledger.holds.records_of_hold(contact):
        try:
            runtime.ledger.holds.end_hold(contact, deleted=await is_gone(runtime.clients, contact))
        except SyncAssetsError:
            await asyncio.sleep(AGAIN_SECONDS)
        else:
            return


async def rebuild(runtime: Runtime) -> None:
    """As `commands.rebuild`, repeated until it is not too early, and some times until both systems could be asked.

    Later syncs go on with it.
    """
    while True:
        try:
            runtime.access.accept_older(lambda: begin_anew(runtime.config, runtime.ledger))
            break
        except RequestsUnderWay:
            await asyncio.sleep(AGAIN_SECONDS)
    with closing(ListedKeys()) as keys:
        for config in runtime.config.in_link_order:
            for _ in range(ROUNDS):
                try:
                    await rebuild_table(runtime, config, keys)
                except SyncAssetsError:
                    await asyncio.sleep(AGAIN_SECONDS)
                else:
                    break


def runtime_of(environment: Mapping[str, str], config: Config, *, accept_mapping: bool = True) -> SimulatedRuntime:
    """Return the runtime of a new process. config: that of its configuration file, parsed before."""
    use = RunOptions(accept_mapping=accept_mapping)
    runtime = SimulatedRuntime(environment, use=use, parent_keys=ParentKeys(clock=time.monotonic))
    vars(runtime).update(config=config)
    vars(runtime.clients).update(_trusted=TLS, _d365_tokens=CachedTokens(runtime.sign_in))
    return runtime
