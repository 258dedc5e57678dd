"""The instance of the command line is opened where its folder cannot be written: the image's root is read-only."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sync_assets.cli.instance import instance_folder
from sync_assets.config.files import SANDBOX_CONFIG
from sync_assets.errors import SyncAssetsError

READ_ONLY = 'mount --bind "$0" "$0" && mount --options remount,bind,ro "$0" && exec "$@"'
OPEN = "from sync_assets.cli.instance import alone, dagster_instance, instance_folder\n"
OPEN += "with dagster_instance(), alone(instance_folder()): print('opened')"

WHERE = "import sync_assets.definitions, os\nfrom sync_assets.runtime.context import Runtime\n"
WHERE += "print(Runtime(dict(os.environ)).settings.ledger_url)"


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


def test_the_instance_is_dagster_home_or_that_of_the_folder_or_beside_the_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("installation", "elsewhere", "home"):
        (tmp_path / name).mkdir()
    config = tmp_path / "installation" / "sync_assets.yaml"
    config.write_text("")
    monkeypatch.setenv("SYNC_ASSETS_CONFIG", str(config))
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert instance_folder() == tmp_path / "installation" / ".dagster"
    (tmp_path / "elsewhere" / "dagster.yaml").write_text("")  # that of `dagster dev` in this folder
    assert instance_folder() == tmp_path / "elsewhere"
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    assert instance_folder() == tmp_path / "home"
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "mistyped"))
    with pytest.raises(SyncAssetsError, match="a folder that does not exist"):
        instance_folder()


def test_dagster_in_a_folder_with_its_own_file_meets_the_ledger_beside_the_configuration(tmp_path: Path) -> None:
    """As `dagster dev` in this repository: without DAGSTER_HOME, the configuration in another folder."""
    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    (tmp_path / "installation").mkdir()
    config = tmp_path / "installation" / "sync_assets.yaml"
    config.write_text(SANDBOX_CONFIG.read_text())
    environment = {name: value for name, value in os.environ.items() if name != "DAGSTER_HOME"}
    done = subprocess.run(
        [sys.executable, "-c", WHERE],
        env=environment | {"SYNC_ASSETS_CONFIG": str(config)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"sqlite:///{tmp_path}/installation/.dagster/ledger.db\n"
