"""The way to the Campaign SFTP: the server proves itself first, then we sign in, and every failure says what to do."""

import asyncio
import contextlib
import logging
import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import paramiko
import pytest
from paramiko.common import OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED

from sync_assets.config.environment import SftpSettings
from sync_assets.errors import SyncAssetsError
from sync_assets.http.proxy import environment_proxy
from sync_assets.sandbox import sftp as sandbox
from sync_assets.sftp import ssh
from sync_assets.sftp.client import connect
from sync_assets.sftp.errors import HostKeyRefused, SftpError, Unreachable
from sync_assets.sftp.known_hosts import known_keys
from sync_assets.sftp.ssh import modern_algorithms_only
from sync_assets_tests.support.openssh import KEY_TYPES, OpenSsh, make_key, public
from sync_assets_tests.support.proxy_server import ProxyServer
from sync_assets_tests.unit.sftp.conftest import Served
from sync_assets_tests.unit.sftp.relay import Relay


@pytest.fixture(autouse=True)
def _no_long_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssh, "SECOND_TRY_AFTER", 0.05)


def works(settings: SftpSettings) -> bool:
    with connect(settings, timeout=5) as sftp:
        return sftp.listing(".", "*").files == ()


def fingerprints(settings: SftpSettings) -> list[str]:
    """Of the keys that the server really has."""
    keys = known_keys(settings.host_key.read_text(), settings.host, settings.port).trusted
    return [key.fingerprint for key in keys]


