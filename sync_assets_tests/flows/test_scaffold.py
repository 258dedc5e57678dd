"""From nothing to tables that synchronise: `init`, `add`, `schema`, against both systems."""

import stat
from pathlib import Path
from typing import Any

import pytest

from sync_assets.commands.doctor import examine
from sync_assets.commands.init import Argument
from sync_assets.commands.init import add as add_table
from sync_assets.commands.init import init as write_new
from sync_assets.config.files import SANDBOX_CONFIG
from sync_assets.config.json_schema import PACKAGED
from sync_assets.config.loader import load_config
from sync_assets.defs.build import build_definitions
from sync_assets.defs.tables.asset_metadata import SCHEMA
from sync_assets.errors import SyncAssetsError
from sync_assets.runtime.context import Runtime
from sync_assets.scaffold.suggestions import Suggested
from sync_assets.scaffold.yaml_text import SCHEMA_FILE
from sync_assets_tests.conftest import SandboxFactory
from sync_assets_tests.support.program import Program
from sync_assets_tests.support.sandbox_process import SandboxProcess


@pytest.fixture(scope="module")
def shared(sandbox_factory: SandboxFactory) -> SandboxProcess:
    return sandbox_factory(contacts=20)


@pytest.fixture
def program(shared: SandboxProcess, tmp_path: Path) -> Program:
    return Program(shared, tmp_path)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sync_assets.yaml"


def init(program: Program, path: Path, *tables: str, **more: Any) -> list[Suggested]:
    return write_new(program.env, path, [Argument.of(text) for text in tables], **more)


def add(program: Program, path: Path, table: str) -> list[Suggested]:
    return add_table(program.env, path, Argument.of(table))


def runtime(program: Program, path: Path) -> Runtime:
    return Runtime(program.env | {"SYNC_ASSETS_CONFIG": str(path)})


def complaints(program: Program, path: Path) -> list[str]:
    asked = runtime(program, path).using(any_ledger=True)
    try:
        return [f"{line.title}: {line.message}" for line in examine(asked) if line.outcome == "fail"]
    finally:
        asked.close()


def column_types(program: Program, path: Path) -> dict[str, dict[str, str]]:
    """Return, by asset, the type of each column in its definition."""
    specs = build_definitions(runtime(program, path)).resolve_all_asset_specs()
    schemas = {spec.key.to_user_string(): spec.metadata.get(SCHEMA) for spec in specs}
    return {key: {one.name: one.type for one in schema.columns} for key, schema in schemas.items() if schema}


def test_a_new_user_comes_to_two_tables_that_synchronise(program: Program, path: Path) -> None:
    init(program, path, "contact")
    types = column_types(program, path)
    assert types["d365/contact"]["contactid"] == "guid"
    assert (types["d365/contact"]["birthdate"], types["campaign/profile"]["birthDate"]) == ("date", "date")
    assert all(all(of_columns.values()) for of_columns in types.values())
    assert complaints(program, path) == []
    path.with_name(f".{path.name}.types").unlink()
    assert not any(column_types(program, path)["campaign/profile"].values())
    assert program.sync(runtime(program, path)).status == 0
    assert column_types(program, path) == types
    add(program, path, "new_order")
    assert column_types(program, path)["campaign/cusOrder"]["cusContactLink"] == "link"
    assert complaints(program, path) == []
    assert program.sync(runtime(program, path)).status == 0
    admin = program.sandbox.admin
    orders = {order["new_orderid"]: order for order in admin.dump_d365("new_order")}
    sent = {one["cusOrderId"]: one for one in admin.dump_campaign("cusOrder")}
    assert len(orders) > 20
    assert sent.keys() == orders.keys()
    assert all(sent[key]["cusName"] == order["new_name"] for key, order in orders.items())
    assert not admin.hidden("cusOrder")
    assert len(program.profiles()) == 20


def test_only_their_owner_may_read_the_files(program: Program, path: Path) -> None:
    init(program, path, "contact")
    written = (path, path.with_name(SCHEMA_FILE), path.with_name(f".{path.name}.types"))
    assert [stat.S_IMODE(file.stat().st_mode) for file in written] == [0o600] * 3
    path.chmod(0o640)
    init(program, path, "contact", force=True)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640, "the owner gave it to a group"


def test_every_table_that_has_a_resource_passes_the_doctor_costs_no_engine_call_and_suggests_the_demos_fields(
    program: Program, path: Path
) -> None:
    before = program.sandbox.admin.engine_calls()
    written = init(program, path, "new_orderline", "account=cusStore", "contact", "new_order")
    assert program.sandbox.admin.engine_calls() == before
    assert complaints(program, path) == []
    config = load_config(path)
    assert config.targets == {
        "new_orderline": "cusOrderLine",
        "account": "cusStore",
        "contact": "profile",
        "new_order": "cusOrder",
    }
    assert {table.table: [link.table for link in table.links] for table in config.tables if table.links} == {
        "new_orderline": ["new_order"],
        "new_order": ["contact"],
    }
    assert config.table("account").api == "customResources"
    assert config.table("account").fields["address1_city"].to == "cusCity"
    assert all(one.key.sure for one in written)
    demo = load_config(SANDBOX_CONFIG.with_name("demo.yaml"))
    for table in demo.tables:
        own = config.table(table.table)
        assert {c: f.to for c, f in table.fields.items()}.items() <= {c: f.to for c, f in own.fields.items()}.items()
        assert (own.key, own.links) == (table.key, table.links)


