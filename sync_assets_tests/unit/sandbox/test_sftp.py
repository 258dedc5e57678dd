"""Who may sign in to the Campaign SFTP, and what is out of reach. Files: flows/clients/test_openssh.py, unit/sftp."""

from collections.abc import Iterator
from pathlib import Path

import paramiko
import pytest

from sync_assets.sandbox.faults import Faults
from sync_assets.sandbox.sftp import SftpServer


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SftpServer]:
    server = SftpServer(tmp_path_factory.mktemp("sftp"), faults=Faults())
    server.start()
    yield server
    server.stop()


def connect(server: SftpServer, **changed: object) -> paramiko.SSHClient:
    ssh = paramiko.SSHClient()
    ssh.load_host_keys(str(server.known_hosts_file))
    ssh.set_missing_host_key_policy(paramiko.RejectPolicy())
    arguments: dict[str, object] = {"username": server.user, "key_filename": str(server.private_key_file)}
    arguments |= {"look_for_keys": False, "allow_agent": False, "timeout": 5}
    ssh.connect("localhost", server.port, **(arguments | changed))  # pyright: ignore[reportArgumentType]
    return ssh


def test_another_key_user_or_a_password_is_refused(server: SftpServer) -> None:
    other = paramiko.RSAKey.generate(2048)
    with pytest.raises(paramiko.AuthenticationException):
        connect(server, pkey=other, key_filename=None)
    key = paramiko.RSAKey.from_private_key_file(str(server.private_key_file))
    with pytest.raises(paramiko.AuthenticationException):
        connect(server, pkey=key, key_filename=None, username="root")
    with pytest.raises(paramiko.BadAuthenticationType):
        connect(server, key_filename=None, password="x")


def test_links_out_of_the_root_are_not_followed(server: SftpServer, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (server.root / "link").symlink_to(tmp_path / "secret")
    (server.root / "up").symlink_to(tmp_path)
    with connect(server) as ssh:
        sftp = ssh.open_sftp()
        for path in ("link", "up/secret", "d365_loads/../up/secret"):
            for mode in ("r", "w"):
                with pytest.raises(OSError):  # noqa: PT011
                    sftp.open(path, mode)
            with pytest.raises(OSError):  # noqa: PT011
                sftp.stat(path)
        with pytest.raises(OSError):  # noqa: PT011
            sftp.rename("d365_loads", "up/taken")
        with pytest.raises(OSError):  # noqa: PT011
            sftp.symlink("/etc/passwd", "other_link")
    assert (tmp_path / "secret").read_text() == "secret"
