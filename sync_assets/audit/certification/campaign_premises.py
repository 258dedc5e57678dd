"""Try the premises about Campaign: keys (premises 3 to 7), links (2), values (7, 8, 10).

The findings go into the subject's `Addressing`, as those of a push do, so that a push need not find them out. Values
that the program does not map are written to the synthetic record only. The report has no values.

Campaign hides a record whose required link is empty, and a hidden record can be neither repaired nor deleted. So a
required link is only ever sent with the parent's PKey, as a push does.
"""

from collections.abc import Collection
from typing import Any

import msgspec

from sync_assets.audit.certification.synthetic_record import ATTEMPTS, NAMES, Subject
from sync_assets.audit.value_comparison import differing
from sync_assets.campaign.addressing import APART, IN_UPDATES, KEY_FOUND, KEY_IN_DELETE, KEY_UNIQUE, Addressing
from sync_assets.campaign.dialect import ResponseOutcome, response_outcome
from sync_assets.config.opt_out import OptOutConfig
from sync_assets.config.values import CHANGED_SUFFIX, PROFILE
from sync_assets.http.transport import OutcomeUnknown
from sync_assets.mapping.conversions import empty_value
from sync_assets.push.group_updates import FAILED, calls_of, find_way
from sync_assets.push.record_links import KEY_IN_LINK, LinkTarget, linked_pkey
from sync_assets.words import counted

TAKEN, IN_BODY, DELETE = "POST with a key that is taken", "the key in the body of a PATCH", "DELETE by the key"
SUB_FIELD, TIMES = "PATCH of a sub-field of", "change times of opt-outs"
LONG_TEXT, ODD_TEXT, EMPTY = "a text that is too long", "a text with odd characters", "empty values"
ODD = 'Zoë O\'Neil-Łukasz <b>&amp; "x" \\ / % + ; 漢字 😀'

YES, NO = "the record is found", "the record is not found"
_TWO = "The record is looked up by the filter first: one read more for each update and delete."
_REQUIRED = "the link is required; Campaign hides a record without it for good"
_PERHAPS_REQUIRED = "the metadata does not state whether the link is required"
_AS_SENT = "Texts are sent as Dynamics 365 has them."
_NOT_UPDATED = "Nothing: no update carries such a sub-field."
_BY_KEY = {"resolved": "stored", "empty": "accepted, and nothing is stored", "refused": "refused"}


# --- Keys -------------------------------------------------------------------------------------------------------------


async def key_in_urls(subject: Subject) -> None:
    """Try GET and PATCH by the key, and the filter; decide whether a push can address records."""
    record = await subject.read(subject.id)
    by_get = isinstance(record, dict) and subject.carries_our_id(record)
    body = subject.body()
    own = [name for name in body if name not in (subject.config.key, *subject.parents)][:1]
    same = {name: body[name] for name in own}  # a PATCH that changes nothing
    by_patch = (await subject.patch(same, subject.id)).kind == "done"
    given, addressing, key = subject.config.filter, subject.addressing, subject.config.key
    by_filter = given is not None and isinstance(
        await subject.records(Addressing("filter", given)).find(subject.id), dict
    )
    if by_get and by_patch:
        addressing.found_by_key()
    else:
        addressing.not_by_key()
    way = "One call for an update." if addressing.key_in_url else _TWO
    subject.report("GET by the key", YES if by_get else NO, way)
    subject.report("PATCH by the key", YES if by_patch else NO, way)
    premise = "a filter finds the key"
    if given is None:
        subject.report(premise, "no filter is configured", "Nothing: `filter` is not set.", "not tried")
    else:
        used = "Not used, since keys in URLs work." if addressing.key_in_url else _TWO
        subject.report(premise, YES if by_filter else NO, used)
    premise = "a record is found by our id"
    if (by_get and by_patch) if addressing.key_in_url else by_filter:
        addressing.note(KEY_FOUND, "yes")
        subject.report(premise, YES, way)
        return
    remedy = f"Publish a filter on {key} in Campaign and name it in `filter`, or make {key} the identification key."
    if addressing.mode == "url" and by_filter:
        remedy = "Write `address: auto` in the configuration: the filter finds the record."
    if addressing.mode == "filter" and by_get and by_patch:
        remedy = "Correct `filter` in the configuration, or write `address: auto`: keys in URLs work."
    subject.report(premise, NO, f"Updates and deletes are rejected. {remedy}", "not workable")


