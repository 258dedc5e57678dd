"""Locks and counters of a push: which requests go alone until it is known how a resource's records are addressed."""

import asyncio
from dataclasses import dataclass, field

DELETES_TRUSTED = 50
"""Deletes with the same answer that are accepted without a read before the next one is verified."""
REJECTED = 3
"""Rejected inserts, which made no record, after which PROOFS inserts are sent at once while the key is not proven."""
PROOFS = 8
"""Inserts in flight then, and so the most records that are made if the key identifies nothing."""


@dataclass(slots=True)
class FirstRequests:
    """Those of one resource. What they find out is in Addressing, and outlives the push.

    Attributes:
        insert, update, delete: held while a request of this kind finds something out.
        rejected: records that were sent to prove the key, and that Campaign rejected.
        trusted: keys of deletes accepted without a read since one was read back. earlier: those before it.
        kept: those of both that Campaign did not or perhaps not delete, since a later one survived, until it has.
        bare_errors: errors without a reason on the keys of records that Campaign then accepted by their PKeys.
        searches: searches for an attribute that Campaign refuses in updates.
        suspected: attributes that an error without a reason has made suspect at once.
    """

    insert: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(1))
    update: asyncio.Lock = field(default_factory=asyncio.Lock)
    delete: asyncio.Lock = field(default_factory=asyncio.Lock)
    rejected: int = 0
    trusted: list[str] = field(default_factory=list[str])
    earlier: list[str] = field(default_factory=list[str])
    kept: set[str] = field(default_factory=set[str])
    bare_errors: int = 0
    searches: int = 0
    suspected: set[str] = field(default_factory=set[str])

    def insert_rejected(self) -> None:
        """Count an insert that made no record while the key is not proven: see REJECTED."""
        self.rejected += 1
        if self.rejected == REJECTED:
            for _ in range(PROOFS - 1):
                self.insert.release()

    def trusts_delete(self, key: str) -> bool:
        """Return False for one delete after each DELETES_TRUSTED: it is read back, and no other under way is, too."""
        if len(self.trusted) >= DELETES_TRUSTED:
            self.earlier, self.trusted = self.trusted, []
            return False
        self.trusted.append(key)
        return True

    def settle_delete(self, key: str) -> None:
        """Forget a delete that was accepted without a read: it was verified, or the record is inserted again."""
        self.kept.discard(key)
        for keys in (self.earlier, self.trusted):
            while key in keys:
                keys.remove(key)
