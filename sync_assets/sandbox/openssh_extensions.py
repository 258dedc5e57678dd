"""The parts of OpenSSH's SFTP server that paramiko's lacks: announced extensions, statvfs, the exit status.

Here: packets. What the server does with files is in `sftp.py`.
"""

from __future__ import annotations

import contextlib
from typing import Any, cast

import paramiko
from paramiko.message import Message
from paramiko.sftp import CMD_EXTENDED, CMD_EXTENDED_REPLY, CMD_INIT, CMD_NAMES, CMD_VERSION

CMD_NAMES.setdefault(CMD_EXTENDED, "extended")

_PROTOCOL = 3
_EXTENSIONS = ("posix-rename@openssh.com", "1", "statvfs@openssh.com", "2")
"""Name and version of each extension, as OpenSSH announces them."""


class OpenSshSftp(paramiko.SFTPServer):
    """paramiko's server with OpenSSH's extensions, for which paramiko has no public hook, and with an exit status."""

    def start_subsystem(self, name: str, transport: paramiko.Transport, channel: paramiko.Channel) -> None:
        super().start_subsystem(name, transport, channel)
        with contextlib.suppress(paramiko.SSHException, EOFError, OSError):  # the client may have left
            channel.send_exit_status(0)  # without it scp reports a failure

    def _send_server_version(self) -> None:
        """Answer the client's first packet with the version of the protocol and the extensions."""
        me = cast("Any", self)
        kind, _ = me._read_packet()
        if kind != CMD_INIT:
            raise paramiko.SFTPError("Incompatible sftp protocol")
        answer = Message()
        answer.add_int(_PROTOCOL)
        for text in _EXTENSIONS:
            answer.add_string(text)
        me._send_packet(CMD_VERSION, answer)

    def _process(self, t: int, request_number: int, msg: Message) -> None:
        if t == CMD_EXTENDED:
            start = msg.packet.tell()
            if msg.get_text() == "statvfs@openssh.com":
                self._statvfs(request_number, msg.get_text())
                return
            msg.packet.seek(start)
        cast("Any", super())._process(t, request_number, msg)

    def _statvfs(self, request_number: int, path: str) -> None:
        me = cast("Any", self)
        disk = me.server.statvfs(path)
        if isinstance(disk, int):
            me._send_status(request_number, disk)
            return
        answer = Message()
        answer.add_int(request_number)
        for number in (
            disk.f_bsize, disk.f_frsize, disk.f_blocks, disk.f_bfree, disk.f_bavail, disk.f_files,
            disk.f_ffree, disk.f_favail, disk.f_fsid, disk.f_flag, disk.f_namemax,
        ):  # fmt: skip
            answer.add_int64(number & 0xFFFFFFFFFFFFFFFF)
        me._send_packet(CMD_EXTENDED_REPLY, answer)
