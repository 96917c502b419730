"""A pod's volumes on this node: prepared before its containers start, kept current while they run, removed after it.

File work happens in threads. What objects fill (config maps, secrets, tokens, the downward API) lies under one memory file system
where the agent may mount one, so that no secret reaches a disk.

Source: pkg/volume (layout, modes, messages), v1.34.
"""

import asyncio
import os
import shutil
import stat
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import structlog

from kubelite.agent import resources
from kubelite.agent.faults import ConfigFault
from kubelite.agent.volumes import atomic, mounts, ownership, payloads
from kubelite.agent.volumes.atomic import File
from kubelite.agent.volumes.payloads import Sources
from kubelite.meta import quantities
from kubelite.meta.types import Obj

log = structlog.get_logger()

_KINDS = {
    "configMap": "kubernetes.io~configmap",
    "secret": "kubernetes.io~secret",
    "projected": "kubernetes.io~projected",
    "downwardAPI": "kubernetes.io~downward-api",
    "emptyDir": "kubernetes.io~empty-dir",
}


@dataclass(frozen=True, slots=True)
class Prepared:
    """A volume that containers can mount. `managed`: it is the pod's own and goes with it; `ephemeral`: it then takes up the
    node's disk."""

    path: Path
    readonly: bool = False
    managed: bool = False
    ephemeral: bool = False


class Volumes:
    """The volumes of all pods of a node, under `pods_dir`/UID/volumes."""

    def __init__(self, pods_dir: Path, sources: Sources) -> None:
        self._pods_dir = pods_dir
        self._memory_dir = pods_dir.parent / "memory"
        self._in_memory = False
        self._sources = sources

    async def start(self) -> None:
        await asyncio.to_thread(self._start)

    def _start(self) -> None:
        self._pods_dir.mkdir(parents=True, exist_ok=True, mode=0o750)
        if not mounts.available():
            return
        self._memory_dir.mkdir(parents=True, exist_ok=True, mode=0o755)
        try:
            if not mounts.is_mount(self._memory_dir):
                mounts.tmpfs(self._memory_dir)
            self._in_memory = True
        except OSError as e:
            log.warning("secrets_on_disk", directory=str(self._pods_dir), error=str(e))

    async def unmount(self) -> None:
        """Takes away every mount below the data directory, and with them what was in memory. For a node that is given up."""
        await asyncio.to_thread(self._unmount)

    def _unmount(self) -> None:
        for point in mounts.below(self._pods_dir.parent):
            mounts.unmount(point)

    def use_allocatable(self, allocatable: Mapping[str, str]) -> None:
        """What the node has for pods, for the downward API's limits."""
        self._sources = replace(self._sources, allocatable=allocatable)

    def pod_dir(self, uid: str) -> Path:
        return self._pods_dir / uid

    async def prepare(self, pod: Obj) -> dict[str, Prepared]:
        """Makes or refreshes every volume of the pod.

        Raises:
            ConfigFault: a volume can't be made now; the text names it.
        """
        ready: dict[str, Prepared] = {}
        for volume in pod["spec"].get("volumes") or ():
            try:
                files = await payloads.of_volume(pod, volume, self._sources)
                ready[volume["name"]] = await asyncio.to_thread(self._prepare, pod, volume, files)
            except (ConfigFault, OSError) as e:
                raise ConfigFault(f'MountVolume.SetUp failed for volume "{volume["name"]}" : {e}') from e
        return ready

    def _prepare(self, pod: Obj, volume: Obj, files: Mapping[str, File] | None) -> Prepared:
        group = (pod["spec"].get("securityContext") or {}).get("fsGroup")
        if files is not None:
            path = self._path(pod, volume)
            if group is not None:
                files = {n: File(f.content, f.mode | 0o440, f.uid, group) for n, f in files.items()}
            # As on a memory file system of its own, or on a disk.
            mode = 0o777 if "configMap" in volume else 0o1777
            atomic.write(path, files, -1 if group is None else group, mode)
            return Prepared(path, readonly=True, managed=True, ephemeral=not self._in_memory)
        if (source := volume.get("emptyDir")) is not None:
            path = self._path(pod, volume)
            _empty_dir(path, source, group, self._memory_limit(pod, source))
            return Prepared(path, managed=True, ephemeral=source.get("medium") != "Memory")
        if source := volume.get("hostPath"):
            return Prepared(_host_path(source["path"], source.get("type") or ""))
        if source := volume.get("persistentVolumeClaim"):
            return self._claim(pod, source["claimName"], bool(source.get("readOnly")), group)
        if "ephemeral" in volume:
            return self._claim(pod, f"{pod['metadata']['name']}-{volume['name']}", False, group)
        kind = next((k for k in volume if k != "name"), "")
        if not kind:  # a volume without a source is an empty directory
            path = self._path(pod, {**volume, "emptyDir": {}})
            _empty_dir(path, {}, group, 0)
            return Prepared(path, managed=True, ephemeral=True)
        raise ConfigFault(f"volumes of type {kind} are not supported on this node")

    def _memory_limit(self, pod: Obj, source: Obj) -> int:
        """How large an empty directory in memory may become: no larger than its pod may, or all pods together."""
        limits = (source.get("sizeLimit"), self._sources.allocatable.get("memory"))
        sizes = [resources.of_pod(pod).memory_limit_bytes, *(quantities.value(limit) for limit in limits if limit)]
        return min((size for size in sizes if size > 0), default=0)

    def _path(self, pod: Obj, volume: Obj) -> Path:
        kind = next(k for k in _KINDS if k in volume)
        uid: str = pod["metadata"]["uid"]
        base = self._memory_dir if self._in_memory and kind != "emptyDir" else self._pods_dir
        directory = base / uid
        directory.mkdir(mode=0o750, exist_ok=True)
        path = directory / "volumes" / _KINDS[kind] / str(volume["name"])
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
        return path

    def _claim(self, pod: Obj, name: str, readonly: bool, group: int | None) -> Prepared:
        objects = self._sources.objects
        claim = objects.get("persistentvolumeclaims", name, pod["metadata"]["namespace"])
        if claim is None:
            raise ConfigFault(f'persistentvolumeclaim "{name}" not found')
        bound = claim["spec"].get("volumeName")
        volume = objects.get("persistentvolumes", bound) if bound else None
        if volume is None:
            raise ConfigFault(f'persistentvolumeclaim "{name}" is not bound')
        spec = volume["spec"]
        if source := spec.get("hostPath"):
            return Prepared(_host_path(source["path"], source.get("type") or "DirectoryOrCreate"), readonly)
        if source := spec.get("local"):
            path = Path(source["path"])
            if not path.exists():
                raise ConfigFault(f'path "{path}" does not exist')
            if group is not None and not readonly:
                level = pod["spec"].get("securityContext") or {}
                ownership.give(path, group, only_on_mismatch=level.get("fsGroupChangePolicy") == "OnRootMismatch")
            return Prepared(path, readonly)
        kind = next((k for k in spec if isinstance(spec[k], dict) and k not in ("capacity", "claimRef", "nodeAffinity")), "?")
        raise ConfigFault(f"persistent volumes of type {kind} are not supported on this node")

    async def remove(self, uid: str, *, keep_directory: bool = False) -> None:
        """Takes the pod's volumes away, and its directory (with the termination messages). Nothing of the pod runs any more."""
        await asyncio.to_thread(self._remove, uid, keep_directory)

    def _remove(self, uid: str, keep_directory: bool) -> None:
        directory = self._pods_dir / uid
        for point in mounts.below(directory):
            mounts.unmount(point)
        own = (directory / "volumes", directory / "volume-subpaths") if keep_directory else (directory,)
        for path in (self._memory_dir / uid, *own):
            if path.exists():
                shutil.rmtree(path, onerror=_report)

    async def pods_on_disk(self) -> list[str]:
        """The uids of pods that have a directory here."""
        try:
            return await asyncio.to_thread(os.listdir, self._pods_dir)
        except FileNotFoundError:
            return []


