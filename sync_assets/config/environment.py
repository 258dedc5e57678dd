"""Read the environment variables as typed, frozen values: addresses, secrets, folders (docs/configuration.md).

All missing or invalid variables are reported at once, by name.

Invariant: no secret appears in a message or in a `repr`.
"""

from __future__ import annotations

import base64
import ipaddress
import os.path
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar
from urllib.parse import parse_qs, urlencode, urlsplit

from pydantic import SecretStr

import sync_assets
from sync_assets.config.app_credential import AppCredential, ClientCertificate, FederatedToken
from sync_assets.config.secret_files import FileSecret, SecretFileError
from sync_assets.errors import SyncAssetsError

T = TypeVar("T")
System = Literal["d365", "campaign", "sftp"]
LedgerConnection = Literal["file", "this host", "verified", "unverified"]

SANDBOX_CONFIG = Path(sync_assets.__file__).parent / "sandbox" / "sync_assets.yaml"
"""The default configuration file: that of the sandbox."""

KEY_BYTES = 32
"""Size of a key that encrypts the ledger's payloads: AES-256."""


class SettingsError(SyncAssetsError):
    """Variables are missing or invalid. problems: one line each."""

    def __init__(self, problems: Collection[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(problems))


@dataclass(frozen=True, slots=True)
class D365Settings:
    """Address and credentials of Dynamics 365. URLs have no trailing slash."""

    url: str
    authority: str
    tenant_id: str
    client_id: str
    credential: AppCredential


@dataclass(frozen=True, slots=True)
class CampaignSettings:
    """Address and credentials of Campaign. url: the part before `/campaign`. client_id: also the API key."""

    url: str
    ims_url: str
    client_id: str
    client_secret: SecretStr
    scopes: str


@dataclass(frozen=True, slots=True)
class SftpSettings:
    """Address and credentials of the Campaign SFTP.

    private_key: file of the key to sign in with. host_key: known_hosts file that the server must match. passphrase: of
    an encrypted key.
    """

    host: str
    port: int
    user: str
    private_key: Path
    host_key: Path
    passphrase: SecretStr | None = None


@dataclass(frozen=True, slots=True)
class AlertSettings:
    """Secrets of notifications; None if not set. The addresses are secrets, since they need no sign-in.

    heartbeat: where a monitoring service expects pings.
    """

    webhook: SecretStr | None
    smtp_user: str | None
    smtp_password: SecretStr | None
    ui_url: str
    heartbeat: SecretStr | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings. `d365()`, `campaign()`, `sftp()` and `alerts()` raise SettingsError if variables are missing."""

    config: Path
    config_named: bool  # False: `config` is the sandbox's, because SYNC_ASSETS_CONFIG is not set
    home: Path  # folder for local files of this installation
    autostart: bool
    ca_bundle: Path | None
    ledger_url: str = field(repr=False)  # a PostgreSQL URL holds a password
    ledger_keys: tuple[bytes, ...] = field(repr=False)  # 32 bytes each; the first one encrypts payloads
    _d365: D365Settings | SettingsError = field(repr=False)
    _campaign: CampaignSettings | SettingsError = field(repr=False)
    _sftp: SftpSettings | SettingsError = field(repr=False)
    _alerts: AlertSettings | SettingsError = field(repr=False)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Settings:
        """Read the variables. Raises SettingsError for invalid variables that belong to no system."""
        general = _Reader(environment)
        settings = cls(
            config=general.file("SYNC_ASSETS_CONFIG", SANDBOX_CONFIG, shown=True) or SANDBOX_CONFIG,
            config_named=bool(general.optional("SYNC_ASSETS_CONFIG")),
            home=general.home(),
            ledger_url=general.ledger_url(),
            ledger_keys=general.keys("SYNC_ASSETS_LEDGER_KEY_FILE"),
            autostart=general.flag("SYNC_ASSETS_AUTOSTART"),
            ca_bundle=general.file("SYNC_ASSETS_CA_BUNDLE", None, shown=True),
            _d365=_Reader(environment).complete(_d365),
            _campaign=_Reader(environment).complete(_campaign),
            _sftp=_Reader(environment).complete(_sftp),
            _alerts=_Reader(environment).complete(_alerts),
        )
        if general.problems:
            raise SettingsError(general.problems)
        return settings

    def configuration(self) -> Path:
        """Return the configuration file.

        Raises:
            SettingsError: none is named, and a system is not on this host. With the sandbox's configuration fields
                that the user never mapped would be overwritten there, and records deleted.
        """
        remote = [name for name, url in zip(("D365_URL", "CAMPAIGN_URL"), self.links(), strict=True) if _is_remote(url)]
        if remote and not self.config_named:
            verb = "is" if len(remote) == 1 else "are"
            raise SettingsError(
                [
                    f"SYNC_ASSETS_CONFIG is not set, and {' and '.join(remote)} {verb} on another host: the sandbox's "
                    "configuration is only for the sandbox. Set SYNC_ASSETS_CONFIG to your file, which "
                    "`sync-assets init` writes."
                ]
            )
        return self.config

    @property
    def ledger_connection(self) -> LedgerConnection:
        """How far the connection to the ledger is protected."""
        if self.ledger_in_sqlite:
            return "file"
        parts = urlsplit(self.ledger_url)
        query = parse_qs(parts.query)
        if _is_this_host(query.get("host", [parts.hostname or ""])[0]):
            return "this host"
        return "verified" if query.get("sslmode") == ["verify-full"] else "unverified"

    @property
    def ledger_in_sqlite(self) -> bool:
        """True if the ledger is an SQLite file, which has one writer at a time."""
        return self.ledger_url.startswith("sqlite:")

    def d365(self) -> D365Settings:
        return _or_raise(self._d365)

    def campaign(self) -> CampaignSettings:
        return _or_raise(self._campaign)

    def sftp(self) -> SftpSettings:
        return _or_raise(self._sftp)

    def require(self, *systems: System) -> None:
        """Raise one SettingsError with all missing and invalid variables of these systems."""
        known = {"d365": self._d365, "campaign": self._campaign, "sftp": self._sftp}
        errors = [known[system] for system in systems]
        problems = [one for error in errors if isinstance(error, SettingsError) for one in error.problems]
        if problems:
            raise SettingsError(problems)

    def links(self) -> tuple[str | None, str | None]:
        """Return the URLs of Dynamics 365 and Campaign, to be shown as links; None if not set."""
        d365, campaign = self._d365, self._campaign
        return (
            None if isinstance(d365, SettingsError) else d365.url,
            None if isinstance(campaign, SettingsError) else campaign.url,
        )

    def alerts(self) -> AlertSettings:
        return _or_raise(self._alerts)


def _or_raise(value: T | SettingsError) -> T:
    if isinstance(value, SettingsError):
        raise SettingsError(value.problems)
    return value


class _Reader:
    """Reads variables one by one and collects their problems. A blank value counts as missing."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self.problems: list[str] = []

    def complete(self, read: Callable[[_Reader], T]) -> T | SettingsError:
        value = read(self)
        return SettingsError(self.problems) if self.problems else value

    def optional(self, name: str, default: str = "") -> str:
        return self._environment.get(name, "").strip() or default

    def required(self, name: str) -> str:
        value = self.optional(name)
        if not value:
            self.problems.append(f"{name} is not set. Set it in the environment.")
        return value

    def secret(self, name: str) -> SecretStr:
        """Read a required secret from its variable, or from the file that `<name>_FILE` names."""
        return self.optional_secret(name) or SecretStr(self.required(name))

    def optional_secret(self, name: str) -> SecretStr | None:
        """Read a secret from its variable, or from the file that `<name>_FILE` names; None if neither is set."""
        value, path = self.optional(name), self.optional(f"{name}_FILE")
        if value and path:
            self.problems.append(f"{name} and {name}_FILE are both set. Leave out one of them.")
        if value or not path:
            return SecretStr(value) if value else None
        try:
            return FileSecret(f"{name}_FILE", Path(path).expanduser())
        except SecretFileError as error:
            self.problems.append(str(error))
            return SecretStr("unreadable")  # so that it does not also count as missing

    def url(self, name: str, default: str = "", *, wrong_end: str = "") -> str:
        """Read an https URL, or http on a loopback host, without credentials, query and trailing slash.

        wrong_end: a path that the URL must not have.
        """
        value = (self.optional(name, default) if default else self.required(name)).rstrip("/")
        if not value:
            return value
        try:
            parts = urlsplit(value)
            host, _ = parts.hostname or "", parts.port
        except ValueError:
            parts, host = urlsplit(""), ""
        if parts.scheme not in ("https", "http") or not host:
            self.problems.append(f"{name} is no URL. Write it with https:// and the host name.")
        elif parts.username or parts.password or parts.query or parts.fragment:
            self.problems.append(f"{name} holds more than an address. Leave out user, password, ? and #.")
        elif parts.scheme == "http" and not is_loopback(host):
            self.problems.append(f"{name} uses plain http, which would show secrets to the network. Write https://.")
        elif wrong_end and wrong_end in f"{parts.path}/":
            self.problems.append(f"{name} is too long. Leave out {wrong_end.rstrip('/')} and what follows.")
        return value

    def secret_url(self, name: str) -> SecretStr | None:
        """Read an https URL (http on a loopback host) that is secret as a whole; it may have a query."""
        problems = len(self.problems)
        secret = self.optional_secret(name)
        if secret is None or len(self.problems) > problems:
            return None
        try:
            parts = urlsplit(secret.get_secret_value())
            host, _ = parts.hostname or "", parts.port
        except ValueError:
            parts, host = urlsplit(""), ""
        safe = parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host))
        if not (host and safe):
            self.problems.append(f"{name} is no URL to be used. Write it with https:// and the host name.")
        return secret

    def file(self, name: str, default: Path | None, *, shown: bool = False) -> Path | None:
        """Read the path of an existing file.

        shown: True if a message may show the path. False for a key file: the variable may hold the key by mistake.
        """
        value = self.optional(name)
        if not value:
            return default
        path = Path(value).expanduser()
        which = f" ({path})" if shown else ""
        if os.path.isdir(path):
            self.problems.append(f"{name} names a folder{which}. Write the path of a file.")
        elif not os.path.isfile(path):  # Path.is_file raises an error with the value, which may be a key, if it is long
            self.problems.append(f"{name} names a file that is not there{which}. Correct the path.")
        return path

    def required_file(self, name: str) -> Path:
        self.required(name)
        return self.file(name, None) or Path()

    def port(self, name: str, default: int) -> int:
        value = self.optional(name, str(default))
        if not value.isascii() or not value.isdigit() or not 0 < int(value) < 65536:
            self.problems.append(f"{name} is no port. Write a number from 1 to 65535.")
            return default
        return int(value)

    def flag(self, name: str) -> bool:
        value = self.optional(name, "0").lower()
        if value not in ("0", "1", "true", "false"):
            self.problems.append(f"{name} is neither on nor off. Write 1 or 0.")
        return value in ("1", "true")

    def home(self) -> Path:
        return Path(self.optional("DAGSTER_HOME", ".dagster")).expanduser().absolute()

    def keys(self, name: str) -> tuple[bytes, ...]:
        """Read a file of keys: 32 bytes each, in base64, one on a line; `#` begins a comment."""
        path = self.file(name, None)
        if path is None or not path.is_file():
            return ()
        try:
            lines = [line.partition("#")[0].strip() for line in path.read_text("ascii").splitlines()]
            keys = tuple(base64.b64decode(line, validate=True) for line in lines if line)
        except (OSError, ValueError):
            keys = ()
        if not keys or any(len(key) != KEY_BYTES for key in keys):
            self.problems.append(
                f"{name} names a file without usable keys. Each line must be {KEY_BYTES} bytes in base64, as "
                f"`openssl rand -base64 {KEY_BYTES}` prints them."
            )
            return ()
        return keys

    def ledger_url(self) -> str:
        problems = len(self.problems)
        secret = self.optional_secret("SYNC_ASSETS_LEDGER_URL")
        if secret is None or len(self.problems) > problems:
            return f"sqlite:///{self.home() / 'ledger.db'}"
        value = secret.get_secret_value()
        if not value.startswith(("sqlite:///", "postgresql+psycopg://")):
            self.problems.append(
                "SYNC_ASSETS_LEDGER_URL is no ledger. Write sqlite:///<path> or postgresql+psycopg://<user>@<host>/<name>."
            )
            return value
        return value if value.startswith("sqlite:") else self._verified(value)

    def _verified(self, url: str) -> str:
        """Return a PostgreSQL URL that verifies the server's certificate and name, unless it says otherwise itself.

        Without `sslmode`, and even with `require`, libpq sends the password to a server with any certificate
        (https://www.postgresql.org/docs/current/libpq-ssl.html). Servers on this host are left as they are.
        """
        try:
            parts = urlsplit(url)
            host, query = parts.hostname or "", parse_qs(parts.query)
        except ValueError:
            return url  # the ledger says why
        if _is_this_host(query.get("host", [host])[0]) or "sslmode" in query:
            return url
        if mode := self.optional("PGSSLMODE"):
            more = {"sslmode": mode}
        else:
            more = {"sslmode": "verify-full"}
            if "sslrootcert" not in query and not self.optional("PGSSLROOTCERT"):
                more["sslrootcert"] = self.optional("SYNC_ASSETS_CA_BUNDLE", "system")
        return f"{url}{'&' if parts.query else '?'}{urlencode(more)}"


