"""Writing a file: as a whole or not at all, in place of the last one, and only in the folder that it is meant for."""

import pytest
from paramiko.sftp import SFTP_OP_UNSUPPORTED

from sync_assets.sandbox import sftp as sandbox
from sync_assets.sftp.client import PIECE, Sftp, connect
from sync_assets.sftp.errors import SftpError
from sync_assets.sftp.protocol import Refused, SftpProtocol
from sync_assets_tests.unit.sftp.conftest import Served


def names(served: Served) -> list[str]:
    return sorted(path.name for path in served.exports.iterdir())


@pytest.mark.parametrize("size", [0, 1, PIECE, 3 * PIECE + 5])
def test_a_file_arrives_whole_in_the_place_of_the_one_before(served: Served, sftp: Sftp, size: int):
    served.put("day.jsonl", b"a longer one")
    content = bytes(range(256)) * (size // 256 + 1)
    sftp.put(served.directory, "day.jsonl", content[:size])
    assert names(served) == ["day.jsonl"]
    assert (served.exports / "day.jsonl").read_bytes() == content[:size]


def test_folders_are_made_where_they_are_missing(served: Served, sftp: Sftp):
    sftp.put(f"{served.directory}/a/b", "day.jsonl", b"x")
    sftp.put(f"{served.directory}/a/b", "day.jsonl", b"y")
    assert (served.exports / "a" / "b" / "day.jsonl").read_bytes() == b"y"


def test_a_file_in_the_way_is_reported_and_kept(served: Served, sftp: Sftp):
    served.put("a", b"somebody's")
    with pytest.raises(SftpError, match="is no folder, so nothing can be put there"):
        sftp.put(f"{served.directory}/a", "day.jsonl", b"x")
    (served.exports / "day.jsonl").mkdir()
    with pytest.raises(SftpError, match=r"refuses to write .*day\.jsonl"):
        sftp.put(served.directory, "day.jsonl", b"x")
    assert names(served) == ["a", "day.jsonl"]  # and no part of the new one
    assert (served.exports / "a").read_bytes() == b"somebody's"


def test_a_server_that_cannot_replace_removes_the_old_one_first(
    served: Served, sftp: Sftp, monkeypatch: pytest.MonkeyPatch
):
    def unsupported(wire: SftpProtocol, path: bytes, target: bytes) -> None:
        raise Refused(SFTP_OP_UNSUPPORTED, "Operation unsupported")

    monkeypatch.setattr(SftpProtocol, "posix_rename", unsupported)
    for content in (b"old", b"new"):
        sftp.put(served.directory, "day.jsonl", content)
        assert names(served) == ["day.jsonl"]
        assert (served.exports / "day.jsonl").read_bytes() == content


def test_a_connection_that_is_cut_leaves_the_last_file_as_it_was(sandbox_sftp: Served):
    sandbox_sftp.put("day.jsonl", b"old")
    assert sandbox_sftp.faults is not None
    sandbox_sftp.faults.add({"system": "sftp", "kind": "cut_before", "method": "rename", "times": 1})
    with pytest.raises(SftpError, match="cut the connection"), connect(sandbox_sftp.settings, timeout=5) as cut:
        cut.put(sandbox_sftp.directory, "day.jsonl", b"new")
    assert (sandbox_sftp.exports / "day.jsonl").read_bytes() == b"old"


def test_a_server_that_stored_less_than_it_acknowledged_keeps_the_last_file(
    sandbox_sftp: Served, monkeypatch: pytest.MonkeyPatch
):
    sandbox_sftp.put("day.jsonl", b"old")
    written = sandbox._Handle.write
    monkeypatch.setattr(sandbox._Handle, "write", lambda self, offset, data: written(self, offset, data[:-1]))
    with connect(sandbox_sftp.settings) as sftp, pytest.raises(SftpError, match="it is not complete there"):
        sftp.put(sandbox_sftp.directory, "day.jsonl", b"new")
    assert names(sandbox_sftp) == ["day.jsonl"]
    assert (sandbox_sftp.exports / "day.jsonl").read_bytes() == b"old"
