"""The sensor as Dagster calls it, with the commands beside it: real events, a real web server, a real mail server."""

import asyncio
import json
from pathlib import Path

import dagster as dg
import pytest
import yaml

from sync_assets.alerts import channels
from sync_assets.cli.alerts import open_incidents
from sync_assets.cli.alerts import test_notifications as send_test
from sync_assets.commands.doctor import alerts
from sync_assets.config.files import CONFIG, SANDBOX_CONFIG
from sync_assets.config.loader import ConfigError, load_config
from sync_assets.defs.build import build_definitions
from sync_assets.errors import SyncAssetsError
from sync_assets.runtime.context import Runtime
from sync_assets_tests.support.little_server import LittleServer, answer
from sync_assets_tests.support.mail_server import PASSWORD, USER, Mailbox, mail_server

TABLE = {"table": "contact", "resource": "profile", "key": "externalId", "fields": {"lastname": "lastName"}}


def check(*, passed: bool) -> dg.AssetCheckEvaluation:
    return dg.AssetCheckEvaluation(
        asset_key=dg.AssetKey(["campaign", "profile"]),
        check_name="ready",
        passed=passed,
        description="`new_vip` goes to cusVip, which is not in profile",
    )


def written(tmp_path: Path, alerts: object) -> Path:
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump({"privacy_acknowledged": True, "tables": [TABLE], "alerts": alerts}))
    return file


def runtime(tmp_path: Path, box: Mailbox, url: str, webhook: bool | str = True) -> Runtime:
    email = {"host": "localhost", "port": box.port, "from": "sync@example.com", "to": ["ops@example.com"]}
    return Runtime(
        {
            "SYNC_ASSETS_CONFIG": str(written(tmp_path, {"webhook": webhook, "email": email})),
            "SYNC_ASSETS_ALERT_WEBHOOK": f"{url}/hook",
            "SYNC_ASSETS_SMTP_USER": USER,
            "SYNC_ASSETS_SMTP_PASSWORD": PASSWORD,
            "SYNC_ASSETS_CA_BUNDLE": str(box.ca_file),
            "SYNC_ASSETS_UI_URL": "http://dagster.intranet:3000/",
            "DAGSTER_HOME": str(tmp_path),
        }
    )


class Ticks:
    """The daemon's part: calls the sensor and keeps its cursor."""

    def __init__(self, runtime: Runtime, instance: dg.DagsterInstance) -> None:
        self.sensor = next(one for one in build_definitions(runtime).sensors or () if one.name == "alerts")
        self.instance = instance
        self.cursor: str | None = None

    async def __call__(self) -> str:
        def tick() -> dg.SensorResult:
            context = dg.build_sensor_context(instance=self.instance, cursor=self.cursor)
            result = self.sensor(context)
            assert isinstance(result, dg.SensorResult)
            return result

        result = await asyncio.to_thread(tick)
        self.cursor = result.cursor
        return str(
            result.skip_reason.skip_message if isinstance(result.skip_reason, dg.SkipReason) else result.skip_reason
        )


async def test_both_channels_are_notified_once_a_dead_one_later_and_both_of_the_end(tmp_path: Path) -> None:
    status = 503
    async with LittleServer(tmp_path, lambda _: answer(status, b"")) as server:
        with mail_server(tmp_path) as box, dg.DagsterInstance.ephemeral() as instance:
            tick = Ticks(runtime(tmp_path, box, server.url), instance)
            assert await tick() == "webhook: no news; email: no news"
            instance.report_runless_asset_event(check(passed=False))
            result = await tick()
            assert (
                "webhook: not sent, it is tried again. The webhook has no time for the notice (status 503)." in result
            )
            assert result.endswith("email: sent 1 new, 0 lasting, 0 resolved")
            status = 200
            assert await tick() == "webhook: sent 1 new, 0 lasting, 0 resolved; email: no news"
            assert await tick() == "webhook: no news; email: no news"
            instance.report_runless_asset_event(check(passed=True))
            assert (
                await tick() == "webhook: sent 0 new, 0 lasting, 1 resolved; email: sent 0 new, 0 lasting, 1 resolved"
            )
            assert await tick() == "webhook: no news; email: no news"
    refused, reported, over = (json.loads(request.body)["text"] for request in server.requests)
    assert refused == reported
    assert "`new_vip` goes to cusVip, which is not in profile" in reported
    assert "http://dagster.intranet:3000/assets/campaign/profile?view=checks" in reported
    assert over.startswith("Resolved:")
    assert [message["Subject"].split(": ")[1] for message in box.messages] == ["1 new", "1 resolved"]
    assert box.messages[0].get_content().splitlines() == reported.splitlines()


