"""Microsoft's own Dataverse client, as installed and unpatched, against the sandbox
(docs/dev/references/dataverse.md 6).

It signs in with azure-identity over the sandbox's sign-in, trusts its certificate authority through the environment,
and does everything that it can do with rows, with metadata as far as it only reads, and with batches.
"""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from sync_assets_tests.conftest import SandboxFactory
from sync_assets_tests.support.sandbox_process import Admin, SandboxProcess

if TYPE_CHECKING:  # it brings pandas; each worker that collects would import it
    from PowerPlatform.Dataverse.client import DataverseClient
    from PowerPlatform.Dataverse.models.upsert import UpsertItem

FORMATTED = "@OData.Community.Display.V1.FormattedValue"


@pytest.fixture(scope="module")
def process(sandbox_factory: SandboxFactory) -> SandboxProcess:
    return sandbox_factory(contacts=50)


@pytest.fixture
def env(process: SandboxProcess, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", process.env["SYNC_ASSETS_CA_BUNDLE"])
    return process.env


@pytest.fixture
def admin(process: SandboxProcess) -> Iterator[Admin]:
    yield process.admin
    process.admin.clear_faults()
    assert process.errors == ""


@pytest.fixture
def client(env: dict[str, str], admin: Admin) -> Iterator[DataverseClient]:
    from azure.identity import ClientSecretCredential
    from PowerPlatform.Dataverse.client import DataverseClient
    from PowerPlatform.Dataverse.core.config import DataverseConfig

    credential = ClientSecretCredential(
        env["D365_TENANT_ID"],
        env["D365_CLIENT_ID"],
        env["D365_CLIENT_SECRET"],
        authority=env["D365_AUTHORITY"],
        disable_instance_discovery=True,
    )
    with DataverseClient(env["D365_URL"], credential, DataverseConfig(http_backoff=0.01)) as made:
        yield made


def retrieve(client: DataverseClient, row_id: str, *select: str) -> dict[str, Any]:
    record = client.records.retrieve("contact", row_id, select=list(select) or None)
    assert record is not None
    return dict(record.items())


def test_create_read_update_delete(client: DataverseClient) -> None:
    row_id = client.records.create("contact", {"FirstName": "Zoë", "lastname": "O'Neill", "donotemail": True})
    assert retrieve(client, row_id, "fullname", "donotemail")["fullname"] == "Zoë O'Neill"
    client.records.update("contact", row_id, {"lastname": "佐藤", "birthdate": "1990-02-28"})
    result = retrieve(client, row_id)
    assert (result["fullname"], result["birthdate"]) == ("Zoë 佐藤", "1990-02-28")
    client.records.delete("contact", row_id)
    assert client.records.retrieve("contact", row_id) is None


def test_labels_of_choices_are_turned_into_values_by_our_metadata(client: DataverseClient) -> None:
    row_id = client.records.create("contact", {"gendercode": "female", "new_tier": "Gold", "firstname": "x"})
    result = retrieve(client, row_id, "gendercode", "new_tier")
    assert (result["gendercode"], result["new_tier"]) == (2, 100000003)


def test_money_and_lookups_of_a_custom_table(client: DataverseClient) -> None:
    contact = client.records.create("contact", {"lastname": "parent"})
    order = client.records.create(
        "new_Order", {"new_name": "o", "new_amount": 12.5, "new_ContactId@odata.bind": f"/contacts({contact})"}
    )
    record = client.records.retrieve("new_order", order, include_annotations="*")
    assert record is not None
    assert record["new_amount"] == 12.5
    assert record["_new_contactid_value"] == contact
    assert record[f"new_amount{FORMATTED}"] == "€12.50"
    assert record[f"_new_contactid_value{FORMATTED}"] == "parent"
    assert record["_new_contactid_value@Microsoft.Dynamics.CRM.lookuplogicalname"] == "contact"


def test_several_rows_at_once(client: DataverseClient) -> None:
    ids = client.records.create("contact", [{"lastname": f"many {n}", "jobtitle": "many"} for n in range(5)])
    assert len(ids) == 5
    client.records.update("contact", ids, {"department": "same"})
    client.records.update("contact", ids, [{"suffix": str(n)} for n in range(5)])
    result = client.records.list("contact", filter="jobtitle eq 'many'", select=["department", "suffix", "lastname"])
    assert {(row["department"], row["suffix"]) for row in result} == {("same", str(n)) for n in range(5)}
    assert client.records.delete("contact", ids[:3]), "a job id"
    client.records.delete("contact", ids[3:], use_bulk_delete=False)
    assert len(client.records.list("contact", filter="jobtitle eq 'many'")) == 0


def test_upsert_one_and_several_by_alternate_key(client: DataverseClient) -> None:
    from PowerPlatform.Dataverse.models.upsert import UpsertItem

    def item(key: str, name: str) -> UpsertItem:
        return UpsertItem(alternate_key={"externaluseridentifier": key}, record={"lastname": name})

    client.records.upsert("contact", [item("u'1", "one")])
    client.records.upsert("contact", [item("u'1", "uno"), item("u2", "two")])
    result = client.records.list(
        "contact", filter="startswith(externaluseridentifier,'u')", orderby=["externaluseridentifier"]
    )
    assert [(row["externaluseridentifier"], row["lastname"]) for row in result] == [("u'1", "uno"), ("u2", "two")]


def test_listing_follows_the_pages_and_sees_every_row_once(client: DataverseClient, admin: Admin) -> None:
    since = admin.last()
    rows = client.records.list("contact", select=["fullname"], page_size=7, include_annotations="*")
    ids = [row["contactid"] for row in rows]
    assert sorted(ids) == sorted(row["contactid"] for row in admin.dump_d365())
    assert len(set(ids)) == len(ids)
    reads = [entry for entry in admin.journal("d365", since) if "/contacts" in entry["path"]]
    assert len(reads) == -(-len(ids) // 7)


def test_the_query_builder(client: DataverseClient, admin: Admin) -> None:
    from PowerPlatform.Dataverse.models.filters import col

    stamp = datetime.datetime(2024, 3, 15, 10, 20, 30, tzinfo=datetime.UTC)
    row_id = client.records.create(
        "contact", {"firstname": "Built", "lastname": "Query's", "new_score": 7, "new_lastvisit": stamp.isoformat()}
    )

    def ids(*expressions: Any) -> list[str]:
        query = client.query.builder("contact").select("contactid")
        for expression in expressions:
            query = query.where(expression)
        return [row["contactid"] for page in query.execute_pages() for row in page]

    built = col("firstname") == "built"
    for expression in (
        col("lastname") == "query's",
        col("lastname").contains("uery"),
        col("lastname").startswith("QUERY"),
        col("lastname").endswith("'s"),
        col("lastname").like("Que%"),
        col("firstname").in_(["built", "other"]),
        col("statecode").in_([0, 1]),
        col("statecode").not_in([1]),
        col("new_score").between(5, 9),
        col("new_lastvisit") == stamp,
        col("new_lastvisit") >= "2024-03-15T10:20:30Z",
        col("contactid") == row_id,
        col("contactid") == uuid.UUID(row_id),
        col("emailaddress1").is_null(),
        col("lastname").is_not_null(),
        ~(col("new_score") > 7),
        (col("new_score") == 1) | (col("new_score") == 7),
        col("donotemail") == False,  # noqa: E712
    ):
        assert ids(built, expression) == [row_id], str(expression)
    assert ids(built, col("new_score") < 7) == []


def test_formatted_values(client: DataverseClient) -> None:
    from PowerPlatform.Dataverse.models.filters import col

    row_id = client.records.create("contact", {"firstname": "formatted", "gendercode": 1})
    query = client.query.builder("contact").select("gendercode").where(col("contactid") == row_id)
    [page] = query.include_formatted_values().execute_pages()
    assert [row[f"gendercode{FORMATTED}"] for row in page] == ["Male"]


def test_tables_columns_and_keys(client: DataverseClient) -> None:
    info = client.tables.get("contact")
    assert info is not None
    assert (info["entity_set_name"], info["primary_id_attribute"]) == ("contacts", "contactid")
    assert client.tables.get("nosuch") is None
    assert {"contact", "new_order"} <= {table["LogicalName"] for table in client.tables.list(select=["LogicalName"])}
    columns = client.tables.list_columns("contact", select=["LogicalName"], filter="AttributeType eq 'Money'")
    assert {column["LogicalName"] for column in columns} == {"creditlimit", "creditlimit_base"}
    column = client.tables.get_column("contact", "FirstName")
    assert column is not None
    assert column["MaxLength"] == 50
    assert client.tables.get_column("contact", "nosuch") is None
    assert [key.key_attributes for key in client.tables.get_alternate_keys("contact")] == [["externaluseridentifier"]]


def test_relationships(client: DataverseClient) -> None:
    names = {result["SchemaName"] for result in client.tables.list_table_relationships("contact")}
    assert {"new_contact_new_order", "contact_customer_accounts"} <= names
    assert client.tables.get_relationship("new_order_new_orderline") is not None
    assert client.tables.get_relationship("nosuch") is None
    expands = {result["nav_property"]: result for result in client.query.odata_expands("new_order")}
    assert (expands["new_ContactId"]["target_table"], expands["new_ContactId"]["lookup_attribute"]) == (
        "contact", "new_contactid",
    )  # fmt: skip


def test_a_batch(client: DataverseClient) -> None:
    from PowerPlatform.Dataverse.models.upsert import UpsertItem

    known = client.records.create("contact", {"lastname": "batch known"})
    batch = client.batch.new()
    batch.records.create("contact", {"firstname": "batch", "lastname": "with blanks & 'quotes'"})
    batch.records.update("contact", known, {"jobtitle": "tester"})
    batch.records.retrieve("contact", known, select=["jobtitle"])
    batch.records.list("contact", filter="lastname eq 'with blanks & ''quotes'''".replace(" & ", " %26 "), top=2)
    batch.records.create("contact", [{"lastname": "batch a"}, {"lastname": "batch b"}])
    batch.records.upsert("contact", [UpsertItem({"externaluseridentifier": "batch"}, {"lastname": "batch c"})])
    batch.records.delete("contact", known)
    batch.tables.get("contact")
    result = batch.execute()
    assert [item.status_code for item in result.responses] == [204, 204, 200, 200, 200, 204, 204, 200]
    assert result.entity_ids[1] == known
    answers = [item.data for item in result.responses]
    assert answers[2] is not None
    assert answers[3] is not None
    assert answers[4] is not None
    assert answers[2]["jobtitle"] == "tester"
    assert [row["firstname"] for row in answers[3]["value"]] == ["batch"]
    assert len(answers[4]["Ids"]) == 2
    assert client.records.retrieve("contact", known) is None


def test_a_change_set_with_references(client: DataverseClient) -> None:
    batch = client.batch.new()
    with batch.changeset() as changes:
        contact = changes.records.create("contact", {"lastname": "change set"})
        changes.records.create("new_order", {"new_name": "of it", "new_ContactId@odata.bind": contact})
        changes.records.update("contact", contact, {"jobtitle": "parent"})
    result = batch.execute()
    assert not result.has_errors
    assert [item.content_id for item in result.responses] == ["1", "2", "3"]
    contact_id, order_id = result.entity_ids[:2]
    assert retrieve(client, contact_id, "jobtitle")["jobtitle"] == "parent"
    order = client.records.retrieve("new_order", order_id)
    assert order is not None
    assert order["_new_contactid_value"] == contact_id


def test_a_bad_column_is_reported_with_its_code(client: DataverseClient) -> None:
    from PowerPlatform.Dataverse.core.errors import HttpError

    with pytest.raises(HttpError, match="Could not find a property named 'nosuch'") as caught:
        client.records.list("contact", select=["nosuch"])
    assert (caught.value.status_code, caught.value.details["service_error_code"]) == (400, "0x80060888")
    assert caught.value.details["service_request_id"]


def test_its_repeated_create_makes_two_rows_when_an_answer_is_lost(client: DataverseClient, admin: Admin) -> None:
    """The trap of docs/dev/references/dataverse.md 6: it repeats a POST after a broken connection. The sandbox shows
    the result."""
    client.records.list("contact", top=1)  # so that the metadata is known
    admin.fault("d365", "cut_after", times=1, method="POST", path="/contacts$")
    client.records.create("contact", {"lastname": "lost answer"})
    assert len(client.records.list("contact", filter="lastname eq 'lost answer'")) == 2
