"""Gives a volume to the group that its pod runs with.

Another pod may write to the same volume meanwhile, so nothing is followed: each entry is opened without following links and
changed through what was opened.

Source: pkg/volume/volume_linux.go (modes, the root last, OnRootMismatch), v1.34.
"""

import os
import stat
from pathlib import Path

_FILE, _DIRECTORY = 0o660, 0o2770


def give(path: Path, group: int, *, only_on_mismatch: bool = False) -> None:
    """Makes everything below a directory readable and writable by the group, the directory itself last: one that is right shows
    that all is."""
    if only_on_mismatch and _is_given(path, group):
        return
    for _, directories, files, descriptor in os.fwalk(path, topdown=False, follow_symlinks=False):
        for name in (*directories, *files):
            _give(name, group, descriptor)
    descriptor = os.open(path.parent, os.O_PATH)
    try:
        _give(path.name, group, descriptor)
    finally:
        os.close(descriptor)


def _give(name: str, group: int, directory: int) -> None:
    try:
        os.chown(name, -1, group, dir_fd=directory, follow_symlinks=False)
        descriptor = os.open(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=directory)
    except FileNotFoundError:
        return  # it is gone meanwhile
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISLNK(mode):
            wanted = stat.S_IMODE(mode) | (_DIRECTORY if stat.S_ISDIR(mode) else _FILE)
            os.chmod(f"/proc/self/fd/{descriptor}", wanted)
    finally:
        os.close(descriptor)


def _is_given(path: Path, group: int) -> bool:
    about = path.stat()
    return stat.S_ISDIR(about.st_mode) and about.st_gid == group and about.st_mode & _DIRECTORY == _DIRECTORY
