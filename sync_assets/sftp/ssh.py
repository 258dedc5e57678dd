"""The SSH connection to the Campaign SFTP: host key, sign-in, and the channel for SFTP.

The server's identity comes first: a host key that the settings' known_hosts file does not have is refused before we
send anything about ourselves. We sign in with the settings' private key file and nothing else: no agent, no key or
known_hosts file of the user's own, no password (docs/dev/references/campaign.md 8, Campaign SFTP).
"""

import logging
import socket
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager

import paramiko
from paramiko.ssh_exception import IncompatiblePeer

from sync_assets.config.environment import SftpSettings
from sync_assets.http.proxy import open_connection
from sync_assets.http.transport import NotSent
from sync_assets.sftp.errors import HostKeyRefused, SftpError, SftpSignInRefused, Unreachable
from sync_assets.sftp.known_hosts import HostKey, KnownKeys, known_keys
from sync_assets.sftp.private_key import private_key

SECOND_TRY_AFTER = 1.0
"""Seconds to wait after a connection that was cut before the server sent anything."""
KEEP_ALIVE = 30
"""Seconds of silence before we send a keep-alive: firewalls drop idle connections."""

# The accepted algorithms, the preferred first: no CBC, MD5 or SHA-1, which paramiko still offers. Source: RFC 9142 and
# the defaults of https://man.openbsd.org/ssh_config
OFFER_MODERN = (
    "Its software or settings are out of date: have its owner offer AES in CTR or GCM mode, HMAC with SHA-2, and key "
    "exchange by Curve25519, ECDH or a Diffie-Hellman group of 2,048 bits and more with SHA-2."
)
CIPHERS = (
    *("aes256-gcm@openssh.com", "aes128-gcm@openssh.com", "chacha20-poly1305@openssh.com"),
    *("aes256-ctr", "aes192-ctr", "aes128-ctr"),
)
MACS = ("hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com", "hmac-sha2-256", "hmac-sha2-512")
KEY_EXCHANGES = (
    *("mlkem768x25519-sha256", "curve25519-sha256", "curve25519-sha256@libssh.org"),
    *("ecdh-sha2-nistp256", "ecdh-sha2-nistp384", "ecdh-sha2-nistp521"),
    *("diffie-hellman-group16-sha512", "diffie-hellman-group-exchange-sha256", "diffie-hellman-group14-sha256"),
)
SIGNATURES = (
    *("ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521"),
    *("rsa-sha2-512", "rsa-sha2-256"),
)

_REACH = (
    "Check CAMPAIGN_SFTP_HOST and CAMPAIGN_SFTP_PORT, and that the public IP address of this machine is on the allow "
    "list of the Campaign Control Panel."
)
_ADDRESS = "Check CAMPAIGN_SFTP_HOST and CAMPAIGN_SFTP_PORT, or ask the owner of the server."
# paramiko logs every failed connection as an error with a traceback; our exceptions already report it.
_QUIET = "sync_assets.paramiko"
logging.getLogger(_QUIET).setLevel(logging.CRITICAL + 1)


class _Silent(Unreachable):
    """Raised when the connection was cut before the server sent anything."""


def place(settings: SftpSettings) -> str:
    """Return the server's name in errors."""
    return f"SFTP {settings.host}:{settings.port}"


def modern_algorithms_only(transport: paramiko.Transport) -> None:
    """Restrict a transport to the algorithms above that the installed paramiko has."""
    options = transport.get_security_options()
    options.ciphers = [name for name in CIPHERS if name in options.ciphers]
    options.digests = [name for name in MACS if name in options.digests]
    options.kex = [name for name in KEY_EXCHANGES if name in options.kex]
    options.key_types = [name for name in SIGNATURES if name in options.key_types]


@contextmanager
def sftp_channel(settings: SftpSettings, timeout: float) -> Generator[paramiko.Channel]:
    """Sign in and yield the channel to the SFTP subsystem; close the connection at the end.

    `timeout`: seconds for connecting, for signing in, and for each later wait on the channel (TimeoutError). A
    connection that is cut before the server sent anything is tried once more. Raises Unreachable, HostKeyRefused,
    SignInRefused, SftpError.
    """
    key = private_key(settings)
    known = _known(settings)
    try:
        sock, channel = _open(settings, key, known, timeout)
    except _Silent:
        time.sleep(SECOND_TRY_AFTER)
        sock, channel = _open(settings, key, known, timeout)
    try:
        channel.settimeout(timeout)
        yield channel
    finally:
        _close(channel.get_transport(), sock)


