"""Mounting: tmpfs and bind mounts through libc, and whether this process may."""

import ctypes
import functools
import os
from pathlib import Path

_MS_BIND = 4096
_MS_REC = 16384
_MS_NOSUID, _MS_NODEV, _MS_NOEXEC = 2, 4, 8
_MNT_DETACH = 2
_CAP_SYS_ADMIN = 21


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


@functools.cache
def available() -> bool:
    """Whether this process may mount: it has CAP_SYS_ADMIN."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return False
    effective = next((line.split()[1] for line in lines if line.startswith("CapEff:")), "0")
    return bool(int(effective, 16) >> _CAP_SYS_ADMIN & 1)


def bind(source: str, target: Path) -> None:
    _call("mount", source.encode(), os.fsencode(target), None, _MS_BIND | _MS_REC, None, target=target)


def tmpfs(target: Path, size_bytes: int = 0, mode: int = 0o755) -> None:
    """Mounts a tmpfs; without a size it may take half of the machine's memory."""
    options = f"mode={mode:o}" + (f",size={size_bytes}" if size_bytes else "")
    _call("mount", b"tmpfs", os.fsencode(target), b"tmpfs", _MS_NOSUID | _MS_NODEV, options.encode(), target=target)


def unmount(target: Path) -> None:
    """Takes away every mount on the path; what still uses it keeps it. Nothing there is fine."""
    while is_mount(target):
        _call("umount2", os.fsencode(target), _MNT_DETACH, target=target)


def below(directory: Path) -> list[Path]:
    """The mount points under a directory, the deepest first."""
    prefix = f"{directory}/"
    try:
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return []
    points = [line.split()[4].encode().decode("unicode_escape") for line in lines]
    return [Path(p) for p in sorted((p for p in points if p.startswith(prefix)), key=len, reverse=True)]


def is_mount(target: Path) -> bool:
    # Not os.path.ismount: a bind mount of the same file system looks like no mount to it.
    text = str(target)
    try:
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return False
    return any(line.split()[4].encode().decode("unicode_escape") == text for line in lines)


def _call(name: str, *arguments: object, target: Path) -> None:
    if getattr(_libc(), name)(*arguments) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}", str(target))
