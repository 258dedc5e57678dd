"""`doctor`: the set-up that depends on no table: environment, privacy, Campaign's API, the SFTP, the ledger."""

from __future__ import annotations

from urllib.parse import urlsplit

from sync_assets.audit.certification.report import stored_report, unfinished
from sync_assets.campaign.client import CampaignClient, NotPublished
from sync_assets.commands.certify import STAGE, tenant_of
from sync_assets.commands.doctor.line import Line, failed
from sync_assets.commands.log_export import NAME
from sync_assets.config.environment import System
from sync_assets.config.models import Config
from sync_assets.config.values import PROFILE
from sync_assets.config.variables import SettingsError
from sync_assets.errors import EndsAllTables, SyncAssetsError
from sync_assets.ledger.times import iso
from sync_assets.plurals import counted
from sync_assets.runtime.context import Runtime

EXTENSION = "profileAndServicesExt"
_CERTIFICATION = "certification"
_ENCRYPT = "set SYNC_ASSETS_LEDGER_KEY_FILE, see docs/privacy.md"
RSA_BITS = 2048
"""The key length that the Campaign Control Panel requires (docs/dev/references/campaign.md 8)."""

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


def setup_lines(d365_url: str | None) -> list[Line]:
    """Return the lines that follow from the configuration and the environment."""
    privacy = (
        "acknowledged in the configuration: requests of people to see or to delete their data are yours to carry out, "
        "in both systems; `sync-assets hold` keeps a person out meanwhile"
    )  # another configuration is refused at load
    return [Line("ok", "privacy", privacy), *_region(d365_url)]


def _region(url: str | None) -> list[Line]:
    host = (urlsplit(url or "").hostname or "").split(".")
    region = next((REGIONS[part] for part in host[1:] if part in REGIONS), None) if "dynamics" in host else None
    if region is None:
        return []
    notice = (
        f"Dynamics 365 stands in {region}. Data is processed where this program runs and lies in its ledger and files, "
        "nowhere else: run it where your rules for personal data allow"
    )
    return [Line("ok", "region", notice)]


def environment_lines(runtime: Runtime) -> list[Line]:
    """Check the variables that this configuration needs."""
    needed: list[System] = ["d365", "campaign"]
    if runtime.config.opt_out.direction in ("campaign_to_d365", "bidirectional") or runtime.config.logs.export:
        needed.append("sftp")
    return variable_lines(runtime, needed) or [Line("ok", "environment", "all variables are set")]


def variable_lines(runtime: Runtime, needed: list[System]) -> list[Line]:
    """Return a line for each variable that a system lacks. Raises SettingsError for an invalid one of neither."""
    settings = runtime.settings
    try:
        settings.require(*needed)
    except SettingsError as error:
        return failed("environment", error)
    return []


async def campaign_lines(config: Config, campaign: CampaignClient) -> list[Line]:
    """Sign in, and check that the API of profiles is published (docs/dev/references/campaign.md 1). No engine call."""
    what = "Campaign"
    try:
        await campaign.endpoint.sign_in()
    except SyncAssetsError as error:
        return failed(what, error)
    lines = [Line("ok", what, "signed in")]
    if all(table.api != EXTENSION for table in config.tables):
        return lines
    what = f"{what}: Profiles & Services Extension API"
    try:
        await campaign.resource(EXTENSION, PROFILE)
    except NotPublished:
        remedy = 'publish once in Campaign with "Create the Profiles & Services Ext API" ticked'
        return [*lines, Line("fail", what, f"Campaign does not serve /{EXTENSION}: {remedy}")]
    except EndsAllTables as error:
        return failed("Campaign", error)
    except SyncAssetsError as error:
        return [*lines, *failed(what, error)]
    return [*lines, Line("ok", what, "published")]


def sftp_lines(runtime: Runtime) -> list[Line]:
    """Check the Campaign SFTP for everything that uses it. Blocks; writes nothing."""
    exports, logs = runtime.config.opt_out.active, runtime.config.logs.export
    if not (exports or logs):
        return []
    from sync_assets.commands.doctor.opt_outs import export_lines  # paramiko  # noqa: PLC0415

    try:
        lines = [_key(runtime)]
    except SyncAssetsError as error:
        return failed("Campaign SFTP", error)
    if exports:
        lines += export_lines(runtime)
    if logs:
        lines += log_lines(runtime)
    return lines


