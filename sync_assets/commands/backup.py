"""`backup`: copy a SQLite ledger, consistent as of one moment, while flows run. For PostgreSQL use pg_dump."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from sync_assets.commands.terminal import Json, open_runtime, print_document
from sync_assets.errors import SyncAssetsError
from sync_assets.ledger.storage.database_url import Address
from sync_assets.runtime.configuration import Configuration


def command(file: Annotated[str, typer.Argument(help="A new file.")], as_json: Json = False) -> None:
    """Copy a ledger in SQLite, as of one moment, while runs go on. For PostgreSQL use pg_dump."""
    document = {"file": file, "bytes": backup(open_runtime(), Path(file))}
    print_document(document, as_json, lambda done: [f"{done['bytes']:,} bytes written to {done['file']}."])


def backup(configuration: Configuration, file: Path) -> int:
    """Copy the ledger to a new file that only its owner may read; return its bytes. Raises SyncAssetsError.

    Nothing is written to the ledger, not even a newer schema. A copy that failed is removed.
    """
    address = Address.parse(configuration.settings.ledger_url)
    if not address.sqlite:
        raise SyncAssetsError(
            f"The ledger {address.location} is in PostgreSQL.",
            "Use pg_dump, e.g. `pg_dump --format=custom --table='sync_*'`.",
        )
    ledger = Path(address.url.database or "")
    if not ledger.exists():
        raise SyncAssetsError(f"There is no ledger at {ledger}.", "Check SYNC_ASSETS_LEDGER_URL and DAGSTER_HOME.")
    file = file.absolute()  # SQLite would read a relative path such as `file:copy.db` as a URI of another file
    try:
        os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        raise SyncAssetsError(f"{file} exists already.", "Name another file, nothing is overwritten.") from None
    except OSError as error:
        raise SyncAssetsError(f"{file} can't be written ({error.strerror}).", "Name another folder.") from None
    try:
        with closing(sqlite3.connect(f"{ledger.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            connection.execute("VACUUM INTO ?", (str(file),))
    except sqlite3.Error as error:
        file.unlink(missing_ok=True)
        raise SyncAssetsError(f"{ledger} can't be copied ({error}).", "Is the disk full?") from None
    except BaseException:
        file.unlink(missing_ok=True)
        raise
    return file.stat().st_size
