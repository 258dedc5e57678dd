"""Refuse a file that is found rather than named if another user could have put it there, as git and ssh do.

A planted `.env` or configuration names another host, which then gets the secret of the true one. Imports no library, so
that `--help` stays fast.
"""

import grp
import os
import pwd
import shlex
import stat
from pathlib import Path

from sync_assets.errors import SyncAssetsError

ROOT = 0


def check_found(file: Path, instead: str = "") -> None:
    """Check that only the user and root can have written a file, or put it or a folder above it in its place.

    A folder on the way that others can write is no danger if it is sticky, as `/tmp` is, and what is below it is the
    user's or root's: others cannot rename that. In the file's own folder they could add the next file.

    Args:
        file: Exists. If it is a symbolic link, the link and its target are checked.
        instead: What the user may do otherwise, such as name it by an option; such a file is not checked.

    Raises:
        SyncAssetsError: Another user owns the file or a folder above it, or can write to it.
    """
    place = file.parent.resolve() / file.name
    for path in (place, place.resolve()):
        for part in (path, *path.parents):
            if problem := _problem(part, is_on_the_way=part not in (path, path.parent)):
                text = f"{file} was found, not named, and another user could have written it: {problem[0]}."
                raise SyncAssetsError(text, f"If it is yours: {problem[1]}{instead and f', or {instead}'}.")


def _problem(part: Path, *, is_on_the_way: bool) -> tuple[str, str] | None:
    found, me = part.lstat(), os.geteuid()
    shown = shlex.quote(str(part))
    if found.st_uid not in (me, ROOT):
        owner = _name_of(found.st_uid)
        remedy = f"run this command as {owner}" if me == ROOT else f"`sudo chown {_name_of(me)} {shown}`"
        return f"{part} belongs to {owner}", remedy
    by_others, by_group = found.st_mode & stat.S_IWOTH, found.st_mode & stat.S_IWGRP and not _is_private(found.st_gid)
    sticky = is_on_the_way and found.st_mode & stat.S_ISVTX
    if stat.S_ISLNK(found.st_mode) or sticky or not (by_others or by_group):
        return None
    who = "every user" if by_others else "its group"
    remedy = f"`chmod go-w {shown}`" if found.st_uid == me else "move it to a folder that only you can write"
    return f"{who} can write {part}", remedy


def others_can_read(file: Path) -> bool:
    """Return True if another user than root can read a file of this user's, by its mode and that of its folders.

    False for a file of another owner, such as a secret that a container's platform mounts as root's.
    """
    try:
        found, folders = file.stat(), [folder.stat().st_mode for folder in file.resolve().parents]
    except OSError:
        return False
    others = found.st_mode & stat.S_IROTH and all(mode & stat.S_IXOTH for mode in folders)
    entered = all(mode & (stat.S_IXGRP | stat.S_IXOTH) for mode in folders)
    group = found.st_mode & stat.S_IRGRP and entered and not _is_private(found.st_gid)
    return found.st_uid == os.geteuid() and bool(others or group)


def _is_private(group: int) -> bool:
    """Return True for a group of one user, this one or root: its name is the user's, and no other is a member."""
    for user in (os.geteuid(), ROOT):
        try:
            person, found = pwd.getpwuid(user), grp.getgrgid(group)
        except KeyError:
            continue
        if (person.pw_gid, person.pw_name) == (group, found.gr_name) and not {*found.gr_mem} - {person.pw_name}:
            return True
    return False


def _name_of(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return str(user)
