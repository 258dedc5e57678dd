"""Ends a read of pages that would never end: a link that leads back, or pages without rows for ever.

A server, or a cache on the way to it, decides where a read goes on. Here is what each such read asks about a link
before following it; how a page is fetched is the client's.
"""

from __future__ import annotations

from sync_assets.http.transport import HttpError

MOST_EMPTY_PAGES = 50
"""Pages without rows, one after the other, that name a next one. Dataverse may send some where it hides all rows of a
page from us."""


class EndlessRead(HttpError):
    """A read of pages makes no progress: each further page would be a request for nothing."""


class LinkTrail:
    """The links that one read of pages has followed.

    `system`, `name`: of the table or resource, for errors; `start`: the link of its first page, if it is known.
    """

    def __init__(self, system: str, name: str, start: str = "") -> None:
        self._system, self._name = system, name
        self._seen = {hash(start)}  # of 6,000 links of a kilobyte, two in 10^12 reads have the same hash
        self._empty = 0

    def follow(self, link: str | None, rows: int) -> str:
        """Returns the link that a page with so many rows names as the next one; empty: that was the last page.

        Raises EndlessRead if the link was followed before, or leads on from too many pages without a row. What is no
        next page does not belong here: a delta link may well be the one that was asked with.
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
