"""`estimate`: the engine calls of the first load and of a month, from counts of rows.

Makes no engine call, and writes nothing anywhere.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from sync_assets.ledger import Ledger
from sync_assets.ledger.scratch import ledger_to_read
from sync_assets.operations.estimate import Volume
from sync_assets.operations.estimate_reads import month_so_far, read_limits, read_volumes
from sync_assets.operations.estimate_report import Question, report
from sync_assets.runtime import interruptible
from sync_assets.runtime.context import Runtime
from sync_assets.runtime.systems import compare_organisation


def estimate(runtime: Runtime, *, months: int, other_calls: int) -> dict[str, Any]:
    """Return the document of `estimate --json`.

    Args:
        months: how many are summed up.
        other_calls: engine calls that other sources make in a month.

    Raises:
        SyncAssetsError: a table cannot be read, or the ledger belongs to other systems.
    """
    runtime.settings.require("d365")
    question = Question(months, other_calls, datetime.now(UTC))
    with ledger_to_read(runtime.settings.ledger_url, runtime.cipher) as ledger:
        runtime.check_addresses(ledger)
        reading = replace(runtime, any_ledger=True)  # so that it stores no address in the ledger
        volumes = interruptible.run(_volumes(reading, ledger, question.asked_at))
        limits = read_limits(runtime.config, ledger)
        return report(question, volumes, limits, dict(month_so_far(ledger, question.asked_at)))


async def _volumes(runtime: Runtime, ledger: Ledger, now: datetime) -> list[Volume]:
    async with runtime.d365() as d365:
        compare_organisation(ledger, d365.url, await d365.organization_id())
        return await read_volumes(runtime.config, ledger, d365, now)
