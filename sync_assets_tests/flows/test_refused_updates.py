"""Whole runs where Campaign refuses an attribute in updates, as v8 does with `location`, and where it takes it."""

import pytest

from sync_assets_tests.support.program import Program

CITY = "location.city"


def move(program: Program, number: int, name: str) -> list[str]:
    """Change the e-mail address, the city and the job title of some contacts. Return their ids."""
    ids = sorted(program.profiles())[:number]
    for id_ in ids:
        values = {"emailaddress1": f"{name}.{id_[:8]}@example.org", "address1_city": name, "jobtitle": name}
        program.sandbox.admin.change("contact", [id_], **values)
    return ids


def held(program: Program, ids: list[str]) -> list[tuple[str, str, str]]:
    """Return the beginning of the e-mail address, the city and the job title of profiles."""
    result = [program.profiles()[id_] for id_ in ids]
    return [(one["email"].partition(".")[0].lower(), one["location"]["city"], one["cusJobTitle"]) for one in result]


def named(program: Program, attribute: str) -> dict[str, bool]:
    """Return which commands name an attribute that Campaign refuses in updates."""
    doctor, plan, status = program.run("doctor")[1], program.run("plan")[1], program.run("status")[1]
    result = {"doctor": doctor, "plan": plan, "status": status}
    return {command: f"no update of {attribute}" in " ".join(text.split()) for command, text in result.items()}


@pytest.mark.parametrize(
    "way", ["refused", *(pytest.param(way, marks=pytest.mark.premises) for way in ("accepted", "not_valid"))]
)
def test_an_address_that_campaign_refuses_in_updates_never_holds_back_an_e_mail(program: Program, way: str) -> None:
    admin, taken = program.sandbox.admin, way == "accepted"
    assert program.sync().status == 0
    before = program.profiles()
    admin.settings("campaign", location_in_patch=way)
    moved = move(program, 10, "Elsewhere")
    done = program.sync()
    assert (done.status, done.document["tables"]["contact"]["rejected"]) == (0, 0)
    cities = [before[id_]["location"]["city"] for id_ in moved]
    assert held(program, moved) == [("elsewhere", "Elsewhere" if taken else city, "Elsewhere") for city in cities]
    spent = done.document["engine_calls"]
    assert spent["read"] == (0 if taken else 1)
    assert spent["update"] == (10 if taken else 13)  # one refused, and two to prove it

    assert set(named(program, CITY).values()) == {not taken}
    attributes = program.json("explain", moved[0])[1]["tables"]["contact"]["attributes"]
    assert [one["apply_updates"] for one in attributes if one["attribute"] == CITY] == [taken]
    assert move(program, 10, "Further") == moved
    again = program.sync()
    assert again.document["engine_calls"] == {"insert": 0, "update": 10, "delete": 0, "read": 0}  # remembered
    assert program.sync().document["engine_calls"] == {"insert": 0, "update": 0, "delete": 0, "read": 0}
    [new] = admin.create("contact", {"lastname": "New", "address1_city": "Newtown"})
    assert program.sync().status == 0
    assert program.profiles()[new]["location"]["city"] == "Newtown"

    admin.settings("campaign", location_in_patch="accepted")
    assert program.run("replay", "contact", "--force")[0] == 0  # which tries a refused attribute again
    assert program.sync().status == 0
    assert {city for _, city, _ in held(program, moved)} == {"Further"}
    assert set(named(program, CITY).values()) == {False}
