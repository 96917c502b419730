"""Takes a node's traces off this machine: its pods, its containerd, mounts, rules and bridge, and with --data its data too.

    scripts/remove.py [--data] DATA_DIR        (default /var/lib/kubelite; as root, with kubelite stopped)

Without this, containers and their rules go on when kubelite ends: that is how a restart finds them again.
"""

import argparse
import asyncio
import json
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from runtimes.containerd import Backend  # noqa: E402 -- from the checkout, installed or not
from runtimes.interface import BackendOptions, RuntimeFault  # noqa: E402


async def remove_pods(state_dir: Path) -> None:
    """Ends a containerd of ours and all that runs in it."""
    backend = Backend(BackendOptions(state_dir=str(state_dir), cni_conf_dir=str(state_dir.parent / "cni")))
    assert backend.daemon is not None
    try:
        await backend.start()
        sandboxes = await backend.list_sandboxes()
        await asyncio.gather(*(backend.stop_sandbox(sandbox.id) for sandbox in sandboxes))
        await asyncio.gather(*(backend.remove_sandbox(sandbox.id) for sandbox in sandboxes))
        print(f"removed {len(sandboxes)} pods")
    except RuntimeFault as e:
        print(f"pods under {state_dir} may be left: {e}", file=sys.stderr)
    finally:
        await backend.stop()
        await backend.daemon.terminate()
    shutil.rmtree(backend.daemon.run_dir, ignore_errors=True)


def remove_network(conflist: Path) -> None:
    """The rules and the bridge of the node that wrote a CNI configuration."""
    bridge = json.loads(conflist.read_text())["name"]
    for purpose in ("services", "pods"):
        table = f"kubelite-{purpose}-{bridge.removeprefix('kl-')}"
        subprocess.run(["nft", "delete", "table", "inet", table], check=False, capture_output=True)
    subprocess.run(["ip", "link", "delete", bridge], check=False, capture_output=True)
    shutil.rmtree(Path("/var/lib/cni/networks") / bridge, ignore_errors=True)
    print(f"removed the network of {bridge}")


def unmount(directory: Path) -> None:
    """Everything mounted below a directory, the innermost first."""
    mounts = [line.split()[4].encode().decode("unicode_escape") for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for mount in sorted((m for m in mounts if Path(m).is_relative_to(directory)), key=len, reverse=True):
        subprocess.run(["umount", "--lazy", mount], check=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("directory", type=Path, nargs="?", default=Path("/var/lib/kubelite"))
    parser.add_argument("--data", action="store_true", help="delete the directory as well: objects, keys, images and volumes")
    arguments = parser.parse_args()
    directory: Path = arguments.directory.resolve()
    if not directory.is_dir():
        sys.exit(f"{directory} is no directory: nothing to remove")
    for config in sorted(directory.glob("**/runtime/config.toml")):
        asyncio.run(remove_pods(config.parent))
    for conflist in sorted(directory.glob("**/cni/10-kubelite.conflist")):
        remove_network(conflist)
    unmount(directory)
    if arguments.data:
        shutil.rmtree(directory)
        print(f"deleted {directory}")


if __name__ == "__main__":
    main()
