"""Findings about the installation for `doctor`: region, environment, ledger, Campaign's API, our SFTP key."""

import shlex
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from sync_assets.campaign.client import SILENCE, CampaignClient, NotPublished
from sync_assets.checks.guardrails import PRIVACY_ORDER
from sync_assets.checks.rules import Finding, fail, ok, warn
from sync_assets.config.environment import INSTANCE, Settings, System
from sync_assets.config.found_files import others_can_read
from sync_assets.config.models import Config
from sync_assets.config.values import PROFILE
from sync_assets.config.variables import SettingsError
from sync_assets.dataverse.client import DataverseClient
from sync_assets.errors import EndsAllTables, SyncAssetsError
from sync_assets.ledger import Ledger
from sync_assets.runtime.configuration import Configuration
from sync_assets.runtime.context import Runtime
from sync_assets.runtime.systems import OtherSystems, check_organisation
from sync_assets.runtime.workers import REMEDY, killed_runs
from sync_assets.words import counted

EXTENSION = "profileAndServicesExt"
RSA_BITS = 2048
"""The key length that the Campaign Control Panel requires (docs/dev/references/campaign.md 8)."""
FEWEST_SLOTS = 3
"""Of the queue of runs: with fewer, the follower and a first load leave none to other runs."""
SHORTEST_HORIZON_MINUTES = 3 * SILENCE / 60
"""No answer that arrives has taken more than SILENCE seconds, so none that is measured calls for a longer horizon."""

_EMEA, _APAC = "Europe, the Middle East and Africa", "Asia Pacific"
REGIONS = {
    "crm4": _EMEA,
    "crm11": "the United Kingdom",
    "crm12": "France",
    "crm14": "South Africa",
    "crm15": "the United Arab Emirates",
    "crm16": "Germany",
    "crm17": "Switzerland",
    "crm19": "Norway",
    "crm5": _APAC,
    "crm6": "Australia",
    "crm7": "Japan",
    "crm8": "India",
    "crm20": "Singapore",
    "crm21": "Korea",
}
"""Regions of organisations in EMEA and APAC, by the second part of the host (Microsoft, "Datacenter regions")."""


def configuration(own: Configuration) -> list[Finding]:
    """Return the findings that follow from the configuration and the environment alone."""
    config, settings = own.config, own.settings
    tables = ", ".join(f"{table.table} -> {table.resource}" for table in config.tables)
    privacy = (
        "acknowledged in the configuration: requests of people to see or to delete their data are your task, "
        "in both systems; `sync-assets hold` excludes a person meanwhile"
    )  # another configuration is refused at load
    findings = [ok("configuration", f"{settings.config} maps {tables}"), ok("privacy", privacy)]
    findings += region(settings.links()[0])
    needed: list[System] = ["d365", "campaign"]
    if config.opt_out.direction in ("campaign_to_d365", "bidirectional") or config.logs.export:
        needed.append("sftp")
    return [*findings, *(variables(settings, needed) or [ok("environment", "all variables are set")])]


def region(d365_url: str | None) -> list[Finding]:
    """Return a notice on where data is processed, for an organisation in EMEA or APAC."""
    host = (urlsplit(d365_url or "").hostname or "").split(".")
    area = next((REGIONS[part] for part in host[1:] if part in REGIONS), None) if "dynamics" in host else None
    if area is None:
        return []
    notice = (
        f"Dynamics 365 is hosted in {area}. Data is processed where this program runs, and stored in its ledger "
        "and files, nowhere else: run it where your rules for personal data allow"
    )
    return [ok("region", notice)]


def variables(settings: Settings, needed: list[System]) -> list[Finding]:
    """Return a finding for each variable that a system lacks. Raises SettingsError for an invalid one of neither."""
    try:
        settings.require(*needed)
    except SettingsError as error:
        return fail("environment", error)
    return []


def readable_secrets(settings: Settings) -> Finding:
    """Return the finding on secrets, private keys and a ledger in a file that other users of this host can read."""
    ledger = [Path(settings.ledger_url.removeprefix("sqlite:///"))] if settings.ledger_in_sqlite else []
    open_to_others = [str(file) for file in (*settings.secret_files, *ledger) if others_can_read(file)]
    if not open_to_others:
        return ok("files with secrets", "no other user can read them")
    text = f"other users can read {', '.join(open_to_others)}: `chmod go-rwx {shlex.join(open_to_others)}`"
    return warn("files with secrets", text)


