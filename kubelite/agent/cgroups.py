"""The cgroups that pods run under: /kubepods, /kubepods/burstable and /kubepods/besteffort, one below them for each pod.

Works with version 1 (each controller's own tree), version 2 and no cgroups at all: what the machine can't do is left out, and
said once in the log. Everything here is file writes in memory file systems, quick enough for the event loop.
"""

import contextlib
import os
from pathlib import Path

import structlog

from kubelite.agent import resources
from kubelite.meta.types import Obj
from runtimes.interface import Resources

log = structlog.get_logger()

ROOT = Path("/sys/fs/cgroup")
_V1_CONTROLLERS = ("cpu", "cpuacct", "cpuset", "memory", "pids", "blkio", "devices", "freezer", "systemd")
_V2_CONTROLLERS = ("cpu", "cpuset", "memory", "pids", "io")


class Cgroups:
    """The node's pod cgroups under `/<parent>`; without a parent there are none. All methods use files: call them in a thread."""

    def __init__(self, parent: str = "kubepods", root: Path = ROOT) -> None:
        self._root = root
        self._parent = parent
        self._version = 0
        self._warned = False

    @property
    def version(self) -> int:
        """1, 2, or 0 before the start and where the agent can't make cgroups: pods then run wherever the runtime puts them."""
        return self._version

    def start(self) -> None:
        """Finds out what the machine has, and makes the parents."""
        self._version = _version(self._root) if self._parent and os.access(self._root, os.W_OK) else 0
        for name in ("", "/burstable", "/besteffort"):
            self._make(f"{self._parent}{name}")
        self._write(f"{self._parent}/besteffort", Resources(cpu_shares=resources.MIN_SHARES))

    def parent_of(self, pod: Obj) -> str:
        """The pod's cgroup as an absolute path within the tree; empty where there is none."""
        return f"/{self._path(pod)}" if self._version else ""

    def _path(self, pod: Obj) -> str:
        qos = resources.qos_class(pod)
        middle = "" if qos == "Guaranteed" else f"{qos.lower()}/"
        return f"{self._parent}/{middle}pod{pod['metadata']['uid']}"

    def ensure(self, pod: Obj) -> str:
        """Makes the pod's cgroup with its limits and returns `parent_of`."""
        if not self._version:
            return ""
        path = self._path(pod)
        self._make(path)
        self._write(path, resources.of_pod(pod))
        return f"/{path}"

    def remove(self, uid: str) -> None:
        """Removes a pod's cgroup and what is below it, whatever its class was; leaves it while something runs there."""
        for middle in ("", "burstable/", "besteffort/"):
            for base in self._bases(f"{self._parent}/{middle}pod{uid}"):
                for directory, _, _ in os.walk(base, topdown=False):
                    with contextlib.suppress(OSError):  # still in use, or gone already
                        os.rmdir(directory)

    def processes_of(self, pod: Obj) -> int:
        """How many processes and threads the pod has; 0 where that can't be told."""
        tree = self._root if self._version == 2 else self._root / "pids"
        try:
            return int((tree / self._path(pod) / "pids.current").read_text())
        except OSError:
            return 0

    def _bases(self, path: str) -> list[Path]:
        if self._version == 2:
            return [self._root / path]
        if self._version == 1:
            return [self._root / c / path for c in _V1_CONTROLLERS if (self._root / c).is_dir()]
        return []

    def _make(self, path: str) -> None:
        for base in self._bases(path):
            try:
                if not base.is_dir():
                    base.mkdir(parents=True, exist_ok=True)
                    if "/cpuset/" in f"{base}/" and self._version == 1:
                        _inherit_cpuset(base)
                if self._version == 2:
                    self._delegate(base.parent)
            except OSError as e:
                self._warn(e)

    def _delegate(self, directory: Path) -> None:
        """Lets a version 2 cgroup's children have its controllers."""
        available = (directory / "cgroup.controllers").read_text().split()
        enabled = (directory / "cgroup.subtree_control").read_text().split()
        wanted = [f"+{c}" for c in _V2_CONTROLLERS if c in available and c not in enabled]
        if wanted:
            (directory / "cgroup.subtree_control").write_text(" ".join(wanted))

    def _write(self, path: str, limits: Resources) -> None:
        if self._version == 2:
            values = {
                "cpu.weight": str(1 + (max(limits.cpu_shares, 2) - 2) * 9999 // 262142) if limits.cpu_shares else "",
                "cpu.max": f"{limits.cpu_quota_us or 'max'} {resources.QUOTA_PERIOD_US}",
                "memory.max": str(limits.memory_limit_bytes or "max"),
            }
        else:
            values = {
                "cpu/cpu.shares": str(limits.cpu_shares or ""),
                "cpu/cpu.cfs_quota_us": str(limits.cpu_quota_us or -1),
                "memory/memory.limit_in_bytes": str(limits.memory_limit_bytes or -1),
            }
        for name, value in values.items():
            controller, _, file = name.rpartition("/")
            target = self._root / controller / path / file
            if not value or not target.exists():
                continue
            try:
                target.write_text(value)
            except OSError as e:
                self._warn(e)

    def _warn(self, error: OSError) -> None:
        if not self._warned:
            self._warned = True
            log.warning("cgroups_limited", error=str(error), effect="pods run, some of their limits are not enforced")


def _version(root: Path) -> int:
    if (root / "cgroup.controllers").exists():
        return 2
    return 1 if (root / "memory").is_dir() or (root / "cpu").is_dir() else 0


def _inherit_cpuset(directory: Path) -> None:
    """A version 1 cpuset takes no process before it has CPUs and memory nodes: it gets its parent's."""
    for name in ("cpuset.cpus", "cpuset.mems"):
        if not (directory / name).read_text().strip():
            parent = (directory.parent / name).read_text().strip()
            if not parent:
                _inherit_cpuset(directory.parent)
                parent = (directory.parent / name).read_text().strip()
            (directory / name).write_text(parent)
