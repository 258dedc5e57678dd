"""One host: both databases are copied during a sync, and restored on another server. Nothing is lost or sent twice."""

import base64
import json
import os
import stat
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import pytest

from sync_assets_tests.flows.deploy.conftest import PASSWORDS, in_database_container, made_databases
from sync_assets_tests.flows.deploy.files import DEPLOY
from sync_assets_tests.support.postgres import PostgresServer, running_server
from sync_assets_tests.support.program import Program
from sync_assets_tests.support.sandbox_process import SandboxProcess
from sync_assets_tests.support.waiting import until

pytestmark = pytest.mark.slow  # two PostgreSQL servers; a rebuild of an older ledger: flows/test_rebuild.py
CONTACTS = 150
another_server = contextmanager(running_server)


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    """Payloads are encrypted; the key is beside the databases, never in a copy of them."""
    key = tmp_path / "ledger.key"
    key.write_bytes(base64.b64encode(os.urandom(32)))
    with SandboxProcess(contacts=CONTACTS) as sandbox:
        more = {"SYNC_ASSETS_LEDGER_KEY_FILE": str(key)}
        yield Program(sandbox, tmp_path, guardrails={"concurrency": 4}, more=more)


def ledger_url(host: str) -> str:
    return f"postgresql+psycopg://sync_assets:{PASSWORDS['LEDGER_PASSWORD']}@/sync_assets?host={host}"


@contextmanager
def dagsters_instance(host: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    for name, value in {
        "DAGSTER_PG_HOST": "", "DAGSTER_PG_PORT": "5432", "DAGSTER_PG_DB": "dagster", "DAGSTER_PG_USER": "dagster",
        "DAGSTER_PG_PASSWORD": PASSWORDS["DAGSTER_PG_PASSWORD"], "PGHOST": host,
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    with dg.DagsterInstance.from_config(str(DEPLOY / "compose")) as instance:
        yield instance


def test_a_backup_in_the_middle_of_a_first_load_is_restored_on_a_new_server_and_nothing_is_lost_or_sent_twice(
    program: Program, postgres: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    admin, folder = program.sandbox.admin, tmp_path / "backup"
    with made_databases(postgres) as first:
        program.more["SYNC_ASSETS_LEDGER_URL"] = ledger_url(first["PGHOST"])
        with dagsters_instance(first["PGHOST"], monkeypatch) as instance:
            run = instance.add_run(dg.DagsterRun("a_job", run_id=str(uuid.uuid4())))
        admin.latency("campaign", 100)
        syncing = program.start("sync")
        until(lambda: admin.engine_calls()["insert"] > 20, 60.0)
        copied = in_database_container("backup.sh", first["PGHOST"], folder)
        assert (copied.returncode, copied.stdout) == (0, f"{folder}\n"), copied.stderr
        assert admin.engine_calls()["insert"] < CONTACTS, "the sync was over before the copy was"
        admin.latency("campaign", 0)
        syncing.communicate(timeout=120)
        assert syncing.returncode == 0
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {(one.name, stat.S_IMODE(one.stat().st_mode)) for one in folder.iterdir()} == {
        ("dagster.dump", 0o600),
        ("sync_assets.dump", 0o600),
    }

    admin.change("contact", 5, jobtitle="After the backup")
    with another_server() as server, made_databases(server) as second:
        restored = in_database_container("restore.sh", second["PGHOST"], folder)
        assert restored.returncode == 0, restored.stderr
        with dagsters_instance(second["PGHOST"], monkeypatch) as instance:
            assert instance.get_run_by_id(run.run_id) == run
        program.more["SYNC_ASSETS_LEDGER_URL"] = ledger_url(second["PGHOST"])
        config = Path(program.env["SYNC_ASSETS_CONFIG"])
        for file in config.parent.glob(f".{config.name}.*"):
            if "number" in (remembered := json.loads(file.read_text())):
                file.write_text(json.dumps(remembered | {"at": 0}))  # the last request was sent long ago
        before = admin.engine_calls()
        for command in ("rebuild", "sync"):
            status, _, errors = program.run(command)
            assert status == 0, errors
        after = admin.engine_calls()
        program.assert_in_step()
    assert (after["insert"] - before["insert"], after["update"] - before["update"]) == (0, 5)
    inserts = Counter(entry["key"] for entry in admin.journal("campaign") if entry["engine"] == "insert")
    assert set(inserts.values()) == {1}


def test_a_copy_that_lacks_a_database_is_refused_before_anything_is_changed(
    databases: dict[str, str], tmp_path: Path
) -> None:
    copied = in_database_container("backup.sh", databases["PGHOST"], tmp_path / "copy")
    assert copied.returncode == 0, copied.stderr
    (tmp_path / "copy" / "sync_assets.dump").unlink()
    refused = in_database_container("restore.sh", databases["PGHOST"], tmp_path / "copy")
    assert refused.returncode == 1
    assert "sync_assets.dump is missing: nothing was changed" in refused.stderr


def test_a_backup_never_overwrites_another_one(databases: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "copy.part").mkdir()
    refused = in_database_container("backup.sh", databases["PGHOST"], tmp_path / "copy")
    assert refused.returncode != 0
    assert not (tmp_path / "copy").exists()
