"""Take the records of a person under a privacy hold out of files whose import workflow was not started."""

import asyncio

from sync_assets.audit.existing_records import leased
from sync_assets.bulk_load.files import connected, remove_files
from sync_assets.bulk_load.load_run import settings_of
from sync_assets.ledger.records.loads import LoadMoved
from sync_assets.runtime.context import Runtime
from sync_assets.sftp.errors import SftpError


async def take_out(runtime: Runtime, person: str, wait_seconds: float) -> list[str]:
    """Remove all files of such loads: the next run writes them without the held records.

    A load whose workflow was commanded to start keeps its files and its claims: it may still write the records.

    Args:
        person: the id of the held contact.
        wait_seconds: how long to wait for a process that writes such a file now; its next record ends it.

    Returns:
        Why files could not be removed.
    """
    errors = list[str]()
    ledger = runtime.ledger
    related = await asyncio.to_thread(ledger.holds.related, person)
    keys = [(record.table, record.id) for record in related if record.loading]
    for load in await asyncio.to_thread(ledger.loads.rewrite, keys):
        async with leased(runtime.worker, load.table, wait_seconds=wait_seconds) as session:
            if session is None:
                errors.append(f"{load.table}: another process lists its records or writes its files.")
                continue
            try:
                with connected(runtime.settings.sftp()) as sftp:
                    remove_files(sftp, settings_of(runtime.config, load), load.table, load.name)
                await asyncio.to_thread(ledger.loads.free_not_insertable, load)
            except SftpError as error:
                errors.append(str(error))
            except LoadMoved:
                errors.append(f"{load.table}: another process carried its load by file on meanwhile.")
    return errors
