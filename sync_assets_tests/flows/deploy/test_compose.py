"""One host: the compose file, and what its services find."""

import re
import uuid
from typing import Any

import dagster as dg
import psycopg
import pytest
import yaml

from sync_assets.config.environment import Settings
from sync_assets.ledger import Ledger
from sync_assets_tests.flows.deploy.conftest import PASSWORDS
from sync_assets_tests.flows.deploy.files import DEPLOY, ROOT, command_exists, explained, read

COMPOSE = read(DEPLOY / "docker-compose.yaml")
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if name not in ("postgres", "egress")}
SECRETS = re.compile(r"SECRET|PRIVATE_KEY|LEDGER|D365|CAMPAIGN")
WANTED = re.compile(r"\$\{(\w+)(?::\?[^}]*)?\}")


def filled(text: str) -> str:
    """As compose fills it in."""
    return WANTED.sub(lambda result: PASSWORDS[result[1]], text)


def test_there_are_the_five_services_and_every_variable_is_explained() -> None:
    assert SERVICES.keys() == {"postgres", "code", "web", "daemon", "egress"}
    named = {name for service in SERVICES.values() for name in service["environment"]}
    named |= set(WANTED.findall((DEPLOY / "docker-compose.yaml").read_text()))
    assert named <= explained()


@pytest.mark.parametrize("service", SERVICES)
def test_each_command_exists_and_each_service_is_asked_for_its_health_starts_again_and_rotates_its_logs(
    service: str,
) -> None:
    definition = SERVICES[service]
    assert re.fullmatch(r"postgres:\d+\.\d+|sync-assets(-egress)?:\$\{SYNC_ASSETS_VERSION:\?.*\}", definition["image"])
    kind, *health = definition["healthcheck"]["test"]
    assert (kind, definition["restart"]) == ("CMD", "unless-stopped")
    assert {"max-size", "max-file"} <= definition["logging"]["options"].keys()
    if service in OURS:
        command_exists(definition["command"])
    if health[0].startswith("dagster"):
        command_exists(health)


def test_only_the_code_location_has_the_settings_of_the_two_systems_and_no_secret_is_written_in_the_file() -> None:
    for name, service in SERVICES.items():
        secrets = {key: value for key, value in service["environment"].items() if SECRETS.search(key)}
        if name not in ("code", "postgres"):
            assert ("env_file" in service, secrets) == (False, {})
        assert all("$" in value or value.startswith("/etc/sync_assets/") for value in secrets.values())
        passwords = {key: value for key, value in service["environment"].items() if "PASSWORD" in key}
        assert all(re.fullmatch(r"\$\{\w+:\?set it in \.env\}", value) for value in passwords.values())


@pytest.mark.parametrize("service", SERVICES)
def test_no_service_gains_rights_or_takes_memory_and_processes_without_limit_and_ours_write_to_volumes_only(
    service: str,
) -> None:
    """Which folders those are, `test_compose_processes.py` finds out."""
    definition = SERVICES[service]
    assert definition["security_opt"] == ["no-new-privileges:true"]
    assert definition["ulimits"] == {"core": 0}
    assert re.fullmatch(r"[1-9]g", definition["mem_limit"])
    assert 0 < definition["pids_limit"] <= 2048
    assert definition["cap_drop"] == ["ALL"]
    added = {"CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID"} if service == "postgres" else set[str]()
    assert {*definition.get("cap_add", ())} <= added
    assert definition.get("ports", []) == (["127.0.0.1:3000:3000"] if service == "web" else [])
    if service != "postgres":
        mounts = {mount.split(":")[1] for mount in definition["volumes"] if not mount.endswith(":ro")}
        assert definition["read_only"] is True
        of_code = {"/var/lib/sync_assets", "/run/sync_assets"}
        assert mounts | {*definition.get("tmpfs", ())} == (of_code if service == "code" else set()) | {"/tmp"}


def test_the_code_location_has_no_port_and_the_socket_is_in_a_volume_of_web_server_and_daemon_only() -> None:
    command = OURS["code"]["command"]
    assert "--port" not in command
    [server] = read(DEPLOY / "compose" / "workspace.yaml")["load_from"]
    assert server["grpc_server"]["socket"] == command[command.index("--socket") + 1]
    having = {name for name, entry in SERVICES.items() if any(one.startswith("socket:") for one in entry["volumes"])}
    assert having == {"code", "web", "daemon"}