async def test_a_teams_workflow_that_answers_late_gets_one_card_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channels, "SECONDS", 0.5)
    over = asyncio.Event()

    async def late(_: object) -> bytes:
        await over.wait()
        return answer(202, b"")

    async with LittleServer(tmp_path, late) as server:
        with mail_server(tmp_path) as box, dg.DagsterInstance.ephemeral() as instance:
            tick = Ticks(runtime(tmp_path, box, server.url, "teams"), instance)
            instance.report_runless_asset_event(check(passed=False))
            assert "webhook: sent, no answer. The webhook gave no answer within 0.5 seconds." in await tick()
            for _ in range(3):
                assert await tick() == "webhook: no news; email: no news"
            over.set()
    [request] = server.requests
    [attachment] = json.loads(request.body)["attachments"]
    lines = [run["text"] for block in attachment["content"]["body"] for run in block["inlines"]]
    assert any("`new_vip` goes to cusVip, which is not in profile" in line for line in lines)


async def test_a_test_notice_goes_to_all_channels_and_names_those_that_failed(tmp_path: Path) -> None:
    async with LittleServer(tmp_path, lambda _: answer(410, b"")) as server:
        with mail_server(tmp_path) as box:
            result = await asyncio.to_thread(send_test, runtime(tmp_path, box, server.url))
    assert result["channels"]["email"] == {"delivered": True, "problem": None}
    assert not result["channels"]["webhook"]["delivered"]
    assert "status 410" in result["channels"]["webhook"]["problem"]
    assert "No action is needed" in box.messages[0].get_content()


def test_incidents_are_listed_without_a_channel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    plain = Runtime({CONFIG: str(SANDBOX_CONFIG), "DAGSTER_HOME": str(tmp_path)})
    assert open_incidents(plain) == {"incidents": []}
    from sync_assets.cli.instance import dagster_instance

    with dagster_instance() as instance:
        instance.report_runless_asset_event(check(passed=False))
    [trouble] = open_incidents(plain)["incidents"]
    assert trouble["title"] == "Check ready of campaign/profile does not hold"
    with pytest.raises(SyncAssetsError, match="Add `alerts:`"):
        send_test(plain)


def test_doctor_misses_a_webhook_without_address_and_half_a_sign_in(tmp_path: Path) -> None:
    def line(**environment: str) -> tuple[str, str]:
        file = written(tmp_path, {"webhook": True})
        [result] = alerts(Runtime({"SYNC_ASSETS_CONFIG": str(file), **environment}))
        return result.outcome, result.message

    assert line() == ("fail", "SYNC_ASSETS_ALERT_WEBHOOK is not set. Set it in the environment.")
    assert line(SYNC_ASSETS_ALERT_WEBHOOK="http://hooks.example.com/x")[0] == "fail"
    assert line(SYNC_ASSETS_ALERT_WEBHOOK="https://hooks.example.com/x?sig=1")[0] == "ok"
    half = line(SYNC_ASSETS_ALERT_WEBHOOK="https://hooks.example.com/x", SYNC_ASSETS_SMTP_USER="sync")
    assert half[0] == "fail"
    assert "SYNC_ASSETS_SMTP_PASSWORD" in half[1]


EMAIL = {"host": "smtp.example.com", "from": "sync@example.com", "to": ["ops@example.com"]}


@pytest.mark.parametrize(
    ("alerts", "message"),
    [
        ({}, "`alerts` names no channel; write `webhook: true`, or `email:`"),
        ({"email": {**EMAIL, "security": "none"}}, "write `security: starttls`"),
        ({"email": {**EMAIL, "to": ["Ops <ops@example.com>"]}}, "`Ops <ops@example.com>` is not an e-mail address"),
        ({"email": {"host": "smtp.example.com", "from": "sync@example.com"}}, "`to: [ops@example.com]`"),
        ({"email": {**EMAIL, "password": "x"}}, "this file must hold no secret"),
        ({"webhook": True, "thresholds": {"pending_minutes": "many"}}, "`pending_minutes` cannot be `many`"),
        ({"webhook": True, "from": {"webhook": "fatal"}}, "`webhook` cannot be `fatal`"),
        ({"webhook": True, "thresholds": {"budget_share": 0.8}}, "set `engine_calls_per_day` in `guardrails`"),
        ({"webhook": True, "quiet_hours": {"from": "22:00", "to": "24:00"}}, "`to` cannot be `24:00`"),
        ({"webhook": True, "quiet_hours": {"from": "22:00", "to": "6:00", "time_zone": "Mars"}}, "`Mars` is no time"),
        ({"webhook": "https://hooks.example.com/x"}, "`webhook` takes no address, which is a secret"),
    ],
)
def test_an_invalid_setting_is_refused_with_the_remedy(tmp_path: Path, alerts: object, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_config(written(tmp_path, alerts))
    assert message in str(error.value)


def test_mail_goes_by_starttls_unless_told_otherwise(tmp_path: Path) -> None:
    alerts = load_config(written(tmp_path, {"email": EMAIL})).alerts
    assert alerts
    assert alerts.email
    assert (alerts.email.port, alerts.email.security) == (587, "starttls")


def test_the_sensor_exists_only_with_a_channel(tmp_path: Path) -> None:
    def sensors(alerts: object) -> set[str]:
        result = build_definitions(Runtime({"SYNC_ASSETS_CONFIG": str(written(tmp_path, alerts))})).sensors
        return {sensor.name for sensor in result or ()}

    assert "alerts" in sensors({"webhook": True})
    assert "alerts" not in sensors(None)
