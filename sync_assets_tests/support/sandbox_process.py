"""The sandbox as a process of its own, and what tests say to its admin interface."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx

from sync_assets_tests.support.premises import of_the_environment

START_SECONDS = 60
"""how long a start may take (100,000 contacts take some ten seconds)"""


class Admin:
    """The admin interface. Every method raises AssertionError with the sandbox's own words if it refuses."""

    def __init__(self, url: str) -> None:
        self._client = httpx.Client(base_url=url, timeout=120, trust_env=False)

    def close(self) -> None:
        self._client.close()

    def get(self, path: str, **parameters: Any) -> Any:
        return self._told(self._client.get(path, params=parameters))

    def post(self, path: str, document: Any = None) -> Any:
        return self._told(self._client.post(path, json={} if document is None else document))

    def _told(self, answer: httpx.Response) -> Any:
        assert answer.status_code < 400, f"the sandbox refuses {answer.request.url}: {answer.text}"
        return answer.json()

    # Journal and faults

    def journal(self, system: str | None = None, since: int = 0) -> list[dict[str, Any]]:
        """Entries after serial number `since`, oldest first; their members are those of `journal.Entry`."""
        parameters: dict[str, Any] = {"since": since} | ({"system": system} if system else {})
        return self.get("/journal", **parameters)["entries"]

    def last(self) -> int:
        """The newest serial number: what a later `journal(since=...)` begins after."""
        return self.get("/journal", since=2**62)["last"]

    def clear_journal(self) -> None:
        self._told(self._client.delete("/journal"))

    def faults(self, *rules: dict[str, Any]) -> list[int]:
        """Adds rules such as {"system": "d365", "kind": "throttle", "times": 2, "retry_after": 1}; gives their ids."""
        return self.post("/faults", {"rules": list(rules)})["ids"]

    def fault(self, system: str, kind: str, **more: Any) -> int:
        """Adds one rule; `more`: times, skip, every, method, path and the kind's parameters."""
        return self.faults({"system": system, "kind": kind, **more})[0]

    def fault_rules(self) -> list[dict[str, Any]]:
        """The rules with their counts `matched` and `fired`."""
        return self.get("/faults")["rules"]

    def clear_faults(self, system: str | None = None) -> None:
        self._told(self._client.delete("/faults", params={"system": system} if system else {}))

    def latency(self, system: str, milliseconds: float) -> None:
        self.post("/settings", {system: {"latency_ms": milliseconds}})

    def settings(self, system: str, **values: Any) -> dict[str, Any]:
        """Sets switches of d365, login, campaign or ims; gives all of them. Without values only tells them."""
        return self.post(f"/{system}/settings", values) if values else self.get(f"/{system}/settings")

    def outage(self, seconds: float) -> None:
        """All systems end as by kill -9, and this returns once they are back, with their data."""
        self.post("/outage", {"seconds": seconds})

    def on_parent_delete(self, **by_table: str) -> None:
        """What becomes of a table's rows when their parent goes: `new_order="restrict"`, remove_link or cascade."""
        self.settings("d365", on_parent_delete=by_table)

    def publish_link(self, resource: str, link: str, cardinality: str = "one", join: str | None = None) -> None:
        """Publishes one Campaign link anew, the others as they are: `zero_or_one`, joined on a plain attribute."""
        links = self.settings("campaign")["links"]
        links.setdefault(resource, {})[link] = {"cardinality": cardinality, "join": join}
        self.settings("campaign", links=links)

    def totals(self) -> dict[str, Any]:
        """{"d365": {table: rows}, "campaign": {resource: records}, "requests": {...}, "engine_calls": {...}}"""
        return self.get("/totals")

    def engine_calls(self, system: str = "campaign") -> dict[str, int]:
        """Engine calls since start or `clear_journal()`: insert, update, delete, read."""
        return dict.fromkeys(("insert", "update", "delete", "read"), 0) | self.totals()["engine_calls"].get(system, {})

    # D365

    def dump_d365(self, table: str = "contact") -> list[dict[str, Any]]:
        """All rows as the Web API shows them, by id."""
        return self.get("/d365/dump", table=table)

    def load(self, contacts: int) -> dict[str, list[str]]:
        """Adds sample contacts with orders and lines; gives the new ids by table."""
        return self.post("/d365/load", {"contacts": contacts})

    def create(self, table: str, *rows: dict[str, Any]) -> list[str]:
        """Adds rows, under ids of one's own where given; a lookup by its logical name, `new_contactid=<id>`."""
        return self.post("/d365/create", {"table": table, "rows": list(rows)})["ids"]

    def change(self, table: str, which: list[str] | int, **values: Any) -> list[str]:
        """Sets columns of the rows with these ids, or of that many; gives the ids. Lookups as in `create`, or None."""
        return self.post("/d365/change", {"table": table, **_which(which), "set": values})["ids"]

    def delete(self, table: str, which: list[str] | int) -> list[str]:
        return self.post("/d365/delete", {"table": table, **_which(which)})["ids"]

    def expire(self, table: str = "contact") -> None:
        """All delta tokens of the table so far are expired."""
        self.post("/d365/expire", {"table": table})

    # Campaign

    def dump_campaign(self, resource: str = "profile") -> list[dict[str, Any]]:
        """All records; `_visible` is false for those that Campaign hides."""
        return self.get("/campaign/dump", resource=resource)

    def hidden(self, resource: str) -> list[dict[str, Any]]:
        """The records that Campaign hides, children whose 1-cardinality link leads nowhere: none in a good sync."""
        return [record for record in self.dump_campaign(resource) if not record["_visible"]]

    def add_profiles(self, *profiles: dict[str, Any]) -> list[str]:
        """Inserts profiles as a marketer would in the UI; gives their PKeys."""
        return self.post("/campaign/profiles", list(profiles))["pkeys"]

    def export(self, **options: Any) -> str | None:
        """Writes an opt-out file into the SFTP folder; gives its name."""
        return self.post("/campaign/export", options)["file"]


