"""Read environment variables one by one: texts, secrets, URLs, files, keys. Each problem names its variable.

A secret may come from a file, `<NAME>_FILE` instead of `<NAME>`, as container platforms mount them.

Invariant: no secret appears in a message.
"""

import base64
import ipaddress
import os.path
import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Literal, Self, TypeVar
from urllib.parse import SplitResult, parse_qs, urlencode, urlsplit

from pydantic import SecretStr

from sync_assets.config.files import CONFIG, OVER_DAGSTER, PATHS, PREFIXES, SECRET_PATHS
from sync_assets.errors import SyncAssetsError
from sync_assets.own_secrets import remember
from sync_assets.words import did_you_mean

T = TypeVar("T")
LedgerConnection = Literal["file", "this host", "verified", "unverified"]

KEY_BYTES = 32
"""Size of a key that encrypts the ledger's payloads: AES-256."""

NEEDED = (
    *("D365_URL", "D365_TENANT_ID", "D365_CLIENT_ID", "D365_CLIENT_SECRET"),
    *("CAMPAIGN_URL", "CAMPAIGN_CLIENT_ID", "CAMPAIGN_CLIENT_SECRET", "CAMPAIGN_SCOPES"),
)
"""Variables of both systems without a default. A file, a certificate or a token may take the place of a secret."""
SECRETS = (
    *("D365_CLIENT_SECRET", "D365_CLIENT_CERTIFICATE_PASSWORD"),
    *("CAMPAIGN_CLIENT_SECRET", "CAMPAIGN_SFTP_PRIVATE_KEY_PASSPHRASE"),
    *("SYNC_ASSETS_LEDGER_URL", "SYNC_ASSETS_ALERT_WEBHOOK", "SYNC_ASSETS_SMTP_PASSWORD", "SYNC_ASSETS_HEARTBEAT_URL"),
)
"""Variables whose value may come from the file that `<NAME>_FILE` names."""
KNOWN = frozenset(
    [
        *(variable for secret in SECRETS for variable in (secret, f"{secret}_FILE")),
        *(variable for path in PATHS for variable in (path, f"{path}_TEXT")),  # _TEXT: of deploy/entrypoint.sh
        *("D365_URL", "D365_AUTHORITY", "D365_TENANT_ID", "D365_CLIENT_ID"),
        *("CAMPAIGN_URL", "CAMPAIGN_IMS_URL", "CAMPAIGN_CLIENT_ID", "CAMPAIGN_SCOPES"),
        *("CAMPAIGN_SFTP_HOST", "CAMPAIGN_SFTP_PORT", "CAMPAIGN_SFTP_USER"),
        *("SYNC_ASSETS_AUTOSTART", "SYNC_ASSETS_LOG_LEVEL", "SYNC_ASSETS_LOG_FORMAT"),
        *("SYNC_ASSETS_SMTP_USER", "SYNC_ASSETS_UI_URL", "SYNC_ASSETS_UI_HOSTS"),
        *("SYNC_ASSETS_VERSION", "SYNC_ASSETS_OWN_PROCESS", OVER_DAGSTER),  # of deploy/; of files.py
    ]
)
"""All variables that begin with one of PREFIXES."""


class SettingsError(SyncAssetsError):
    """Variables are missing or invalid. problems: one line each. prefix: which the names of variables must have."""

    def __init__(self, problems: Collection[str], prefix: str = "") -> None:
        names = re.compile(rf"\b(?={'|'.join(PREFIXES)})")
        self.problems = tuple(names.sub(prefix, problem) for problem in problems)
        super().__init__("\n".join(self.problems))


class SecretFileError(SyncAssetsError):
    """Raised when the file of a secret cannot be read, or is empty. The text names the variable, and the path unless it
    may be the secret itself.
    """


class FileSecret(SecretStr):
    """A secret whose file is read each time it is used, so that a rotated secret counts from the next sign-in on."""

    def __init__(self, variable: str, file: Path) -> None:
        """Read the file once, to check it. Raises SecretFileError."""
        self._variable, self._file = variable, file
        super().__init__(self.get_secret_value())

    def get_secret_value(self) -> str:
        """Return the present content of the file without byte order mark and surrounding blanks.

        Raises SecretFileError.
        """
        try:
            value = self._file.read_text(encoding="utf-8-sig").strip()
        except (OSError, UnicodeDecodeError) as error:
            problem = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise SecretFileError(
                f"{self._variable} names {self._shown}, which cannot be read ({problem}).",
                "Correct the path or its rights.",
            ) from None
        if not value:
            raise SecretFileError(f"{self._variable} names {self._shown}, which is empty.", "Write the secret into it.")
        return remember(value)

    @property
    def _shown(self) -> str:
        """The path, if its folder is there: else the variable may hold the secret by mistake."""
        folder = os.path.dirname(self._file)
        return str(self._file) if folder and os.path.isdir(folder) else "a file in no folder of this machine"


