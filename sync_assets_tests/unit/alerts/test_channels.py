"""Notices reach a real web server and a real mail server; what goes wrong is told without a secret."""

import asyncio
import json
import ssl
from pathlib import Path

import pytest
from pydantic import SecretStr

from sync_assets.alerts import channels
from sync_assets.alerts.channels import LARGEST_CARD, ChannelError, NoAnswer, send_email, send_webhook
from sync_assets.config.environment import AlertSettings
from sync_assets.config.runs import Email
from sync_assets.http.proxy import environment_proxy
from sync_assets.http.transport import Response, ssl_context
from sync_assets_tests.support.little_server import CUT, LittleServer, answer
from sync_assets_tests.support.mail_server import PASSWORD, USER, Mailbox, mail_server
from sync_assets_tests.support.proxy_server import ProxyServer

SECRET = "T0000-B0000-hush"


def settings(webhook: str | None = None, password: str = PASSWORD) -> AlertSettings:
    return AlertSettings(SecretStr(webhook) if webhook else None, USER, SecretStr(password), "")


def email(box: Mailbox, security: str, **changes: object) -> Email:
    host = "127.0.0.1" if security == "none" else "localhost"
    known = {
        "host": host,
        "port": box.port,
        "security": security,
        "from": "sync@example.com",
        "to": ["ops@example.com"],
    }
    return Email.model_validate({**known, **changes})


async def posted(server: LittleServer, text: str = "Störung: 1", *, teams: bool = False) -> None:
    context = ssl_context(server.ca_file)
    await asyncio.to_thread(send_webhook, settings(f"{server.url}/{SECRET}?sig=hush"), context, text, teams=teams)


def card_lines(body: bytes) -> list[str]:
    """The lines that a Teams workflow posts: it takes each attachment's card, and drops everything else."""
    message = json.loads(body)
    assert message["type"] == "message"
    [attachment] = message["attachments"]
    assert attachment["contentType"] == "application/vnd.microsoft.card.adaptive"
    card = attachment["content"]
    assert (card["type"], card["version"]) == ("AdaptiveCard", "1.2")
    assert {(block["type"], *(run["type"] for run in block["inlines"])) for block in card["body"]} == {
        ("RichTextBlock", "TextRun")
    }
    return [block["inlines"][0]["text"] for block in card["body"]]


async def test_foreign_text_in_a_notice_has_no_mention_and_no_link(tmp_path: Path) -> None:
    async with LittleServer(tmp_path, lambda _: answer()) as server:
        await posted(server, "<!channel> optout_<https://evil.example|x>\x1b[2J.csv & more")
    text = json.loads(server.requests[0].body)["text"]
    assert text == "&lt;!channel&gt; optout_&lt;https://evil.example|x&gt; [2J.csv &amp; more"


def test_foreign_text_in_a_mail_makes_no_header(tmp_path: Path) -> None:
    with mail_server(tmp_path) as box:
        subject = "1 new: x\r\nBcc: eve@evil.example\n\nbody"
        send_email(email(box, "starttls"), settings(), ssl_context(box.ca_file), subject, "a \ud800 \x1b[2J\nb")
    [message] = box.messages
    assert message["Subject"] == "1 new: x Bcc: eve@evil.example body"
    assert message["Bcc"] is None
    assert box.recipients == [["ops@example.com"]]
    assert message.get_content().splitlines() == ["a    [2J", "b"]


@pytest.mark.parametrize("status", [200, 202])  # Slack, a Teams workflow
async def test_a_webhook_gets_the_text_as_json(tmp_path: Path, status: int) -> None:
    async with LittleServer(tmp_path, lambda _: answer(status, b"ok")) as server:
        await posted(server)
    [request] = server.requests
    assert (request.method, request.target) == ("POST", f"/{SECRET}?sig=hush")
    assert request.headers["content-type"] == "application/json"
    assert json.loads(request.body) == {"text": "Störung: 1"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (answer(404, b"no_service"), "status 404"),
        (answer(307, Location="https://elsewhere.example.com/"), "status 307"),
    ],
)
async def test_a_webhook_that_refuses_is_reported_without_its_address(
    tmp_path: Path, content: bytes, message: str
) -> None:
    async with LittleServer(tmp_path, lambda _: content) as server:
        with pytest.raises(ChannelError) as error:
            await posted(server)
    assert len(server.requests) == 1
    assert message in str(error.value)
    assert "SYNC_ASSETS_ALERT_WEBHOOK" in error.value.remedy
    assert "hush" not in str(error.value)
    assert error.value.__cause__ is None


