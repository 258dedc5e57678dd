"""The Campaign client: metadata of resources, engine calls on records and lists, and a count of these calls.

Here: which request fetches what. Not here: retries, waits and token renewal (`http.Endpoint`), and what an answer means
(`dialect`). Source:
https://experienceleague.adobe.com/docs/campaign-standard/using/working-with-apis/get-started-apis.html
https://experienceleague.adobe.com/docs/campaign-standard/using/working-with-apis/global-concepts/verbs.html
https://experienceleague.adobe.com/docs/campaign-standard/using/working-with-apis/troubleshooting.html
"""

import ssl
from collections import Counter
from typing import Any
from urllib.parse import quote, urlsplit

from sync_assets.campaign.dialect import Operation, ResponseOutcome, may_be_resent, response_outcome, words
from sync_assets.campaign.metadata import Resource, read_resource
from sync_assets.config.environment import CampaignSettings
from sync_assets.errors import EndsAllTables, SyncAssetsError
from sync_assets.http.client import CachedTokens, Endpoint
from sync_assets.http.redaction import redact
from sync_assets.http.retry import GATEWAY_REFUSALS, METADATA_PATIENCE, Admission, Guard, Observer, RequestOptions
from sync_assets.http.transport import HttpError, Limits, Response, SignInRefused, TransportOptions, Unavailable, parsed
from sync_assets.words import did_you_mean

METHODS: dict[Operation, str] = {"insert": "POST", "update": "PATCH", "delete": "DELETE", "read": "GET"}
LIMITS = Limits(largest=32 << 20, seconds=180.0)
"""A page of 500 records has a few megabytes."""
SILENCE = 90.0
"""Seconds to wait for an answer. Campaign's gateway gives up after 60, and its error is worth more than our own
timeout.
"""


class NoInstance(Unavailable, EndsAllTables):
    """Raised when Campaign's gateway reaches no instance: most often CAMPAIGN_URL is wrong."""


class CampaignRefused(SyncAssetsError):
    """Raised when Campaign refuses a request about a resource as a whole."""


class NotPublished(CampaignRefused):
    """Raised when Campaign does not serve the resource."""


class BudgetSpent(SyncAssetsError):
    """Raised when the budget of engine calls of this UTC day or hour is spent. `period`: `day` or `hour`."""

    def __init__(self, period: str) -> None:
        self.period = period
        super().__init__(
            f"The {period}'s budget of engine calls is spent (guardrails: engine_calls_per_{period}).",
            f"What is left goes on with the next UTC {period}.",
        )


class CallCounter:
    """Count engine calls by kind: requests that reached the engine or may have, refused ones included.

    made: all of them, also those that were taken.
    """

    def __init__(self) -> None:
        self._calls, self.made = Counter[Operation](), Counter[Operation]()

    @property
    def total(self) -> int:
        return self.made.total()

    @staticmethod
    def is_call(status: int | None) -> bool:
        """Return True if a request counts as an engine call.

        status: as for an Observer (None: unknown, 0: never sent).
        """
        return status != 0 and status not in GATEWAY_REFUSALS

    def add(self, kind: Operation) -> None:
        self._calls[kind] += 1
        self.made[kind] += 1

    def observe(self, kind: str, status: int | None, seconds: float) -> None:
        """Count a single request, as an Observer of all requests of a client."""
        if kind in METHODS and self.is_call(status):
            self.add(kind)

    def take(self) -> dict[Operation, int]:
        """Return the calls since the last `take`."""
        calls, self._calls = dict(self._calls), Counter()
        return calls

    def put_back(self, calls: dict[Operation, int]) -> None:
        """Add calls again that were taken and could not be stored."""
        self._calls.update(calls)