class VariableReader:
    """Reads variables one by one and collects their problems. A blank value counts as missing."""

    def __init__(self, environment: Mapping[str, str], prefix: str = "") -> None:
        self._environment, self._prefix = environment, prefix
        self.problems: list[str] = []

    def complete(self, read: Callable[[Self], T]) -> T | SettingsError:
        value = read(self)
        return SettingsError(self.problems, self._prefix) if self.problems else value

    def optional(self, name: str, default: str = "") -> str:
        return self._environment.get(name, "").strip() or default

    def required(self, name: str) -> str:
        value = self.optional(name)
        if not value:
            self.problems.append(f"{name} is not set. Set it in the environment or in `.env`.")
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
            return SecretStr(remember(value)) if value else None
        try:
            return FileSecret(f"{name}_FILE", expanded(path))
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
        parts, host = _address(value)
        if parts.scheme not in ("https", "http") or not host:
            self.problems.append(f"{name} is not a URL. Write it with https:// and the host name.")
        elif parts.username or parts.password or parts.query or parts.fragment:
            self.problems.append(f"{name} contains more than an address. Leave out user, password, ? and #.")
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
        parts, host = _address(secret.get_secret_value())
        safe = parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host))
        if not (host and safe):
            self.problems.append(f"{name} is not a usable URL. Write it with https:// and the host name.")
        return secret

    def file(self, name: str, *, shown: bool = False) -> Path | None:
        """Read the path of an existing file.

        shown: True if a message may show the path. False for a key file: the variable may hold the key by mistake.
        """
        value = self.optional(name)
        if not value:
            return None
        path = expanded(value)
        path_text = f" ({path})" if shown else ""
        name = f"`--config` or {name}" if name == CONFIG else name
        if os.path.isdir(path):
            self.problems.append(f"{name} names a folder{path_text}. Write the path of a file.")
        elif not os.path.isfile(path):  # Path.is_file raises an error with the value, which may be a key, if it is long
            ended = self.optional("SANDBOX_ADMIN_URL") and "sync-assets-sandbox-" in value
            begin = "The sandbox has ended: start another one in a new folder, `sync-assets sandbox --env-file .env`."
            remedy = begin if ended else "Correct the path."
            self.problems.append(f"{name} names a file that does not exist{path_text}. {remedy}")
        return path

    def required_file(self, name: str) -> Path:
        self.required(name)
        return self.file(name) or Path()

    def port(self, name: str, default: int) -> int:
        value = self.optional(name, str(default))
        if not value.isascii() or not value.isdigit() or not 0 < int(value) < 65536:
            self.problems.append(f"{name} is not a port. Write a number from 1 to 65535.")
            return default
        return int(value)

    def flag(self, name: str) -> bool:
        value = self.optional(name, "0").lower()
        if value not in ("0", "1", "true", "false"):
            self.problems.append(f"{name} is neither on nor off. Write 1 or 0.")
        return value in ("1", "true")

    def home(self, beside: Path) -> Path:
        """Read DAGSTER_HOME, a folder that must exist; default: `.dagster` in `beside`, which is created on demand."""
        value = self.optional("DAGSTER_HOME")
        if not value:
            return Path(os.path.abspath(beside / ".dagster"))
        path = expanded(value)
        if path.parts[0].startswith("~"):
            self.problems.append(f"DAGSTER_HOME begins with {path.parts[0]}, and no such user exists. Write a path.")
        elif not path.is_dir():
            self.problems.append(f"DAGSTER_HOME names a folder that does not exist ({path}). Correct the path.")
        return path.absolute()

    def keys(self, name: str) -> tuple[bytes, ...]:
        """Read a file of keys: 32 bytes each, in base64, one on a line; `#` begins a comment."""
        path = self.file(name)
        if path is None or not path.is_file():
            return ()
        try:
            lines = [line.partition("#")[0].strip() for line in path.read_text("utf-8-sig").splitlines()]
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

    def secret_files(self) -> list[Path]:
        """Return the files with secrets that variables name."""
        named = [*(f"{secret}_FILE" for secret in SECRETS), *SECRET_PATHS]
        return [expanded(path) for name in named if (path := self.optional(name))]

    def ledger_url(self, default: Path) -> str:
        """Read the ledger's URL; default: this SQLite file."""
        problems = len(self.problems)
        secret = self.optional_secret("SYNC_ASSETS_LEDGER_URL")
        if secret is None or len(self.problems) > problems:
            return f"sqlite:///{default}"
        value = secret.get_secret_value()
        if not value.startswith(("sqlite:///", "postgresql+psycopg://")):
            self.problems.append(
                "SYNC_ASSETS_LEDGER_URL is not the URL of a ledger. Write sqlite:///<path> or postgresql+psycopg://<user>@<host>/<name>."
            )
            return value
        if not value.startswith("sqlite:"):
            return self._verified(value)
        path = Path(value.removeprefix("sqlite:///").partition("?")[0]).absolute()
        if path.parent == path.parent.parent or not path.parent.exists():
            self.problems.append(
                f"SYNC_ASSETS_LEDGER_URL names a file in {path.parent}, which is missing or the root. Name an existing "
                "folder."
            )
        return value

    def _verified(self, url: str) -> str:
        """Return a PostgreSQL URL that verifies the server's certificate and name, unless it says otherwise itself.

        Without `sslmode`, and even with `require`, libpq sends the password to a server with any certificate
        (https://www.postgresql.org/docs/current/libpq-ssl.html). URLs of servers on this host stay as they are.
        Without TLS the password goes to another host only if the URL itself has `sslmode=disable`, as in a network of
        containers.
        """
        if not self.is_remote(url):
            return url
        query, mode = parse_qs(database_parts(url).query), self.optional("PGSSLMODE")
        modes = query.get("sslmode") or [mode or "verify-full"]
        if {*modes} & {"allow", "prefer"} or (modes == [mode] == ["disable"] and "sslmode" not in query):
            self.problems.append(
                f"The ledger is on another host, and sslmode={modes[0]} may send its password without TLS. Write "
                "sslmode=verify-full into SYNC_ASSETS_LEDGER_URL, or unset PGSSLMODE."
            )
        if "sslmode" in query:
            return url
        more = {"sslmode": modes[0]}
        if not mode and "sslrootcert" not in query and not self.optional("PGSSLROOTCERT"):
            more["sslrootcert"] = self.optional("SYNC_ASSETS_CA_BUNDLE", "system")
        return f"{url}{'&' if query else '?'}{urlencode(more)}"

    def ledger_connection(self, url: str) -> LedgerConnection:
        """Return how far the connection to the ledger is protected."""
        if url.startswith("sqlite:"):
            return "file"
        if not self.is_remote(url):
            return "this host"
        return "verified" if parse_qs(database_parts(url).query).get("sslmode") == ["verify-full"] else "unverified"

    def is_remote(self, url: str) -> bool:
        """Return True if a PostgreSQL ledger may be on another host, by its URL and libpq's own variables.

        `hostaddr` is where libpq connects to, whatever `host` is, which the certificate has to name. A service is an
        entry of another file, which may name both.
        """
        try:
            parts = database_parts(url)
            query, host = parse_qs(parts.query), parts.hostname or ""
        except ValueError:
            return False  # the ledger says why
        hosts = [host, *query.get("host", [])] if host or "host" in query else [self.optional("PGHOST")]
        hosts += query.get("hostaddr") or [self.optional("PGHOSTADDR")]
        every = [re.sub(r"^([^:]*):\d*$", r"\1", one.strip()) for listed in hosts for one in listed.split(",")]
        return "service" in query or bool(self.optional("PGSERVICE")) or not all(map(is_this_host, every))


