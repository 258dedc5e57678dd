"""`web` and `dev`: start Dagster's web server behind the guard, alone or with code server and daemon."""

from __future__ import annotations

import os
import shlex
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from sync_assets.defs.instance.command_line import instance_folder, prepare
from sync_assets.errors import SyncAssetsError
from sync_assets.launching import servers
from sync_assets.webserver.guard import HOSTS_VARIABLE, UiGuard, allowed_hosts

WEB = ("-m", "sync_assets.cli", "web")
"""The guarded web server, as arguments of Python."""


def web(arguments: Sequence[str], announce: Callable[[str], None]) -> None:
    """Run Dagster's web server behind the guard, with its own options. Does not return.

    Args:
        arguments: Those of `dagster-webserver`.
        announce: Called with a line that names the address.

    Raises:
        SyncAssetsError: The list of host names is not valid, or the port is taken.
    """
    hosts = allowed_hosts(os.environ.get(HOSTS_VARIABLE, ""))
    _name_home(arguments)
    with _dagsters_errors():
        servers.run_webserver(
            arguments,
            UiGuard,
            partial(_raise_taken, "web", arguments),
            lambda address: announce(f"Dagster's UI: {address}"),
            hosts=hosts,
        )


def dev(arguments: Sequence[str]) -> None:
    """Run `dagster dev` with the guarded web server in place of Dagster's. Does not return.

    Raises:
        SyncAssetsError: The list of host names is not valid, or the port is taken.
    """
    allowed_hosts(os.environ.get(HOSTS_VARIABLE, ""))  # found out before three processes start
    _name_home(arguments)
    with _dagsters_errors():
        servers.run_dev(arguments, webserver=WEB, taken=partial(_raise_taken, "dev", arguments))


def _raise_taken(command: str, arguments: Sequence[str], port: int) -> None:
    again = shlex.join(["sync-assets", command, *arguments, "--port", str(port - 1 if port == 65535 else port + 1)])
    raise SyncAssetsError(f"Port {port} is taken.", f"Write e.g. `{again}`.")


def _name_home(arguments: Sequence[str]) -> None:
    """Let Dagster use the instance of the other commands. It takes that of `dagster.yaml` in this folder by itself."""
    if "--help" not in arguments and (folder := instance_folder()) != Path.cwd():
        prepare(folder)
        os.environ["DAGSTER_HOME"] = str(folder)


@contextmanager
def _dagsters_errors() -> Iterator[None]:
    """Print Dagster's errors whole, as its own commands do: they are about its configuration, never about records."""
    try:
        yield
    except SyncAssetsError:
        raise
    except Exception:  # noqa: BLE001
        traceback.print_exc()
        raise SystemExit(1) from None
