"""Run the program from tests: against a sandbox, with its own DAGSTER_HOME, in this process or in another one."""

import asyncio
import json
import os
import sqlite3
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import dagster as dg
import pytest
import yaml

from sync_assets.capture.context import CaptureResult
from sync_assets.capture.table_capture import Capture
from sync_assets.checks.preflight import preflight
from sync_assets.cli import sync_runs
from sync_assets.cli.sync import SyncResult, sync, sync_plan
from sync_assets.commands.values import builtins
from sync_assets.defs.partitions import today
from sync_assets.runtime.context import Runtime
from sync_assets.runtime.ledger_access import RunOptions
from sync_assets_tests.support import plain_runs
from sync_assets_tests.support.forked_commands import Command, start_command
from sync_assets_tests.support.lazy_instance import lazy_instance
from sync_assets_tests.support.ledgers import new_sqlite_ledger
from sync_assets_tests.support.sandbox_process import SandboxProcess

CONTACT: dict[str, Any] = {
    "table": "contact",
    "resource": "profile",
    "key": "externalId",
    "fields": {
        "firstname": "firstName",
        "lastname": "lastName",
        "emailaddress1": "email",
        "jobtitle": {"to": "cusJobTitle", "truncate": True},
        "birthdate": {"to": "birthDate", "apply_updates": False},
        "address1_city": "location.city",
        "donotfax": "cusVip",
    },
}
_DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
"""In C where PyYAML has it: each use of `Program.env` writes the configuration."""
OURS = ("SYNC_ASSETS_", "D365_", "CAMPAIGN_", "DAGSTER_")


@dataclass(frozen=True)
class Synced(SyncResult):
    """The result of `sync`. document: as `sync --json` prints it."""

    document: Any


