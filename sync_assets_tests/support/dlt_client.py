"""The client part of a dlt `rest_api` source that reads Dynamics 365."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def dlt_client(environment: Mapping[str, str], page_rows: int) -> dict[str, Any]:
    """Return the client for the systems that the environment names; it asks for pages of `page_rows` rows."""
    return {
        "base_url": f"{environment['D365_URL']}/api/data/v9.2/",
        "headers": {"Prefer": f"odata.maxpagesize={page_rows}"},
        "auth": {
            "type": "oauth2_client_credentials",
            "access_token_url": f"{environment['D365_AUTHORITY']}/{environment['D365_TENANT_ID']}/oauth2/v2.0/token",
            "client_id": environment["D365_CLIENT_ID"],
            "client_secret": environment["D365_CLIENT_SECRET"],
            "access_token_request_data": {"scope": f"{environment['D365_URL']}/.default"},
        },
        "paginator": {"type": "json_link", "next_url_path": "'@odata.nextLink'"},
    }