def is_loopback(host: str) -> bool:
    """Return True if a host name or address is this machine's."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _is_this_host(database_host: str) -> bool:
    """Return True if a PostgreSQL server is reached by a local socket or a loopback address."""
    return not database_host or database_host.startswith(("/", "@")) or is_loopback(database_host)


def _is_remote(url: str | None) -> bool:
    return bool(url) and not is_loopback(urlsplit(url).hostname or "")


def _d365(read: _Reader) -> D365Settings:
    return D365Settings(
        url=read.url("D365_URL", wrong_end="/api/data/"),
        authority=read.url("D365_AUTHORITY", "https://login.microsoftonline.com"),
        tenant_id=read.required("D365_TENANT_ID"),
        client_id=read.required("D365_CLIENT_ID"),
        credential=_app_credential(read),
    )


def _app_credential(read: _Reader) -> AppCredential:
    """Read the one credential that is set, of the three kinds."""
    names = ("D365_CLIENT_SECRET", "D365_CLIENT_CERTIFICATE", "D365_FEDERATED_TOKEN_FILE")
    secret, certificate, token = names
    given = [name for name in names if read.optional(name) or (name == secret and read.optional(f"{name}_FILE"))]
    if not given:
        read.problems.append(
            f"{secret} is not set, nor is {certificate} or {token}. Set one of the three in the environment."
        )
    elif len(given) > 1:
        read.problems.append(f"{' and '.join(given)} are set, but only one of them is used. Leave out the others.")
    elif given == [certificate]:
        return ClientCertificate(read.required_file(certificate), read.optional_secret(f"{certificate}_PASSWORD"))
    elif given == [token]:
        return FederatedToken(read.required_file(token))
    else:
        return read.secret(secret)
    return SecretStr("")  # never used: the noted problem is raised first


def _campaign(read: _Reader) -> CampaignSettings:
    return CampaignSettings(
        url=read.url("CAMPAIGN_URL", wrong_end="/campaign/"),
        ims_url=read.url("CAMPAIGN_IMS_URL", "https://ims-na1.adobelogin.com"),
        client_id=read.required("CAMPAIGN_CLIENT_ID"),
        client_secret=read.secret("CAMPAIGN_CLIENT_SECRET"),
        scopes=read.required("CAMPAIGN_SCOPES"),
    )


def _sftp(read: _Reader) -> SftpSettings:
    return SftpSettings(
        host=read.required("CAMPAIGN_SFTP_HOST"),
        port=read.port("CAMPAIGN_SFTP_PORT", 22),
        user=read.required("CAMPAIGN_SFTP_USER"),
        private_key=read.required_file("CAMPAIGN_SFTP_PRIVATE_KEY"),
        host_key=read.required_file("CAMPAIGN_SFTP_HOST_KEY"),
        passphrase=read.optional_secret("CAMPAIGN_SFTP_PRIVATE_KEY_PASSPHRASE"),
    )


def _alerts(read: _Reader) -> AlertSettings:
    user, password = read.optional("SYNC_ASSETS_SMTP_USER"), read.optional_secret("SYNC_ASSETS_SMTP_PASSWORD")
    if bool(user) != bool(password):
        read.problems.append(
            "Of SYNC_ASSETS_SMTP_USER and SYNC_ASSETS_SMTP_PASSWORD one is not set. Set both, or neither if the mail "
            "server asks for none."
        )
    ui_url = read.optional("SYNC_ASSETS_UI_URL").rstrip("/")  # shown in notifications, never requested: http is allowed
    if ui_url and not ui_url.startswith(("https://", "http://")):
        read.problems.append("SYNC_ASSETS_UI_URL is no URL. Write it with https:// and the host name.")
    return AlertSettings(
        webhook=read.secret_url("SYNC_ASSETS_ALERT_WEBHOOK"),
        smtp_user=user or None,
        smtp_password=password,
        ui_url=ui_url,
        heartbeat=read.secret_url("SYNC_ASSETS_HEARTBEAT_URL"),
    )
