"""Opening a ledger: it is created or brought up to date, or says in one line why not and what to do."""

import atexit
import base64
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

import sync_assets.ledger
from sync_assets.ledger import BlockReason, Counts, Ledger, LedgerError, LinkSpec, Outcome
from sync_assets.ledger.repositories.opt_outs import OptOutsLeft
from sync_assets.ledger.rules.opt_outs import OptOutState
from sync_assets.ledger.scratch import scratch_ledger
from sync_assets.ledger.storage.migrate import HEAD, VERSION_TABLE
from sync_assets.ledger.storage.payload_cipher import MARK, PayloadCipher, key_name
from sync_assets.ledger.storage.schema import metadata, short_id
from sync_assets_tests.support.ledgers import DAY, capture, guid, linked, push, row, stored

SECRET = "correct-horse"


def test_a_ledger_is_made_where_there_is_none_and_found_again(new_url: str) -> None:
    with Ledger.open(new_url) as ledger:
        assert ledger.made
        capture(ledger, row("anna"))
    with Ledger.open(new_url) as ledger:
        assert not ledger.made
        assert len(stored(ledger)) == 1


@pytest.mark.filterwarnings("ignore:(Skipped unsupported reflection|autogenerate skipping) .*expression-based")
def test_the_migrations_bring_about_the_schema_that_the_code_knows(url: str) -> None:
    engine = sa.create_engine(url)
    # How records are found is each database's own affair, which Alembic does not see.
    ours = {"sync_record_id", "sync_record_key"}
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection,
            opts={
                "include_name": lambda name, kind, _: kind != "table" or name in metadata.tables,
                "include_object": lambda _, name, *__: name not in ours,
            },
        )
        assert compare_metadata(context, metadata) == []
        unique = [one["name"] for one in sa.inspect(connection).get_unique_constraints("sync_record")]
        if engine.name == "sqlite":
            assert unique == []
            index = "SELECT sql FROM sqlite_master WHERE name = 'sync_record_key'"
            assert connection.exec_driver_sql(index).scalars().one().endswith(f"({short_id('id')})")
        else:
            assert unique == ["sync_record_id"]
    engine.dispose()


def earlier_version(url: str, revision: str, tables: Sequence[str] = ("contact",)) -> None:
    """A ledger as that version left it: of each table a record settled, one to be sent, one refused, one taken."""
    engine = sa.create_engine(url)
    if engine.name == "sqlite":
        Path(engine.url.database or "").parent.mkdir(parents=True)
    settings = Config()
    settings.set_main_option("script_location", "sync_assets.ledger:migrations")
    settings.attributes["version_table"] = VERSION_TABLE
    with engine.begin() as connection:
        settings.attributes["connection"] = connection
        command.upgrade(settings, revision)
        old = sa.MetaData()
        old.reflect(connection, only=["sync_record", "sync_tally", "sync_pending_day", "sync_feed"])
        for table in tables:
            told = {"table_name": table, "day": 20_000, "changed_at": 1, "desired_hash": row("anna")["hash"]}
            pending = {**told, "state": 1, "payload": row("anna")["payload"]}
            records = [
                {**told, "id": guid("settled"), "state": 0, "acked_hash": told["desired_hash"]},
                {**pending, "id": guid("pending")},
                {**told, "id": guid("refused"), "state": 3, "refusal": "too long", "failed_since": 1},
                {**pending, "id": guid("taken"), "uncertain": 1, "lease_owner": "ada", "lease_until": 1},
            ]
            for values in records:
                connection.execute(sa.insert(old.tables["sync_record"]).values(values))
            for state, number in [(0, 1), (1, 2), (3, 1)]:
                tally = {"table_name": table, "state": state, "records": number}
                connection.execute(sa.insert(old.tables["sync_tally"]).values(tally))
            connection.execute(
                sa.insert(old.tables["sync_pending_day"]).values(table_name=table, day=20_000, records=2)
            )
            feed = {"link": "https://d365/next", "kind": "delta", "fingerprint": "columns", "complete": True}
            feed |= {"resend": False, "deletes_approved": False, "deletes": 0, "read_id": 1, "version": 7}
            connection.execute(
                sa.insert(old.tables["sync_feed"]).values(table_name=table, saved_at=1, polled_at=1, **feed)
            )
    engine.dispose()


