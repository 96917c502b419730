"""What a started cluster tells its user to do next, and what stays when it ends."""

import shutil
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kubelite.server.settings import Settings

_KUBECTL = """\
There is no kubectl on the PATH: `make clients` in a checkout of kubelite puts one into .cache/bin; for others see
  https://kubernetes.io/docs/tasks/tools
"""


def say(command: str, settings: "Settings", part: Any) -> None:
    """For people who watch: how to reach the cluster. An agent has nothing to say beyond its log."""
    if command == "agent":
        return
    lines = f"\nThe {'cluster' if command == 'up' else 'server'} is up. In another terminal:\n"
    lines += f"  export KUBECONFIG={settings.kubeconfig}\n  kubectl get nodes\n"
    if shutil.which("kubectl") is None:
        lines += _KUBECTL
    if command == "server":
        lines += f"A node joins with what this prints: kubelite token create{_data_dir(settings)}\n"
        lines += f"  kubelite agent --server https://{part.advertise}:{part.port} --token ...\n"
    elif part.simulated:
        lines += "Pods are simulated: nothing is run.\n"
        if settings.runtime != "fake":
            lines += "What this machine lacks to run them is told by: kubelite check\n"
    else:
        lines += f"Ctrl-C ends kubelite; containers go on until: kubelite reset{_data_dir(settings)}\n"
    sys.stderr.write(lines + "\n")
    sys.stderr.flush()


def _data_dir(settings: "Settings") -> str:
    """The option that names the data directory, where it is needed."""
    from kubelite.server.settings import default_data_dir

    return "" if settings.data_dir == default_data_dir() else f" --data-dir {settings.data_dir}"
