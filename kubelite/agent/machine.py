"""What the machine is: its processors, memory, disk, kernel and addresses. Reads files only; nothing here changes anything.

Source: pkg/kubelet/stats (helper.go, pidlimit), opencontainers/cgroups fs2/memory.go (what of memory and of processes counts).
"""

import glob
import os
import platform
import re
import socket
from dataclasses import dataclass
from pathlib import Path

from kubelite.agent.cgroups import ROOT

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm"}


@dataclass(frozen=True, slots=True)
class Machine:
    cpus: int
    memory_bytes: int
    swap_bytes: int
    machine_id: str
    system_uuid: str
    boot_id: str
    kernel: str
    os_image: str
    architecture: str
    hostname: str
    has_apparmor: bool
    #: Files of the kernel that tell how hot a processor is.
    thermal_paths: tuple[str, ...]


def read() -> Machine:
    memory = _memory()
    machine_id = _text("/etc/machine-id") or _text("/var/lib/dbus/machine-id")
    return Machine(
        cpus=os.cpu_count() or 1,
        memory_bytes=memory.get("MemTotal", 0),
        swap_bytes=memory.get("SwapTotal", 0),
        machine_id=machine_id,
        system_uuid=_text("/sys/class/dmi/id/product_uuid") or machine_id,
        boot_id=_text("/proc/sys/kernel/random/boot_id"),
        kernel=platform.release(),
        os_image=_os_name(),
        architecture=ARCHITECTURES.get(platform.machine(), platform.machine()),
        hostname=platform.node(),
        has_apparmor=_text("/sys/module/apparmor/parameters/enabled").startswith("Y"),
        thermal_paths=tuple(sorted(glob.glob("/sys/devices/system/cpu/cpu[0-9]*/thermal_throttle"))),
    )


@dataclass(frozen=True, slots=True)
class Load:
    """What the machine does at the moment; `cpu_ns` since it booted. Threads count as processes: each takes a number of them."""

    memory_bytes: int
    memory_used_bytes: int
    #: What is used without what the kernel would give back at once: files that nobody has read for long.
    memory_working_set_bytes: int
    cpu_ns: int
    booted_at_s: float
    processes: int
    processes_limit: int


@dataclass(frozen=True, slots=True)
class Disk:
    """A file system."""

    size_bytes: int
    free_bytes: int
    inodes: int
    inodes_free: int


def load() -> Load:
    fields = {line.partition(" ")[0]: line.split()[1:] for line in _text("/proc/stat").splitlines()}
    # user, nice, system, then idle and waiting for the disk, which are none, then interrupts and what a hypervisor took.
    ticks = [int(text) for text in fields.get("cpu", ())[:8]]
    busy = sum(ticks) - sum(ticks[3:5])
    limits = [int(text) for name in ("pid_max", "threads-max") if (text := _text(f"/proc/sys/kernel/{name}")).isdigit()]
    memory = _memory().get("MemTotal", 0)
    used, working_set = memory_use()
    return Load(
        memory_bytes=memory,
        memory_used_bytes=used,
        memory_working_set_bytes=min(working_set, memory),
        cpu_ns=busy * 1_000_000_000 // os.sysconf("SC_CLK_TCK"),
        booted_at_s=float(fields.get("btime", ["0"])[0]),
        processes=int(_text("/proc/loadavg").split()[3].partition("/")[2]),
        processes_limit=min(limits, default=0),
    )


def memory_use(root: Path = ROOT) -> tuple[int, int]:
    """The bytes of memory in use, and the working set: of the root of the cgroups, whichever version they have. Where there are
    none both are what the kernel could not give to others."""
    tree = root if (root / "cgroup.controllers").exists() else root / "memory"
    stat = {name: int(value) for name, _, value in (line.partition(" ") for line in _text(tree / "memory.stat").splitlines())}
    if not stat:
        memory = _memory()
        used = memory.get("MemTotal", 0) - memory.get("MemAvailable", 0)
        return used, used
    if tree is root:  # version 2, whose root has no usage of its own
        used, idle = stat.get("anon", 0) + stat.get("file", 0), stat.get("inactive_file", 0)
    else:
        used, idle = int(_text(tree / "memory.usage_in_bytes") or 0), stat.get("total_inactive_file", 0)
    return used, max(used - idle, 0)


def disk(path: Path) -> Disk:
    """The file system that holds the path."""
    about = os.statvfs(path)
    return Disk(about.f_frsize * about.f_blocks, about.f_frsize * about.f_bavail, about.f_files, about.f_favail)


def addresses() -> tuple[str, ...]:
    """The address of the machine that others reach it by: the one that its default route uses, IPv4 where it has that.

    One only: addresses of both families are for clusters whose pods have both, and are named by who runs the agent.
    """
    for family, target in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        try:
            # Connecting a datagram socket sends nothing; it only asks the routes for a source address.
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect((target, 9))
                address = probe.getsockname()[0]
        except OSError:
            continue
        if not address.startswith(("127.", "::1", "fe80:")):
            return (str(address),)
    return ("127.0.0.1",)


def _memory() -> dict[str, int]:
    found = {}
    for line in _text("/proc/meminfo").splitlines():
        name, _, rest = line.partition(":")
        number = rest.split()
        if number and number[0].isdigit():
            found[name] = int(number[0]) * 1024
    return found


def _os_name() -> str:
    match = re.search(r'^PRETTY_NAME="?([^"\n]*)"?', _text("/etc/os-release"), re.MULTILINE)
    return match[1] if match else "Linux"


def _text(path: str | Path) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""
