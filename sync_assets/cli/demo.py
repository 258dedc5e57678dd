"""`demo`: run the sandbox in a process of its own, and Dagster against it.

With `--headless`: sync until both systems agree, make changes on both sides, sync again, compare, print a summary. All
files are in a temporary folder that is removed at the end.
"""

import base64
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import chdir, closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer
from requests import RequestException
from rich.console import Console
from rich.text import Text

from sync_assets.checks.known_types import remember
from sync_assets.checks.preflight import set_up
from sync_assets.cli.instance import PACKAGED
from sync_assets.cli.servers import serve_dev
from sync_assets.cli.sync import SyncResult, sync
from sync_assets.commands.status import show
from sync_assets.commands.terminal import end, print_document, private_files
from sync_assets.config.files import PREFIXES
from sync_assets.config.loader import load_config
from sync_assets.config.models import Config
from sync_assets.config.values import CONTACT
from sync_assets.config.variables import KEY_BYTES
from sync_assets.errors import SyncAssetsError
from sync_assets.foreign_text import printable
from sync_assets.launching.dagster_patches import DEFINITIONS
from sync_assets.launching.process_guard import PYTHON
from sync_assets.launching.servers import free_port
from sync_assets.runtime import interruptible
from sync_assets.runtime.context import Runtime
from sync_assets.sandbox.files import write_private
from sync_assets.webserver.guard import HOSTS_VARIABLE

START_SECONDS = 60.0
FIRST_JOBS_SECONDS = 2.0
CONFIG = Path(__file__).parent.parent / "sandbox" / "demo.yaml"
COMPARED = ("emailaddress1", "firstname", "jobtitle", "new_name")
"""The mapped columns that are compared at the end, beside opt-outs and links."""


def command(
    headless: Annotated[bool, typer.Option("--headless", help="No UI: sync, change, sync again, compare.")] = False,
    contacts: Annotated[int, typer.Option(min=1, help="Number of sample contacts.")] = 1000,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the Dagster UI; 0: a free one.")] = 3000,
) -> None:
    """Start the sandbox, and Dagster that synchronises its two systems."""
    private_files()
    if not headless:
        run_with_ui(contacts, port)
    elif status := run_headless(contacts):
        end(status, "The systems do not agree.")


