"""The role that `role` writes into a solution: the privileges that the program needs, and no others."""

from contextlib import closing
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from zipfile import ZipFile

import pytest

from sync_assets.commands.role import write_role
from sync_assets.dataverse import privileges
from sync_assets.errors import SyncAssetsError
from sync_assets_tests.conftest import SandboxFactory
from sync_assets_tests.support.opt_outs import switch_on
from sync_assets_tests.support.program import Program
from sync_assets_tests.support.sandbox_process import SandboxProcess
from sync_assets_tests.unit.commands.test_doctor import ORDER


@pytest.fixture(scope="module")
def shared(sandbox_factory: SandboxFactory) -> SandboxProcess:
    return sandbox_factory(contacts=1)


@pytest.fixture
def program(shared: SandboxProcess, tmp_path: Path) -> Program:
    return Program(shared, tmp_path, further=[ORDER])


@pytest.mark.parametrize(
    ("further", "direction", "of_tables"),
    [
        ([], "disabled", {"prvReadContact"}),
        ([ORDER], "d365_to_campaign", {"prvReadContact", "prvReadnew_Order"}),
        ([ORDER], "bidirectional", {"prvReadContact", "prvWriteContact", "prvReadnew_Order"}),
    ],
    ids=["one table", "two tables", "opt-outs to Dynamics 365"],
)
def test_the_role_of_a_solution_has_exactly_the_privileges_that_the_program_needs(
    program: Program, further: list[dict[str, Any]], direction: str, of_tables: set[str]
) -> None:
    program.further = further
    switch_on(program, direction)
    status, document = program.json("role", "role.zip")
    assert (status, document["file"], document["depth"]) == (0, "role.zip", "Global")
    with ZipFile(program.home / "role.zip") as solution:
        files = {name: ElementTree.fromstring(solution.read(name)) for name in solution.namelist()}
    assert files.keys() == {"solution.xml", "customizations.xml", "[Content_Types].xml"}
    [role], [root] = files["customizations.xml"].iter("Role"), files["solution.xml"].iter("RootComponent")
    assert root.attrib == {"type": "20", "id": role.attrib["id"], "behavior": "0"}
    granted = [one.attrib for one in role.iter("RolePrivilege")]
    definitions = {"prvReadAttribute", "prvReadEntity", "prvReadOptionSet", "prvReadOrganization"}
    assert {one["name"] for one in granted} == of_tables | definitions == set(document["privileges"])
    assert {one["level"] for one in granted} == {"Global"}
    assert len(granted) == len(document["privileges"])
    assert not (program.home / "dagster/ledger.db").exists()


@pytest.mark.parametrize(
    ("file", "words"),
    [("config.yaml", "Name a file that ends in .zip"), ("none/role.zip", "can't be written (No such file")],
)
def test_a_role_is_written_to_a_zip_file_only(program: Program, file: str, words: str) -> None:
    before = Path(program.env["SYNC_ASSETS_CONFIG"]).read_bytes()
    status, _, errors = program.run("role", file)
    assert (status, words in errors) == (1, True), errors
    assert (program.home / "config.yaml").read_bytes() == before


def test_no_role_is_written_if_a_table_has_no_privilege_of_its_own(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def names(_client: object, table: str) -> dict[str, str]:
        return {"Read": "prvReadContact"} if table == "contact" else {}

    monkeypatch.setattr(privileges, "privilege_names", names)
    with closing(program.runtime()) as runtime, pytest.raises(SyncAssetsError, match="Read of its own for new_order"):
        write_role(runtime, program.home / "role.zip")
    assert not (program.home / "role.zip").exists()
