"""A cluster in a thread of this process: what the pytest fixtures hand out, usable without pytest too."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

START_LIMIT_S = 30.0


@dataclass(frozen=True, slots=True)
class Cluster:
    """Where the cluster is: its URL and its administrator's kubeconfig."""

    server: str
    kubeconfig: Path


@contextlib.contextmanager
def running(
    directory: Path, *, nodes: int = 1, part: Literal["up", "server"] = "up", disable: frozenset[str] = frozenset()
) -> Iterator[Cluster]:
    """A control plane and simulated nodes with their data in `directory`, stopped at the end. `part` "server" leaves the
    nodes out, `disable` names components to leave out.

    Raises:
        TimeoutError: it was not ready within 30 s.
        Exception: whatever its start raised, such as `server.settings.SettingsError`.
    """
    from kubelite.server import compose
    from kubelite.server.settings import Settings
    from kubelite.testing import logs

    logs.to_logging()
    port, grpc_port = free_ports()
    settings = Settings(
        data_dir=directory,
        https_port=port,
        grpc_port=grpc_port,
        bind="127.0.0.1",
        runtime="fake",
        nodes=nodes,
        disable=disable,
        audit_log=False,
    )
    started = threading.Event()
    faults: list[BaseException] = []
    ends: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def live() -> None:
        end = asyncio.Event()
        ends.append((asyncio.get_running_loop(), end))
        composed = compose.of(part, settings)
        try:
            await composed.start()
            started.set()
            await end.wait()
        finally:
            await composed.stop()

    def run() -> None:
        try:
            asyncio.run(live())
        except BaseException as e:  # noqa: BLE001 - carried to the thread that waits, which raises it
            faults.append(e)
        finally:
            started.set()

    thread = threading.Thread(target=run, name="kubelite")
    thread.start()
    try:
        if not started.wait(START_LIMIT_S):
            raise TimeoutError(f"kubelite was not ready within {START_LIMIT_S:g} s")
        if faults:
            raise faults[0]
        yield Cluster(f"https://127.0.0.1:{port}", settings.kubeconfig)
    finally:
        for loop, end in ends:
            with contextlib.suppress(RuntimeError):  # the loop has ended by itself
                loop.call_soon_threadsafe(end.set)
        thread.join()


def free_ports() -> tuple[int, int]:
    """(a port for the API, one for the nodes whose next one is free as well: joining nodes use that)."""
    for _ in range(100):
        with socket.socket() as api, socket.socket() as nodes, socket.socket() as joining:
            api.bind(("127.0.0.1", 0))
            nodes.bind(("127.0.0.1", 0))
            port = nodes.getsockname()[1]
            with contextlib.suppress(OSError, OverflowError):
                joining.bind(("127.0.0.1", port + 1))
                return api.getsockname()[1], port
    raise OSError("no two ports in a row are free on 127.0.0.1")