@dataclass
class Program:
    """One installation of the program.

    Attributes:
        sandbox: The systems.
        home: An empty folder.
        table: Configuration of its first table.
        more: Additional environment variables.
        guardrails: This part of the configuration.
        further: Configuration of more tables.
        opt_out: This part of the configuration; omitted if empty. So are those that follow.
        dagster: True to let Dagster run the assets of `sync`, for tests of runs and events. Without, they are called
            (plain_runs.py). With `DAGSTER=1 pytest sync_assets_tests/flows` Dagster runs them in all tests.
        on_disk: True to let Dagster write its events to DAGSTER_HOME as well, as the command line does. Without, no run
            sees the events of an earlier one.
        folder: The current folder of its commands; None: `home`.
    """

    sandbox: SandboxProcess
    home: Path
    table: dict[str, Any] = field(default_factory=lambda: dict(CONTACT))
    more: dict[str, str] = field(default_factory=dict[str, str])
    guardrails: dict[str, Any] = field(default_factory=dict[str, Any])
    further: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    opt_out: dict[str, Any] = field(default_factory=dict[str, Any])
    storage: dict[str, Any] = field(default_factory=dict[str, Any])
    logs: dict[str, Any] = field(default_factory=dict[str, Any])
    history: dict[str, Any] = field(default_factory=dict[str, Any])
    results: dict[str, Any] = field(default_factory=dict[str, Any])
    alerts: dict[str, Any] = field(default_factory=dict[str, Any])
    audit: dict[str, Any] = field(default_factory=dict[str, Any])
    bulk_load: dict[str, Any] = field(default_factory=dict[str, Any])
    runs: dict[str, Any] = field(default_factory=lambda: {"linger_seconds": 0, "start_date": today()})
    dagster: bool = field(default_factory=lambda: os.environ.get("DAGSTER") == "1")
    on_disk: bool = False
    folder: Path | None = None
    _instance: dg.DagsterInstance | None = None

    @property
    def env(self) -> dict[str, str]:
        config = self.home / "config.yaml"
        document = {"privacy_acknowledged": True, "tables": [self.table, *self.further], "guardrails": self.guardrails}
        parts = ("opt_out", "storage", "logs", "history", "results", "alerts", "audit", "bulk_load", "runs")
        document |= {key: part for key in parts if (part := getattr(self, key))}
        config.write_text(yaml.dump(document, Dumper=_DUMPER, allow_unicode=True), encoding="utf-8")
        dagster_home = self.home / "dagster"
        dagster_home.mkdir(exist_ok=True)
        other = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
        ours = {"SYNC_ASSETS_CONFIG": str(config), "DAGSTER_HOME": str(dagster_home)}
        return {name: value for name, value in (other | self.sandbox.env | ours | self.more).items() if value}

    def runtime(self, **use: Any) -> Runtime:
        return Runtime(self.env, use=RunOptions(**use))

    def make_ledger(self) -> None:
        """Create the default ledger, unless it exists."""
        ledger = Path(self.env["DAGSTER_HOME"]) / "ledger.db"
        elsewhere = any(name.startswith(("SYNC_ASSETS_LEDGER", "DAGSTER_HOME")) for name in self.more)
        if not elsewhere and not ledger.exists():
            new_sqlite_ledger(ledger)
            with closing(sqlite3.connect(ledger)) as connection, connection:
                connection.execute("UPDATE sync_identity SET id = ?", (str(uuid.uuid4()),))

    def sync(self, runtime: Runtime | None = None, only: Sequence[str] = (), plan: Path | None = None) -> Synced:
        """Run `sync` in this process. only: these tables. plan: what this file names."""
        before = dict(os.environ)
        os.environ["DAGSTER_HOME"] = self.env["DAGSTER_HOME"]
        runtime = runtime or self.runtime()
        self.make_ledger()
        if not self.on_disk:
            self._instance = self._instance or lazy_instance()
        try:
            with pytest.MonkeyPatch.context() as patch:
                if not (self.dagster or self.on_disk):
                    patch.setattr(sync_runs, "execute", plain_runs.execute)
                instance = self._instance
                done = sync_plan(runtime, plan, instance=instance) if plan else sync(runtime, only, instance=instance)
                return cast("Synced", replace(done, document=builtins(done.document)))
        finally:
            runtime.close()
            os.environ.clear()
            os.environ.update(before)

    def start(self, *arguments: str, fresh: bool = False) -> subprocess.Popen[str] | Command:
        """Start the command line in a process of its own: a fork, or a fresh interpreter."""
        if not fresh and hasattr(os, "fork"):
            return start_command(
                arguments, self.env, self.folder or self.home, dagster=self.dagster, on_disk=self.on_disk
            )
        command = [sys.executable, "-m", "sync_assets.cli", *arguments]
        return subprocess.Popen(
            command,
            env=self.env,
            cwd=self.folder or self.home,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def run(self, *arguments: str) -> tuple[int, str, str]:
        """Run the command line to its end. Return exit status, standard output, standard error."""
        process = self.start(*arguments)
        output, errors = process.communicate(timeout=180)
        assert process.returncode is not None
        return process.returncode, output, errors

    def json(self, *arguments: str) -> tuple[int, Any]:
        status, output, errors = self.run(*arguments, "--json")
        assert output, errors
        return status, json.loads(output)

    def pass_horizon(self) -> None:
        """Let the horizon of all requests without an answer pass, and the waits before the next attempts."""
        runtime = self.runtime()
        past = "UPDATE sync_{} SET unknown_until = unknown_until - 900000000"
        for statement in (f"{past.format('record')}, not_before = NULL", past.format("opt_out")):
            runtime.ledger.database.write(lambda connection: connection.exec_driver_sql(statement) and None)  # noqa: B023
        runtime.ledger.close()  # alone: a process that ends erases payloads

    # State of both systems

    def profiles(self) -> dict[str, dict[str, Any]]:
        """Return the profiles with an id, by id. Fails if two profiles have the same id."""
        ours = [profile for profile in self.sandbox.admin.dump_campaign() if profile["externalId"]]
        by_id = {profile["externalId"]: profile for profile in ours}
        assert len(by_id) == len(ours), "an id stands in two profiles"
        return by_id

    def assert_in_step(self) -> None:
        """Assert that each contact has exactly one profile with its values.

        Compares case-insensitively, since Campaign changes the case of names.
        """
        contacts, profiles = self.sandbox.admin.dump_d365(), self.profiles()
        assert {contact["contactid"] for contact in contacts} == profiles.keys()
        for contact in contacts:
            profile = profiles[contact["contactid"]]
            for column, attribute in (
                ("emailaddress1", "email"),
                ("lastname", "lastName"),
                ("jobtitle", "cusJobTitle"),
            ):
                assert (contact[column] or "").casefold() == profile[attribute].casefold(), column
            assert (contact["address1_city"] or "") == profile["location"]["city"]
            assert contact["donotfax"] == profile["cusVip"]


def calls(insert: int = 0, update: int = 0, delete: int = 0, read: int = 0) -> dict[str, int]:
    return {"insert": insert, "update": update, "delete": delete, "read": read}


@asynccontextmanager
async def capturing(runtime: Runtime, **options: Any) -> AsyncIterator[Capture]:
    """Yield a capture of the program's first table, after the preflight, without Dagster. options: of Capture."""
    async with runtime.d365() as d365, runtime.campaign() as campaign:
        ready = await preflight(runtime.config.tables[0], d365, campaign)
        yield Capture(runtime.ledger, d365, ready.table, ready.mapping, runtime.session.epoch, **options)


def capture(runtime: Runtime, **options: Any) -> CaptureResult:
    """Capture the program's first table once."""

    async def run() -> CaptureResult:
        async with capturing(runtime, **options) as one:
            return await one.run()

    return asyncio.run(run())
