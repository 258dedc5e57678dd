"""Read the environment variables as typed, frozen values: addresses, secrets, folders (docs/environment.md).

All missing or invalid variables are reported at once, by name.

Invariant: no secret appears in a message or in a `repr`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Self, TypeVar
from urllib.parse import urlsplit

from pydantic import SecretStr

from sync_assets.config.files import CONFIG, DEFAULT_NAME, SANDBOX_CONFIG
from sync_assets.config.installation import Installation
from sync_assets.config.variables import LedgerConnection, SettingsError, VariableReader, is_loopback, unknown_variables

T = TypeVar("T")
INSTANCE = "dagster.yaml"
"""Name of the configuration of a Dagster instance."""
System = Literal["d365", "campaign", "sftp"]


@dataclass(frozen=True, slots=True)
class ClientCertificate:
    """A certificate with its private key, in a PEM or PFX file. password: of the key or the PFX; None if not set."""

    file: Path
    password: SecretStr | None = None


@dataclass(frozen=True, slots=True)
class FederatedToken:
    """A file with a token of another identity provider that the app registration trusts; the platform renews it."""

    file: Path


AppCredential = SecretStr | ClientCertificate | FederatedToken
"""What D365_CLIENT_SECRET, D365_CLIENT_CERTIFICATE or D365_FEDERATED_TOKEN_FILE names."""


def variable_of(credential: AppCredential) -> str:
    """Return the environment variable that names this credential."""
    if isinstance(credential, ClientCertificate):
        return "D365_CLIENT_CERTIFICATE"
    return "D365_FEDERATED_TOKEN_FILE" if isinstance(credential, FederatedToken) else "D365_CLIENT_SECRET"


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


class NoConfiguration(SettingsError):
    """No configuration file is named, and none is in the current folder or above it."""

    def __init__(self) -> None:
        super().__init__(
            [
                f"There is no configuration: neither `--config` nor {CONFIG} names one, and neither {Path.cwd()} nor a "
                f"folder above it has a {DEFAULT_NAME}.",
                "`sync-assets init` writes one for your systems; `sync-assets demo` shows the program without one.",
            ]
        )


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings. `d365()`, `campaign()`, `sftp()` and `alerts()` raise SettingsError if variables are missing."""

    config: Path
    config_named: bool  # False: there is none; `config` is the one that `init` would write
    of_sandbox: bool  # `config` is the sandbox's, a file of the package: its local files are in the current folder
    home: Path  # folder for local files of this installation
    instance: Path  # folder of Dagster's own: `home`, or without DAGSTER_HOME the current folder with a dagster.yaml
    autostart: bool
    ca_bundle: Path | None
    ledger_url: str = field(repr=False)  # a PostgreSQL URL holds a password
    ledger_keys: tuple[bytes, ...] = field(repr=False)  # 32 bytes each; the first one encrypts payloads
    secret_files: tuple[Path, ...]  # that hold secrets or private keys, as far as variables name them, and `.env`
    ledger_connection: LedgerConnection  # how far it is protected
    _d365: D365Settings | SettingsError = field(repr=False)
    _campaign: CampaignSettings | SettingsError = field(repr=False)
    _sftp: SftpSettings | SettingsError = field(repr=False)
    _alerts: AlertSettings | SettingsError = field(repr=False)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str], installation: Installation | None = None) -> Self:
        """Read the variables. Raises SettingsError for invalid variables that belong to no system.

        installation: its name is that of the default file of the ledger, too; errors name variables with its prefix.
        """
        name, prefix = (installation.name, installation.variables) if installation else ("", "")
        general = VariableReader(environment)
        general.problems += unknown_variables(environment)
        config = general.file(CONFIG, shown=True) or Path(DEFAULT_NAME).absolute()
        of_sandbox = config.absolute() == SANDBOX_CONFIG
        home = general.home(Path() if of_sandbox else config.parent)
        ledger_url = general.ledger_url(home / (f"ledger_{name}.db" if name else "ledger.db"))
        settings = cls(
            config=config,
            config_named=bool(general.optional(CONFIG)),
            of_sandbox=of_sandbox,
            home=home,
            instance=Path.cwd() if Path(INSTANCE).is_file() and not general.optional("DAGSTER_HOME") else home,
            ledger_url=ledger_url,
            ledger_keys=general.keys("SYNC_ASSETS_LEDGER_KEY_FILE"),
            secret_files=(config.with_name(".env"), *general.secret_files()),
            autostart=general.flag("SYNC_ASSETS_AUTOSTART"),
            ca_bundle=general.file("SYNC_ASSETS_CA_BUNDLE", shown=True),
            ledger_connection=general.ledger_connection(ledger_url),
            _d365=VariableReader(environment, prefix).complete(_d365),
            _campaign=VariableReader(environment, prefix).complete(_campaign),
            _sftp=VariableReader(environment, prefix).complete(_sftp),
            _alerts=VariableReader(environment, prefix).complete(_alerts),
        )
        if general.problems:
            raise SettingsError(general.problems, prefix)
        return settings

    @property
    def beside(self) -> Path:
        """The configuration, beside which files are kept; for the sandbox's, which is in the package, one in `home`."""
        return self.home / self.config.name if self.of_sandbox else self.config.absolute()

    def configuration(self) -> Path:
        """Return the configuration file.

        Raises:
            SettingsError: there is none, or it is the sandbox's and a system is not on this host. With the sandbox's
                configuration fields that the user never mapped would be overwritten there, and records deleted.
        """
        if not self.config_named:
            raise NoConfiguration
        urls = zip(("D365_URL", "CAMPAIGN_URL"), self.links(), strict=True)
        remote = [name for name, url in urls if url and not is_loopback(urlsplit(url).hostname or "")]
        if remote and self.of_sandbox:
            verb = "is" if len(remote) == 1 else "are"
            raise SettingsError(
                [
                    f"SYNC_ASSETS_CONFIG names the sandbox's configuration, which is only for the sandbox, and "
                    f"{' and '.join(remote)} {verb} on another host. Name your file, which `sync-assets init` writes."
                ]
            )
        return self.config

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
        problems = [problem for error in errors if isinstance(error, SettingsError) for problem in error.problems]
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


