"""`plan --out FILE` and `sync --plan FILE`: exactly what was approved is sent."""

from pathlib import Path

from sync_assets_tests.support.program import Program


def approved(program: Program, *options: str) -> Path:
    """A file with the plan of the next sync."""
    file = program.home / "approved.plan"
    file.unlink(missing_ok=True)
    status, _, errors = program.run("plan", "--out", str(file), *options)
    assert status == 0, errors
    return file


def test_a_row_that_changed_since_and_one_that_is_new_stay_pending(program: Program) -> None:
    admin = program.sandbox.admin
    file = approved(program)
    assert file.stat().st_mode & 0o777 == 0o600
    contacts = admin.dump_d365()
    changed, *planned = sorted(contact["contactid"] for contact in contacts)
    text = file.read_text("utf-8")
    assert all(id_ in text for id_ in (changed, *planned))
    assert not [one for one in contacts if (one["emailaddress1"] or one["lastname"]) in text], "no values"
    admin.change("contact", [changed], lastname="Changed")
    [new] = admin.create("contact", {"lastname": "New"})
    status, output, errors = program.run("sync", "--plan", str(file))
    print(output, errors)
    assert status == 1
    assert "1 record changed since the plan, 1 record is not in it" in errors.splitlines()[-1]
    assert program.profiles().keys() == {*planned}
    status, document = program.json("sync", "--plan", str(file))
    assert (status, document["plan"]) == (1, {"named": 50, "changed": 1, "not_named": 1})
    assert sum(document["engine_calls"].values()) == 0, "a plan that is used twice sends nothing again"
    assert program.run("sync", "--plan", str(approved(program)))[0] == 0
    assert program.profiles().keys() == {changed, new, *planned}
    program.assert_in_step()