async def test_teams_gets_a_card_whose_text_is_not_rendered(tmp_path: Path) -> None:
    async with LittleServer(tmp_path, lambda _: answer(202, b"")) as server:
        await posted(server, "New incidents:\n• a [b](https://evil.example) & <at>c</at>\x1b[2J", teams=True)
    assert card_lines(server.requests[0].body) == ["New incidents:", "• a [b](https://evil.example) & <at>c</at> [2J"]


@pytest.mark.parametrize(
    ("address", "teams"),
    [
        ("https://prod-1.westeurope.logic.azure.com:443/workflows/1/triggers/manual/paths/invoke?sig=x", True),
        ("https://d1.10.environment.api.powerplatform.com:443/powerautomate/workflows/1?sig=x", True),
        ("https://example.webhook.office.com/webhookb2/1", True),
        ("https://hooks.slack.com/services/T0/B0/x", False),
        ("https://logic.azure.com.example.com/workflows/1", False),
    ],
)
def test_a_webhook_of_teams_is_recognised_by_its_host(
    address: str, teams: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    bodies: list[bytes] = []

    def request(context: object, method: str, address: str, body: bytes, seconds: float) -> Response:
        bodies.append(body)
        return Response(202, {}, b"")

    monkeypatch.setattr(channels, "request", request)
    send_webhook(settings(address), ssl_context(), "x")
    assert json.loads(bodies[0]).keys() == ({"type", "attachments"} if teams else {"text"})


async def test_a_long_notice_is_cut_to_what_teams_takes(tmp_path: Path) -> None:
    async with LittleServer(tmp_path, lambda _: answer(202, b"")) as server:
        await posted(server, "\n".join(f"• {n} ü" * 100 for n in range(100)), teams=True)
    [request] = server.requests
    assert LARGEST_CARD - 2000 < len(request.body) < 28_000
    assert card_lines(request.body)[-1] == "… and more: `sync-assets alerts` lists all."


@pytest.mark.parametrize("content", [CUT, answer(504)])
async def test_a_webhook_without_an_answer_may_have_taken_it(tmp_path: Path, content: bytes) -> None:
    async with LittleServer(tmp_path, lambda _: content) as server:
        with pytest.raises(NoAnswer) as error:
            await posted(server)
    assert len(server.requests) == 1
    assert "hush" not in str(error.value)
    assert error.value.__cause__ is None


async def test_a_webhook_that_answers_late_may_have_taken_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channels, "SECONDS", 0.2)
    over = asyncio.Event()

    async def late(_: object) -> bytes:
        await over.wait()
        return answer()

    async with LittleServer(tmp_path, late) as server:
        with pytest.raises(NoAnswer, match=r"gave no answer within 0.2 seconds"):
            await posted(server)
        over.set()
    assert len(server.requests) == 1


async def test_a_webhook_with_a_certificate_of_an_unknown_authority_gets_nothing(tmp_path: Path) -> None:
    async with LittleServer(tmp_path, lambda _: answer()) as server:
        with pytest.raises(ChannelError):
            await asyncio.to_thread(send_webhook, settings(server.url), ssl.create_default_context(), "x")
    assert server.requests == []


def test_a_webhook_without_an_address_names_the_variable() -> None:
    with pytest.raises(ChannelError, match="SYNC_ASSETS_ALERT_WEBHOOK"):
        send_webhook(settings(), ssl_context(), "x")