def known_hosts(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "known_hosts_of_test"
    file.write_text(text)
    return file


def own_key(tmp_path: Path) -> Path:
    """A key that no server knows."""
    file = tmp_path / "own_key"
    paramiko.ECDSAKey.generate().write_private_key_file(str(file))
    return file


def refused(settings: SftpSettings, kind: type[SyncAssetsError], timeout: float = 5) -> SyncAssetsError:
    """The error, which must be exactly of that kind, tell cause and remedy in one line each, and show no key."""
    with pytest.raises(SyncAssetsError) as caught, connect(settings, timeout=timeout):
        raise AssertionError("it let us in")
    error = caught.value
    assert type(error) is kind or (kind is Unreachable and isinstance(error, Unreachable))
    assert error.cause.endswith(".")
    assert error.remedy.endswith(".")
    assert "\n" not in str(error)
    assert "PRIVATE KEY-----" not in str(error)
    return error


# --- who the server is ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "# nothing\n", "127.0.0.1 {key}\n", "[other]:{port} {key}\n"])
def test_an_unknown_server_is_refused_with_its_fingerprint(served: Served, tmp_path: Path, text: str):
    key = served.settings.host_key.read_text().splitlines()[0].split(" ", 1)[1]
    file = known_hosts(tmp_path, text.format(port=served.settings.port, key=key))
    error = refused(replace(served.settings, host_key=file), HostKeyRefused)
    assert f"names [127.0.0.1]:{served.settings.port}" in error.cause
    assert any(fingerprint in error.cause for fingerprint in fingerprints(served.settings))
    assert f"ssh-keyscan -p {served.settings.port} 127.0.0.1" in error.remedy


def changed_keys(served: Served, tmp_path: Path) -> Path:
    """A file that has another key of each type for the server."""
    lines: list[str] = []
    for number, line in enumerate(served.settings.host_key.read_text().splitlines()):
        name, type_, _ = line.split()
        kind = {"ssh-ed25519": "ed25519", "ssh-rsa": "rsa"}.get(type_)
        if kind is None:
            other = paramiko.ECDSAKey.generate()
            lines.append(f"{name} {type_} {other.get_base64()}")
        else:
            lines.append(f"{name} {public(make_key(tmp_path / f'other_{number}', kind))}")
    return known_hosts(tmp_path, "\n".join(lines))


def test_a_changed_key_is_refused_with_both_fingerprints(served: Served, tmp_path: Path):
    settings = replace(served.settings, host_key=changed_keys(served, tmp_path))
    error = refused(settings, HostKeyRefused)
    assert "has changed" in error.cause
    assert f"127.0.0.1:{settings.port}" in error.cause
    assert sum(fingerprint in error.cause for fingerprint in fingerprints(served.settings)) == 1
    assert sum(fingerprint in error.cause for fingerprint in fingerprints(settings)) == 1
    assert "ask its owner" in error.remedy.lower()


def test_a_server_that_is_not_known_hears_nothing_about_us(openssh_sftp: Served, tmp_path: Path):
    assert openssh_sftp.openssh is not None
    before = len(openssh_sftp.openssh.log)
    refused(replace(openssh_sftp.settings, host_key=changed_keys(openssh_sftp, tmp_path)), HostKeyRefused)
    refused(replace(openssh_sftp.settings, host_key=known_hosts(tmp_path, "")), HostKeyRefused)
    heard = openssh_sftp.openssh.log[before:]
    assert "kex: algorithm" in heard
    assert "userauth-request" not in heard
    assert works(openssh_sftp.settings)
    assert "userauth-request" in openssh_sftp.openssh.log[before:]


@pytest.mark.parametrize("type_", KEY_TYPES)
def test_a_server_with_several_keys_is_asked_for_the_one_that_the_file_has(
    openssh_sftp: Served, tmp_path: Path, type_: str
):
    assert openssh_sftp.openssh is not None
    line = f"[127.0.0.1]:{openssh_sftp.settings.port} {public(openssh_sftp.openssh.host_keys[type_])}\n"
    assert works(replace(openssh_sftp.settings, host_key=known_hosts(tmp_path, line)))


def test_a_server_without_a_key_of_the_known_types_is_refused(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory):
    with OpenSsh(tmp_path, host_keys=["ed25519"]) as server:
        other = make_key(tmp_path_factory.mktemp("keys") / "other", "ecdsa")
        server.known_hosts_file.write_text(f"[127.0.0.1]:{server.port} {public(other)}\n")
        error = refused(server.settings, HostKeyRefused)
    assert "ecdsa-sha2-nistp256" in error.cause


def test_a_known_type_that_cannot_be_used_is_named(sandbox_sftp: Served, tmp_path: Path):
    blob = "AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29t"  # sk-ssh-ed25519@openssh.com, cut off behind the type
    line = f"[127.0.0.1]:{sandbox_sftp.settings.port} sk-ssh-ed25519@openssh.com {blob}\n"
    error = refused(replace(sandbox_sftp.settings, host_key=known_hosts(tmp_path, line)), HostKeyRefused)
    assert "sk-ssh-ed25519@openssh.com" in error.cause


def test_a_revoked_key_is_refused_even_if_another_line_has_it(served: Served, tmp_path: Path):
    lines = served.settings.host_key.read_text()
    revoked = "".join(f"@revoked * {line.split(' ', 1)[1]}\n" for line in lines.splitlines())
    error = refused(replace(served.settings, host_key=known_hosts(tmp_path, lines + revoked)), HostKeyRefused)
    assert "revokes" in error.cause


def test_a_missing_known_hosts_file_is_named(served: Served, tmp_path: Path):
    error = refused(replace(served.settings, host_key=tmp_path / "nowhere"), HostKeyRefused)
    assert "nowhere" in error.cause
    assert "CAMPAIGN_SFTP_HOST_KEY" in error.remedy


# --- connections that fail --------------------------------------------------------------------------------------------


@contextmanager
def instead(settings: SftpSettings, tmp_path: Path, **options: object) -> Iterator[tuple[Relay, SftpSettings]]:
    """A relay before the server, and settings that lead there."""
    keys = [line.split(" ", 1)[1] for line in settings.host_key.read_text().splitlines()]
    with Relay(settings.port, **options) as relay:  # pyright: ignore[reportArgumentType]
        file = known_hosts(tmp_path, "".join(f"[127.0.0.1]:{relay.port} {key}\n" for key in keys))
        yield relay, replace(settings, port=relay.port, host_key=file)


def test_a_connection_that_is_cut_before_the_first_byte_is_tried_once_more_and_only_once(
    sandbox_sftp: Served, tmp_path: Path
):
    with instead(sandbox_sftp.settings, tmp_path, cut_first=1) as (relay, settings):
        assert works(settings)
        assert relay.connections == 2
    with instead(sandbox_sftp.settings, tmp_path, cut_first=9) as (relay, settings):
        error = refused(settings, Unreachable)
        assert relay.connections == 2
    assert "cut the connection before it sent anything" in error.cause
    assert "allow list" in error.remedy


def says(text: bytes) -> Callable[[socket.socket], None]:
    def answer(client: socket.socket) -> None:
        with contextlib.suppress(OSError):  # the client may go first
            client.recv(65536)  # its words are read, so that closing is no reset
            client.sendall(text)
            client.shutdown(socket.SHUT_WR)

    return answer


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n", Unreachable),
        (b"Exceeded MaxStartups\r\n", Unreachable),
        (b"SSH-1.5-old\r\n", SftpError),
        (b"SSH-2.0-x\r\n" + bytes(range(256)) * 8, SftpError),
        (b"SSH-2.0-x\r\n", Unreachable),
    ],
)
def test_a_server_that_is_no_ssh_server_is_reported(
    sandbox_sftp: Served, tmp_path: Path, text: bytes, kind: type[SftpError]
):
    with instead(sandbox_sftp.settings, tmp_path, answer=says(text)) as (_, settings):
        error = refused(settings, kind)
    assert "CAMPAIGN_SFTP_HOST" in error.remedy