def whole_configuration(config: Config) -> list[Finding]:
    """Return the findings beside the limits that are the same for every table."""
    mapped = f"tables: {len(config.tables)}, each to a resource of its own"
    findings = [ok("one table to one resource", mapped)]  # another configuration is refused at load
    if deleting := ", ".join(table.table for table in config.tables if table.apply_deletes):
        findings.append(warn(f"{deleting}: the order of a privacy delete", PRIVACY_ORDER))
    if (minutes := config.guardrails.horizon_minutes) < SHORTEST_HORIZON_MINUTES:
        text = (
            f"guardrails.horizon_minutes is {minutes:g}; Campaign has {SILENCE:.0f} s for an answer, and "
            f"a request may take effect later. Set at least {SHORTEST_HORIZON_MINUTES:g}; the default is 15"
        )
        findings.append(warn("horizon of requests without an answer", text))
    return findings


def dagster_instance(instance: Path) -> list[Finding]:
    """Return the findings on the configuration of a Dagster instance, by its folder. The program may share it."""
    file = instance / INSTANCE
    try:
        settings = yaml.safe_load(file.read_bytes())
    except FileNotFoundError:
        if not (instance / "schedules").exists():  # of Dagster's storage
            return [ok("Dagster instance", f"there is none yet; `sync-assets dev` and `sync` write {file}")]
        settings = None
    except (OSError, yaml.YAMLError) as error:
        return [warn("Dagster instance", f"{file} cannot be read ({type(error).__name__}). Correct it")]
    return [_sensor_threads(file, settings), _kept_ticks(file, settings), _run_slots(file, settings)]


def _set(settings: Any, key: str) -> Any:
    """Return the value of a key of `dagster.yaml`, such as `sensors.use_threads`; None if it is not set."""
    for name in key.split("."):
        settings = settings.get(name) if isinstance(settings, dict) else None
    return settings


def _sensor_threads(file: Path, settings: Any) -> Finding:
    """`d365_changes` waits in its tick for changes; in one thread the sensors of all projects would wait with it."""
    title = "sensors of the Dagster instance"
    if _set(settings, "sensors.use_threads"):
        return ok(title, "they run in threads")
    text = f"each waits for the ticks of all others, those of other projects too, since {file} sets no threads. Write "
    return warn(title, f"{text}`sensors: {{use_threads: true, num_workers: 4}}` into it, and start the daemon again")


def _kept_ticks(file: Path, settings: Any) -> Finding:
    """Dagster keeps the ticks of sensors that started something for ever, unless `retention` says otherwise."""
    title, key = "ticks in the Dagster instance", "retention.sensor.purge_after_days"
    days: Any = _set(settings, key)
    kept = (days.get("skipped", 7), days.get("success", -1)) if isinstance(days, dict) else (days,)  # Dagster's own
    if all(isinstance(one, int) and one > 0 for one in kept):
        return ok(title, "old ones are deleted")
    text = f"sensors write one every few seconds, and {file} lets Dagster keep them. Write "
    lines = "retention: {sensor: {purge_after_days: {skipped: 1, success: 7, failure: 30}}}"
    return warn(title, f"{text}`{lines}` into it, and start the daemon again")


def _run_slots(file: Path, settings: Any) -> Finding:
    """Dagster refuses a second one of the keys that set the limit, so the one that is set is named."""
    title = "slots of the run queue"
    keys = [f"{part}.max_concurrent_runs" for part in ("concurrency.runs", "run_queue", "run_coordinator.config")]
    slots, key = next(((value, key) for key in keys if isinstance(value := _set(settings, key), int)), (10, keys[0]))
    if slots < 0 or slots >= FEWEST_SLOTS:
        return ok(title, "no limit" if slots < 0 else f"{slots} runs at a time")
    text = (
        f"{file} lets {counted(slots, 'run')} execute at a time, and the follower stays. Set `{key}` to {FEWEST_SLOTS}"
    )
    return warn(title, f"{text} or more: one for the follower, one for a first load, one for others")


# --- Ledger -----------------------------------------------------------------------------------------------------------


