"""Metrics of Prometheus, read from the ledger at each scrape: no other process needs to be reached.

METRICS is the list of all of them: `python -m sync_assets.results.metrics` writes the table of docs/metrics.md from it,
and the rules and the dashboard in `deploy/monitoring` are tested against it.

Invariant: labels are names of tables, states, systems and the like; no id and no value of a record.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import UTC, datetime
from itertools import accumulate
from pathlib import Path
from threading import Lock
from typing import Any, Literal, NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from sync_assets.audit.certification.certification import CERTIFIED_AT, NAME, premises_not_workable
from sync_assets.audit.record_audit import last_result
from sync_assets.config.models import Config
from sync_assets.errors import SyncAssetsError, foreign
from sync_assets.ledger import Ledger
from sync_assets.ledger.records.claims import ALL_SECONDS, SECONDS
from sync_assets.opt_out.export.folder import newest_of
from sync_assets.runtime.ledger_access import LedgerAccess

PREFIX = "sync_assets_"
STATES = ("pending", "waiting", "rejected", "held", "orphaned", "synced", "excluded")
BUCKETS = (*map(str, SECONDS), "inf")


class About(NamedTuple):
    """What a metric is: its type, its labels, and its help, which is its line in docs/metrics.md, too."""

    kind: Literal["gauge", "counter", "histogram"]
    labels: tuple[str, ...]
    help: str


METRICS = {
    "up": About("gauge", (), "1 if the ledger was read, else 0; then no other metric is there"),
    "records": About("gauge", ("table", "state"), "Records by state; each is in one state"),
    "oldest_pending_seconds": About("gauge", ("table",), "Age of the oldest pending change; 0 if nothing is pending"),
    "maintenance": About("gauge", ("table",), "1 if the table is in maintenance: nothing of it is captured or sent"),
    "feed_age_seconds": About("gauge", ("table",), "Since the change feed was asked last"),
    "feed_complete": About("gauge", ("table",), "1 once the first read of the change feed has ended"),
    "change_seconds": About(
        "histogram", ("table",), "From the capture of a change until Campaign acknowledged it first"
    ),
    "engine_calls": About("counter", ("table", "kind"), "Engine calls: insert, update, delete, read"),
    "engine_calls_taken": About("gauge", ("period",), "Engine calls made or reserved in this UTC day, or hour"),
    "engine_calls_budget": About("gauge", ("period",), "The budget of the day or hour, if one is configured"),
    "throttles": About("counter", ("system", "status"), "How often a process began to wait because a system refused"),
    "opt_out_file_age_seconds": About("gauge", (), "Age of the newest opt-out file; not there before the first one"),
    "sftp_used_bytes": About("gauge", (), "Used space of the Campaign SFTP, as measured last"),
    "sftp_size_bytes": About("gauge", (), "Its size"),
    "sftp_age_seconds": About("gauge", (), "Since this was measured"),
    "audit_differences": About("gauge", ("table",), "What differs, by the audit that began last: records and opt-outs"),
    "audit_part": About("gauge", ("table",), "How much of the resource this audit has listed, 0 to 1"),
    "load_records": About("gauge", ("table", "kind", "state"), "Records in the files of the table's last load by file"),
    "load_waits": About("gauge", ("table", "kind"), "1 if this load waits for a person"),
    "loads": About("counter", ("table", "kind", "ended_as"), "Loads that ended: finished, error, unseen, abandoned"),
    "certification_age_seconds": About("gauge", (), "Since `sync-assets certify` ended; not there if it never did"),
    "premises_not_workable": About("gauge", (), "Premises that the last certification found not workable"),
}
"""By name without PREFIX. Samples of a counter end with `_total`, of a histogram with `_bucket`, `_sum`, `_count`."""

Values = Collection[tuple[tuple[str, ...], float]]
"""Values of a metric by the values of its labels."""


class LedgerCollector(Collector):
    """Reads the ledger at each scrape. announce: is given the sentence of an error, once as long as it lasts."""

    def __init__(self, config: Config, access: LedgerAccess, announce: Callable[[str], object]) -> None:
        self._config, self._access, self._announce, self._problem = config, access, announce, ""
        self._lock = Lock()

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics; `up` alone if the ledger cannot be read."""
        with self._lock:  # a scrape that fails closes the ledger, which another one may read
            found = self._collected()
        yield from found

    def _collected(self) -> list[Metric]:
        problem, found = "", list[Metric]()
        try:
            ledger = self._access.opened()
            values = _values(self._config, ledger, datetime.now(UTC))
            found = [_family(name, of_name) for name, of_name in values.items() if of_name]
            found.append(_histogram(ledger))
            problem = self._access.missing
        except SyncAssetsError as error:
            problem = str(error)
        except Exception as error:  # noqa: BLE001  its text may quote a record
            problem = str(foreign(error, "The ledger was not read:"))
        if problem and problem != self._problem:
            self._announce(problem)
        self._problem = problem
        if problem:
            self._access.close()  # the next scrape opens the ledger anew, also one that was missing
        return [_family("up", [((), not problem)]), *([] if problem else found)]