def test_a_server_that_never_answers_is_given_up_in_time(sandbox_sftp: Served, tmp_path: Path):
    with instead(sandbox_sftp.settings, tmp_path, answer=lambda client: None) as (relay, settings):
        started = time.monotonic()
        error = refused(settings, Unreachable, timeout=0.4)
        assert 0.3 < time.monotonic() - started < 20
        assert relay.connections == 1
    assert "within 0.4 seconds" in error.cause


def test_a_port_without_a_server_is_reported(sandbox_sftp: Served):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    error = refused(replace(sandbox_sftp.settings, port=port), Unreachable)
    assert f"127.0.0.1:{port} cannot be reached (Connection refused)" in error.cause


@pytest.mark.parametrize("host", ["nowhere.invalid", "x" * 64, "no host"])
def test_a_name_that_cannot_be_resolved_is_reported(sandbox_sftp: Served, host: str):
    error = refused(replace(sandbox_sftp.settings, host=host), Unreachable)
    assert host in error.cause
    assert "CAMPAIGN_SFTP_HOST" in error.remedy


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ("check_auth_publickey", "cut the connection during the sign-in"),
        ("check_channel_request", "cut the connection after the sign-in"),
        ("check_channel_subsystem_request", "cut the connection after the sign-in"),
    ],
)
def test_a_connection_that_is_cut_on_the_way_in_is_not_taken_for_a_refusal(
    sandbox_sftp: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, message: str
):
    with instead(sandbox_sftp.settings, tmp_path) as (relay, settings):

        def cut(*_: object) -> int:
            relay.cut()
            return 0

        monkeypatch.setattr(sandbox._SignIn, step, cut)
        error = refused(settings, Unreachable)
        assert relay.connections == 1
    assert message in error.cause


def test_a_server_that_opens_no_channel_is_reported(sandbox_sftp: Served, monkeypatch: pytest.MonkeyPatch):
    prohibited = OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED
    monkeypatch.setattr(sandbox._SignIn, "check_channel_request", lambda self, kind, number: prohibited)
    assert "offers no SFTP" in refused(sandbox_sftp.settings, SftpError).cause