def _which(which: list[str] | int) -> dict[str, Any]:
    return {"count": which} if isinstance(which, int) else {"ids": which}


class SandboxProcess:
    """Starts `python -m sync_assets.sandbox` and waits until it serves; `with` stops it.

    `env`: the variables of its environment file. `start_seconds`: how long the start took. The process stops by
    itself when this one ends, however that happens. It is on the position that PREMISE names (`flows.premises`).
    """

    def __init__(self, contacts: int = 50, port: int = 0) -> None:
        position = of_the_environment()
        started = time.monotonic()
        self._directory = tempfile.TemporaryDirectory(prefix="sandbox-env-")
        env_file = Path(self._directory.name) / "env"
        self._errors = (Path(self._directory.name) / "stderr").open("w+b")
        command = [sys.executable, "-m", "sync_assets.sandbox", "--contacts", str(contacts), "--port", str(port)]
        command += ["--env-file", str(env_file), "--until-stdin-closes"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=self._errors)
        while not env_file.exists():
            if self.process.poll() is not None or time.monotonic() - started > START_SECONDS:
                self.stop()
                raise AssertionError(f"the sandbox did not start:\n{self.errors}")
            time.sleep(0.01)
        self.start_seconds = time.monotonic() - started
        self.env = dict(line.split("=", 1) for line in env_file.read_text().splitlines())
        self.admin = Admin(self.env["SANDBOX_ADMIN_URL"])
        position.apply(self.admin)

    @property
    def environment(self) -> dict[str, str]:
        """The whole environment for a program that is to talk to this sandbox."""
        return os.environ | self.env

    @property
    def errors(self) -> str:
        """What the sandbox wrote to standard error: nothing, unless it has a bug."""
        if not self._errors.closed:
            self._errors.seek(0)
            self._seen = self._errors.read().decode(errors="replace")
        return self._seen

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        assert self.process.stdin is not None
        self.process.stdin.close()
        if hasattr(self, "admin"):
            self.admin.close()
        _ = self.errors
        self._errors.close()
        self._directory.cleanup()

    def __enter__(self) -> SandboxProcess:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()
