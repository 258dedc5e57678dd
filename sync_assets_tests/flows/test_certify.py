"""`certify` finds out how both systems behave, whichever way they are, and leaves nothing behind in them.

Killed, and what a user types and reads: test_certify_command.py.
"""

from importlib.metadata import version
from typing import Any

import pytest

from sync_assets.audit.certification.certification import NAME
from sync_assets.ledger import Ledger
from sync_assets_tests.flows.certifying import certified, chained, doctors_lines, left, not_workable, rows
from sync_assets_tests.support.ledgers import session_of
from sync_assets_tests.support.premises import DOCUMENTED, NO_KEYS_IN_URLS, POSITIONS, V8, Position, on_positions
from sync_assets_tests.support.program import Program, calls

YES, NO = "the record is found", "the record is not found"
GET, PATCH, DELETE, FILTER = "GET by the key", "PATCH by the key", "DELETE by the key", "a filter finds the key"
TAKEN, IN_BODY, REASON = (
    "POST with a key that is taken",
    "the key in the body of a PATCH",
    "the reason for a value that is not valid",
)
LOCATION, EMPTY = "PATCH of a sub-field of location", "empty values"
TIMES = "change times of opt-outs"
TWICE = "a second record is made"
REQUIRED = "the link is required; Campaign hides a record without it for good"

FOUND: dict[str, dict[tuple[str, str], str]] = {
    DOCUMENTED: {
        ("profile", GET): YES,
        ("profile", PATCH): YES,
        ("profile", DELETE): NO,
        ("profile", TAKEN): "refused, with the reason",
        ("cusOrder", IN_BODY): "accepted",
        ("cusOrder", REASON): "refused, with the reason",
        ("cusOrderLine", "link cusOrderLink by the parent's PKey"): "stored",
        ("cusOrder", "link cusContactLink by the parent's key"): REQUIRED,
        ("cusOrder", "link cusContactLink set to null"): REQUIRED,
        ("profile", LOCATION): "stored",
        ("profile", "a text that is too long"): "refused",
        ("contact", "an id occurs in a page once"): "no id is repeated in a page",
        ("contact", "a read of small pages"): "4 pages of 1: the same rows, each once",
        ("", "$batch"): "two reads, two answers",
        ("", "sign-in with the configured credential"): "accepted",
    },
    "no keys in URLs": {("profile", GET): NO, ("cusOrder", PATCH): NO, ("cusOrder", FILTER): YES},
    "keys in URLs are bad PKeys": {("profile", GET): NO, ("profile", FILTER): YES},
    "keys in URLs of profiles only": {("profile", GET): YES, ("cusOrder", GET): NO, ("cusOrder", FILTER): YES},
    "deletes by key": {("profile", DELETE): YES, ("cusOrder", DELETE): YES},
    "no key is unique": {("profile", TAKEN): TWICE, ("cusOrderLine", TAKEN): TWICE},
    "the key of profiles is not unique": {("profile", TAKEN): TWICE, ("cusOrder", TAKEN): "refused, with the reason"},
    "no key in a PATCH": {("profile", IN_BODY): "refused", ("cusOrder", PATCH): YES},
    "bare errors": {
        ("profile", TAKEN): "refused, without the reason",
        ("cusOrder", REASON): "refused, without the reason",
        ("profile", DELETE): NO,
    },
    V8: {
        ("profile", TAKEN): "refused, without the reason",
        ("profile", "PATCH with an empty body"): "accepted (204)",
        ("profile", LOCATION): "refused or not stored",
        ("cusOrder", REASON): "refused, without the reason",
    },
    "small pages": {("contact", "a page of 5,000 rows"): "7 rows, more follow"},
    "no memory for large pages": {
        ("contact", "a page of 5,000 rows"): "Dynamics 365 fails; a page of 1,250 rows arrives"
    },
    "nothing as documented": {
        ("profile", GET): NO,
        ("profile", TAKEN): TWICE,
        ("profile", FILTER): YES,
        ("cusOrder", REASON): "refused, without the reason",
    },
}
"""What must be found, by position."""
QUICK = (DOCUMENTED, V8, "nothing as documented")


