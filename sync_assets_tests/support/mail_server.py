"""Run an SMTP server on loopback, with TLS and authentication, that keeps the messages it receives."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword

from sync_assets_tests.support.little_server import certificates

USER, PASSWORD = "sync", "smtp-password-7731"


@dataclass
class Mailbox:
    """The messages that a server received. `ca_file`: its CA. Recipients in `unknown` are refused.

    late: seconds until a message that was received is acknowledged.
    """

    ca_file: Path
    tls_only: bool
    port: int = 0
    messages: list[EmailMessage] = field(default_factory=list[EmailMessage])
    recipients: list[list[str]] = field(default_factory=list[list[str]])
    secure: list[bool] = field(default_factory=list[bool])
    users: list[str] = field(default_factory=list[str])
    unknown: set[str] = field(default_factory=set[str])
    late: float = 0.0

    async def handle_RCPT(self, _: Any, __: Any, envelope: Any, address: str, ___: Any) -> str:
        if address in self.unknown:
            return "550 no such mailbox"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _: Any, session: Any, envelope: Any) -> str:
        message = message_from_bytes(envelope.content, policy=policy.default)
        assert isinstance(message, EmailMessage)
        self.messages.append(message)
        self.recipients.append(list(envelope.rcpt_tos))
        self.secure.append(self.tls_only or session.ssl is not None)
        await asyncio.sleep(self.late)
        return "250 OK"


@contextmanager
def mail_server(directory: Path, security: str = "starttls") -> Iterator[Mailbox]:
    """Run the server. security: as in the configuration; authentication is required unless it is `none`."""
    authority, context = certificates(directory)
    box = Mailbox(authority, tls_only=security == "tls")

    def authenticate(_: Any, __: Any, ___: Any, ____: Any, given: Any) -> AuthResult:
        right = isinstance(given, LoginPassword) and given == LoginPassword(USER.encode(), PASSWORD.encode())
        box.users.append("right" if right else "wrong")
        return AuthResult(success=right, handled=False)

    options: dict[str, Any] = {}
    if security == "starttls":
        options = {"tls_context": context, "require_starttls": True}
    elif security == "tls":
        options = {"auth_require_tls": False}  # the connection is encrypted already
    if security != "none":
        options |= {"auth_required": True, "authenticator": authenticate}
    ssl_context = context if security == "tls" else None
    server = _AnyPort(box, hostname="127.0.0.1", port=0, ssl_context=ssl_context, **options)
    server.start()
    try:
        yield box
    finally:
        server.stop()


class _AnyPort(Controller):
    """A controller that can listen on a free port: aiosmtpd's start check would connect to the configured port, 0."""

    def _trigger_server(self) -> None:
        assert isinstance(self.server, asyncio.Server)
        self.port = self.server.sockets[0].getsockname()[1]
        self.handler.port = self.port
        super()._trigger_server()