async def key_taken(subject: Subject) -> None:
    """POST the record once more: does Campaign refuse the key, and does it name the reason?"""
    before = await subject.held() or [subject.pkey]
    response = await subject.post(len(before))
    if response.kind == "done":
        await _second_record(subject, response.pkey)
        return
    subject.addressing.note(KEY_UNIQUE, "yes")
    result, program = "refused, without the reason", "After an error without a reason the record is looked up."
    if response.kind == "exists_already":
        result, program = "refused, with the reason", "An insert is one POST; if the key is taken it becomes an update."
    if subject.config.unique is False:
        program += " `unique: auto` would save reads: the key identifies a record."
    subject.report(TAKEN, result, program)


async def _second_record(subject: Subject, pkey: str) -> None:
    """Delete the second record, and report what its existence means."""
    key = subject.config.key
    if pkey != subject.pkey:
        await subject.delete(pkey)
    if not isinstance(await subject.read(), dict):  # both answers were about one record
        subject.made.discard(subject.pkey)
        await subject.create()
    result = "a second record is made"
    if subject.config.unique is True:
        remedy = "Write `unique: auto`, or make the key an identification key in Campaign."
        subject.report(TAKEN, result, f"`unique: true` is wrong: records would be duplicated. {remedy}", "not workable")
    elif subject.config.filter is None and not subject.addressing.key_in_url:
        remedy = f"Publish a filter on {key} and name it in `filter`, or make {key} an identification key."
        subject.report(TAKEN, result, f"No record can be looked up before it is sent again. {remedy}", "not workable")
    else:
        program = "The resource is listed before the first insert, and a record is looked up after a lost answer."
        subject.report(TAKEN, result, program)


async def key_in_body(subject: Subject) -> None:
    response = await subject.patch({subject.config.key: subject.id})
    finding = "accepted" if response.kind == "done" else "refused"
    subject.report(IN_BODY, finding, "A PATCH never carries the key.")


async def key_in_delete(subject: Subject) -> None:
    """Delete the record as a push does, which finds out whether the key is accepted and verifies the answer."""
    addressing = subject.addressing
    for _ in range(ATTEMPTS):
        if not subject.pkey:
            await subject.create()
        try:
            response = await subject.records(addressing).delete(subject.id)
        except OutcomeUnknown:
            continue
        if response.kind == "done":
            subject.made.discard(subject.pkey)
            subject.pkey = ""
        if addressing.findings.get(KEY_IN_DELETE) != "failed":  # failed: an error without a reason, to be tried again
            break
    two = "The record is looked up first: one read more for each delete."
    if addressing.key_in_url is False:
        subject.report(DELETE, "keys in URLs do not work", two, "not tried")
    elif addressing.findings.get(KEY_IN_DELETE) == "yes":
        subject.report(DELETE, YES, "One call for a delete; a read verifies samples.")
    else:
        subject.report(DELETE, NO, two)


# --- Links ------------------------------------------------------------------------------------------------------------


async def links(subject: Subject) -> None:
    """Try each link of the subject's table: by the parent's PKey, by its key, and unlinking. Each is read back."""
    for target in subject.links:
        await _link(subject, target)
    for link in subject.config.links:
        if link.style == "join":
            finding = "style join: a plain attribute holds the parent's key"
            subject.report(f"link {link.to}", finding, "The attribute is sent like any other.", "not tried")


