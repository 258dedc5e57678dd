"""What a power cut would leave of SQLite's files: their content when they were last synced to the disk.

SQLite calls the system through tables of functions (https://sqlite.org/vfs.html). Here the function that syncs a file
is wrapped, for all connections of this process.
"""

import _sqlite3
import ctypes
import functools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_SYNC = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int)
_OPEN = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(ctypes.c_int)
)
"""The name is passed on as an address: SQLite keeps it."""


class _Vfs(ctypes.Structure):
    _fields_ = (
        ("version", ctypes.c_int), ("file_size", ctypes.c_int), ("longest_path", ctypes.c_int),
        ("following", ctypes.c_void_p), ("name", ctypes.c_char_p), ("data", ctypes.c_void_p), ("open", _OPEN),
    )  # fmt: skip


class _Methods(ctypes.Structure):
    """Of a file: version, four functions, the one that syncs, and thirteen more."""

    _fields_ = (
        ("version", ctypes.c_int), ("before", ctypes.c_void_p * 4), ("sync", _SYNC), ("after", ctypes.c_void_p * 13),
    )  # fmt: skip


class SyncedFiles:
    """The synced content of each file that was opened."""

    def __init__(self) -> None:
        self.content: dict[Path, bytes] = {}

    def leave(self, folder: Path) -> None:
        """Write what a power cut would leave into a folder. SQLite syncs the folder of a file that it deletes."""
        for path, content in self.content.items():
            if path.exists():
                (folder / path.name).write_bytes(content)


@contextmanager
def synced_files() -> Iterator[SyncedFiles]:
    """Yield the content of files as of their last sync, for those that are opened in the block."""
    library = ctypes.CDLL(_sqlite3.__file__)
    library.sqlite3_vfs_find.restype = ctypes.POINTER(_Vfs)
    vfs, result = library.sqlite3_vfs_find(None).contents, SyncedFiles()
    real_open = _OPEN(ctypes.cast(vfs.open, ctypes.c_void_p).value or 0)  # a copy, not the field of the table
    kept: list[object] = []

    @functools.cache
    def wrapped(methods: int) -> ctypes.Array[ctypes.c_char]:
        """Return a copy of a table of methods whose `sync` notes the file's content."""
        copy = ctypes.create_string_buffer(ctypes.string_at(methods, ctypes.sizeof(_Methods)))
        table = _Methods.from_buffer(copy)
        real_sync = _Methods.from_address(methods).sync

        def sync(file: int, flags: int) -> int:
            code = real_sync(file, flags)
            if path := paths.get(file):
                result.content[path] = path.read_bytes()
            return code

        callback = _SYNC(sync)
        kept.append(callback)
        table.sync = callback
        return copy

    paths: dict[int, Path] = {}

    def open_file(self: int, name: int | None, file: int, flags: int, out: object) -> int:
        code = real_open(self, name, file, flags, out)
        if code == 0 and name:
            methods = ctypes.c_void_p.from_address(file)
            paths[file] = Path(ctypes.string_at(name).decode())
            result.content.setdefault(paths[file], b"")
            methods.value = ctypes.addressof(wrapped(methods.value or 0))
        return code

    vfs.open = callback = _OPEN(open_file)
    kept.append(callback)
    try:
        yield result
    finally:
        vfs.open = real_open
        _KEPT.extend(kept)  # connections that are still open call them


_KEPT: list[object] = []
