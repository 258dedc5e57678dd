"""Workflows that import files: format, rows, life cycle, and what goes wrong (docs/dev/references/campaign.md 8)."""

import asyncio
import gzip
import os
from pathlib import Path
from typing import Any

import httpx
import pytest

from sync_assets.sandbox.campaign import Campaign, Imports
from sync_assets.sandbox.campaign.settings import BadSettings
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


async def test_a_joined_link_comes_as_its_attribute(
    http: httpx.AsyncClient, campaign: Campaign, imports: Imports, folder: Path
) -> None:
    campaign.configure({"links": {"cusOrder": {"cusContactLink": {"cardinality": "one", "join": "cusContactId"}}}})
    put(folder, "new_order_20261201T120000Z_1.tsv", "cusOrderId cusContactId", "a p")
    await run(http, imports, ORDERS)
    assert await listed(http, "cusOrder") == {}
    await http.post(f"{EXT}/profile", json={"externalId": "p"})
    assert (await listed(http, "cusOrder"))["a"]["cusContactLink"] is not None


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
    assert (await run(http, imports, bad_values="ignore"))["inserted"] == 1
    records = await listed(http)
    assert records["a"] == records["b"] | {key: records["a"][key] for key in (*COMPUTED, "phone")}


@pytest.mark.parametrize("times", [True, False])
async def test_change_times_of_opt_outs(http: httpx.AsyncClient, imports: Imports, folder: Path, times: bool) -> None:
    put(folder, "contact_20261201T120000Z_1.tsv", "externalId blackListEmail blackListFax", "a 1 0")
    await run(http, imports, opt_out_times=times)
    put(folder, "contact_20261201T120000Z_1.tsv", "externalId blackListPhone", "a 1")
    await run(http, imports, CHANGES, opt_out_times=times)
    record = (await listed(http))["a"]
    now = "2026-11-24 09:10:11.123Z" if times else ""
    names = ("blackListEmail", "blackListPhone", "blackListFax")
    assert [record[f"{name}LastModified"] for name in names] == [now, now, ""]
    assert [record[name] for name in names] == [True, True, False]


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
    if name == "other.tsv":
        assert (await run(http, imports, no_files="finished"))["status"] == "finished"


@pytest.mark.parametrize("compressed", [False, True])
async def test_a_file_that_is_cut_is_imported_as_far_as_it_goes(
    http: httpx.AsyncClient, imports: Imports, folder: Path, compressed: bool
) -> None:
    text = b"externalId\tphone\n" + b"".join(b"key%d\t+44 20 1234\n" % n for n in range(1000))
    (folder / "contact_1.tsv").write_bytes(text) if not compressed else (
        (folder / "contact_1.tsv.gz").write_bytes(gzip.compress(text))
    )
    result = await run(http, imports, read_share=0.5)
    assert result["status"] == "finished"
    assert 300 < result["inserted"] < 700
    if not compressed:
        *whole, last = (await listed(http)).values()
        assert {record["phone"] for record in whole} == {"+44 20 1234"}
        assert last["phone"] != "+44 20 1234", "the last line lacks its end"


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


async def test_a_stop_ends_the_import_at_once(
    http: httpx.AsyncClient, campaign: Campaign, imports: Imports, folder: Path
) -> None:
    many(folder, 100)
    imports.configure({"id": PROFILES, "rows_per_second": 100})
    await command(http, PROFILES)
    await until(lambda: campaign.tables["profile"].records)
    await command(http, PROFILES, "stop")
    assert await status(http, PROFILES) == "finished"
    imported = len(campaign.tables["profile"].records)
    assert 0 < imported < 100
    await until(lambda: imports.shown()[PROFILES]["runs"][0]["ended"])
    assert imports.shown()[PROFILES]["runs"][0]["cause"] == "stopped"
    assert len(campaign.tables["profile"].records) == imported
    result = await run(http, imports, rows_per_second=None)
    assert (result["existing"], result["inserted"]) == (imported, 100 - imported)


@pytest.mark.parametrize(
    ("settings", "at_the_end", "imported"),
    [
        ({"trouble": "fails", "at": 0}, "error", 0),
        ({"trouble": "fails"}, "error", 5),
        ({"trouble": "fails", "at": 1}, "error", 10),
        ({"trouble": "ends_early"}, "finished", 5),
        ({"trouble": "ends_early", "at": 0.25}, "finished", 2),
        ({"trouble": "unseen"}, "finished", 10),
        ({"reject_every": 3}, "finished", 7),
        ({"removes_attribute": "cusScore"}, "error", 5),
        ({"removes_attribute": "cusVip"}, "finished", 10),
    ],
    ids=str,
)
async def test_troubles_after_which_a_run_ends(
    http: httpx.AsyncClient, imports: Imports, folder: Path, settings: dict[str, Any], at_the_end: str, imported: int
) -> None:
    many(folder, 10)
    result = await run(http, imports, **settings)
    assert (result["status"], result.get("inserted", 0)) == (at_the_end, imported)
    assert len(await listed(http)) == imported
    if settings.get("removes_attribute") == "cusScore":
        assert "cusScore" not in (await listed(http))["k1"]
        answer = await http.post(f"{EXT}/profile", json={"externalId": "x", "cusScore": 1})
        assert "'cusScore' property is not valid" in answer.text


