"""Emulator of Campaign's SFTP server: sign-in by RSA key, one user, one directory tree
(docs/dev/references/campaign.md 8).

Runs in threads, as paramiko does; `record` and the fault rules are called in these threads.

Invariant: no file outside of the directory tree can be reached.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import socket
import stat
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

import paramiko
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from paramiko import SFTPAttributes
from paramiko.common import (
    AUTH_FAILED,
    AUTH_SUCCESSFUL,
    OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED,
    OPEN_SUCCEEDED,
)
from paramiko.sftp import SFTP_EOF, SFTP_FAILURE, SFTP_NO_SUCH_FILE, SFTP_OK, SFTP_PERMISSION_DENIED

from sync_assets.sandbox.faults import Faults, Rule
from sync_assets.sandbox.files import write_private
from sync_assets.sandbox.openssh_extensions import OpenSshSftp

EXPORTS = "d365_loads/exports"
IMPORTS = "d365_loads/imports"
_READING = frozenset({"drip", "bomb"})
_WRITING = frozenset({"full", "cut_write", "slow_write"})
KINDS = frozenset({"status", "slow", "cut_before"}) | _READING | _WRITING
"""Kinds of faults: `status` answers SFTP_FAILURE, `slow` waits for `delay_ms`, `cut_before` cuts the connection.

For a file that is opened for reading: `drip` sends a byte of it every `seconds` (1.0), `bomb` sends `megabytes` (2000)
of spaces instead of it. For one that is opened for writing: `full` answers SFTP_FAILURE to what exceeds its first
`bytes` (0), `cut_write` cuts the connection there, `slow_write` waits for `delay_ms` (1000) before each write.
"""

Record = Callable[[str, str, int, float], None]
"""Receives (operation, path, status, milliseconds). Status as in HTTP: 200, 404, 403, 500; 0 for a cut connection."""

_STATUS = {SFTP_NO_SUCH_FILE: 404, SFTP_PERMISSION_DENIED: 403}


def _is_error(record: logging.LogRecord) -> bool:
    """Return False for a connection that its client broke off, as a killed program does."""
    return not record.getMessage().startswith("Socket exception")


class SftpServer:
    """An SFTP server on 127.0.0.1 that runs in threads between `start` and `stop`. Files have mode 0600."""

    def __init__(
        self,
        directory: Path,
        port: int = 0,
        *,
        record: Record | None = None,
        faults: Faults | None = None,
    ) -> None:
        """Create keys, and bind the port.

        Args:
            directory: For the keys, `known_hosts` and the served tree `sftp/`.
            port: 0 for a free one.
            record: Called after each operation.
            faults: The active rules.
        """
        self.user = "acme"
        self.root = (directory / "sftp").resolve()
        self.exports = self.root / EXPORTS
        for folder in (EXPORTS, IMPORTS):
            (self.root / folder).mkdir(parents=True, exist_ok=True)
        self.capacity: int | None = None
        """Bytes that fit into the tree: `statvfs` shows them, and further ones are refused. None: those of the disk."""
        self.largest = 0
        """Most bytes that were in the tree after a file was written."""
        self.private_key_file = directory / "sftp_key"
        self.known_hosts_file = directory / "known_hosts"
        self.record = record or (lambda *_: None)
        self.faults = faults
        if faults is not None:
            faults.register("sftp", KINDS)
        self._directory = directory
        self._authorized = _make_key(self.private_key_file)
        self._host_key = paramiko.ECDSAKey.generate()
        logging.getLogger("paramiko.transport").addFilter(_is_error)
        self._socket = socket.create_server(("127.0.0.1", port))
        self.port: int = self._socket.getsockname()[1]
        self._transports: set[paramiko.Transport] = set()
        self._acceptor = threading.Thread(target=self._accept, name="sftp", daemon=True)
        name, value = self._host_key.get_name(), self._host_key.get_base64()
        lines = [f"[{host}]:{self.port} {name} {value}\n" for host in ("localhost", "127.0.0.1")]
        write_private(self.known_hosts_file, "".join(lines).encode())

    def start(self) -> None:
        self._acceptor.start()

    def stop(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes accept(); close() alone does not
        self._socket.close()
        for transport in list(self._transports):
            transport.close()
        if self._acceptor.is_alive():
            self._acceptor.join(1)

    def used(self) -> int:
        """Return the size of all files in the tree, in bytes."""
        total = 0
        for file in self.root.rglob("*"):
            with contextlib.suppress(FileNotFoundError):  # another thread has deleted it
                total += 0 if file.is_dir() else file.lstat().st_size
        return total

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            transport = paramiko.Transport(connection)
            transport.daemon = True
            _modern_algorithms_only(transport)
            transport.add_server_key(self._host_key)
            transport.set_subsystem_handler("sftp", OpenSshSftp, _Files, server_state=self, transport=transport)
            self._transports = {known for known in self._transports if known.is_active()} | {transport}
            with contextlib.suppress(paramiko.SSHException, EOFError, OSError):
                # With an event it returns at once, so a client that stalls in its handshake does not block others.
                transport.start_server(threading.Event(), _SignIn(self.user, self._authorized))


_OLD = re.compile(r"-cbc|md5|sha1|^ssh-(?:rsa|dss)$")
"""Names of algorithms with CBC, MD5 or SHA-1, which Adobe's server does not offer either [assumed]."""