async def _link(subject: Subject, target: LinkTarget) -> None:
    name, parent = f"link {target.attribute}", subject.parents[target.attribute]
    by_pkey, by_key, unlinked = f"{name} by the parent's PKey", f"{name} by the parent's key", f"{name} set to null"
    if not await _leads_to_parent(subject, target, parent):
        remedy = "The push stops. Check that the link's attribute is right and published for the API."
        subject.report(by_pkey, "not stored, or not shown", remedy, "not workable")
        subject.hidden = isinstance(await subject.read(), ResponseOutcome)
        return
    way = "The PKey of each parent is looked up once in a process; links are read back."
    subject.report(by_pkey, "stored", way)
    if target.required:
        way = "The program sends the parent's PKey."
        if target.link.style == "auto" and parent.addressing.findings.get(KEY_IN_LINK) == "resolved":
            way = "The program sends the parent's key, which another link to this parent resolves."
        elif target.link.style == "key":
            way = "The program sends the key, as `style: key` says, and reads links back. `style: auto` is safer."
        attribute = subject.resource.attributes.get(target.attribute)
        known = target.link.cardinality == "one" or (attribute and attribute.mandatory)
        text = _REQUIRED if known else _PERHAPS_REQUIRED
        subject.report(by_key, text, way, "not tried")
        subject.report(unlinked, text, "A child without its parent is not sent.", "not tried")
        return
    await _unlink(subject, target, unlinked)
    await _link_by_key(subject, target, parent, by_key)


async def _unlink(subject: Subject, target: LinkTarget, premise: str) -> None:
    response = await subject.patch({target.attribute: None})
    record = await subject.read()
    if response.kind == "done" and isinstance(record, dict) and not linked_pkey(record, target.attribute):
        subject.report(premise, "removed", "A child that lost its parent is unlinked.")
    elif isinstance(record, ResponseOutcome):
        remedy = "Write `cardinality: one` for this link, and delete the record with the synthetic id in Campaign."
        subject.report(premise, "Campaign hides the record", remedy, "not workable")
        subject.hidden = True
    else:
        remedy = "A child that lost its parent keeps its link and is rejected. Write `cardinality: one` for this link."
        subject.report(premise, "kept", remedy, "not workable")


async def _link_by_key(subject: Subject, target: LinkTarget, parent: Subject, premise: str) -> None:
    response = await subject.patch({target.attribute: {"PKey": parent.id}})
    finding = "refused"
    if response.kind == "done":
        finding = "resolved" if await _leads_to_parent(subject, target, parent) else "empty"
    if target.link.style == "key" and finding != "resolved":
        remedy = "`style: key` does not work here. Write `style: auto`."
        subject.report(premise, _BY_KEY[finding], remedy, "not workable")
        return
    parent.addressing.note(KEY_IN_LINK, finding)
    key, pkey = "The parent's key is sent: no look-up.", "The parent's PKey is looked up and sent."
    subject.report(premise, _BY_KEY[finding], key if finding == "resolved" and target.link.style != "pkey" else pkey)


async def _leads_to_parent(subject: Subject, target: LinkTarget, parent: Subject) -> bool:
    pkey = linked_pkey(await subject.read(), target.attribute)
    if not pkey or pkey == parent.pkey:
        return bool(pkey)
    record = await parent.read(pkey)  # the same record may have several PKeys: its key decides
    return isinstance(record, dict) and parent.carries_our_id(record)


# --- Values -----------------------------------------------------------------------------------------------------------


async def values(subject: Subject, opt_out: OptOutConfig, files: Collection[str]) -> None:
    """Try all premises about the values of one record. files: attributes whose updates go by file."""
    answer = await subject.client.call("update", f"{subject.path}/{subject.pkey}", b"{}")
    finding = "accepted" if 200 <= answer.status < 300 else "refused"
    program = "A PATCH is never sent without a value."
    subject.report("PATCH with an empty body", f"{finding} ({answer.status})", program)
    await _texts(subject)
    await _empty(subject)
    await _bad_value(subject)
    await _sub_fields(subject, files)
    if subject.config.resource == PROFILE and subject.opt_outs():
        await _opt_out_times(subject, opt_out)


