"""A kubelite of the benchmark's own: a subprocess with an empty data directory, on free ports."""

import asyncio
import base64
import contextlib
import os
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from tests.bench.load import Target

START_LIMIT_S = 30.0


@dataclass(frozen=True, slots=True)
class Cluster:
    pid: int
    target: Target
    kubeconfig: Path
    seconds_to_ready: float

    def resident_mb(self) -> float:
        """Proportional resident memory of the process and its children, in MB of 10^6 bytes."""
        pids = [self.pid, *_children(self.pid)]
        return sum(_resident_bytes(pid) for pid in pids) / 1e6


def free_port() -> int:
    """A port that was free a moment ago, as were the two after it, which the gRPC listeners take."""
    while True:
        with contextlib.ExitStack() as stack:
            first = stack.enter_context(socket.socket())
            first.bind(("0.0.0.0", 0))
            port: int = first.getsockname()[1]
            with contextlib.suppress(OSError, OverflowError):
                for following in (port + 1, port + 2):
                    stack.enter_context(socket.socket()).bind(("0.0.0.0", following))
                return port


@contextlib.asynccontextmanager
async def running(*words: str, https_port: int | None = None) -> AsyncIterator[Cluster]:
    """`kubelite WORDS...` on a free port with a data directory that goes away with it."""
    port = https_port or free_port()
    with tempfile.TemporaryDirectory(prefix="kubelite-bench-") as data_dir:
        kubeconfig = Path(data_dir, "kubeconfig")
        start = time.perf_counter()
        with Path(data_dir, "log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "kubelite", *words, "--data-dir", data_dir, "--https-port", str(port)],
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            target = await _ready(process, kubeconfig, start)
            yield Cluster(process.pid, target, kubeconfig, time.perf_counter() - start)
        except TimeoutError:
            sys.stderr.write(Path(data_dir, "log").read_text()[-4000:])
            raise
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                await asyncio.to_thread(process.wait, 30)
            except subprocess.TimeoutExpired:
                process.kill()
            if Path(data_dir, "node").exists():  # a node's containers outlive their agent
                reset = [sys.executable, "-m", "kubelite", "reset", "--yes", "--data-dir", data_dir]
                await asyncio.to_thread(subprocess.run, reset, check=True)
                Path(data_dir).mkdir()


async def _ready(process: subprocess.Popen[bytes], kubeconfig: Path, start: float) -> Target:
    target = None
    while time.perf_counter() - start < START_LIMIT_S:
        if process.poll() is not None:
            raise TimeoutError(f"kubelite ended with {process.returncode} before it was ready")
        try:
            target = target or _target(kubeconfig)
            connection = await target.connect()
            code, _ = await connection.exchange(target.request("GET", "/readyz"))
            connection.close()
            if code == 200:
                return target
        except (OSError, KeyError, TypeError, asyncio.IncompleteReadError, ssl.SSLError):
            target = None
        await asyncio.sleep(0.005)
    raise TimeoutError("kubelite was not ready in time")


def _target(kubeconfig: Path) -> Target:
    config = yaml.safe_load(kubeconfig.read_text())
    cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    tls = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
    if "client-certificate-data" in user:
        with tempfile.NamedTemporaryFile(suffix=".pem") as pem:
            pem.write(base64.b64decode(user["client-certificate-data"]) + base64.b64decode(user["client-key-data"]))
            pem.flush()
            tls.load_cert_chain(pem.name)
    return Target(cluster["server"], tls, user.get("token", ""))


def _children(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task/{pid}/children")
    direct = [int(p) for p in listed.read_text().split()] if listed.exists() else []
    return direct + [p for child in direct for p in _children(child)]


def _resident_bytes(pid: int) -> int:
    with open(f"/proc/{pid}/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