@pytest.mark.parametrize(
    ("subsystem", "message"),
    [
        (None, "offers no SFTP"),
        ("/bin/true", "cut the connection"),
        ("/bin/echo Welcome to this server", "is no SFTP"),
        ("/bin/cat /dev/zero", "is no SFTP"),
    ],
)
def test_a_server_without_sftp_is_reported(tmp_path: Path, subsystem: str | None, message: str):
    with OpenSsh(tmp_path, subsystem=subsystem) as server:
        kind = Unreachable if message == "cut the connection" else SftpError
        assert message in refused(server.settings, kind).cause


def test_failures_leave_no_noise_and_no_open_connection(
    served: Served, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
):
    caplog.set_level(logging.DEBUG)
    with instead(served.settings, tmp_path, answer=says(b"SSH-2.0-x\r\n" + b"\xff" * 99)) as (_, settings):
        refused(settings, SftpError)
    own = [record for record in caplog.records if record.name.startswith("sync_assets")]
    assert own == []
    assert capfd.readouterr().err == ""
    # neither does one that works
    assert works(served.settings)
    assert [record for record in caplog.records if record.name.startswith("sync_assets")] == []


# --- algorithms -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "only",
    [
        "Ciphers 3des-cbc,aes128-cbc,aes256-cbc",
        "MACs hmac-md5-96,hmac-md5,hmac-sha1,hmac-sha1-96",
        "KexAlgorithms diffie-hellman-group14-sha1",
    ],
)
def test_a_server_with_old_algorithms_only_is_refused_with_those_to_offer(tmp_path: Path, only: str):
    more = [only, *(["Ciphers aes128-ctr"] if only.startswith("MACs") else [])]  # GCM needs no MAC
    with OpenSsh(tmp_path, more=more) as server:
        error = refused(server.settings, SftpError)
        assert f"SFTP 127.0.0.1:{server.port} offers only old algorithms" in error.cause
        assert "AES in CTR or GCM" in error.remedy
        assert "userauth" not in server.log


def test_an_rsa_host_key_is_not_proven_by_sha_1(tmp_path: Path):
    with OpenSsh(tmp_path, host_keys=["rsa"], more=["HostKeyAlgorithms ssh-rsa"]) as server:
        refused(server.settings, HostKeyRefused)


def test_neither_side_offers_an_old_algorithm(sandbox_sftp: Served):
    with socket.create_connection((sandbox_sftp.settings.host, sandbox_sftp.settings.port), 5) as sock:
        sock.sendall(b"SSH-2.0-test\r\n")
        received = b""
        while b"SSH-2.0" not in received or len(received) < 600:
            received += sock.recv(65536)
    assert re.search(rb"aes\d+-(?:ctr|gcm)", received)
    assert not re.search(rb"-cbc|md5|sha1\b|ssh-rsa|ssh-dss|arcfour", received)
    offered = paramiko.Transport(socket.socket())
    modern_algorithms_only(offered)
    options = offered.get_security_options()
    names = " ".join([*options.ciphers, *options.digests, *options.kex, *options.key_types])
    assert not re.search(r"-cbc|md5|sha1\b|ssh-rsa|ssh-dss|arcfour", names)
    assert all([options.ciphers, options.digests, options.kex, options.key_types])


# --- through a proxy --------------------------------------------------------------------------------------------------


async def test_it_passes_the_proxy_of_sftp_proxy_and_one_that_refuses_is_named(
    sandbox_sftp: Served, monkeypatch: pytest.MonkeyPatch
):
    settings = sandbox_sftp.settings
    for answers, kind in ((None, None), (b"HTTP/1.1 403 Forbidden\r\n\r\n", Unreachable)):
        environment_proxy.cache_clear()
        async with ProxyServer(answers) as proxy:
            monkeypatch.setenv("SFTP_PROXY", f"http://127.0.0.1:{proxy.port}")
            if kind is None:
                assert await asyncio.to_thread(works, settings)
            else:
                error = await asyncio.to_thread(refused, settings, kind)
                assert f"the proxy http://127.0.0.1:{proxy.port} does not connect" in error.cause.lower()
                assert "SFTP_PROXY" in error.remedy
        assert [head.split()[1] for head in proxy.requests] == [f"{settings.host}:{settings.port}"]
