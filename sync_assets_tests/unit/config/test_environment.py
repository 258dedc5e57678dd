"""The environment: what is needed, what is refused, and that secrets do not show."""

import re
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydantic import SecretStr

import sync_assets
from sync_assets.config.environment import ClientCertificate, Settings
from sync_assets.config.files import OVER_DAGSTER, SANDBOX_CONFIG
from sync_assets.config.variables import KNOWN, SettingsError, unknown_variables


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    for name in ("key", "known_hosts", "ca.pem"):
        (tmp_path / name).write_text("x")
    return {
        "SYNC_ASSETS_LEDGER_URL": "postgresql+psycopg://user:ledger-password@host/db",
        "SYNC_ASSETS_CA_BUNDLE": str(tmp_path / "ca.pem"),
        "SYNC_ASSETS_CONFIG": str(SANDBOX_CONFIG),
        "D365_URL": "https://org.crm.dynamics.com/",
        "D365_TENANT_ID": "tenant",
        "D365_CLIENT_ID": "d365-client",
        "D365_CLIENT_SECRET": "d365-secret",
        "CAMPAIGN_URL": "https://mc.adobe.io/acme-mkt-stage",
        "CAMPAIGN_CLIENT_ID": "campaign-client",
        "CAMPAIGN_CLIENT_SECRET": "campaign-secret",
        "CAMPAIGN_SCOPES": "AdobeID,openid",
        "CAMPAIGN_SFTP_HOST": "acme.campaign.adobe.com",
        "CAMPAIGN_SFTP_USER": "acme",
        "CAMPAIGN_SFTP_PRIVATE_KEY": str(tmp_path / "key"),
        "CAMPAIGN_SFTP_HOST_KEY": str(tmp_path / "known_hosts"),
    }


def problems(environment: dict[str, str], **changes: str) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as caught:
        Settings.from_environment(environment | changes).require("d365", "campaign", "sftp")
    return caught.value.problems


def test_all_of_it(environment: dict[str, str], tmp_path: Path) -> None:
    settings = Settings.from_environment(environment)
    settings.require("d365", "campaign", "sftp")
    assert settings.config == SANDBOX_CONFIG
    assert settings.ca_bundle == tmp_path / "ca.pem"
    assert not settings.autostart
    assert settings.d365().url == "https://org.crm.dynamics.com"
    assert settings.d365().authority == "https://login.microsoftonline.com"
    assert settings.d365().credential == SecretStr("d365-secret")
    assert settings.campaign().ims_url == "https://ims-na1.adobelogin.com"
    assert settings.sftp().port == 22


@pytest.mark.parametrize("elsewhere", ["D365_URL", "CAMPAIGN_URL"])
def test_the_sandboxs_configuration_is_used_for_local_systems_only(
    environment: dict[str, str], tmp_path: Path, elsewhere: str
) -> None:
    local = {"D365_URL": "https://localhost:8443", "CAMPAIGN_URL": "https://127.0.0.1:8443/acme"}
    assert Settings.from_environment(environment | local).configuration() == SANDBOX_CONFIG
    one_remote = environment | local | {elsewhere: environment[elsewhere]}
    with pytest.raises(SettingsError, match=f"only for the sandbox, and {elsewhere} is on another host"):
        Settings.from_environment(one_remote).configuration()
    named = tmp_path / "ours.yaml"
    named.touch()
    assert Settings.from_environment(one_remote | {"SYNC_ASSETS_CONFIG": str(named)}).configuration() == named


VERIFIED = "sslmode=verify-full&sslrootcert=system"