def test_a_ledger_of_the_first_version_is_brought_up_to_date_and_goes_on(new_url: str) -> None:
    earlier_version(new_url, "0001")
    link = LinkSpec("cusContact", "contact")
    with Ledger.open(new_url) as ledger:
        assert ledger.counts()["contact"] == Counts(synced=1, pending=2, failed=1)
        feed = ledger.feed("contact")
        assert feed is not None
        assert (feed.version, feed.link, feed.kind) == (7, "https://d365/next", "delta")
        assert {(one.id, one.operation, one.outcome_unknown) for one in push(ledger)} == {
            (guid("pending"), "insert", False),
            (guid("taken"), "insert", True),
        }
        assert capture(ledger, row("settled"), row("pending"), deleted=["taken"]).unchanged == 2
        names = ["settled", "pending", "refused"]
        page = linked([row(f"order of {name}") for name in names], cusContact=names)
        capture(ledger, page=page, table="order", links=[link])
        assert len(push(ledger, table="order")) == 2
        assert ledger.waiting_reasons("order") == {BlockReason.PARENT_UNAVAILABLE: 1}
        assert [one.operation for one in push(ledger)] == ["delete"]
        capture(ledger, row("refused"))
        push(ledger)
        assert len(push(ledger, table="order")) == 1
        assert ledger.counts() == {"contact": Counts(synced=3), "order": Counts(synced=3)}


LATER_COLUMNS = ["sync_link.parent_gone", "sync_feed.orphans_due", "sync_feed.following"]
"""What steps after 0008 add to tables that were there."""


def test_a_link_that_an_earlier_version_held_possible_keeps_its_parent(new_url: str) -> None:
    """The order's insert may have linked it to bert; that version did not note that the link is one by a key."""
    link = LinkSpec("cusContact", "contact")
    with Ledger.open(new_url) as ledger:
        capture(ledger, row("bert"))
        push(ledger)
        capture(ledger, page=linked([row("order")], cusContact=["bert"]), table="order", links=[link])
        [one] = ledger.claim("order", owner="ada", limit=1, lease_seconds=60)
        ledger.acknowledge("ada", [Outcome(one.seq, "unknown", one.hash, "why")])
        capture(ledger, row("carl"))
        capture(ledger, page=linked([row("order")], cusContact=["carl"]), table="order", links=[link])
    engine = sa.create_engine(new_url)
    with engine.begin() as connection:
        assert connection.exec_driver_sql("UPDATE sync_link SET required = 0, keyed = 0 WHERE held = 3").rowcount == 1
        for column in LATER_COLUMNS:
            connection.exec_driver_sql(f"ALTER TABLE {column.replace('.', ' DROP COLUMN ')}")
        connection.exec_driver_sql(f"UPDATE {VERSION_TABLE} SET version_num = '0007'")
    engine.dispose()
    with Ledger.open(new_url) as ledger:
        capture(ledger, deleted=["bert"])
        assert [one.operation for one in push(ledger)] == ["insert"]  # of carl
        assert [one.operation for one in push(ledger, table="order")] == ["insert"]
        assert [one.operation for one in push(ledger)] == ["delete"]


