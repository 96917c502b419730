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
    """One pod's: its running containers by name, its volumes by name, and what of both is on the node's disk."""

    containers: Mapping[str, ContainerUsage] = field(default_factory=dict)
    volumes: Mapping[str, int] = field(default_factory=dict)
    ephemeral_bytes: int = 0


def of_pod(context: Context, worker: PodWorker, layers: Mapping[str, int]) -> Usage:
    """Measures a pod. `layers` are the sizes of writable layers by container id. Walks directories: call it in a thread."""
    logs = context.log_dir(worker.pod)
    containers = {
        record.name: ContainerUsage(layers.get(record.id, 0), of_directory(logs / record.name))
        for record in worker.observed.containers
        if record.running
    }
    prepared = worker.work.volumes
    volumes = {name: of_directory(volume.path) for name, volume in prepared.items() if volume.managed}
    on_disk = sum(size for name, size in volumes.items() if prepared[name].ephemeral)
    hosts_file = context.volumes.pod_dir(worker.uid) / "etc-hosts"
    total = on_disk + sum(c.layer_bytes + c.logs_bytes for c in containers.values()) + of_directory(hosts_file)
    return Usage(containers, volumes, total)


def of_directory(path: Path) -> int:
    """The bytes on the disk of what is below a path, on its own file system. What goes away meanwhile doesn't count."""
    try:
        about = path.stat()
    except OSError:
        return 0
    seen: set[int] = set()
    total = about.st_blocks * _BLOCK_BYTES
    if not path.is_dir():
        return total
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
    return total
