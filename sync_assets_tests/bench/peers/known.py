"""The peers, and how they are installed: into `.bench/`, once. One that cannot be had is reported with the reason."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from sync_assets_tests.bench.measure import ROOT, module

FOLDER = ROOT / ".bench"
INSTALL_SECONDS = 900
AIRBYTE, ADOBE = "Airbyte CDK", "Adobe's Node client, 64 in flight"
_PACKAGES = {"airbyte": "airbyte-cdk==7.39.1", "adobe": "@adobe/aio-lib-campaign-standard@4.0.3"}


class Missing(Exception):
    """Raised when a peer cannot be had; the message has the reason."""


class Peer(NamedTuple):
    """`command`: installs it and returns its command without arguments; raises Missing. `light`: this Python has it."""

    name: str
    command: Callable[[], Sequence[str]]
    light: bool = False


def _ours(name: str, package: str) -> Callable[[], Sequence[str]]:
    """Return the command of a peer in this Python, if it has the package."""

    def command() -> Sequence[str]:
        if find_spec(package) is None:
            raise Missing(f"{package} is not installed here; install sync_assets[test]")
        return module(f"peers.{name}")

    return command


def _airbyte() -> Sequence[str]:
    """An environment of its own: it needs other versions than this project."""
    python = FOLDER / "airbyte" / "bin" / "python"
    if not _installed("airbyte"):
        _run([sys.executable, "-m", "venv", "--clear", str(FOLDER / "airbyte")])
        _run([str(python), "-m", "pip", "install", "--quiet", _PACKAGES["airbyte"]])
        _mark("airbyte").write_text(_PACKAGES["airbyte"])
    return [str(python), *module("peers.read_airbyte")[1:]]


def _adobe() -> Sequence[str]:
    folder = FOLDER / "adobe"
    if not shutil.which("node"):
        raise Missing("there is no node on this machine")
    if not _installed("adobe"):
        folder.mkdir(parents=True, exist_ok=True)
        _run(["npm", "install", "--no-audit", "--no-fund", "--prefix", str(folder), _PACKAGES["adobe"]])
        _mark("adobe").write_text(_PACKAGES["adobe"])
    return ["node", str(Path(__file__).with_name("write_adobe.js")), str(folder)]


def _mark(name: str) -> Path:
    return FOLDER / name / "installed"


def _installed(name: str) -> bool:
    return _mark(name).is_file() and _mark(name).read_text() == _PACKAGES[name]


def _run(command: Sequence[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Missing(f"`{command[0]}` did not work ({type(error).__name__})") from error
    if done.returncode:
        raise Missing(f"it could not be installed: {(done.stderr or done.stdout).strip()[-200:]}")


READING = (
    Peer("Microsoft's client, list_pages", _ours("read_microsoft", "PowerPlatform.Dataverse"), light=True),
    Peer(AIRBYTE, _airbyte),
)
"""Arguments of the commands: the organisation's URL, rows in a page, `labels` or nothing."""

WRITING = (Peer("requests, 32 threads", _ours("write_requests", "requests"), light=True), Peer(ADOBE, _adobe))
"""Arguments of the commands: Campaign's URL, the file of bodies, seconds, requests in flight."""
IN_FLIGHT = {"requests, 32 threads": 32, ADOBE: 64}


def ready(peers: Sequence[Peer], wanted: str, say: Callable[[str], None]) -> dict[str, Sequence[str]]:
    """Return name -> command; `say` gets the reason for those that cannot be had. wanted: of `stage.Peers`."""
    commands: dict[str, Sequence[str]] = {}
    for peer in peers:
        if wanted == "none" or (wanted == "light" and not peer.light):
            say(f"{peer.name}: not measured (--peers {wanted})")
            continue
        try:
            commands[peer.name] = peer.command()
        except Missing as reason:
            say(f"{peer.name}: not measured, {reason}")
    return commands
