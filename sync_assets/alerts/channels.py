"""The channels of notifications: a webhook (Teams, Slack and any that accept `{"text": ...}`) and e-mail by SMTP; and
the pings of a monitoring service while the synchronisation works, which raises the alarm once they stop.

A sender either delivers the notification or raises ChannelError; NoAnswer if it may have been delivered. The error's
text never contains the webhook's address, which is a secret, a password, or the other side's answer.

A host or a daemon that is down sends no alerts, which only another system can notice. A ping is a GET of
SYNC_ASSETS_HEARTBEAT_URL without any data, and a failed one never stops the caller.
"""

import asyncio
import json
import logging
import smtplib
import socket
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from typing import NamedTuple
from urllib.parse import urlsplit

from sync_assets.alerts.incidents import Incident, Memory, notifications, subject, text, unanswered
from sync_assets.config.environment import AlertSettings
from sync_assets.config.runs import Alerts, Email
from sync_assets.errors import SyncAssetsError, reason
from sync_assets.foreign_text import chat, one_line, printable
from sync_assets.http.proxy import open_connection
from sync_assets.http.transport import Limits, NotSent, NotTrusted, OutcomeUnknown, Response, certificate_remedy
from sync_assets.runtime.configuration import Configuration

SECONDS = 10.0
"""How long each side may take to answer: a sensor's tick must end within a minute."""

TEAMS_HOSTS = (
    ".logic.azure.com",
    ".api.powerplatform.com",
    ".powerautomate.com",
    ".flow.microsoft.com",
    ".webhook.office.com",
)
"""Ends of the hosts of Teams' webhooks."""
LARGEST_CARD = 24_000
"""Bytes of a card at most; Teams takes messages up to 28 KB.
https://learn.microsoft.com/microsoftteams/platform/webhooks-and-connectors/how-to/add-incoming-webhook
"""

NO_NEWS = ": no news"
_UNREACHED = "Check SYNC_ASSETS_ALERT_WEBHOOK, HTTPS_PROXY and the network."
NO_ANSWER = "It may have arrived. If its incident lasts it is sent again after an hour."

Send = Callable[[str, str], None]
"""Deliver a notification, given its subject and its text. Raises ChannelError."""


class ChannelError(SyncAssetsError):
    """Raised when a notification could not be delivered."""


class NoAnswer(ChannelError):
    """Raised when a notification was sent and no answer arrived in time: it may have been delivered."""


def senders(configuration: Configuration) -> dict[str, Send]:
    """Return the sender of each configured channel. Raises SettingsError if variables are wrong."""
    from sync_assets.http.transport import ssl_context  # noqa: PLC0415

    alerts, settings = configuration.config.alerts, configuration.settings.alerts()
    context, by_name = ssl_context(configuration.settings.ca_bundle), dict[str, Send]()
    if alerts and alerts.webhook:
        teams = alerts.webhook == "teams"
        by_name["webhook"] = lambda subject, text: send_webhook(settings, context, text, teams=teams)
    if alerts and (email := alerts.email):
        by_name["email"] = lambda subject, text: send_email(email, settings, context, subject, text)
    return by_name


class Channel(NamedTuple):
    """A channel, and which incidents it gets now. errors_only: no warnings. quiet: what is of warnings waits."""

    send: Send
    errors_only: bool = False
    quiet: bool = False


def routed(configuration: Configuration, now: datetime) -> dict[str, Channel]:
    """Return each configured channel with what it gets at this moment. Raises SettingsError."""
    by_name, alerts = senders(configuration), configuration.config.alerts
    if alerts is None:
        return {}
    quiet = alerts.quiet_hours is not None and alerts.quiet_hours.include(now)
    return {name: Channel(send, getattr(alerts.least, name) == "error", quiet) for name, send in by_name.items()}


def channels(alerts: Alerts | None) -> list[str]:
    """Return the names of the configured channels."""
    if alerts is None:
        return []
    return [*(["webhook"] if alerts.webhook else []), *(["email"] if alerts.email else [])]