def _known(settings: SftpSettings) -> KnownKeys:
    try:
        text = settings.host_key.read_bytes().decode("utf-8", "replace")
    except OSError as error:
        raise HostKeyRefused(
            f"The known_hosts file {settings.host_key} cannot be read ({error.strerror}).",
            "Name it in CAMPAIGN_SFTP_HOST_KEY.",
        ) from error
    return known_keys(text, settings.host, settings.port)


def _open(
    settings: SftpSettings, key: paramiko.PKey, known: KnownKeys, timeout: float
) -> tuple[socket.socket, paramiko.Channel]:
    sock = _connect(settings, timeout)
    transport = None
    try:
        # ssh-rsa signs by SHA-1; versions of paramiko before 5 would do so for a server that offers nothing else.
        transport = paramiko.Transport(sock, disabled_algorithms={"pubkeys": ["ssh-rsa", "ssh-dss"]})
        modern_algorithms_only(transport)
        transport.set_log_channel(_QUIET)
        transport.banner_timeout = transport.handshake_timeout = transport.auth_timeout = 2 * timeout
        late = threading.Event()

        def give_up() -> None:
            late.set()
            _close(transport, sock)

        # One limit for all steps, shorter than paramiko's own: its wait for a subsystem has no limit.
        timer = threading.Timer(timeout, give_up)
        timer.daemon = True
        timer.start()
        try:
            _prove_host(transport, settings, known)
            _sign_in(transport, settings, key)
            return sock, _subsystem(transport, settings)
        except SftpError as error:
            if late.is_set():
                raise Unreachable(f"{place(settings)} gave no answer within {timeout:g} seconds.", _REACH) from error
            raise
        finally:
            timer.cancel()
    except BaseException:
        _close(transport, sock)
        raise


def _connect(settings: SftpSettings, timeout: float) -> socket.socket:
    try:
        sock = open_connection("sftp", settings.host, settings.port, timeout)
    except NotSent as error:
        raise Unreachable(f"{place(settings)}: {error.cause}", error.remedy) from None
    except (socket.gaierror, UnicodeError) as error:
        raise Unreachable(
            f"{place(settings)}: the name of the host cannot be resolved.",
            "Check CAMPAIGN_SFTP_HOST and the name service.",
        ) from error
    except TimeoutError as error:
        raise Unreachable(f"{place(settings)} gave no answer within {timeout:g} seconds.", _REACH) from error
    except OSError as error:
        raise Unreachable(f"{place(settings)} cannot be reached ({error.strerror or 'no route'}).", _REACH) from error
    # Otherwise a request waits for the answer to the one before: 44 instead of 17 ms to begin reading (measured).
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def _close(transport: paramiko.Transport | None, sock: socket.socket) -> None:
    if transport is not None:
        transport.close()
    sock.close()  # a transport that never started leaves it open


