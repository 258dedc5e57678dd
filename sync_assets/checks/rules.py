"""The registry of findings: each rule that several commands, runs and asset checks render, and what was found.

A rule has a title for each result, so that a line says the state: "change tracking is off". The sentence with numbers
and the remedy belongs to the finding; the function that finds it stands in a module beside this one. `doctor` has
further findings that no one else renders: it makes them with `ok`, `warn` and `fail`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal, NamedTuple, Self

import msgspec

from sync_assets.config.values import Side
from sync_assets.errors import SyncAssetsError

Status = Literal["ok", "warn", "fail"]
SIDES: tuple[Side, ...] = ("d365", "campaign")

SHOWN_IDS = 5
"""Most ids of a finding that are shown."""

SHOWN_ROWS = 20
"""Most rows of a table that is shown, of rejected rows, reasons or decisions."""


class Rows(NamedTuple):
    """A table among the numbers of a finding: the names of its columns, and its rows."""

    names: Sequence[str]
    rows: Sequence[Sequence[str | int]]


class FindingDocument(msgspec.Struct, frozen=True):
    """A finding. check: the name of its rule; empty for a finding of `doctor` alone."""

    outcome: Status
    title: str
    message: str
    check: str


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of a rule.

    Attributes:
        outcome: ok; warn: it does not hold, and nothing stops; fail: it does not hold, and the table stops, or all.
        title: the result in a few words, with its subject.
        message: the sentence, with the remedy if the rule does not hold.
        check: name of the rule, which is that of the asset check; empty for findings of `doctor` alone.
        stops_all: True if it fails and no table may be synchronised, not only its own.
        side: of the asset that the rule is about.
        numbers: the counts, times and tables that the finding is about, by name.
    """

    outcome: Status
    title: str
    message: str
    check: str = ""
    side: Side = "d365"
    numbers: Mapping[str, Any] = field(default_factory=dict[str, Any])
    stops_all: bool = False

    def __str__(self) -> str:
        return f"{self.title}: {self.message}"

    @property
    def passed(self) -> bool:
        return self.outcome == "ok"

    @property
    def stops(self) -> bool:
        """Return True if nothing is written because of it."""
        return self.outcome == "fail"

    def about(self, subject: str) -> Self:
        """Return the finding with its subject, such as a table, in the title."""
        return replace(self, title=f"{subject}: {self.title}")

    def document(self) -> FindingDocument:
        return FindingDocument(self.outcome, self.title, self.message, self.check)


def ok(title: str, message: str) -> Finding:
    return Finding("ok", title, message)


def warn(title: str, message: str) -> Finding:
    return Finding("warn", title, message)


