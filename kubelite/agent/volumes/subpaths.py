"""subPath mounts that can't leave their volume.

A container may change its volume while we look, so a checked path is worth nothing by the time the runtime mounts it. The path
is therefore opened component by component without following links, and what was opened is bind-mounted to a place that no
container can reach; that place is what the runtime gets.

Source: CVE-2017-1002101, CVE-2021-25741; pkg/volume/util/subpath/subpath_linux.go (the approach), v1.34.
"""

import os
import stat
from pathlib import Path

from kubelite.agent.faults import ConfigFault
from kubelite.agent.volumes import mounts


def check(sub_path: str) -> None:
    """Raises ConfigFault for a path that is absolute or goes up."""
    if sub_path.startswith("/"):
        raise ConfigFault(f"error SubPath `{sub_path}` must not be an absolute path")
    if ".." in sub_path.split("/"):
        raise ConfigFault(f"unable to provision SubPath `{sub_path}`: must not contain '..'")


def prepare(volume: Path, sub_path: str, target: Path) -> Path:
    """Makes the path below the volume where it is missing, and returns what to mount for it.

    Raises:
        OSError: it is not inside the volume, or can't be made.
    """
    root = volume.resolve()
    descriptor = _open_inside(root, sub_path)
    try:
        if not mounts.available():
            return Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        is_directory = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
        mounts.unmount(target)
        if is_directory:
            target.mkdir(exist_ok=True)
        else:
            target.touch()
        mounts.bind(f"/proc/{os.getpid()}/fd/{descriptor}", target)
        return target
    finally:
        os.close(descriptor)


def _open_inside(root: Path, sub_path: str) -> int:
    """A descriptor (O_PATH) of the path, its missing directories made, links only followed where they stay inside."""
    wanted = root / sub_path
    # Links of our own (a config map's ..data) are resolved once, and the result opened without following any.
    existing = wanted
    missing: list[str] = []
    while not os.path.lexists(existing) and existing != root:
        missing.insert(0, existing.name)
        existing = existing.parent
    resolved = existing.resolve(strict=True)
    if not resolved.is_relative_to(root):
        raise PermissionError(f"{sub_path} is not inside its volume")
    descriptor = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW)
    mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
    for part in resolved.relative_to(root).parts:
        descriptor = _step(descriptor, part)
    for part in missing:
        # A made directory has the volume's mode, so that an fsGroup or a world-writable emptyDir goes on below.
        os.mkdir(part, dir_fd=descriptor)
        descriptor = _step(descriptor, part)
        os.chmod(f"/proc/self/fd/{descriptor}", mode)
    return descriptor


def _step(descriptor: int, part: str) -> int:
    try:
        following = os.open(part, os.O_PATH | os.O_NOFOLLOW, dir_fd=descriptor)
    finally:
        os.close(descriptor)
    if stat.S_ISLNK(os.fstat(following).st_mode):
        os.close(following)
        raise PermissionError(f"{part} became a link while it was opened")
    return following