def test_only_the_proxy_has_a_way_out_and_the_code_location_reaches_nothing_but_it_and_the_database() -> None:
    networks: dict[str, dict[str, Any]] = {name: entry or {} for name, entry in COMPOSE["networks"].items()}
    masquerade = "com.docker.network.bridge.enable_ip_masquerade"
    open_ = {
        name
        for name, entry in networks.items()
        if not entry.get("internal") and entry.get("driver_opts", {}).get(masquerade) != "false"
    }
    assert {name for name, service in SERVICES.items() if open_ & {*service["networks"]}} == {"egress"}
    isolated = {"com.docker.network.bridge.gateway_mode_ipv4": "isolated"}  # else services of the host are reached
    assert all(
        networks[name].get("internal") and networks[name].get("driver_opts") == isolated
        for name in SERVICES["code"]["networks"]
    )
    assert {name for name, service in SERVICES.items() if "proxy" in service["networks"]} == {"code", "egress"}


def test_all_that_the_code_location_sends_passes_the_proxy() -> None:
    script = (DEPLOY / "compose" / "egress.sh").read_text(encoding="utf-8")
    assert "http_port ${EGRESS_PORT:-3128}" in script
    for name in ("HTTPS_PROXY", "SFTP_PROXY", "SMTP_PROXY"):
        assert OURS["code"]["environment"][name] == "http://egress:3128"
    assert "EGRESS_PORT" not in SERVICES["egress"]["environment"]


def test_the_proxys_image_is_slim_not_root_and_holds_no_more_than_the_script() -> None:
    built = SERVICES["egress"]["build"]
    lines = (DEPLOY / built["context"] / built["dockerfile"]).read_text(encoding="utf-8").splitlines()
    instructions = {line.split()[0]: line.split()[1:] for line in lines if line and line[0].isupper()}
    assert re.fullmatch(r"DEBIAN=debian:\w+-slim", instructions["ARG"][0])
    assert instructions["USER"] == ["13"]  # Debian's user of proxies
    assert instructions["COPY"][:-1] == yaml.safe_load(instructions["ENTRYPOINT"][0]) == ["egress.sh"]


def test_each_mounted_file_exists_or_is_documented_as_the_users() -> None:
    for service in SERVICES.values():
        for mount in service["volumes"]:
            source = mount.partition(":")[0]
            known = source in COMPOSE["volumes"] or source in ("./settings", "./backups") or (DEPLOY / source).is_file()
            assert known, mount
    assert (DEPLOY / OURS["code"]["build"]["context"]).resolve() == ROOT


def test_each_variable_of_the_code_location_is_set_or_explained() -> None:
    """What the program itself reads: nothing is missing but what `sync_assets.env` brings."""
    given = OURS["code"]["environment"]
    settings = Settings.from_environment({"SYNC_ASSETS_LEDGER_URL": filled(given["SYNC_ASSETS_LEDGER_URL"])})
    assert not settings.ledger_in_sqlite
    for system in (settings.d365, settings.campaign, settings.sftp):
        with pytest.raises(Exception, match="is not set") as raised:
            system()
        assert set(re.findall(r"([A-Z][A-Z0-9_]+) is not set", str(raised.value))) <= explained()


def test_dagster_keeps_its_runs_in_the_database_of_its_own_and_the_ledger_is_opened_by_its_role(
    databases: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in OURS["daemon"]["environment"].items():
        monkeypatch.setenv(name, filled(value))
    monkeypatch.setenv("PGHOST", databases["PGHOST"])
    monkeypatch.setenv("DAGSTER_PG_HOST", "")  # this one listens on a socket
    with dg.DagsterInstance.from_config(str(DEPLOY / "compose")) as instance:
        instance.add_run(run := dg.DagsterRun("a_job", run_id=str(uuid.uuid4())))
    with dg.DagsterInstance.from_config(str(DEPLOY / "compose")) as instance:
        assert instance.get_run_by_id(run.run_id) == run
    url = filled(OURS["code"]["environment"]["SYNC_ASSETS_LEDGER_URL"])
    with Ledger.open(url.replace("@postgres/", "@/")) as ledger:
        assert ledger.reports.counts() == {}


@pytest.mark.parametrize(("role", "database"), [("dagster", "sync_assets"), ("sync_assets", "dagster")])
def test_neither_role_may_use_the_others_database(databases: dict[str, str], role: str, database: str) -> None:
    with pytest.raises(psycopg.OperationalError, match="does not have CONNECT privilege"):
        psycopg.connect(dbname=database, user=role, host=databases["PGHOST"])
