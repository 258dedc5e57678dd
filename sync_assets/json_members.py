"""Read and leave out members of a JSON object; the text of all others stays as it is, so that numbers stay exact."""

import json

import msgspec

_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])


def members(form: str | None) -> dict[str, msgspec.Raw]:
    """Return the members of a JSON object, each with its text as it stands; none without `form`."""
    return _MEMBERS.decode(form) if form else {}


def without(form: str | None, *paths: str) -> str:
    """Return a JSON object without some members.

    Args:
        form: the object; None for an empty one.
        paths: names of members, or `group.name` for a member of a member. A group that becomes empty is left out, too.
    """
    held = members(form)
    kept = {name: value for name, value in held.items() if name not in paths}
    changed = len(kept) != len(held)
    for path in paths:
        group, dot, name = path.partition(".")
        if dot and group in kept:
            text = bytes(kept[group]).decode()
            left = without(text, name)
            changed = changed or left != text
            kept[group] = msgspec.Raw(left.encode())
            if left == "{}":
                del kept[group]
    if not changed:
        return form or "{}"
    return "{" + ",".join(f"{json.dumps(name)}:{bytes(value).decode()}" for name, value in kept.items()) + "}"
