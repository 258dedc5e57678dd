"""What the application user may do: refusals, and what the Web API tells about it."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

from sync_assets.sandbox.dataverse.tables import USER_ID
from sync_assets_tests.unit.sandbox.dataverse.web_api import WebApi

READ, WRITE, READ_ORDER = "prvReadContact", "prvWriteContact", "prvReadnew_Order"


def held(api: WebApi, *names: str) -> dict[str, str]:
    """Privilege -> depth, as the function bound to the user tells it."""
    function = "Microsoft.Dynamics.CRM.RetrieveUserSetOfPrivilegesByNames(PrivilegeNames=@p1)"
    answer = api.get(f"systemusers({USER_ID})/{function}?@p1={quote(json.dumps(names))}")
    assert answer.status == 200, answer.body
    return {one["PrivilegeName"]: one["Depth"] for one in answer.json["RolePrivileges"]}


def restrict(api: WebApi, table: str, **depths: Any) -> None:
    api.org.switches.change({"privileges": {table: depths}})


def test_privileges_are_told_at_their_depth_and_those_not_held_are_left_out(api: WebApi) -> None:
    assert held(api, READ, WRITE, READ_ORDER) == {READ: "Global", WRITE: "Global", READ_ORDER: "Global"}
    restrict(api, "contact", Read="Local", Write="None")
    assert held(api, READ, WRITE, READ_ORDER) == {READ: "Local", READ_ORDER: "Global"}


def test_without_the_privilege_nothing_is_read_or_written_and_other_tables_are(api: WebApi) -> None:
    row = api.new(lastname="A")
    restrict(api, "contact", Read="None", Write="None")
    for answer in (
        api.get("contacts"),
        api.get(f"contacts({row})"),
        api.get("contacts/$count"),
        api.patch(f"contacts({row})", {"lastname": "B"}),
    ):
        assert (answer.status, answer.error) == (403, "0x80040220")
    assert api.get("new_orders").status == 200


def test_a_role_that_may_not_read_roles_learns_nothing_of_its_own(api: WebApi) -> None:
    api.org.switches.change({"privileges_told": False})
    function = f"Microsoft.Dynamics.CRM.RetrieveUserSetOfPrivilegesByNames(PrivilegeNames=['{READ}'])"
    assert api.get(f"systemusers({USER_ID})/{function}").error == "0x80040220"
    assert api.get(f"systemusers({USER_ID})/systemuserroles_association").error == "0x80040220"
