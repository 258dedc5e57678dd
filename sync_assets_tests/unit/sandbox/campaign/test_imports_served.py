"""An import as a client drives it: upload by SFTP, command, state, list; the journal."""

import gzip
from collections.abc import Iterator
from urllib.parse import parse_qsl, urlsplit

import msgspec
import paramiko
import pytest

from sync_assets.campaign.workflows import start, workflow_status
from sync_assets_tests.support.pushing import campaign_client
from sync_assets_tests.support.sandbox_process import SandboxProcess
from sync_assets_tests.support.waiting import until

FOLDER = "d365_loads/imports"


@pytest.fixture
def sftp(shared_sandbox: SandboxProcess) -> Iterator[paramiko.SFTPClient]:
    env = shared_sandbox.env
    with paramiko.SSHClient() as ssh:
        ssh.load_host_keys(env["CAMPAIGN_SFTP_HOST_KEY"])
        key = {"key_filename": env["CAMPAIGN_SFTP_PRIVATE_KEY"], "look_for_keys": False, "allow_agent": False}
        ssh.connect("localhost", int(env["CAMPAIGN_SFTP_PORT"]), env["CAMPAIGN_SFTP_USER"], timeout=5, **key)
        yield ssh.open_sftp()


def rows(count: int) -> bytes:
    text = "externalId\tlastName\tlocation.city\n" + "".join(f"load-{n}\tName\tKraków\n" for n in range(count))
    return gzip.compress(text.encode())


async def test_a_file_is_uploaded_imported_and_listed(
    shared_sandbox: SandboxProcess, sftp: paramiko.SFTPClient
) -> None:
    admin = shared_sandbox.admin
    admin.clear_journal()
    admin.configure_import("WKF20", rows_per_second=600, queue_seconds=0.1)
    with sftp.open(f"{FOLDER}/unfinished", "w") as file:
        file.write(rows(300))
    name = "contact_20261201T120000Z_1.tsv.gz"
    sftp.posix_rename(f"{FOLDER}/unfinished", f"{FOLDER}/{name}")
    seen: list[str] = []
    async with campaign_client(shared_sandbox.env) as client:
        await start(client, "WKF20")
        while not seen or seen[-1] != "finished":
            seen.append(await workflow_status(client, "WKF20"))
        assert sum(admin.engine_calls().values()) == 0, "an import is no engine call"
        answer = await client.endpoint.send("GET", "profileAndServicesExt/profile?_lineCount=500")
    assert [status for status in dict.fromkeys(seen) if status != "edition"] == ["started", "finished"]
    records = msgspec.json.decode(answer.body)["content"]
    assert (len(records), {record["location"]["city"] for record in records}) == (300, {"Kraków"})
    began, ended = admin.journal("workflow")
    assert (began["method"], ended["method"], ended["status"]) == ("started", "finished", 200)
    address = urlsplit(ended["path"])
    counts = dict(parse_qsl(address.query))
    assert (address.path, counts["files"], counts["inserted"]) == ("/workflow/execution/WKF20", "1", "300")
    sftp.remove(f"{FOLDER}/{name}")
    shown = admin.get("/campaign/imports")["WKF20"]
    assert (shown["status"], shown["runs"][0]["inserted"], shown["copies"][0]["name"]) == ("finished", 300, name)
    admin.post("/campaign/imports/run", {"id": "WKF20", "repeat": 1})
    until(lambda: admin.import_runs("WKF20")[-1]["existing"] == 300)