@pytest.mark.parametrize(
    ("url", "more", "connected"),
    [
        ("postgresql+psycopg://u:p@db.acme.com/l", VERIFIED, "verified"),
        ("postgresql+psycopg://u:p@db.acme.com:5433/l?application_name=x", VERIFIED, "verified"),
        ("postgresql+psycopg://u:p@/l?host=db.acme.com", VERIFIED, "verified"),
        ("postgresql+psycopg://u@db.acme.com/l?sslrootcert=/rds.pem", "sslmode=verify-full", "verified"),
        ("postgresql+psycopg://u:p@db.acme.com/l?sslmode=require", "", "unverified"),
        ("postgresql+psycopg://u:p@db.acme.com/l?sslmode=disable", "", "unverified"),
        ("postgresql+psycopg://u:p@localhost/l", "", "this host"),
        ("postgresql+psycopg://u:p@127.0.0.1:5433/l", "", "this host"),
        ("postgresql+psycopg:///l?host=/var/run/postgresql", "", "this host"),
        ("postgresql+psycopg:///l?host=%40abstract", "", "this host"),
        ("postgresql+psycopg://localhost/l?hostaddr=::1", "", "this host"),
        ("postgresql+psycopg:///l?host=localhost:1,127.0.0.1:2", "", "this host"),
        ("postgresql+psycopg://u:p/a?sslmode=disable#x@db.acme.com/l", VERIFIED, "verified"),
        ("postgresql+psycopg://localhost/l?hostaddr=10.0.0.7", VERIFIED, "verified"),
        ("postgresql+psycopg:///l?host=/tmp&hostaddr=10.0.0.7", VERIFIED, "verified"),
        ("postgresql+psycopg:///l?host=localhost,db.acme.com", VERIFIED, "verified"),
        ("postgresql+psycopg:///l?host=localhost&host=db.acme.com:5432", VERIFIED, "verified"),
        ("postgresql+psycopg://localhost/l?service=other", VERIFIED, "verified"),
        ("sqlite:///ledger.db", "", "file"),
    ],
)
def test_a_ledgers_server_on_another_host_is_verified_unless_the_url_decides_otherwise(
    url: str, more: str, connected: str
) -> None:
    settings = Settings.from_environment({"SYNC_ASSETS_LEDGER_URL": url})
    assert settings.ledger_url == (f"{url}{'&' if '?' in url.rpartition('@')[2] else '?'}{more}" if more else url)
    assert settings.ledger_connection == connected


LOCAL, SOCKET = "postgresql+psycopg://u:p@localhost/l", "postgresql+psycopg://u:p@/l"


@pytest.mark.parametrize(
    ("url", "variables", "more"),
    [
        (SOCKET, {"PGHOST": "db.acme.com"}, VERIFIED),
        (SOCKET, {"PGHOST": "/tmp", "PGHOSTADDR": "10.0.0.7"}, VERIFIED),
        (SOCKET, {"PGHOST": "/tmp,db.acme.com"}, VERIFIED),
        (SOCKET, {"PGSERVICE": "other"}, VERIFIED),
        (LOCAL, {"PGHOSTADDR": "10.0.0.7"}, VERIFIED),
        (LOCAL, {"PGHOST": "db.acme.com"}, ""),  # the URL names another
        (f"{LOCAL}?hostaddr=127.0.0.1", {"PGHOSTADDR": "10.0.0.7"}, ""),
        (SOCKET, {"PGHOST": "/var/run/postgresql", "PGHOSTADDR": ""}, ""),
    ],
)
def test_libpqs_own_variables_may_name_another_host(url: str, variables: dict[str, str], more: str) -> None:
    settings = Settings.from_environment({"SYNC_ASSETS_LEDGER_URL": url} | variables)
    assert settings.ledger_url == (f"{url}?{more}" if more else url)
    assert settings.ledger_connection == ("verified" if more else "this host")


@pytest.mark.parametrize(
    ("url", "variables"),
    [
        ("postgresql+psycopg://u:p@db.acme.com/l?sslmode=prefer", {}),
        ("postgresql+psycopg://u:p@db.acme.com/l?sslmode=allow", {}),
        ("postgresql+psycopg://u:p@db.acme.com/l", {"PGSSLMODE": "prefer"}),
        ("postgresql+psycopg://u:p@db.acme.com/l", {"PGSSLMODE": "disable"}),
        (LOCAL, {"PGSSLMODE": "disable", "PGHOSTADDR": "10.0.0.7"}),
        (SOCKET, {"PGSSLMODE": "allow", "PGHOST": "db.acme.com"}),
    ],
)
def test_a_password_goes_to_another_host_without_tls_only_if_the_url_says_so(
    url: str, variables: dict[str, str]
) -> None:
    with pytest.raises(SettingsError, match=r"may send its password without TLS\. Write sslmode=verify-full"):
        Settings.from_environment({"SYNC_ASSETS_LEDGER_URL": url} | variables)
    Settings.from_environment({"SYNC_ASSETS_LEDGER_URL": "postgresql+psycopg://u:p@localhost/l", "PGSSLMODE": "prefer"})