@pytest.fixture
def chain(program: Program, position: Position) -> Program:
    return chained(program, position)


@on_positions(quick=QUICK)
def test_each_position_is_found_and_workable_and_nothing_is_left(
    chain: Program, request: pytest.FixtureRequest
) -> None:
    admin = chain.sandbox.admin
    document = certified(chain)
    result = rows(document)
    name = request.node.callspec.params["position"]
    for at, expected in FOUND.get(name, {}).items():
        assert result[at]["found"] == expected, at
    assert (not_workable(document), document["workable"], document["left"]) == ({}, True, [])
    assert left(chain) == {}
    assert all(
        table["dump"] == [] for table in [{"dump": admin.dump_campaign(name)} for name in ("profile", "cusOrder")]
    )
    asked = {entry["method"] for entry in admin.journal("d365") if "$batch" not in entry["path"]}
    assert asked == {"GET"}, "Dynamics 365 is only read"
    assert document["engine_calls"] == admin.engine_calls() or POSITIONS[name].faults


@pytest.mark.parametrize(
    ("links_by_key", "expected", "way"),
    [
        ("resolved", "stored", "The parent's key is sent: no look-up."),
        ("empty", "accepted, and nothing is stored", "The parent's PKey is looked up and sent."),
        pytest.param("refused", "refused", "The parent's PKey is looked up and sent.", marks=pytest.mark.slow),
    ],
)
def test_a_link_that_a_record_may_lack_is_tried_by_key_and_removed(
    program: Program, position: Position, links_by_key: str, expected: str, way: str
) -> None:
    program.sandbox.admin.settings("campaign", links_by_key=links_by_key)
    chained_loosely(program, position)
    document = certified(program)
    by_key = rows(document)["cusOrder", "link cusContactLink by the parent's key"]
    assert (by_key["found"], by_key["program"], by_key["outcome"]) == (expected, way, "workable")
    assert rows(document)["cusOrder", "link cusContactLink set to null"]["found"] == "removed"
    assert (document["workable"], left(program)) == (True, {})


def chained_loosely(program: Program, position: Position, **link: Any) -> Program:
    """With links of cardinality zero or one, in Campaign as well."""
    program.sandbox.admin.publish_link("cusOrder", "cusContactLink", "zero_or_one")
    program.sandbox.admin.publish_link("cusOrderLine", "cusOrderLink", "zero_or_one")
    return chained(program, position, cardinality="zero_or_one", **link)


def test_an_attribute_that_no_patch_changes_and_a_key_without_a_way_are_not_workable_until_the_configuration_fits(
    program: Program,
) -> None:
    program.sandbox.admin.settings("campaign", key_in_url=False)
    [(at, way)] = not_workable(certified(program)).items()
    assert at == ("profile", "a record is found by our id")
    assert "name it in `filter`" in way
    assert left(program) == {}
    program.sandbox.admin.settings("campaign", key_in_url=True)
    program.sandbox.admin.settings("campaign", location_in_patch="refused", refused_in_patch=["cusVip"])
    wrong = not_workable(certified(program))
    assert wrong.keys() == {("profile", LOCATION), ("profile", EMPTY)}
    assert ": cusVip. Map" in wrong["profile", EMPTY]
    assert "location.city" in wrong["profile", LOCATION]
    assert "`apply_updates: false`" in wrong["profile", LOCATION]
    program.table["fields"] = program.table["fields"] | {
        "address1_city": {"to": "location.city", "apply_updates": False},
        "donotfax": {"to": "cusVip", "apply_updates": False},
    }
    again = certified(program)
    assert (again["workable"], left(program)) == (True, {})
    assert rows(again)["profile", LOCATION]["found"] == "refused or not stored"


def test_opt_outs_without_a_time_of_change_texts_that_are_cut_and_a_missing_privilege_are_named(
    program: Program,
) -> None:
    program.sandbox.admin.settings("campaign", opt_outs_without_time=["blackListFax"], cut_long_strings=True)
    program.sandbox.admin.settings("d365", privileges={"contact": {"Read": "Basic"}})
    document = certified(program)
    times = rows(document)["profile", TIMES]["found"]
    assert times.endswith("missing for blackListFax, blackListPushnotification")
    assert "blackListEmail" in times.partition(";")[0]
    assert rows(document)["profile", "a text that is too long"]["found"] == "cut without an error"
    assert "prvReadContact" in not_workable(document)["contact", "privilege to read"]


