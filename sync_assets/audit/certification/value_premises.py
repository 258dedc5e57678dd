"""Try the premises about values (premises 7, 8, 10): sub-fields, opt-outs, empty, long and odd values, reasons.

Values that the program does not map are written to the synthetic record only. The report has no values.
"""

from __future__ import annotations

from typing import Any

import msgspec

from sync_assets.audit.certification.subject import NAMES, Subject
from sync_assets.audit.value_comparison import differing
from sync_assets.campaign.addressing import IN_UPDATES
from sync_assets.campaign.dialect import response_outcome
from sync_assets.config.opt_out import OptOutConfig
from sync_assets.config.values import CHANGED_SUFFIX, PROFILE
from sync_assets.mapping.conversions import empty_value

SUB_FIELD = "PATCH of a sub-field of"
TIMES = "change times of opt-outs"
LONG_TEXT, ODD_TEXT, EMPTY = "a text that is too long", "a text with odd characters", "empty values"
EMPTY_BODY = "PATCH with an empty body"
BAD_VALUE = "the reason for a value that is not valid"
ODD = 'Zoë O\'Neil-Łukasz <b>&amp; "x" \\ / % + ; 漢字 😀'
_NO_TEXT = "no text attribute is mapped"
_NOT_A_VALUE = "no_such_value"


async def values(subject: Subject, opt_out: OptOutConfig) -> None:
    """Try all premises about the values of one record."""
    await _empty_body(subject)
    await _texts(subject)
    await _empty(subject)
    await _bad_value(subject)
    await _sub_fields(subject)
    if subject.config.resource == PROFILE and subject.opt_outs():
        await _opt_out_times(subject, opt_out)


async def _empty_body(subject: Subject) -> None:
    answer = await subject.client.call("update", f"{subject.path}/{subject.pkey}", b"{}")
    found = "accepted" if 200 <= answer.status < 300 else "refused"
    subject.report(EMPTY_BODY, f"{found} ({answer.status})", "A PATCH is never sent without a value.")


async def _texts(subject: Subject) -> None:
    attribute = subject.text_attribute()
    if attribute is None:
        for premise in (ODD_TEXT, LONG_TEXT):
            subject.report(premise, _NO_TEXT, "Texts are sent as Dynamics 365 has them.", "not tried")
        return
    name, odd = attribute.path, ODD[: attribute.length]
    sent = await _written(subject, {name: odd})
    found = "stored as sent" if sent == odd else "refused" if sent is None else "stored, changed by Campaign"
    if isinstance(sent, str) and sent != odd and not differing({name: odd}, {name: sent}, subject.resource):
        found = "stored; Campaign changes case or blanks"
    program = {
        "refused": "Such a record is rejected with Campaign's reason; the others go on.",
        "stored, changed by Campaign": "Values are never compared to detect changes; the daily audit may report them.",
    }
    subject.report(ODD_TEXT, found, program.get(found, "Texts are sent as Dynamics 365 has them."))
    if attribute.length is None:
        subject.report(LONG_TEXT, "the attribute has no length", "Nothing is checked or cut.", "not tried")
    else:
        long = "x" * (attribute.length + 1)
        sent = await _written(subject, {name: long})
        found = "refused" if sent is None else "stored whole" if sent == long else "cut without an error"
        way = "The length is checked before a record is sent: it is rejected, or cut with `truncate: true`."
        subject.report(LONG_TEXT, found, way)


async def _empty(subject: Subject) -> None:
    """Send the empty values that a push sends for empty columns, all at once. The record's names are left."""
    values: dict[str, Any] = {}
    for path in sorted(subject.mapped()):
        attribute, (group, _, part) = subject.writable(path), path.partition(".")
        if attribute is None or attribute.mandatory or path in NAMES or attribute.type in ("link", "collection"):
            continue
        if part:
            continue  # see _sub_fields
        values[group] = empty_value(attribute)
    if not values:
        subject.report(EMPTY, "no attribute is mapped that may be empty", "Nothing is emptied.", "not tried")
        return
    response = await subject.patch(values)
    found = await subject.read()
    wrong = differing(values, found, subject.resource) if isinstance(found, dict) else sorted(values)
    if response.kind == "done" and not wrong:
        subject.report(EMPTY, "stored as empty", "An empty column empties its attribute.")
        return
    text = "the former value is kept" if response.kind == "done" else f"refused: {subject.shown(response)}"
    way = f"Rows with empty columns are rejected or keep their values: {', '.join(wrong)}. Map them otherwise."
    subject.report(EMPTY, text, way, "not workable")