def test_no_number_is_given_twice_whatever_version_began(new_url: str) -> None:
    earlier_version(new_url, "0005")
    engine = sa.create_engine(new_url)
    with engine.begin() as connection:
        before = dict(connection.exec_driver_sql("SELECT id, seq FROM sync_record").all())  # type: ignore[arg-type]
        last = max(before.values())
        connection.exec_driver_sql(f"DELETE FROM sync_record WHERE seq = {last}")
    engine.dispose()
    with Ledger.open(new_url) as ledger:
        capture(ledger, row("new"))
        with ledger.database.read() as connection:
            after = dict(connection.exec_driver_sql("SELECT id, seq FROM sync_record").all())  # type: ignore[arg-type]
    new = after.pop(guid("new"))
    assert after == {id_: seq for id_, seq in before.items() if seq != last}
    assert new > last


def test_a_ledger_without_opt_outs_is_brought_up_to_date_and_goes_on(new_url: str) -> None:
    earlier_version(new_url, "0002")
    engine = sa.create_engine(new_url)
    with engine.begin() as connection:
        connection.exec_driver_sql(
            f"INSERT INTO sync_hold (table_name, id, since) VALUES ('contact', '{guid('x')}', 1)"
        )
        assert not sa.inspect(connection).has_table("sync_opt_out")
    engine.dispose()
    said = pl.DataFrame({"id": [guid("settled"), guid("pending")], "blackListEmail": [True, True]})
    with Ledger.open(new_url) as ledger:
        assert ledger.counts()["contact"] == Counts(synced=1, pending=2, failed=1)
        assert [hold.id for hold in ledger.holds()] == [guid("x")]
        assert ledger.opt_outs_left(["blackListEmail"]) == OptOutsLeft()
        assert (ledger.files(), ledger.opt_out_counts(DAY)) == ([], {})
        told = capture(ledger, row("settled"), row("pending"), opt_outs=said)
        assert (told.unchanged, told.version) == (2, 8)  # the feed goes on from where it stood
        assert ledger.opt_outs_due(OptOutState.DECIDE, ["blackListEmail"]).keys() == {guid("settled")}
        sent = ledger.claim("contact", owner="ada", limit=9, lease_seconds=60, opt_outs=["blackListEmail"])
        assert {one.id: one.opt_outs for one in sent} == {
            guid("pending"): (("blackListEmail", True),),
            guid("taken"): (("blackListEmail", False),),
        }


def test_a_ledger_without_rebuilds_is_brought_up_to_date_and_can_be_rebuilt(new_url: str) -> None:
    earlier_version(new_url, "0003")
    with Ledger.open(new_url) as ledger:
        assert ledger.counts()["contact"] == Counts(synced=1, pending=2, failed=1)
        ledger.begin_rebuild("contact")
        capture(ledger, row("settled"), row("pending"), row("refused"), row("taken"), complete=True)
        ids = [guid(name) for name in ("settled", "pending", "refused", "taken")]
        claimed, unknown = ledger.claim_found("contact", ids, owner="rebuild", lease_seconds=60)
        assert (sorted(one.id for one in claimed), unknown) == (sorted(ids), 0)


@pytest.mark.filterwarnings("ignore:Skipped unsupported reflection of expression-based index")
def test_a_ledger_with_the_days_of_its_rows_goes_on_without_them(new_url: str) -> None:
    earlier_version(new_url, "0020", ["contact", "new_order"])
    engine = sa.create_engine(new_url)
    with engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE sync_record SET lease_until = {2**62} WHERE lease_owner = 'ada'")
        seqs = "SELECT table_name, seq FROM sync_record WHERE lease_owner = 'ada'"
        taken: dict[str, int] = dict(connection.exec_driver_sql(seqs).all())  # type: ignore[arg-type]
    with scratch_ledger(new_url) as copy:
        assert len(push(copy)) == 2
    assert sa.inspect(engine).has_table("sync_pending_day")
    with Ledger.open(new_url) as ledger:
        for table in ("contact", "new_order"):
            assert ledger.counts()[table] == Counts(synced=1, pending=2, failed=1, leased=1)
            assert capture(ledger, row("refused"), row("new"), table=table).new == 1
            assert {one.id for one in push(ledger, table=table)} == {guid("pending"), guid("refused"), guid("new")}
            outcome = Outcome(taken[table], "done", row("anna")["hash"])
            assert ledger.acknowledge("ada", [outcome]).synced == 1
            assert ledger.counts()[table] == Counts(synced=5)
    inspected = sa.inspect(engine)
    assert not inspected.has_table("sync_pending_day")
    assert "sync_record_day" not in {index["name"] for index in inspected.get_indexes("sync_record")}
    if engine.name == "sqlite":
        with engine.connect() as connection:
            assert connection.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"
    assert "day" not in {column["name"] for column in inspected.get_columns("sync_record")}
    engine.dispose()


