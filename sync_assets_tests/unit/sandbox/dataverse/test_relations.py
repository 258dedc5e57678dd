"""A row that others point to may be kept from being deleted."""

from sync_assets_tests.unit.sandbox.dataverse.web_api import WebApi


def test_a_contact_with_orders_is_not_deleted_until_they_are_gone(api: WebApi) -> None:
    contact = api.new(lastname="Byron")
    order = api.new("new_orders", **{"new_ContactId@odata.bind": f"/contacts({contact})"})
    api.org.switches.change({"on_parent_delete": {"new_order": "restrict"}})
    version = api.org.version
    reply = api.delete(f"contacts({contact})", if_match="*")
    assert (reply.status, reply.error) == (405, "0x80040227")
    assert reply.message.endswith("is associated with another object and cannot be deleted.")
    assert api.org.version == version, "nothing was written"
    api.delete(f"new_orders({order})")
    assert api.delete(f"contacts({contact})").status == 204