def test_deleted_rows_are_seen_in_the_feed_of_a_ledger_that_has_one(program: Program) -> None:
    premise = ("contact", "deleted rows in the change feed")
    assert rows(certified(program))[premise]["outcome"] == "not tried"
    program.sync()
    assert rows(certified(program))[premise]["found"] == "no row was deleted since the last sync"
    program.sandbox.admin.delete("contact", 1)
    assert rows(certified(program))[premise]["found"] == "seen"
    again = program.sync()
    assert (again.status, len(program.profiles())) == (0, 50), "the stored position did not move"


@on_positions(DOCUMENTED, "no keys in URLs", "deletes by key", "bare errors", quick=(DOCUMENTED,))
def test_a_sync_after_a_certification_finds_nothing_out(program: Program, request: pytest.FixtureRequest) -> None:
    """Every request is one that a program makes which has worked with this Campaign before."""
    position = request.node.callspec.params["position"]
    admin = program.sandbox.admin
    program.table |= {"apply_deletes": True}
    certified(program)
    program.sync()
    by_key, deletes = position != "no keys in URLs", position == "deletes by key"
    contacts = admin.change("contact", 5, lastname="Changed")
    admin.delete("contact", contacts[:2])
    admin.clear_journal()
    done = program.sync()
    assert (done.status, done.problems) == (0, [])
    assert done.document["engine_calls"] == calls(update=3, delete=2, read=(0 if by_key else 3) + (0 if deletes else 2))
    refused = [entry for entry in admin.journal("campaign") if entry["status"] >= 400]
    assert refused == []


def test_a_certification_replaces_the_findings_of_an_earlier_one(program: Program, position: Position) -> None:
    admin = program.sandbox.admin
    program.table = NO_KEYS_IN_URLS.table(program.table)

    def result() -> tuple[str | None, str | None]:
        certified(program)
        with Ledger.open(program.runtime().settings.ledger_url) as ledger:
            known = ledger.dialect.facts("profile")
        return known.get("key_in_url"), known.get("key_unique")

    assert result() == ("yes", "yes")
    admin.settings("campaign", unique_keys={"profile": False})
    assert result() == ("no", None)
    admin.settings("campaign", unique_keys={})
    assert result() == ("yes", "yes")


def test_doctor_tells_when_the_systems_were_certified_and_what_is_not_workable(program: Program) -> None:
    outcome, message = doctors_lines(program)["certification"]
    assert (outcome, message.startswith("never. `sync-assets certify`")) == ("warn", True)
    program.more["CAMPAIGN_URL"] = program.sandbox.env["CAMPAIGN_URL"].removesuffix("-mkt-stage")  # no stage tenant
    assert [outcome for outcome, _ in doctors_lines(program).values()] == ["ok"]
    program.more.clear()
    program.sandbox.admin.settings("campaign", location_in_patch="refused")
    at = certified(program)["certified_at"]
    assert doctors_lines(program) == {
        "certification": ("ok", f"the last one ended {at} by version {version('sync-assets')}"),
        f"certification of profile: {LOCATION}": (
            "warn",
            "refused or not stored. `sync-assets certify` tries it again, and names what to change",
        ),
    }
    program.sandbox.admin.settings("campaign", location_in_patch="accepted")
    certified(program)
    [(_, message)] = doctors_lines(program).values()
    assert message.endswith(", all workable")


def test_it_is_refused_before_the_first_write_if_a_budget_may_not_suffice_or_another_one_is_under_way(
    program: Program,
) -> None:
    program.guardrails = {"engine_calls_per_day": 20}
    status, output, errors = program.run("certify", "--yes")
    assert (status, output, "Nothing was written" in errors) == (1, "", True)
    program.guardrails = {}
    with Ledger.open(program.runtime().settings.ledger_url) as ledger:
        assert ledger.leases.take(f"campaign/{NAME}", session_of(ledger))
        status, _, errors = program.run("certify", "--yes")
        assert (status, "Another `sync-assets certify`" in errors) == (1, True)
    assert program.sandbox.admin.engine_calls() == calls()


