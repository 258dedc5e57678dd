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
    """Return the bits of a hash that tell of which attributes it is."""
    return blake2b("\n".join(paths).encode(), digest_size=1, person=_PERSON).digest()[0]


def hashed(texts: Iterable[bytes], paths: Iterable[str]) -> list[int]:
    """Return the hashes of rows, given their ids and these attributes as JSON."""
    digests = (blake2b(text, digest_size=8, person=_PERSON).digest() for text in texts)
    kept, low = ~REFUSABLE_MARK, mark(paths)
    return [(int.from_bytes(digest, "big", signed=True) & kept | low) or another(0) for digest in digests]


def another(hash_: int) -> int:
    """Return another hash of the same attributes."""
    return hash_ ^ (REFUSABLE_MARK + 1)
