"""Which peers there are, and what it takes to run them. What has to be installed goes into `.bench/`, once.

dlt and Airbyte's CDK get environments of their own: they would fight with what this project pins. A peer that cannot be
had is told with the reason, never left out in silence.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from sync_assets_tests.bench.measure import ROOT, Run, run

FOLDER = ROOT / ".bench"
INSTALL_SECONDS = 900
WRITE_IN_FLIGHT = 64

_PACKAGES = {
    "dlt": "dlt[parquet]==1.31.0",
    "airbyte": "airbyte-cdk==7.39.1",
    "adobe": "@adobe/aio-lib-campaign-standard@4.0.3",
}


class Missing(Exception):
    """A peer that cannot be had; the message says why."""


@dataclass(frozen=True)
class Peer:
    """`needs`: what it has to be given before it runs, a Python or a folder; raises Missing. `light`: needs this Python
    only."""

    name: str
    command: Callable[[str], Sequence[str]]
    needs: Callable[[], str]
    light: bool = False

    def ready(self) -> Sequence[str]:
        """The command without its arguments. Installs what is needed."""
        return self.command(self.needs())


def _ours(module: str) -> Callable[[], str]:
    """This Python, if it has the module."""

    def needs() -> str:
        if find_spec(module) is None:
            raise Missing(f"{module} is not installed here; install sync_assets[test]")
        return sys.executable

    return needs


def _python(name: str) -> Callable[[], str]:
    def needs() -> str:
        folder = FOLDER / name
        python = folder / "bin" / "python"
        if not _installed(name):
            _run([sys.executable, "-m", "venv", "--clear", str(folder)])
            _run([str(python), "-m", "pip", "install", "--quiet", _PACKAGES[name]])
            _note(name)
        return str(python)

    return needs


def _node() -> str:
    folder = FOLDER / "adobe"
    if not shutil.which("node"):
        raise Missing("there is no node on this machine")
    if not _installed("adobe"):
        folder.mkdir(parents=True, exist_ok=True)
        _run(["npm", "install", "--no-audit", "--no-fund", "--prefix", str(folder), _PACKAGES["adobe"]])
        _note("adobe")
    return str(folder)


def _mark(name: str) -> Path:
    return FOLDER / name / "installed"


def _installed(name: str) -> bool:
    return _mark(name).is_file() and _mark(name).read_text() == _PACKAGES[name]


def _note(name: str) -> None:
    _mark(name).write_text(_PACKAGES[name])


def _run(command: Sequence[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Missing(f"`{command[0]}` did not work ({type(error).__name__})") from error
    if done.returncode:
        raise Missing(f"it could not be installed: {(done.stderr or done.stdout).strip()[-200:]}")


def _module(name: str) -> Callable[[str], Sequence[str]]:
    return lambda python: [python, "-m", f"sync_assets_tests.bench.peers.{name}"]


READING = (
    Peer("requests loop", _module("read_requests"), _ours("requests"), light=True),
    Peer("Microsoft's client, list_pages", _module("read_microsoft"), _ours("PowerPlatform.Dataverse"), light=True),
    Peer("dlt rest_api to Parquet", _module("read_dlt"), _python("dlt")),
    Peer("Airbyte CDK", _module("read_airbyte"), _python("airbyte")),
)
"""Command arguments: the organisation's URL, rows in a page, `labels` or nothing."""

WRITING = (
    Peer("requests loop", _module("write_requests"), _ours("requests"), light=True),
    Peer("requests, 32 threads", _module("write_requests"), _ours("requests"), light=True),
    Peer(
        "Adobe's Node client, 64 in flight",
        lambda folder: ["node", str(Path(__file__).with_name("write_adobe.js")), folder],
        _node,
    ),
)
"""Command arguments: Campaign's URL, the file of bodies, seconds, requests in flight."""
IN_FLIGHT = {"requests loop": 1, "requests, 32 threads": 32}


def ready(peers: Sequence[Peer], which: str, say: Callable[[str], None]) -> dict[str, Sequence[str]]:
    """Name -> command of those that can be had; of the others `say` is told why not. which: of `stage.Peers`."""
    commands: dict[str, Sequence[str]] = {}
    for peer in peers:
        if which == "none" or (which == "light" and not peer.light):
            say(f"{peer.name}: not measured, it was not asked for (--peers {which})")
            continue
        try:
            commands[peer.name] = peer.ready()
        except Missing as why:
            say(f"{peer.name}: not measured, {why}")
    return commands


def reader(command: Sequence[str], url: str, page_rows: int, *, labels: bool) -> Callable[[], Run]:
    return lambda: run([*command, url, str(page_rows), "labels" if labels else ""])


def writer(name: str, command: Sequence[str], url: str, bodies: Path, seconds: float) -> Callable[[], Run]:
    in_flight = IN_FLIGHT.get(name, WRITE_IN_FLIGHT)
    return lambda: run([*command, url, str(bodies), str(seconds), str(in_flight)])
