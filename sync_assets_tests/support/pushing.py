"""Helpers for tests of push: a ledger filled by the test, pushes to a sandbox, and a push in a process to kill.

That process is this module: `python -m sync_assets_tests.support.pushing <ledger URL> <owner> <lease seconds>
<guardrails as JSON>`, with the sandbox's environment.
"""

import asyncio
import hashlib
import json
import os
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from pydantic import SecretStr

from sync_assets.campaign.addressing import KEY, KEY_FOUND
from sync_assets.campaign.client import CampaignClient
from sync_assets.campaign.sign_in import ims_tokens
from sync_assets.config.environment import CampaignSettings
from sync_assets.config.models import Guardrails, TableConfig
from sync_assets.http.retry import PATIENCE
from sync_assets.http.transport import ssl_context
from sync_assets.ledger import Ledger
from sync_assets.ledger.feed import Position
from sync_assets.ledger.report_values import Counts, Reject
from sync_assets.push.claimed_records import ClaimedRecords
from sync_assets.push.dispatcher import push
from sync_assets.push.target import PushResult, Target
from sync_assets.runtime.call_limits import SharedLimits
from sync_assets.runtime.workers import WorkerSession
from sync_assets_tests.support.forked_commands import Module, start_module
from sync_assets_tests.support.ledgers import save_page, session_of
from sync_assets_tests.support.sandbox_process import SandboxProcess

PROFILE = Target(TableConfig(table="contact", resource="profile", key="externalId"))
Payload = dict[str, Any]

on_both_databases = pytest.mark.parametrize("ledger_url", ["sqlite", "postgresql"], indirect=True)


def calls(**of_kind: int) -> dict[str, int]:
    return of_kind


@asynccontextmanager
async def campaign_client(env: Mapping[str, str], **options: Any) -> AsyncIterator[CampaignClient]:
    context = ssl_context(Path(env["SYNC_ASSETS_CA_BUNDLE"]))
    secret = SecretStr(env["CAMPAIGN_CLIENT_SECRET"])
    url, ims, client_id = options.pop("url", env["CAMPAIGN_URL"]), env["CAMPAIGN_IMS_URL"], env["CAMPAIGN_CLIENT_ID"]
    access = CampaignSettings(url, ims, client_id, secret, env["CAMPAIGN_SCOPES"])
    patience, tokens = options.pop("patience", PATIENCE), ims_tokens(access, context)
    access = replace(access, client_id=options.pop("api_key", client_id))
    client = CampaignClient(access, tokens, context=context, **options)
    client.endpoint.patience = patience
    try:
        yield client
    finally:
        await client.aclose()


@asynccontextmanager
async def within(ledger: Ledger, guardrails: Guardrails) -> AsyncIterator[dict[str, Any]]:
    """Yield the options of a client that observes the limits of the guardrails."""
    session = WorkerSession(ledger)
    session.keep()
    limits = SharedLimits(lambda: session, guardrails)
    try:
        yield {"admission": limits.admitted, "slot": limits.slot, "connections": guardrails.concurrency}
    finally:
        await limits.close()
        session.end()


def new_ids(count: int) -> list[str]:
    return [str(uuid.uuid4()) for _ in range(count)]


def people(count: int, **more: Any) -> dict[str, Payload]:
    """Return payloads of this number of new profiles, by id."""
    return {
        id_: {"externalId": id_, "firstName": "Ada", "lastName": f"Byron{n}", "email": f"ada{n}@example.com", **more}
        for n, id_ in enumerate(new_ids(count))
    }


