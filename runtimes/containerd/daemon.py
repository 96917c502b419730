"""A containerd of the backend's own: its configuration, and starting it or taking up the one that runs.

It lives in a session of its own, so that it outlives kubelite, and is known by its pid file and its socket. Images and
metadata lie in the state directory. What exists only while it runs (socket, shim bundles, FIFOs) lies under /run in a directory
named after a hash of the state directory: socket paths are limited to 108 bytes, and a reboot must clear it.
"""

import asyncio
import ctypes
import hashlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from runtimes.interface import BackendOptions, RuntimeFault, Unreachable

_RUN = Path("/run/kubelite")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_CAP_SYS_RESOURCE = 24
_LOG_LIMIT_BYTES = 8 << 20
_STOP_TIMEOUT_S = 10.0
_NEEDED = ("containerd", "containerd-shim-runc-v2", "runc")
_CNI_PLUGINS = ("bridge", "host-local", "loopback", "portmap")
_INSTALL = "sudo scripts/install, or apt-get install containerd runc containernetworking-plugins iptables"


def missing(options: BackendOptions) -> list[str]:
    """What this machine lacks for an owned containerd, each with the remedy."""
    found = []
    if os.geteuid() != 0:
        found.append("containerd needs root: run kubelite as root")
    path = f"{os.environ.get('PATH', '')}:{_PATH}"
    absent = [name for name in _NEEDED if shutil.which(name, path=path) is None]
    if plugins := [name for name in _CNI_PLUGINS if not any((Path(d) / name).exists() for d in options.cni_bin_dirs)]:
        absent.append(f"CNI plugins {' '.join(plugins)} (looked for in {' '.join(options.cni_bin_dirs)})")
    if absent:
        found.append(f"not installed: {', '.join(absent)}; install with {_INSTALL}")
    return found


class Daemon:
    """The owned containerd of one state directory."""

    def __init__(self, options: BackendOptions) -> None:
        self._options = options
        self.state_dir = Path(options.state_dir).resolve()
        self.run_dir = _RUN / hashlib.sha256(str(self.state_dir).encode()).hexdigest()[:12]
        self.socket = str(self.run_dir / "containerd.sock")
        self.log = self.state_dir / "containerd.log"
        self._config = self.state_dir / "config.toml"
        self._pid_file = self.state_dir / "containerd.pid"
        self._process: subprocess.Popen[bytes] | None = None

    async def ensure(self) -> bool:
        """Takes up the daemon that runs, or starts one; one with another configuration is restarted, its containers go on. True
        when it was started. The caller waits until it answers.

        Raises: Unreachable when it cannot be started.
        """
        config = await asyncio.to_thread(self._written_config)
        pid = self.pid()
        if pid and config:
            await self._terminate(pid)
        elif pid:
            return False
        await asyncio.to_thread(self._spawn)
        return True

    def pid(self) -> int:
        """The running daemon's pid, else 0. A pid file from before a reboot or a crash is not believed."""
        if self._process is not None and self._process.poll() is None:  # this also reaps one that has ended
            return self._process.pid  # its command line may not be there yet
        try:
            pid = int(self._pid_file.read_text())
            command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except (OSError, ValueError):
            return 0
        return pid if os.fsencode(self._config) in command else 0

    def ended(self) -> str:
        """Why a daemon that should run does not: the end of its log."""
        try:
            lines = self.log.read_text(errors="replace").splitlines()[-5:]
        except OSError:
            lines = []
        return f"containerd ended; {self.log} says: " + " | ".join(lines)

    async def terminate(self) -> None:
        """Ends the daemon; containers go on."""
        if pid := self.pid():
            await self._terminate(pid)

    async def remove(self) -> None:
        """Ends the daemon for good, after its sandboxes: nothing stays outside of its state directory."""
        await self.terminate()
        await asyncio.to_thread(shutil.rmtree, self.run_dir, ignore_errors=True)

    async def _terminate(self, pid: int) -> None:
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                return
            for _ in range(int(_STOP_TIMEOUT_S / 0.05)):
                if self.pid() != pid:
                    return
                await asyncio.sleep(0.05)  # another process's end has no event here: it may not be our child

    def _spawn(self) -> None:
        if self.log.exists() and self.log.stat().st_size > _LOG_LIMIT_BYTES:
            self.log.replace(self.log.with_suffix(".log.1"))
        self.run_dir.mkdir(parents=True, exist_ok=True, mode=0o711)
        environment = {**os.environ, "PATH": f"{os.environ.get('PATH', '')}:{_PATH}"}
        try:
            with self.log.open("ab") as log:
                self._process = subprocess.Popen(
                    ["containerd", "--config", str(self._config)],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    env=environment,
                    cwd="/",
                )
        except OSError as e:
            raise Unreachable(f"containerd could not be started: {e}; {_INSTALL}") from e
        self._pid_file.write_text(str(self._process.pid))

    def _written_config(self) -> bool:
        """Writes the configuration; True when it differs from what was there."""
        self.state_dir.mkdir(parents=True, exist_ok=True, mode=0o711)
        text = configuration(
            self._options, self.state_dir, self.run_dir, snapshotter=self._snapshotter(), restrict_oom=not has_sys_resource()
        )
        if self._config.exists() and self._config.read_text() == text:
            return False
        changed = self._config.exists()
        self._config.write_text(text)
        return changed

    def copies_images(self) -> bool:
        """Whether each container has a copy of its image, which its writable layer can't be told from."""
        return self._snapshotter() == "native"

    def _snapshotter(self) -> str:
        """Chosen once for a state directory: images unpacked for one are not there for the other."""
        chosen = self.state_dir / "snapshotter"
        if not chosen.exists():
            chosen.write_text("overlayfs" if can_mount_overlay(self.state_dir) else "native")
        return chosen.read_text().strip()