def fail(title: str, error: SyncAssetsError | str) -> list[Finding]:
    """Return a finding for each line of an error."""
    return [Finding("fail", title, line) for line in str(error).splitlines()]


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule of the set-up, or of a table's state.

    Attributes:
        name: of the asset check, or of the part of the check `ready`; in words, the title if the rule holds.
        broken: the title if it does not.
        holds: the sentence if it holds, which describes the asset check.
        stops: the scope that is not written while it does not hold: nothing, one table, all. Only a finding that
            `require` receives stops it; of all others it is how bad they are.
        side: of the asset that has the check, for rules of the set-up.
    """

    name: str
    broken: str
    holds: str
    stops: Literal["all", "table", "nothing"] = "nothing"
    side: Side = "d365"

    def finding(
        self,
        passed: bool,
        message: str = "",
        numbers: Mapping[str, Any] | None = None,
        *,
        stops: bool | None = None,
        side: Side | None = None,
    ) -> Finding:
        """Return a finding. stops: if it depends on more than the rule; side: for a rule of both sides."""
        stops = self.stops != "nothing" if stops is None else stops
        return Finding(
            "ok" if passed else "fail" if stops else "warn",
            self.name.replace("_", " ") if passed else self.broken,
            message or self.holds,
            self.name,
            side or self.side,
            numbers or {},
            self.stops == "all" and not passed,
        )

    def no_problems(self, problems: Iterable[str]) -> Finding:
        """Return the finding that holds if there are no problems."""
        text = "; ".join(problems)
        return self.finding(not text, text)


TableRule = partial(Rule, stops="table")
CampaignRule = partial(Rule, stops="table", side="campaign")

# --- The set-up of a table, from both systems' metadata and the ledger ------------------------------------------------

TRACKING = TableRule(
    "change_tracking_is_on", "change tracking is off", "Dynamics 365 keeps a change feed of the table."
)
COLUMNS = TableRule(
    "mapped_columns_exist", "mapped columns do not fit", "Each mapped column exists in the table and can be read."
)
COLUMN_TYPES = TableRule(
    "column_types_are_as_before", "column types changed", "Each mapped column has the same type as before."
)
PUBLISHED = CampaignRule(
    "resource_is_published",
    "the resource is not published",
    "Campaign serves the resource under the API that the configuration names.",
)
TARGET = CampaignRule(
    "target_is_as_before",
    "the target changed",
    "Campaign acknowledged the table's records under this resource and this key.",
)
ATTRIBUTES = CampaignRule(
    "mapped_attributes_exist",
    "mapped attributes do not fit",
    "Each mapped attribute exists in the resource and can be written.",
)
ATTRIBUTE_TYPES = CampaignRule(
    "attribute_types_are_as_before", "attribute types changed", "Each mapped attribute has the same type as before."
)
CARDINALITIES = CampaignRule(
    "link_cardinalities_agree", "link cardinalities differ", "Each link has the cardinality that Campaign published."
)
LINKS = CampaignRule("links_work", "a link does not work", "No certification found a link that does not work.")
SHOWN = CampaignRule("records_are_shown", "Campaign hides a record", "Campaign shows each record that it took.")
KEY = CampaignRule(
    "key_can_hold_the_id",
    "no record can be found by the key",
    "The key attribute can hold the id of Dynamics 365, and the filter takes it.",
)
ANSWERS = TableRule("system_answers", "not all could be done", "The system answers.")
CAPTURE = TableRule("capture_goes_on", "the capture is paused", "The backlog is below its limit.")
OPT_OUT_COLUMNS = TableRule(
    "opt_out_columns_fit",
    "opt-out columns do not fit",
    "Each opt-out column can be read, and written if the direction needs that; its true means what `inverted` states.",
)
OPT_OUT_ATTRIBUTES = CampaignRule(
    "opt_out_attributes_fit",
    "opt-out attributes do not fit",
    "Each opt-out attribute exists in the resource and can be written.",
)

# --- Guardrails -------------------------------------------------------------------------------------------------------

CONTACTS = TableRule(
    "contacts_are_within_the_limit", "too many contacts", "The number of contacts is at most `max_contacts`."
)
ENTITIES = Rule(
    "custom_entities_are_within_the_limit",
    "too many custom entities are mapped",
    "The number of mapped tables besides contact is at most `max_custom_entities`.",
    "all",
)
MOST_COLUMNS = Rule(
    "columns_are_within_the_limit",
    "too many columns are mapped",
    "The number of mapped columns is at most `max_columns`.",
    "all",
)
LINK_DEPTH = Rule(
    "link_depth_is_within_the_limit", "too many links in a row", "Links in a row are at most `max_link_depth`.", "all"
)
TYPES = Rule("types_are_supported", "types are not supported", "Campaign has a type for each mapped column.")
PERSONAL_DATA = Rule(
    "personal_data_is_linked_to_profile",
    "personal data outlives the profile",
    "Columns that look like personal data belong to records that are linked to a profile and deleted with it.",
    side="campaign",
)
BUDGET = Rule(
    "engine_calls_are_within_the_budget",
    "the budget of engine calls is spent",
    "The day's budget of engine calls is not spent.",
    side="campaign",
)

# --- The checks of a table's assets, and of its audit -----------------------------------------------------------------

READY = Rule(
    "ready",
    "not ready",
    "The table's set-up is right on this side: the system answers, each mapped name exists, limits are kept.",
)
GUARD = TableRule(
    "no_deletion_is_held_back",
    "deletions or emptied values are held back",
    "The deletions of the last 24 hours are at most `max_delete_share` of the table's records, and no column became "
    "empty in more than `max_emptied_share` of them.",
)
POLLED = TableRule(
    "change_feed_is_polled", "the change feed is not polled", "The change feed was polled within the last 15 minutes."
)
REJECTED = Rule(
    "no_record_is_rejected", "records are rejected", "No record of this table is rejected; see `sync-assets rejects`."
)
WAITING = Rule("no_record_waits_long", "records wait too long", "No record has been waiting for more than an hour.")
BACKLOG = Rule("backlog_is_young", "the backlog is old", "No record has been pending for more than an hour.")
BUT_FOR = Rule(
    "no_refused_attribute_differs",
    "refused attributes differ",
    "No record differs in an attribute that Campaign refuses in updates.",
)
LOADED = Rule(
    "bulk_load_verified",
    "a load by file is not verified",
    "The last load by file has ended, and Campaign holds its records.",
)
CAMPAIGN_AGREES = Rule(
    "campaign_agrees_with_what_was_sent",
    "Campaign differs from what was sent",
    "Records that Campaign acknowledged, as far as the audit has listed them, hold the values that were sent last.",
)
UNIQUE_KEYS = TableRule(
    "no_key_occurs_twice", "keys occur twice", "No two records of Campaign carry the same id of Dynamics 365."
)
OPT_OUTS_AGREE = TableRule(
    "opt_outs_agree",
    "opt-outs differ",
    "No listed contact is opted out on one side only, unless the direction or a recent change explains it.",
)
TABLE_CHECKS: Mapping[Side, tuple[Rule, ...]] = {
    "d365": (READY, GUARD, POLLED),
    "campaign": (READY, REJECTED, WAITING, BACKLOG, BUT_FOR),
}
"""The checks of each asset of a table; LOADED comes with an import workflow. None is blocking: the run itself decides
what it may do."""
AUDIT_CHECKS = (CAMPAIGN_AGREES, UNIQUE_KEYS)

# --- The checks of opt-outs -------------------------------------------------------------------------------------------

FILE_ARRIVES = Rule(
    "export_arrives_in_time",
    "the export file is late",
    "Campaign has written a file of opt-outs within `expected_every_hours`.",
)
SFTP_SPACE = Rule("sftp_has_room", "the SFTP is nearly full", "The Campaign SFTP is less than 80 % full.")
READABLE = TableRule(
    "the_file_can_be_read", "the file cannot be read", "The file is complete, has its columns, and has times."
)
VALID = Rule("every_row_is_valid", "rows are rejected", "No row is rejected.")
ALL_DECIDED = Rule("everything_due_is_decided", "opt-outs are not decided", "Each opt-out that was due is decided.")
ACCEPTED = Rule("no_opt_out_is_rejected", "opt-outs are rejected", "No opt-out is rejected.")


class NotReady(SyncAssetsError):
    """Raised for a table that must not be synchronised as it is; `findings` contains the reasons."""

    def __init__(self, table: str, findings: list[Finding]) -> None:
        self.findings = findings
        problems = "; ".join(str(finding) for finding in findings if finding.stops)
        super().__init__(f"{table} was not synchronised, nothing was written: {problems}")


def require(table: str, findings: list[Finding]) -> list[Finding]:
    """Return the findings. Raises NotReady if one of them stops the table."""
    if any(finding.stops for finding in findings):
        raise NotReady(table, findings)
    return findings