def _modern_algorithms_only(transport: paramiko.Transport) -> None:
    options = transport.get_security_options()
    for kind in ("ciphers", "digests", "kex", "key_types"):
        setattr(options, kind, [name for name in getattr(options, kind) if not _OLD.search(name)])


class _SignIn(paramiko.ServerInterface):
    """Accepts one user with one public key."""

    def __init__(self, user: str, key: paramiko.PKey) -> None:
        self._user, self._key = user, key

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        is_valid = username == self._user and key == self._key
        return AUTH_SUCCESSFUL if is_valid else AUTH_FAILED

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return OPEN_SUCCEEDED if kind == "session" else OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED


class _Files(paramiko.SFTPServerInterface):
    """File operations below the root. Paths that lead outside, by dots or by symbolic links, do not exist."""

    def __init__(
        self, server: paramiko.ServerInterface, *, server_state: SftpServer, transport: paramiko.Transport
    ) -> None:
        super().__init__(server)
        self._state, self._transport = server_state, transport

    def _inside(self, path: str, *, follow: bool = True) -> Path:
        """Return the file for a path of the client. Raises FileNotFoundError if it is outside of the root."""
        target = self._state.root / self.canonicalize(path).lstrip("/")
        real = target.resolve() if follow or target == self._state.root else target.parent.resolve() / target.name
        if not real.is_relative_to(self._state.root):
            raise FileNotFoundError
        return real

    def _do(self, operation: str, path: str, action: Callable[[], Any]) -> Any:
        """Run an operation: apply faults, convert OSError into SFTP codes, and write the journal."""
        started = time.perf_counter()
        faults = self._state.faults
        kinds = KINDS - {"write": _READING, "read": _WRITING}.get(operation, _READING | _WRITING)
        rule = faults.take("sftp", kinds, operation, path) if faults is not None and faults.rules else None
        if rule is not None and rule.kind == "cut_before":
            self._state.record(operation, path, 0, 0.0)
            self._transport.close()
            return SFTP_FAILURE
        if rule is not None and rule.kind == "slow":
            time.sleep(rule.parameters.get("delay_ms", 1000) / 1000)
        if rule is not None and rule.kind == "status":
            result: Any = SFTP_FAILURE
        else:
            try:
                result = action()
            except OSError as error:
                result = paramiko.SFTPServer.convert_errno(error.errno or 2)
            except ValueError:  # a NUL in the path
                result = SFTP_NO_SUCH_FILE
        _spoil(result, rule)
        failed = isinstance(result, int) and result != SFTP_OK
        status = _STATUS.get(result, 500) if failed else 200
        self._state.record(operation, path, status, (time.perf_counter() - started) * 1000)
        return SFTP_OK if result is None else result

    def list_folder(self, path: str) -> list[SFTPAttributes] | int:
        def entries() -> list[SFTPAttributes]:
            with os.scandir(self._inside(path)) as listing:
                return [SFTPAttributes.from_stat(entry.stat(follow_symlinks=False), entry.name) for entry in listing]

        return self._do("list", path, entries)

    def stat(self, path: str) -> SFTPAttributes | int:
        return self._do("stat", path, lambda: SFTPAttributes.from_stat(self._inside(path).stat()))

    def lstat(self, path: str) -> SFTPAttributes | int:
        return self._do("stat", path, lambda: SFTPAttributes.from_stat(self._inside(path, follow=False).lstat()))

    def open(self, path: str, flags: int, attr: SFTPAttributes) -> paramiko.SFTPHandle | int:
        return self._do("write" if flags & 3 else "read", path, lambda: self._open(path, flags))

    def _open(self, path: str, flags: int) -> paramiko.SFTPHandle | int:
        file = self._inside(path)
        if file.exists() and not stat.S_ISREG(file.stat().st_mode):
            return SFTP_FAILURE
        mode = {os.O_RDONLY: "rb", os.O_WRONLY: "ab" if flags & os.O_APPEND else "wb"}.get(flags & 3)
        if mode is None:
            mode = "a+b" if flags & os.O_APPEND else "r+b"
        stream = os.fdopen(os.open(file, flags, 0o600), mode)
        handle = _Handle(flags)
        handle.state, handle.transport = self._state, self._transport
        cast("Any", handle).readfile = cast("Any", handle).writefile = stream
        return handle

    def remove(self, path: str) -> int:
        return self._do("remove", path, lambda: self._inside(path, follow=False).unlink())

    def rename(self, oldpath: str, newpath: str) -> int:
        def rename() -> int | None:
            source, target = self._inside(oldpath, follow=False), self._inside(newpath, follow=False)
            if os.path.lexists(target):
                return SFTP_FAILURE  # in version 3 of the protocol, rename does not replace a file
            source.rename(target)
            return None

        return self._do("rename", oldpath, rename)

    def posix_rename(self, oldpath: str, newpath: str) -> int:
        action = partial(self._inside, follow=False)
        return self._do("rename", oldpath, lambda: action(oldpath).replace(action(newpath)) and None)

    def mkdir(self, path: str, attr: SFTPAttributes) -> int:
        return self._do("mkdir", path, lambda: self._inside(path, follow=False).mkdir(0o700))

    def rmdir(self, path: str) -> int:
        return self._do("rmdir", path, lambda: self._inside(path, follow=False).rmdir())

    def chattr(self, path: str, attr: SFTPAttributes) -> int:
        return self._do("setstat", path, lambda: _set_attributes(self._inside(path), attr))

    def statvfs(self, path: str) -> os.statvfs_result | int:
        return self._do("statvfs", path, lambda: self._statvfs(self._inside(path)))

    def _statvfs(self, folder: Path) -> os.statvfs_result:
        disk, capacity = os.statvfs(folder), self._state.capacity
        if capacity is None:
            return disk
        free = max(0, capacity - self._state.used())
        return os.statvfs_result((1, 1, capacity, free, free, *disk[5:], disk.f_fsid))