@pytest.mark.parametrize(
    ("variables", "more"),
    [
        ({"PGSSLMODE": "verify-ca"}, "sslmode=verify-ca"),
        ({"PGSSLROOTCERT": "/rds.pem"}, "sslmode=verify-full"),
        ({"SYNC_ASSETS_CA_BUNDLE": "ca.pem"}, "sslmode=verify-full&sslrootcert=ca.pem"),
    ],
)
def test_the_servers_certificate_is_verified_against_the_authorities_that_are_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variables: dict[str, str], more: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ca.pem").touch()
    url = "postgresql+psycopg://u:p@db.acme.com/l"
    assert Settings.from_environment({"SYNC_ASSETS_LEDGER_URL": url} | variables).ledger_url == f"{url}?{more}"


def test_keys_of_the_ledger_are_lines_of_base64(tmp_path: Path) -> None:
    first, second = bytes(range(32)), bytes(32)
    text = f"# of 2026-11\n{b64encode(first).decode()}\n\n{b64encode(second).decode()}  # earlier\n"
    (tmp_path / "keys").write_text(text, encoding="utf-8-sig")  # as editors of Windows write
    settings = Settings.from_environment({"SYNC_ASSETS_LEDGER_KEY_FILE": str(tmp_path / "keys")})
    assert settings.ledger_keys == (first, second)
    assert Settings.from_environment({}).ledger_keys == ()


@pytest.mark.parametrize("text", ["", "# none\n", "secret\n", f"{'A' * 42}==\n", "\u00fc\n"])
def test_a_file_without_usable_keys_is_refused_and_not_shown(tmp_path: Path, text: str) -> None:
    (tmp_path / "keys").write_text(text)
    with pytest.raises(SettingsError, match="openssl rand -base64 32") as caught:
        Settings.from_environment({"SYNC_ASSETS_LEDGER_KEY_FILE": str(tmp_path / "keys")})
    assert "secret" not in str(caught.value)


def test_nothing_is_needed_to_look_at_the_ledger(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    settings = Settings.from_environment({})
    assert settings.ledger_url == f"sqlite:///{tmp_path}/.dagster/ledger.db"
    assert Settings.from_environment({"DAGSTER_HOME": "/usr"}).ledger_url == "sqlite:////usr/ledger.db"


def test_the_ledger_is_beside_the_configuration_from_whichever_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "config.yaml").write_text("")
    (tmp_path / "below").mkdir()
    for folder, config in (("", "config.yaml"), ("below", "../config.yaml"), ("below", str(tmp_path / "config.yaml"))):
        monkeypatch.chdir(tmp_path / folder)
        url = Settings.from_environment({"SYNC_ASSETS_CONFIG": config}).ledger_url
        assert Path(url.removeprefix("sqlite:///")).resolve() == tmp_path / ".dagster" / "ledger.db"


NAMES = re.compile(r"\b(?:SYNC_ASSETS|D365|CAMPAIGN)_[A-Z0-9_]*[A-Z0-9]\b")
ROOT = Path(sync_assets.__file__).parents[1]
FILES = [
    ROOT / "sync_assets" / "docs" / "environment.md",
    *(path for path in ROOT.glob("deploy/**/*") if path.is_file()),
]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_every_variable_that_a_page_or_an_image_names_is_known(file: Path) -> None:
    names = set(NAMES.findall(file.read_text("utf-8")))
    assert unknown_variables(dict.fromkeys(names, "x")) == []


def test_a_known_variable_is_named_on_the_page_of_the_environment_or_by_an_image() -> None:
    text = "".join(file.read_text("utf-8") for file in FILES)
    names = {OVER_DAGSTER, "CAMPAIGN_SFTP_PORT", "CAMPAIGN_SFTP_USER", *NAMES.findall(text)}
    assert {name for name in KNOWN - names if name.removesuffix("_FILE").removesuffix("_TEXT") not in names} == set()