def _prove_host(transport: paramiko.Transport, settings: SftpSettings, known: KnownKeys) -> None:
    """Exchange keys and verify the server's.

    Only key types that the file has are requested, so that a server with several shows one that can be compared.
    """
    options = transport.get_security_options()
    types = {key.type for key in known.trusted}
    # An RSA key has several algorithms.
    wanted = [name for name in options.key_types if ("ssh-rsa" if name.startswith("rsa-sha2-") else name) in types]
    if known.trusted and not wanted:
        raise HostKeyRefused(
            f"{settings.host_key} knows {known.name} by keys of a type only that cannot be used here "
            f"({', '.join(sorted(types))}).",
            _how_to_add(settings),
        )
    if known.trusted:
        options.key_types = wanted
    try:
        transport.start_client()
    except IncompatiblePeer as error:
        if "host key" in str(error):
            raise HostKeyRefused(
                f"{place(settings)} has no host key of the types by which {settings.host_key} knows it "
                f"({', '.join(sorted(types))}). Nothing was sent to it.",
                _how_to_add(settings),
            ) from error
        text = str(error).encode("unicode_escape").decode()
        if "no acceptable" not in text:
            raise SftpError(f"{place(settings)} offers no SSH as we use it ({text}).", _ADDRESS) from error
        raise SftpError(
            f"{place(settings)} offers only old algorithms of SSH that are not safe ({text}).", OFFER_MODERN
        ) from error
    except Exception as error:  # paramiko passes on any exception that an invalid answer caused in its thread
        if not transport.remote_version:
            raise _Silent(f"{place(settings)} cut the connection before it sent anything in SSH.", _REACH) from error
        if isinstance(error, EOFError | OSError):
            raise Unreachable(f"{place(settings)} cut the connection before the sign-in.", _REACH) from error
        raise SftpError(f"{place(settings)} offers no SSH as we use it ({type(error).__name__}).", _ADDRESS) from error
    shown = transport.get_remote_server_key()
    _compare(HostKey(shown.get_name(), shown.asbytes()), settings, known)


def _compare(shown: HostKey, settings: SftpSettings, known: KnownKeys) -> None:
    """Raise HostKeyRefused unless the file trusts the key."""
    described = f"{shown.type} {shown.fingerprint}"
    if shown in known.revoked:
        raise HostKeyRefused(
            f"{place(settings)} shows a host key that {settings.host_key} revokes: {described}. Nothing was sent to "
            "it.",
            "Somebody may pose as the server: ask its owner.",
        )
    if shown in known.trusted:
        return
    if not known.trusted:
        raise HostKeyRefused(
            f"{place(settings)} is unknown: no line of {settings.host_key} names {known.name}. It shows {described}. "
            "Nothing was sent to it.",
            _how_to_add(settings),
        )
    expected = ", ".join(key.fingerprint for key in known.trusted if key.type == shown.type)
    raise HostKeyRefused(
        f"The host key of {place(settings)} has changed: it shows {described}, but {settings.host_key} has {expected}. "
        "Nothing was sent to it.",
        "Somebody may pose as the server. Ask its owner whether the key was changed; only then replace the line.",
    )


def _how_to_add(settings: SftpSettings) -> str:
    return (
        f"See what `ssh-keyscan -p {settings.port} {settings.host}` prints, have its owner confirm the fingerprint, "
        "and add the line to the file that CAMPAIGN_SFTP_HOST_KEY names."
    )


def _sign_in(transport: paramiko.Transport, settings: SftpSettings, key: paramiko.PKey) -> None:
    login = f"the key {key.fingerprint} for the user {settings.user}"
    try:
        transport.auth_publickey(settings.user, key)
    except (paramiko.SSHException, EOFError, OSError) as error:
        if isinstance(error, paramiko.AuthenticationException) and transport.is_active():
            raise SftpSignInRefused(
                f"{place(settings)} refuses {login}.",
                "The key may have expired, or its public half or the user is not known there: see Key Management in "
                "the Campaign Control Panel, CAMPAIGN_SFTP_USER and CAMPAIGN_SFTP_PRIVATE_KEY.",
            ) from error
        raise Unreachable(f"{place(settings)} cut the connection during the sign-in.", _REACH) from error
    if not transport.is_authenticated():
        raise SftpSignInRefused(
            f"{place(settings)} takes {login}, but requires more.", "Have its owner allow sign-in by key alone."
        )


def _subsystem(transport: paramiko.Transport, settings: SftpSettings) -> paramiko.Channel:
    try:
        transport.set_keepalive(KEEP_ALIVE)
        channel = transport.open_session()
        channel.invoke_subsystem("sftp")
    except (paramiko.SSHException, EOFError, OSError) as error:
        if transport.is_active():
            raise SftpError(
                f"{place(settings)} accepts the sign-in but offers no SFTP.",
                "Check CAMPAIGN_SFTP_HOST and CAMPAIGN_SFTP_PORT, or have its owner switch SFTP on for this user.",
            ) from error
        raise Unreachable(f"{place(settings)} cut the connection after the sign-in.", "Ask its owner.") from error
    return channel
