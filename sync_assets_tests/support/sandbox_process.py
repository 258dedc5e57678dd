"""Run the sandbox in a process of its own, and call its admin interface."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import httpx

from sync_assets_tests.support.forked_commands import Forked, start_sandbox
from sync_assets_tests.support.premises import of_the_environment

START_SECONDS = 60
"""Longest start (100,000 contacts take some ten seconds)."""


class Admin:
    """Client of the admin interface. Methods raise AssertionError with the sandbox's message if it returns an error."""

    def __init__(self, url: str) -> None:
        self._client = httpx.Client(base_url=url, timeout=120, trust_env=False, verify=False)  # plain HTTP

    def close(self) -> None:
        self._client.close()

    def get(self, path: str, **parameters: Any) -> Any:
        return self._checked(self._client.get(path, params=parameters))

    def post(self, path: str, document: Any = None) -> Any:
        return self._checked(self._client.post(path, json={} if document is None else document))

    def _checked(self, answer: httpx.Response) -> Any:
        assert answer.status_code < 400, f"the sandbox refuses {answer.request.url}: {answer.text}"
        return answer.json()

    # Journal and faults

    def journal(self, system: str | None = None, since: int = 0) -> list[dict[str, Any]]:
        """Return the entries (see `journal.Entry`) after serial number `since`, oldest first."""
        parameters: dict[str, Any] = {"since": since} | ({"system": system} if system else {})
        return self.get("/journal", **parameters)["entries"]

    def last(self) -> int:
        """Return the newest serial number, for a later `journal(since=...)`."""
        return self.get("/journal", since=2**62)["last"]

    def clear_journal(self) -> None:
        self._checked(self._client.delete("/journal"))

    def faults(self, *rules: dict[str, Any]) -> list[int]:
        """Add rules such as {"system": "d365", "kind": "throttle", "times": 2, "retry_after": 1}. Return their ids."""
        return self.post("/faults", {"rules": list(rules)})["ids"]

    def fault(self, system: str, kind: str, **more: Any) -> int:
        """Add one rule, and return its id. more: times, skip, every, method, path and the kind's parameters."""
        return self.faults({"system": system, "kind": kind, **more})[0]

    def fault_rules(self) -> list[dict[str, Any]]:
        """Return the rules with their counts `matched` and `fired`."""
        return self.get("/faults")["rules"]

    def clear_faults(self, system: str | None = None) -> None:
        self._checked(self._client.delete("/faults", params={"system": system} if system else {}))

    def latency(self, system: str, milliseconds: float) -> None:
        self.post("/settings", {system: {"latency_ms": milliseconds}})

    def settings(self, system: str, **values: Any) -> dict[str, Any]:
        """Change settings of d365, login, campaign or ims, if any are given. Return all settings."""
        return self.post(f"/{system}/settings", values) if values else self.get(f"/{system}/settings")

    def outage(self, seconds: float) -> None:
        """Interrupt all systems as by kill -9. Return after their restart; their data are kept."""
        self.post("/outage", {"seconds": seconds})

    def on_parent_delete(self, **by_table: str) -> None:
        """Set the effect of a parent's delete on a table's rows: `new_order="restrict"`, remove_link or cascade."""
        self.settings("d365", on_parent_delete=by_table)

    def publish_link(self, resource: str, link: str, cardinality: str = "one", join: str | None = None) -> None:
        """Change the definition of a Campaign link. cardinality: `one` or `zero_or_one`. join: the joined attribute."""
        links = self.settings("campaign")["links"]
        links.setdefault(resource, {})[link] = {"cardinality": cardinality, "join": join}
        self.settings("campaign", links=links)

    def totals(self) -> dict[str, Any]:
        """Return {"d365": {table: rows}, "campaign": {resource: records}, "requests": {...}, "engine_calls": {...}}."""
        return self.get("/totals")

    def engine_calls(self, system: str = "campaign") -> dict[str, int]:
        """Return the numbers of insert, update, delete and read calls since the start or `clear_journal()`."""
        return dict.fromkeys(("insert", "update", "delete", "read"), 0) | self.totals()["engine_calls"].get(system, {})

    # D365

    def dump_d365(self, table: str = "contact") -> list[dict[str, Any]]:
        """Return all rows as the Web API shows them, in the order of ids."""
        return self.get("/d365/dump", table=table)

    def load(self, contacts: int) -> dict[str, list[str]]:
        """Add sample contacts with orders and order lines. Return their ids by table."""
        return self.post("/d365/load", {"contacts": contacts})

    def create(self, table: str, *rows: dict[str, Any]) -> list[str]:
        """Add rows, and return their ids. A row may have its id, and lookups by logical name, `new_contactid=<id>`."""
        return self.post("/d365/create", {"table": table, "rows": list(rows)})["ids"]

    def change(self, table: str, which: list[str] | int, **values: Any) -> list[str]:
        """Change rows, and return their ids. which: ids, or a number of rows. values: as in `create`; None for null."""
        return self.post("/d365/change", {"table": table, **_which(which), "set": values})["ids"]

    def merge(self, subordinate: str, target: str, **content: Any) -> None:
        """Merge a contact into another one, as another user does. content: values for that one."""
        self.post("/d365/merge", {"target": target, "subordinate": subordinate, "set": content})

    def delete(self, table: str, which: list[str] | int) -> list[str]:
        return self.post("/d365/delete", {"table": table, **_which(which)})["ids"]

    def empty(self, **resources: str) -> None:
        """Delete all rows and records, and the journal. resources: by table, parents first; default contacts."""
        for table, resource in reversed(list((resources or {"contact": "profile"}).items())):
            self.delete(table, [row[f"{table}id"] for row in self.dump_d365(table)])
            pkeys = [one["PKey"] for one in self.dump_campaign(resource)]
            self.post("/campaign/delete", {"resource": resource, "pkeys": pkeys})
        self.clear_journal()

    def expire(self, table: str = "contact") -> None:
        """Let all delta tokens of the table expire."""
        self.post("/d365/expire", {"table": table})

    def restore(self) -> None:
        """Put the organization back to the state before the last write of each row, with the versions of then."""
        self.post("/d365/restore", {})

    # Campaign

    def dump_campaign(self, resource: str = "profile") -> list[dict[str, Any]]:
        """Return all records. `_visible` is False for those that Campaign hides."""
        return self.get("/campaign/dump", resource=resource)

    def hidden(self, resource: str) -> list[dict[str, Any]]:
        """Return the records that Campaign hides: children whose link of cardinality 1 has no target. Must be empty."""
        return [record for record in self.dump_campaign(resource) if not record["_visible"]]

    def add_profiles(self, *profiles: dict[str, Any]) -> list[str]:
        """Insert profiles as a marketer does in the UI. Return their PKeys."""
        return self.post("/campaign/profiles", list(profiles))["pkeys"]

    def configure_import(self, id_: str, **settings: Any) -> dict[str, Any]:
        """Change settings of an import workflow (see `import_run.ImportWorkflow`), and return it."""
        return self.post("/campaign/imports", {"id": id_, **settings})

    def import_runs(self, id_: str) -> list[dict[str, Any]]:
        """Return the runs of an import workflow with their counts, oldest first."""
        return self.get("/campaign/imports")[id_]["runs"]

    def export(self, **options: Any) -> str | None:
        """Write an opt-out file into the SFTP folder. Return its name, None if there are no rows."""
        return self.post("/campaign/export", options)["file"]