@pytest.mark.filterwarnings("ignore:Skipped unsupported reflection of expression-based index")
def test_a_ledger_with_payloads_as_texts_sends_those_that_are_pending(new_url: str) -> None:
    earlier_version(new_url, "0020")
    key = os.urandom(32)
    cipher = PayloadCipher([key])
    sealed = cipher.encrypt('{"value":"ü"}', guid("taken"))
    assert sealed is not None
    begin = len(MARK) + len(key_name(key)) + 1
    engine = sa.create_engine(new_url)
    with engine.begin() as connection:
        change = sa.text("UPDATE sync_record SET payload = :both, update_payload = :both WHERE id = :id")
        text = sealed[:begin].decode() + base64.b64encode(sealed[begin:]).decode()
        connection.execute(change, {"both": text, "id": guid("taken")})
        connection.execute(change, {"both": '{"value":"\\\\ü"}', "id": guid("pending")})
    engine.dispose()
    for _ in range(2):  # the second time as if the revision had been set back by hand
        with Ledger.open(new_url, cipher=cipher) as ledger, ledger.database.read() as connection:
            rows = connection.exec_driver_sql("SELECT payload FROM sync_record WHERE lease_owner IS NOT NULL")
            assert rows.scalars().all() == [sealed]
        engine = sa.create_engine(new_url)
        with engine.begin() as connection:
            connection.exec_driver_sql(f"UPDATE {VERSION_TABLE} SET version_num = '0021'")
        engine.dispose()
    with Ledger.open(new_url, cipher=cipher) as ledger:
        assert {(one.id, one.payload, one.update_payload) for one in push(ledger)} == {
            (guid("taken"), '{"value":"ü"}', '{"value":"ü"}'),
            (guid("pending"), '{"value":"\\\\ü"}', '{"value":"\\\\ü"}'),
        }


def test_partial_indexes_are_partial_on_both_databases(url: str) -> None:
    engine = sa.create_engine(url)
    partial = "SELECT sql FROM sqlite_master" if engine.name == "sqlite" else "SELECT indexdef FROM pg_indexes"
    with engine.connect() as connection:
        definitions = [str(text).lower() for text in connection.exec_driver_sql(partial).scalars() if text]
    engine.dispose()
    for index in (
        "sync_record_pending",
        "sync_record_stuck",
        "sync_record_lease",
        "sync_link_other",
        "sync_opt_out_due",
    ):
        assert any(f"index {index} " in text and " where " in text for text in definitions)


def test_the_code_knows_the_newest_migration() -> None:
    folder = Path(sync_assets.ledger.__file__).parent / "migrations"
    assert ScriptDirectory(str(folder)).get_heads() == [HEAD]


