"""Workflows that import files: format, rows, life cycle, and what goes wrong (docs/dev/references/campaign.md 8)."""

import asyncio
import gzip
import os
from pathlib import Path
from typing import Any

import httpx
import pytest

from sync_assets.sandbox.campaign import Campaign, Imports
from sync_assets_tests.unit.sandbox.campaign.conftest import Clock

EXT = "/profileAndServicesExt"
PROFILES, ORDERS, LINES, CHANGES = "WKF20", "WKF21", "WKF22", "WKF30"
OPTIONAL = {"links": {"cusOrder": {"cusContactLink": {"cardinality": "zero_or_one"}}}}
COMPUTED = ("PKey", "href", "cryptedId", "externalId", "subscriptions", "cusOrderslink")


@pytest.fixture
def imports(campaign: Campaign, tmp_path: Path) -> Imports:
    return Imports(campaign, tmp_path / "sftp")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "sftp" / "d365_loads" / "imports"
    folder.mkdir(parents=True)
    return folder


def put(folder: Path, name: str, *rows: str) -> Path:
    """Write a file. A blank in a row stands for a tab, ~ for a blank."""
    file = folder / name
    file.write_bytes("".join(row.replace(" ", "\t").replace("~", " ") + "\n" for row in rows).encode())
    return file


def many(folder: Path, count: int) -> None:
    put(folder, "contact_20261201T000000Z_1.tsv", "externalId cusScore", *(f"k{n} {n}" for n in range(1, count + 1)))


async def command(http: httpx.AsyncClient, id_: str, method: str = "start") -> None:
    answer = await http.post(f"/workflow/execution/{id_}/commands", json={"method": method})
    assert answer.status_code == 200, answer.text


async def status(http: httpx.AsyncClient, id_: str) -> str:
    return (await http.get(f"/workflow/execution/{id_}")).json()["logicalStatus"]


async def until(true: Any) -> None:
    async with asyncio.timeout(10):
        while not true():
            await asyncio.sleep(0.005)


async def run(http: httpx.AsyncClient, imports: Imports, id_: str = PROFILES, **settings: Any) -> dict[str, Any]:
    """Start a workflow, and return its run at the end without the counts that are 0."""
    imports.configure({"id": id_, **settings})
    before = len(imports.shown()[id_]["runs"])
    await command(http, id_)
    await until(lambda: all(run["ended"] for run in imports.shown()[id_]["runs"]))
    *earlier, last = imports.shown()[id_]["runs"]
    assert len(earlier) == before
    assert last["status"] == await status(http, id_)
    return {name: value for name, value in last.items() if value and name not in ("number", "began", "ended")}


async def listed(http: httpx.AsyncClient, resource: str = "profile") -> dict[str, Any]:
    key = {"profile": "externalId"}.get(resource, f"{resource}Id")
    content = (await http.get(f"{EXT}/{resource}?_lineCount=1000")).json()["content"]
    return {record[key]: record for record in content}


async def test_a_row_becomes_the_record_that_a_post_of_its_values_makes(
    http: httpx.AsyncClient, imports: Imports, clock: Clock, folder: Path
) -> None:
    values: dict[str, Any] = {"firstName": 'Siân "Bob"', "email": "a@example.com", "birthDate": "2001-02-03"}
    values |= {
        "gender": "female",
        "cusScore": 7,
        "cusBalance": 1.5,
        "cusVip": True,
        "middleName": "",
        "cusTier": "none",
    }
    values |= {"cusLastVisit": "2026-12-01 12:00:00.000Z", "location": {"city": "St. Ives", "zipCode": "TR26 1LP"}}
    values |= {"blackListEmail": True, "blackListPhone": False}
    await http.post(f"{EXT}/profile", json={"externalId": "posted", **values})
    put(
        folder,
        "contact_20261201T120000Z_1.tsv",
        "externalId firstName email birthDate gender cusScore cusBalance cusVip middleName cusTier cusLastVisit "
        "location.city location.zipCode blackListEmail blackListPhone",
        'imported Siân~"Bob" a@example.com 2001-02-03 female 7 1.5 1  none 2026-12-01~12:00:00 St.~Ives TR26~1LP 1 0',
    )
    result = await run(http, imports)
    assert result == {
        "status": "finished", "files": ["contact_20261201T120000Z_1.tsv"], "rows": 1, "read": 1, "inserted": 1
    }  # fmt: skip
    posted, imported = (await listed(http)).values()
    assert posted["PKey"] != imported["PKey"]
    for name in COMPUTED:
        posted.pop(name)
        imported.pop(name)
    assert imported == posted
    assert imported["lastModified"] == imported["blackListEmailLastModified"] == "2026-11-24 09:10:11.123Z"


