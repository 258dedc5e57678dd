"""Open the Dagster instance for the command line: the one that `sync-assets dev` uses."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import dagster as dg
import yaml

from sync_assets.config.environment import INSTANCE, Settings
from sync_assets.config.files import write_whole
from sync_assets.config.found_files import check_found
from sync_assets.errors import SyncAssetsError, is_disk_full
from sync_assets.launching.dagster_patches import detach_copies_of_output

PACKAGED = Path(__file__).with_name(INSTANCE)


@contextmanager
def dagster_instance() -> Iterator[dg.DagsterInstance]:
    """Open the instance of DAGSTER_HOME, else of `dagster.yaml` in the current folder, else of `.dagster/` beside the
    configuration file.

    A missing folder or `dagster.yaml` is created.

    Raises:
        SyncAssetsError: The folder cannot be used, or `dagster.yaml` is not valid.
    """
    folder = instance_folder()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not (folder / INSTANCE).is_file():
            write_whole(folder / INSTANCE, PACKAGED.read_bytes())  # another `sync` may do it, too
        with _locked(folder):
            opened = dg.DagsterInstance.from_config(str(folder))
    except OSError as error:
        if is_disk_full(error):
            raise
        raise SyncAssetsError(
            f"The Dagster instance in {folder} cannot be used ({error.strerror}).",
            "Name a folder that can be written in DAGSTER_HOME.",
        ) from error
    except (dg.DagsterError, yaml.YAMLError) as error:
        raise SyncAssetsError(
            f"{folder / 'dagster.yaml'} is not a configuration that Dagster takes ({type(error).__name__}).",
            "`dagster instance info` shows the details.",
        ) from error
    detach_copies_of_output()
    with opened as instance:
        yield instance


def has_history() -> bool:
    """Return True if that instance exists: it has a `dagster.yaml`."""
    return (instance_folder() / INSTANCE).is_file()


def instance_folder() -> Path:
    """Return the folder of the instance, which may be missing. Raises SyncAssetsError for that of another user."""
    folder = Settings.from_environment(os.environ).instance
    if folder == Path.cwd() and not os.environ.get("DAGSTER_HOME"):
        check_found(folder / INSTANCE, "name the folder in DAGSTER_HOME")
    return folder


@contextmanager
def _locked(folder: Path, name: str = ".sync_assets.lock", *, waits: bool = True) -> Iterator[None]:
    """Lock the folder, since two processes that create Dagster's SQLite tables at once corrupt them for good.

    Without effect in a read-only folder, where no table can be created: that of an image whose instance is in
    PostgreSQL. Raises BlockingIOError if another process has the lock and `waits` is False.
    """
    try:
        lock = (folder / name).open("w")
    except OSError as error:
        if error.errno != errno.EROFS:
            raise
        yield
        return
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX if waits else fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keep a second `dev` from the instance of a folder, also on another port. Raises SyncAssetsError in the second.

    Dagster supports one daemon for each instance. The lock ends with the process, however that ends.
    """
    with ExitStack() as lock:
        try:
            lock.enter_context(_locked(folder, ".sync_assets.dev.lock", waits=False))
        except BlockingIOError:
            text = f"Another `sync-assets dev` serves {folder}, and Dagster supports one daemon for each instance."
            raise SyncAssetsError(text, "Open the address that it printed, or end it by Ctrl-C.") from None
        yield