async def _written(subject: Subject, values: dict[str, Any]) -> Any:
    """PATCH values, and return what the record then holds in the first of them; None if Campaign refuses."""
    response = await subject.patch(values)
    if response.kind != "done":
        return None
    found = await subject.read()
    return found.get(next(iter(values)), "") if isinstance(found, dict) else None


async def _bad_value(subject: Subject) -> None:
    """Send a value that an enumeration, a date or a number does not have."""
    attributes = (subject.writable(path) for path in subject.mapped())
    kinds = ("enumeration", "date", "datetime", "integer", "float")
    typed = next((one for one in attributes if one and one.type in kinds and "." not in one.path), None)
    if typed is None:
        found = "no enumeration, date or number is mapped"
        subject.report(BAD_VALUE, found, "A rejected record is shown with Campaign's reason.", "not tried")
        return
    body = msgspec.json.encode({typed.path: _NOT_A_VALUE})
    answer = await subject.client.call("update", f"{subject.path}/{subject.pkey}", body)
    kind = response_outcome(answer, "update", subject.pkey).kind
    if kind == "refused":
        subject.report(BAD_VALUE, "refused, with the reason", "The record is rejected at once, with the reason.")
    elif kind == "done":
        subject.report(BAD_VALUE, "accepted", "Values are checked against the metadata before they are sent.")
    else:
        way = "The record stays pending and is sent again, ever more rarely; the others go on."
        subject.report(BAD_VALUE, "refused, without the reason", way)


async def _sub_fields(subject: Subject) -> None:
    """Try a PATCH of each group that has a mapped sub-field; of a profile's location in any case."""
    mapped = {path: updates for path, updates in subject.mapped().items() if "." in path}
    paths = {path.partition(".")[0]: path for path in mapped}
    if subject.config.resource == PROFILE and "location" not in paths and subject.writable("location.city"):
        paths["location"] = "location.city"
    for group, path in sorted(paths.items()):
        attribute = subject.writable(path)
        if attribute is None or attribute.type != "string":
            continue
        value = "x" if attribute.length == 1 else "certify"[: attribute.length]
        held = await _written(subject, {group: {path.partition(".")[2]: value}})
        stored = isinstance(held, dict) and str(held.get(path.partition(".")[2]) or "").casefold() == value.casefold()
        premise = f"{SUB_FIELD} {group}"
        sent = sorted(one for one, updates in mapped.items() if updates and one.startswith(f"{group}."))
        if stored:
            subject.addressing.note(f"{IN_UPDATES}{group}", "yes")
            subject.report(premise, "stored", "Sub-fields are updated like other attributes.")
        elif not sent:
            subject.report(premise, "refused or not stored", "Nothing: no update carries such a sub-field.")
        else:
            way = f"Updates leave out {', '.join(sent)}: sent with inserts only. Map with `apply_updates: false`."
            subject.report(premise, "refused or not stored", way, "not workable")


async def _opt_out_times(subject: Subject, opt_out: OptOutConfig) -> None:
    names = subject.opt_outs()
    response = await subject.patch(dict.fromkeys(names, True))
    found = await subject.read()
    used = [name for name in opt_out.attributes if name in names] if opt_out.active else []
    if response.kind != "done" or not isinstance(found, dict):
        outcome = "not workable" if used else "workable"
        subject.report(TIMES, "opt-outs are refused", "Opt-outs are not written to Campaign.", outcome)
        return
    timed = [name for name in names if found.get(f"{name}{CHANGED_SUFFIX}")]
    without = [name for name in names if name not in timed]
    kept = [name for name in names if found.get(name) is True]
    text = f"there for {', '.join(timed) or 'none'}; missing for {', '.join(without) or 'none'}"
    way = "A flag without a time counts as never changed in Campaign: an opt-out on either side wins."
    if lost := [name for name in used if name not in kept]:
        way = f"Campaign does not keep {', '.join(lost)}: take it out of `opt_out.mappings`."
    subject.report(TIMES, text, way, "not workable" if lost else "workable")
