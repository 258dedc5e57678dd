"""Parse a known_hosts file: the keys that a server may show (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT).

Not paramiko's parser: that keeps one key of a type for each host, supports neither patterns nor `@revoked`, and fails
on a second blank. Pure: text in, keys out.
"""

import base64
import binascii
import hashlib
import hmac
import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class HostKey:
    """A public key in its wire format: `blob` begins with the name of its own type."""

    type: str
    blob: bytes

    @property
    def fingerprint(self) -> str:
        """Return the fingerprint as ssh-keygen shows it, `SHA256:...`."""
        return "SHA256:" + base64.b64encode(hashlib.sha256(self.blob).digest()).decode().rstrip("=")


@dataclass(frozen=True, slots=True)
class KnownKeys:
    """The keys of one server in the file. `name`: how the file must write the server."""

    name: str
    trusted: tuple[HostKey, ...]
    revoked: tuple[HostKey, ...]


def known_keys(text: str, host: str, port: int) -> KnownKeys:
    """Return the keys of a server.

    Unreadable lines are skipped, and so are certificate authorities: we only negotiate plain keys. As for
    OpenSSH, only a line feed ends a line: another line separator of Unicode's does not end a comment.
    """
    name = host.lower() if port == 22 else f"[{host.lower()}]:{port}"
    trusted: list[HostKey] = []
    revoked: list[HostKey] = []
    for line in text.split("\n"):
        marker, fields = "", re.split("[ \t]+", line.strip(" \t\r"))
        if fields[0].startswith("@"):
            marker, fields = fields[0], fields[1:]
        if len(fields) < 3 or fields[0].startswith("#") or not _names(fields[0], name):
            continue
        key = _key(fields[1], fields[2])
        if key and marker in ("", "@revoked"):
            (revoked if marker else trusted).append(key)
    return KnownKeys(name, tuple(trusted), tuple(revoked))


def _names(field: str, name: str) -> bool:
    """Return True if the first field of a line means this server.

    The field is a hash, or patterns with * and ?; a pattern after ! excludes the server.
    """
    if field.startswith("|"):  # `|1|salt|hash`, both in base64: the HMAC-SHA1 of the name
        try:
            _, version, salt, hashed = field.split("|")
            expected = hmac.new(base64.b64decode(salt), name.encode(), hashlib.sha1).digest()
            return version == "1" and hmac.compare_digest(expected, base64.b64decode(hashed))
        except ValueError:
            return False
    named = False
    for pattern in field.lower().split(","):
        # Not fnmatch, which takes the brackets of `[host]:port` for a set of characters.
        form = re.escape(pattern.removeprefix("!")).replace(r"\*", ".*").replace(r"\?", ".")
        if re.fullmatch(form, name):
            if pattern.startswith("!"):
                return False
            named = True
    return named


def _key(type_: str, encoded: str) -> HostKey | None:
    """Return the key of a line; None if it is no key, or if the line and the key name different types."""
    try:
        blob = base64.b64decode(encoded, validate=True)
    except binascii.Error:
        return None
    length = int.from_bytes(blob[:4], "big")
    return HostKey(type_, blob) if blob[4 : 4 + length] == type_.encode() else None
