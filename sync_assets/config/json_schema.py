"""Generate a JSON Schema of the configuration, for completion and validation in editors.

The schema is generated from the models; here are only the descriptions that an editor shows. It covers single values:
rules that involve several places of the file are checked by `cross_checks.py` only. The generated schema is stored as
`config.schema.json` beside this file:

    python -m sync_assets.config.json_schema
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

PACKAGED = Path(__file__).parent / "config.schema.json"

DRAFT = "http://json-schema.org/draft-07/schema#"
"""The draft best supported by the YAML language server, which most editors use."""

DESCRIPTIONS: dict[str, dict[str, str]] = {
    "Config": {
        "privacy_acknowledged": "Required, and true: privacy requests (access, erasure) are your task, in both "
        "systems. This program neither sees nor forwards them.",
        "tables": "One entry per table. A table and a resource may each stand here once.",
        "opt_out": "Opt-outs between contact and profile.",
        "storage": "Where the rows of opt-out files, and what was decided on them, are kept as Parquet.",
        "owners": "Whom Dagster names as the owners of the assets, by their group.",
        "logs": "What the program did, as a file a day on the Campaign SFTP.",
        "history": "What became of each record, run by run, for `sync-assets history`. null: not kept.",
        "runs": "How Dagster runs it.",
        "guardrails": "Limits that stop the program before it writes anything.",
        "alerts": "Whom to tell of failed runs, failed checks and stale data. null: nobody.",
    },
    "Owners": {
        "d365": "Of what is captured: `team:<name>`, or e-mail addresses.",
        "campaign": "Of profiles and resources.",
        "opt_out": "Of opt-outs.",
        "report": "Of the daily report.",
    },
    "TableConfig": {
        "table": "Dynamics 365 table, by its logical name as in `contact`. Its primary key is found by itself.",
        "resource": "Campaign resource, by its API name. Custom ones carry the prefix cus.",
        "key": "The Campaign attribute that holds the Dynamics 365 id: a unique text, not mapped under `fields`.",
        "api": "`customResources` for resources that are not linked to profile.",
        "address": "How an existing record is addressed. `auto`: found out once per resource. `url`: /profile/<key>. "
        "`filter`: its address is looked up by a published filter, at the price of one more engine call per update.",
        "filter": "The published filter, for `address: filter`, and for `auto` where Campaign takes no keys in URLs.",
        "unique": "Is the key an identification key, so that Campaign refuses a second record with it? `auto`: found "
        "out. false: records are looked up before they are inserted.",
        "fields": "Dynamics 365 column: Campaign attribute, or {to, apply_updates, truncate}. Sub-fields with a dot, "
        "as in `location.city`.",
        "replacements": "Column: {Dynamics 365 value: Campaign value}. Choices by number or label, null for an empty "
        "column. What is not named is sent as it is.",
        "filters": "Which rows are sent at all. Without it, every row.",
        "apply_deletes": "Are rows that were deleted in Dynamics 365 deleted in Campaign, too? A plain delete leaves "
        "traces in Campaign's logs.",
        "picklists": "What becomes of choices in text attributes: their labels or their codes (the numbers).",
        "links": "Lookups that become links. Parents are written first; the parent's table must be mapped, too.",
    },
    "FieldMapping": {
        "to": "Campaign attribute.",
        "apply_updates": "false: the value is sent on first load and replay only, later changes are not.",
        "truncate": "true: a text longer than the attribute is cut; otherwise the record is rejected.",
    },
    "AddressFilter": {
        "name": "The filter's name, as in `byExternalId`.",
        "parameter": "Its parameter, as in `externalId_parameter`.",
    },
    "Filters": {
        "match": "Must all rules hold, or any of them?",
        "rules": "Comparisons of a column with a value. Texts compare without regard to case.",
        "delete_filtered_out": "true: what no longer passes is deleted in Campaign.",
    },
    "FilterRule": {
        "field": "Dynamics 365 column, mapped or not.",
        "is": "The comparison. An empty column meets no rule but `is_null`.",
        "value": "One value, a list for `in` and `not_in`, nothing for `is_null` and `not_null`. Choices by number or "
        "label.",
    },
    "Link": {
        "field": "Dynamics 365 lookup column, by its logical name.",
        "to": "Campaign link; with `style: join`, the text attribute that takes the parent's key.",
        "table": "The mapped table that it points to.",
        "style": "`auto`: found out by reading links back. `key`: the link is set by the parent's key. `pkey`: by the "
        "parent's own PKey, looked up once per parent. `join`: a plain attribute takes the parent's key.",
        "cardinality": "`one`: waits for its parent. `zero_or_one`: is sent without it if need be.",
    },
    "OptOut": {
        "direction": "Which side's opt-outs travel to the other.",
        "mappings": "Dynamics 365 column of two options: Campaign opt-out attribute, or {to, inverted}.",
        "poll_profiles_minutes": "Besides the file, read opt-outs through the API this often. Costs engine calls.",
        "export": "The file that a Campaign workflow writes to the Campaign SFTP.",
    },
    "OptOutMapping": {
        "to": "Campaign opt-out attribute.",
        "inverted": "true: the column's true means allow.",
    },
    "Export": {
        "directory": "As seen after sign-in, or from the root as in `/d365_loads/exports`.",
        "pattern": "Names within the directory. A `.gz` is unpacked.",
        "separator": "Any one character, or `tab`.",
        "encoding": "As in `utf-8`, `latin-1` or `cp1252`.",
        "settle_seconds": "A file is complete once size and time are equal in two looks and it is this old.",
        "key_column": "The column with the Dynamics 365 id.",
        "changed_suffix": "Ends the names of the columns that hold an attribute's time of change.",
        "columns": "Attribute, or attribute and suffix: the header's name of the column, if it is another one.",
        "date_format": "Of these times, as chosen in Campaign's Extract file. `auto`: found out from the file.",
        "after": "What becomes of a file once it is done.",
        "keep_days": "Kept and archived files are removed after so many days.",
        "expected_every_hours": "The file is overdue after that.",
        "workflow_id": "The workflow that writes the file, as in `WKF12`.",
        "restart_stalled": "true: start that workflow when the file is overdue.",
    },
    "Storage": {
        "directory": "A local folder, from the root as in `/srv/sync_assets`. null: a folder in DAGSTER_HOME.",
        "s3_bucket": "S3 instead of a folder. Signs in by the usual AWS environment.",
        "s3_prefix": "The folder within the bucket.",
    },
    "Logs": {
        "export": "true: a file of JSON lines a day, with counts and rejected records by id and reason.",
        "folder": "As seen after sign-in, or from the root. Made if it is not there.",
        "keep_days": "Older files are removed.",
    },
    "History": {"days": "Older entries are removed."},
    "Runs": {
        "start_date": "The first partition, a UTC day as in 2026-11-26. `init` writes the day it ran.",
        "linger_seconds": "A run stays so long after its last change. 0: a run for each change. always: until "
        "`longest_run_minutes`.",
        "longest_run_minutes": "Then a run ends, and the next one goes on without a gap.",
        "keep_days": "Successful runs are pruned after that, failed ones after four times as long.",
    },
    "Guardrails": {
        "max_contacts": "Contacts at most.",
        "max_custom_entities": "Mapped tables besides contact at most.",
        "max_columns": "Mapped columns of a table at most.",
        "max_link_depth": "Links in a row at most: table1 -> table2 -> table3 is 2.",
        "calls_per_second": "To Campaign, all processes of a ledger together. null: no limit.",
        "engine_calls_per_hour": "null: no limit. Else pushing stops there until the next UTC hour.",
        "engine_calls_per_day": "null: no limit. Else pushing stops there until the next UTC day.",
        "max_delete_share": "Of the known records in one capture, once there are more than 100.",
        "concurrency": "Requests in flight to Campaign at most, all processes of a ledger together. Adapts below that.",
    },
    "Alerts": {
        "webhook": 'true: {"text": ...} goes to the address in SYNC_ASSETS_ALERT_WEBHOOK, as Slack and Teams take it.',
        "email": "Notices by e-mail. Sign-in by SYNC_ASSETS_SMTP_USER and SYNC_ASSETS_SMTP_PASSWORD.",
        "warnings": "false: only errors are told, not checks that warn.",
        "again_after_hours": "Trouble that lasts is told again after that.",
    },
    "Email": {
        "host": "The mail server.",
        "port": "Its port: 587 with starttls, 465 with tls.",
        "security": "`starttls`, `tls` from the first byte on, or `none`, on this machine only.",
        "from": "The sender's address alone, as in `sync@example.com`.",
        "to": "The recipients' addresses.",
    },
}
"""Model -> key as written in the file -> description shown by editors."""

_PLAIN = ["string", "boolean", "number", "null"]


def json_schema() -> dict[str, Any]:
    """Build the schema of the whole file."""
    from sync_assets.config.models import Config  # pydantic's models  # noqa: PLC0415

    whole = Config.model_json_schema()
    parts: dict[str, Any] = whole.pop("$defs")
    for name, part in {**parts, "Config": whole}.items():
        del part["title"]
        part.pop("description", None)  # the docstring, written for readers of the code
        for key, property_ in part["properties"].items():
            property_.pop("title", None)
            if isinstance(property_.get("default"), dict):
                del property_["default"]  # the defaults are at its own keys
            # This draft ignores keywords beside `$ref`.
            part["properties"][key] = {"description": DESCRIPTIONS[name][key]} | (
                {"allOf": [property_]} if "$ref" in property_ else property_
            )
    # Rules of validators that a schema can express.
    whole["properties"]["privacy_acknowledged"]["const"] = True
    columns = parts["TableConfig"]["properties"]
    for property_ in columns["replacements"]["patternProperties"].values():
        property_["additionalProperties"] = {"type": _PLAIN}
    for property_ in (columns["fields"], columns["replacements"], parts["OptOut"]["properties"]["mappings"]):
        property_["additionalProperties"] = False  # keys that are no logical names
    head = {"$schema": DRAFT, "title": "The configuration of sync_assets"}
    return head | whole | {"$defs": parts}


def text() -> str:
    """Return the schema as JSON text, as stored in the package."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    PACKAGED.write_text(text(), encoding="utf-8")
