"""A file that is found counts only if no other user could have written it: a table of owners and modes."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sync_assets.checks.installation import readable_secrets
from sync_assets.config import found_files
from sync_assets.config.environment import Settings
from sync_assets.config.files import complete, component_of, keep_over_dagster
from sync_assets.config.found_files import check_found, others_can_read
from sync_assets.errors import SyncAssetsError

ME, OTHER, ROOT = 4711, 4712, 0
GROUPS = {4711: ("me", []), 4720: ("staff", []), 4721: ("me", ["other"]), 0: ("root", [])}
"""Names and members. The user's own group is 4711."""


@pytest.fixture(autouse=True)
def _users(monkeypatch: pytest.MonkeyPatch) -> None:
    people = {ME: ("me", 4711), OTHER: ("other", 4712), ROOT: ("root", 0)}

    def person(user: int) -> Any:
        name, group = people[user]
        return SimpleNamespace(pw_name=name, pw_gid=group)

    def group(number: int) -> Any:
        name, members = GROUPS[number]
        return SimpleNamespace(gr_name=name, gr_mem=members)

    monkeypatch.setattr(found_files, "pwd", SimpleNamespace(getpwuid=person))
    monkeypatch.setattr(found_files, "grp", SimpleNamespace(getgrgid=group))


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder below a sticky one of root's, as `/tmp` is; each test sets owners and modes, whatever the umask was."""
    folder, umask = Path(tempfile.mkdtemp(dir="/tmp")), os.umask(0o022)
    yield folder
    os.umask(umask)
    shutil.rmtree(folder)


@contextmanager
def user(number: int) -> Iterator[None]:
    os.seteuid(number)
    try:
        yield
    finally:
        os.seteuid(ROOT)


# Owner, group and mode of the folder above, of the folder, of the file; the user; what is wrong
CASES: dict[str, tuple[tuple[int, int, int], tuple[int, int, int], tuple[int, int, int], int, str]] = {
    "one's own": ((ME, 4711, 0o755), (ME, 4711, 0o755), (ME, 4711, 0o644), ME, ""),
    "umask 002 with a group of one's own": ((ME, 4711, 0o775), (ME, 4711, 0o2775), (ME, 4711, 0o664), ME, ""),
    "root's": ((0, 0, 0o755), (0, 0, 0o775), (0, 0, 0o664), ME, ""),
    "one's own below a sticky folder of root's": ((0, 0, 0o1777), (ME, 4711, 0o700), (ME, 4711, 0o600), ME, ""),
    "a sticky folder of one's own above": ((ME, 4720, 0o1777), (ME, 4711, 0o755), (ME, 4711, 0o644), ME, ""),
    "root reads root's": ((0, 0, 0o755), (0, 0, 0o755), (0, 0, 0o644), ROOT, ""),
    "a planted file": ((0, 0, 0o755), (0, 0, 0o1777), (OTHER, 4712, 0o644), ME, "file belongs to other"),
    "one's own file in a sticky folder": (
        (0, 0, 0o755), (0, 0, 0o1777), (ME, 4711, 0o600), ME, "every user can write HOME/above/folder",
    ),
    "a folder of all": ((ME, 4711, 0o755), (ME, 4711, 0o777), (ME, 4711, 0o600), ME, "can write HOME/above/folder"),
    "another's folder": ((0, 0, 0o755), (OTHER, 4712, 0o755), (ME, 4711, 0o644), ME, "folder belongs to other"),
    "another's folder above": (
        (OTHER, 4712, 0o755), (ME, 4711, 0o755), (ME, 4711, 0o644), ME, "above belongs to other",
    ),
    "a folder above of all": ((0, 0, 0o777), (ME, 4711, 0o755), (ME, 4711, 0o644), ME, "can write HOME/above:"),
    "another's sticky folder above": (
        (OTHER, 4712, 0o1777), (ME, 4711, 0o755), (ME, 4711, 0o644), ME, "above belongs to other",
    ),
    "a folder of several": ((0, 0, 0o755), (ME, 4720, 0o775), (ME, 4711, 0o644), ME, "its group can write"),
    "a folder above of several": ((0, 4720, 0o775), (ME, 4711, 0o755), (ME, 4711, 0o644), ME, "its group can write"),
    "a group of the user's name with a member": (
        (0, 0, 0o755), (ME, 4721, 0o775), (ME, 4711, 0o644), ME, "its group can write",
    ),
    "a group without a name": ((0, 0, 0o755), (ME, 4799, 0o775), (ME, 4711, 0o644), ME, "its group can write"),
    "a file of all": ((0, 0, 0o755), (ME, 4711, 0o755), (ME, 4711, 0o666), ME, "file:"),
    "a file of several": ((0, 0, 0o755), (ME, 4711, 0o755), (ME, 4720, 0o664), ME, "its group can write"),
    "root does not trust a user": (
        (0, 0, 0o755), (ME, 4711, 0o755), (ME, 4711, 0o644),
        ROOT, "file belongs to me. If it is yours: run this command as me."),
}  # fmt: skip


@pytest.mark.skipif(os.geteuid() != ROOT, reason="only root can give files to other users")
@pytest.mark.parametrize("case", CASES)
def test_a_file_counts_if_only_its_user_and_root_can_have_written_it(home: Path, case: str) -> None:
    above, folder, file = (home / "above", home / "above" / "folder", home / "above" / "folder" / "file")
    folder.mkdir(parents=True)
    file.touch()
    *modes, me, wrong = CASES[case]
    for path, (owner, group, mode) in zip((above, folder, file), modes, strict=True):
        os.chown(path, owner, group)
        path.chmod(mode)
    home.chmod(0o755)
    with user(me):
        if not wrong:
            check_found(file)
            return
        with pytest.raises(SyncAssetsError) as refused:
            check_found(file)
    assert str(refused.value).startswith(f"{file} was found, not named, and another user could have written it: ")
    assert wrong.replace("HOME", str(home)).removesuffix(":") in str(refused.value)


