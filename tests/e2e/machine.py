"""A real kubelite on this machine: processes started as a user starts them, and the stock kubectl beside them."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from kubelite.network import nft
from kubelite.network.pods import bridge_name
from runtimes.containerd.daemon import Daemon
from runtimes.interface import BackendOptions
from tests.bench.cluster import free_port

T = TypeVar("T")

ROOT = Path(__file__).parents[2]
KUBECTL = ROOT / ".cache" / "bin" / "kubectl"
IMAGES = ROOT / ".cache" / "images"
#: Apart from the defaults, so that a cluster which runs here already is not disturbed.
CLUSTER_CIDR, SERVICE_CIDR = "10.249.0.0/16", "10.99.0.0/16"


def eventually(what: str, attempt: Callable[[], T | None], limit_s: float = 60) -> T:
    """The first result of `attempt` that is not None or False; fails after the limit, saying what was awaited."""
    deadline = time.monotonic() + limit_s
    last: Exception | None = None
    while time.monotonic() < deadline:
        try:
            result = attempt()
        except (subprocess.CalledProcessError, OSError) as e:
            last = e
        else:
            if result is not None and result is not False:
                return result
        time.sleep(0.1)
    detail = f": {last} {getattr(last, 'stderr', '') or ''}" if last else ""
    raise AssertionError(f"not within {limit_s:g} s: {what}{detail}")


class Wire:
    """A network of its own for a node, behind a wire to this machine: as far apart as two machines on one network are."""

    ADDRESS = "198.51.100.77"

    def __init__(self, name: str, machine_address: str) -> None:
        self.namespace = f"kl-e2e-{name}"
        #: What a command is started with to run there.
        self.prefix = ["nsenter", f"--net=/run/netns/{self.namespace}"]
        self._link = f"kl-{name}"[:15]
        wire = ["link", "add", self._link, "type", "veth", "peer", "name", "eth0", "netns", self.namespace]
        here = [
            ["netns", "add", self.namespace],
            wire,
            ["address", "add", f"{machine_address}/32", "dev", self._link],
            ["link", "set", self._link, "up"],
            ["route", "add", f"{self.ADDRESS}/32", "dev", self._link],
        ]
        there = [
            ["link", "set", "lo", "up"],
            ["link", "set", "eth0", "up"],
            ["address", "add", f"{self.ADDRESS}/32", "dev", "eth0"],
            ["route", "add", machine_address, "dev", "eth0", "scope", "link"],
            ["route", "add", "default", "via", machine_address, "dev", "eth0"],
        ]
        for words in (*here, *(["-n", self.namespace, *words] for words in there)):
            subprocess.run(["ip", *words], check=True, capture_output=True, text=True)

    def cut(self) -> None:
        subprocess.run(["ip", "link", "delete", self._link], check=True, capture_output=True)
        subprocess.run(["ip", "netns", "delete", self.namespace], check=True, capture_output=True)


class Process:
    """One `kubelite ...` and its log."""

    def __init__(self, words: list[str], log: Path, wire: Wire | None = None) -> None:
        self.log = log
        prefix = wire.prefix if wire else []
        with log.open("ab") as out:
            self._popen = subprocess.Popen(
                [*prefix, sys.executable, "-m", "kubelite", *words], stdout=out, stderr=subprocess.STDOUT, cwd=ROOT
            )

    @property
    def pid(self) -> int:
        return self._popen.pid

    def end(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Sends the signal and waits; the exit status."""
        if self._popen.poll() is None:
            self._popen.send_signal(how)
        try:
            return self._popen.wait(30)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            raise