def test_every_missing_variable_is_named_at_once() -> None:
    result = problems({})
    assert [one.split()[0] for one in result] == [
        "D365_URL",
        "D365_TENANT_ID",
        "D365_CLIENT_ID",
        "D365_CLIENT_SECRET",
        "CAMPAIGN_URL",
        "CAMPAIGN_CLIENT_ID",
        "CAMPAIGN_CLIENT_SECRET",
        "CAMPAIGN_SCOPES",
        "CAMPAIGN_SFTP_HOST",
        "CAMPAIGN_SFTP_USER",
        "CAMPAIGN_SFTP_PRIVATE_KEY",
        "CAMPAIGN_SFTP_HOST_KEY",
    ]
    others = [one for one in result if not one.startswith("D365_CLIENT_SECRET")]
    assert all(one.endswith("is not set. Set it in the environment or in `.env`.") for one in others)


def test_a_folder_in_place_of_a_file_is_named_as_one(environment: dict[str, str], tmp_path: Path) -> None:
    assert problems(environment, SYNC_ASSETS_CONFIG=str(tmp_path)) == (
        f"`--config` or SYNC_ASSETS_CONFIG names a folder ({tmp_path}). Write the path of a file.",
    )


def test_each_system_is_asked_for_separately(environment: dict[str, str]) -> None:
    without_sftp = {name: value for name, value in environment.items() if "SFTP" not in name}
    settings = Settings.from_environment(without_sftp)
    settings.require("d365", "campaign")
    assert settings.campaign().client_id == "campaign-client"
    with pytest.raises(SettingsError, match="CAMPAIGN_SFTP_HOST is not set"):
        settings.sftp()


class TestTheCredentialOfDynamics365:
    NAMES = ("D365_CLIENT_SECRET", "D365_CLIENT_CERTIFICATE", "D365_FEDERATED_TOKEN_FILE")

    @pytest.fixture
    def without(self, environment: dict[str, str], tmp_path: Path) -> dict[str, str]:
        for name in ("app.pem", "token", "secret"):
            (tmp_path / name).write_text("content")
        return {name: value for name, value in environment.items() if name != "D365_CLIENT_SECRET"}

    def test_is_one_of_three_and_all_are_named_if_none_is_set(self, without: dict[str, str]) -> None:
        assert problems(without) == (
            "D365_CLIENT_SECRET is not set, nor is D365_CLIENT_CERTIFICATE or D365_FEDERATED_TOKEN_FILE. Set one of "
            "the three in the environment.",
        )

    def test_is_a_certificate_with_or_without_a_password(self, without: dict[str, str], tmp_path: Path) -> None:
        file = tmp_path / "app.pem"
        plain = Settings.from_environment(without | {"D365_CLIENT_CERTIFICATE": str(file)})
        assert plain.d365().credential == ClientCertificate(file)
        (tmp_path / "secret").write_text("sesame\n")
        for given in (
            {"D365_CLIENT_CERTIFICATE_PASSWORD": "sesame"},
            {"D365_CLIENT_CERTIFICATE_PASSWORD_FILE": str(tmp_path / "secret")},
        ):
            settings = Settings.from_environment(without | {"D365_CLIENT_CERTIFICATE": str(file)} | given)
            credential = settings.d365().credential
            assert isinstance(credential, ClientCertificate)
            assert credential.password is not None
            assert credential.password.get_secret_value() == "sesame"
            assert "sesame" not in repr(settings.d365())

    @pytest.mark.parametrize("given", [NAMES, NAMES[:2], NAMES[1:], ("D365_CLIENT_SECRET_FILE", NAMES[1])])
    def test_is_refused_if_several_are_set(
        self, without: dict[str, str], tmp_path: Path, given: tuple[str, ...]
    ) -> None:
        named = " and ".join(name.replace("SECRET_FILE", "SECRET") for name in given)
        assert problems(without, **dict.fromkeys(given, str(tmp_path / "app.pem"))) == (
            f"{named} are set, but only one of them is used. Leave out the others.",
        )

    @pytest.mark.parametrize("name", NAMES[1:])
    @pytest.mark.parametrize("content", ["-----BEGIN hush hush", "hush" * 3000, "hush\n" * 9])
    def test_is_not_shown_if_it_stands_in_the_place_of_its_path(
        self, without: dict[str, str], name: str, content: str
    ) -> None:
        assert problems(without, **{name: content}) == (f"{name} names a file that does not exist. Correct the path.",)