def _report(function: object, path: str, info: object) -> None:
    log.warning("volume_not_removed", path=path, error=str(info))


def _empty_dir(path: Path, source: Obj, group: int | None, memory_limit_bytes: int) -> None:
    fresh = not path.exists()
    if fresh:
        path.mkdir(mode=0o777)
    medium, mode = source.get("medium") or "", 0o777
    if medium == "Memory":
        mode = 0o1777
        if mounts.available() and not mounts.is_mount(path):
            mounts.tmpfs(path, memory_limit_bytes, mode)
            fresh = True
    elif medium.startswith("HugePages"):
        raise ConfigFault(f"emptyDir medium {medium} is not supported on this node")
    if fresh:
        if group is not None:
            os.chown(path, -1, group)
            mode |= 0o2000
        path.chmod(mode)


def _host_path(text: str, kind: str) -> Path:
    path = Path(text)
    if kind == "DirectoryOrCreate" and not path.exists():
        path.mkdir(parents=True, mode=0o755)
    elif kind == "FileOrCreate" and not path.exists():
        path.touch(mode=0o644)
    checks = {
        "Directory": (stat.S_ISDIR, "a directory"),
        "DirectoryOrCreate": (stat.S_ISDIR, "a directory"),
        "File": (stat.S_ISREG, "a file"),
        "FileOrCreate": (stat.S_ISREG, "a file"),
        "Socket": (stat.S_ISSOCK, "a socket file"),
        "CharDevice": (stat.S_ISCHR, "a character device"),
        "BlockDevice": (stat.S_ISBLK, "a block device"),
    }
    if kind in checks:
        test, name = checks[kind]
        if not path.exists() or not test(path.stat().st_mode):
            raise ConfigFault(f"hostPath type check failed: {text} is not {name}")
    return path