def notify_all(
    channels: Mapping[str, Channel],
    incidents: Sequence[Incident],
    successes: Mapping[str, datetime],
    memory: Mapping[str, Memory],
    now: datetime,
    ui_url: str,
) -> tuple[dict[str, Memory], list[str]]:
    """Send each channel the notifications that it did not get yet.

    Returns:
        The new memory of each channel, and a line about each, for the tick.
    """
    memories: dict[str, Memory] = {}
    lines: list[str] = []
    for name, (send, errors_only, quiet) in channels.items():
        channel_memory = memory.get(name, {})
        chosen = [incident for incident in incidents if not (incident.warns and (errors_only or quiet))]
        asleep = {id_: last for id_, last in channel_memory.items() if quiet and last.warns}
        awake = {id_: last for id_, last in channel_memory.items() if id_ not in asleep}
        notices, new_memory = notifications(chosen, successes, awake, now)
        new_memory = asleep | new_memory
        try:
            if notices:
                send(subject(notices), text(notices, ui_url))
        except NoAnswer as error:
            memories[name] = unanswered(new_memory, now)
            lines.append(f"{name}: sent, no answer. {error}")
        except ChannelError as error:
            memories[name] = channel_memory
            lines.append(f"{name}: not sent, it is tried again. {error}")
        else:
            memories[name] = new_memory
            new, lasting, resolved = len(notices.new), len(notices.lasting), len(notices.resolved)
            sent = f": sent {new} new, {lasting} lasting, {resolved} resolved"
            lines.append(name + (sent if notices else NO_NEWS))
    return memories, lines


def send_webhook(settings: AlertSettings, context: ssl.SSLContext, text: str, *, teams: bool = False) -> None:
    """Send one POST; any 2xx counts: Slack answers 200, a Teams workflow 202.

    A Teams workflow answers 202 to any body and posts Adaptive Cards only, so Teams gets a card: its hosts, and any
    address if `teams` is True. A redirect is not followed: it would send the notification to a host that was not
    configured.
    """
    from sync_assets.http.transport import HttpError  # noqa: PLC0415

    if settings.webhook is None:
        raise ChannelError("The webhook has no address.", "Set SYNC_ASSETS_ALERT_WEBHOOK in the environment.")
    address = settings.webhook.get_secret_value()
    teams = teams or f".{urlsplit(address).hostname or ''}".endswith(TEAMS_HOSTS)
    body = json.dumps(_teams_message(text) if teams else {"text": chat(text)}).encode()
    try:
        answer = request(context, "POST", address, body, SECONDS)
    except OutcomeUnknown:
        raise NoAnswer(f"The webhook gave no answer within {SECONDS:g} seconds.", NO_ANSWER) from None
    except HttpError as error:  # its own text holds the address
        raise ChannelError(
            f"The webhook cannot be reached ({reason(error)}).",
            error.remedy if isinstance(error, NotTrusted) else _UNREACHED,
        ) from None
    if answer.status == 504:  # of a gateway, which has passed the request on
        raise NoAnswer("The webhook did not answer its gateway in time (status 504).", NO_ANSWER)
    if answer.status == 429 or answer.status >= 500:
        raise ChannelError(f"The webhook has no time for the notice (status {answer.status}).", "Try again later.")
    if not 200 <= answer.status < 300:
        raise ChannelError(
            f"The webhook refused the notice (status {answer.status}).",
            "Create a new webhook address, and set SYNC_ASSETS_ALERT_WEBHOOK to it.",
        )


def _teams_message(text: str) -> dict[str, object]:
    """Return a message with one Adaptive Card, a paragraph for each line; as many lines as LARGEST_CARD allows.

    Text runs, unlike text blocks, render no Markdown, so foreign text in them links nowhere.
    https://learn.microsoft.com/microsoftteams/platform/task-modules-and-cards/cards/cards-format
    """
    body: list[dict[str, object]] = []
    budget = LARGEST_CARD
    for line in printable(text).split("\n"):
        paragraph: dict[str, object] = {"type": "RichTextBlock", "inlines": [{"type": "TextRun", "text": line}]}
        budget -= len(json.dumps(paragraph)) + 2
        if budget < 0:
            cut = "… and more: `sync-assets alerts` lists all."
            body.append({"type": "RichTextBlock", "inlines": [{"type": "TextRun", "text": cut}]})
            break
        body.append(paragraph)
    card = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.2",
        "body": body,
    }
    kind = "application/vnd.microsoft.card.adaptive"
    return {"type": "message", "attachments": [{"contentType": kind, "contentUrl": None, "content": card}]}


def request(context: ssl.SSLContext, method: str, address: str, body: bytes, seconds: float) -> Response:
    """Send one request through the transport of all requests. Raises HttpError, whose text holds the address."""
    import httpx  # noqa: PLC0415

    from sync_assets.http.aiohttp_transport import AiohttpTransport  # noqa: PLC0415

    async def exchange() -> Response:
        client = AiohttpTransport(context, 1, httpx.Timeout(seconds), limits=Limits(1 << 20, seconds))
        try:
            return await client.exchange(method, address, {"Content-Type": "application/json"} if body else {}, body)
        finally:
            await client.aclose()

    return asyncio.run(exchange())


