"""Models of the part `opt_out` of the configuration file (docs/configuration.md)."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator

from sync_assets.config.values import (
    CHANGED_SUFFIX,
    OPT_OUT_ATTRIBUTES,
    Days,
    Hours,
    LogicalName,
    Minutes,
    Model,
    OptOutAttribute,
    SftpFolder,
    Text,
    TrimmedText,
    canonical_attribute,
    refused,
    short_form,
)

ActiveDirection = Literal["d365_to_campaign", "campaign_to_d365", "bidirectional"]
Direction = Literal["disabled", ActiveDirection]

WRITES_D365: tuple[Direction, ...] = ("campaign_to_d365", "bidirectional")
"""The directions that write opt-outs to Dynamics 365."""

DateLayout = Literal["xml", "yyyymmdd", "mmddyyyy", "ddmmyyyy", "mmyyyydd", "ddyyyymm", "yyyyddmm"]
"""The date formats of Campaign's Extract file (docs/dev/references/campaign.md 8)."""


class OptOutMapping(Model):
    """The Campaign opt-out attribute of a D365 boolean."""

    to: OptOutAttribute
    """Campaign opt-out attribute."""
    inverted: bool = False
    """true: the column's true means allow."""

    @property
    def replacements(self) -> dict[int | None, bool]:
        """D365 value -> Campaign value, for columns of true and false or 1 and 0 (1 and true are the same key)."""
        return {1: not self.inverted, 0: self.inverted}


class Export(Model):
    """The file that a Campaign workflow writes with the opt-outs of changed profiles
    (docs/dev/references/campaign.md 8).
    """

    directory: SftpFolder = "d365_loads/exports"
    """Relative to the folder after sign-in, or from the root with a `/`."""
    pattern: TrimmedText = "optout_*.csv*"
    """Names within the directory. A `.gz` is unpacked."""
    separator: Text = ","
    """Any one character, or `tab`."""
    encoding: Text = "utf-8"
    """As in `utf-8`, `latin-1` or `cp1252`."""
    settle_seconds: Annotated[int, Field(ge=0)] = 60
    """A file is complete once size and time are equal in two polls and it is this old."""
    key_column: TrimmedText = "externalId"
    """The column with the Dynamics 365 id."""
    changed_suffix: TrimmedText = CHANGED_SUFFIX
    """Ends the names of the columns that hold an attribute's time of change."""
    columns: dict[Text, Text] = Field(default_factory=dict[str, str])
    """Attribute, or attribute and suffix: the header's name of the column, if it is another one."""
    date_format: DateLayout = "xml"
    """The format of these times, as chosen in Campaign's Extract file."""
    after: Literal["keep", "archive", "delete"] = "keep"
    """The processed file is kept, archived or deleted."""
    keep_days: Days = 15
    """Kept and archived files are deleted after this many days."""
    expected_every_hours: Hours = 24
    """The file is overdue after this time."""
    capacity_mb: Annotated[int, Field(ge=1)] | None = None
    """The licensed size of the Campaign SFTP in megabytes (of 1,000,000 bytes): its files are measured against it.
    null: the server's own figures count, if it reports any."""
    workflow_id: Text | None = None
    """The workflow that writes the file, as in `WKF12`."""
    restart_stalled: bool = False
    """true: start that workflow when the file is overdue."""

    @field_validator("columns")
    @classmethod
    def _of_attributes(cls, value: dict[str, str], info: ValidationInfo) -> dict[str, str]:
        suffix = str(info.data.get("changed_suffix"))
        example = "write e.g. `columns: {blackListEmail: No longer contact by email}`"
        for name in value:
            if canonical_attribute(name.removesuffix(suffix)) not in OPT_OUT_ATTRIBUTES:
                raise refused(f"`{name}` is not an opt-out attribute, with or without `{suffix}` behind it", example)
        columns = {canonical_attribute(name): label.strip() for name, label in value.items()}
        if len(set(columns.values())) < len(value):
            raise refused("two attributes are paired with one column, or one attribute with two", example)
        return columns

    @field_validator("separator")
    @classmethod
    def _one_character(cls, value: str) -> str:
        if value == "tab":
            return "\t"
        if len(value) != 1 or value in '"\r\n':
            raise refused(
                "a separator is one character, and neither a quote nor a line end",
                'write e.g. `separator: ";"` or `separator: tab`',
            )
        return value

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, value: str) -> str:
        try:
            "externalId".encode(value)  # it must also be a text encoding: `base64` is a codec, too
        except (LookupError, ValueError):
            raise refused(f"`{value}` is not a known encoding", "write e.g. `utf-8`, `latin-1` or `cp1252`") from None
        return value

    @field_validator("pattern")
    @classmethod
    def _name_only(cls, value: str) -> str:
        if "/" in value:
            raise refused("the pattern is for names within the directory", "put the folder into `directory`")
        return value

    @field_validator("restart_stalled")
    @classmethod
    def _needs_workflow(cls, value: bool, info: ValidationInfo) -> bool:
        if value and not info.data.get("workflow_id"):
            raise refused("`restart_stalled` needs the workflow's id", "write `workflow_id: WKF12` beside it")
        return value


class OptOutConfig(Model):
    """Opt-outs between contact and profile: the direction, and which columns map to which attributes."""

    direction: Direction = "disabled"
    """The systems to which opt-outs are written."""
    mappings: dict[
        LogicalName,
        Annotated[OptOutMapping, BeforeValidator(short_form, json_schema_input_type=OptOutAttribute | OptOutMapping)],
    ] = Field(default_factory=dict[str, OptOutMapping])
    """Dynamics 365 column of two options: Campaign opt-out attribute, or {to, inverted}."""
    merged: Literal["ignore", "carry"] = "ignore"
    """carry: an opt-out of a contact that was merged into another one (the subordinate) counts for that one (the
    master); an opt-in never does."""
    poll_profiles_minutes: Minutes | None = None
    """Besides the file, read opt-outs through the API this often. Costs engine calls."""
    export: Export = Export()
    """The file that a Campaign workflow writes to the Campaign SFTP."""

    @property
    def active(self) -> bool:
        """True if opt-outs have their own flows: not if disabled, nor in direction d365_to_campaign.

        In that direction they are ordinary fields of contact.
        """
        return self.direction in WRITES_D365

    @property
    def attributes(self) -> list[str]:
        """The mapped Campaign attributes."""
        return [mapping.to for mapping in self.mappings.values()]
