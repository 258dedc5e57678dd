"""Error answers of Campaign: lines of text, nearly always with status 500 (docs/dev/references/campaign.md 5,
Errors)."""

from __future__ import annotations

V8 = "An error has occurred - please contact your administrator."
"""Campaign v8's whole text of nearly every 500."""
RST = f"RST-360011 {V8}"
BAD_PATH = f"{RST} Error rc=-2003"


class CampaignError(Exception):
    """An error answer of the engine: status and text.

    `v8`: the same answer in Campaign v8; if not given, a 500 has no reason there, and others are as they are.
    """

    def __init__(self, status: int, *lines: str, v8: tuple[int, str] | None = None) -> None:
        super().__init__("\n".join(lines))
        self.status = status
        self.v8 = v8 or (status, V8 if status == 500 else str(self))

    @property
    def text(self) -> str:
        return str(self)


def bare() -> CampaignError:
    """Return an error without a reason."""
    return CampaignError(500, RST)


def bad_path() -> CampaignError:
    return CampaignError(404, BAD_PATH)


def not_built(feature: str) -> CampaignError:
    """Return the error for a documented feature that is not emulated, which is better than a wrong answer."""
    return CampaignError(501, RST, f"{feature} is not built into the sandbox.")


def not_json(body: bytes) -> CampaignError:
    """Return the error for an invalid body. It quotes the body's first word as a constant; its status is inferred."""
    words = body.decode("utf-8", "replace").split()
    return CampaignError(500, RST, f"'{words[0][:30] if words else ''}' is not a valid constant.")


def unknown_property(name: str, resource: str) -> CampaignError:
    return CampaignError(500, RST, f"'{name}' property is not valid for the '{resource}' resource.")


def location_change() -> CampaignError:
    """Return Campaign v8's error for a PATCH of `location`: it names a sub-field, whichever the body holds."""
    text = unknown_property("zipCode", "profile").text.removeprefix(f"{RST}\n")
    return CampaignError(500, RST, text, v8=(500, text))


def read_only(name: str, resource: str) -> CampaignError:
    return CampaignError(
        500,
        f"Cannot update the '{name}' property that is read-only",
        f"'{name}' property is not valid for the '{resource}' resource.",
    )


def bad_enumeration_value(value: object, schema: str, field: str) -> CampaignError:
    return CampaignError(
        500, RST, f"The value '{value}' is not valid for the '{schema}:{field}' enumeration of the '@{field}' field"
    )


def bad_value(value: object, kind: str, field: str) -> CampaignError:
    """Return the error for a wrong type or format. The wording is inferred: no source shows it."""
    return CampaignError(500, RST, f"The value '{value}' is not valid for the '@{field}' field of type '{kind}'")


def database(text: str) -> CampaignError:
    """Return an error of PostgreSQL. The wording is inferred from that for a duplicate key."""
    return CampaignError(500, f"PGS-220000 PostgreSQL error: ERROR:  {text}")


def duplicate_key(label: str, key: str, constraint: str, column: str) -> CampaignError:
    return CampaignError(
        500,
        f"A '{label}' with the same key '{key}' already exists.",
        "PGS-220000 PostgreSQL error: ERROR:  duplicate key value violates unique constraint "
        f'"{constraint}" DETAIL:  Key ({column})=({key}) already exists.',
    )


def key_change(resource: str, old: str, new: str) -> CampaignError:
    return CampaignError(
        500,
        RST,
        f"RST-360012 Inconsistent operation on resource '{resource}' - Cannot update key '{old}' to '{new}'.",
    )


def not_found(label: str, resource: str, key: str, *, in_url: bool = True) -> CampaignError:
    """Return the 404 for an unknown record. A key of the URL is shown with `:0` appended, a key of a link is not."""

    def text(path: str) -> str:
        document = f"document with schema '{resource}' and name '{key}'"
        return f"Unable to find document with path '{label}' from key '{path}' ({document})"

    return CampaignError(404, RST, text(f"{key}:0" if in_url else key), v8=(404, text(key)))


def undecodable_pkey(pkey: str, plural: str, schema: str, path: str = "") -> CampaignError:
    """Return the error for an invalid PKey. path: of the resource, if the PKey is in the URL."""
    endpoint = f"\nUnsupported endpoint. (endpoint=rest{path}/{pkey})" if path else ""
    word = pkey.lstrip("@")
    return CampaignError(
        500,
        f"'{word}' attribute unknown (see definition of '{plural} ({schema})' schema).",
        f"XTK-170036 Unable to parse expression '@id = @{word}'.",
        v8=(404, f"Unable to decrypt PKey. (PKey={pkey}){endpoint}"),
    )


def unknown_attribute(name: str, plural: str, schema: str) -> CampaignError:
    """Return the error for an unknown attribute in a sort or a filter. Worded as for an invalid PKey."""
    return CampaignError(
        500,
        RST,
        f"'{name}' attribute unknown (see definition of '{plural} ({schema})' schema).",
        f"XTK-170036 Unable to parse expression '@{name}'.",
    )