def _start(arguments: list[str], stderr: IO[bytes], fresh: bool) -> subprocess.Popen[bytes] | Forked:
    if not fresh and hasattr(os, "fork"):
        return start_sandbox(arguments, stderr)
    command = [sys.executable, "-m", "sync_assets.sandbox", *arguments]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stderr=stderr)


def _which(which: list[str] | int) -> dict[str, Any]:
    return {"count": which} if isinstance(which, int) else {"ids": which}


class SandboxProcess:
    """A sandbox in a process of its own. The constructor waits until it serves; `with` stops it.

    The process also stops when this process ends in any way. It is in the position of PREMISE (`support.premises`).
    It is a fork, or with `fresh` a new interpreter.

    Attributes:
        env: Variables of its environment file.
        admin: Its admin interface.
    """

    def __init__(self, contacts: int = 50, port: int = 0, *, fresh: bool = False) -> None:
        position = of_the_environment()
        self._directory = tempfile.TemporaryDirectory(prefix="sandbox-env-")
        env_file = Path(self._directory.name) / "env"
        self._errors = (Path(self._directory.name) / "stderr").open("w+b")
        arguments = ["--contacts", str(contacts), "--port", str(port), "--env-file", str(env_file)]
        self.process = _start([*arguments, "--until-stdin-closes"], self._errors, fresh)
        give_up_at = time.monotonic() + START_SECONDS + contacts / 500
        while not env_file.exists():
            if self.process.poll() is not None or time.monotonic() > give_up_at:
                self.stop()
                raise AssertionError(f"the sandbox did not start:\n{self.errors}")
            time.sleep(0.01)
        self.env = dict(line.split("=", 1) for line in env_file.read_text().splitlines())
        self.admin = Admin(self.env["SANDBOX_ADMIN_URL"])
        position.apply(self.admin)

    @property
    def environment(self) -> dict[str, str]:
        """Return the whole environment for a program that uses this sandbox."""
        return os.environ | self.env

    @property
    def errors(self) -> str:
        """Return the sandbox's standard error, which is empty unless the sandbox has an error."""
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