def configuration(options: BackendOptions, state_dir: Path, run_dir: Path, *, snapshotter: str, restrict_oom: bool) -> str:
    """containerd's config.toml, of version 2, which 1.6 to 2.x read."""
    plugin_dirs = [d for d in options.cni_bin_dirs if (Path(d) / "bridge").exists()] or list(options.cni_bin_dirs)
    q = json.dumps  # a JSON string is a TOML string
    return f"""version = 2
root = {q(str(state_dir / "root"))}
state = {q(str(run_dir / "state"))}
disabled_plugins = [
  "io.containerd.internal.v1.opt", "io.containerd.internal.v1.tracing", "io.containerd.tracing.processor.v1.otlp",
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs", "io.containerd.nri.v1.nri",
]

[grpc]
  address = {q(str(run_dir / "containerd.sock"))}

[ttrpc]
  address = {q(str(run_dir / "containerd.sock.ttrpc"))}

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = {q(options.sandbox_image)}
  restrict_oom_score_adj = {str(restrict_oom).lower()}
  enable_unprivileged_ports = true
  enable_unprivileged_icmp = true
  netns_mounts_under_state_dir = true
  tolerate_missing_hugetlb_controller = true
  stream_server_address = "127.0.0.1"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = {q(snapshotter)}
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = {q(plugin_dirs[0])}
    conf_dir = {q(options.cni_conf_dir or str(state_dir / "cni"))}
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = {q(options.registries_dir)}
"""


def has_sys_resource() -> bool:
    """Whether this process may lower a process's OOM score; where it may not, runc fails when asked to."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> _CAP_SYS_RESOURCE & 1)
    return False


def can_mount_overlay(directory: Path) -> bool:
    """Whether overlayfs works on the directory's file system: it does not on top of another overlay, for one."""
    libc = ctypes.CDLL(None, use_errno=True)
    with tempfile.TemporaryDirectory(dir=directory, prefix=".overlay-") as base:
        for name in ("lower", "upper", "work", "merged"):
            os.mkdir(f"{base}/{name}")
        data = f"lowerdir={base}/lower,upperdir={base}/upper,workdir={base}/work".encode()
        if libc.mount(b"overlay", f"{base}/merged".encode(), b"overlay", 0, data) != 0:
            return False
        if libc.umount2(f"{base}/merged".encode(), 0) != 0:
            raise RuntimeFault(f"{base}/merged cannot be unmounted: {os.strerror(ctypes.get_errno())}")
    return True


def cgroup_dirs(parent: str) -> Sequence[Path]:
    """The directories of a cgroup path in each hierarchy, of version 1 or 2."""
    root = Path("/sys/fs/cgroup")
    relative = parent.strip("/")
    if not relative or ".." in relative.split("/"):
        return []
    bases = [root] if (root / "cgroup.controllers").exists() else [d for d in root.iterdir() if d.is_dir() and not d.is_symlink()]
    return [path for base in bases if (path := base / relative).is_dir()]
