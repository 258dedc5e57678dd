"""Try the premises about links (premise 2): by the parent's PKey, by its key, and unlinking. Each is read back.

Campaign hides a record whose required link is empty, and a hidden record can be neither repaired nor deleted. So a
required link is only ever sent with the parent's PKey, as a push does.
"""

from __future__ import annotations

from sync_assets.audit.certification.subject import Subject
from sync_assets.campaign.dialect import ResponseOutcome
from sync_assets.push.record_links import KEY_IN_LINK, LinkTarget, linked_pkey

BY_PKEY, BY_KEY, UNLINKED = "by the parent's PKey", "by the parent's key", "set to null"
_REQUIRED = "the link is required; Campaign hides a record without it for good"


async def links(subject: Subject) -> None:
    """Try each link of the subject's table."""
    for target in subject.target.links:
        await _link(subject, target)
    for link in subject.config.links:
        if link.style == "join":
            found = "style join: a plain attribute holds the parent's key"
            subject.report(f"link {link.to}", found, "The attribute is sent like any other.", "not tried")


async def _link(subject: Subject, target: LinkTarget) -> None:
    name, parent = f"link {target.attribute}", subject.parents[target.attribute]
    if await _leads_to_parent(subject, target, parent):
        way = "The PKey of each parent is looked up once in a process; links are read back."
        subject.report(f"{name} {BY_PKEY}", "stored", way)
    else:
        remedy = "The push stops. Check that the link's attribute is right and published for the API."
        subject.report(f"{name} {BY_PKEY}", "not stored, or not shown", remedy, "not workable")
        subject.hidden = isinstance(await subject.read(), ResponseOutcome)
        return
    if target.required:
        way = "The program sends the parent's PKey."
        if target.style == "auto" and parent.addressing.found.get(KEY_IN_LINK) == "resolved":
            way = "The program sends the parent's key, which another link to this parent resolves."
        elif target.style == "key":
            way = "The program sends the key, as `style: key` says, and reads links back. `style: auto` is safer."
        subject.report(f"{name} {BY_KEY}", _REQUIRED, way, "not tried")
        subject.report(f"{name} {UNLINKED}", _REQUIRED, "A child without its parent is not sent.", "not tried")
        return
    await _unlink(subject, target)
    await _by_key(subject, target, parent)


async def _unlink(subject: Subject, target: LinkTarget) -> None:
    name = f"link {target.attribute} {UNLINKED}"
    response = await subject.patch({target.attribute: None})
    found = await subject.read()
    if response.kind == "done" and isinstance(found, dict) and not linked_pkey(found, target.attribute):
        subject.report(name, "removed", "A child that lost its parent is unlinked.")
    elif isinstance(found, ResponseOutcome):
        remedy = "Write `cardinality: one` for this link, and delete the record with the synthetic id in Campaign."
        subject.report(name, "Campaign hides the record", remedy, "not workable")
        subject.hidden = True
    else:
        remedy = "A child that lost its parent keeps its link and is rejected. Write `cardinality: one` for this link."
        subject.report(name, "kept", remedy, "not workable")


async def _by_key(subject: Subject, target: LinkTarget, parent: Subject) -> None:
    name = f"link {target.attribute} {BY_KEY}"
    response = await subject.patch({target.attribute: {"PKey": parent.id}})
    if response.kind != "done":
        found = "refused"
    elif await _leads_to_parent(subject, target, parent):
        found = "resolved"
    else:
        found = "empty"
    if target.style == "key" and found != "resolved":
        subject.report(name, _SHOWN[found], "`style: key` does not work here. Write `style: auto`.", "not workable")
        return
    parent.addressing.note(KEY_IN_LINK, found)
    key, pkey = "The parent's key is sent: no look-up.", "The parent's PKey is looked up and sent."
    subject.report(name, _SHOWN[found], key if found == "resolved" and target.style != "pkey" else pkey)


_SHOWN = {"resolved": "stored", "empty": "accepted, and nothing is stored", "refused": "refused"}


async def _leads_to_parent(subject: Subject, target: LinkTarget, parent: Subject) -> bool:
    pkey = linked_pkey(await subject.read(), target.attribute)
    if not pkey or pkey == parent.pkey:
        return bool(pkey)
    found = await parent.read(pkey)  # the same record may have several PKeys: its key decides
    return isinstance(found, dict) and parent.carries_our_id(found)