async def test_insert_only_leaves_records_that_exist_as_they_are(
    http: httpx.AsyncClient, imports: Imports, clock: Clock, folder: Path
) -> None:
    await http.post(f"{EXT}/profile", json={"externalId": "a", "cusScore": 1})
    put(folder, "contact_20261201T120000Z_1.tsv", "externalId cusScore", "a 2", "b 2", "b 3")
    result = await run(http, imports)
    assert (result["inserted"], result["existing"]) == (1, 2)
    before = await listed(http)
    assert [record["cusScore"] for record in before.values()] == [1, 2]
    clock.now += 60
    assert (await run(http, imports))["existing"] == 3
    assert await listed(http) == before, "a second run changes nothing"


async def test_update_only_changes_what_differs_of_records_that_exist(
    http: httpx.AsyncClient, imports: Imports, clock: Clock, folder: Path
) -> None:
    place = {"city": "Leeds", "zipCode": "LS1 4AP", "address1": "1 High Street"}
    for key in ("same", "other", "more"):
        await http.post(f"{EXT}/profile", json={"externalId": key, "cusScore": 1, "location": place})
    before = await listed(http)
    clock.now += 60
    put(
        folder,
        "contact_20261201T120000Z_1.tsv",
        "externalId location.city location.zipCode",
        "same Leeds LS1~4AP",
        "other  LS1~4AP",
        "new Leeds LS1~4AP",
    )
    result = await run(http, imports, CHANGES)
    assert {name: result[name] for name in ("read", "equal", "updated", "unknown")} == {
        "read": 3, "equal": 1, "updated": 1, "unknown": 1
    }  # fmt: skip
    after = await listed(http)
    assert after.keys() == before.keys()
    assert (after["same"], after["more"]) == (before["same"], before["more"])
    assert after["other"]["lastModified"] > before["other"]["lastModified"]
    assert (after["other"]["location"]["city"], after["other"]["location"]["address1"]) == ("", "1 High Street")


@pytest.mark.parametrize(("optional", "hidden"), [(True, False), (False, True)])
async def test_a_link_holds_the_key_of_the_parent(
    http: httpx.AsyncClient, campaign: Campaign, imports: Imports, folder: Path, optional: bool, hidden: bool
) -> None:
    campaign.configure(OPTIONAL if optional else {})
    parent = (await http.post(f"{EXT}/profile", json={"externalId": "p"})).json()["PKey"]
    put(folder, "new_order_20261201T120000Z_1.tsv", "cusOrderId cusContactLink", "a p", "b nobody", "c ", "d")
    result = await run(http, imports, ORDERS)
    assert (result["inserted"], result["unlinked"]) == (4, 1)
    orders = await listed(http, "cusOrder")
    assert orders["a"]["cusContactLink"]["PKey"] == parent
    assert {key for key, order in orders.items() if order["cusContactLink"] is None} == (
        set() if hidden else {"b", "c", "d"}
    )
    again = await http.post(f"{EXT}/cusOrder", json={"cusOrderId": "b"})
    assert "already exists" in again.text, "a hidden record holds its key"
    assert (await run(http, imports, ORDERS))["existing"] == 4
    put(folder, "new_orderline_20261201T120000Z_1.tsv", "cusOrderLineId cusOrderLink", "x a", "y b")
    assert (await run(http, imports, LINES)).get("unlinked", 0) == int(hidden), "a hidden parent is none"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("salutation", "x" * 21), ("email", "nonsense"), ("gender", "neither"), ("birthDate", "01/02/2003"),
        ("cusScore", "1.5"), ("cusVip", "yes"), ("cusLastVisit", "yesterday"), ("location.countryCode", "x" * 9),
    ],
)  # fmt: skip
async def test_a_line_with_a_bad_value_is_rejected_or_loses_the_value(
    http: httpx.AsyncClient, imports: Imports, folder: Path, name: str, value: str
) -> None:
    put(folder, "contact_20261201T120000Z_1.tsv", f"externalId {name} phone", f"a {value} 1", "b  2", " x 3")
    result = await run(http, imports)
    assert (result["inserted"], result["rejected"], list(await listed(http))) == (1, 2, ["b"])


