"""Admin routes of the SFTP emulator: its capacity, and how much of it is used."""

from __future__ import annotations

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sync_assets.sandbox.admin import body_of, json_body, json_response
from sync_assets.sandbox.sftp import SftpServer


class _Settings(msgspec.Struct, forbid_unknown_fields=True):
    capacity_bytes: int | None = None


def routes(server: SftpServer) -> list[Route]:
    """Return the routes below /sftp.

    - `GET settings`: `capacity_bytes`, null for that of the disk; `used_bytes`; `largest_bytes`, the most that was used
    - `POST settings {"capacity_bytes"}`: set it; `largest_bytes` begins anew
    """

    async def settings(request: Request) -> Response:
        if request.method == "POST":
            server.capacity = body_of(_Settings, await json_body(request)).capacity_bytes
            server.largest = server.used()
        return json_response(
            {"capacity_bytes": server.capacity, "used_bytes": server.used(), "largest_bytes": server.largest}
        )

    return [Route("/sftp/settings", settings, methods=["GET", "POST"])]