async def test_a_run_that_takes_no_time_is_never_seen_as_started(
    http: httpx.AsyncClient, imports: Imports, folder: Path
) -> None:
    many(folder, 1000)
    imports.configure({"id": PROFILES, "trouble": "unseen"})
    await command(http, PROFILES)
    assert await status(http, PROFILES) == "finished"


@pytest.mark.parametrize(
    ("trouble", "shown", "imported"),
    [("pauses", "warning", 5), ("hangs", "started", 5), ("never_starts", "edition", 0)],
)
async def test_troubles_that_last_until_a_person_acts(
    http: httpx.AsyncClient, campaign: Campaign, imports: Imports, folder: Path, trouble: str, shown: str, imported: int
) -> None:
    many(folder, 10)
    imports.configure({"id": PROFILES, "trouble": trouble})
    await command(http, PROFILES)
    await until(lambda: len(campaign.tables["profile"].records) == imported)
    await asyncio.sleep(0.05)
    assert (await status(http, PROFILES), len(await listed(http))) == (shown, imported)
    if trouble == "hangs":
        await command(http, PROFILES, "stop")
        assert (await status(http, PROFILES), len(await listed(http))) == ("finished", 5)
    elif trouble == "pauses":
        await command(http, PROFILES)  # as documented, the start of a paused workflow resumes it
        await until(lambda: len(campaign.tables["profile"].records) == 10)
    else:
        await command(http, PROFILES, "stop")
        assert imports.shown()[PROFILES]["queued"] == ["start", "stop"]
        imports.configure({"id": PROFILES, "trouble": None})
        await asyncio.sleep(0.05)
        assert (await status(http, PROFILES), len(await listed(http))) == ("finished", 0)


async def test_a_late_second_run_takes_the_copies_of_files_that_were_deleted(
    http: httpx.AsyncClient, campaign: Campaign, imports: Imports, folder: Path
) -> None:
    many(folder, 10)
    result = await run(http, imports, trouble="ends_early", repeat_after_seconds=0.1)
    assert result["inserted"] == 5
    os.unlink(folder / "contact_20261201T000000Z_1.tsv")
    await http.delete(f"{EXT}/profile/{(await listed(http))['k1']['PKey']}")
    await until(lambda: len(imports.shown()[PROFILES]["runs"]) == 2 and campaign.tables["profile"].order[-1:])
    await until(lambda: imports.shown()[PROFILES]["runs"][1]["ended"])
    assert sorted(await listed(http)) == sorted(f"k{n}" for n in range(1, 11)), "also the one deleted meanwhile"
    first, second = imports.shown()[PROFILES]["runs"]
    assert (second["repeats"], second["existing"], second["inserted"]) == (first["number"], 4, 6)
    imports.run(PROFILES, 1)
    await until(lambda: imports.shown()[PROFILES]["runs"][2]["existing"] == 10)
    with pytest.raises(BadSettings, match="no run 9"):
        imports.run(PROFILES, 9)


async def test_copies_older_than_a_day_are_deleted_by_the_next_run_if_they_exceed_the_limits(
    imports: Imports, clock: Clock, folder: Path
) -> None:
    async def kept(**settings: Any) -> list[int]:
        imports.configure({"id": PROFILES, **settings})
        imports.run(PROFILES)
        await until(lambda: imports.shown()[PROFILES]["status"] == "finished")
        copies = imports.shown()[PROFILES]["copies"]
        files = [file for file in (folder.parents[2] / "workflows" / PROFILES).rglob("*") if file.is_file()]
        assert sorted(file.stat().st_size for file in files) == sorted(copy["bytes"] for copy in copies)
        return [copy["bytes"] for copy in copies]

    many(folder, 10)
    [size] = await kept()
    clock.now += 23 * 3600
    assert await kept(history_files=0) == [size, size], "files of the last 24 hours do not count"
    clock.now += 2 * 3600
    assert await kept(history_files=1) == [size, size, size], "one of these is older"
    clock.now += 48 * 3600
    put(folder, "contact_20261201T000000Z_1.tsv", "externalId")
    empty = len("externalId\n")
    assert await kept(history_files=2) == [size, size, empty]
    assert await kept(history_files=100, history_mb=size / 1_000_000) == [size, empty, empty]
    assert await kept(history_files=0) == [empty, empty, empty]


async def test_troubles_and_resources_that_do_not_exist_are_refused(campaign: Campaign, imports: Imports) -> None:
    for values, reason in (
        ({"id": PROFILES, "trouble": "rain"}, "Invalid enum value 'rain'"),
        ({"id": PROFILES, "at": 2}, "numbers from 0 to 1"),
        ({"id": "WKF99", "resource": "cusNothing", "pattern": "*"}, "no resource 'cusNothing'"),
        ({"id": "WKF99"}, "missing required field `resource`"),
    ):
        with pytest.raises(BadSettings, match=reason):
            imports.configure(values)
    with pytest.raises(BadSettings, match="no attribute 'externalId' that could be removed"):
        campaign.configure({"removed_attributes": {"profile": ["externalId"]}})