class CampaignClient:
    """One Campaign instance.

    Args:
        access: address and API key.
        context: the trusted certificates.
        connections: requests in flight at most.
        admission: entered around each engine call; may raise BudgetSpent.
        slot: entered around each request that is no engine call, so that it counts as one in flight.
    """

    def __init__(
        self,
        access: CampaignSettings,
        tokens: CachedTokens,
        *,
        context: ssl.SSLContext,
        connections: int = 64,
        admission: Admission | None = None,
        slot: Admission | None = None,
    ) -> None:
        self.url = access.url.rstrip("/")
        self.calls = CallCounter()
        self.admission, self._slot = admission, slot
        headers = {"X-Api-Key": access.client_id, "Cache-Control": "no-cache"}
        self.endpoint = Endpoint(
            "Campaign",
            f"{self.url}/campaign",
            tokens,
            TransportOptions(context, headers, connections, SILENCE, LIMITS),
            transient=may_be_resent,
            observer=self.calls.observe,
        )
        self._base_path = urlsplit(self.endpoint.base_url).path

    async def call(
        self,
        operation: Operation,
        path: str,
        body: bytes | None = None,
        *,
        guard: Guard | None = None,
        observer: Observer | None = None,
        method: str = "",
    ) -> Response:
        """Send one engine call on a record or a list of records, with retries; each request sent is counted.

        method: in place of the operation's own. A POST whose answer is lost is not repeated; the other operations are,
        since a repetition does no harm. Raises what `Endpoint.send` raises.
        """
        try:
            return await self.endpoint.send(
                method or METHODS[operation],
                self._address(path),
                body=body,
                headers=_JSON if body is not None else None,
                call=RequestOptions(operation, operation != "insert", None, guard, observer, self.admission),
                of_record=operation != "read",
            )
        except Unavailable as error:
            raise _with_url_hint(error) from error

    async def resource(self, api: str, name: str, *, hint: bool = True) -> Resource:
        """Return the metadata of a resource, with its filters; no engine call. Raises NotPublished, SignInRefused.

        hint: an error names the resource that was probably meant, which takes a request or two.
        """
        try:
            metadata = await self._metadata(f"{api}/resourceType/{quote(name, safe='')}", api, name)
        except NotPublished as error:
            if hint and (meant := await self._hint(api, name)):
                raise NotPublished(error.cause, meant) from error
            raise
        link = metadata.get("filters")
        href = link.get("href") if isinstance(link, dict) else None
        if not href and metadata.get("PKey"):
            href = f"{api}/resourceType/{quote(str(metadata['PKey']), safe='')}/filters/"
        try:
            filters = await self._metadata(href, api, name) if href else {}
        except NotPublished:
            filters = {}  # none published
        return read_resource(name, api, metadata, filters)

    async def _hint(self, api: str, name: str) -> str | None:
        """Return what to write instead of a resource that Campaign lacks; None if nothing that it has is similar."""
        try:
            known = await self.resources()
        except SyncAssetsError:
            return None
        if served := known.get(name):
            other = f"It has one under /{served}: write `api: {served}` for its table in the configuration."
            return other if served != api else None
        meant = did_you_mean(name, known)
        return meant and f"Did you mean `{meant}`? Correct `resource` of its table in the configuration."

    async def resources(self) -> dict[str, str]:
        """Return all resources by name, with the API that serves them; no engine call.

        A resource that both APIs serve is listed with profileAndServicesExt. Raises what `resource` raises, but not
        NotPublished if an instance has only one of the APIs.
        """
        apis: dict[str, str] = {}
        for api in ("profileAndServicesExt", "customResources"):
            try:
                metadata = await self._metadata(f"{api}/", api, "its resources")
            except NotPublished:
                continue
            apis |= {name: api for name, entry in metadata.items() if isinstance(entry, dict) and name not in apis}
        return apis

    async def _metadata(self, path: str, api: str, name: str) -> dict[str, Any]:
        try:
            address = self._address(path)
            call = RequestOptions(patience=METADATA_PATIENCE, admission=self._slot)
            answer = await self.endpoint.send("GET", address, call=call)
        except Unavailable as error:
            raise _with_url_hint(error) from error
        if answer.status == 404:
            raise NotPublished(
                f"Campaign has no resource {name} under /{api}.",
                "Check its name (custom ones begin with cus) and that it is published for the API.",
            )
        return decoded(answer, name)

    def _address(self, link: str) -> str:
        """Return the address of a link: relative to `/campaign`, or to the host (docs/dev/references/campaign.md 4)."""
        if link.startswith(f"{self._base_path}/"):
            return f"{self.url}/campaign{link.removeprefix(self._base_path)}"
        return link

    async def aclose(self) -> None:
        await self.endpoint.aclose()


_JSON = {"Content-Type": "application/json"}


def access_denied(outcome: ResponseOutcome, to: str = "") -> SignInRefused:
    """Return the error for an outcome `denied`: every further request would fail alike. Its reason is redacted here."""
    if outcome.remedy:
        return SignInRefused(outcome.reason, outcome.remedy)
    return SignInRefused(f"Campaign refuses access{to}: {redact(outcome.reason, None)}", _ACCESS)


def decoded(answer: Response, resource: str) -> dict[str, Any]:
    """Return the JSON object of an answer to a GET. Raises SignInRefused, CampaignRefused, HttpError."""
    outcome = response_outcome(answer, "read")
    if outcome.kind == "denied":
        raise access_denied(outcome, f" to {resource}")
    if outcome.kind != "done":
        raise CampaignRefused(
            f"Campaign refused to read {resource}: {redact(words(answer), None)}",
            "Try again later; if it stays so, check CAMPAIGN_URL and the resource in Campaign.",
        )
    described = parsed(answer.body, dict[str, Any])
    if described is None:
        raise HttpError(
            f"Campaign answered for {resource} with something that is not a JSON object.", "Check CAMPAIGN_URL."
        )
    return described


def listed(answer: Response, resource: str) -> tuple[list[dict[str, Any]], str]:
    """Return the records of a page of a list, and the link of the next page (empty for the last one).

    Raises HttpError for JSON that is no list: a gateway's answer must not end a read. Otherwise raises what `decoded`
    raises.
    """
    page = decoded(answer, resource)
    content, following = page.get("content"), page.get("next")
    if not isinstance(content, list):
        raise HttpError(f"Campaign answered for {resource} with something that is not a list.")
    link = str(following.get("href") or "") if isinstance(following, dict) else ""
    return [record for record in content if isinstance(record, dict)], link


_ACCESS = "Check CAMPAIGN_URL, CAMPAIGN_CLIENT_ID and that the credential's product profile covers this instance."


def _with_url_hint(error: Unavailable) -> Unavailable:
    """Return the error with a hint to CAMPAIGN_URL, unless the gateway throttles: most often the URL is wrong."""
    if error.status in GATEWAY_REFUSALS or not error.status:
        return error
    return NoInstance(
        f"Campaign's gateway does not get through to the instance ({error.status}).",
        "Check the organisation in CAMPAIGN_URL (what stands before /campaign), or try again later.",
        error.status,
    )
