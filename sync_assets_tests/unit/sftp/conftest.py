"""The two servers that the client is held against: the sandbox's own, and OpenSSH where it is installed."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from sync_assets.config.environment import SftpSettings
from sync_assets.sandbox.faults import Faults
from sync_assets.sandbox.sftp import EXPORTS, SftpServer
from sync_assets.sftp.client import Sftp, connect
from sync_assets_tests.support.openssh import KEY_TYPES, OpenSsh


@dataclass
class Served:
    """A server and its folder `exports`, which is `directory` for the client and empty when a test begins."""

    settings: SftpSettings
    exports: Path
    openssh: OpenSsh | None = None
    faults: Faults | None = None
    directory: str = EXPORTS

    def put(self, name: str, content: bytes = b"", modified: int | None = None) -> Path:
        """A file in the folder; `modified`: time of its last change, seconds since 1970."""
        file = self.exports / name
        file.write_bytes(content)
        if modified is not None:
            os.utime(file, (modified, modified))
        return file


@pytest.fixture(scope="package")
def openssh_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenSsh]:
    with OpenSsh(tmp_path_factory.mktemp("openssh"), host_keys=KEY_TYPES, client_keys=KEY_TYPES[::-1]) as server:
        yield server


@pytest.fixture(scope="package")
def sandbox_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SftpServer]:
    server = SftpServer(tmp_path_factory.mktemp("sandbox"), faults=Faults())
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="package")
def _openssh_connection(openssh_server: OpenSsh) -> Iterator[Sftp]:
    with connect(openssh_server.settings, timeout=5) as connected:
        yield connected


@pytest.fixture(scope="package")
def _sandbox_connection(sandbox_server: SftpServer) -> Iterator[Sftp]:
    with connect(_settings(sandbox_server), timeout=5) as connected:
        yield connected


def _settings(server: SftpServer) -> SftpSettings:
    return SftpSettings("127.0.0.1", server.port, server.user, server.private_key_file, server.known_hosts_file)


def _empty(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir(parents=True)


@pytest.fixture
def openssh_sftp(openssh_server: OpenSsh) -> Served:
    _empty(openssh_server.exports)
    return Served(openssh_server.settings, openssh_server.exports, openssh=openssh_server)


@pytest.fixture
def sandbox_sftp(sandbox_server: SftpServer) -> Served:
    """The sandbox's SFTP alone, in threads of this process."""
    _empty(sandbox_server.exports)
    assert sandbox_server.faults is not None
    sandbox_server.faults.clear()
    return Served(_settings(sandbox_server), sandbox_server.exports, faults=sandbox_server.faults)


@pytest.fixture(params=["sandbox_sftp", "openssh_sftp"])
def served(request: pytest.FixtureRequest) -> Served:
    """Either server: what a test says holds for both."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def sftp(request: pytest.FixtureRequest, served: Served) -> Sftp:
    """A connection to it, the same for all tests: no error may spoil it for the next."""
    return request.getfixturevalue("_openssh_connection" if served.openssh else "_sandbox_connection")
