"""Types of single configuration values (names and ids of both systems, plain values), and the base of all models."""

import re
from typing import Annotated, Any, Literal, cast

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

Scalar = str | bool | int | float | None
"""A plain YAML value. Its required type follows from the metadata of both systems, not from the configuration."""

GUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")
"""An id of Dynamics 365 in lower case, as it is stored and sent."""
CONTACT = "contact"
"""The table of persons in Dynamics 365."""
PROFILE = "profile"
"""The resource of persons in Campaign."""
Side = Literal["d365", "campaign"]
_COLUMN = "[a-z][a-z0-9_]*"
_RESOURCE = "[A-Za-z][A-Za-z0-9_]*"
_ATTRIBUTE = rf"{_RESOURCE}(\.{_RESOURCE})*"
_OWNER = r"team:[\w.-]+|[^@\s:]+@[^@\s]+\.[^@\s]+"
OPT_OUT_ATTRIBUTES = (
    "blackList",
    "blackListEmail",
    "blackListFax",
    "blackListMobile",
    "blackListPhone",
    "blackListPostalMail",
    "blackListPushnotification",
    "ccpaOptOut",
)
"""All opt-out attributes of Campaign (docs/dev/references/campaign.md 2)."""
CHANGED_SUFFIX = "LastModified"
"""Ends the name of the attribute, and of the column in our frames, with the time at which an opt-out changed."""


def refused(problem: str, remedy: str) -> PydanticCustomError:
    """Return a validation error with its remedy, reported as `problem; remedy`."""
    return PydanticCustomError("config", "{problem}; {remedy}", {"problem": problem, "remedy": remedy})


def canonical_attribute(name: str) -> str:
    """Return the API's spelling of an attribute: `blackList…` for `denyList…`, which some of Adobe's pages use."""
    return "blackList" + name[len("denyList") :] if name.startswith("denyList") else name


def _matched(value: str, pattern: str, kind: str, remedy: str) -> str:
    if not re.fullmatch(pattern, value):
        raise refused(f"`{value}` is not a valid {kind}", f"write {remedy}")
    return value


def _logical_name(value: str) -> str:
    lookup = re.fullmatch(r"_([a-z0-9_]+)_value", value)
    if lookup:
        raise refused(f"`{value}` is a lookup's name in a row", f"write its logical name, `{lookup[1]}`")
    remedy = "it in small letters, digits and underscores, as in `emailaddress1`"
    return _matched(value, _COLUMN, "Dynamics 365 logical name", remedy)


def _resource_name(value: str) -> str:
    return _matched(value, _RESOURCE, "Campaign name", "the API name, as in `profile` or `cusOrder`")


def _attribute(value: str) -> str:
    remedy = "its API name, as in `firstName`, or `location.city` for a sub-field"
    return canonical_attribute(_matched(value, _ATTRIBUTE, "Campaign attribute", remedy))


def _opt_out_attribute(value: str) -> str:
    name = canonical_attribute(value)
    if name not in OPT_OUT_ATTRIBUTES:
        raise refused(
            f"`{value}` is not one of Campaign's opt-out attributes", f"write one of {', '.join(OPT_OUT_ATTRIBUTES)}"
        )
    return name


def short_form(value: Any) -> Any:
    """Expand the short form: `firstname: firstName` for `firstname: {to: firstName}`."""
    return {"to": value} if isinstance(value, str) else value


def is_plain(value: Any) -> bool:
    return value is None or isinstance(value, str | bool | int | float)


def plain(value: Any) -> Any:
    if not is_plain(value):
        raise refused("the value must be plain", "write a text, a number, true, false or null")
    return value


def plain_list(value: Any) -> list[Scalar] | None:
    """Return a list of plain values; None if it is not one, or is empty."""
    if not isinstance(value, list):
        return None
    items = cast("list[Any]", value)
    return items if items and all(map(is_plain, items)) else None


def _owner(value: str) -> str:
    return _matched(value, _OWNER, "owner", "a team, as in `team:crm`, or an e-mail address")


def _trimmed(value: str) -> str:
    if value != value.strip():
        raise refused(f"`{value}` begins or ends with a blank", f"write `{value.strip()}`")
    return value


def _sftp_folder(value: str) -> str:
    if "\\" in value:
        raise refused("folders on the SFTP are separated by `/`", "write `{}`".format(value.replace("\\", "/")))
    if ".." in value.split("/"):
        remedy = "write the folder as seen from the one after sign-in, or from the root with a `/`"
        raise refused(f"`{value}` leads out of its folder with `..`", remedy)
    return value


def _schema(pattern: str, **more: Any) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": f"^({pattern})$", **more})


LogicalName = Annotated[str, AfterValidator(_logical_name), _schema(_COLUMN)]
ResourceName = Annotated[str, AfterValidator(_resource_name), _schema(_RESOURCE)]
AttributeName = Annotated[str, AfterValidator(_attribute), _schema(_ATTRIBUTE)]
OptOutAttribute = Annotated[
    str,
    AfterValidator(_opt_out_attribute),
    _schema("|".join(re.sub("^black", "(black|deny)", name) for name in OPT_OUT_ATTRIBUTES)),
]
Owner = Annotated[str, AfterValidator(_owner), _schema(_OWNER)]
Text = Annotated[str, Field(min_length=1)]
TrimmedText = Annotated[Text, AfterValidator(_trimmed)]
SftpFolder = Annotated[TrimmedText, AfterValidator(_sftp_folder)]
Share = Annotated[float, Field(gt=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Days = Annotated[int, Field(ge=1, le=99_999)]
"""How long something is kept. So many days, even four times, lead to a date that the calendar has."""
Minutes = Annotated[int, Field(ge=1, le=52_560_000)]
"""A time limit, at most 100 years."""
Hours = Annotated[float, Field(gt=0, le=876_000)]
"""A time limit, at most 100 years."""


class Model(BaseModel):
    """Base of all models of the configuration: strict types, no unknown keys, immutable.

    The docstring of a field is what an editor shows (json_schema.py): say there what the file's author needs.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)