async def test_files_are_taken_by_pattern_and_read_in_the_order_of_their_names(
    http: httpx.AsyncClient, imports: Imports, folder: Path
) -> None:
    stem = "contact_20261201T120000Z"
    head = "externalId\tcusScore\n"
    members = gzip.compress(f"{head}a\t1\n".encode()) + gzip.compress(b"b\t1\nc\t1\n")
    (folder / f"{stem}_1.tsv.gz").write_bytes(members)
    put(
        folder,
        f"{stem}_2.tsv",
        "externalId cusScore",
        "a 2",
        "d 2",
    )
    put(folder, f"{stem}_3.tsv", "externalId cusScore")
    for name in (f".{stem}_4.tsv", f"{stem}_4.part", f"{stem}_4.csv", "contacts_1.tsv", "new_contact_1.tsv"):
        put(folder, name, "externalId", "foreign")
    (folder / "contact_folder.tsv").mkdir()
    result = await run(http, imports, delete_files=True)
    assert result["files"] == [f"{stem}_1.tsv.gz", f"{stem}_2.tsv", f"{stem}_3.tsv"]
    assert (result["rows"], result["inserted"], result["existing"]) == (5, 4, 1)
    assert [record["cusScore"] for record in (await listed(http)).values()] == [1, 1, 1, 2]
    assert f"{stem}_1.tsv.gz" not in os.listdir(folder)


@pytest.mark.parametrize(
    ("name", "content", "cause"),
    [
        ("contact_1.tsv", b"externalId\tcusNothing\na\t1\n", "column 2 is no attribute of profile to be written"),
        ("contact_1.tsv", b"externalId\tlastModified\na\t1\n", "column 2 is no attribute of profile to be written"),
        ("contact_1.tsv", b"externalId\tlocation.street\na\t1\n", "column 2 is no attribute of profile to be written"),
        ("contact_1.tsv", b"\xef\xbb\xbfexternalId\na\n", "column 1 is no attribute of profile to be written"),
        ("contact_1.tsv", b"externalId\r\na\r\n", "column 1 is no attribute of profile to be written"),
        ("contact_1.tsv.gz", b"externalId\na\n", "a file is not gzip"),
        ("other.tsv", b"externalId\na\n", "no file was found"),
    ],
)
async def test_files_that_cannot_be_imported_are_an_error(
    http: httpx.AsyncClient, imports: Imports, folder: Path, name: str, content: bytes, cause: str
) -> None:
    (folder / name).write_bytes(content)
    result = await run(http, imports)
    assert (result["status"], result["cause"], "inserted" in result) == ("error", cause, False)


async def test_the_life_cycle_of_a_workflow(
    http: httpx.AsyncClient, campaign: Campaign, imports: Imports, folder: Path
) -> None:
    many(folder, 10)
    imports.configure({"id": PROFILES, "rows_per_second": 100, "queue_seconds": 0.05})
    assert await status(http, PROFILES) == "edition"
    workflow = campaign.workflows.find(PROFILES)
    await command(http, PROFILES)
    assert (await status(http, PROFILES), imports.shown()[PROFILES]["queued"]) == ("edition", ["start"])
    imports.configure({"id": PROFILES, "queue_seconds": 0})
    workflow.queued[0] = (0, "start")
    assert await status(http, PROFILES) == "started"
    await command(http, PROFILES)
    assert len(imports.shown()[PROFILES]["runs"]) == 1, "a start of a workflow that runs has no effect"
    await command(http, PROFILES, "pause")
    await until(lambda: len(campaign.tables["profile"].records) == 10)
    assert await status(http, PROFILES) == "warning", "a pause does not suspend the activity that runs, only the next"
    await command(http, PROFILES, "resume")
    await until(lambda: workflow.status == "finished")
    for method in ("pause", "resume"):
        await command(http, PROFILES, method)
        assert await status(http, PROFILES) == "finished"
