"""Writes a volume's files so that a reader sees all of the old or all of the new, never a mixture.

The files lie in a directory of their own, named by time; `..data` points at it and is replaced by a rename; each visible name is
a link through `..data`. Nothing is written when nothing changed.

Source: pkg/volume/util/atomic_writer.go (the layout, which programs rely on), v1.34.
"""

import os
import secrets
import shutil
import stat
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

DATA = "..data"


@dataclass(frozen=True, slots=True)
class File:
    """One file of a volume. `uid` and `gid` -1: unchanged."""

    content: bytes
    mode: int
    uid: int = -1
    gid: int = -1


def write(target: Path, files: Mapping[str, File], gid: int = -1, mode: int = 0o777) -> bool:
    """Makes the volume, with that mode, hold exactly `files` (relative path to file); `gid` owns its directories. Returns whether
    it changed."""
    target.mkdir(parents=True, exist_ok=True, mode=0o755)
    if gid != -1:
        os.chown(target, -1, gid)
    target.chmod(mode if gid == -1 else mode | 0o2000)
    current = _current(target)
    if current is not None and _same(current, files):
        return False
    stamp = time.strftime("..%Y_%m_%d_%H_%M_%S.") + secrets.token_hex(5)
    fresh = target / stamp
    _make_directory(fresh, gid)
    for name, file in files.items():
        path = fresh / name
        for parent in reversed(path.relative_to(fresh).parents[:-1]):
            _make_directory(fresh / parent, gid)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(file.content)
            if file.uid != -1 or file.gid != -1:
                os.fchown(descriptor, file.uid, file.gid)
            os.fchmod(descriptor, file.mode)
    link = target / "..data_tmp"
    link.unlink(missing_ok=True)
    link.symlink_to(stamp)
    link.rename(target / DATA)
    _link_names(target, files)
    if current is not None:
        shutil.rmtree(current, ignore_errors=True)
    return True


def _current(target: Path) -> Path | None:
    try:
        return target / os.readlink(target / DATA)
    except OSError:
        return None


def _same(directory: Path, files: Mapping[str, File]) -> bool:
    there = {str(p.relative_to(directory)) for p in directory.rglob("*") if p.is_file()}
    if there != set(files):
        return False
    for name, file in files.items():
        path = directory / name
        about = path.stat()
        if stat.S_IMODE(about.st_mode) != file.mode or about.st_size != len(file.content) or path.read_bytes() != file.content:
            return False
    return True


def _link_names(target: Path, files: Mapping[str, File]) -> None:
    wanted = {name.split("/", 1)[0] for name in files}
    for name in wanted:
        link = target / name
        if not link.is_symlink():
            link.symlink_to(f"{DATA}/{name}")
    for entry in target.iterdir():
        if entry.is_symlink() and entry.name not in wanted and not entry.name.startswith(".."):
            entry.unlink()


def _make_directory(path: Path, gid: int) -> None:
    if path.is_dir():
        return
    path.mkdir(mode=0o755)
    path.chmod(_directory_mode(gid))
    if gid != -1:
        os.chown(path, -1, gid)


def _directory_mode(gid: int) -> int:
    return 0o755 if gid == -1 else 0o2755