def ledger(runtime: Runtime) -> list[Finding]:
    """Return the findings on the ledger; the first one fails if it cannot be used."""
    try:
        runtime.access.check_not_older()
        records = sum(counts.records for counts in runtime.ledger.reports.counts().values())
    except SyncAssetsError as error:
        return fail("ledger", error)
    if runtime.access.missing:
        return [ok("ledger", runtime.access.missing.rstrip("."))]
    return [ok("ledger", f"open, {counted(records, 'record')} known"), *ledger_security(runtime)]


def ledger_security(own: Configuration) -> list[Finding]:
    """Return the findings on encryption and, of a PostgreSQL server on another host, on the connection."""
    title, encrypt = "payloads", "set SYNC_ASSETS_LEDGER_KEY_FILE, see docs/privacy.md"
    if name := own.cipher.name:
        findings = [ok(title, f"encrypted with the key {name} until Campaign acknowledges them")]
    elif own.settings.ledger_in_sqlite:
        findings = [ok(title, f"not encrypted, erased from the file once acknowledged; to encrypt them, {encrypt}")]
    else:
        unencrypted = "not encrypted: PostgreSQL keeps erased payloads in old pages, its write-ahead log and backups"
        findings = [warn(title, f"{unencrypted}; {encrypt}")]
    title = "connection to the ledger"
    connection = own.settings.ledger_connection
    if connection == "verified":
        findings.append(ok(title, "the server's certificate and name are verified"))
    elif connection == "unverified":
        text = "the server's certificate is not verified, so another server could get the password: "
        text += "write sslmode=verify-full into the URL, unless the network is this host's own"
        findings.append(warn(title, text))
    return findings


def runs(ledger: Ledger) -> Finding:
    """Return the finding that warns if a run counts as started although its process was killed."""
    if killed := killed_runs(ledger):
        return warn("runs", f"{' '.join(map(str, killed))} {REMEDY}")
    return ok("runs", "no run was killed")


async def organisation(ledger: Ledger, d365: DataverseClient) -> list[Finding]:
    """Check that the organisation is the ledger's. A ledger without one takes it over with the first sync."""
    title, known = "systems of the ledger", ledger.systems.stored().get("d365")
    if not known:
        return [ok(title, "none yet: the first sync stores the addresses of both systems")]
    try:
        check_organisation(ledger, d365.url, await d365.organization_id())
    except OtherSystems as error:
        return fail(title, error)
    return [ok(title, f"those of the environment, since {known.noted_at:%Y-%m-%d}")]


# --- Campaign ---------------------------------------------------------------------------------------------------------


async def campaign_api(config: Config, campaign: CampaignClient) -> list[Finding]:
    """Sign in, and check that the API of profiles is published (docs/dev/references/campaign.md 1). No engine call."""
    try:
        await campaign.endpoint.sign_in()
    except SyncAssetsError as error:
        return fail("Campaign", error)
    signed_in = ok("Campaign", "signed in")
    if all(table.api != EXTENSION for table in config.tables):
        return [signed_in]
    title = "Campaign: Profiles & Services Extension API"
    try:
        await campaign.resource(EXTENSION, PROFILE)
    except NotPublished:
        remedy = 'publish once in Campaign with "Create the Profiles & Services Ext API" ticked'
        return [signed_in, *fail(title, f"Campaign does not serve /{EXTENSION}: {remedy}")]
    except EndsAllTables as error:
        return fail("Campaign", error)
    except SyncAssetsError as error:
        return [signed_in, *fail(title, error)]
    return [signed_in, ok(title, "published")]


def sftp_key(settings: Settings) -> Finding:
    """Return the finding on our private key. Raises SignInRefused if there is no usable key."""
    from sync_assets.sftp.private_key import private_key  # paramiko  # noqa: PLC0415

    title, key = "Campaign SFTP: private key", private_key(settings.sftp())
    text = f"{key.get_name()}, {key.get_bits()} bits"
    if key.get_name() == "ssh-rsa" and key.get_bits() >= RSA_BITS:
        return ok(title, text)
    text += (
        f": the Campaign Control Panel takes RSA keys of {RSA_BITS} bits. Make one with "
        f"`ssh-keygen -t rsa -b {RSA_BITS}`, and add its public half there, should this one be refused"
    )
    return warn(title, text)
