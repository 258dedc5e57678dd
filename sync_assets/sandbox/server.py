"""Run all systems of the sandbox in one process, on one event loop, each on its own port of 127.0.0.1."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import signal
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from sync_assets.performance import new_event_loop
from sync_assets.sandbox import campaign, dataverse, entra, ims, sftp_admin
from sync_assets.sandbox.admin import admin_app
from sync_assets.sandbox.asgi import App
from sync_assets.sandbox.campaign import admin as campaign_admin
from sync_assets.sandbox.certificates import make_certificates
from sync_assets.sandbox.dataverse import admin as dataverse_admin
from sync_assets.sandbox.dataverse.sample import load_sample
from sync_assets.sandbox.faults import Faults
from sync_assets.sandbox.files import write_private
from sync_assets.sandbox.journal import Entry, Journal
from sync_assets.sandbox.listener import Listener
from sync_assets.sandbox.middleware import Dialect, Observed
from sync_assets.sandbox.sftp import SftpServer

CAMPAIGN_ORGANIZATION = "acme-mkt-stage"


class Sandbox:
    """All systems of the sandbox.

    Args:
        contacts: Number of sample contacts in Dynamics 365, with their orders and order lines.
        port: P to use P to P+5 (Dynamics 365, sign-in, Campaign, IMS, admin, SFTP); 0 for free ports.
        dialect: Build of Campaign, of `campaign.settings.DIALECTS`.
    """

    def __init__(self, contacts: int = 1000, port: int = 0, dialect: str = "standard") -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="sync-assets-sandbox-"))
        """Keys, certificates and the files of the SFTP server, until `stop`."""
        self._listeners: list[Listener] = []
        try:
            self._listen(port)
            self._build(contacts)
            self.campaign.configure({"dialect": dialect})
        except BaseException:
            self._clean_up()
            raise

    def _listen(self, port: int) -> None:
        """Bind all ports but that of SFTP, so that the addresses are known before the systems are built."""
        self.ca_file, tls = make_certificates(self.directory)
        numbers = [port + n if port else 0 for n in range(6)]
        for number, encryption in zip(numbers, (tls, tls, tls, tls, None), strict=False):
            self._listeners.append(Listener(number, encryption))
        self._sftp_port = numbers[5]
        self._d365_port, self._login_port, self._campaign_port, self._ims_port, self._admin_port = (
            listener.port for listener in self._listeners
        )

    def _build(self, contacts: int) -> None:
        self.journal = Journal()
        self.faults = Faults()
        self.sftp = SftpServer(self.directory, self._sftp_port, record=self._record_sftp, faults=self.faults)
        self.org = dataverse.Organization(f"https://localhost:{self._d365_port}")
        self.entra = entra.Entra(f"https://localhost:{self._login_port}", self.org.url)
        self.ims = ims.Ims()
        self.campaign = campaign.Campaign(
            CAMPAIGN_ORGANIZATION, self.ims, faults=self.faults, exports=self.sftp.exports
        )
        self.imports = campaign.Imports(self.campaign, self.sftp.root, self._record_import)
        load_sample(self.org, contacts)

    def _apps(self) -> tuple[App, ...]:
        journal, faults, org = self.journal, self.faults, self.org
        web_api = dataverse.app(org, self.entra, faults, self.entra.authority)
        routes = [
            *dataverse_admin.routes(org),
            *entra.routes(self.entra),
            *campaign_admin.routes(self.campaign, self.imports),
            *ims.routes(self.ims),
            *sftp_admin.routes(self.sftp),
        ]
        return (
            Observed(web_api, Dialect("d365", dataverse.refuse, dataverse.ANSWERED_KINDS), journal, faults),
            Observed(entra.app(self.entra), Dialect("login", entra.refuse), journal, faults),
            Observed(
                campaign.app(self.campaign),
                Dialect("campaign", campaign.refuse, campaign.KINDS, partial(campaign.key_of, self.campaign)),
                journal,
                faults,
            ),
            Observed(ims.app(self.ims), Dialect("ims", ims.refuse), journal, faults),
            admin_app(journal, faults, self._totals, self._fail, routes),
        )

    async def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        for listener, app in zip(self._listeners, self._apps(), strict=True):
            await listener.start(app)
        self._listeners[0].offset = lambda: self.org.switches.clock_offset_seconds
        self.sftp.start()

    async def stop(self) -> None:
        for listener in self._listeners:
            await listener.stop()
        await asyncio.to_thread(self.sftp.stop)
        self._clean_up()

    def _clean_up(self) -> None:
        for listener in self._listeners:
            listener.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    def environment(self) -> dict[str, str]:
        """Return the environment variables for a program that uses this sandbox, and SANDBOX_ADMIN_URL."""
        return {
            "D365_URL": self.org.url,
            "D365_AUTHORITY": self.entra.url,
            "D365_TENANT_ID": self.entra.tenant_id,
            "D365_CLIENT_ID": self.entra.client_id,
            "D365_CLIENT_SECRET": self.entra.client_secret,
            "CAMPAIGN_URL": f"https://localhost:{self._campaign_port}/{CAMPAIGN_ORGANIZATION}",
            "CAMPAIGN_IMS_URL": f"https://localhost:{self._ims_port}",
            "CAMPAIGN_CLIENT_ID": self.ims.client_id,
            "CAMPAIGN_CLIENT_SECRET": self.ims.client_secret,
            "CAMPAIGN_SCOPES": ",".join(ims.SCOPES),
            "CAMPAIGN_SFTP_HOST": "localhost",
            "CAMPAIGN_SFTP_PORT": str(self.sftp.port),
            "CAMPAIGN_SFTP_USER": self.sftp.user,
            "CAMPAIGN_SFTP_PRIVATE_KEY": str(self.sftp.private_key_file),
            "CAMPAIGN_SFTP_HOST_KEY": str(self.sftp.known_hosts_file),
            "SYNC_ASSETS_CA_BUNDLE": str(self.ca_file),
            "SYNC_ASSETS_CONFIG": str(Path(__file__).with_name("sync_assets.yaml")),
            "SANDBOX_ADMIN_URL": f"http://localhost:{self._admin_port}",
        }

    async def run_forever(self, env_file: Path | None = None, *, until_stdin_closes: bool = False) -> None:
        """Serve until SIGTERM or SIGINT.

        Args:
            env_file: Receives the environment variables once all systems listen.
            until_stdin_closes: True to stop also when standard input ends, so that the sandbox does not outlive the
                process that started it.
        """
        stopped = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopped.set)
        if until_stdin_closes:
            loop.add_reader(sys.stdin.fileno(), lambda: os.read(sys.stdin.fileno(), 4096) or stopped.set())
        await self.start()
        try:
            if env_file is not None:
                lines = "".join(f"{name}={value}\n" for name, value in self.environment().items())
                write_private(env_file, lines.encode())
            if not until_stdin_closes:
                self._say(env_file)
            await stopped.wait()
        finally:
            # Requests in progress are cut on purpose, so uvicorn's errors about them are not logged.
            logging.getLogger("uvicorn.error").disabled = True
            if until_stdin_closes:
                loop.remove_reader(sys.stdin.fileno())
            await self.stop()

    def _say(self, env_file: Path | None) -> None:
        """Print the addresses, for a person who started the sandbox."""
        environment = self.environment()
        for name in ("D365_URL", "CAMPAIGN_URL", "CAMPAIGN_IMS_URL", "CAMPAIGN_SFTP_PORT", "SANDBOX_ADMIN_URL"):
            print(f"{name}={environment[name]}", file=sys.stderr)  # noqa: T201
        option = f" --env-file {env_file}" if env_file and env_file.name != ".env" else ""
        how = f"`sync-assets plan{option}`" if env_file else "start it with --env-file for the variables"
        print(f"To use it: {how}. Ctrl-C stops it.", file=sys.stderr, flush=True)  # noqa: T201

    async def _fail(self, seconds: float) -> None:
        """Interrupt all systems except SFTP and the admin interface for this number of seconds. Their data are kept."""
        *systems, _ = self._listeners
        log = logging.getLogger("uvicorn.error")
        log.disabled = True  # requests in progress are cut on purpose
        try:
            await asyncio.gather(*(listener.fail(seconds) for listener in systems))
        finally:
            log.disabled = False

    def _totals(self) -> dict[str, Any]:
        """Return the number of rows of each table and of records of each resource."""
        return {
            "d365": {name: len(store) for name, store in self.org.stores.items()},
            "campaign": {name: len(table.records) for name, table in self.campaign.tables.items()},
        }

    def _record_import(self, path: str, outcome: str, ms: float) -> None:
        """Add the beginning or the end of an import workflow's run to the journal."""
        status = 500 if outcome == "error" else 200
        self.journal.add(Entry(system="workflow", method=outcome, path=path, status=status, ms=round(ms, 3)))

    def _record_sftp(self, operation: str, path: str, status: int, ms: float) -> None:
        """Add an SFTP operation to the journal. Called in SFTP's threads; the journal is used in the loop only."""
        entry = Entry(system="sftp", method=operation, path=path, status=status, ms=round(ms, 3))
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            self._loop.call_soon_threadsafe(self.journal.add, entry)


def run(
    contacts: int = 1000,
    port: int = 0,
    env_file: Path | None = None,
    dialect: str = "standard",
    *,
    until_stdin_closes: bool = False,
) -> None:
    """Build a sandbox, and serve until it is stopped. Raises OSError if a port is in use."""
    # Building takes seconds with many contacts. A signal meanwhile must not leave keys on disk.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    sandbox = Sandbox(contacts, port, dialect=dialect)
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(sandbox.run_forever(env_file, until_stdin_closes=until_stdin_closes))
