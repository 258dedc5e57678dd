"""Send httpx requests through `AiohttpClient`. A module of its own, since httpx is slow to import."""

from __future__ import annotations

import httpx

from sync_assets.http.aiohttp_transport import AiohttpClient

_ABOUT_THE_WIRE = {"content-encoding", "content-length", "transfer-encoding"}


class AiohttpTransport(httpx.AsyncBaseTransport):
    """A transport for an httpx client. The timeouts are those of the AiohttpClient, not of the httpx client."""

    def __init__(self, wire: AiohttpClient) -> None:
        self._wire = wire

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        answer = await self._wire.exchange(request.method, str(request.url), request.headers, request.content)
        told = [pair for pair in answer.headers.items() if pair[0].lower() not in _ABOUT_THE_WIRE]
        return httpx.Response(answer.status, headers=told, content=answer.body, request=request)

    async def aclose(self) -> None:
        await self._wire.aclose()
