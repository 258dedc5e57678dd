"""The instance of the command line is opened where its folder cannot be written: the image's root is read-only."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

READ_ONLY = 'mount --bind "$0" "$0" && mount --options remount,bind,ro "$0" && exec "$@"'
OPEN = "from sync_assets.defs.instance.command_line import dagster_instance\nwith dagster_instance(): print('opened')"


def in_a_read_only_folder(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command for which the folder is on a read-only file system, as for root in a container."""
    return subprocess.run(
        ["unshare", "--mount", "sh", "-c", READ_ONLY, folder, *command],
        env=os.environ | {"DAGSTER_HOME": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    try:
        mounted = in_a_read_only_folder(folder, "true").returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("no file system can be mounted here")
    return folder


def test_an_instance_whose_storage_is_elsewhere_opens_in_a_read_only_folder(home: Path) -> None:
    storage = home.parent / "storage"
    (home / "dagster.yaml").write_text(f"telemetry: {{enabled: false}}\nstorage: {{sqlite: {{base_dir: {storage}}}}}\n")
    done = in_a_read_only_folder(home, sys.executable, "-c", OPEN)
    assert done.stdout == "opened\n", done.stderr
    assert [path.name for path in home.iterdir()] == ["dagster.yaml"]
