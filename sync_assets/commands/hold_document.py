"""The documents of `hold`: structs of their members, which `--json` prints. `hold` renders them."""

from datetime import datetime

import msgspec

from sync_assets.ledger.report_values import HeldContact


class AddedHold(HeldContact, frozen=True, kw_only=True):
    """The document of `hold add --json`. new: this call created the hold. noted: noted records, by table. errors: why
    not all of the person's records could be asked for.
    """

    new: bool
    noted: dict[str, int]
    errors: list[str]


class HoldList(msgspec.Struct, frozen=True):
    """The document of `hold list --json`, the oldest first."""

    holds: list[HeldContact]


class ReleasedHold(msgspec.Struct, frozen=True):
    """The document of `hold release --json`, in records. gone: Dynamics 365 does not have the contact any more."""

    id: str
    released: int
    gone: bool
    excluded: int


class RecordsInSystem(msgspec.Struct, frozen=True, kw_only=True):
    """The ids of a person's records in a system, by table. kept: those named by `--kept`. errors: why records could not
    be looked up.
    """

    found: dict[str, list[str]]
    kept: dict[str, list[str]]
    errors: list[str]


class RecordsInCampaign(RecordsInSystem, frozen=True, kw_only=True):
    """The same in Campaign. not_seen: records that Campaign does not show: deleted, or hidden."""

    url: str
    former_url: str | None
    not_seen: dict[str, list[str]]


class RecordsInLedger(msgspec.Struct, frozen=True):
    """A person's records in the ledger. records: by table. with_content: those that are still to be sent. loading:
    those that a load by file may still write.
    """

    records: dict[str, int]
    with_content: int
    in_flight: int
    in_flight_until: datetime | None
    loading: int


class VerifiedHold(msgspec.Struct, frozen=True, kw_only=True):
    """The document of `hold verify --json`: where the contact and the person's other records still are.

    Attributes:
        known: False if neither the ledger nor a system has any trace of the contact: then nothing is proved.
        gone: True if the contact is known, and from `certain_at` on neither system shows or gets any other record.
        is_excluded: The hold was released after Dynamics 365 had deleted the contact.
        resources: By table, the resource in Campaign.
    """

    id: str
    known: bool
    gone: bool
    certain_at: datetime | None
    held_since: datetime | None
    is_excluded: bool
    d365: RecordsInSystem
    campaign: RecordsInCampaign
    resources: dict[str, str]
    ledger: RecordsInLedger