class Bench:
    """One ledger and one sandbox, and pushes between them."""

    def __init__(self, ledger_url: str, sandbox: SandboxProcess) -> None:
        self.ledger_url = ledger_url
        self.ledger = Ledger.open(ledger_url)
        self.sandbox, self.admin = sandbox, sandbox.admin
        self.ledger.dialect.note(PROFILE.config.resource, {KEY: PROFILE.config.key, KEY_FOUND: "yes"})
        self._versions: dict[str, int | None] = {}

    def capture(
        self,
        payloads: dict[str, Payload],
        *,
        deleted: tuple[str, ...] = (),
        updates: dict[str, Payload] | None = None,
        table: str = "contact",
    ) -> None:
        """Store rows in the ledger as a capture does. updates: payloads for updates, where they differ."""
        whole = {id_: json.dumps(payload, ensure_ascii=False) for id_, payload in payloads.items()}
        update = {id_: json.dumps(payload) for id_, payload in (updates or {}).items()}
        hashed = [update.get(id_, text).encode() for id_, text in whole.items()]
        rows = pl.DataFrame(
            {
                "id": list(whole),
                "payload": list(whole.values()),
                "update_payload": [update.get(id_) for id_ in whole],
                "hash": [hashlib.blake2b(text, digest_size=16).digest() for text in hashed],
                "validation_error": [None] * len(whole),
            },
            schema={
                "id": pl.String,
                "payload": pl.String,
                "update_payload": pl.String,
                "hash": pl.Binary,
                "validation_error": pl.String,
            },
        )
        position = Position("link", "fingerprint", end=True)
        result = save_page(self.ledger, table, rows, list(deleted), position, self._versions.get(table))
        self._versions[table] = result.feed.version
        self.ledger.deletions.carry_out_deletes(table)

    async def push(
        self,
        target: Target = PROFILE,
        *,
        client: Mapping[str, Any] | None = None,
        guardrails: Mapping[str, Any] | None = None,
        session_is_valid: Callable[[], bool] = lambda: True,
        **options: Any,
    ) -> PushResult:
        """Push the pending records.

        Args:
            target: Table and resource.
            client: Options of `campaign_client`.
            guardrails: Limits of the client.
            session_is_valid: As in ClaimedRecords.
            options: Of the push.
        """
        async with (
            within(self.ledger, Guardrails(**(guardrails or {}))) as limits,
            campaign_client(self.sandbox.env, **limits, **(client or {})) as opened,
        ):
            session = session_of(self.ledger, options.pop("owner", uuid.uuid4().hex))
            claims = ClaimedRecords(self.ledger, target, session, session_is_valid)
            return await push(claims, opened, **options)

    def counts(self, table: str = "contact") -> Counts:
        return self.ledger.reports.counts().get(table, Counts())

    def rejects(self) -> dict[str, Reject]:
        return {reject.id: reject for reject in self.ledger.reports.rejects()}

    def calls_today(self) -> dict[str, int]:
        return self.ledger.counts.numbers("engine_calls", datetime.now(UTC).date())

    def profiles(self, ids: Any) -> dict[str, list[Payload]]:
        """Return all profiles with these ids: a list for each id, so that duplicates show."""
        result: dict[str, list[Payload]] = {id_: [] for id_ in ids}
        for profile in self.admin.dump_campaign("profile"):
            if profile["externalId"] in result:
                result[profile["externalId"]].append(profile)
        return result

    def engine(self, since: int = 0) -> list[tuple[str, str | None]]:
        """Return (kind of engine call, key) of all engine calls, in order."""
        journal = self.admin.journal("campaign", since)
        return [(entry["engine"], entry["key"]) for entry in journal if entry["engine"]]

    def close(self) -> None:
        self.ledger.close()


def start_pushers(bench: Bench, owners: Iterable[str], **guardrails: Any) -> list[Module]:
    """Start pushes of the bench's ledger, each in a process of its own, at the same moment.

    All of them wait until the last one is ready, on a busy machine too.
    """
    processes = []
    for owner in owners:
        arguments = [bench.ledger_url, owner, json.dumps(guardrails)]
        processes.append(start_module(__name__, arguments, bench.sandbox.environment))
    for process in processes:
        assert process.stdout.readline() == b"ready\n"
    for process in processes:
        process.stdin.write(b"\n")
    return processes


async def _main(ledger_url: str, owner: str, guardrails: str) -> None:
    limits = Guardrails.model_validate_json(guardrails)
    with Ledger.open(ledger_url) as ledger:
        async with within(ledger, limits) as options, campaign_client(os.environ, **options) as client:
            many = limits.concurrency
            print("ready", flush=True)
            sys.stdin.readline()
            claims = ClaimedRecords(ledger, PROFILE, session_of(ledger, owner))
            result = await push(claims, client, concurrency=many)
    print(result.done, result.stopped)


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