async def _texts(subject: Subject) -> None:
    attribute = subject.text_attribute()
    if attribute is None:
        for premise in (ODD_TEXT, LONG_TEXT):
            subject.report(premise, "no text attribute is mapped", _AS_SENT, "not tried")
        return
    name, sample = attribute.path, ODD[: attribute.length]
    sent = await _written(subject, {name: sample})
    if sent is None:
        finding, way = "refused", "Such a record is rejected with Campaign's reason; the others go on."
    elif sent == sample:
        finding, way = "stored as sent", _AS_SENT
    elif isinstance(sent, str) and not differing({name: sample}, {name: sent}, subject.resource):
        finding, way = "stored; Campaign changes case or blanks", _AS_SENT
    else:
        finding = "stored, changed by Campaign"
        way = "Values are never compared to detect changes; the daily audit may report them."
    subject.report(ODD_TEXT, finding, way)
    if attribute.length is None:
        subject.report(LONG_TEXT, "the attribute has no length", "Nothing is checked or cut.", "not tried")
        return
    long = "x" * (attribute.length + 1)
    sent = await _written(subject, {name: long})
    finding = "refused" if sent is None else "stored whole" if sent == long else "cut without an error"
    way = "The length is checked before a record is sent: it is rejected, or cut with `truncate: true`."
    subject.report(LONG_TEXT, finding, way)


async def _empty(subject: Subject) -> None:
    """Send the empty values that a push sends for empty columns, all at once; each alone if Campaign refuses that.

    The record's names are left.
    """
    empty: dict[str, Any] = {}
    for path, updates in sorted(subject.mapped().items()):
        tried = updates and "." not in path and path not in NAMES  # sub-fields: see _sub_fields
        attribute = subject.writable(path) if tried else None
        if attribute and not attribute.mandatory and attribute.type not in ("link", "collection"):
            empty[path] = empty_value(attribute)
    if not empty:
        subject.report(EMPTY, "no attribute is mapped that may be empty", "Nothing is emptied.", "not tried")
        return
    response = await subject.patch(empty)
    each = {} if response.kind == "done" else {name: await subject.patch({name: empty[name]}) for name in empty}
    refused = [name for name, answer in each.items() if answer.kind != "done"]
    record = await subject.read()
    wrong = differing(empty, record, subject.resource) if isinstance(record, dict) else sorted(empty)
    if not (wrong := sorted({*refused, *wrong})):
        subject.report(EMPTY, "stored as empty", "An empty column empties its attribute.")
        return
    text = "the former value is kept" if response.kind == "done" else f"refused: {subject.shown(response)}"
    way = (
        f"Rows with empty columns are rejected or keep their values: {', '.join(wrong)}. Map them with "
        "`keep_if_empty: true` or `apply_updates: false`."
    )
    subject.report(EMPTY, text, way, "not workable")


async def _written(subject: Subject, new: dict[str, Any]) -> Any:
    """PATCH values, and return what the record then holds in the first of them; None if Campaign refuses."""
    if (await subject.patch(new)).kind != "done":
        return None
    record = await subject.read()
    return record.get(next(iter(new)), "") if isinstance(record, dict) else None


async def _bad_value(subject: Subject) -> None:
    """Send a value that an enumeration, a date or a number does not have."""
    premise = "the reason for a value that is not valid"
    attributes = filter(None, map(subject.writable, subject.mapped()))
    kinds = ("enumeration", "date", "datetime", "integer", "float")
    typed = next((attribute for attribute in attributes if attribute.type in kinds and "." not in attribute.path), None)
    if typed is None:
        finding = "no enumeration, date or number is mapped"
        subject.report(premise, finding, "A rejected record is shown with Campaign's reason.", "not tried")
        return
    body = msgspec.json.encode({typed.path: "no_such_value"})
    answer = await subject.client.call("update", f"{subject.path}/{subject.pkey}", body)
    kind = response_outcome(answer, "update", subject.pkey).kind
    if kind == "refused":
        subject.report(premise, "refused, with the reason", "The record is rejected at once, with the reason.")
    elif kind == "done":
        subject.report(premise, "accepted", "Values are checked against the metadata before they are sent.")
    else:
        way = "The record stays pending and is sent again, ever more rarely; the others go on."
        subject.report(premise, "refused, without the reason", way)


