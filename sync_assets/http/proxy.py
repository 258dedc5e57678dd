"""The environment's HTTP proxy for a URL, and TCP connections through it (CONNECT) for SFTP and mail.

A proxy's address stands in the errors of HTTP libraries, and these reach logs and Dagster's storage. So the credentials
leave the address here, before a library gets it. For TCP only `SFTP_PROXY` and `SMTP_PROXY` count, not `ALL_PROXY`:
few proxies permit ports other than 443.
"""

import socket
import urllib.request
from base64 import b64encode
from dataclasses import dataclass, field
from functools import lru_cache
from urllib.parse import unquote, urlsplit

from sync_assets.errors import reason
from sync_assets.http.transport import NotSent
from sync_assets.own_secrets import remember


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy. address: scheme, host and port, no more. user, password: empty if the proxy asks for none."""

    address: str
    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)

    @property
    def headers(self) -> dict[str, str]:
        """Headers that sign in at the proxy; none if it asks for nothing."""
        if not self.user:
            return {}
        return {"Proxy-Authorization": f"Basic {b64encode(f'{self.user}:{self.password}'.encode()).decode()}"}


@lru_cache(maxsize=64)
def environment_proxy(scheme: str, host: str) -> Proxy | None:
    """Return the proxy that `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY` name for a URL.

    Raises NotSent if the variable is no proxy's address; the error does not quote it.
    """
    if urllib.request.proxy_bypass(host):
        return None
    proxies = urllib.request.getproxies()
    named = next((name for name in (scheme, "all") if proxies.get(name)), None)
    return _parsed(named, proxies[named]) if named else None


def _parsed(named: str, value: str) -> Proxy:
    try:
        parts = urlsplit(value if "://" in value else f"http://{value}")
        host, port = parts.hostname, parts.port
    except ValueError:
        parts, host, port = urlsplit(""), "", None
    if parts.scheme not in ("http", "https") or not host or not host.isascii():
        raise NotSent(
            f"{named.upper()}_PROXY is not the address of an HTTP proxy.",
            "Write it as http://host:port, or http://user:password@host:port with special characters %-quoted.",
        ) from None
    host = f"[{host}]" if ":" in host else host
    address = f"{parts.scheme}://{host}{f':{port}' if port else ''}"
    return Proxy(address, unquote(parts.username or ""), remember(unquote(parts.password or "")))


LONGEST_ANSWER = 16_384
"""Bytes of a proxy's answer."""


def open_connection(scheme: str, host: str, port: int, timeout: float) -> socket.socket:
    """Connect to a host: directly, or through the proxy in `<SCHEME>_PROXY` unless `NO_PROXY` lists the host.

    Args:
        scheme: `sftp` or `smtp`.
        host: The proxy resolves it, if there is one.
        port: The host's.
        timeout: Seconds for each wait on the socket, also later.

    Raises:
        NotSent: The proxy refused, or is out of reach; the error names it and the variable.
        OSError: The host is out of reach, without a proxy.
    """
    proxy = environment_proxy(scheme, host) if urllib.request.getproxies().get(scheme) else None
    if proxy is None:
        return socket.create_connection((host, port), timeout)
    variable = f"{scheme.upper()}_PROXY"
    parts = urlsplit(proxy.address)
    if parts.scheme != "http":
        raise NotSent(f"{variable} names a proxy with https.", "Write it as http://host:port.")
    if not host.isascii():
        raise NotSent(f"The {scheme} host {host} is not written in ASCII letters.", "Write its name as in DNS (xn--…).")
    try:
        connection = socket.create_connection((parts.hostname, parts.port or 80), timeout)
    except OSError as error:
        raise NotSent(
            f"The proxy {proxy.address} cannot be reached ({reason(error)}).", f"Check {variable} and the network."
        ) from None
    try:
        status = _connect(connection, proxy, f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
    except (OSError, ValueError, IndexError):
        connection.close()
        raise NotSent(f"The proxy {proxy.address} gave no valid answer.", f"Check {variable}.") from None
    if 200 <= status < 300:
        return connection
    connection.close()
    if status == 407:
        raise NotSent(f"The proxy {proxy.address} wants a user and a password (407).", f"Check those in {variable}.")
    raise NotSent(
        f"The proxy {proxy.address} does not connect to {host}:{port} ({status}).",
        f"Check {variable}, NO_PROXY, and whether the proxy allows this host and port.",
    )


def _connect(connection: socket.socket, proxy: Proxy, target: str) -> int:
    """Return the status of the proxy's answer. What follows the answer is the server's, and stays unread."""
    headers = {"Host": target, **proxy.headers}
    lines = [f"CONNECT {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    connection.sendall("\r\n".join(lines).encode("ascii"))
    answer = bytearray()
    while not answer.endswith(b"\r\n\r\n"):
        byte = connection.recv(1)
        if not byte or len(answer) >= LONGEST_ANSWER:
            raise ValueError
        answer += byte
    return int(answer.split(None, 2)[1])
