"""The known_hosts file: which keys may a server show? (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT)

Not paramiko's reader: that takes one key of a type for each host, knows neither patterns nor `@revoked`, and stumbles
over a second blank. Pure: text in, keys out.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class HostKey:
    """A public key as it travels: `blob` begins with the name of its own type."""

    type: str
    blob: bytes

    @property
    def fingerprint(self) -> str:
        """As ssh-keygen shows it, `SHA256:...`."""
        return "SHA256:" + base64.b64encode(hashlib.sha256(self.blob).digest()).decode().rstrip("=")


@dataclass(frozen=True, slots=True)
class KnownKeys:
    """What the file says of one server. `name`: how the file has to write it."""

    name: str
    trusted: tuple[HostKey, ...]
    revoked: tuple[HostKey, ...]


def known_keys(text: str, host: str, port: int) -> KnownKeys:
    """The keys of a server. Lines that cannot be read are passed over, and so are certificate authorities: we ask for
    plain keys only."""
    name = host.lower() if port == 22 else f"[{host.lower()}]:{port}"
    trusted: list[HostKey] = []
    revoked: list[HostKey] = []
    for line in text.splitlines():
        marker, fields = "", line.split()
        if fields and fields[0].startswith("@"):
            marker, fields = fields[0], fields[1:]
        if len(fields) < 3 or fields[0].startswith("#") or not _names(fields[0], name):
            continue
        key = _key(fields[1], fields[2])
        if key and marker in ("", "@revoked"):
            (revoked if marker else trusted).append(key)
    return KnownKeys(name, tuple(trusted), tuple(revoked))


def _names(field: str, name: str) -> bool:
    """Does the first field of a line (a hash, or patterns with * and ?, ! in front: not these) mean this server?"""
    if field.startswith("|"):
        return _is_hash_of(field, name)
    found = False
    for pattern in field.lower().split(","):
        if _matches(pattern.removeprefix("!"), name):
            if pattern.startswith("!"):
                return False
            found = True
    return found


def _matches(pattern: str, name: str) -> bool:
    # not fnmatch: to that, the brackets of `[host]:port` are a set of characters
    return re.fullmatch(re.escape(pattern).replace(r"\*", ".*").replace(r"\?", "."), name) is not None


def _is_hash_of(field: str, name: str) -> bool:
    """`|1|salt|HMAC-SHA1 of the name`, both in base64."""
    try:
        _, version, salt, hashed = field.split("|")
        told = hmac.new(base64.b64decode(salt), name.encode(), hashlib.sha1).digest()
        return version == "1" and hmac.compare_digest(told, base64.b64decode(hashed))
    except ValueError:
        return False


def _key(type_: str, encoded: str) -> HostKey | None:
    """None: the line is no key, or says another type than the key itself."""
    try:
        blob = base64.b64decode(encoded, validate=True)
    except binascii.Error:
        return None
    length = int.from_bytes(blob[:4], "big")
    return HostKey(type_, blob) if blob[4 : 4 + length] == type_.encode() else None
