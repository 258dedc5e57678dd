"""The attributes that Campaign may refuse in updates, though inserts take them: Campaign v8 refuses `location` so.

The ledger keeps one hash of them for each record as its row was captured, and one as Campaign holds them: where the two
differ, the record is in step but for these attributes. They are the sub-fields of groups, and attributes that Campaign
was found to refuse. One hash for all of them and the id, since that of a single city would be as good as its value.
"""

from collections.abc import Iterable
from hashlib import blake2b

from sync_assets.campaign.addressing import group_of
from sync_assets.config.models import TableConfig
from sync_assets.ledger.model import REFUSABLE_MARK

_PERSON = b"refusable"


def updated_paths(config: TableConfig) -> list[str]:
    """Return the dotted paths of the attributes that updates send."""
    return [field.to for field in config.fields.values() if field.apply_updates]


def refusable(paths: Iterable[str], refused: Iterable[str]) -> list[str]:
    """Return those of `updated_paths` that Campaign may refuse, sorted. refused: attributes that it was found to."""
    known = set(refused)
    return sorted(path for path in paths if "." in path or group_of(path) in known)


def mark(paths: Iterable[str]) -> int:
    """Return the bits of a hash that tell of which attributes it is. HELD_NOT_KNOWN is of none: its bits are 0."""
    return blake2b("\n".join(paths).encode(), digest_size=1, person=_PERSON).digest()[0] or 1


def hashed(texts: Iterable[bytes], paths: Iterable[str]) -> list[int]:
    """Return the hashes of rows, given their ids and these attributes as JSON."""
    kept, low = ~REFUSABLE_MARK, mark(paths)
    return [hash_ & kept | low for hash_ in short_hashes(texts, _PERSON)]


def short_hashes(texts: Iterable[bytes], person: bytes) -> list[int]:
    """Return hashes of 64 bits. person: of BLAKE2, distinguishes hashes for different purposes."""
    digests = (blake2b(text, digest_size=8, person=person).digest() for text in texts)
    return [int.from_bytes(digest, "big", signed=True) for digest in digests]


def another(hash_: int) -> int:
    """Return another hash of the same attributes."""
    return hash_ ^ (REFUSABLE_MARK + 1)


def found_held(row: int, held: int | None, *, differs: bool) -> int:
    """Return the hash of what Campaign was seen to hold, given the row's hash and the one that was stored.

    A stored one that differs stays: the row may come back to these values.
    """
    if not differs:
        return row
    return held if held and held != row and not (held ^ row) & REFUSABLE_MARK else another(row)
