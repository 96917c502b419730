"""`kubelite check` and `kubelite reset`: what this machine has for a node, and how to be rid of what a node left."""

import asyncio
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from kubelite.cli.options import Problem

if TYPE_CHECKING:
    from kubelite.server.settings import Settings


def check(settings: "Settings") -> int:
    """Prints what each part lacks; 0 when pods can really run here."""
    from kubelite.network.services import ServiceProxy
    from kubelite.server import runtimes

    usable = False
    for name, backend in sorted(runtimes.available().items()):
        lacking = list(backend.missing(runtimes.options(settings, settings.data_dir / "node")))
        _report(f"runtime {name}", lacking)
        usable = usable or (not lacking and name != "fake")
    for name in runtimes.unbuilt():
        _report(f"runtime {name}", ["not built yet: use another"])
    lacking = ServiceProxy.missing()
    if shutil.which("ip") is None:
        lacking.append("ip is not installed: apt-get install iproute2")
    _report("network", lacking)
    if not usable:
        sys.stdout.write("\nNo runtime can run containers here: `kubelite up` would simulate them.\n")
    return 0 if usable and not lacking else 1


def _report(what: str, lacking: list[str]) -> None:
    sys.stdout.write(f"{what:<20} {'ok' if not lacking else 'missing'}\n")
    for line in lacking:
        sys.stdout.write(f"{'':<20} - {line}\n")


def reset(settings: "Settings") -> None:
    """Ends pods, the owned daemon and the node's network, then removes the data directory. Raises Problem."""
    from kubelite.cli.run import configure_logs, is_in_use

    configure_logs("console", "error")
    directory = settings.data_dir
    if not directory.exists():
        return
    if pid := is_in_use(directory):
        raise Problem(f"kubelite runs with {directory} (pid {pid}): end it first")
    if not any((directory / name).exists() for name in ("store.db", "node", "nodes", "pki", "kubeconfig")):
        raise Problem(f"{directory} is no data directory of kubelite: nothing is removed")
    asyncio.run(_reset_nodes(settings))
    _unmount_below(directory)
    shutil.rmtree(directory)


async def _reset_nodes(settings: "Settings") -> None:
    node_dirs = [settings.data_dir / "node", *sorted((settings.data_dir / "nodes").glob("*"))]
    for node_dir in node_dirs:
        if not (node_dir / "runtime" / "config.toml").exists():
            continue
        await _reset_containerd(settings, node_dir)
        name_file = node_dir / "node-name"
        if name_file.exists():  # else images were imported and no node ever ran
            await _reset_network(settings, name_file.read_text().strip(), node_dir)


async def _reset_containerd(settings: "Settings", node_dir: Path) -> None:
    from kubelite.server import runtimes
    from runtimes.containerd import Backend
    from runtimes.interface import RuntimeFault

    backend = Backend(runtimes.options(settings, node_dir))
    try:
        await backend.start()

        async def remove(sandbox_id: str) -> None:
            await backend.stop_sandbox(sandbox_id)
            await backend.remove_sandbox(sandbox_id)

        await asyncio.gather(*(remove(s.id) for s in await backend.list_sandboxes()))
    except RuntimeFault as e:
        sys.stderr.write(f"kubelite: containers could not be ended: {e}\n")
    finally:
        await backend.stop()
        if backend.daemon is not None:
            await backend.daemon.terminate()
            _unmount_below(backend.daemon.run_dir)
            await backend.daemon.remove()


async def _reset_network(settings: "Settings", name: str, node_dir: Path) -> None:
    from kubelite.network.nft import NftFault
    from kubelite.network.pods import PodNetwork
    from kubelite.network.services import ServiceProxy

    for component in (PodNetwork(name, node_dir / "cni"), ServiceProxy(name)):
        try:
            await component.remove()
        except (NftFault, OSError) as e:
            sys.stderr.write(f"kubelite: {type(component).__name__} of {name} could not be removed: {e}\n")


def _unmount_below(directory: Path) -> None:
    prefix = f"{directory.resolve()}/"
    mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    for mount in sorted((m for m in mounts if m.startswith(prefix)), key=len, reverse=True):
        subprocess.run(["umount", "--lazy", mount], check=False, capture_output=True)