async def _sub_fields(subject: Subject, files: Collection[str]) -> None:
    """Try a PATCH of each group that has a mapped sub-field; of a profile's location in any case.

    files: attributes whose updates go by file.
    """
    mapped = {path: updates for path, updates in subject.mapped().items() if "." in path}
    paths = {path.partition(".")[0]: path for path in mapped}
    if subject.config.resource == PROFILE and "location" not in paths and subject.writable("location.city"):
        paths["location"] = "location.city"
    for group, path in sorted(paths.items()):
        attribute, part = subject.writable(path), path.partition(".")[2]
        if attribute is None or attribute.type != "string":
            continue
        value = "x" if attribute.length == 1 else "certify"[: attribute.length]
        held = await _written(subject, {group: {part: value}})
        stored = isinstance(held, dict) and str(held.get(part) or "").casefold() == value.casefold()
        premise = f"{SUB_FIELD} {group}"
        sent = sorted(path for path, updates in mapped.items() if updates and path.startswith(f"{group}."))
        by_file = [path for path in sent if path in files]
        sent = [path for path in sent if path not in files]
        if stored:
            subject.addressing.note(f"{IN_UPDATES}{group}", "yes")
            subject.report(premise, "stored", "Sub-fields are updated like other attributes.")
        elif not sent:
            way = f"The files of `bulk_load.updates` bring {', '.join(by_file)}." if by_file else _NOT_UPDATED
            subject.report(premise, "refused or not stored", way)
        elif way := await _other_way(subject, group, {part: value}):
            text = f"stored by another request: {way}"
            cost = f"{counted(calls_of(way), 'call')} more for each record that may differ there."
            subject.report(premise, text, f"Its fields are updated by that one: {cost}")
        else:
            way = f"Updates leave out {', '.join(sent)}: sent with inserts only. Map with `apply_updates: false`."
            subject.report(premise, "refused or not stored", way, "not workable")


async def _other_way(subject: Subject, group: str, values: dict[str, str]) -> str | None:
    """Try other requests that update a group; return the one that Campaign takes."""
    sent = msgspec.Raw(msgspec.json.encode(values))
    way = await find_way(subject.addressed, subject.pkey, group, sent, ("PATCH", "PUT"))
    if subject.config.resource == PROFILE:
        await subject.patch(NAMES)  # which a PUT may have emptied
    if way in (None, "none", FAILED):
        return None
    subject.addressing.note(f"{IN_UPDATES}{group}", "no")
    subject.addressing.note(f"{APART}{group}", way)
    return way


async def _opt_out_times(subject: Subject, opt_out: OptOutConfig) -> None:
    names = subject.opt_outs()
    response = await subject.patch(dict.fromkeys(names, True))
    record = await subject.read()
    used = [name for name in opt_out.attributes if name in names] if opt_out.active else []
    if response.kind != "done" or not isinstance(record, dict):
        outcome = "not workable" if used else "workable"
        subject.report(TIMES, "opt-outs are refused", "Opt-outs are not written to Campaign.", outcome)
        return
    timed = [name for name in names if record.get(f"{name}{CHANGED_SUFFIX}")]
    without = [name for name in names if name not in timed]
    text = f"present for {', '.join(timed) or 'none'}; missing for {', '.join(without) or 'none'}"
    way = "A flag without a time counts as never changed in Campaign: an opt-out on either side wins."
    if lost := [name for name in used if record.get(name) is not True]:
        way = f"Campaign does not keep {', '.join(lost)}: take it out of `opt_out.mappings`."
    subject.report(TIMES, text, way, "not workable" if lost else "workable")
