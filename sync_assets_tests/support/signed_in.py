"""HTTP clients that have signed in to a running sandbox, as those of a third party do."""

from __future__ import annotations

import ssl
from collections.abc import Mapping

import httpx


def tls(env: Mapping[str, str]) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=env["SYNC_ASSETS_CA_BUNDLE"])


def dataverse(env: Mapping[str, str]) -> httpx.Client:
    """Return a client of the Web API. Paths are relative to `/api/data/v9.2`."""
    form = {
        "grant_type": "client_credentials", "client_id": env["D365_CLIENT_ID"],
        "client_secret": env["D365_CLIENT_SECRET"], "scope": f"{env['D365_URL']}/.default",
    }  # fmt: skip
    authorization = _bearer(f"{env['D365_AUTHORITY']}/{env['D365_TENANT_ID']}/oauth2/v2.0/token", form, env)
    return _client(f"{env['D365_URL']}/api/data/v9.2", authorization, env)


def campaign(env: Mapping[str, str]) -> httpx.Client:
    """Return a client of Campaign's API. Paths are relative to `/<organization>/campaign`."""
    form = {
        "grant_type": "client_credentials", "client_id": env["CAMPAIGN_CLIENT_ID"],
        "client_secret": env["CAMPAIGN_CLIENT_SECRET"], "scope": env["CAMPAIGN_SCOPES"],
    }  # fmt: skip
    authorization = _bearer(f"{env['CAMPAIGN_IMS_URL']}/ims/token/v3", form, env)
    return _client(f"{env['CAMPAIGN_URL']}/campaign", authorization | {"x-api-key": env["CAMPAIGN_CLIENT_ID"]}, env)


def _bearer(url: str, form: dict[str, str], env: Mapping[str, str]) -> dict[str, str]:
    answer = httpx.post(url, data=form, verify=tls(env), trust_env=False)
    return {"authorization": f"Bearer {answer.json()['access_token']}"}


def _client(base: str, headers: dict[str, str], env: Mapping[str, str]) -> httpx.Client:
    return httpx.Client(base_url=base, headers=headers, verify=tls(env), trust_env=False)
