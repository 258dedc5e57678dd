"""The environment's HTTP proxy for a URL, with its user and password taken out of its address.

A proxy's address stands in the errors of HTTP libraries, and these reach logs and Dagster's storage. So the credentials
leave the address here, before a library gets it.
"""

from __future__ import annotations

import urllib.request
from base64 import b64encode
from dataclasses import dataclass, field
from functools import lru_cache
from urllib.parse import unquote, urlsplit

from sync_assets.http.transport import NotSent


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
    return Proxy(address, unquote(parts.username or ""), unquote(parts.password or ""))