class Machine:
    """A cluster with its data under one directory: `up()` starts it, `kill()` ends it the hard way."""

    def __init__(self, runtime: str = "containerd") -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="kl-", dir="/var/tmp"))
        self.data_dir = self.directory / "a"
        self.https_port = free_port()
        self.runtime = runtime
        self.kubeconfig = self.data_dir / "kubeconfig"
        self._process: Process | None = None
        self._agents: list[tuple[Process, Path, Wire | None]] = []

    def up(self, *words: str) -> None:
        """Starts `kubelite up` and waits until its node is ready."""
        self._process = Process(
            [
                "up",
                *("--data-dir", str(self.data_dir)),
                *("--https-port", str(self.https_port)),
                *("--runtime", self.runtime),
                *("--images", str(IMAGES)),
                *("--node-name", "first"),
                *("--cluster-cidr", CLUSTER_CIDR, "--service-cidr", SERVICE_CIDR),
                *words,
            ],
            self.directory / "up.log",
        )
        eventually("the API server is ready", lambda: self.kubectl("get", "--raw", "/readyz") == "ok")
        self.wait_node("first")

    def wait_node(self, name: str) -> None:
        self.kubectl("wait", "--for=create", f"node/{name}", "--timeout=60s")
        self.kubectl("wait", "--for=condition=Ready", f"node/{name}", "--timeout=60s")

    def join(self, name: str, *, apart: bool = False) -> None:
        """Joins another agent to the cluster as a user would, with a token; `apart`: in a network of its own."""
        token = self.kubelite("token", "create", "--data-dir", str(self.data_dir)).strip().splitlines()[-1]
        data_dir = self.directory / name
        address = self.address("first") if apart else "127.0.0.1"
        wire = Wire(name, address) if apart else None
        words = ["agent", "--server", f"https://{address}:{self.https_port}", "--token", token, "--node-name", name]
        words += ["--data-dir", str(data_dir), "--runtime", self.runtime, "--images", str(IMAGES)]
        self._agents.append((Process(words, self.directory / f"{name}.log", wire), data_dir, wire))
        self.wait_node(name)

    def address(self, node: str) -> str:
        """A node's own address."""
        addresses = self.get("node", node)["status"]["addresses"]
        return next(str(a["address"]) for a in addresses if a["type"] == "InternalIP")

    def kill(self) -> None:
        """`kill -9` of the one process."""
        assert self._process is not None
        self._process.end(signal.SIGKILL)
        self._process = None

    def down(self) -> None:
        """Ends everything, the containerds that outlive kubelite included, and removes the data; nothing may stay behind."""
        processes = [*(p for p, _, _ in self._agents), *([self._process] if self._process else [])]
        statuses = [process.end() for process in processes]
        marks = [str(self.directory)]
        for data_dir, wire in ((self.data_dir, None), *((d, w) for _, d, w in self._agents)):
            name_file = data_dir / "node" / "node-name"
            if name_file.exists():
                name = name_file.read_text()
                marks += [bridge_name(name), nft.table_name("pods", name), nft.table_name("services", name)]
            marks.append(Daemon(BackendOptions(f"{data_dir}/node/runtime")).run_dir.name)
            self.kubelite("reset", "--data-dir", str(data_dir), "--yes", wire=wire)
            if wire:
                wire.cut()
        assert statuses == [0] * len(processes)
        assert [line for line in present() if any(mark in line for mark in marks)] == []
        shutil.rmtree(self.directory, ignore_errors=True)

    def kubelite(self, *words: str, wire: Wire | None = None) -> str:
        command = [*(wire.prefix if wire else []), sys.executable, "-m", "kubelite", *words]
        return subprocess.run(command, check=True, text=True, capture_output=True, timeout=120, cwd=ROOT).stdout

    def kubectl(self, *words: str, stdin: str | None = None, timeout: float = 120, **env: str) -> str:
        """Standard output of the stock kubectl. Raises CalledProcessError with its standard error."""
        result = subprocess.run(
            self.kubectl_command(*words),
            input=stdin,
            text=True,
            capture_output=True,
            timeout=timeout,
            env={**os.environ, **env},
            check=False,
        )
        if result.returncode:
            raise Failure(result.returncode, words, result.stdout, result.stderr)
        return result.stdout

    def kubectl_command(self, *words: str) -> list[str]:
        return [str(KUBECTL), "--kubeconfig", str(self.kubeconfig), *words]

    def get(self, *words: str) -> Any:
        """`kubectl get ... -o json`, parsed."""
        return json.loads(self.kubectl("get", *words, "-o", "json"))

    def logs(self) -> str:
        """The ends of all processes' logs, for a failed test's report."""
        return "\n".join(f"--- {p.name}\n{p.read_text()[-6000:]}" for p in sorted(self.directory.glob("*.log")))


def present() -> list[str]:
    """What a node can leave on a machine: processes, mounts, links, nftables' tables, and directories of the system's."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # the process has ended meanwhile
            found.append(f"process {path.read_bytes().replace(bytes(1), b' ').decode(errors='replace')}")
    found += [f"mount {line}" for line in Path("/proc/self/mounts").read_text().splitlines()]
    for command in (["ip", "-o", "link"], ["nft", "list", "tables"]):
        found += subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    for directory in ("/run/kubelite", "/var/lib/cni/networks"):
        found += [str(path) for path in Path(directory).glob("*")]
    return found


class Failure(subprocess.CalledProcessError):
    """A kubectl that failed, showing what it said."""

    def __str__(self) -> str:
        return f"kubectl {' '.join(self.cmd)}: exit {self.returncode}: {self.stderr or self.output}"