@contextmanager
def _scene(contacts: int) -> Iterator[dict[str, str]]:
    """Start a sandbox and make an empty DAGSTER_HOME; yield the environment for both."""
    folder = Path(tempfile.mkdtemp(prefix="sync-assets-demo-"))
    env_file, home = folder / "sandbox.env", folder / "dagster"
    home.mkdir()
    shutil.copy(PACKAGED, home / "dagster.yaml")
    command = [*PYTHON, "sync_assets.sandbox", "--contacts", str(contacts), "--env-file", str(env_file)]
    # It ends when our end of the pipe closes, even if we are killed; not by Ctrl-C, since ticks of sensors need it.
    process = subprocess.Popen(  # noqa: S603
        [*command, "--until-stdin-closes"],
        env=_clean({}),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        give_up_at = time.monotonic() + START_SECONDS
        while not env_file.is_file():
            if process.poll() is not None or time.monotonic() > give_up_at:
                raise SyncAssetsError("The sandbox did not start.", "Run `sync-assets sandbox` to see why.")
            time.sleep(0.05)
        written = env_file.read_text(encoding="utf-8").splitlines()
        environment = dict(line.split("=", 1) for line in written if "=" in line)
        environment |= {"DAGSTER_HOME": str(home), "SYNC_ASSETS_AUTOSTART": "1", "DAGSTER_DISABLE_TELEMETRY": "1"}
        config, key = folder / "sync_assets.yaml", folder / "ledger.key"
        runs = f"\nruns:\n  start_date: {datetime.now(UTC).date()}\n"  # partitions begin today
        config.write_text(CONFIG.read_text(encoding="utf-8") + runs, encoding="utf-8")
        write_private(key, base64.b64encode(os.urandom(KEY_BYTES)))  # encrypts the ledger's payloads
        yield environment | {"SYNC_ASSETS_CONFIG": str(config), "SYNC_ASSETS_LEDGER_KEY_FILE": str(key)}
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
        shutil.rmtree(folder, ignore_errors=True)


def _remember_types(environment: Mapping[str, str]) -> None:
    """Store the types of columns beside the configuration, as `init` does, so that Dagster shows them at once."""
    with closing(Runtime({**environment})) as runtime, suppress(SyncAssetsError):
        for config in runtime.config.tables:
            remember(runtime.settings.beside, interruptible.run(set_up(runtime, config)).mapping)


def _clean(environment: dict[str, str]) -> dict[str, str]:
    """Return the process's environment with the demo's settings in place of ours, which could be of real systems."""
    prefixes = (*PREFIXES, "DAGSTER_")
    return {name: value for name, value in os.environ.items() if not name.startswith(prefixes)} | environment


def run_with_ui(contacts: int, port: int) -> None:
    """Serve until stopped. Raises SyncAssetsError."""
    console = Console()
    if (free := free_port(port)) is None:
        other = port + 1 if port < 65535 else port - 1
        raise SyncAssetsError(f"Port {port} is taken.", f"Write e.g. `sync-assets demo --port {other}`.")
    port = free  # in place of 0
    # Handle both signals, also if a shell started us with SIGINT ignored, so that no process is left running.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    with _scene(contacts) as environment:
        console.print(f"Local Dynamics 365 with {contacts:,} contacts, and a local Campaign, are running.")
        _remember_types(environment)
        console.print(f"Dagster is starting at http://127.0.0.1:{port} (Ctrl-C ends everything).")
        console.print("Open Lineage: the sensors start the first runs within some ten seconds.")
        console.print("To change a row yourself, type in another terminal (in the same virtual environment):")
        typed = f"SANDBOX_ADMIN_URL={environment['SANDBOX_ADMIN_URL']} sync-assets sandbox change contact jobtitle=Lead"
        console.print(typed, soft_wrap=True)  # one line, to be copied
        threading.Thread(target=_first_jobs, args=(environment, port), daemon=True).start()
        # Names by which the UI is reached are about this machine, not about a real system.
        settings = _clean(environment) | {name: os.environ[name] for name in (HOSTS_VARIABLE,) if name in os.environ}
        os.environ.clear()
        os.environ.update(settings)
        with chdir(environment["DAGSTER_HOME"]):  # the current folder may name other code
            # The level keeps the terminal readable.
            serve_dev(["--module-name", DEFINITIONS, "--port", str(port), "--log-level", "warning"])


def _first_jobs(environment: Mapping[str, str], port: int) -> None:
    """After the first load, let some contacts opt out, and run once the audit and the report that are due at night."""
    from dagster_graphql import DagsterGraphQLClient, DagsterGraphQLClientError  # noqa: PLC0415

    while free_port(port) is not None:  # before, the main thread makes Dagster's tables: Alembic is for one thread
        time.sleep(FIRST_JOBS_SECONDS)
    runtime = Runtime(environment)
    jobs, opted_out = ["audit", "daily_report"], False
    while jobs:
        time.sleep(FIRST_JOBS_SECONDS)
        try:
            feeds = [runtime.ledger.feeds.feed(config.table) for config in runtime.config.tables]
            pending = sum(counts.pending for counts in runtime.ledger.reports.counts().values())
            if pending or not all(feed and feed.complete for feed in feeds):
                continue
            if not opted_out:
                _opt_out(httpx.Client(base_url=environment["SANDBOX_ADMIN_URL"], timeout=60, trust_env=False))
                opted_out = True
            DagsterGraphQLClient("127.0.0.1", port_number=port).submit_job_execution(jobs[0])
            del jobs[0]
        except (SyncAssetsError, DagsterGraphQLClientError, RequestException, httpx.HTTPError):
            continue  # the web server is starting, or the ledger is busy: try again
    runtime.close()


def run_headless(contacts: int) -> int:
    """Run three syncs with changes before the second. Return 0 if both systems agree."""
    console = Console()
    with _scene(contacts) as environment:
        for name in [name for name in os.environ if name not in _clean({})]:
            del os.environ[name]
        os.environ.update(environment)
        admin = httpx.Client(base_url=environment["SANDBOX_ADMIN_URL"], timeout=60, trust_env=False)
        console.rule(f"first sync: {contacts:,} contacts with their orders")
        first = _sync(console)
        console.rule("changes on both sides")
        for line in _change(admin, contacts):
            console.print(line)
        console.rule("second sync: only what changed")
        second = _sync(console)
        console.rule("third sync: nothing to do")
        third = _sync(console)
        differences = _differences(admin, load_config(CONFIG))
    for line in differences[:20]:
        console.print(Text.assemble(("differs", "red"), f": {line}"))
    calls = [sum(done.document.engine_calls.values()) for done in (first, second, third)]
    console.print(f"engine calls: {calls[0]:,} for the first load, {calls[1]:,} for the changes, {calls[2]:,} for none")
    agreed = not differences and all(done.status == 0 for done in (first, second, third))
    console.print("[green]Both systems agree.[/]" if agreed else "[red]The systems do not agree.[/]")
    return 0 if agreed else 1


def _sync(console: Console) -> SyncResult:
    runtime = Runtime()
    done = sync(runtime)
    runtime.close()
    print_document(done.document, False, show)
    for line in (*map(str, done.problems), *done.stopped):
        console.print(Text(printable(line), "red"))
    return done


def _change(admin: httpx.Client, contacts: int) -> list[str]:
    """Change both systems, opt-outs among it, and return what was changed as lines for people."""
    number = max(1, contacts // 50)
    admin.post("/d365/change", json={"table": "contact", "count": number, "set": {"jobtitle": "Chief Demo Officer"}})
    admin.post("/d365/change", json={"table": "contact", "count": number, "set": {"fax": "+1 555 0100"}})
    orders: list[dict[str, Any]] = admin.get("/d365/dump", params={"table": "new_order"}).json()
    admin.post("/d365/load", json={"contacts": number})  # after the dump, so that the deleted order is in Campaign
    for order in orders[:1]:
        admin.post("/d365/delete", json={"table": "new_order", "ids": [order["new_orderid"]]})
    admin.post("/campaign/profiles", json=[{"email": "walk-in@example.org", "firstName": "Walk", "lastName": "In"}])
    opted_out = _opt_out(admin)
    return [
        f"Dynamics 365: {number} job titles changed, {number} fax numbers, which are not mapped, {number} new contacts "
        f"with their orders, {len(orders[:1])} order deleted with its lines",
        "Campaign: a marketer adds a profile of their own",
        f"Opt-outs: {opted_out[0]} contacts ask not to be called in Dynamics 365, {opted_out[1]} unsubscribe in "
        "Campaign, whose workflow writes its file",
    ]


def _opt_out(admin: httpx.Client, number: int = 3) -> tuple[int, int]:
    """Let contacts opt out on both sides, different ones on each; Campaign exports its own."""
    contacts: list[dict[str, Any]] = admin.get("/d365/dump", params={"table": "contact"}).json()
    profiles: list[dict[str, Any]] = admin.get("/campaign/dump", params={"resource": "profile"}).json()
    free = [row["contactid"] for row in contacts if not row["donotphone"]][:number]
    admin.post("/d365/change", json={"table": "contact", "ids": free, "set": {"donotphone": True}})
    opted_in = [profile["PKey"] for profile in profiles if profile["externalId"] and not profile["blackListEmail"]]
    keys = opted_in[-number:]
    admin.post("/campaign/change", json={"resource": "profile", "pkeys": keys, "set": {"blackListEmail": True}})
    admin.post("/campaign/export", json={})
    return len(free), len(keys)


def _differences(admin: httpx.Client, config: Config) -> list[str]:
    """Compare the two systems directly, without our own code for it. Returns ids, never values."""
    records: dict[str, list[dict[str, Any]]] = {
        table.resource: admin.get("/campaign/dump", params={"resource": table.resource}).json()
        for table in config.tables
    }
    marketers = [profile for profile in records["profile"] if not profile["externalId"]]
    differences = [] if len(marketers) == 1 else [f"{len(marketers)} profiles of a marketer's own instead of 1"]
    for mapped in config.tables:
        table, resource, key = mapped.table, mapped.resource, mapped.key
        attributes = {column: field.to for column, field in mapped.fields.items() if column in COMPARED}
        attributes |= {name: flag.to for name, flag in config.opt_out.mappings.items() if table == CONTACT}
        rows: list[dict[str, Any]] = admin.get("/d365/dump", params={"table": table}).json()
        ids = [record[key] for record in records[resource] if record[key]]
        by_key = {record[key]: record for record in records[resource]}
        repeated = {id_: number for id_, number in Counter(ids).items() if number > 1}
        differences += [f"{number} {resource} records carry the id {id_}" for id_, number in repeated.items()]
        differences += [f"{resource} {id_} has no row" for id_ in set(ids) - {row[f"{table}id"] for row in rows}]
        parents = {
            link: {parent["PKey"]: parent[to.key] for parent in records[to.resource]}
            for link in mapped.links
            for to in [config.table(link.table)]
        }
        for row in rows:
            id_ = row[f"{table}id"]
            record = by_key.get(id_)
            if record is None or not record.get("_visible", True):
                differences.append(f"{table} {id_} is missing in Campaign")
                continue
            for column, attribute in attributes.items():
                # Campaign re-cases names (smartCase), so case does not count.
                if str(row[column] or "").casefold() != str(record[attribute] or "").casefold():
                    differences.append(f"{table} {id_}: {column} is not {attribute}")
            for link, ids_by_pkey in parents.items():
                if ids_by_pkey.get((record[link.to] or {}).get("PKey")) != row[f"_{link.field}_value"]:
                    differences.append(f"{table} {id_} is not linked to its parent")
    return differences