def unknown_variables(environment: Mapping[str, str]) -> list[str]:
    """Return a problem for each variable that has one of our prefixes and a value, and is not known."""
    ours = sorted(name for name, value in environment.items() if name.startswith(PREFIXES) and value.strip())
    return [
        f"{name} is not a variable of the program. "
        + (f"Did you mean {meant}?" if (meant := did_you_mean(name, KNOWN)) else "Remove it.")
        for name in ours
        if name not in KNOWN
    ]


def database_parts(url: str) -> SplitResult:
    """Return what follows user and password in a database's URL, as SQLAlchemy reads it: they may contain `/?#`."""
    return urlsplit(re.sub(r"^[\w+]+://(?:[^:/]*(?::[^@]*)?@)?", "//", url))


def _address(url: str) -> tuple[SplitResult, str]:
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - raises for an invalid one
        return parts, parts.hostname or ""
    except ValueError:
        return urlsplit(""), ""


def expanded(path: str) -> Path:
    """Return a path with `~` replaced; as it is if it names a user without a home, where Path.expanduser raises."""
    return Path(os.path.expanduser(path))


def is_loopback(host: str) -> bool:
    """Return True if a host name or address is this machine's."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def is_this_host(database_host: str) -> bool:
    """Return True if a PostgreSQL server is reached by a local socket or a loopback address."""
    return not database_host or database_host.startswith(("/", "@")) or is_loopback(database_host)