def send_email(email: Email, settings: AlertSettings, context: ssl.SSLContext, subject: str, text: str) -> None:
    """Send one message to all recipients.

    It counts as delivered once the server accepts any recipient: a second try would reach those twice.
    """
    message = EmailMessage()
    message["Subject"] = one_line(subject)[:200]  # a line feed would begin a header of its own
    message["From"], message["To"] = email.sender, ", ".join(email.to)
    message["Date"], message["Message-ID"] = formatdate(), make_msgid(domain=email.sender.rpartition("@")[2])
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: suppresses out-of-office replies
    message.set_content(printable(text))
    where = f"The mail server {email.host}:{email.port}"
    try:
        with _connected(email, context) as server:
            if settings.smtp_user and settings.smtp_password:
                server.login(settings.smtp_user, settings.smtp_password.get_secret_value())
            try:
                server.send_message(message)
            except (TimeoutError, smtplib.SMTPServerDisconnected):  # smtplib raises the latter for a late answer
                raise NoAnswer(f"{where} gave no answer within {SECONDS:g} seconds.", NO_ANSWER) from None
    except smtplib.SMTPAuthenticationError:
        raise ChannelError(
            f"{where} refused the sign-in.", "Check SYNC_ASSETS_SMTP_USER and SYNC_ASSETS_SMTP_PASSWORD."
        ) from None
    except ssl.SSLError as error:
        raise ChannelError(
            f"{where} has no certificate that is trusted ({reason(error)}).",
            f"{certificate_remedy(error)} Else correct host, port and `security`.",
        ) from None
    except NotSent as error:
        raise ChannelError(f"{where} cannot be reached. {error.cause}", error.remedy) from None
    except (OSError, smtplib.SMTPException) as error:
        why = type(error).__name__ if isinstance(error, smtplib.SMTPException) else reason(error)
        raise ChannelError(
            f"{where} did not take the notice ({why}).",
            "Check host, port, `security`, `from` and `to` of `alerts.email`.",
        ) from None


class _ByProxy(smtplib.SMTP):
    """Connects through the proxy of SMTP_PROXY, if there is one."""

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        return open_connection("smtp", host, port, timeout)


class _TlsByProxy(smtplib.SMTP_SSL, _ByProxy):
    """TLS over `_ByProxy`: `SMTP_SSL._get_socket` wraps the socket that `_ByProxy._get_socket` returns."""


def _connected(email: Email, context: ssl.SSLContext) -> smtplib.SMTP:
    if email.security == "tls":
        return _TlsByProxy(email.host, email.port, timeout=SECONDS, context=context)
    server = _ByProxy(email.host, email.port, timeout=SECONDS)
    if email.security == "starttls":
        try:
            server.starttls(context=context)
        except BaseException:
            server.close()
            raise
    return server


INTERVAL_SECONDS = 60.0
ANSWER_SECONDS = 5.0
"""How long the service may take to answer: a tick of a sensor waits for it."""

_log = logging.getLogger(__name__)


class DeadManSwitch:
    """Pings at most once in INTERVAL_SECONDS, failed tries included; without an address it does nothing."""

    def __init__(self, configuration: Configuration, clock: Callable[[], float] = time.monotonic) -> None:
        self._configuration, self._clock = configuration, clock
        self._tried_at: float | None = None

    def ping(self) -> bool:
        """Return True if the service accepted a ping now. Raises nothing."""
        if self._tried_at is not None and self._clock() - self._tried_at < INTERVAL_SECONDS:
            return False
        self._tried_at = self._clock()
        try:
            from sync_assets.http.transport import ssl_context  # noqa: PLC0415

            address = self._configuration.settings.alerts().heartbeat
            if address is None:
                return False
            context = ssl_context(self._configuration.settings.ca_bundle)
            answer = request(context, "GET", address.get_secret_value(), b"", ANSWER_SECONDS)
            if 200 <= answer.status < 300:
                return True
            _log.warning("the monitoring service refused a ping", extra={"status": answer.status})
        except SyncAssetsError:  # the text of HttpError holds the address
            _log.warning("the monitoring service was not reached, which SYNC_ASSETS_HEARTBEAT_URL names")
        except Exception:  # noqa: BLE001  the invariant
            _log.warning("a ping of the monitoring service failed by an error of the program")
        return False
