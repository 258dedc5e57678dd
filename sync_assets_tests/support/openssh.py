"""Run an OpenSSH server for tests, if `sshd` is installed: SFTP for the current user, on a free loopback port."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import pytest

from sync_assets.config.environment import SftpSettings

START_SECONDS = 20
KEY_TYPES = ("ed25519", "ecdsa", "rsa")
EXPORTS = "d365_loads/exports"


def sshd() -> str:
    """Return the path of sshd. Skips the test if it is not installed."""
    result = shutil.which("sshd", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"]))
    if result is None or shutil.which("ssh-keygen") is None:
        pytest.skip("no sshd here: install OpenSSH's server (Debian: openssh-server) to run this test")
    return result


def make_key(file: Path, type_: str = "rsa", *, passphrase: str = "") -> Path:
    """Create a key pair, `file` and `file`.pub, with ssh-keygen."""
    bits = ["-b", "2048"] if type_ == "rsa" else []
    subprocess.run(["ssh-keygen", "-q", "-t", type_, *bits, "-N", passphrase, "-C", "", "-f", file], check=True)
    return file


class OpenSsh:
    """A running server; `with` stops it.

    Args:
        folder: For the keys, `known_hosts`, and the tree `sftp/`, in which sessions start.
        host_keys: Types of the server's keys.
        client_keys: Types of the authorized keys.
        subsystem: The command that serves SFTP; None for no SFTP.
        more: Further lines of sshd's configuration.
        password: True to allow sign-in by password, too.
        key_options: Options of each authorized key.
    """

    def __init__(
        self,
        folder: Path,
        *,
        host_keys: Sequence[str] = ("ed25519",),
        client_keys: Sequence[str] = ("ed25519",),
        subsystem: str | None = "internal-sftp",
        more: Sequence[str] = (),
        password: bool = False,
        key_options: str = "",
    ) -> None:
        self._program, self._folder = sshd(), folder
        self.root = folder / "sftp"
        self.exports = self.root / EXPORTS
        self.exports.mkdir(parents=True)
        self.user = pwd.getpwuid(os.getuid()).pw_name
        self.host_keys = {type_: make_key(folder / f"host_{type_}", type_) for type_ in host_keys}
        self.client_keys = {type_: make_key(folder / f"client_{type_}", type_) for type_ in client_keys}
        authorized = folder / "authorized_keys"
        authorized.write_text(
            "".join(f"{key_options} {public(file)}\n".lstrip() for file in self.client_keys.values()), "ascii"
        )
        self.known_hosts_file = folder / "known_hosts"
        lines = [
            *(f"HostKey {file}" for file in self.host_keys.values()),
            f"AuthorizedKeysFile {authorized}",
            "ListenAddress 127.0.0.1",
            "PidFile none",
            "LogLevel DEBUG1",
            "StrictModes no",
            "UsePAM no",
            "PermitRootLogin yes",
            f"PasswordAuthentication {'yes' if password else 'no'}",
            "KbdInteractiveAuthentication no",
            *more,
        ]
        if subsystem is not None:
            start = f" -d {self.root}" if subsystem.startswith("internal-sftp") else ""
            lines.append(f"Subsystem sftp {subsystem}{start}")
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd needs it if it runs as root
        self._start(lines)
        self.known_hosts_file.write_text(
            "".join(f"[127.0.0.1]:{self.port} {public(file)}\n" for file in self.host_keys.values()), "ascii"
        )

    @property
    def settings(self) -> SftpSettings:
        first = next(iter(self.client_keys.values()))
        return SftpSettings("127.0.0.1", self.port, self.user, first, self.known_hosts_file)

    @property
    def log(self) -> str:
        """Return the server's log so far."""
        return self._log_file.read_text("utf-8", "replace")

    def _start(self, lines: Sequence[str]) -> None:
        configuration, self._log_file = self._folder / "sshd_config", self._folder / "sshd.log"
        # From version 9.8 on, sshd blocks clients after several failed sign-ins, as tests cause them. Older versions
        # reject the option.
        for unpunished in (["PerSourcePenalties no"], []):
            configuration.write_text("\n".join([*lines, *unpunished, ""]))
            command = [self._program, "-t", "-f", configuration]
            test = subprocess.run(command, check=False, capture_output=True, text=True)
            if test.returncode == 0:
                break
        else:
            raise AssertionError(f"sshd does not like its configuration: {test.stderr}")
        for _ in range(3):  # the port may be taken between finding and using it
            with socket.create_server(("127.0.0.1", 0)) as free:
                self.port: int = free.getsockname()[1]
            with self._log_file.open("wb") as log:
                self._process = subprocess.Popen(
                    [self._program, "-D", "-e", "-f", configuration, "-p", str(self.port)], stderr=log
                )
            started = time.monotonic()
            while "Server listening on" not in self.log:
                if self._process.poll() is not None:
                    break
                if time.monotonic() - started > START_SECONDS:
                    self.stop()
                    raise AssertionError(f"sshd did not start:\n{self.log}")
                time.sleep(0.01)
            else:
                return
        raise AssertionError(f"sshd did not start:\n{self.log}")

    def stop(self) -> None:
        """Stop the server. Open connections stay until their clients end them."""
        self._process.terminate()
        self._process.wait(10)

    def __enter__(self) -> OpenSsh:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()


def public(private_key: Path) -> str:
    """Return the public key as in known_hosts and authorized_keys: type and key."""
    return private_key.with_name(private_key.name + ".pub").read_text("ascii").strip()