def _key(runtime: Runtime) -> Line:
    """Return the line on our private key. Raises SignInRefused if there is no usable key."""
    from sync_assets.sftp.private_key import private_key  # noqa: PLC0415

    what, key = "Campaign SFTP: private key", private_key(runtime.settings.sftp())
    message = f"{key.get_name()}, {key.get_bits()} bits"
    if key.get_name() == "ssh-rsa" and key.get_bits() >= RSA_BITS:
        return Line("ok", what, message)
    return Line(
        "warn", what, f"{message}: the Campaign Control Panel takes RSA keys of {RSA_BITS} bits. Make one with "
        f"`ssh-keygen -t rsa -b {RSA_BITS}`, and add its public half there, should this one be refused"
    )  # fmt: skip


def log_lines(runtime: Runtime) -> list[Line]:
    """Return `doctor`'s lines about the export: whether the SFTP accepts our sign-in. Writes nothing."""
    from sync_assets.sftp import NoSuchFolder, connect  # noqa: PLC0415

    logs, what = runtime.config.logs, "logs: Campaign SFTP"
    try:
        with connect(runtime.settings.sftp()) as sftp:
            try:
                files = sum(bool(NAME.fullmatch(file.name)) for file in sftp.listing(logs.folder, "*").files)
            except NoSuchFolder:
                return [Line("ok", what, f"signed in; {logs.folder} is made with the first file")]
    except SyncAssetsError as error:
        return failed(what, error)
    return [Line("ok", what, f"signed in, {counted(files, 'file')} in {logs.folder}")]


# --- Ledger and certification -----------------------------------------------------------------------------------------


def ledger_lines(runtime: Runtime) -> list[Line]:
    """Return the lines on encryption and, of a PostgreSQL server on another host, on the connection."""
    return [_payloads(runtime), *_connection(runtime)]


def _payloads(runtime: Runtime) -> Line:
    if name := runtime.cipher.name:
        return Line("ok", "payloads", f"encrypted with the key {name} until Campaign acknowledges them")
    if runtime.settings.ledger_in_sqlite:
        return Line(
            "ok", "payloads", f"not encrypted, erased from the file once acknowledged; to encrypt them, {_ENCRYPT}"
        )
    kept = "not encrypted: PostgreSQL keeps erased payloads in old pages, its write-ahead log and backups"
    return Line("warn", "payloads", f"{kept}; {_ENCRYPT}")


def _connection(runtime: Runtime) -> list[Line]:
    match runtime.settings.ledger_connection:
        case "verified":
            return [Line("ok", "connection to the ledger", "the server's certificate and name are verified")]
        case "unverified":
            told = "the server's certificate is not verified, so another server could get the password: "
            return [
                Line(
                    "warn",
                    "connection to the ledger",
                    told + "write sslmode=verify-full into the URL, unless the network is this host's own",
                )
            ]
        case _:
            return []


def certification_lines(runtime: Runtime) -> list[Line]:
    """Return a line for the last certification of these systems, and one for each premise that is not workable."""
    report = stored_report(runtime.ledger, runtime.config)
    lines: list[Line] = []
    if message := unfinished(report, runtime.config):
        lines.append(Line("warn", f"{_CERTIFICATION} under way", message))
    if report.at:
        by = f" by version {report.version}" if report.version else ""
        found = "" if report.not_workable else ", all workable"
        lines.append(Line("ok", _CERTIFICATION, f"the last one ended {iso(report.at)}{by}{found}"))
    elif tenant_of(runtime.settings.links()[1] or "").endswith(STAGE):
        message = "never. `sync-assets certify` finds out how both systems behave, with synthetic records"
        lines.append(Line("warn", _CERTIFICATION, message))
    else:
        lines.append(Line("ok", _CERTIFICATION, f"never: `sync-assets certify` is for a stage tenant (…{STAGE})"))
    way = "`sync-assets certify` tries it again, and names what to change"
    return [
        *lines,
        *(
            Line("warn", f"{_CERTIFICATION} of {wrong.about or wrong.system}: {wrong.premise}", f"{wrong.found}. {way}")
            for wrong in report.not_workable
        ),
    ]