def test_a_ledger_of_a_newer_version_is_left_alone_and_no_try_to_open_it_leaves_anything_behind(url: str) -> None:
    engine, kept_until_the_end = sa.create_engine(url), atexit._ncallbacks()
    with engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE {VERSION_TABLE} SET version_num = '9999'")
    try:
        with pytest.raises(LedgerError, match=r"written by a newer sync_assets .*9999.*Install that version"):
            Ledger.open(url)
        assert atexit._ncallbacks() == kept_until_the_end
    finally:
        with engine.begin() as connection:
            connection.exec_driver_sql(f"UPDATE {VERSION_TABLE} SET version_num = '{HEAD}'")
        engine.dispose()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("ledger.db", "is not a database URL"),
        ("", "is not a database URL"),
        ("sqlite://", "names no file"),
        ("sqlite:///:memory:", "names no file"),
        (f"mysql://me:{SECRET}@host/db", "does not know"),
        (f"postgresql+psycopg2://me:{SECRET}@host/db", "does not know"),
        (f"postgresql+psycopg://me:{SECRET}@127.0.0.1:1/db", r"127\.0\.0\.1:1/db can't be reached .*refused"),
        (f"postgresql+psycopg://me@127.0.0.1:1/db?password={SECRET}", "can't be reached"),
        (f"postgresql://me:{SECRET}@nowhere.invalid/db", r"nowhere\.invalid/db can't be reached"),
        (f"postgresql+psycopg://me:{SECRET}@host:port/db", "is not a database URL"),
    ],
)
def test_a_wrong_url_is_explained_in_one_line_without_the_password(url: str, said: str) -> None:
    with pytest.raises(LedgerError, match=said) as raised:
        Ledger.open(url)
    assert raised.value.remedy
    assert "\n" not in str(raised.value)
    shown = raised.getrepr(style="long", chain=True)
    assert SECRET not in str(raised.value)
    assert SECRET not in str(shown.reprcrash)


def test_a_database_that_is_not_there_is_explained(postgres: object, migrated_postgres: str) -> None:
    url = sa.make_url(migrated_postgres).set(database="nothing").render_as_string(hide_password=False)
    with pytest.raises(LedgerError, match='database "nothing" does not exist'):
        Ledger.open(url)


def test_a_connection_to_postgresql_ends_soon_after_the_network_has(migrated_postgres: str) -> None:
    """The operating system's default is two hours. A parameter of the URL comes first."""
    for more, idle in (({}, "30"), ({"keepalives_idle": "7"}, "7")):
        url = sa.make_url(migrated_postgres).update_query_dict(more).render_as_string(hide_password=False)
        with Ledger.open(url) as ledger, ledger.database.read() as connection:
            driver: Any = connection.connection.driver_connection
            given = driver.info.get_parameters()
        assert (given["keepalives_idle"], given["keepalives_count"], given["tcp_user_timeout"]) == (idle, "3", "60000")


def test_an_unwritable_place_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LedgerError, match=r"can't be written .*Make its folder writable"):
        Ledger.open(f"sqlite:///{tmp_path}/file/ledger.db")
    with pytest.raises(LedgerError, match=r"can't be written \(Is a directory\)"):
        Ledger.open(f"sqlite:///{tmp_path}")


def test_a_file_that_is_no_ledger_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a database, but somebody's notes" * 100)
    with pytest.raises(LedgerError, match="is no ledger"):
        Ledger.open(f"sqlite:///{path}")
    assert path.read_text().startswith("not a database")


def test_the_file_is_for_its_owner_only(tmp_path: Path) -> None:
    previous = os.umask(0)
    try:
        with Ledger.open(f"sqlite:///{tmp_path}/ledger.db") as ledger:
            capture(ledger, row("anna"))
            modes = [stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()]
    finally:
        os.umask(previous)
    assert set(modes) == {0o600}


def test_a_database_error_quotes_no_rows(ledger: Ledger) -> None:
    """PostgreSQL names the offending row in its details; what comes out is one line about the database."""

    def break_a_rule(connection: sa.Connection) -> None:
        connection.exec_driver_sql("INSERT INTO sync_record (table_name, payload) VALUES ('contact', 'Jane Doe')")

    with pytest.raises(LedgerError) as raised:
        ledger.database.write(break_a_rule)
    assert raised.value.__suppress_context__
    assert raised.value.__cause__ is None
    assert "Jane" not in str(raised.value)
    assert "\n" not in str(raised.value)