@pytest.mark.parametrize("security", ["starttls", "tls"])
async def test_a_mail_passes_the_proxy_of_smtp_proxy_encrypted(
    tmp_path: Path, security: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with mail_server(tmp_path, security) as box:
        async with ProxyServer() as proxy:
            environment_proxy.cache_clear()
            monkeypatch.setenv("SMTP_PROXY", f"http://127.0.0.1:{proxy.port}")
            context = ssl_context(box.ca_file)
            await asyncio.to_thread(send_email, email(box, security), settings(), context, "1 new: x", "x")
    assert box.secure == [True]
    assert [head.split()[1] for head in proxy.requests] == [f"localhost:{box.port}"]


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_a_mail_goes_encrypted_and_signed_in_to_all_recipients(tmp_path: Path, security: str) -> None:
    with mail_server(tmp_path, security) as box:
        to = ["ops@example.com", "crm@example.com"]
        send_email(email(box, security, to=to), settings(), ssl_context(box.ca_file), "1 new: x", "Störung: 1\nZeile 2")
    [message] = box.messages
    assert (message["Subject"], message["From"]) == ("1 new: x", "sync@example.com")
    assert message["Auto-Submitted"] == "auto-generated"
    assert message.get_content().splitlines() == ["Störung: 1", "Zeile 2"]
    assert (box.recipients, box.secure, box.users) == ([to], [True], ["right"])


def test_a_mail_server_on_this_machine_needs_neither(tmp_path: Path) -> None:
    nobody = AlertSettings(None, None, None, "")
    with mail_server(tmp_path, "none") as box:
        send_email(email(box, "none"), nobody, ssl_context(), "s", "t")
    assert (len(box.messages), box.secure) == (1, [False])


def test_a_mail_that_one_recipient_got_is_not_sent_again_for_another_one(tmp_path: Path) -> None:
    with mail_server(tmp_path) as box:
        box.unknown.add("gone@example.com")
        both = email(box, "starttls", to=["gone@example.com", "ops@example.com"])
        send_email(both, settings(), ssl_context(box.ca_file), "s", "t")
        with pytest.raises(ChannelError, match=r"did not take the notice \(SMTPRecipientsRefused\)"):
            send_email(email(box, "starttls", to=["gone@example.com"]), settings(), ssl_context(box.ca_file), "s", "t")
    assert box.recipients == [["ops@example.com"]]


def test_a_mail_server_that_acknowledges_late_may_have_taken_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channels, "SECONDS", 0.5)
    with mail_server(tmp_path) as box:
        box.late = 1.0
        with pytest.raises(NoAnswer, match="may have arrived"):
            send_email(email(box, "starttls"), settings(), ssl_context(box.ca_file), "s", "t")
    assert len(box.messages) == 1


def test_a_wrong_password_is_reported_and_not_shown(tmp_path: Path) -> None:
    with mail_server(tmp_path) as box, pytest.raises(ChannelError) as error:
        send_email(email(box, "starttls"), settings(password="guessed"), ssl_context(box.ca_file), "s", "t")
    assert "refused the sign-in" in str(error.value)
    assert "SYNC_ASSETS_SMTP_PASSWORD" in error.value.remedy
    assert "guessed" not in str(error.value)
    assert box.messages == []


def test_no_password_is_sent_without_encryption(tmp_path: Path) -> None:
    """A server that offers no STARTTLS, or somebody in between who takes the offer away."""
    with (
        mail_server(tmp_path, "none") as box,
        pytest.raises(ChannelError, match=r"did not take the notice \(SMTPNotSupportedError\)"),
    ):
        send_email(email(box, "starttls"), settings(), ssl_context(box.ca_file), "s", "t")
    assert box.users == []
    with mail_server(tmp_path) as box, pytest.raises(ChannelError, match="SYNC_ASSETS_CA_BUNDLE"):
        send_email(email(box, "starttls"), settings(), ssl.create_default_context(), "s", "t")
    assert box.users == []


def test_a_mail_server_that_is_not_there_is_reported(tmp_path: Path) -> None:
    with mail_server(tmp_path) as box:
        pass
    with pytest.raises(ChannelError, match=r"did not take the notice \(Connection refused\)"):
        send_email(email(box, "starttls"), settings(), ssl_context(), "s", "t")
