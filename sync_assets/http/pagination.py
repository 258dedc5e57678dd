"""Stop a paged read that would never end: a next link that was followed before, or endless pages without rows.

The server, or a cache in between, determines the next link of a read. Here: the check of each link before it is
followed. Pages are fetched by the clients.
"""

from __future__ import annotations

from sync_assets.http.transport import HttpError

MOST_EMPTY_PAGES = 50
"""Most consecutive pages without rows. Dataverse may send some if this user may not read any row of a page."""


class EndlessRead(HttpError):
    """Raised when a paged read makes no progress."""


class LinkTrail:
    """The links that one paged read has followed.

    system, name: the system and its table or resource, for errors. start: the link of the first page, if it is known.
    """

    def __init__(self, system: str, name: str, start: str = "") -> None:
        self._system, self._name = system, name
        self._seen = {hash(start)}  # of 6,000 links of a kilobyte, two in 10^12 reads have the same hash
        self._empty = 0

    def follow(self, link: str | None, rows: int) -> str:
        """Check a page's next link and return it; empty after the last page.

        Only for links of next pages: a delta link may be equal to the one that the read began with.

        Args:
            link: the next link of the page; None after the last page.
            rows: number of rows of the page.

        Raises:
            EndlessRead: the link was followed before, or there were too many consecutive pages without rows.
        """
        if not link:
            return ""
        if hash(link) in self._seen:
            raise EndlessRead(
                f"{self._system} leads from one page of {self._name} back to one that was read before: the read would "
                "never end.",
                _REMEDY,
            )
        self._seen.add(hash(link))
        self._empty = 0 if rows else self._empty + 1
        if self._empty > MOST_EMPTY_PAGES:
            raise EndlessRead(
                f"{self._system} sent {self._empty} pages of {self._name} without a row, one after the other, and "
                "names a next one still.",
                _REMEDY,
            )
        return link


_REMEDY = "What was read is kept. Run it again later; if it goes on, look for a cache or a proxy on the way."