def test_the_passphrase_of_an_sftp_key_comes_from_a_variable_or_a_file(
    environment: dict[str, str], tmp_path: Path
) -> None:
    name, file = "CAMPAIGN_SFTP_PRIVATE_KEY_PASSPHRASE", tmp_path / "passphrase"
    file.write_text("sesame\n")
    assert Settings.from_environment(environment).sftp().passphrase is None
    for given in ({name: "sesame"}, {f"{name}_FILE": str(file)}):
        passphrase = Settings.from_environment(environment | given).sftp().passphrase
        assert passphrase is not None
        assert passphrase.get_secret_value() == "sesame"
    assert problems(environment, **{name: "sesame", f"{name}_FILE": str(file)}) == (
        f"{name} and {name}_FILE are both set. Leave out one of them.",
    )


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("D365_URL", "http://org.crm.dynamics.com", "plain http"),
        ("CAMPAIGN_URL", "http://10.0.0.1/acme", "plain http"),
        ("CAMPAIGN_IMS_URL", "http://localhost.example.com", "plain http"),
        ("D365_AUTHORITY", "ftp://login", "is not a URL"),
        ("D365_URL", "org.crm.dynamics.com", "is not a URL"),
        ("D365_URL", "https://[::1", "is not a URL"),
        ("D365_URL", "https://org.crm.dynamics.com:port", "is not a URL"),
        ("CAMPAIGN_URL", "https://user:hunter2@mc.adobe.io/acme", "contains more than an address. Leave out user"),
        ("D365_URL", "https://org.crm.dynamics.com/api/data/v9.2", "Leave out /api/data and what follows"),
        ("CAMPAIGN_URL", "https://mc.adobe.io/acme/campaign", "Leave out /campaign and what follows"),
        ("CAMPAIGN_SFTP_PORT", "0", "is not a port"),
        ("CAMPAIGN_SFTP_PORT", "ssh", "is not a port"),
        ("CAMPAIGN_SFTP_PRIVATE_KEY", "/nowhere/key", "a file that does not exist. Correct"),
        ("SYNC_ASSETS_CA_BUNDLE", "/nowhere/ca.pem", "a file that does not exist (/nowhere/ca.pem)"),
        ("SYNC_ASSETS_CONFIG", "/nowhere/sync_assets.yaml", "a file that does not exist (/nowhere/sync_assets.yaml)"),
        ("CAMPAIGN_SFTP_PRIVATE_KEY", "~no-such-user/key", "a file that does not exist. Correct"),
        ("DAGSTER_HOME", "/no/such/folder", "names a folder that does not exist"),
        ("DAGSTER_HOME", "~no-such-user/home", "begins with ~no-such-user, and no such user exists"),
        ("CAMPAIGN_SFTP_PRIVATE_KEY_PASSPHRASE_FILE", "~no-such-user/key", "which cannot be read (No such file"),
        ("SYNC_ASSETS_AUTOSTART", "maybe", "Write 1 or 0"),
        ("SYNC_ASSETS_LEDGER_URL", "postgresql://u:hunter2@h/db", "Write sqlite:///<path> or postgresql+psycopg://"),
    ],
)
def test_a_defect_is_reported_by_name(environment: dict[str, str], name: str, value: str, message: str) -> None:
    [problem] = problems(environment, **{name: value})
    assert problem.removeprefix("`--config` or ").startswith(name)
    assert message in problem
    assert "hunter2" not in problem


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.8.8", "[::1]"])
def test_plain_http_is_for_this_machine_only(environment: dict[str, str], host: str) -> None:
    settings = Settings.from_environment(environment | {"D365_URL": f"http://{host}:8000"})
    assert settings.d365().url == f"http://{host}:8000"