def _d365(read: VariableReader) -> D365Settings:
    return D365Settings(
        url=read.url("D365_URL", wrong_end="/api/data/"),
        authority=read.url("D365_AUTHORITY", "https://login.microsoftonline.com"),
        tenant_id=read.required("D365_TENANT_ID"),
        client_id=read.required("D365_CLIENT_ID"),
        credential=_app_credential(read),
    )


def _app_credential(read: VariableReader) -> AppCredential:
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


def _campaign(read: VariableReader) -> CampaignSettings:
    return CampaignSettings(
        url=read.url("CAMPAIGN_URL", wrong_end="/campaign/"),
        ims_url=read.url("CAMPAIGN_IMS_URL", "https://ims-na1.adobelogin.com"),
        client_id=read.required("CAMPAIGN_CLIENT_ID"),
        client_secret=read.secret("CAMPAIGN_CLIENT_SECRET"),
        scopes=read.required("CAMPAIGN_SCOPES"),
    )


def _sftp(read: VariableReader) -> SftpSettings:
    return SftpSettings(
        host=read.required("CAMPAIGN_SFTP_HOST"),
        port=read.port("CAMPAIGN_SFTP_PORT", 22),
        user=read.required("CAMPAIGN_SFTP_USER"),
        private_key=read.required_file("CAMPAIGN_SFTP_PRIVATE_KEY"),
        host_key=read.required_file("CAMPAIGN_SFTP_HOST_KEY"),
        passphrase=read.optional_secret("CAMPAIGN_SFTP_PRIVATE_KEY_PASSPHRASE"),
    )


def _alerts(read: VariableReader) -> AlertSettings:
    user, password = read.optional("SYNC_ASSETS_SMTP_USER"), read.optional_secret("SYNC_ASSETS_SMTP_PASSWORD")
    if bool(user) != bool(password):
        read.problems.append(
            "Only one of SYNC_ASSETS_SMTP_USER and SYNC_ASSETS_SMTP_PASSWORD is set. Set both, or neither if the mail "
            "server needs no sign-in."
        )
    ui_url = read.optional("SYNC_ASSETS_UI_URL").rstrip("/")  # shown in notifications, never requested: http is allowed
    if ui_url and not ui_url.startswith(("https://", "http://")):
        read.problems.append("SYNC_ASSETS_UI_URL is not a URL. Write it with https:// and the host name.")
    return AlertSettings(
        webhook=read.secret_url("SYNC_ASSETS_ALERT_WEBHOOK"),
        smtp_user=user or None,
        smtp_password=password,
        ui_url=ui_url,
        heartbeat=read.secret_url("SYNC_ASSETS_HEARTBEAT_URL"),
    )
