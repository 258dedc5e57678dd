"""Contacts become profiles: what a sync costs, what it leaves alone, what it does with what is refused."""

from __future__ import annotations

from datetime import UTC, datetime

from sync_assets_tests.support.program import Program, calls

N = 50


def test_a_first_load_costs_an_insert_each_and_afterwards_only_changes_cost(program: Program) -> None:
    admin = program.sandbox.admin
    first = program.sync()
    assert first.status == 0, first.problems
    assert first.document["engine_calls"] == admin.engine_calls() == calls(insert=N, read=2)
    assert first.document["tables"]["contact"] == {
        "resource": "profile",
        "pending": 0,
        "waiting": 0,
        "failed": 0,
        "held": 0,
        "orphaned": 0,
        "excluded": 0,
        "synced": N,
        "waiting_for": {},
        "deletes_held_back": 0,
        "deletes_following": {},
        "refused_in_updates": [],
        "deletes_orphaning": {},
        "retried": None,
        "unconfirmed": 0,
        "unconfirmed_until": None,
        "maintenance_since": None,
        "problem": None,
        "feed": first.document["tables"]["contact"]["feed"],
    }
    program.assert_in_step()

    assert program.sync().document["engine_calls"] == calls()

    admin.change("contact", 1, jobtitle="Mapped")
    assert program.sync().document["engine_calls"] == calls(update=1)

    admin.change("contact", 1, fax="+1 555 0100")
    assert program.sync().document["engine_calls"] == calls()

    admin.change("contact", 1, birthdate="1990-01-02")  # apply_updates: false
    assert program.sync().document["engine_calls"] == calls()
    assert admin.engine_calls() == calls(insert=N, update=1, read=2)
    program.assert_in_step()


def test_several_changes_between_two_syncs_are_one_call(program: Program) -> None:
    program.sync()
    for title in ("One", "Two", "Three"):
        program.sandbox.admin.change("contact", 1, jobtitle=title)
    assert program.sync().document["engine_calls"] == calls(update=1)
    program.assert_in_step()


def test_a_cleared_field_is_cleared_in_campaign(program: Program) -> None:
    program.sync()
    program.sandbox.admin.change("contact", 3, jobtitle=None, address1_city=None)
    assert program.sync().status == 0
    program.assert_in_step()


def test_a_refused_row_stands_in_rejects_with_the_reason_and_all_others_arrive(program: Program) -> None:
    admin = program.sandbox.admin
    admin.settings("campaign", bare_data_policy=False)
    [wrong] = admin.change("contact", 1, emailaddress1="not-an-address")
    done = program.sync()
    assert done.status == 2
    assert not done.problems
    assert done.document["tables"]["contact"]["failed"] == 1
    assert done.document["tables"]["contact"]["synced"] == N - 1
    status, found = program.json("rejects")
    assert status == 0
    [reject] = found["rejects"]
    assert (reject["table"], reject["id"], reject["attempts"]) == ("contact", wrong, 1)
    assert "email" in reject["reason"].lower()
    assert "not-an-address" not in str(found)

    assert program.sync().document["engine_calls"] == calls()  # a refused record is not sent again by itself
    assert program.json("retry", "contact", "--id", wrong)[1] == {"retried": 1, "not_retryable": 0}
    assert program.sync().document["engine_calls"] == calls(insert=1)

    admin.change("contact", [wrong], emailaddress1="right@example.org")
    assert program.sync().status == 0  # a change makes it pending by itself
    program.assert_in_step()


def test_foreign_profiles_stay_as_they_are_and_one_with_our_id_is_updated(program: Program) -> None:
    admin = program.sandbox.admin
    ours = admin.dump_d365()[0]
    admin.add_profiles(
        {"email": ours["emailaddress1"] or "same@example.org", "firstName": "Walk", "lastName": "In"},
        {"email": "hand@example.org", "firstName": "Hand", "externalId": ours["contactid"]},
    )
    [foreign] = [profile for profile in admin.dump_campaign() if not profile["externalId"]]
    assert program.sync().status == 0
    assert [profile for profile in admin.dump_campaign() if not profile["externalId"]] == [foreign]
    program.assert_in_step()
    assert admin.engine_calls() == calls(insert=N - 1, update=1, read=2)  # the read has shown which one stands there


def test_a_profile_deleted_in_campaign_comes_back_with_the_next_change(program: Program) -> None:
    admin = program.sandbox.admin
    program.sync()
    [key] = admin.change("contact", 1, jobtitle="Back again")
    admin.post("/campaign/delete", {"resource": "profile", "pkeys": [program.profiles()[key]["PKey"]]})
    assert program.sync().status == 0
    program.assert_in_step()


def test_an_expired_position_means_a_full_read_that_costs_no_call(program: Program) -> None:
    program.sync()
    program.sandbox.admin.expire("contact")
    program.sandbox.admin.change("contact", 2, jobtitle="After the gap")
    assert program.sync().document["engine_calls"] == calls(update=2)
    program.assert_in_step()


def test_status_counts_the_calls_of_the_day_and_knows_the_feed(program: Program) -> None:
    started = datetime.now(UTC).replace(microsecond=0)
    program.sync()
    program.sandbox.admin.change("contact", 2, jobtitle="Changed")
    program.sync()
    status, document = program.json("status")
    assert status == 0
    assert document["engine_calls"] == calls(insert=N, update=2, read=2)
    feed = document["tables"]["contact"]["feed"]
    assert feed["complete"]
    assert started <= datetime.fromisoformat(feed["position_saved_at"]) <= datetime.now(UTC)
    assert document["opt_out"]["files_processed"] == 0