class TestAFileThatIsThere:
    def test_is_not_written_over_without_force(self, program: Program, path: Path) -> None:
        path.write_text("mine")
        with pytest.raises(SyncAssetsError, match="exists already, and was not changed"):
            init(program, path, "contact")
        assert path.read_text() == "mine"
        init(program, path, "contact", force=True)
        assert load_config(path).targets == {"contact": "profile"}
        assert path.with_name("sync_assets.schema.json").read_bytes() == PACKAGED.read_bytes()

    def test_of_the_program_itself_is_never_written(self, program: Program) -> None:
        before = SANDBOX_CONFIG.read_bytes()
        with pytest.raises(SyncAssetsError, match="belongs to the program"):
            init(program, SANDBOX_CONFIG, "contact", force=True)
        with pytest.raises(SyncAssetsError, match="belongs to the program"):
            add(program, SANDBOX_CONFIG, "new_order")
        assert SANDBOX_CONFIG.read_bytes() == before

    def test_gets_one_more_table_and_keeps_every_other_byte(self, program: Program, path: Path) -> None:
        text = (
            "\ufeff# Ours, for Zoë\r\ntables:\r\n- {table: contact, resource: profile, key: externalId, "
            "fields: {firstname: firstName}}   # people\r\n# the rest\r\nprivacy_acknowledged:   true"
        )
        path.write_bytes(text.encode())
        path.chmod(0o640)
        add(program, path, "new_order")
        now = path.read_bytes().decode()
        begin, end = text.index("# the rest"), len(text) - text.index("# the rest")
        assert (now[:begin], now[-end:]) == (text[:begin], text[-end:])
        assert load_config(path).targets == {"contact": "profile", "new_order": "cusOrder"}
        assert path.stat().st_mode & 0o777 == 0o640
        assert {file.name for file in path.parent.glob(".sync*")} <= {f".{path.name}.types"}

    def test_stays_as_it_is_where_the_guardrails_allow_no_more(self, program: Program, path: Path) -> None:
        init(program, path, "contact")
        path.write_text(path.read_text() + "guardrails: {max_custom_entities: 0}\n")
        before = path.read_bytes()
        with pytest.raises(SyncAssetsError, match="tables besides contact: 1 of at most 0"):
            add(program, path, "new_order")
        assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ([], "No table was named"),
        (["contact", "contact"], "contact is mapped already, to profile"),
        (["new_ordr=cusOrder"], "Dynamics 365 has no table `new_ordr`. Did you mean `new_order`?"),
        (["nothing_like_it"], "Dynamics 365 has no table `nothing_like_it`. Write its logical name"),
        (["systemuser=cusOrder"], "systemuser: change tracking is off: switch it on"),
        (["account"], "No free resource of Campaign has a name like account. Free are cusOrder, "),
        (["new_order=profile", "contact=profile"], "profile is taken by new_order"),
        (["new_order=cusOdrer"], "Campaign has no resource cusOdrer. Did you mean cusOrder?"),
    ],
)
def test_an_impossible_request_is_refused_and_nothing_is_written(
    program: Program, path: Path, tables: list[str], message: str
) -> None:
    with pytest.raises(SyncAssetsError) as caught:
        init(program, path, *tables)
    assert message in str(caught.value)
    assert list(path.parent.glob("sync_assets*")) == []


class TestCommands:
    def test_init_lists_the_tables_that_can_be_mapped(self, program: Program) -> None:
        status, document = program.json("init", "--list")
        assert status == 0
        listed = {one["table"]: one["resource"] for one in document["tables"]}
        assert listed == {
            "contact": "profile",
            "new_order": "cusOrder",
            "new_orderline": "cusOrderLine",
            "account": None,
        }
        assert document["resources"]["cusStore"] == "customResources"

    def test_a_failure_is_a_line_on_standard_error(self, program: Program, tmp_path: Path) -> None:
        status, output, errors = program.run("add", "new_order", "--config", str(tmp_path / "none.yaml"))
        assert (status, output) == (1, "")
        assert "none.yaml is missing. Write it first: `sync-assets init --table new_order`." in errors

    def test_init_and_add_name_the_written_file_and_the_next_command(self, program: Program, path: Path) -> None:
        status, output, errors = program.run("init", "--table", "contact", "--config", str(path))
        assert (status, errors) == (0, "")
        assert "contact -> profile, key externalId: 22 columns mapped, 2 less sure ones commented out" in output
        status, output, errors = program.run("add", "new_order", "--config", str(path))
        assert (status, errors) == (0, "")
        assert "new_order -> cusOrder, key cusOrderId: 9 columns mapped, linked by new_contactid -> contact" in output