def test_lost_answers_are_no_findings(program: Program) -> None:
    admin = program.sandbox.admin
    for method in ("POST", "PATCH", "DELETE"):
        admin.fault("campaign", "cut_after", method=method, times=1, path="^/.*profile")
    document = certified(program)
    assert (document["workable"], left(program)) == (True, {})
    assert rows(document)["profile", TAKEN]["found"] == "refused, with the reason"


@pytest.mark.parametrize("stated", [True, False])
def test_a_link_that_campaign_requires_and_that_is_not_mapped_leaves_nothing_and_stops_its_table(
    program: Program, position: Position, stated: bool
) -> None:
    """A record without it would be hidden, and could not be removed. stated: in the metadata of Campaign."""
    admin = program.sandbox.admin
    admin.settings("campaign", mandatory_in_metadata=stated)
    chained(program, position)
    program.further = [{**program.further[0], "links": []}]
    for _ in range(2):
        document = certified(program)
        row = rows(document)["cusOrder", "a synthetic record is made"]
        found = f"cusContactLink is {'' if stated else 'perhaps '}required, and not among the `links`"
        assert (row["found"], row["outcome"]) == (found, "not workable" if stated else "not tried")
        assert (document["workable"], document["left"], left(program)) == (not stated, [], {})
    program.further[0]["links"] = [{"field": "new_contactid", "to": "cusContactLink", "table": "contact"}]
    assert (certified(program)["workable"], left(program)) == (True, {})


def test_a_link_that_is_not_workable_stops_its_table_in_plan_and_sync_until_the_configuration_fits(
    program: Program, position: Position
) -> None:
    admin = program.sandbox.admin
    admin.settings("campaign", links_by_key="empty")
    chained_loosely(program, position, style="key")
    wrong = not_workable(certified(program))
    assert wrong.keys() == {
        ("cusOrder", "link cusContactLink by the parent's key"),
        ("cusOrderLine", "link cusOrderLink by the parent's key"),
    }
    assert all("`style: auto`" in way for way in wrong.values())
    assert left(program) == {}
    for command in ("plan", "sync"):
        status, _, errors = program.run(command)
        assert (status, "the parent's key is not workable" in errors) == (2, True), command
    assert admin.dump_campaign("cusOrder") == []
    for table in program.further:
        table["links"] = [link | {"style": "auto"} for link in table["links"]]
    assert program.run("plan")[0] == 0
    assert program.sync().status == 0


@pytest.mark.parametrize(
    ("way", "taken"), [("PUT of the record", True), ("PUT of the part", True), ("PUT empties", False)]
)
def test_a_put_that_updates_an_address_and_empties_nothing_is_found_and_then_used(
    program: Program, way: str, taken: bool
) -> None:
    admin = program.sandbox.admin
    admin.settings("campaign", location_in_patch="not_valid", location_ways=[way])
    assert program.sync().status == 0
    found = rows(certified(program))["profile", LOCATION]
    expected = f"stored by another request: {way}" if taken else "refused or not stored"
    assert (found["found"], found["outcome"]) == (expected, "workable" if taken else "not workable")
    assert left(program) == {}
    [moved] = admin.change("contact", 1, address1_city="Elsewhere")
    pkeys = [program.profiles()[moved]["PKey"]]
    admin.post("/campaign/change", {"resource": "profile", "pkeys": pkeys, "set": {"location": {"zipCode": "1234"}}})
    planned, done = program.json("plan")[1]["engine_calls"], program.sync()
    assert done.document["engine_calls"] == planned or not taken
    assert program.profiles()[moved]["location"]["zipCode"] == "1234", "it is not mapped"
    profile = program.profiles()[moved]
    assert (profile["location"]["city"] == "Elsewhere", bool(profile["lastName"])) == (taken, True)