class _Handle(paramiko.SFTPHandle):
    """An open file, with the fault that applies to reading it."""

    fault: Rule | None = None
    state: SftpServer
    transport: paramiko.Transport

    def read(self, offset: int, length: int) -> bytes | int:
        if self.fault is not None and self.fault.kind == "bomb":
            remaining = int(self.fault.parameters.get("megabytes", 2000)) * (1 << 20) - offset
            return b" " * min(remaining, length) if remaining > 0 else SFTP_EOF
        if self.fault is not None and self.fault.kind == "drip":
            time.sleep(float(self.fault.parameters.get("seconds", 1)))
            length = 1
        return super().read(offset, length)

    def write(self, offset: int, data: Any) -> int:
        rule, capacity = self.fault, self.state.capacity
        if rule is not None and rule.kind == "slow_write":
            time.sleep(rule.parameters.get("delay_ms", 1000) / 1000)
        elif rule is not None and rule.kind in _WRITING:
            room = int(rule.parameters.get("bytes", 0)) - offset
            if len(data) > room:
                super().write(offset, data[: max(0, room)])
                if rule.kind == "cut_write":
                    self.transport.close()
                return SFTP_FAILURE
        if capacity is not None and self.state.used() + len(data) > capacity:
            return SFTP_FAILURE
        return super().write(offset, data)

    def close(self) -> None:
        super().close()
        self.state.largest = max(self.state.largest, self.state.used())

    def stat(self) -> SFTPAttributes | int:
        return SFTPAttributes.from_stat(os.fstat(cast("Any", self).readfile.fileno()))

    def chattr(self, attr: SFTPAttributes) -> int:
        _set_attributes(cast("Any", self).readfile.fileno(), attr)
        return SFTP_OK


def _spoil(opened: Any, rule: Rule | None) -> None:
    """Store the fault in an opened file. Other results of an operation are not affected."""
    if isinstance(opened, _Handle):
        opened.fault = rule


def _set_attributes(file: Path | int, attributes: SFTPAttributes) -> None:
    """Set size and times of a file. Owner and mode are ignored without an error."""
    if attributes.st_size is not None:
        os.truncate(file, attributes.st_size)
    if attributes.st_mtime is not None:
        os.utime(file, (attributes.st_atime or 0, attributes.st_mtime))


def _make_key(file: Path) -> paramiko.PKey:
    """Write a new RSA 2048 private key in OpenSSH format. Return it as a key of paramiko, to compare public keys."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    write_private(
        file,
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
        ),
    )
    return paramiko.RSAKey(key=key)