def _family(name: str, values: Values) -> Metric:
    about = METRICS[name]
    family = (CounterMetricFamily if about.kind == "counter" else GaugeMetricFamily)(
        f"{PREFIX}{name}", about.help, labels=about.labels
    )
    for labels, value in values:
        family.add_metric(labels, value)
    return family


def _histogram(ledger: Ledger) -> Metric:
    """Return the seconds from changes to acknowledgements, since the ledger began."""
    about = METRICS["change_seconds"]
    family = HistogramMetricFamily(f"{PREFIX}change_seconds", about.help, labels=about.labels)
    for table, counts in sorted(ledger.counts.by_table("seconds").items()):
        numbers = accumulate(counts.get(name, 0) for name in BUCKETS)
        ends = (*(f"{end:.1f}" for end in SECONDS), "+Inf")
        family.add_metric([table], list(zip(ends, numbers, strict=True)), counts.get(ALL_SECONDS, 0) / 1000)
    return family


def _values(config: Config, ledger: Ledger, now: datetime) -> dict[str, Values]:
    """Return the values of all metrics but `up` and the histogram. Raises LedgerError."""

    def age(moment: datetime | None) -> float:
        return max(0.0, (now - moment).total_seconds()) if moment else 0.0

    def ages(moment: datetime | None) -> Values:
        return [((), age(moment))] if moment else []

    tables, reports = [table.table for table in config.tables], ledger.reports
    counts, paused = reports.counts(), ledger.maintenance.in_maintenance()
    feeds = {table: feed for table in tables if (feed := ledger.feeds.feed(table))}
    audits = {table: result for table in tables if (result := last_result(ledger, table)).began_at}
    room: dict[str, Any] = ledger.events.facts("sftp").get("room", {})
    certified = ledger.dialect.facts(NAME).get(CERTIFIED_AT)
    guardrails, taken = config.guardrails, dict(zip(("day", "hour"), ledger.limits.calls_taken(), strict=True))
    budgets = {"day": guardrails.engine_calls_per_day, "hour": guardrails.engine_calls_per_hour}
    loads = ledger.loads.all()
    last_loads = {(one.table, one.kind): one for one in loads}  # the newest come last
    return {
        "records": [((table, state), getattr(counts[table], state)) for table in tables for state in STATES],
        "oldest_pending_seconds": [((table,), age(reports.oldest_pending(table))) for table in tables],
        "maintenance": [((table,), table in paused) for table in tables],
        "feed_age_seconds": [((table,), age(feed.polled_at)) for table, feed in feeds.items()],
        "feed_complete": [((table,), feed.complete) for table, feed in feeds.items()],
        "engine_calls": _by_labels(ledger.counts.by_table("engine_calls")),
        "engine_calls_taken": [((period,), calls) for period, calls in taken.items()],
        "engine_calls_budget": [((period,), budget) for period, budget in budgets.items() if budget],
        "throttles": _by_labels(ledger.counts.by_table("throttles")),
        "opt_out_file_age_seconds": ages(newest_of(ledger.opt_out_files.files())),
        "sftp_used_bytes": [((), room["used"])] if room else [],
        "sftp_size_bytes": [((), room["size"])] if room else [],
        "sftp_age_seconds": ages(datetime.fromisoformat(room["at"]) if room else None),
        "audit_differences": [((table,), result.differences) for table, result in audits.items()],
        "audit_part": [((table,), result.part) for table, result in audits.items()],
        "load_records": [((*of, one.state.name.lower()), one.records) for of, one in last_loads.items()],
        "load_waits": [(of, one.problem is not None) for of, one in last_loads.items()],
        "loads": list(Counter((one.table, one.kind, str(one.ended_as)) for one in loads if one.ended_at).items()),
        "certification_age_seconds": ages(datetime.fromisoformat(certified) if certified else None),
        "premises_not_workable": [((), len(premises_not_workable(config, ledger)))] if certified else [],
    }


def _by_labels(numbers: Mapping[str, Mapping[str, int]]) -> Values:
    return [((table, name), number) for table, names in sorted(numbers.items()) for name, number in names.items()]


# --- The page ---------------------------------------------------------------------------------------------------------

PAGE = Path(__file__).parents[1] / "docs" / "metrics.md"
_HEAD = "| metric | type | labels | value |\n|---|---|---|---|\n"


def page() -> str:
    """Return docs/metrics.md: its words as they are, and its table from METRICS."""
    before, head, after = PAGE.read_text("utf-8").partition(_HEAD)
    rows = [
        f"| `{PREFIX}{name}{'_total' if about.kind == 'counter' else ''}` | {about.kind} | "
        f"{', '.join(f'`{label}`' for label in about.labels) or 'none'} | {about.help[0].lower()}{about.help[1:]} |\n"
        for name, about in METRICS.items()
    ]
    return before + head + "".join(rows) + after[after.index("\n- ") :]


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
