"""What pods take of their node's disk: writable layers as the runtime counts them, logs and volumes as the file system has them.

Source: pkg/kubelet/stats/helper.go (what counts as ephemeral), pkg/volume/util/fs (blocks of files, those of links once), v1.34.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kubelite.agent.context import Context
from kubelite.agent.sync import PodWorker

_BLOCK_BYTES = 512


@dataclass(frozen=True, slots=True)
class ContainerUsage:
    layer_bytes: int = 0
    logs_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Usage:
    """One pod's: its running containers by name, its volumes by name, and what of both is on the node's disk. The inodes are
    those of logs and volumes: of writable layers the runtime does not tell them."""

    containers: Mapping[str, ContainerUsage] = field(default_factory=dict)
    volumes: Mapping[str, int] = field(default_factory=dict)
    ephemeral_bytes: int = 0
    inodes: int = 0
    processes: int = 0


def of_pod(context: Context, worker: PodWorker, layers: Mapping[str, int]) -> Usage:
    """Measures a pod. `layers` are the sizes of writable layers by container id. Walks directories: call it in a thread."""
    logs = context.log_dir(worker.pod)
    running = {record.name: record.id for record in worker.observed.containers if record.running}
    logged = {name: _measure(logs / name) for name in running}
    containers = {name: ContainerUsage(layers.get(id_, 0), logged[name][0]) for name, id_ in running.items()}
    prepared = worker.work.volumes
    held = {name: _measure(volume.path) for name, volume in prepared.items() if volume.managed}
    on_disk = [*logged.values(), *(taken for name, taken in held.items() if prepared[name].ephemeral)]
    on_disk.append(_measure(context.volumes.pod_dir(worker.uid) / "etc-hosts"))
    return Usage(
        containers,
        {name: size for name, (size, _) in held.items()},
        ephemeral_bytes=sum(size for size, _ in on_disk) + sum(c.layer_bytes for c in containers.values()),
        inodes=sum(inodes for _, inodes in on_disk),
        processes=context.cgroups.processes_of(worker.pod),
    )


def of_directory(path: Path) -> int:
    """The bytes on the disk of what is below a path, on its own file system. What goes away meanwhile doesn't count."""
    return _measure(path)[0]


def _measure(path: Path) -> tuple[int, int]:
    """Those bytes, and how many inodes there are."""
    try:
        about = path.stat()
    except OSError:
        return 0, 0
    seen: set[int] = {about.st_ino}
    total = about.st_blocks * _BLOCK_BYTES
    if not path.is_dir():
        return total, 1
    for directory, names, files in os.walk(path):
        kept = []
        for name in (*names, *files):
            try:
                found = os.lstat(os.path.join(directory, name))
            except OSError:
                continue
            if found.st_dev != about.st_dev or (found.st_nlink > 1 and found.st_ino in seen and name not in names):
                continue
            seen.add(found.st_ino)
            total += found.st_blocks * _BLOCK_BYTES
            if name in names:
                kept.append(name)
        names[:] = kept
    return total, len(seen)