def test_secrets_do_not_show(environment: dict[str, str]) -> None:
    settings = Settings.from_environment(environment)
    shown = f"{settings!r} {settings} {settings.d365()!r} {settings.campaign()!r} {settings.sftp()!r}"
    for secret in ("d365-secret", "campaign-secret", "ledger-password"):
        assert secret not in shown


SECRETS = (
    ("D365_CLIENT_SECRET", lambda settings: settings.d365().credential.get_secret_value()),
    ("CAMPAIGN_CLIENT_SECRET", lambda settings: settings.campaign().client_secret.get_secret_value()),
    ("SYNC_ASSETS_SMTP_PASSWORD", lambda settings: settings.alerts().smtp_password.get_secret_value()),
    ("SYNC_ASSETS_ALERT_WEBHOOK", lambda settings: settings.alerts().webhook.get_secret_value()),
    ("SYNC_ASSETS_LEDGER_URL", lambda settings: settings.ledger_url),
)
OF_FILE = "postgresql+psycopg://u:from-a-file@localhost/db"


@dataclass
class FileSecret:
    """A secret that `<name>_FILE` names. read: returns it from the settings. others: the other variables."""

    name: str
    read: Callable[[Settings], str]
    file: Path
    others: dict[str, str]

    @property
    def settings(self) -> Settings:
        return Settings.from_environment(self.others | {f"{self.name}_FILE": str(self.file)})

    def content(self, word: str = "one") -> str:
        return {
            "SYNC_ASSETS_ALERT_WEBHOOK": f"https://hooks.example.com/{word}",
            "SYNC_ASSETS_LEDGER_URL": OF_FILE,
        }.get(self.name, f"secret-{word}")


@pytest.fixture(params=SECRETS, ids=lambda param: param[0])
def secret(request: pytest.FixtureRequest, environment: dict[str, str], tmp_path: Path) -> FileSecret:
    name, read = request.param
    others = environment | {"SYNC_ASSETS_SMTP_USER": "user", "SYNC_ASSETS_SMTP_PASSWORD": "password"}
    others.pop(name, None)
    return FileSecret(name, read, tmp_path / "secret", others)


class TestASecretInAFile:
    def test_is_read_without_its_line_end(self, secret: FileSecret) -> None:
        secret.file.write_text(f"{secret.content()}\n")
        assert secret.read(secret.settings) == secret.content()
        assert secret.content() not in repr(secret.settings)

    def test_is_read_without_a_byte_order_mark(self, secret: FileSecret) -> None:
        secret.file.write_bytes(b"\xef\xbb\xbf" + secret.content().encode() + b"\r\n")  # as editors of Windows write
        assert secret.read(secret.settings) == secret.content()

    def test_is_read_again_when_it_is_used_again(self, secret: FileSecret) -> None:
        if secret.name == "SYNC_ASSETS_LEDGER_URL":
            return  # opened once
        secret.file.write_text(secret.content())
        settings = secret.settings
        secret.file.write_text(secret.content("two"))
        assert secret.read(settings) == secret.content("two")

    @pytest.mark.parametrize("content", [None, b" \n", b"\xff\xfe"])
    def test_that_cannot_be_read_is_named_by_its_variable(self, secret: FileSecret, content: bytes | None) -> None:
        if content is not None:
            secret.file.write_bytes(content)
        with pytest.raises(SettingsError, match=f"{secret.name}_FILE names .*/secret") as raised:
            secret.read(secret.settings)
        assert len(raised.value.problems) == 1

    @pytest.mark.parametrize("content", ["hush~hush", "aGVs/bG8=", "hush" * 3000])
    def test_is_not_shown_if_it_stands_in_the_place_of_its_path(self, secret: FileSecret, content: str) -> None:
        secret.file = Path(content)
        with pytest.raises(SettingsError, match=f"{secret.name}_FILE names a file in no folder") as raised:
            secret.read(secret.settings)
        assert content not in str(raised.value)

    def test_beside_the_variable_is_refused(self, secret: FileSecret) -> None:
        secret.file.write_text(secret.content())
        secret.others[secret.name] = secret.content()
        with pytest.raises(SettingsError, match=f"{secret.name} and {secret.name}_FILE are both set"):
            secret.read(secret.settings)
