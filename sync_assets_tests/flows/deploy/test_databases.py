"""`compose/databases.sh` against a server of a cloud: RDS, Azure's Flexible Server."""

import psycopg

from sync_assets_tests.flows.deploy.conftest import made_databases
from sync_assets_tests.support.postgres import PostgresServer

OWNERS = "SELECT datname, rolname FROM pg_database JOIN pg_roles ON pg_roles.oid = datdba"


def test_an_administrator_who_is_no_superuser_makes_the_databases_and_keeps_no_right_to_them(
    postgres: PostgresServer,
) -> None:
    with psycopg.connect(postgres.url("postgres").replace("+psycopg", ""), autocommit=True) as superuser:
        superuser.execute("CREATE ROLE administrator LOGIN CREATEROLE CREATEDB")
        with made_databases(postgres, user="administrator"):
            assert {("dagster", "dagster"), ("sync_assets", "sync_assets")} <= {*superuser.execute(OWNERS)}
            for role in ("dagster", "sync_assets"):
                assert [*superuser.execute("SELECT pg_has_role('administrator', %s, 'SET')", [role])] == [(False,)]
        superuser.execute("DROP ROLE administrator")
