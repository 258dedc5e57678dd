"""The rows of `results`, in SQL: what the program writes to Parquet, and PostgreSQL's views of the same.

Invariant: an id is in results only as long as the ledger has its record, and that is not excluded (a released person
who was deleted). A reason has no id.
"""

from sync_assets.ledger.model import State
from sync_assets.ledger.rules.rejection_reasons import PARTICULARS
from sync_assets.ledger.storage.schema import short_id


def deliveries(*, sqlite: bool, where: str = "true") -> str:
    """Return the SELECT of requests with a final answer, and of rows with a validation error."""
    index = f"{short_id('r.id')} = {short_id('h.id')} AND" if sqlite else ""
    return f"""
        SELECT h.table_name AS "table", CASE WHEN r.state <> {State.EXCLUDED:d} THEN h.id END AS id, h.operation,
            h.outcome, h.reason, h.status, h.attempts, h.changed_at, h.at,
            CASE WHEN h.outcome = 'acknowledged' THEN h.at END AS acknowledged_at,
            CASE WHEN h.outcome = 'acknowledged' THEN CAST(h.at - h.changed_at AS double precision) / 1000000 END
                AS seconds,
            h.run_id AS run
        FROM sync_history h
        LEFT JOIN sync_record r ON {index} r.table_name = h.table_name AND r.id = h.id
        WHERE h.operation <> 'compare' AND h.outcome IN ('acknowledged', 'rejected') AND {where}
    """  # noqa: S608 - constants


def decisions(*, sqlite: bool, where: str = "true") -> str:
    """Return the SELECT of decisions. A contact that was never captured has a row of opt-outs alone."""
    index = f"{short_id('r.id')} = {short_id('d.contact')} AND" if sqlite else ""
    values = ", ".join(f'CAST(d."{name}" AS integer) AS "{name}"' for name in ("d365", "campaign", "value"))
    return f"""
        SELECT CASE WHEN r.state <> {State.EXCLUDED:d} OR r.state IS NULL
                AND EXISTS (SELECT 1 FROM sync_opt_out o WHERE o.id = d.contact) THEN d.contact END AS contact,
            d."column", d.attribute, {values}, d."write" AS written_to, d.reason, d.source, d.d365_modified,
            d.campaign_changed, d.decided_at
        FROM sync_opt_out_decision d
        LEFT JOIN sync_record r ON {index} r.table_name = 'contact' AND r.id = d.contact
        WHERE {where}
    """  # noqa: S608


def _instant(column: str) -> str:
    return f"timestamptz 'epoch' + {column} * interval '1 microsecond'"


def _without_ids(column: str) -> str:
    for pattern, instead in PARTICULARS:
        column = (
            f"regexp_replace({column}, '{pattern.pattern.replace(chr(92) + 'b', chr(92) + 'y')}', '{instead}', 'gi')"
        )
    return column


VIEWS = {
    "sync_results_deliveries": f"""
        SELECT "table", id, operation, outcome, {_without_ids("reason")} AS reason, status, attempts,
            {_instant("changed_at")} AS changed_at, {_instant("at")} AS at,
            {_instant("acknowledged_at")} AS acknowledged_at, seconds, run
        FROM ({deliveries(sqlite=False)}) AS answered
    """,  # noqa: S608 - constants
    "sync_results_decisions": f"""
        SELECT contact, "column", attribute, d365 = 1 AS d365, campaign = 1 AS campaign, "value" = 1 AS "value",
            written_to, {_without_ids("reason")} AS reason, {_without_ids("source")} AS source,
            {_instant("d365_modified")} AS d365_modified, {_instant("campaign_changed")} AS campaign_changed,
            {_instant("decided_at")} AS decided_at
        FROM ({decisions(sqlite=False)}) AS decided
    """,  # noqa: S608 - constants
    "sync_results_daily": """
        SELECT day, "table", coalesce(inserted, 0) AS inserted, coalesce(updated, 0) AS updated,
            coalesce(deleted, 0) AS deleted, coalesce(rejected, 0) AS rejected, seconds_median,
            coalesce(engine_calls, 0) AS engine_calls
        FROM (
            SELECT CAST(at AT TIME ZONE 'UTC' AS date) AS day, "table",
                count(*) FILTER (WHERE outcome = 'acknowledged' AND operation = 'insert') AS inserted,
                count(*) FILTER (WHERE outcome = 'acknowledged' AND operation IN ('update', 'link')) AS updated,
                count(*) FILTER (WHERE outcome = 'acknowledged' AND operation = 'delete') AS deleted,
                count(*) FILTER (WHERE outcome = 'rejected') AS rejected,
                percentile_cont(0.5) WITHIN GROUP (ORDER BY seconds) AS seconds_median
            FROM sync_results_deliveries GROUP BY 1, 2
        ) AS answered
        FULL JOIN (
            SELECT date '1970-01-01' + day AS day, table_name AS "table", sum(number) AS engine_calls
            FROM sync_day_count WHERE kind = 'engine_calls' GROUP BY 1, 2
        ) AS calls USING (day, "table")
    """,
}
"""PostgreSQL's views by name, each before those that read it."""
