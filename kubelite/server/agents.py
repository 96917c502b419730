"""The agents of this process: one real node, or many simulated ones."""

import asyncio
import hashlib
import re
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from kubelite.agent import thresholds
from kubelite.agent.agent import Agent, Component
from kubelite.agent.context import Options
from kubelite.agent.link import Link
from kubelite.rpc import node_pb2 as pb
from kubelite.server import runtimes
from kubelite.server.settings import Settings
from kubelite.server.supervisor import Supervisor
from runtimes.interface import Runtime, RuntimeFault, Unreachable

if TYPE_CHECKING:
    from runtimes.interface import BackendOptions

log = structlog.get_logger(__name__)

_CHUNK_BYTES = 1024 * 1024
_RETRY_S = 0.2

#: Makes the link of a node to its server.
LinkOf = Callable[[str], Link]


def node_name(settings: Settings) -> str:
    """The name given, or the host's made a DNS name."""
    return settings.node_name or re.sub("[^a-z0-9.-]+", "-", socket.gethostname().lower()).strip("-.") or "node"


class Agents:
    """Builds and runs them under the supervisor of whoever owns the process."""

    def __init__(self, settings: Settings, link_of: LinkOf) -> None:
        self._settings = settings
        self._link_of = link_of
        self.agents: list[Agent] = []
        #: Whether the pods of these nodes are only simulated; known once they have started.
        self.simulated = False

    def start(self, supervisor: Supervisor) -> None:
        """Raises SettingsError where no runtime can be used."""
        settings = self._settings
        settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        if settings.nodes > 1:
            width = len(str(settings.nodes - 1))
            name = settings.node_name or "node"
            names = [f"{name}-{number:0{width}}" for number in range(settings.nodes)]
        else:
            names = [node_name(settings)]
        for name in names:
            data_dir = settings.data_dir / "nodes" / name if settings.nodes > 1 else settings.data_dir / "node"
            self._start_one(supervisor, name, data_dir)

    def _start_one(self, supervisor: Supervisor, name: str, data_dir: Path) -> None:
        settings = self._settings
        chosen = runtimes.choose(settings, data_dir)
        self.simulated = chosen.simulated
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o755)
        # What `kubelite reset` needs to know of a node that is not running.
        (data_dir / "node-name").write_text(name)
        options = Options(
            node_name=name,
            data_dir=data_dir,
            simulated=chosen.simulated,
            runtime_name=chosen.name,
            eviction_hard=thresholds.parse(settings.eviction_hard),
            resync_s=30.0 if settings.nodes == 1 else 300.0,
        )
        network = None if chosen.simulated else _Network(settings, runtimes.options(settings, data_dir))
        agent = Agent(self._link_of(name), chosen.runtime, options, network)
        self.agents.append(agent)
        supervisor.on_stop(f"runtime of {name}", chosen.stop)
        if settings.images is not None:
            supervisor.run(f"images of {name}", import_images(chosen.runtime, settings.images, data_dir))
        supervisor.run(f"agent of {name}", agent.run())


class _Network:
    """Makes a real node's data plane once it is known what cluster this is."""

    def __init__(self, settings: Settings, backend: "BackendOptions") -> None:
        self._settings = settings
        self._backend = backend

    def __call__(self, cluster: pb.ClusterInfo, options: Options) -> Sequence[Component]:
        from kubelite.network.dns import DnsServer
        from kubelite.network.pods import PodNetwork
        from kubelite.network.services import ServiceProxy

        cidrs = (cluster.cluster_cidr,)
        components: list[Any] = []
        if not self._backend.endpoint:
            # A runtime that was there before has a pod network of its own.
            components.append(PodNetwork(options.node_name, self._backend.cni_conf_dir, cidrs))
        if self._settings.is_enabled("proxy"):
            lacking = ServiceProxy.missing()
            if lacking:
                from kubelite.network.userspace import UserspaceProxy

                log.warning("services_relayed_by_this_process", missing=lacking)
                components.append(UserspaceProxy(options.node_name))
            else:
                components.append(ServiceProxy(options.node_name, cidrs, (cluster.service_cidr,)))
        if self._settings.is_enabled("dns") and cluster.dns_address:
            owned = (cluster.cluster_cidr, cluster.service_cidr)
            components.append(DnsServer(cluster.dns_address, cluster.cluster_domain, cidrs=owned))
        return components


async def import_images(runtime: Runtime, directory: Path, data_dir: Path) -> None:
    """Imports every archive of a directory that has not been imported in this form; then waits for ever, as parts do."""
    done = data_dir / "imported-images"
    known = set((await asyncio.to_thread(_read, done)).split())
    archives = await asyncio.to_thread(lambda: sorted(directory.glob("*.tar*")))
    if not archives:
        log.warning("no_images_found", directory=str(directory))
    for archive in archives:
        digest = await asyncio.to_thread(_digest, archive)
        if digest not in known:
            names = await _import(runtime, archive)
            known.add(digest)
            log.info("images_imported", archive=archive.name, images=list(names))
            await asyncio.to_thread(_write, done, "\n".join(sorted(known)))
    await asyncio.get_running_loop().create_future()


async def _import(runtime: Runtime, archive: Path) -> Sequence[str]:
    while True:
        try:
            return await runtime.import_image(chunks_of(archive))
        except Unreachable:
            await asyncio.sleep(_RETRY_S)  # the runtime is starting
        except RuntimeFault as e:
            log.error("images_not_imported", archive=str(archive), error=str(e))
            return []


async def chunks_of(path: Path) -> AsyncIterator[bytes]:
    file = await asyncio.to_thread(path.open, "rb")
    try:
        while chunk := await asyncio.to_thread(file.read, _CHUNK_BYTES):
            yield chunk
    finally:
        file.close()


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _read(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