@pytest.mark.skipif(os.geteuid() != ROOT, reason="only root can give files to other users")
def test_a_link_counts_as_what_it_is_and_as_what_it_names(home: Path) -> None:
    home.chmod(0o755)
    for name, owner in (("mine", ME), ("others", OTHER)):
        (home / name).mkdir()
        (home / name / "file").touch()
        os.chown(home / name / "file", owner, owner)
        os.chown(home / name, owner, owner)
    for name, target, owner in (("good", "mine", ME), ("elsewhere", "others", ME), ("planted", "mine", OTHER)):
        (home / name).symlink_to(home / target / "file")
        os.chown(home / name, owner, owner, follow_symlinks=False)
    with user(ME):
        check_found(home / "good")
        for name, wrong in (("elsewhere", "others/file belongs to other"), ("planted", "planted belongs to other")):
            with pytest.raises(SyncAssetsError, match=wrong):
                check_found(home / name)


@pytest.mark.parametrize(
    ("found", "read", "instead"),
    [
        ("sync_assets.yaml", lambda: complete({}), "or name it: --config FILE."),
        (".env", lambda: complete({}), "or move it elsewhere and name it: --env-file."),
        (".env", lambda: keep_over_dagster({}), "`chmod go-w FOLDER`."),
    ],
)
def test_each_file_that_is_found_is_checked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, found: str, read: Any, instead: str
) -> None:
    monkeypatch.undo()  # real users
    monkeypatch.chdir(tmp_path)
    (tmp_path / found).touch()
    read()
    tmp_path.chmod(0o777)
    with pytest.raises(SyncAssetsError) as refused:
        read()
    assert str(refused.value).endswith(instead.replace("FILE", f"{tmp_path / found}").replace("FOLDER", f"{tmp_path}"))
    (tmp_path / found).unlink()
    read()


def test_a_component_that_is_found_is_checked_and_a_configuration_that_is_named_is_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.undo()
    (tmp_path / "named.yaml").touch()
    tmp_path.chmod(0o777)
    complete({}, config=str(tmp_path / "named.yaml"))
    complete({}, env_file=str(tmp_path / "named.yaml"), config=str(tmp_path / "named.yaml"))
    text = "type: sync_assets.SyncComponent\nattributes: {configuration: named.yaml, environment_file: x}\n"
    (tmp_path / "defs.yaml").write_text(text)
    with pytest.raises(SyncAssetsError, match=r"defs\.yaml was found, not named"):
        component_of(tmp_path / "named.yaml")


# Owner, group and mode of the folder and of the file; what others can do
@pytest.mark.skipif(os.geteuid() != ROOT, reason="only root can give files to other users")
@pytest.mark.parametrize(
    ("folder", "file", "read"),
    [
        ((ME, 4711, 0o755), (ME, 4711, 0o600), False),
        ((ME, 4711, 0o755), (ME, 4711, 0o644), True),
        ((ME, 4711, 0o700), (ME, 4711, 0o644), False),
        ((ME, 4711, 0o711), (ME, 4711, 0o644), True),
        ((ME, 4711, 0o755), (ME, 4711, 0o640), False),
        ((ME, 4711, 0o755), (ME, 4720, 0o640), True),
        ((ME, 4720, 0o750), (ME, 4720, 0o640), True),
        ((ME, 4711, 0o700), (ME, 4720, 0o640), False),
        ((0, 0, 0o755), (0, 0, 0o444), False),  # as a platform mounts a secret
    ],
)
def test_who_can_read_a_secret(
    home: Path, folder: tuple[int, int, int], file: tuple[int, int, int], read: bool
) -> None:
    home.chmod(0o755)
    (home / "folder").mkdir()
    (home / "folder" / "file").touch()
    for path, (owner, group, mode) in ((home / "folder", folder), (home / "folder" / "file", file)):
        os.chown(path, owner, group)
        path.chmod(mode)
    with user(ME):
        assert others_can_read(home / "folder" / "file") is read
        assert not others_can_read(home / "folder" / "missing")


def test_doctor_names_secrets_keys_and_a_ledger_that_others_can_read(
    monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    monkeypatch.undo()
    home.chmod(0o755)
    files = {
        name: home / name for name in ("sync_assets.yaml", ".env", "a secret", "key.pem", "ledger.db", "known_hosts")
    }
    for file in files.values():
        file.touch(0o644)
    (home / "a secret").write_text("secret")
    variables = {
        "SYNC_ASSETS_CONFIG": str(files["sync_assets.yaml"]),
        "SYNC_ASSETS_LEDGER_URL": f"sqlite:///{files['ledger.db']}",
        "CAMPAIGN_CLIENT_SECRET_FILE": str(files["a secret"]),
        "D365_CLIENT_CERTIFICATE": str(files["key.pem"]),
        "CAMPAIGN_SFTP_HOST_KEY": str(files["known_hosts"]),
    }
    finding = readable_secrets(Settings.from_environment(variables))
    shown = ", ".join(f"{home}/{name}" for name in (".env", "a secret", "key.pem", "ledger.db"))
    assert (finding.outcome, shown in finding.message) == ("warn", True), finding
    assert f"`chmod go-rwx {home}/.env '{home}/a secret' {home}/key.pem {home}/ledger.db`" in finding.message
    for name in (".env", "a secret", "key.pem", "ledger.db"):
        files[name].chmod(0o600)
    assert readable_secrets(Settings.from_environment(variables)).passed
