"""The document of `doctor --file` as text for people."""

from __future__ import annotations

from typing import Any

from sync_assets.cli.tables import print_line
from sync_assets.commands.doctor.export_sample import IDS
from sync_assets.plurals import counted


def show_sample(document: dict[str, Any]) -> None:
    """Print the first rows, a line each, then the sums and the warnings."""
    if document["problem"]:
        print_line(f"fail The whole file would be rejected. {document['problem']}")
    if document["nothing_taken"]:
        print_line(f"fail No row would be taken. {document['nothing_taken']}")
    for one in document["lines"]:
        print_line(f"line {one['line']}  {one['id'] or '-'}  {_effect(one)}")
    if not document["problem"]:
        _show_sums(document)
    for warning in document["warnings"]:
        print_line(f"warn {warning}")


def _effect(line: dict[str, Any]) -> str:
    if line["rejected"]:
        return f"rejected: {line['rejected']}"
    if line["taken"] is None:
        return "passed over: it has no id, so the profile is not from Dynamics 365"
    stated = [
        f"{one['attribute']} {str(one['opted_out']).lower()} ({one['changed_at'] or 'time unknown'})"
        for one in line["taken"]
    ]
    return f"taken: {', '.join(stated)}" if stated else "taken, but it states nothing: all its values are empty"


def _show_sums(document: dict[str, Any]) -> None:
    at_least = "at least " if document["ids"] == IDS else ""
    ids = f" (of {at_least}{counted(document['ids'], 'different id')})" if document["ids"] else ""
    print_line(
        f"{counted(document['rows'], 'row')}: {document['taken']:,} taken{ids}, "
        f"{document['without_id']:,} without an id, {document['rejected']:,} rejected; "
        f"times in the layout {document['date_layout'] or '- (there are none)'}"
    )
    for reason, number in document["reasons"].items():
        print_line(f"rejected, {counted(number, 'row')}: {reason}")
    for name, values in document["values"].items():
        print_line(f"{name}: {values['true']:,} true, {values['false']:,} false, {values['empty']:,} empty")
    if document["unknown_ids"] is not None:
        asked = counted(document["ids"], "id")
        print_line(f"unknown: {document['unknown_ids']:,} of {asked} are no contact in Dynamics 365")
    print_line(f"columns not used: {', '.join(document['unused_columns']) or 'none'}")
